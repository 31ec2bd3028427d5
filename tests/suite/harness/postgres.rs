//! A private Postgres for this test process, and a migrated database for each test.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use collimator::{
    index::{AppLogin, Db, DbOptions, migrate},
    tenancy::{PartitionId, PartitionScope, Scope},
};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};

struct Server {
    dir: PathBuf,
    pid: i32,
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
        let name = create("TEMPLATE template_index").await;
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

/// An empty database; answers its name.
pub async fn create(how: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    server();
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut conn = owner("postgres").connect().await.unwrap();
    let sql = format!("CREATE DATABASE {name} {how}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    name
}

pub fn owner(database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(&server().dir)
        .username("postgres")
        .database(database)
}

pub fn login_options(database: &str, login: &AppLogin) -> PgConnectOptions {
    owner(database).username(&login.role).password(&login.password)
}

pub fn scope(partition: &str) -> PartitionScope {
    Scope::for_maintenance(&partition.parse::<PartitionId>().unwrap())
}

fn server() -> &'static Server {
    SERVER.get_or_init(|| {
        // The death signal comes when the thread that spawned ends: one that never does.
        let (tell, hear) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (dir, child) = start();
            tell.send((dir, i32::try_from(child.id()).unwrap())).unwrap();
            loop {
                std::thread::park();
            }
        });
        let (dir, pid) = hear.recv().unwrap();
        let template = dir.clone();
        let made = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let at =
                    PgConnectOptions::new_without_pgpass().socket(template).username("postgres");
                let mut conn = at.clone().database("postgres").connect().await.unwrap();
                let create = "CREATE DATABASE template_index";
                sqlx::raw_sql(create).execute(&mut conn).await.unwrap();
                migrate(at.database("template_index")).await.unwrap();
            })
        });
        // SAFETY: the handler runs once, at exit, and touches nothing but the static.
        unsafe { libc::atexit(stop) };
        made.join().unwrap();
        Server { dir, pid }
    })
}

extern "C" fn stop() {
    if let Some(server) = SERVER.get() {
        // SAFETY: the pid is of our child, which nobody has waited for.
        unsafe {
            libc::kill(server.pid, libc::SIGQUIT);
            libc::waitpid(server.pid, std::ptr::null_mut(), 0);
        }
        let _ = fs::remove_dir_all(&server.dir);
    }
}

fn start() -> (PathBuf, Child) {
    let bin = binaries();
    let dir = tempfile::Builder::new().prefix("collimator-index-").tempdir().unwrap().keep();
    // SAFETY: plain calls; getpwnam's answer is read before anything else could change it.
    let account = unsafe {
        if libc::geteuid() == 0 {
            let entry = libc::getpwnam(c"postgres".as_ptr());
            assert!(!entry.is_null(), "running as root, Postgres needs an account `postgres`");
            Some(((*entry).pw_uid, (*entry).pw_gid))
        } else {
            None
        }
    };
    let command = |name: &str| {
        let mut command = Command::new(bin.join(name));
        if let Some((uid, gid)) = account {
            command.uid(uid).gid(gid);
        }
        command.current_dir(&dir).stdout(Stdio::null());
        command
    };
    if let Some((uid, gid)) = account {
        chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    let data = dir.join("data");
    let made = command("initdb")
        .args(["-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
        .arg(&data)
        .status()
        .unwrap();
    assert!(made.success(), "initdb failed");
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut postgres = command("postgres");
    postgres.arg("-D").arg(&data).arg("-F").stderr(log);
    for setting in [
        "listen_addresses=",
        "max_connections=200",
        "autovacuum=off",
        "unix_socket_permissions=0777",
        &format!("unix_socket_directories={}", dir.display()),
    ] {
        postgres.args(["-c", setting]);
    }
    // SAFETY: async-signal-safe calls only.
    unsafe {
        postgres.pre_exec(|| {
            libc::setsid();
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGQUIT);
            Ok(())
        });
    }
    let mut child = postgres.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready(&data) {
        assert!(child.try_wait().unwrap().is_none(), "postgres ended: see {}", dir.display());
        assert!(Instant::now() < deadline, "postgres does not get ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    (dir, child)
}

fn ready(data: &Path) -> bool {
    fs::read_to_string(data.join("postmaster.pid"))
        .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
}

fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|v| v.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    found.pop().expect("Postgres binaries under /usr/lib/postgresql")
}
