//! Who runs Postgres: ourselves, or as root an account without privileges.

use std::{
    ffi::CStr,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    ptr,
};

use super::StartError;

/// An account that passwd knows. (`initdb` refuses a user id that it cannot look up.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Log-in name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The account to run Postgres as; `None`: as ourselves. As root: the owner of the cluster that is
/// there already, else `postgres`, else `nobody`.
///
/// # Errors
/// [`StartError::NoAccount`] as root, if passwd has none of them.
pub fn choose(data: &Path) -> Result<Option<Account>, StartError> {
    if !is_root() {
        return Ok(None);
    }
    let owner = fs::symlink_metadata(data).ok().map(|found| found.uid()).filter(|uid| *uid != 0);
    let account = owner
        .and_then(|uid| {
            look_up(|entry, buffer, found| {
                // SAFETY: all pointers are valid for the call, and the length is the buffer's.
                unsafe {
                    libc::getpwuid_r(uid, entry, buffer.as_mut_ptr().cast(), buffer.len(), found)
                }
            })
        })
        .or_else(|| by_name(c"postgres"))
        .or_else(|| by_name(c"nobody"));
    account.filter(|account| account.uid != 0).map(Some).ok_or(StartError::NoAccount)
}

fn by_name(name: &CStr) -> Option<Account> {
    look_up(|entry, buffer, found| {
        let length = buffer.len();
        // SAFETY: all pointers are valid for the call, and the length is the buffer's.
        unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr().cast(), length, found) }
    })
}

fn look_up(
    query: impl Fn(*mut libc::passwd, &mut [u8], *mut *mut libc::passwd) -> libc::c_int,
) -> Option<Account> {
    let mut buffer = vec![0_u8; 16 * 1024];
    // SAFETY: passwd is a plain C struct; all zeroes is a value of it.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = ptr::null_mut();
    if query(&raw mut entry, &mut buffer, &raw mut found) != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so `pw_name` points to a C string inside `buffer`.
    let name = unsafe { CStr::from_ptr(entry.pw_name) }.to_string_lossy().into_owned();
    Some(Account { name, uid: entry.pw_uid, gid: entry.pw_gid })
}

impl Account {
    /// The outermost folder on the way to and including `folder` that the account cannot enter.
    pub fn first_unsearchable(&self, folder: &Path) -> Option<PathBuf> {
        // Links on the way lead elsewhere, and it is there that one must be able to enter.
        let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let mut folders: Vec<&Path> = real.ancestors().collect();
        folders.reverse();
        folders.into_iter().find(|folder| !self.can_enter(folder)).map(Path::to_owned)
    }

    fn can_enter(&self, folder: &Path) -> bool {
        let Ok(found) = fs::metadata(folder) else { return false };
        // As the kernel does: the first class that applies decides. (The child has no other groups.)
        let shift = match () {
            () if found.uid() == self.uid => 6,
            () if found.gid() == self.gid => 3,
            () => 0,
        };
        (found.permissions().mode() >> shift) & 1 == 1
    }
}

/// Gives a folder that we have just made to the account. The folder itself only, and no link.
///
/// # Errors
/// What the operating system says.
pub fn give(path: &Path, account: &Account) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid))
}

/// Gives an open file that we have just made to the account.
///
/// # Errors
/// What the operating system says.
pub fn give_file(file: &fs::File, account: &Account) -> io::Result<()> {
    std::os::unix::fs::fchown(file, Some(account.uid), Some(account.gid))
}
