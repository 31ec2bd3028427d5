//! `[audit]`: the log of who did what.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::tenancy::PartitionId;

use super::reader::Reader;

const DAY: u64 = 24 * 3600;

/// Which reads are on the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditReads {
    /// Those of principals: none while authentication is off.
    Authenticated,
    /// All.
    Always,
    /// None.
    Never,
}

/// `[audit]`: what is recorded besides changes, for how long, and where it is sent.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// `audit.reads`: which reads are recorded.
    pub reads: AuditReads,
    /// `audit.queries`: whether the query of a search is.
    pub queries: bool,
    /// `audit.queue`: most events that wait to be written.
    pub queue: usize,
    /// `audit.retention`: age at which events are removed; zero: never.
    pub retention: Duration,
    /// `audit.partition_retention`: the same of single partitions.
    pub partition_retention: BTreeMap<PartitionId, Duration>,
    /// `audit.lines`: the file that events are written to, one a line; `stdout`: standard output.
    pub lines: Option<String>,
    /// `audit.syslog`: host and port of the receiver of DICOM audit messages.
    pub syslog: Option<(String, u16)>,
    /// `audit.syslog_ca`: certificates that the receiver's may be from, as PEM.
    pub syslog_ca: Option<PathBuf>,
    /// `audit.syslog_certificate`: what the server shows the receiver, as PEM.
    pub syslog_certificate: Option<PathBuf>,
    /// `audit.syslog_key`: the key of that.
    pub syslog_key: Option<PathBuf>,
    /// `audit.source`: what this server is called in DICOM audit messages.
    pub source: String,
}

impl AuditConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let listed = r.list("audit.partition_retention");
        let of_partitions: Option<BTreeMap<_, _>> = listed.iter().map(|text| pair(text)).collect();
        if of_partitions.is_none() {
            let expected = "a list of texts such as \"clinic1:2190days\"; at least a day, or 0s";
            r.refuse("audit.partition_retention", expected);
        }
        let syslog = r.optional("audit.syslog");
        let address = syslog.as_deref().map(address);
        if address == Some(None) {
            r.refuse("audit.syslog", "a host and a port, such as logs.example.org:6514");
        }
        let config = Self {
            reads: r.choice(
                "audit.reads",
                &[
                    ("authenticated", AuditReads::Authenticated),
                    ("always", AuditReads::Always),
                    ("never", AuditReads::Never),
                ],
            ),
            queries: r.flag("audit.queries"),
            queue: r.count("audit.queue", 1..=1_000_000),
            retention: r.time("audit.retention", 0..=100 * 366 * DAY),
            partition_retention: of_partitions.unwrap_or_default(),
            lines: r.optional("audit.lines"),
            syslog: address.flatten(),
            syslog_ca: r.path("audit.syslog_ca"),
            syslog_certificate: r.path("audit.syslog_certificate"),
            syslog_key: r.path("audit.syslog_key"),
            source: r.text("audit.source"),
        };
        if !is_retention(config.retention) {
            r.refuse("audit.retention", "a time of at least a day, or 0s");
        }
        if config.syslog.is_some() && config.syslog_ca.is_none() {
            r.conflict("audit.syslog needs audit.syslog_ca: who the receiver may be");
        }
        if config.syslog_certificate.is_some() != config.syslog_key.is_some() {
            r.conflict("audit.syslog_certificate and audit.syslog_key go together");
        }
        config
    }
}

fn is_retention(time: Duration) -> bool {
    time.is_zero() || time >= Duration::from_secs(DAY)
}

fn pair(text: &str) -> Option<(PartitionId, Duration)> {
    let (partition, time) = text.split_once(':')?;
    let time = humantime::parse_duration(time).ok().filter(|time| is_retention(*time))?;
    let partition = match partition {
        platform if platform == PartitionId::platform().as_str() => PartitionId::platform(),
        other => other.parse().ok()?,
    };
    Some((partition, time))
}

fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_of_partitions_is_read() {
        let day = Duration::from_secs(DAY);
        assert_eq!(pair("Clinic1:2days"), Some(("clinic1".parse().unwrap(), 2 * day)));
        assert_eq!(pair("_platform:0s"), Some((PartitionId::platform(), Duration::ZERO)));
        for wrong in ["clinic1", "clinic1:1h", "_other:2days", "clinic1:soon"] {
            assert_eq!(pair(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(address("logs:6514"), Some(("logs".to_owned(), 6514)));
        assert_eq!(address("[::1]:6514"), Some(("::1".to_owned(), 6514)));
        for wrong in ["logs", "logs:", ":6514", "logs:0", "logs:65536"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
