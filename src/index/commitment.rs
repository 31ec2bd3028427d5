//! Requests for storage commitment: what is to be checked, how far that is, and what came of it.
//!
//! A request is a row with a lease, as a pass of the scrubber is: outcomes are appended under the
//! lease, and who has lost it appends nothing any more. Holds: a Transaction UID is taken once.
//! Absent: what is looked at of an instance (`verify`), when and how fast (the worker).

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    IndexError, PartitionTx, VerifyPlace,
    lookup::{one, series_uid_of_i, study_uid_of_i},
};

/// How long a claim holds without a sign of life.
const LEASE: Duration = Duration::from_secs(60);

const OPEN: &str = "-- commitment_open
    SELECT count(*) FROM (SELECT FROM commitment
        WHERE partition_id = $1 AND ended_at IS NULL AND created_at > '-infinity'
        ORDER BY created_at LIMIT $2) x";

const ADD: &str = "-- commitment_add
    INSERT INTO commitment (partition_id, transaction_uid, studies, series, sop_classes, instances)
    VALUES ($1, $2, $3::text[], $4::text[], $5::text[], $6::text[])
    ON CONFLICT DO NOTHING
    RETURNING created_at";

/// `$3`: seconds for which a result is kept.
const STATE: &str = concat!(
    "-- commitment_state
    SELECT c.ended_at IS NOT NULL, c.ended_at <= now() - make_interval(secs => $3)
    FROM ",
    one!("ended_at", "commitment", "transaction_uid", "$2"),
    " c"
);

const RESULT: &str = concat!(
    "-- commitment_result
    SELECT c.studies, c.series, c.sop_classes, c.instances, c.outcomes
    FROM ",
    one!("*", "commitment", "transaction_uid", "$2"),
    " c
    WHERE c.ended_at IS NOT NULL"
);

const CLAIM: &str = "-- commitment_claim
    UPDATE commitment t SET lease_owner = $2, lease_until = now() + make_interval(secs => $3)
    FROM (SELECT ctid AS at FROM commitment
        WHERE partition_id = $1 AND ended_at IS NULL AND created_at > '-infinity'
            AND (lease_until IS NULL OR lease_until <= now())
        ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED) x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.transaction_uid, cardinality(t.outcomes), cardinality(t.instances)";

const SLICE: &str = concat!(
    "-- commitment_slice
    SELECT c.studies[$3:$4], c.series[$3:$4], c.sop_classes[$3:$4], c.instances[$3:$4]
    FROM ",
    one!("*", "commitment", "transaction_uid", "$2"),
    " c"
);

/// Where the instances of some UIDs are.
const PLACES: &str = concat!(
    "-- commitment_places
    SELECT i.watermark, i.sop_instance_uid, ",
    study_uid_of_i!(),
    ", ",
    series_uid_of_i!(),
    ",
        i.blob_id, i.blob_offset, i.length, i.sha256, i.sop_class_uid
    FROM unnest($2::text[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "sop_instance_uid", "n.key"),
    " i
    UNION ALL SELECT i.watermark, i.sop_instance_uid, NULL, NULL, i.blob_id, i.blob_offset,
        i.length, i.sha256, i.sop_class_uid
    FROM unnest($2::text[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "non_patient_instance", "sop_instance_uid", "n.key"),
    " i"
);

/// The request `$2` that is open and `$3` holds, to be updated.
macro_rules! held {
    () => {
        "
    FROM (SELECT ctid AS at FROM commitment
        WHERE partition_id = $1 AND transaction_uid >= $2 AND transaction_uid <= $2
            AND ended_at IS NULL AND lease_owner = $3
        ORDER BY transaction_uid FOR UPDATE) x
    WHERE t.partition_id = $1 AND t.ctid = x.at
    RETURNING t.ended_at IS NOT NULL"
    };
}

const ADVANCE: &str = concat!(
    "-- commitment_advance
    UPDATE commitment t SET outcomes = t.outcomes || $4::smallint[],
        lease_until = now() + make_interval(secs => $5),
        ended_at = CASE WHEN cardinality(t.outcomes) + cardinality($4::smallint[])
            >= cardinality(t.instances) THEN now() END",
    held!()
);

const RELEASE: &str = concat!(
    "-- commitment_release
    UPDATE commitment t SET lease_owner = NULL, lease_until = NULL",
    held!()
);

const FORGET: &str = "-- commitment_forget
    DELETE FROM commitment t
    USING (SELECT ctid AS at FROM commitment
        WHERE partition_id = $1 AND ended_at <= now() - make_interval(secs => $2)
        ORDER BY ended_at) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

pub(super) const STATEMENTS: &[&str] =
    &[OPEN, ADD, STATE, RESULT, CLAIM, SLICE, PLACES, ADVANCE, RELEASE, FORGET];

/// An instance that somebody asks to have checked. All are UIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The study and the series, where they were said.
    pub parents: Option<(String, String)>,
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub instance: String,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitmentState {
    /// There is more to check.
    Open,
    /// There is a result.
    Ended,
    /// There was a result.
    Expired,
}

/// A request that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentClaim {
    transaction: String,
    owner: Uuid,
    /// Instances that were checked.
    pub done: i32,
    /// Instances that it references.
    pub all: i32,
}

impl PartitionTx {
    /// How many requests are open, counted up to `limit`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn commitments_open(&mut self, limit: i64) -> Result<i64, IndexError> {
        let (query, conn) = self.statement(OPEN);
        Ok(query.bind(limit).fetch_one(conn).await?.try_get(0)?)
    }

    /// Takes a request, whose references all have parents or none; false where the Transaction UID
    /// was used before.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is taken before [`PartitionTx::commit`].
    pub async fn commitment_add(
        &mut self,
        transaction: &str,
        references: &[Reference],
    ) -> Result<bool, IndexError> {
        let parents: Option<(Vec<&str>, Vec<&str>)> = references
            .iter()
            .map(|one| one.parents.as_ref().map(|(study, series)| (&**study, &**series)))
            .collect();
        let (studies, series) = parents.unzip();
        let classes: Vec<&str> = references.iter().map(|one| &*one.sop_class).collect();
        let instances: Vec<&str> = references.iter().map(|one| &*one.instance).collect();
        let (query, conn) = self.statement(ADD);
        let query = query.bind(transaction).bind(studies).bind(series).bind(classes);
        Ok(query.bind(instances).fetch_optional(conn).await?.is_some())
    }

    /// How far a request is whose result is kept for `keep`; `None`: there is none.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn commitment_state(
        &mut self,
        transaction: &str,
        keep: Duration,
    ) -> Result<Option<CommitmentState>, IndexError> {
        let (query, conn) = self.statement(STATE);
        let query = query.bind(transaction).bind(keep.as_secs_f64());
        let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
        let expired: Option<bool> = row.try_get(1)?;
        Ok(Some(match (row.try_get(0)?, expired) {
            (false, _) => CommitmentState::Open,
            (true, Some(true)) => CommitmentState::Expired,
            (true, _) => CommitmentState::Ended,
        }))
    }

    /// What came of a request that has ended: each reference with 0, or why it failed.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn commitment_result(
        &mut self,
        transaction: &str,
    ) -> Result<Vec<(Reference, u16)>, IndexError> {
        let (query, conn) = self.statement(RESULT);
        let Some(row) = query.bind(transaction).fetch_optional(conn).await? else {
            return Ok(Vec::new());
        };
        let outcomes: Vec<i16> = row.try_get(4)?;
        let outcomes = outcomes.into_iter().map(i16::cast_unsigned);
        Ok(references(&row)?.into_iter().zip(outcomes).collect())
    }

    /// Claims the oldest request that is open and nobody works on.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is claimed before [`PartitionTx::commit`].
    pub async fn commitment_claim(
        &mut self,
        owner: Uuid,
    ) -> Result<Option<CommitmentClaim>, IndexError> {
        let (query, conn) = self.statement(CLAIM);
        let row = query.bind(owner).bind(LEASE.as_secs_f64()).fetch_optional(conn).await?;
        row.map(|row| {
            let (transaction, done, all) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(CommitmentClaim { transaction, owner, done, all })
        })
        .transpose()
    }

    /// The next references of a request that was claimed.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn commitment_slice(
        &mut self,
        claim: &CommitmentClaim,
        limit: i32,
    ) -> Result<Vec<Reference>, IndexError> {
        let (query, conn) = self.statement(SLICE);
        let query = query.bind(&*claim.transaction);
        let query = query.bind(claim.done + 1).bind(claim.done.saturating_add(limit));
        let row = query.fetch_optional(conn).await?;
        row.map_or(Ok(Vec::new()), |row| references(&row))
    }

    /// Where some instances are, each with its SOP class; those that are not there are left out.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn commitment_places(
        &mut self,
        instances: &[&str],
    ) -> Result<Vec<(VerifyPlace, String)>, IndexError> {
        let (query, conn) = self.statement(PLACES);
        let rows = query.bind(instances).fetch_all(conn).await?;
        let place = |row: &PgRow| {
            let place = VerifyPlace {
                watermark: row.try_get(0)?,
                instance: row.try_get(1)?,
                study: row.try_get(2)?,
                series: row.try_get(3)?,
                blob: row.try_get(4)?,
                offset: row.try_get(5)?,
                length: row.try_get(6)?,
                sha256: row.try_get(7)?,
            };
            Ok((place, row.try_get(8)?))
        };
        rows.iter().map(place).collect()
    }

    /// Appends outcomes to a request (none: a sign of life alone); says whether it has ended by
    /// that. `None`: the lease was lost, and the transaction must not be committed.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn commitment_advance(
        &mut self,
        claim: &CommitmentClaim,
        outcomes: &[u16],
    ) -> Result<Option<bool>, IndexError> {
        let outcomes: Vec<i16> = outcomes.iter().map(|one| one.cast_signed()).collect();
        let (query, conn) = self.statement(ADVANCE);
        let query = query.bind(&*claim.transaction).bind(claim.owner).bind(outcomes);
        let row = query.bind(LEASE.as_secs_f64()).fetch_optional(conn).await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Lets others go on with a request.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn commitment_release(&mut self, claim: &CommitmentClaim) -> Result<(), IndexError> {
        let (query, conn) = self.statement(RELEASE);
        query.bind(&*claim.transaction).bind(claim.owner).execute(conn).await?;
        Ok(())
    }

    /// Forgets requests that ended `after` ago.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn commitment_forget(&mut self, after: Duration) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(FORGET);
        Ok(query.bind(after.as_secs_f64()).execute(conn).await?.rows_affected())
    }
}

/// References of a row that begins with their four columns.
fn references(row: &PgRow) -> Result<Vec<Reference>, IndexError> {
    let (studies, series): (Option<Vec<String>>, Option<Vec<String>>) =
        (row.try_get(0)?, row.try_get(1)?);
    let (classes, instances): (Vec<String>, Vec<String>) = (row.try_get(2)?, row.try_get(3)?);
    let mut parents = studies.unwrap_or_default().into_iter().zip(series.unwrap_or_default());
    let each = classes.into_iter().zip(instances);
    Ok(each
        .map(|(sop_class, instance)| Reference { parents: parents.next(), sop_class, instance })
        .collect())
}
