//! What a run tells: text for people, and one JSON object a line for machines.
//!
//! The form of the lines is published (docs/verify.md). Findings are told as they come, so that a run
//! which is cut short has told what it found, and nothing is kept.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Finding, Kind, Outcome, Tally, VerifyError};
use crate::tenancy::PartitionId;

/// Where a form of the report goes.
pub type Output = Box<dyn Write + Send>;

/// Writes the report of a run.
#[derive(Default)]
pub struct Report {
    /// For people.
    pub text: Option<Output>,
    /// For machines.
    pub lines: Option<Output>,
    damage: BTreeMap<Kind, u64>,
    partitions: u64,
}

impl Report {
    /// A report to one or two places.
    pub fn new(text: Option<Output>, lines: Option<Output>) -> Self {
        Self { text, lines, ..Self::default() }
    }

    /// Number of findings so far.
    pub fn damage(&self) -> u64 {
        self.damage.values().sum()
    }

    pub(super) fn begin(&mut self, bytes: bool) -> io::Result<()> {
        let depth = if bytes { "full" } else { "quick" };
        self.line(json!({
            "type": "begin",
            "version": env!("CARGO_PKG_VERSION"),
            "depth": depth,
            "at": now(),
        }))
    }

    pub(super) fn finding(&mut self, partition: &PartitionId, finding: &Finding) -> io::Result<()> {
        *self.damage.entry(finding.kind).or_default() += 1;
        if let Some(text) = &mut self.text {
            writeln!(text, "{partition}: {finding}")?;
        }
        let mut line = json!({
            "type": "finding",
            "partition": partition.as_str(),
            "kind": finding.kind.name(),
        });
        let blob = finding.blob.map(|blob| blob.to_string());
        for (name, value) in [
            ("study", finding.study.as_deref().map(Value::from)),
            ("series", finding.series.as_deref().map(Value::from)),
            ("instance", finding.instance.as_deref().map(Value::from)),
            ("watermark", finding.watermark.map(Value::from)),
            ("blob", blob.map(Value::from)),
            ("sequence", finding.sequence.map(Value::from)),
            ("detail", finding.detail.as_deref().map(Value::from)),
            ("advice", Some(finding.kind.advice().into())),
        ] {
            if let Some(value) = value {
                line[name] = value;
            }
        }
        self.line(line)
    }

    pub(super) fn partition(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.partitions += 1;
        let Outcome { partition, tally, damage } = outcome;
        if let Some(text) = &mut self.text {
            let found: u64 = damage.values().sum();
            let verdict = match found {
                0 => "clean".to_owned(),
                1 => "1 finding".to_owned(),
                more => format!("{more} findings"),
            };
            writeln!(text, "{partition}: {verdict}; {}", seen(tally))?;
        }
        self.line(json!({
            "type": "partition",
            "partition": partition.as_str(),
            "checked": {
                "studies": tally.studies,
                "series": tally.series,
                "instances": tally.instances,
                "blobs": tally.blobs,
                "bytes": tally.bytes,
                "objects": tally.objects,
                "events": tally.events,
            },
            "orphans": {
                "blobs": tally.orphans,
                "bytes": tally.orphan_bytes,
                "overdue": tally.orphans_overdue,
            },
            "damage": counts(damage),
        }))
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        let found = self.damage();
        if let Some(text) = &mut self.text {
            match found {
                0 => writeln!(text, "Clean.")?,
                _ => {
                    writeln!(text, "Damage found. What to do:")?;
                    for (kind, count) in &self.damage {
                        writeln!(text, "  {kind} ({count}): {}", kind.advice())?;
                    }
                }
            }
            text.flush()?;
        }
        self.line(json!({
            "type": "end",
            "clean": found == 0,
            "partitions": self.partitions,
            "damage": counts(&self.damage),
            "at": now(),
        }))
    }

    pub(super) fn failed(&mut self, error: &VerifyError) -> io::Result<()> {
        let line = json!({ "type": "failed", "reason": error.to_string(), "at": now() });
        self.line(line)
    }

    fn line(&mut self, line: Value) -> io::Result<()> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        writeln!(lines, "{line}")?;
        lines.flush()
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("damage", &self.damage).finish_non_exhaustive()
    }
}

fn counts(damage: &BTreeMap<Kind, u64>) -> Value {
    damage.iter().map(|(kind, count)| (kind.name().to_owned(), Value::from(*count))).collect()
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

fn seen(tally: &Tally) -> String {
    let mut text = format!(
        "{} studies, {} series, {} instances, {} blobs ({} read), {} events",
        tally.studies,
        tally.series,
        tally.instances,
        tally.blobs,
        bytesize::ByteSize(tally.bytes),
        tally.events,
    );
    if tally.orphans > 0 {
        let size = bytesize::ByteSize(tally.orphan_bytes);
        text += &format!("; {} objects without rows ({size})", tally.orphans);
        text += &format!(", {} of them for the sweeper to remove", tally.orphans_overdue);
    }
    text
}
