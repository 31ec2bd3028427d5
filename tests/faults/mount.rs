//! A small file system of memory that only the servers of one test see.
//!
//! A process in a mount namespace of its own holds it, so that it outlives the servers; they join
//! the namespace before they start. Root needs nothing else for that; others get a user namespace
//! in which they stay who they are, where the machine lets them.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Write as _},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const MIB: u64 = 1 << 20;

/// See the module.
pub struct Small {
    holder: Child,
    dir: PathBuf,
}

impl Small {
    /// Puts `bytes` of memory over a folder.
    ///
    /// # Errors
    /// Where this machine lets nobody do so.
    pub fn over(dir: &Path, bytes: u64) -> io::Result<Self> {
        let target = CString::new(dir.as_os_str().as_bytes())?;
        let options = CString::new(format!("size={bytes},mode=0755"))?;
        // SAFETY: plain calls.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        let maps =
            [CString::new(format!("{uid} {uid} 1"))?, CString::new(format!("{gid} {gid} 1"))?];
        let mut command = Command::new("sleep");
        command.arg("3600").stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: what runs in the child makes system calls, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                if uid != 0 {
                    own_users(&maps)?;
                }
                mount(&target, &options)
            });
        }
        Ok(Self { holder: command.spawn()?, dir: dir.to_owned() })
    }

    /// Lets a program start where it sees the file system.
    pub fn enter(&self, command: &mut Command) {
        let of_holder = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", self.holder.id()));
        // SAFETY: a plain call.
        let is_root = unsafe { libc::getuid() } == 0;
        let users = (!is_root).then(|| of_holder("user").unwrap());
        let mounts = of_holder("mnt").unwrap();
        // SAFETY: what runs in the child makes system calls, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                for namespace in users.iter().chain([&mounts]) {
                    done(libc::setns(namespace.as_raw_fd(), 0))?;
                }
                Ok(())
            });
        }
    }

    /// The folder, as it is seen from outside.
    pub fn dir(&self) -> PathBuf {
        let inside = self.dir.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let dir = CString::new(self.dir().as_os_str().as_bytes()).unwrap();
        // SAFETY: the structure is plain numbers, and the path ends with NUL.
        unsafe {
            let mut found: libc::statvfs = std::mem::zeroed();
            done(libc::statvfs(dir.as_ptr(), &raw mut found)).unwrap();
            found.f_bavail * found.f_frsize
        }
    }

    /// Fills it with something that can be removed again, until about so many bytes are free.
    pub fn fill(&self, free: u64) {
        let mut ballast = File::create(self.dir().join("ballast")).unwrap();
        while self.free() > free {
            let some = (self.free() - free).min(MIB);
            match ballast.write_all(&vec![7; usize::try_from(some).unwrap()]) {
                // Others write too.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return,
                written => written.unwrap(),
            }
        }
    }

    /// Takes that away.
    pub fn relieve(&self) {
        std::fs::remove_file(self.dir().join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // The file system goes with the last process that sees it.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A user namespace in which the user is still the same.
fn own_users(maps: &[CString; 2]) -> io::Result<()> {
    // SAFETY: a plain call.
    done(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    write(c"/proc/self/setgroups", c"deny")?;
    write(c"/proc/self/uid_map", &maps[0])?;
    write(c"/proc/self/gid_map", &maps[1])
}

fn write(path: &CStr, text: &CStr) -> io::Result<()> {
    let bytes = text.to_bytes();
    // SAFETY: both texts end with NUL, and the descriptor is used here alone.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        done(file)?;
        let written = libc::write(file, bytes.as_ptr().cast(), bytes.len());
        libc::close(file);
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A mount namespace with a file system of memory over a folder.
fn mount(target: &CStr, options: &CStr) -> io::Result<()> {
    let nothing = std::ptr::null();
    // SAFETY: all texts end with NUL.
    unsafe {
        done(libc::unshare(libc::CLONE_NEWNS))?;
        // Nothing of it is seen outside.
        let private = libc::MS_REC | libc::MS_PRIVATE;
        done(libc::mount(nothing, c"/".as_ptr(), nothing, private, nothing.cast()))?;
        let kind = c"tmpfs".as_ptr();
        done(libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()))
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
