//! Arguments and help texts.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  collimator
      Serve on 127.0.0.1:8080 with a private Postgres and a local blob folder.
  collimator serve --listen 127.0.0.1:9000 --data-dir ./archive
      The same elsewhere.
  collimator serve --config /etc/collimator.toml
      Serve as the file says, for example with a Postgres and an S3 bucket of yours.
  collimator config check --config /etc/collimator.toml
      See what would be in effect, and what is wrong.
  collimator verify --rate 100MiB --report verify.jsonl
      Hold rows, blobs and change feeds against each other, beside a running server or without.
  collimator import /mnt/archive --partition clinic1 --report import.jsonl
      Store every DICOM file below a folder, beside a running server or without.
  collimator export /mnt/usb --layout dicom --query 'PatientID=123'
      Copy what a query finds to a folder, with a DICOMDIR; --deidentify hides who it is.
  collimator key create --partition microsoft.default --role partition-admin
      Make the first API key of a partition.
  collimator audit verify
      Find out whether anybody tampered with the audit log.

Environment:
  COLLIMATOR__SECTION__KEY   Sets a key of the configuration, for example
                             COLLIMATOR__DATABASE__URL=postgres://…; overrides the file.
  HOME, XDG_DATA_HOME        Where data lies unless --data-dir or data.dir says otherwise.

Exit codes:
  0  done; for serve: stopped by SIGTERM or SIGINT after requests in flight had ended
  1  failed; the reason is on standard error; for verify, import and export also: wrong
     arguments or configuration
  2  wrong arguments or configuration; for verify: damage was found; for import: everything was
     gone through, and some files could not be stored; for export: some of what was asked for is
     not there, or could not or may not be exported";

/// A multi-tenant DICOMweb server
///
/// Stores, retrieves, searches and deletes DICOM over HTTP (DICOM PS3.18), every request inside its
/// own partition. Without any configuration it runs a private Postgres and keeps everything in one
/// folder.
#[derive(Debug, Parser)]
#[command(name = "collimator", version, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Folder for everything kept on this machine [default: as root /var/lib/collimator, else
    /// collimator in your data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Listen on an address that others can reach although authentication is off
    #[arg(long, global = true)]
    pub insecure_no_auth: bool,
}

#[derive(Debug, PartialEq, Subcommand)]
pub(super) enum Command {
    /// Serve requests until SIGTERM or SIGINT (the default)
    Serve,
    /// Bring the database's schema up to date, then exit
    Migrate,
    /// Hold rows, blobs, bytes and change feeds against each other; changes nothing
    Verify(VerifyOptions),
    /// Store the DICOM files of a folder or a bucket; what is there already costs little
    Import(ImportOptions),
    /// Copy instances to a folder or a bucket, as they are, as a File-set, or de-identified
    Export(ExportOptions),
    /// Make, list or disable API keys, also the first one of an archive
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Look at the audit log
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Args, Debug, PartialEq)]
pub(super) struct VerifyOptions {
    /// Only this partition; may be given several times
    #[arg(long, value_name = "ID")]
    pub partition: Vec<String>,
    /// Leave out the bytes of instances
    #[arg(long)]
    pub quick: bool,
    /// Read no more than this in a second, for example 100MiB
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    pub rate: Option<ByteSize>,
    /// Report as JSON, one object a line, in place of text
    #[arg(long, conflicts_with = "report")]
    pub json: bool,
    /// Write such a report to a file besides
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

#[derive(Args, Debug, PartialEq)]
pub(super) struct ImportOptions {
    /// A folder, a file, or s3://BUCKET/PREFIX (credentials from the environment, as AWS_…)
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// The partition to store in
    #[arg(long, value_name = "ID", default_value = "microsoft.default")]
    pub partition: String,
    /// Make the partition where it does not exist
    #[arg(long)]
    pub create_partition: bool,
    /// Look at everything and store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write what became of each file to a file, as JSON, one object a line
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Batches that are read and stored at a time [default: import.at_once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub at_once: Option<u16>,
}

#[derive(Args, Debug, PartialEq)]
pub(super) struct ExportOptions {
    /// A folder, or s3://BUCKET/PREFIX (credentials from the environment, as AWS_…), that has no
    /// other export; one that was cut short goes on
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// Studies, series and instances: STUDY, STUDY/SERIES or STUDY/SERIES/INSTANCE, by their UIDs
    #[arg(value_name = "UIDS", required_unless_present = "query", conflicts_with = "query")]
    pub resources: Vec<String>,
    /// What a search finds, in place of UIDs, for example 'PatientID=123&StudyDate=2024-'; '' is
    /// everything
    #[arg(long, value_name = "QUERY")]
    pub query: Option<String>,
    /// What the query searches for
    #[arg(long, value_name = "LEVEL", default_value = "studies", conflicts_with = "resources",
        value_parser = ["studies", "series", "instances"])]
    pub level: String,
    /// The partition to export from
    #[arg(long, value_name = "ID", default_value = "microsoft.default")]
    pub partition: String,
    /// How files lie there: by their UIDs, or as a File-set
    #[arg(long, value_name = "LAYOUT", default_value = "as-is", value_parser = ["as-is", "dicom"])]
    pub layout: String,
    /// Write no DICOMDIR with a File-set
    #[arg(long)]
    pub no_dicomdir: bool,
    /// De-identify instances, with the options of the configuration
    #[arg(long)]
    pub deidentify: bool,
    /// An option in place of the configured one, for example dates=shift or retain_uids=true; may be
    /// given several times
    #[arg(long = "option", value_name = "NAME=VALUE", requires = "deidentify")]
    pub options: Vec<String>,
    /// Files that are written at a time [default: export.at_once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub at_once: Option<u16>,
}

/// A size that lets something pass: with none, nothing would ever end.
fn rate(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size.as_u64() == 0 { Err("has to be above zero".to_owned()) } else { Ok(size) }
}

#[derive(Debug, PartialEq, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key and print it: it is shown this once
    Create {
        /// The partition that it is good for
        #[arg(long, value_name = "ID")]
        partition: String,
        /// A role that it has; may be given several times
        #[arg(long, value_name = "ROLE", required = true)]
        role: Vec<String>,
        /// What it is for
        #[arg(long, value_name = "NAME", default_value = "")]
        name: String,
        /// How long it is good, for example 90days
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
        /// Make the partition where it does not exist
        #[arg(long)]
        create_partition: bool,
    },
    /// List the keys of a partition, a line each
    List {
        /// The partition
        #[arg(long, value_name = "ID")]
        partition: String,
    },
    /// Have a key not taken any more; servers follow within auth.cache
    Disable {
        /// The partition that it is good for
        #[arg(long, value_name = "ID")]
        partition: String,
        /// The id of the key, as `list` shows it
        #[arg(value_name = "KEY")]
        key: String,
    },
}

#[derive(Debug, PartialEq, Subcommand)]
pub(super) enum AuditCommand {
    /// Make the chain of each partition anew from what is kept, and tell where it breaks
    Verify {
        /// Only this partition, or _platform; may be given several times
        #[arg(long, value_name = "ID")]
        partition: Vec<String>,
        /// Report as JSON, one object a line, in place of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, PartialEq, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the effective configuration, secrets masked, or all that is wrong with it
    Check,
}
