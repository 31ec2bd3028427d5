//! The schema and the roles: brought up to date by the owner of the database.
//!
//! Roles belong to the whole cluster, tables to one database. `collimator_tenant` and
//! `collimator_registry` are shared by all databases of a cluster; they cannot log in and hold
//! rights on tables only. The log-in role belongs to one database, and only it may connect there
//! besides the owner, so that two installations on one cluster stay apart.

use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, Row,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use super::{IndexError, backfill};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Serialises migrations and the making of the log-in role in one database.
const LOCK: i64 = 0x636f_6c6c_696d_6174;

/// The name of the log-in role, where no other database of the cluster has taken it.
const LOGIN: &str = "collimator_app";

/// What the server logs in with.
#[derive(Clone)]
pub struct AppLogin {
    /// Role.
    pub role: String,
    /// Password: random, made once, kept in a table that only the owner can read, so that all
    /// servers of a database share it.
    pub password: String,
}

impl std::fmt::Debug for AppLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppLogin").field("role", &self.role).finish_non_exhaustive()
    }
}

/// Brings the schema up to date, and makes the log-in role if the database has none. Any number of
/// servers may do so at once. The connection must not go through a pooler that changes sessions
/// between transactions.
///
/// # Errors
/// [`IndexError::Migration`], [`IndexError::RolesRefused`], [`IndexError::Unavailable`].
pub async fn migrate(owner: PgConnectOptions) -> Result<AppLogin, IndexError> {
    let mut conn = schema(owner).await?;
    let login = login(&mut conn).await.map_err(refused)?;
    admit(&mut conn, &login.role).await.map_err(refused)?;
    Ok(login)
}

/// Like [`migrate`], for a log-in role that an administrator made: it must be `NOINHERIT` and is
/// granted what it needs.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_for(owner: PgConnectOptions, login: &str) -> Result<(), IndexError> {
    let mut conn = schema(owner).await?;
    admit(&mut conn, login).await.map_err(refused)
}

/// The log-in role that an earlier [`migrate`] made; changes nothing.
///
/// # Errors
/// [`IndexError::Outdated`] where there is none yet; [`IndexError::Unavailable`].
pub async fn app_login(owner: PgConnectOptions) -> Result<AppLogin, IndexError> {
    let mut conn = owner.connect().await?;
    let migrated: bool = sqlx::query("SELECT to_regclass('public.app_login') IS NOT NULL")
        .fetch_one(&mut conn)
        .await?
        .try_get(0)?;
    if !migrated {
        return Err(IndexError::Outdated);
    }
    let row = sqlx::query(
        "-- login_find
        SELECT l.role, l.password FROM public.app_login l
        JOIN pg_database d ON d.oid = l.database_oid WHERE d.datname = current_database()",
    )
    .fetch_optional(&mut conn)
    .await?
    .ok_or(IndexError::Outdated)?;
    Ok(AppLogin { role: row.try_get(0)?, password: row.try_get(1)? })
}

/// The version of the newest migration that this server brings.
pub(super) fn newest_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Migrates; the connection handed back holds the lock until it is closed.
async fn schema(owner: PgConnectOptions) -> Result<PgConnection, IndexError> {
    let mut conn = owner.clone().connect().await?;
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut conn).await?;
    sqlx::raw_sql("SET search_path = public").execute(&mut conn).await?;
    for role in ["collimator_tenant", "collimator_registry"] {
        group_role(&mut conn, role).await.map_err(refused)?;
    }
    // A connection of its own, because sqlx runs migrations on a pool; ours keeps the lock.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(owner.options([("search_path", "public")]))
        .await?;
    let migrated = MIGRATOR.run(&pool).await;
    pool.close().await;
    migrated?;
    backfill::run(&mut conn).await?;
    sqlx::raw_sql("GRANT SELECT ON _sqlx_migrations TO collimator_registry")
        .execute(&mut conn)
        .await?;
    Ok(conn)
}

/// Makes a role that cannot log in, unless it exists. Another database of the cluster may be doing
/// the same at this moment, where no lock of this database reaches.
async fn group_role(conn: &mut PgConnection, role: &'static str) -> Result<(), IndexError> {
    let exists: bool = sqlx::query("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&mut *conn)
        .await?
        .try_get(0)?;
    if exists {
        return Ok(());
    }
    let create = format!(
        "CREATE ROLE {role} NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"
    );
    match sqlx::raw_sql(AssertSqlSafe(create)).execute(conn).await {
        Err(error) if already_exists(&error) => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// The log-in role of this database: the one made before, or a new one.
async fn login(conn: &mut PgConnection) -> Result<AppLogin, IndexError> {
    let this = sqlx::query(
        "-- login_read
        SELECT d.oid::text, l.role, l.password, r.oid IS NOT NULL
        FROM pg_database d
        LEFT JOIN app_login l ON l.database_oid = d.oid
        LEFT JOIN pg_roles r ON r.rolname = l.role
        WHERE d.datname = current_database()",
    )
    .fetch_one(&mut *conn)
    .await?;
    let oid: String = this.try_get(0)?;
    if let (Some(role), Some(password)) = (this.try_get(1)?, this.try_get(2)?) {
        let login = AppLogin { role, password };
        if !this.try_get::<bool, _>(3)? {
            // The tables were restored into a cluster that does not know the role.
            sqlx::raw_sql(AssertSqlSafe(create_login(&login))).execute(conn).await?;
        }
        return Ok(login);
    }
    // The usual name; else one with this database's number; else (left over from a dropped
    // database) one that nothing can have taken.
    let names = [
        LOGIN.to_owned(),
        format!("{LOGIN}_{oid}"),
        format!("{LOGIN}_{}", Uuid::new_v4().simple()),
    ];
    for role in names {
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let login = AppLogin { role, password };
        let mut tx = sqlx::Connection::begin(&mut *conn).await?;
        match sqlx::raw_sql(AssertSqlSafe(create_login(&login))).execute(&mut *tx).await {
            Err(error) if already_exists(&error) => continue,
            other => other.map(drop)?,
        }
        sqlx::query(
            "-- login_write
            INSERT INTO app_login (database_oid, role, password)
            SELECT oid, $1, $2 FROM pg_database WHERE datname = current_database()",
        )
        .bind(&login.role)
        .bind(&login.password)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        return Ok(login);
    }
    Err(IndexError::RolesRefused)
}

fn create_login(login: &AppLogin) -> String {
    format!(
        "CREATE ROLE {} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION \
         NOBYPASSRLS PASSWORD {}",
        identifier(&login.role),
        literal(&login.password),
    )
}

/// Lets the log-in role into this database and into the two roles, and nobody else by default. It
/// may name what is in the schema, so that a statement outside a role says "permission denied".
async fn admit(conn: &mut PgConnection, login: &str) -> Result<(), IndexError> {
    let database: String =
        sqlx::query("SELECT current_database()::text").fetch_one(&mut *conn).await?.try_get(0)?;
    let (database, login) = (identifier(&database), identifier(login));
    let grants = format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC; \
         GRANT CONNECT ON DATABASE {database} TO {login}; \
         GRANT USAGE ON SCHEMA public TO {login}; \
         GRANT collimator_tenant, collimator_registry TO {login}"
    );
    Ok(sqlx::raw_sql(AssertSqlSafe(grants)).execute(conn).await.map(drop)?)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// duplicate_object, or unique_violation where the other one committed while we waited.
fn already_exists(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("42710" | "23505"))
}

/// insufficient_privilege where roles are made means that the owner cannot make roles.
fn refused(error: IndexError) -> IndexError {
    match error {
        IndexError::Database { sqlstate, .. } if sqlstate == "42501" => IndexError::RolesRefused,
        other => other,
    }
}
