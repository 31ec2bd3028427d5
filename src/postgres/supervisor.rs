//! The thread that makes, starts, watches, restarts and stops the postmaster.
//!
//! Everything happens on this one thread, because the kernel's death signal is tied to the thread
//! that starts a child. It sleeps until an event comes: the end of the postmaster, told by a small
//! thread that waits for it, or the wish to stop.

use std::{
    fs, mem,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection as _};

use super::{
    Connection, DATABASE, StartError, cluster, fetch, file_error,
    find::{self, Installation, Places},
    leftovers::{self, PID_FILE},
    log::Log,
    place::Place,
    settings,
};

/// How often the state of a starting postmaster is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How often the log's size is looked at.
const TIDY: Duration = Duration::from_secs(60);
/// Shortest and longest pause before a restart; doubled each time.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A postmaster that lived this long was well: the next pause is the shortest again.
const WELL: Duration = Duration::from_secs(60);
/// Of signal and patience when stopping: shut down fast, then at once, then not asked.
const STOP: [(libc::c_int, Duration); 3] = [
    (libc::SIGINT, Duration::from_secs(20)),
    (libc::SIGQUIT, Duration::from_secs(10)),
    (libc::SIGKILL, Duration::from_secs(10)),
];

/// What wakes the thread.
pub enum Event {
    /// The child with this id ended. It is not reaped yet.
    Exited(u32),
    /// Stop the postmaster and end.
    Stop,
}

/// What is to be started.
pub struct Wanted {
    pub data_dir: PathBuf,
    pub bin: Option<PathBuf>,
    pub places: Places,
}

type Events = (Sender<Event>, Receiver<Event>);
type Answer = SyncSender<Result<(Connection, u32), StartError>>;

/// What Postgres says where processes of one that was killed hold its memory still.
const IN_USE: &str = "shared memory block";

/// How long the first start waits for them.
const LINGER: Duration = Duration::from_secs(10);

/// The thread's body: starts, answers, and stays until told to stop.
pub fn run(wanted: Wanted, events: Events, answer: Answer) {
    let mut supervisor = match Supervisor::prepare(&wanted, events) {
        Ok(supervisor) => supervisor,
        Err(error) => return drop(answer.send(Err(error))),
    };
    match supervisor.first_start() {
        Ok(connection) => {
            let version = supervisor.programs.major;
            if answer.send(Ok((connection, version))).is_ok() {
                supervisor.watch();
            }
            supervisor.stop();
        }
        Err(error) => {
            supervisor.stop();
            // Told last, so that nothing runs any more when the caller hears of it.
            drop(supervisor);
            drop(answer.send(Err(error)));
        }
    }
}

struct Supervisor {
    place: Place,
    programs: Installation,
    log: Log,
    events: Events,
    child: Option<Running>,
}

/// A postmaster that we started and have not reaped.
struct Running {
    child: Child,
    since: Instant,
    #[cfg(not(target_os = "linux"))]
    _watch: Option<super::tether::Watch>,
}

enum Readiness {
    Ready,
    Ended(String),
    StopWanted,
}

impl Supervisor {
    fn prepare(wanted: &Wanted, events: Events) -> Result<Self, StartError> {
        let place = Place::open(&wanted.data_dir)?;
        let log = Log::new(&place.state);
        let needed = cluster::major(&place)?;
        let programs = match &wanted.bin {
            Some(bin) => find::configured(bin, needed)?,
            None => match wanted.places.find(needed) {
                Some(found) => found,
                None => fetch::obtain(&place, needed)?,
            },
        };
        if let Some(account) = &place.account
            && let Some(folder) = account.first_unsearchable(&programs.bin)
        {
            return Err(StartError::Unsearchable { folder, account: account.name.clone() });
        }
        if needed.is_none() {
            tracing::info!(version = programs.major, "creating a private Postgres");
            cluster::create(&place, &programs)?;
        }
        Ok(Self { place, programs, log, events, child: None })
    }

    fn first_start(&mut self) -> Result<Connection, StartError> {
        let password = cluster::password(&self.place)?;
        if let Err(error) = self.log.bound() {
            tracing::warn!(%error, "the log of the private Postgres cannot be set aside");
        }
        let until = Instant::now() + LINGER;
        loop {
            match self.start()? {
                Readiness::Ready => break,
                // What a killed postmaster left behind ends by itself, a little later than it.
                Readiness::Ended(said) if said.contains(IN_USE) && Instant::now() < until => {
                    tracing::warn!("processes of an earlier Postgres have not ended yet");
                    std::thread::sleep(PAUSE.0);
                }
                Readiness::Ended(said) => return Err(StartError::Exited { said }),
                Readiness::StopWanted => {
                    return Err(StartError::Exited { said: "told to stop".into() });
                }
            }
        }
        let connection = Connection { socket_dir: self.place.socket.clone(), password };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|_| StartError::Thread)?;
        runtime.block_on(make_database(&connection)).map_err(StartError::Connect)?;
        Ok(connection)
    }

    /// Starts the postmaster and waits until it serves.
    fn start(&mut self) -> Result<Readiness, StartError> {
        let data = self.place.state.join("data");
        leftovers::clear(&data)?;
        // Nobody works on the cluster now, so these are of the dead; Postgres would believe a lock
        // file whose pid some other process has by now.
        for name in [".s.PGSQL.5432", ".s.PGSQL.5432.lock"] {
            drop(fs::remove_file(self.place.socket.join(name)));
        }
        let said_before = self.log.length();
        let program = self.programs.bin.join("postgres");
        let mut command = cluster::program(&self.place, &program, libc::SIGINT);
        let in_child = self.place.as_child("data");
        command.args(settings::arguments(&in_child, &self.place.socket_as_child));
        command.current_dir(&in_child);
        let (out, error) = (self.log.open()?, self.log.open()?);
        let spawned = command.stdout(Stdio::from(out)).stderr(Stdio::from(error)).spawn();
        let child = spawned.map_err(file_error(&program, "cannot be run"))?;
        let pid = child.id();
        self.child = Some(Running {
            #[cfg(not(target_os = "linux"))]
            _watch: super::tether::Watch::over(pid, libc::SIGINT).ok(),
            child,
            since: Instant::now(),
        });
        let sender = self.events.0.clone();
        let waiter = std::thread::Builder::new().name("postgres-wait".to_owned());
        let waiting = waiter.spawn(move || {
            wait_without_reaping(pid);
            // Fails only if nobody is left to care.
            let _ = sender.send(Event::Exited(pid));
        });
        waiting.map_err(|_| StartError::Thread)?;
        Ok(self.until_ready(&data.join(PID_FILE), said_before))
    }

    /// Waits until the child's pid file says that it is ready. There is no time limit while the
    /// child lives: replaying the log after a crash takes what it takes.
    fn until_ready(&mut self, pid_file: &Path, said_before: u64) -> Readiness {
        let Some(running) = &self.child else { return Readiness::StopWanted };
        let pid = running.child.id();
        let mut tell_at = Instant::now() + Duration::from_secs(10);
        loop {
            if ready(pid_file, pid) {
                return Readiness::Ready;
            }
            match self.events.1.recv_timeout(LOOK) {
                Ok(Event::Exited(ended)) if ended == pid => {
                    self.reap();
                    return Readiness::Ended(self.log.said_since(said_before));
                }
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    return Readiness::StopWanted;
                }
                Ok(Event::Exited(_)) | Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= tell_at {
                tracing::info!("the private Postgres is still recovering");
                tell_at += Duration::from_secs(10);
            }
        }
    }

    /// Sleeps until told to stop, restarting the postmaster whenever it ends.
    fn watch(&mut self) {
        let mut pause = PAUSE.0;
        loop {
            match self.events.1.recv_timeout(TIDY) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => drop(self.log.bound()),
                Ok(Event::Exited(pid)) => {
                    let ours = self.child.as_ref().filter(|running| running.child.id() == pid);
                    let Some(lived) = ours.map(|running| running.since.elapsed()) else { continue };
                    if lived >= WELL {
                        pause = PAUSE.0;
                    }
                    let status = self.reap();
                    let status = status.map(|status| status.to_string()).unwrap_or_default();
                    tracing::error!(%status, "the private Postgres ended by itself; restarting it");
                    if !self.restart(&mut pause) {
                        return;
                    }
                }
            }
        }
    }

    /// Starts again, and again. False if told to stop meanwhile.
    fn restart(&mut self, pause: &mut Duration) -> bool {
        loop {
            let until = Instant::now() + *pause;
            *pause = (*pause * 2).min(PAUSE.1);
            loop {
                let left = until.saturating_duration_since(Instant::now());
                match self.events.1.recv_timeout(left) {
                    Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                    Ok(Event::Exited(_)) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
            metrics::counter!(crate::telemetry::names::POSTGRES_RESTARTS).increment(1);
            match self.start() {
                Ok(Readiness::Ready) => {
                    tracing::info!("the private Postgres is back");
                    return true;
                }
                Ok(Readiness::StopWanted) => return false,
                Ok(Readiness::Ended(said)) => {
                    tracing::error!(%said, "the private Postgres did not start");
                }
                Err(error) => tracing::error!(%error, "the private Postgres did not start"),
            }
            // A start that failed half-way may have left a child.
            self.stop();
        }
    }

    /// Stops the postmaster, if it runs, and waits for its end.
    fn stop(&mut self) {
        let Some(running) = &self.child else { return };
        let pid = running.child.id();
        for (number, patience) in STOP {
            // It is our child and not reaped, so the id is still its own.
            leftovers::signal(pid, number);
            let until = Instant::now() + patience;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                match self.events.1.recv_timeout(left) {
                    Ok(Event::Exited(ended)) if ended == pid => {
                        self.reap();
                        return;
                    }
                    Ok(_) => {}
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            tracing::warn!(signal = number, "the private Postgres does not end");
        }
    }

    fn reap(&mut self) -> Option<ExitStatus> {
        self.child.take().and_then(|mut running| running.child.wait().ok())
    }
}

/// Whether a pid file is the child's and says that it serves: line 1 is the postmaster's id, line 8
/// its state.
fn ready(pid_file: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(pid_file) else { return false };
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim().parse() == Ok(pid))
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// Blocks until a child of ours ends, and leaves it to be reaped: until then its id is not given to
/// another process, so that signals cannot go astray.
fn wait_without_reaping(pid: u32) {
    loop {
        // SAFETY: siginfo_t is a plain C struct; all zeroes is a value of it.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: `info` is valid for the call.
        let result = unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, flags) };
        let interrupted =
            || std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
        if result == 0 || !interrupted() {
            return;
        }
    }
}

/// Connects as the owner, which proves that the server serves, and makes the database if it is
/// missing.
async fn make_database(connection: &Connection) -> Result<(), sqlx::Error> {
    let mut first = connection.options("postgres").connect().await?;
    let there = sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(DATABASE);
    if there.fetch_optional(&mut first).await?.is_none() {
        sqlx::raw_sql("CREATE DATABASE collimator").execute(&mut first).await?;
    }
    first.close().await
}
