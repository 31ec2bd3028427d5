//! How far a command is: on a terminal in a line that changes, else in lines now and then.

use std::{
    collections::BTreeMap,
    io::Write as _,
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Tells how far it is.
pub(super) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    told: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar, begun: Instant::now(), told: Instant::now() }
    }
}

impl Progress {
    /// Time since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64().max(0.001)
    }

    /// A line that stays.
    pub(super) fn above(&self, name: &str, reason: &str) {
        // Names come from outside: a terminal must take them for text.
        let line = format!("{}: {reason}", name.escape_debug());
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// The line that changes.
    pub(super) fn show(&mut self, line: &str) {
        if !self.bar.is_hidden() {
            self.bar.set_message(line.to_owned());
            self.bar.tick();
        } else if self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            eprintln!("{line}");
        }
    }

    /// The last line, and how often there was which reason.
    pub(super) fn end(&self, line: &str, reasons: &BTreeMap<String, u64>) {
        self.bar.finish_and_clear();
        let mut out = std::io::stdout();
        // Whoever asked may have closed the pipe since.
        let _ = writeln!(out, "{line}");
        for (reason, count) in reasons {
            let _ = writeln!(out, "  {count} times: {reason}");
        }
    }
}

/// How fast files and bytes went.
pub(super) fn speed(files: u64, bytes: u64, seconds: f64) -> String {
    format!(
        "{} ({:.0} files/s, {}/s)",
        ByteSize(bytes),
        files as f64 / seconds,
        ByteSize((bytes as f64 / seconds) as u64),
    )
}
