//! The program itself, as a process of its own.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
};

use super::{
    client::Client,
    server::{DEADLINE, until},
};

/// The program with arguments, and nothing in its environment but what it needs and `settings`.
pub fn program(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collimator"));
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
    child: Child,
}

impl Process {
    /// Serves from a data folder until told otherwise.
    pub fn serve(data: &Path, settings: &[(&str, &str)]) -> Self {
        let data = data.to_str().unwrap();
        let arguments = ["serve", "--data-dir", data, "--listen", "127.0.0.1:0"];
        let mut command = program(&arguments, settings);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(Path::new(data).join("test.log"))
            .unwrap();
        command.stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().unwrap();
        let (tell, hear) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(at) = line.find("http://").filter(|_| line.contains("DICOMweb")) {
                    let _ = tell.send(line[at..].trim().to_owned());
                }
            }
        });
        let Ok(base) = hear.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            panic!(
                "no greeting: {}",
                std::fs::read_to_string(Path::new(data).join("test.log")).unwrap()
            )
        };
        Self { client: Client::new(base), child }
    }

    pub fn signal(&self, signal: i32) {
        signal_to(i32::try_from(self.child.id()).unwrap(), signal);
    }

    /// Kill -9, and the process is gone.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.child.wait().unwrap();
    }

    /// The end of the process, which was told to end.
    pub async fn ended(mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its Postgres dies with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that a test started.
pub fn signal_to(pid: i32, signal: i32) {
    // SAFETY: a plain call; the process is ours and has not been waited for.
    unsafe { libc::kill(pid, signal) };
}
