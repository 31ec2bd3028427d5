//! What an earlier run left on a cluster's folder: living processes, and a stale pid file.
//!
//! Postgres refuses to start while a pid file names a living process, and after `kill -9` of the
//! postmaster a busy backend may live on for long. Two servers on one folder destroy it, and the
//! pid file is what Postgres itself has against that; so it is only removed when no process has the
//! folder as its working directory, as every process of a Postgres server has.

use std::{fs, path::Path};

use super::StartError;

/// The pid file of a cluster.
pub const PID_FILE: &str = "postmaster.pid";

/// The pid in the first line of a pid file.
pub fn pid_in(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

/// Ends what is left of an earlier run on `data`, and removes the pid file that it left. The caller
/// holds the lock of the folder.
///
/// # Errors
/// [`StartError::Leftover`] if a process does not end, [`StartError::File`].
#[cfg(target_os = "linux")]
pub fn clear(data: &Path) -> Result<(), StartError> {
    use std::{thread::sleep, time::Duration};

    const STEP: Duration = Duration::from_millis(10);
    /// Of signal and time after which it is sent: shut down fast, then at once, then not asked.
    const STAGES: [(libc::c_int, Duration); 3] = [
        (libc::SIGINT, Duration::ZERO),
        (libc::SIGQUIT, Duration::from_secs(20)),
        (libc::SIGKILL, Duration::from_secs(30)),
    ];
    // Backends without their postmaster do not act on SIGINT; they get a second to see it is gone.
    const WITHOUT_POSTMASTER: [(libc::c_int, Duration); 2] =
        [(libc::SIGQUIT, Duration::from_secs(1)), (libc::SIGKILL, Duration::from_secs(6))];
    const PATIENCE: Duration = Duration::from_secs(15);

    let file = data.join(PID_FILE);
    if let Some(postmaster) = pid_in(&file)
        && holders(data).contains(&postmaster)
    {
        tracing::warn!(pid = postmaster, "ending a Postgres that an earlier run left behind");
        let mut waited = Duration::ZERO;
        let mut stages = STAGES.iter().peekable();
        while holders(data).contains(&postmaster) {
            if let Some((number, _)) = stages.next_if(|(_, after)| waited >= *after) {
                signal(postmaster, *number);
            }
            if waited > STAGES[2].1 + PATIENCE {
                return Err(StartError::Leftover { pid: postmaster });
            }
            sleep(STEP);
            waited += STEP;
        }
    }
    let mut waited = Duration::ZERO;
    let mut stages = WITHOUT_POSTMASTER.iter().peekable();
    loop {
        let living = holders(data);
        let Some(first) = living.first() else { break };
        if let Some((number, _)) = stages.next_if(|(_, after)| waited >= *after) {
            tracing::warn!(processes = living.len(), "ending backends that an earlier run left");
            living.iter().for_each(|pid| signal(*pid, *number));
        }
        if waited > PATIENCE {
            return Err(StartError::Leftover { pid: *first });
        }
        sleep(STEP);
        waited += STEP;
    }
    match fs::remove_file(&file) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(StartError::File { path: file, what: "cannot be removed", source })
        }
        _ => Ok(()),
    }
}

/// Processes of a Postgres that work in the folder. A zombie has no working directory and does not
/// count; somebody's shell in that folder is no Postgres.
#[cfg(target_os = "linux")]
pub(super) fn holders(data: &Path) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;

    let Ok(data) = fs::metadata(data) else { return Vec::new() };
    let ours = std::process::id();
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let works_there = fs::metadata(format!("/proc/{pid}/cwd"))
            .is_ok_and(|cwd| (cwd.dev(), cwd.ino()) == (data.dev(), data.ino()));
        let postgres = || {
            let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
            let name = program.as_deref().and_then(Path::file_name);
            name.is_some_and(|name| name.to_string_lossy().starts_with("postgres"))
        };
        works_there && *pid != ours && postgres()
    };
    pids.filter(holds).collect()
}

/// Ends what is left of an earlier run on `data`. Without `/proc` there is no telling who works in
/// a folder, so the pid file stays: Postgres checks it, and the shared memory it names, itself.
///
/// # Errors
/// [`StartError::Leftover`] if a process does not end.
#[cfg(not(target_os = "linux"))]
pub fn clear(data: &Path) -> Result<(), StartError> {
    use std::{process::Command, thread::sleep, time::Duration};

    let file = data.join(PID_FILE);
    let Some(pid) = pid_in(&file) else { return Ok(()) };
    let is_postgres = || {
        let said = Command::new("ps").args(["-o", "comm=", "-p", &pid.to_string()]).output();
        said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("postgres"))
    };
    if !is_postgres() {
        return Ok(());
    }
    signal(pid, libc::SIGINT);
    for _ in 0..2000 {
        if !file.exists() || !is_postgres() {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    Err(StartError::Leftover { pid })
}

/// Sends a signal. That the process is gone already is no error.
pub fn signal(pid: u32, number: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid)
        && pid > 0
    {
        // SAFETY: kill has no preconditions.
        unsafe { libc::kill(pid, number) };
    }
}
