//! The folders of the private Postgres, and the paths by which its programs reach them.
//!
//! A data folder may lie where the account that runs Postgres cannot get to (`/root/x`, a private
//! temporary folder), or have a name too long or too odd for a socket. On Linux neither matters:
//! the child inherits a descriptor of `<data dir>/pg` and is told the path `/proc/self/fd/<n>`,
//! which the kernel resolves to that folder without looking at its parents. So nobody's folder has
//! its permissions changed. The descriptor is opened with `O_PATH` and the folder belongs to us: the
//! child can enter `data/` and `run/`, which are its own, and nothing above.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    PORT, StartError,
    account::{self, Account},
    file_error,
};

/// Longest path of a socket, in bytes: the field in `sockaddr_un` less its NUL.
const SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// How long a server that was killed may hold the lock still: until the last process that it was just
/// making has become another program or is gone.
const PATIENCE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(50);

/// The folders of one cluster, locked for this process.
pub struct Place {
    /// `<data dir>/pg`.
    pub state: PathBuf,
    /// Who runs Postgres, if not we ourselves.
    pub account: Option<Account>,
    /// What the child calls `state`.
    as_child: PathBuf,
    /// What the child calls the folder of the socket.
    pub socket_as_child: PathBuf,
    /// What we call it.
    pub socket: PathBuf,
    /// The descriptor that the child inherits, where its paths begin with it.
    folder: Option<File>,
    /// Locked while we live.
    _lock: File,
}

impl Place {
    /// Makes the folders that are missing and takes the lock.
    ///
    /// # Errors
    /// [`StartError::InUse`], `NoAccount`, `Unsearchable`, `File`.
    pub fn open(data_dir: &Path) -> Result<Self, StartError> {
        // The account must pass through; nobody but us may list or write.
        let mode = if account::is_root() { 0o711 } else { 0o700 };
        make(data_dir, mode)?;
        // Other processes and messages get the real path: a link may be changed under our feet.
        let data_dir =
            fs::canonicalize(data_dir).map_err(file_error(data_dir, "cannot be found"))?;
        let state = data_dir.join("pg");
        make(&state, mode)?;
        ours(&state)?;
        let until = Instant::now() + PATIENCE;
        let lock = lock(&state, || {
            thread::sleep(AGAIN);
            Instant::now() < until
        })?;
        let account = account::choose(&state.join("data"))?;
        let place = Self::reach(state, account, lock)?;
        place.make_own("run")?;
        Ok(place)
    }

    fn reach(state: PathBuf, account: Option<Account>, lock: File) -> Result<Self, StartError> {
        let run = state.join("run");
        let barred = account.as_ref().and_then(|account| account.first_unsearchable(&state));
        let (fits, odd) = manner(&run);

        let folder = if barred.is_some() || !fits || odd { by_descriptor(&state)? } else { None };
        if let Some(folder) = folder {
            let as_child = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            return Ok(Self {
                socket_as_child: as_child.join("run"),
                // Our own table has the same number, and we may go through its folder as well.
                socket: if fits { run } else { as_child.join("run") },
                as_child,
                state,
                account,
                folder: Some(folder),
                _lock: lock,
            });
        }
        if let (Some(folder), Some(account)) = (barred, &account) {
            return Err(StartError::Unsearchable { folder, account: account.name.clone() });
        }
        let socket = if fits && !odd { run } else { short_folder(&state, account.as_ref())? };
        Ok(Self {
            as_child: state.clone(),
            socket_as_child: socket.clone(),
            socket,
            state,
            account,
            folder: None,
            _lock: lock,
        })
    }

    /// What the child calls `name` in the state folder.
    pub fn as_child(&self, name: &str) -> PathBuf {
        self.as_child.join(name)
    }

    /// The descriptor that the child must inherit, if its paths begin with one.
    pub fn inherit(&self) -> Option<RawFd> {
        self.folder.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Makes a folder of the account inside the state folder, if it is missing.
    ///
    /// # Errors
    /// [`StartError::File`].
    pub fn make_own(&self, name: &str) -> Result<PathBuf, StartError> {
        let path = self.state.join(name);
        make(&path, 0o700)?;
        if let Some(account) = &self.account {
            account::give(&path, account).map_err(file_error(&path, "cannot be given away"))?;
        }
        Ok(path)
    }

    /// Has the folder's entries reach the disk.
    ///
    /// # Errors
    /// [`StartError::File`].
    pub fn sync(&self) -> Result<(), StartError> {
        let synced = File::open(&self.state).and_then(|folder| folder.sync_all());
        synced.map_err(file_error(&self.state, "cannot be synced"))
    }
}

/// How a process that does not run the cluster reaches its socket.
pub struct Reached {
    /// The folder of the socket.
    pub socket_dir: PathBuf,
    /// The descriptor that its path begins with, where it does.
    pub folder: Option<File>,
}

/// Finds the socket of a cluster that somebody else runs; makes nothing.
///
/// # Errors
/// [`StartError::File`].
pub fn reach_as_stranger(state: &Path) -> Result<Reached, StartError> {
    let run = state.join("run");
    let (fits, odd) = manner(&run);
    let folder = if !fits || odd { by_descriptor(state)? } else { None };
    Ok(match folder {
        Some(folder) if !fits => {
            let socket_dir = PathBuf::from(format!("/proc/self/fd/{}/run", folder.as_raw_fd()));
            Reached { socket_dir, folder: Some(folder) }
        }
        None if !fits || odd => Reached { socket_dir: short_name(state), folder: None },
        _ => Reached { socket_dir: run, folder: None },
    })
}

/// Whether a socket fits in the folder's path, and whether the path has characters that Postgres
/// would read differently.
fn manner(run: &Path) -> (bool, bool) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@:".contains(byte);
    let name = run.join(format!(".s.PGSQL.{PORT}"));
    let fits = name.as_os_str().len() <= SOCKET_PATH;
    (fits, !run.as_os_str().as_bytes().iter().all(plain))
}

fn make(path: &Path, mode: u32) -> Result<(), StartError> {
    if !path.is_dir() {
        let made = DirBuilder::new().recursive(true).mode(mode).create(path);
        made.map_err(file_error(path, "cannot be made"))?;
        // The umask may have taken what the account needs.
        let permissions = Permissions::from_mode(mode);
        fs::set_permissions(path, permissions).map_err(file_error(path, "cannot be changed"))?;
    }
    Ok(())
}

/// Checks that the state folder is ours alone. As root we write there, and whoever owns a folder can
/// make a link of any name in it.
fn ours(state: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::MetadataExt;
    if !account::is_root() {
        return Ok(());
    }
    let found = fs::symlink_metadata(state).map_err(file_error(state, "cannot be read"))?;
    if found.uid() != 0 || !found.is_dir() {
        return Err(StartError::NotRoots { folder: state.to_owned(), uid: found.uid() });
    }
    let permissions = Permissions::from_mode(0o711);
    fs::set_permissions(state, permissions).map_err(file_error(state, "cannot be changed"))
}

/// Takes the lock; `again` is asked, while somebody holds it, whether to try once more.
fn lock(state: &Path, mut again: impl FnMut() -> bool) -> Result<File, StartError> {
    let path = state.join("owner.lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(&path).map_err(file_error(&path, "cannot be opened"))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if again() => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StartError::InUse { state: state.to_owned() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StartError::File { path, what: "cannot be locked", source });
            }
        }
    }
}

/// A descriptor of the folder for a child, where `/proc/self/fd` resolves such descriptors.
#[cfg(target_os = "linux")]
fn by_descriptor(state: &Path) -> Result<Option<File>, StartError> {
    use std::os::unix::fs::MetadataExt;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
    let folder = options.open(state).map_err(file_error(state, "cannot be opened"))?;
    // Without /proc, or with one that only resembles it, there is no such way.
    let through = fs::metadata(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let (direct, through) = (fs::metadata(state), through);
    let same = match (direct, through) {
        (Ok(direct), Ok(through)) => (direct.dev(), direct.ino()) == (through.dev(), through.ino()),
        _ => false,
    };
    Ok(same.then_some(folder))
}

#[cfg(not(target_os = "linux"))]
fn by_descriptor(_: &Path) -> Result<Option<File>, StartError> {
    Ok(None)
}

fn short_name(state: &Path) -> PathBuf {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(state.as_os_str().as_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Path::new("/tmp").join(format!("collimator-{name}"))
}

/// A folder with a short name for the socket, for a state folder whose own name is too long.
fn short_folder(state: &Path, account: Option<&Account>) -> Result<PathBuf, StartError> {
    use std::os::unix::fs::MetadataExt;

    let path = short_name(state);
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => {
            if let Some(account) = account {
                account::give(&path, account).map_err(file_error(&path, "cannot be given away"))?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(file_error(&path, "cannot be made")(error)),
    }
    // Anybody may make folders there: one that is not ours is not used.
    let found = fs::symlink_metadata(&path).map_err(file_error(&path, "cannot be read"))?;
    // SAFETY: geteuid has no preconditions and cannot fail.
    let owner = account.map_or_else(|| unsafe { libc::geteuid() }, |account| account.uid);
    if !found.is_dir() || found.uid() != owner || found.permissions().mode() & 0o077 != 0 {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        return Err(file_error(&path, "belongs to somebody else")(source));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_folder_is_made_once_and_refused_when_open_to_others() {
        let state = tempfile::tempdir().unwrap();
        let made = short_folder(state.path(), None).unwrap();
        assert_eq!(short_folder(state.path(), None).unwrap(), made);
        assert!(made.join(format!(".s.PGSQL.{PORT}")).as_os_str().len() <= SOCKET_PATH);
        fs::set_permissions(&made, Permissions::from_mode(0o777)).unwrap();
        let refused = short_folder(state.path(), None);
        fs::remove_dir(&made).unwrap();
        assert!(matches!(refused, Err(StartError::File { .. })));
    }

    #[test]
    fn a_lock_is_waited_for_while_its_holder_lets_go() {
        let state = tempfile::tempdir().unwrap();
        let mut holder = Some(lock(state.path(), || false).unwrap());
        let refused = lock(state.path(), || false);
        assert!(matches!(refused, Err(StartError::InUse { .. })));
        let mut asked = 0;
        let taken = lock(state.path(), || {
            asked += 1;
            if asked == 2 {
                drop(holder.take());
            }
            true
        });
        assert!(taken.is_ok());
        assert_eq!(asked, 2);
    }

    #[test]
    fn a_plain_short_path_is_used_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let lock = || File::open(root.path()).unwrap();
        let plain = Place::reach(root.path().to_owned(), None, lock()).unwrap();
        assert_eq!((plain.inherit(), plain.socket), (None, root.path().join("run")));
        if cfg!(target_os = "linux") {
            let odd = root.path().join("a, b");
            fs::create_dir(&odd).unwrap();
            let odd = Place::reach(odd, None, lock()).unwrap();
            assert!(odd.inherit().is_some() && odd.socket_as_child.starts_with("/proc/self/fd"));
            let long = root.path().join("l".repeat(120));
            fs::create_dir(&long).unwrap();
            let long = Place::reach(long, None, lock()).unwrap();
            assert_eq!(long.socket, long.socket_as_child);
        }
    }
}
