//! The program itself, as a process of its own: the one that cargo built, or the one that
//! `COLLIMATOR_TEST_BINARY` names.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
};

use super::{
    client::Client,
    server::{DEADLINE, until},
};

/// The program with arguments, and nothing in its environment but what it needs and `settings`.
pub fn program(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let built = || env!("CARGO_BIN_EXE_collimator").into();
    let binary = std::env::var_os("COLLIMATOR_TEST_BINARY").unwrap_or_else(built);
    let mut command = Command::new(binary);
    command.args(arguments).env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    for (key, value) in settings {
        command.env(collimator::config::variable_of(key), value);
    }
    command
}

/// Runs the program to its end.
pub fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    program(arguments, settings).output().unwrap()
}

/// A serving process. Ends with the value.
pub struct Process {
    pub client: Client,
    child: Running,
}

/// A process that has been started and has not said yet that it is ready. Ends with the value.
pub struct Starting {
    greeting: mpsc::Receiver<String>,
    log: PathBuf,
    child: Running,
}

/// A child that is killed and reaped when it is let go.
struct Running(Child);

impl Process {
    /// Serves from a data folder until told otherwise.
    pub fn serve(data: &Path, settings: &[(&str, &str)]) -> Self {
        let starting = Self::start(data, settings, |_| {});
        match starting.greeting.recv_timeout(DEADLINE) {
            Ok(base) => Self { client: Client::new(base), child: starting.child },
            Err(_) => panic!("no greeting: {}", starting.said()),
        }
    }

    /// Starts to serve from a data folder, with a last change to the command.
    pub fn start(
        data: &Path,
        settings: &[(&str, &str)],
        change: impl FnOnce(&mut Command),
    ) -> Starting {
        let log = data.join("test.log");
        let data = data.to_str().unwrap();
        let arguments = ["serve", "--data-dir", data, "--listen", "127.0.0.1:0"];
        let mut command = program(&arguments, settings);
        let to = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        command.stdout(Stdio::piped()).stderr(to).process_group(0);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let (tell, greeting) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(at) = line.find("http://").filter(|_| line.contains("DICOMweb")) {
                    let _ = tell.send(line[at..].trim().to_owned());
                }
            }
        });
        Starting { greeting, log, child: Running(child) }
    }

    pub fn id(&self) -> i32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        signal_to(self.id(), signal);
    }

    /// Kill -9, and the process is gone.
    pub fn kill(self) {}

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_none()
    }

    /// The end of the process, which was told to end.
    pub async fn ended(mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", async || {
            status = self.child.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Starting {
    /// The process, once it is ready; what it said last, if it ended instead.
    pub async fn ready(mut self) -> Result<Process, String> {
        let mut base = None;
        let mut ended = false;
        until("the server is ready", async || {
            ended = self.child.0.try_wait().unwrap().is_some();
            base = self.greeting.try_recv().ok();
            ended || base.is_some()
        })
        .await;
        match base {
            Some(base) => Ok(Process { client: Client::new(base), child: self.child }),
            None => Err(self.said()),
        }
    }

    pub fn id(&self) -> i32 {
        self.child.id()
    }

    /// All that was ever logged in its data folder.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Running {
    fn id(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its Postgres dies with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to a process that a test started.
pub fn signal_to(pid: i32, signal: i32) {
    // SAFETY: a plain call; the process is ours and has not been waited for.
    unsafe { libc::kill(pid, signal) };
}
