//! The private Postgres, for real: started, stopped, killed, as root and as another user.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection as _, Executor, Row};

use tempfile::TempDir;

use super::*;

/// Names the data folder to the test binary when it runs itself as a second process.
const HELPER: &str = "COLLIMATOR_TEST_POSTGRES_HELPER";
/// What a helper does with it: `hold` a server until its input ends, or start with `nothing`
/// installed.
const ROLE: &str = "COLLIMATOR_TEST_POSTGRES_ROLE";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// First column of the first row, as text.
fn ask(options: &PgConnectOptions, sql: &'static str) -> Result<String, sqlx::Error> {
    block_on(async {
        let mut connection = options.connect().await?;
        let row = sqlx::query(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        row.try_get(0)
    })
}

fn run(options: &PgConnectOptions, sql: &'static str) {
    block_on(async {
        let mut connection = options.connect().await.unwrap();
        connection.execute(sql).await.unwrap();
        connection.close().await.unwrap();
    });
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A data folder whose parent, as root, lets no other account in.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    folder
}

fn pid_file(data_dir: &Path) -> PathBuf {
    data_dir.join("pg/data").join(leftovers::PID_FILE)
}

fn start(data_dir: &Path) -> Embedded {
    Embedded::start(data_dir, None).unwrap()
}

/// This test binary as another process that runs [`helper_process`] alone.
fn helper(data_dir: &Path, role: &str) -> Command {
    // By this name the program can be run by a user who cannot reach its folder.
    let program = if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe().unwrap()
    };
    let mut command = Command::new(program);
    command.args(["--exact", "postgres::tests::helper_process", "--nocapture"]);
    command.env(HELPER, data_dir).env(ROLE, role).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// What a helper says when its server serves, and how to reach it.
fn wait_for(child: &mut Child, word: &str) -> String {
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    let mut lines = output.lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix(word).map(str::to_owned)).expect("the helper to speak")
}

fn held_by(data_dir: &Path) -> (Child, PgConnectOptions) {
    let mut child = helper(data_dir, "hold").spawn().unwrap();
    wait_for(&mut child, "serving");
    let state = fs::canonicalize(data_dir).unwrap().join("pg");
    let password = fs::read_to_string(state.join("password")).unwrap();
    let connection = Connection { socket_dir: state.join("run"), password };
    (child, connection.options(DATABASE))
}

/// Not a test by itself: the second process of others.
#[test]
fn helper_process() {
    let Some(data_dir) = std::env::var_os(HELPER) else { return };
    if std::env::var_os(ROLE).as_deref() == Some(OsStr::new("nothing")) {
        let places = find::Places { path: "/nonexistent".into(), patterns: Vec::new() };
        let error = Embedded::start_with(data_dir.as_ref(), None, places).unwrap_err();
        return println!("\nrefused {error}");
    }
    let server = start(data_dir.as_ref());
    assert_eq!(ask(&server.owner_options(), "SELECT 'alive'").unwrap(), "alive");
    println!("\nserving");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    server.stop();
    println!("\nstopped");
}

#[test]
fn is_made_safely_reused_and_stopped_cleanly() {
    let open = folder();
    fs::set_permissions(open.path(), Permissions::from_mode(0o755)).unwrap();
    let closed = folder();
    let below = closed.path().join("deep/er");
    for data_dir in [open.path(), &below] {
        let server = start(data_dir);
        let owner = server.owner_options();
        for (sql, expected) in [
            ("SHOW fsync", "on"),
            ("SHOW full_page_writes", "on"),
            ("SHOW data_checksums", "on"),
            ("SHOW listen_addresses", ""),
            ("SHOW unix_socket_permissions", "0700"),
            ("SHOW server_encoding", "UTF8"),
            ("SHOW jit", "off"),
            ("SHOW log_error_verbosity", "terse"),
            ("SELECT current_user::text", OWNER),
            ("SELECT current_database()::text", DATABASE),
            ("SELECT datcollate::text FROM pg_database WHERE datname = 'collimator'", "C.UTF-8"),
            (
                "SELECT left(rolpassword, 13) FROM pg_authid WHERE rolpassword <> ''",
                "SCRAM-SHA-256",
            ),
        ] {
            assert_eq!(ask(&owner, sql).unwrap(), expected, "{sql}");
        }
        assert!(ask(&owner.clone().password("wrong"), "SELECT ''").is_err());
        run(&owner, "CREATE TABLE kept (what text); INSERT INTO kept VALUES ('this')");
        let refused = Embedded::start(data_dir, None).unwrap_err();
        assert!(matches!(refused, StartError::InUse { .. }), "{refused}");

        // Open connections do not hold it up.
        let idle = block_on(owner.connect()).unwrap();
        server.stop();
        drop(idle);
        assert!(!pid_file(data_dir).exists());

        let server = start(data_dir);
        assert_eq!(ask(&server.owner_options(), "SELECT what FROM kept").unwrap(), "this");
        drop(server);
        assert!(!pid_file(data_dir).exists());
        let secret = fs::metadata(data_dir.join("pg/password")).unwrap();
        assert_eq!(secret.permissions().mode() & 0o777, 0o600);
        let log = fs::read_to_string(data_dir.join("pg/log")).unwrap();
        assert!(log.contains("database system is shut down"), "{log}");
    }
    // Nobody's folder was opened to others on the way.
    assert_eq!(fs::metadata(closed.path()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn long_and_odd_folder_names_work() {
    let root = folder();
    for name in ["n".repeat(150), "it's, \"odd\" \u{e9}".to_owned()] {
        let server = start(&root.path().join(name));
        assert_eq!(ask(&server.owner_options(), "SELECT 'here'").unwrap(), "here");
    }
}

#[test]
fn a_killed_postmaster_is_replaced() {
    let root = folder();
    let server = start(root.path());
    let owner = server.owner_options();
    run(&owner, "CREATE TABLE kept (what text); INSERT INTO kept VALUES ('this')");
    for _ in 0..2 {
        let pid = leftovers::pid_in(&pid_file(root.path())).unwrap();
        leftovers::signal(pid, libc::SIGKILL);
        until("a new postmaster serves", || {
            leftovers::pid_in(&pid_file(root.path())).is_some_and(|new| new != pid)
                && ask(&owner, "SELECT what FROM kept").is_ok_and(|kept| kept == "this")
        });
    }
    server.stop();
    assert!(!pid_file(root.path()).exists());
}

#[test]
fn dies_with_its_parent_and_is_there_again_afterwards() {
    let root = folder();
    let (mut parent, owner) = held_by(root.path());
    run(&owner, "CREATE TABLE kept (what text); INSERT INTO kept VALUES ('this')");
    let refused = Embedded::start(root.path(), None).unwrap_err();
    assert!(matches!(refused, StartError::InUse { .. }), "{refused}");
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("postgres is gone", || !pid_file(root.path()).exists());
    let server = start(root.path());
    assert_eq!(ask(&server.owner_options(), "SELECT what FROM kept").unwrap(), "this");
}

#[test]
fn backends_that_outlive_everything_are_ended_before_the_next_start() {
    let root = folder();
    let (mut parent, owner) = held_by(root.path());
    run(&owner, "CREATE TABLE kept (what text); INSERT INTO kept VALUES ('this')");
    let busy = std::thread::spawn({
        let owner = owner.clone();
        // Plain arithmetic that never looks whether the postmaster is there.
        move || ask(&owner, "DO $$ BEGIN LOOP END LOOP; END $$")
    });
    let query = "SELECT pid::text FROM pg_stat_activity WHERE query LIKE 'DO %'";
    let mut backend = None;
    until("the backend is busy", || {
        backend = ask(&owner, query).ok().and_then(|pid| pid.parse::<u32>().ok());
        backend.is_some()
    });
    // Stopped first, so that it cannot be told to end when its parent dies.
    let pid = leftovers::pid_in(&pid_file(root.path())).unwrap();
    leftovers::signal(pid, libc::SIGSTOP);
    parent.kill().unwrap();
    parent.wait().unwrap();
    leftovers::signal(pid, libc::SIGKILL);
    #[cfg(target_os = "linux")]
    {
        let data = root.path().join("pg/data");
        until("the postmaster is gone", || !leftovers::holders(&data).contains(&pid));
        assert!(leftovers::holders(&data).contains(&backend.unwrap()), "the backend lives on");
    }
    assert!(pid_file(root.path()).exists());
    let server = start(root.path());
    assert!(busy.join().unwrap().is_err());
    assert_eq!(ask(&server.owner_options(), "SELECT what FROM kept").unwrap(), "this");
}

#[test]
fn a_pid_file_that_names_somebody_else_is_stale() {
    let root = folder();
    start(root.path()).stop();
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let state = fs::canonicalize(root.path()).unwrap().join("pg");
    let owner = fs::metadata(state.join("data")).unwrap();
    for file in [pid_file(root.path()), state.join("run/.s.PGSQL.5432.lock")] {
        let text = format!("{}\n{}\n1\n5432\n\n\n1 1\nready\n", other.id(), state.display());
        fs::write(&file, text).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let server = start(root.path());
    assert_eq!(ask(&server.owner_options(), "SELECT 'here'").unwrap(), "here");
    drop(server);
    assert!(other.try_wait().unwrap().is_none(), "it was left alone");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn what_an_interrupted_initdb_left_is_made_anew_but_a_strange_folder_is_not_touched() {
    let root = folder();
    let unfinished = root.path().join("pg/data.new");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15").unwrap();
    start(root.path()).stop();
    assert!(!unfinished.exists());

    let strange = folder();
    let precious = strange.path().join("pg/data/precious");
    fs::create_dir_all(precious.parent().unwrap()).unwrap();
    fs::write(&precious, "x").unwrap();
    let refused = Embedded::start(strange.path(), None).unwrap_err();
    assert!(matches!(refused, StartError::NotACluster { .. }), "{refused}");
    assert!(precious.exists());

    fs::remove_file(root.path().join("pg/password")).unwrap();
    let refused = Embedded::start(root.path(), None).unwrap_err();
    assert!(matches!(refused, StartError::PasswordLost { .. }), "{refused}");
    fs::write(root.path().join("pg/data/PG_VERSION"), "9").unwrap();
    let bin = find::Places::usual().find(None).unwrap().bin;
    let refused = Embedded::start(root.path(), Some(&bin)).unwrap_err();
    assert!(refused.to_string().ends_with("but the data in data.dir was made by 9"), "{refused}");
}

#[test]
fn a_server_that_cannot_start_says_why_and_leaves_nothing_running() {
    let root = folder();
    start(root.path()).stop();
    let settings = root.path().join("pg/data/postgresql.auto.conf");
    fs::write(&settings, "no_such_setting = 1\n").unwrap();
    let refused = Embedded::start(root.path(), None).unwrap_err().to_string();
    assert!(refused.contains("no_such_setting"), "{refused}");
    fs::write(&settings, "").unwrap();
    start(root.path()).stop();
}

#[test]
fn runs_for_a_user_without_privileges() {
    let root = folder();
    let mut command = helper(root.path(), "hold");
    let uid = if account::is_root() {
        let nobody = 65534;
        chown(root.path(), Some(nobody), Some(nobody)).unwrap();
        command.uid(nobody).gid(nobody);
        nobody
    } else {
        fs::metadata(root.path()).unwrap().uid()
    };
    let mut child = command.spawn().unwrap();
    wait_for(&mut child, "serving");
    assert_eq!(fs::metadata(root.path().join("pg/data")).unwrap().uid(), uid);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(!pid_file(root.path()).exists());
}

#[test]
fn root_does_not_work_in_the_folder_of_another_user() {
    if !account::is_root() {
        return;
    }
    let root = folder();
    let state = root.path().join("pg");
    fs::create_dir(&state).unwrap();
    chown(&state, Some(65534), Some(65534)).unwrap();
    let refused = Embedded::start(root.path(), None).unwrap_err();
    assert!(matches!(refused, StartError::NotRoots { uid: 65534, .. }), "{refused}");
}

#[test]
fn without_programs_and_without_network_it_says_what_to_install() {
    let root = folder();
    let mut command = helper(root.path(), "nothing");
    // A proxy that is not there: no request leaves this machine.
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy").stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let told = wait_for(&mut child, "refused ");
    assert!(child.wait().unwrap().success());
    assert!(told.contains("apt-get install postgresql,"), "{told}");
    assert!(told.contains("set database.url"), "{told}");
}
