//! Reaching the private Postgres that another process runs.
//!
//! Holds: nothing is made or started. Whose process it is does not matter; it may end at any time.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use sqlx::postgres::PgConnectOptions;

use super::{
    Connection, DATABASE, StartError, cluster, file_error,
    place::{self, Reached},
};

/// A way to a cluster that somebody else runs.
pub struct Attached {
    connection: Connection,
    /// What the path of the socket may begin with.
    _folder: Option<File>,
}

impl Attached {
    /// Finds the cluster of a data folder, which must be there.
    ///
    /// # Errors
    /// [`StartError::File`], [`StartError::PasswordLost`].
    pub fn find(data_dir: &Path) -> Result<Self, StartError> {
        let state = state(data_dir)?;
        let password = cluster::password_in(&state)?;
        let Reached { socket_dir, folder } = place::reach_as_stranger(&state)?;
        Ok(Self { connection: Connection { socket_dir, password }, _folder: folder })
    }

    /// How the owner connects: see [`super::Embedded::owner_options`].
    pub fn owner_options(&self) -> PgConnectOptions {
        self.connection.options(DATABASE)
    }
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached").finish_non_exhaustive()
    }
}

/// Whether a data folder has a private Postgres.
pub fn exists(data_dir: &Path) -> bool {
    data_dir.join("pg/data/PG_VERSION").exists()
}

fn state(data_dir: &Path) -> Result<PathBuf, StartError> {
    let real = std::fs::canonicalize(data_dir).map_err(file_error(data_dir, "cannot be found"))?;
    Ok(real.join("pg"))
}
