//! `collimator audit verify`: the audit log of an archive that is there, beside whoever serves it.
//!
//! Holds: nothing is changed. Absent: what is looked at (`verify::audit_log`).

use anyhow::Context;

use super::beside::with_database;
use crate::{
    config::{Config, LogFormat},
    index::Db,
    telemetry,
    tenancy::PartitionId,
    verify::{AuditAsked, AuditVerified, audit_log},
};

/// `collimator audit verify`: makes the chains anew from what is kept. Says whether all were as they
/// should be.
///
/// # Errors
/// Whatever kept it from looking at everything.
pub fn audit(config: Config, asked: AuditAsked) -> anyhow::Result<bool> {
    telemetry::logs::init(config.log.format == LogFormat::Json, &config.log.level)?;
    with_database(&config, async |db| look_through(db, &asked).await)
}

async fn look_through(db: &Db, asked: &AuditAsked) -> anyhow::Result<bool> {
    let listed = db.registry().await?.partition_list().await?;
    let mut all: Vec<PartitionId> = listed.into_iter().map(|partition| partition.id).collect();
    // The default partition has a log before it holds anything.
    all.extend([PartitionId::default(), PartitionId::platform()]);
    all.sort();
    all.dedup();
    for wanted in &asked.partitions {
        let is_known = all.iter().any(|id| id.as_str() == wanted);
        anyhow::ensure!(is_known, "there is no partition {wanted:?}");
    }
    let mut is_sound = true;
    for id in all {
        let is_wanted = |wanted: &String| wanted == id.as_str();
        if !asked.partitions.is_empty() && !asked.partitions.iter().any(is_wanted) {
            continue;
        }
        let verified = audit_log(db, &id).await;
        let verified = verified.with_context(|| format!("the log of {id} cannot be read"))?;
        is_sound &= verified.findings.is_empty();
        tell(&verified, asked.json);
    }
    Ok(is_sound)
}

/// One log, on standard output.
fn tell(verified: &AuditVerified, json: bool) {
    if json {
        println!("{}", verified.shown());
        return;
    }
    let AuditVerified { partition, end, links, begins_after, findings } = verified;
    let hash: String = end.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let state = if findings.is_empty() { "sound" } else { "BROKEN" };
    println!(
        "{partition}: {state}, {links} links after {begins_after}, up to {} {hash}",
        end.number
    );
    for found in findings {
        let number = found.number.map(|number| format!(", number {number}")).unwrap_or_default();
        let event = found.event.map(|event| format!(", event {event}")).unwrap_or_default();
        println!("  {}{number}{event}", found.what.as_str());
    }
}
