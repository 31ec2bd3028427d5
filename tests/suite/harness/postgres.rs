//! A private Postgres for this test process, as the server itself runs one, and a migrated database
//! for each test.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use collimator::{
    index::{AppLogin, Db, DbOptions, migrate},
    postgres::Embedded,
    tenancy::{PartitionId, PartitionScope, Scope},
};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};

/// The database that each test's own is copied from.
const TEMPLATE: &str = "template_migrated";

struct Server {
    dir: PathBuf,
    options: PgConnectOptions,
    embedded: Mutex<Option<Embedded>>,
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// A database of its own.
pub struct Database {
    pub name: String,
    pub login: AppLogin,
    pub db: Db,
}

impl Database {
    pub async fn new() -> Self {
        Self::with(DbOptions { max_connections: 8, ..DbOptions::default() }).await
    }

    pub async fn with(options: DbOptions) -> Self {
        let name = migrated().await;
        let login = migrate(owner(&name)).await.unwrap();
        let db = Db::open(login_options(&name, &login), options).await.unwrap();
        Self { name, login, db }
    }

    /// A connection as the superuser: sees everything.
    pub async fn superuser(&self) -> PgConnection {
        owner(&self.name).connect().await.unwrap()
    }

    /// A connection with the application's log-in, outside the gate.
    pub async fn raw(&self) -> PgConnection {
        login_options(&self.name, &self.login).connect().await.unwrap()
    }
}

/// A database with the schema and no log-in of its own yet; answers its name.
pub async fn migrated() -> String {
    create(&format!("TEMPLATE {TEMPLATE}")).await
}

/// An empty database; answers its name.
pub async fn create(how: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut conn = owner("postgres").connect().await.unwrap();
    let sql = format!("CREATE DATABASE {name} {how}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    name
}

/// A connection URL of a database for another process, with a role that owns it. Its password is
/// `secret`.
pub async fn url(database: &str) -> String {
    let mut conn = owner(database).connect().await.unwrap();
    let make = format!(
        "CREATE ROLE owner_of_{database} SUPERUSER LOGIN PASSWORD 'secret';
         ALTER DATABASE {database} OWNER TO owner_of_{database}"
    );
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut conn).await.unwrap();
    let sockets = server().dir.join("pg/run");
    format!("postgres://owner_of_{database}:secret@localhost/{database}?host={}", sockets.display())
}

/// A data folder for a process, where a Postgres is fast.
pub fn tempdir() -> tempfile::TempDir {
    folder()
}

pub fn owner(database: &str) -> PgConnectOptions {
    server().options.clone().database(database)
}

pub fn login_options(database: &str, login: &AppLogin) -> PgConnectOptions {
    owner(database).username(&login.role).password(&login.password)
}

#[expect(clippy::disallowed_methods, reason = "a test acts for no request")]
pub fn scope(partition: &str) -> PartitionScope {
    Scope::for_maintenance(&partition.parse::<PartitionId>().unwrap())
}

fn server() -> &'static Server {
    SERVER.get_or_init(|| {
        let dir = folder().keep();
        let embedded = Embedded::start(&dir, None).unwrap();
        let options = embedded.owner_options();
        let at = options.clone();
        // A thread of its own: a test may call from within its runtime.
        let made = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut conn = at.clone().database("postgres").connect().await.unwrap();
                // Plans must not change while a test looks at them.
                sqlx::raw_sql("ALTER SYSTEM SET autovacuum = off")
                    .execute(&mut conn)
                    .await
                    .unwrap();
                sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut conn).await.unwrap();
                let create = format!("CREATE DATABASE {TEMPLATE}");
                sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut conn).await.unwrap();
                migrate(at.database(TEMPLATE)).await.unwrap();
            });
        });
        made.join().unwrap();
        // SAFETY: the handler runs once, at exit, and touches nothing but the static.
        unsafe { libc::atexit(stop) };
        Server { dir, options, embedded: Mutex::new(Some(embedded)) }
    })
}

/// A folder for a cluster: in memory where there is room, since every test has a database of some
/// hundred files, and syncing them to a disk takes longer than all tests.
fn folder() -> tempfile::TempDir {
    const PREFIX: &str = "collimator-test-";
    const ROOM: u128 = 6 << 30;
    let memory = Path::new("/dev/shm");
    // What a run that was killed could not remove.
    for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')?.0.parse().ok());
        if pid.is_some_and(|pid: u32| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    let dir = match free(memory) {
        Some(free) if free >= ROOM => builder.tempdir_in(memory),
        _ => builder.tempdir(),
    };
    dir.unwrap()
}

/// Free bytes of the file system of a folder.
fn free(folder: &Path) -> Option<u128> {
    let path = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: the structure is plain numbers, and the path ends with NUL.
    unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut found) == 0)
            .then(|| u128::from(found.f_bavail) * u128::from(found.f_frsize))
    }
}

extern "C" fn stop() {
    let Some(server) = SERVER.get() else { return };
    let embedded = server.embedded.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(embedded) = embedded {
        embedded.stop();
    }
    let _ = fs::remove_dir_all(&server.dir);
}
