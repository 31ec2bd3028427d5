//! Log lines: to standard error, for people or for machines.

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, util::TryInitError};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level or directives do not parse.
    #[error("the log level is not understood")]
    Level(#[source] ParseError),
    /// Something else receives the process's logs already.
    #[error("logs are set up already")]
    Twice(#[source] TryInitError),
}

/// Sends this process's logs to standard error: coloured lines on a terminal, plain lines elsewhere,
/// or one JSON object a line. `directives` as in `log.level`. Libraries that log statements or
/// requests are kept at `warn` unless a directive names them: what they say may hold patients' data.
///
/// # Errors
/// See [`LogError`].
pub fn init(json: bool, directives: &str) -> Result<(), LogError> {
    use std::io::IsTerminal;

    let filter = filter(directives).map_err(LogError::Level)?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let set = if json {
        registry.with(lines.json().flatten_event(true).with_current_span(true)).try_init()
    } else {
        registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()
    };
    set.map_err(LogError::Twice)
}

/// What libraries say by default, put before the directives that may override it.
const LIBRARIES: &str = "sqlx=warn,hyper=warn,hyper_util=warn,reqwest=warn,object_store=warn,h2=warn,rustls=warn,tower_http=warn";

fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    // Checked alone first, so that an error is about what was configured.
    EnvFilter::builder().parse(directives)?;
    EnvFilter::builder().parse(format!("{LIBRARIES},{directives}"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written with some directives.
    fn written(directives: &str, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(filter(directives).unwrap());
        tracing::subscriber::with_default(subscriber.with(lines), log);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    fn statement() {
        tracing::debug!(target: "sqlx::query", "select 1");
        tracing::info!("ours");
    }

    #[test]
    fn libraries_stay_quiet_unless_named() {
        assert!(filter("info,=").is_err());
        let debug = written("debug", statement);
        assert!(debug.contains("ours") && !debug.contains("select"), "{debug}");
        assert!(written("info,sqlx=debug", statement).contains("select 1"));
        assert!(written("warn", statement).is_empty());
    }
}
