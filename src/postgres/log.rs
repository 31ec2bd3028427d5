//! The log file of the private Postgres, kept from growing without end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{StartError, file_error};

/// Bytes from which the log is set aside. With the one set aside, at most about twice this is kept.
const LARGE: u64 = 8 << 20;

/// The log of one cluster: `log`, and `log.1` before it.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// The log of a state folder.
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("log") }
    }

    /// Opens it for a child to append to.
    ///
    /// # Errors
    /// [`StartError::File`].
    pub fn open(&self) -> Result<File, StartError> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        options.open(&self.path).map_err(file_error(&self.path, "cannot be written"))
    }

    /// Bytes now in it.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map(|found| found.len()).unwrap_or(0)
    }

    /// Sets a large log aside. The server keeps its open file, so the content is copied and the
    /// file cut to nothing; lines written in between are lost, which is better than a full disk.
    pub fn bound(&self) -> io::Result<()> {
        if self.length() > LARGE {
            let aside = self.path.with_extension("1");
            fs::copy(&self.path, aside)?;
            OpenOptions::new().write(true).open(&self.path)?.set_len(0)?;
        }
        Ok(())
    }

    /// What was said last since the log was `from` bytes long: some lines, joined.
    pub fn said_since(&self, from: u64) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(1 << 16).read_to_end(&mut text)
        });
        match read {
            Ok(_) => last_words(&text),
            Err(_) => format!("see {}", self.path.display()),
        }
    }
}

/// The last lines of what a program said.
pub fn last_words(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(4)..];
    if last.is_empty() { "it said nothing".to_owned() } else { last.join(" | ") }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_large_log_is_set_aside_while_it_is_open() {
        let state = tempfile::tempdir().unwrap();
        let log = Log::new(state.path());
        let mut writer = log.open().unwrap();
        writer.write_all(b"small\n").unwrap();
        log.bound().unwrap();
        assert_eq!(log.length(), 6);
        writer.write_all(&vec![b'x'; LARGE as usize]).unwrap();
        log.bound().unwrap();
        assert_eq!(log.length(), 0);
        assert_eq!(fs::metadata(state.path().join("log.1")).unwrap().len(), LARGE + 6);
        writer.write_all(b"a\nb\n\nc\nd\ne\n").unwrap();
        assert_eq!(log.said_since(2), "b | c | d | e");
        assert_eq!(log.said_since(log.length()), "it said nothing");
    }
}
