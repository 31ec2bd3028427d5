//! The cluster: its version, its password, and making it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use uuid::Uuid;

use super::{
    OWNER, StartError, account, file_error, find::Installation, leftovers, log, place::Place,
    tether,
};

/// Major version of the cluster that is there; `None` if there is none.
///
/// # Errors
/// [`StartError::NotACluster`] if something else is in its place.
pub fn major(place: &Place) -> Result<Option<u32>, StartError> {
    let path = place.state.join("data");
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let version = fs::read_to_string(path.join("PG_VERSION")).ok();
    let major = version.and_then(|version| version.trim().parse().ok());
    major.map(Some).ok_or(StartError::NotACluster { path })
}

/// The owner's password.
///
/// # Errors
/// [`StartError::PasswordLost`].
pub fn password(place: &Place) -> Result<String, StartError> {
    password_in(&place.state)
}

/// The owner's password, by the state folder.
///
/// # Errors
/// [`StartError::PasswordLost`].
pub fn password_in(state: &Path) -> Result<String, StartError> {
    let path = state.join("password");
    let text = fs::read_to_string(&path).map(|text| text.trim().to_owned()).unwrap_or_default();
    if text.is_empty() { Err(StartError::PasswordLost { path }) } else { Ok(text) }
}

/// Makes the cluster. What an earlier attempt left is thrown away first: it never got the name
/// `data`, so nothing was ever kept in it.
///
/// # Errors
/// [`StartError::Initdb`], `File`, `Leftover`.
pub fn create(place: &Place, programs: &Installation) -> Result<(), StartError> {
    let unfinished = place.state.join("data.new");
    if unfinished.exists() {
        leftovers::clear(&unfinished)?;
    }
    let password = Uuid::new_v4().simple().to_string() + &Uuid::new_v4().simple().to_string();
    let kept = place.state.join("password");
    write(&kept, &password, None)?;

    // The account must be able to read the password once; the file that stays is ours alone.
    let handed = place.state.join("run/password");
    write(&handed, &password, Some(place))?;
    let made = initdb(place, programs, "C.UTF-8").or_else(|error| match error {
        // Not every C library has it; the index names its collations itself.
        StartError::Initdb { said } if said.contains("locale") => initdb(place, programs, "C"),
        other => Err(other),
    });
    fs::remove_file(&handed).map_err(file_error(&handed, "cannot be removed"))?;
    made?;
    let data = place.state.join("data");
    fs::rename(&unfinished, &data).map_err(file_error(&data, "cannot be put in place"))?;
    place.sync()
}

fn initdb(place: &Place, programs: &Installation, locale: &str) -> Result<(), StartError> {
    let unfinished = place.state.join("data.new");
    if unfinished.exists() {
        let removed = fs::remove_dir_all(&unfinished);
        removed.map_err(file_error(&unfinished, "cannot be removed"))?;
    }
    place.make_own("data.new")?;
    let mut command = program(place, &programs.bin.join("initdb"), libc::SIGTERM);
    command.arg("-D").arg(place.as_child("data.new"));
    command.arg(format!("--pwfile={}", place.as_child("run/password").display()));
    command.args(["-U", OWNER, "-A", "scram-sha-256", "-E", "UTF8", "--data-checksums"]);
    command.arg(format!("--locale={locale}"));
    command.current_dir("/");
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.map_err(|error| StartError::Initdb { said: error.to_string() })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(StartError::Initdb { said: log::last_words(&output.stderr) })
    }
}

/// A program of Postgres: as the account, with a bare environment, tied to our life.
pub fn program(place: &Place, path: &Path, at_our_end: tether::Signal) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    if let Some(account) = &place.account {
        command.uid(account.uid).gid(account.gid);
    }
    tether::prepare(&mut command, at_our_end, place.inherit());
    command
}

/// Writes a small file whole; only its owner may read it: the account of `owner`, or ourselves.
fn write(path: &Path, text: &str, owner: Option<&Place>) -> Result<(), StartError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file_error(path, "cannot be replaced")(error));
        }
        _ => {}
    }
    let written = || {
        // A new file, or none: in the account's folder a link could be waiting.
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        if let Some(account) = owner.and_then(|place| place.account.as_ref()) {
            account::give_file(&file, account)?;
        }
        file.sync_all()
    };
    written().map_err(file_error(path, "cannot be written"))
}
