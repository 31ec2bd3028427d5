//! Finding installed Postgres programs.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use super::{OLDEST_MAJOR, StartError};

/// A folder that holds `postgres` and `initdb` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The folder, links resolved.
    pub bin: PathBuf,
    /// Major version.
    pub major: u32,
}

/// Where to look, and whether to fetch.
#[derive(Clone, Debug)]
pub struct Places {
    /// Value of `PATH`.
    pub path: OsString,
    /// Folders, in which one `*` per component stands for anything.
    pub patterns: Vec<PathBuf>,
}

/// Folders where packages of different systems put the programs outside `PATH`.
const USUAL: [&str; 11] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/lib/postgresql*/bin",
    "/usr/lib64/postgresql*/bin",
    "/usr/libexec/postgresql*",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/Library/PostgreSQL/*/bin",
    "/usr/local/pgsql/bin",
];

impl Places {
    /// `PATH` and the usual places of this system.
    pub fn usual() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        Self { path, patterns: USUAL.iter().map(PathBuf::from).collect() }
    }

    /// The installation to use: of major version `needed` if a cluster is there already. The first
    /// in `PATH` that fits, else the newest elsewhere that fits.
    pub fn find(&self, needed: Option<u32>) -> Option<Installation> {
        let fits = |found: &Installation| match needed {
            Some(needed) => found.major == needed,
            None => found.major >= OLDEST_MAJOR,
        };
        let in_path = env::split_paths(&self.path).filter(|folder| folder.is_absolute());
        if let Some(found) = in_path.filter_map(|folder| inspect(&folder)).find(fits) {
            return Some(found);
        }
        let elsewhere = self.patterns.iter().flat_map(|pattern| expand(pattern));
        let fitting = elsewhere.filter_map(|folder| inspect(&folder)).filter(fits);
        fitting.max_by_key(|found| found.major)
    }
}

/// The installation in the folder that configuration names.
///
/// # Errors
/// [`StartError::Configured`] if it holds none, or not the version that is needed.
pub fn configured(folder: &Path, needed: Option<u32>) -> Result<Installation, StartError> {
    let refuse = |what: String| StartError::Configured { folder: folder.to_owned(), what };
    let found = inspect(folder)
        .ok_or_else(|| refuse("does not hold working programs postgres and initdb".to_owned()))?;
    match needed {
        Some(needed) if found.major != needed => Err(refuse(format!(
            "holds PostgreSQL {}, but the data in data.dir was made by {needed}",
            found.major
        ))),
        None if found.major < OLDEST_MAJOR => Err(refuse(format!(
            "holds PostgreSQL {}; {OLDEST_MAJOR} is the oldest that works",
            found.major
        ))),
        _ => Ok(found),
    }
}

/// What a folder holds; `None` if not both programs, or if they do not run.
pub fn inspect(folder: &Path) -> Option<Installation> {
    // A link in /usr/local/bin may name `postgres` alone; the real folder has all of them.
    let postgres = fs::canonicalize(folder.join("postgres")).ok()?;
    let bin = postgres.parent()?.to_owned();
    if !bin.join("initdb").is_file() {
        return None;
    }
    let said = Command::new(&postgres)
        .arg("--version")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let major = major_of(&String::from_utf8_lossy(&said.stdout))?;
    Some(Installation { bin, major })
}

/// 15 of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, 17 of `… 17beta1`.
fn major_of(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("(PostgreSQL) ")?;
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    number.get(..digits)?.parse().ok()
}

/// The existing folders that a pattern names.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let name = name.to_string_lossy();
        let Some((before, after)) = name.split_once('*') else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let matches = |entry: &fs::DirEntry| {
            let entry = entry.file_name();
            let entry = entry.to_string_lossy();
            entry.len() >= name.len() - 1 && entry.starts_with(before) && entry.ends_with(after)
        };
        let folders = found.iter().filter_map(|path| fs::read_dir(path).ok());
        let entries = folders.flatten().filter_map(Result::ok).filter(matches);
        found = entries.map(|entry| entry.path()).collect();
    }
    found.retain(|path| path.is_dir());
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of programs that say to be of a version.
    fn pretend(root: &Path, folder: &str, version: &str) -> PathBuf {
        let bin = root.join(folder);
        fs::create_dir_all(&bin).unwrap();
        for program in ["postgres", "initdb"] {
            let path = bin.join(program);
            fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"))
                .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::canonicalize(bin).unwrap()
    }

    #[test]
    fn reads_versions() {
        for (said, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 9.6.24\n", Some(9)),
            ("postgres (PostgreSQL) devel\n", None),
            ("mysqld 8.0\n", None),
        ] {
            assert_eq!(major_of(said), major, "{said}");
        }
    }

    #[test]
    fn path_comes_first_then_the_newest_and_a_cluster_wants_its_own() {
        let root = tempfile::tempdir().unwrap();
        let in_path = pretend(root.path(), "path", "14.2");
        let old = pretend(root.path(), "pg/16/bin", "16.1");
        let new = pretend(root.path(), "pg/17/bin", "17beta2");
        pretend(root.path(), "pg/13/bin", "13.9");
        let links = root.path().join("links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(old.join("postgres"), links.join("postgres")).unwrap();

        let patterns = vec![root.path().join("pg/*/bin")];
        let at = |path: &Path| Places { path: path.into(), patterns: patterns.clone() };
        let bin = |found: Option<Installation>| found.map(|found| found.bin);
        assert_eq!(bin(at(&in_path).find(None)), Some(in_path.clone()));
        assert_eq!(bin(at(&in_path).find(Some(16))), Some(old.clone()));
        assert_eq!(bin(at(&in_path).find(Some(15))), None);
        assert_eq!(bin(at(Path::new("/nonexistent")).find(None)), Some(new));
        assert_eq!(bin(at(&links).find(None)), Some(old.clone()));

        assert_eq!(configured(&old, Some(16)).unwrap().major, 16);
        let told = configured(&old, Some(15)).unwrap_err().to_string();
        assert!(
            told.ends_with("holds PostgreSQL 16, but the data in data.dir was made by 15"),
            "{told}"
        );
        let told = configured(&root.path().join("pg/13/bin"), None).unwrap_err().to_string();
        assert!(told.contains("14 is the oldest"), "{told}");
        assert!(configured(root.path(), None).is_err());
    }
}
