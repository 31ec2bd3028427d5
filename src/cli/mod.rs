//! The command line: what was asked for, with which configuration, and the exit code.
//!
//! Owns the arguments, the help texts, and the rule that an address that strangers can reach needs
//! a word while authentication is off. Absent: what the commands do; they are handed in as
//! [`Entries`].

mod arguments;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::Parser;

use crate::{
    app::{ExportAsked, ImportAsked, KeyAsked},
    config::{Config, ConfigErrors, Sources},
    verify::{Asked, AuditAsked},
};
use arguments::{
    Arguments, AuditCommand, Command, ConfigCommand, ExportOptions, ImportOptions, KeyCommand,
    Options, VerifyOptions,
};

/// What the commands do. Each blocks until it is done.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    /// `collimator serve`: returns after a clean drain.
    pub serve: fn(Config) -> anyhow::Result<()>,
    /// `collimator migrate`.
    pub migrate: fn(Config) -> anyhow::Result<()>,
    /// `collimator verify`: says whether nothing was wrong.
    pub verify: fn(Config, Asked) -> anyhow::Result<bool>,
    /// `collimator import`: says whether no file failed.
    pub import: fn(Config, ImportAsked) -> anyhow::Result<bool>,
    /// `collimator export`: says whether all that was asked for was exported.
    pub export: fn(Config, ExportAsked) -> anyhow::Result<bool>,
    /// `collimator key`.
    pub keys: fn(Config, KeyAsked) -> anyhow::Result<()>,
    /// `collimator audit verify`: says whether nothing was wrong.
    pub audit: fn(Config, AuditAsked) -> anyhow::Result<bool>,
}

/// Exit codes; the help text tells them.
const FAILED: u8 = 1;
const WRONG: u8 = 2;
/// Of `verify`, `import` and `export`, which keep it for this alone: what is wrong otherwise is [`FAILED`] there.
const DAMAGED: u8 = 2;

/// Why a command was not carried out.
enum Refusal {
    /// The configuration is wrong.
    Config(ConfigErrors),
    /// The address is not allowed without authentication.
    Exposed(std::net::SocketAddr),
    /// It was tried and failed.
    Failed(anyhow::Error),
}

/// Reads the arguments (the program's name first) and this process's environment, does what they
/// say, and tells errors on standard error.
pub fn run(arguments: impl IntoIterator<Item = OsString>, entries: Entries) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let looks =
        arguments.iter().any(|word| word == "verify" || word == "import" || word == "export");
    let wrong = ExitCode::from(if looks { FAILED } else { WRONG });
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        // Help and version come here too, with an exit code of 0.
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { wrong } else { ExitCode::SUCCESS };
        }
    };
    let environment = std::env::vars_os().collect();
    let refusal = match execute(parsed, environment, &mut std::io::stdout(), entries) {
        Ok(code) => return ExitCode::from(code),
        Err(refusal) => refusal,
    };
    match refusal {
        Refusal::Config(errors) => {
            eprintln!("collimator: the configuration is wrong:\n{}", indented(&errors.to_string()));
            wrong
        }
        Refusal::Exposed(address) => {
            eprintln!("collimator: {}", exposed(address));
            ExitCode::from(WRONG)
        }
        Refusal::Failed(error) => {
            // The whole chain: each link says only what it knows.
            eprintln!("collimator: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn execute(
    arguments: Arguments,
    environment: Vec<(OsString, OsString)>,
    output: &mut dyn Write,
    entries: Entries,
) -> Result<u8, Refusal> {
    let insecure = arguments.options.insecure_no_auth;
    let config = Config::load(&sources(arguments.options, environment)).map_err(Refusal::Config)?;
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            guard(&config, insecure)?;
            (entries.serve)(config).map_err(Refusal::Failed)?;
        }
        Command::Migrate => (entries.migrate)(config).map_err(Refusal::Failed)?,
        Command::Verify(options) => {
            let is_clean = (entries.verify)(config, asked(options)).map_err(Refusal::Failed)?;
            return Ok(if is_clean { 0 } else { DAMAGED });
        }
        Command::Import(options) => {
            let is_whole =
                (entries.import)(config, import_asked(options)).map_err(Refusal::Failed)?;
            return Ok(if is_whole { 0 } else { DAMAGED });
        }
        Command::Export(options) => {
            let is_whole =
                (entries.export)(config, export_asked(options)).map_err(Refusal::Failed)?;
            return Ok(if is_whole { 0 } else { DAMAGED });
        }
        Command::Key { command } => {
            (entries.keys)(config, keys(command)).map_err(Refusal::Failed)?;
        }
        Command::Audit { command: AuditCommand::Verify { partition, json } } => {
            let asked = AuditAsked { partitions: partition, json };
            let is_sound = (entries.audit)(config, asked).map_err(Refusal::Failed)?;
            return Ok(if is_sound { 0 } else { DAMAGED });
        }
        Command::Config { command: ConfigCommand::Check } => {
            let shown = output.write_all(config.effective().as_bytes());
            shown.map_err(|error| Refusal::Failed(error.into()))?;
            guard(&config, insecure)?;
        }
    }
    Ok(0)
}

fn asked(options: VerifyOptions) -> Asked {
    let VerifyOptions { partition, quick, rate, json, report } = options;
    Asked { partitions: partition, quick, rate: rate.map(|rate| rate.as_u64()), json, report }
}

fn import_asked(options: ImportOptions) -> ImportAsked {
    let ImportOptions { source, partition, create_partition, dry_run, report, at_once } = options;
    let (with_partition, is_dry) = (create_partition, dry_run);
    let at_once = at_once.map(usize::from);
    ImportAsked { source, partition, with_partition, is_dry, report, at_once }
}

fn export_asked(options: ExportOptions) -> ExportAsked {
    let ExportOptions {
        destination,
        resources,
        query,
        level,
        partition,
        layout,
        no_dicomdir,
        deidentify,
        options,
        at_once,
    } = options;
    ExportAsked {
        destination,
        resources,
        query,
        level,
        partition,
        layout,
        dicomdir: !no_dicomdir,
        deidentify: deidentify.then_some(options),
        at_once: at_once.map(usize::from),
    }
}

fn keys(command: KeyCommand) -> KeyAsked {
    match command {
        KeyCommand::Create { partition, role, name, expires, create_partition } => {
            let with_partition = create_partition;
            KeyAsked::Create { partition, roles: role, name, expires, with_partition }
        }
        KeyCommand::List { partition } => KeyAsked::List { partition },
        KeyCommand::Disable { partition, key } => KeyAsked::Disable { partition, key },
    }
}

/// The layers above the defaults.
fn sources(options: Options, environment: Vec<(OsString, OsString)>) -> Sources {
    let listen = options.listen.map(|text| ("server.listen", "--listen", text));
    let data_dir = options.data_dir.map(|text| ("data.dir", "--data-dir", text));
    Sources {
        file: options.config,
        environment,
        flags: listen.into_iter().chain(data_dir).collect(),
    }
}

/// Refuses an address that is not loopback while authentication is off.
fn guard(config: &Config, insecure: bool) -> Result<(), Refusal> {
    let is_open = |address: &std::net::SocketAddr| !address.ip().to_canonical().is_loopback();
    let mut addresses = [Some(config.server.listen), config.dimse.listen].into_iter().flatten();
    match addresses.find(is_open).filter(|_| !insecure && !config.auth.enabled) {
        Some(address) => Err(Refusal::Exposed(address)),
        None => Ok(()),
    }
}

fn exposed(address: std::net::SocketAddr) -> String {
    format!(
        "refusing to listen on {address}: authentication is off, so whoever reaches this address \
         could read and delete everything. Listen on a loopback address such as 127.0.0.1:{}, turn on \
         auth.enabled, or give --insecure-no-auth if something else keeps strangers out.",
        address.port()
    )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
