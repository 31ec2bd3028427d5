//! Tying a child process to the life of this one.
//!
//! On Linux the kernel does it: the child gets a signal when the *thread* that started it ends, so
//! only a thread that lives as long as the process may start one. Elsewhere a shell waits for the
//! end of a pipe that we hold and then signals the child.

use std::{io, os::unix::process::CommandExt, process::Command};

/// A signal, by its number.
pub type Signal = libc::c_int;

/// Makes `command` its own session (a terminal's Ctrl-C must not reach the database before requests
/// have drained) and, on Linux, has the kernel send it `signal` when the calling thread ends.
/// `inherit`: a file descriptor that the child keeps.
pub fn prepare(command: &mut Command, signal: Signal, inherit: Option<libc::c_int>) {
    // SAFETY: getpid has no preconditions.
    let parent = unsafe { libc::getpid() };
    let tie = move || {
        // SAFETY: runs between fork and exec: only async-signal-safe calls, no allocation. It must
        // come after the change of user, which clears the death signal; std runs it there.
        unsafe {
            if libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            if let Some(fd) = inherit
                && libc::fcntl(fd, libc::F_SETFD, 0) == -1
            {
                return Err(io::Error::last_os_error());
            }
            #[cfg(target_os = "linux")]
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) == -1 {
                return Err(io::Error::last_os_error());
            }
            // We may have died between fork and here; then nobody would send the signal.
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        let _ = signal;
        Ok(())
    };
    // SAFETY: see inside; the closure only makes async-signal-safe calls.
    unsafe { command.pre_exec(tie) };
}

/// Where the kernel does not: a shell that signals `pid` when the returned pipe closes, which it
/// does when this process ends in whatever way. Drop it after the child is gone.
#[cfg(any(test, not(target_os = "linux")))]
pub struct Watch {
    shell: std::process::Child,
}

#[cfg(any(test, not(target_os = "linux")))]
impl Watch {
    /// Starts watching for `pid`.
    ///
    /// # Errors
    /// If there is no shell.
    pub fn over(pid: u32, signal: Signal) -> io::Result<Self> {
        use std::process::Stdio;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r word; test \"$word\" = gone || kill -\"$1\" \"$0\""]);
        command.args([pid.to_string(), signal.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its own session as well, or Ctrl-C would end the watch.
        let own_session = || {
            // SAFETY: async-signal-safe.
            if unsafe { libc::setsid() } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: the closure only makes an async-signal-safe call.
        unsafe { command.pre_exec(own_session) };
        Ok(Self { shell: command.spawn()? })
    }
}

#[cfg(any(test, not(target_os = "linux")))]
impl Drop for Watch {
    fn drop(&mut self) {
        use std::io::Write;
        if let Some(mut pipe) = self.shell.stdin.take() {
            let _ = pipe.write_all(b"gone\n");
        }
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Stdio};

    use super::*;

    /// One that nobody starts processes without; shells and `nohup` have others ignored, and who
    /// is started so leaves it to his children.
    const SIGNAL: Signal = libc::SIGTERM;

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn the_watch_signals_when_its_pipe_closes() {
        let mut child = sleeper();
        let mut watch = Watch::over(child.id(), SIGNAL).unwrap();
        drop(watch.shell.stdin.take());
        assert_eq!(child.wait().unwrap().signal(), Some(SIGNAL));
    }

    #[test]
    fn the_watch_lets_go_when_told() {
        let mut child = sleeper();
        drop(Watch::over(child.id(), SIGNAL).unwrap());
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_signals_when_the_thread_ends() {
        let thread = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("1000");
            prepare(&mut command, SIGNAL, None);
            command.spawn().unwrap()
        });
        let mut child = thread.join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGNAL));
    }
}
