//! Workitems of the Worklist Service.
//!
//! Holds: one changes only in a transaction that has locked its row ([`PartitionTx::workitem_lock`]),
//! so that of several who claim it at once one does; the Transaction UID leaves the index for who
//! changes it alone, and no statement that reads for an answer names it. Workitems are walked in the
//! order of their scheduled start, over the index of whatever is known of them. Absent: what a
//! workitem may become (`dicom::ups`), what of it matches (`archive`).

use sqlx::{Row, postgres::PgRow};

use super::{IndexError, PartitionTx, lookup::one};
use crate::dicom::{
    Uid,
    ups::{Keys, State},
};

const GET: &str = "-- workitem_get
    SELECT attributes FROM workitem
    WHERE partition_id = $1 AND workitem_uid >= $2 AND workitem_uid <= $2 ORDER BY workitem_uid";

const LOCK: &str = "-- workitem_lock
    SELECT state, transaction_uid, attributes FROM workitem
    WHERE partition_id = $1 AND workitem_uid >= $2 AND workitem_uid <= $2 ORDER BY workitem_uid
    FOR UPDATE";

const CREATE: &str = "-- workitem_create
    INSERT INTO workitem (partition_id, workitem_uid, state, start_at, patient_id, attributes)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (partition_id, workitem_uid) DO NOTHING";

const CHANGE: &str = concat!(
    "-- workitem_change
    UPDATE workitem t SET state = $3, transaction_uid = $4, start_at = $5, patient_id = $6,
        attributes = $7, state_at = CASE WHEN t.state = $3 THEN t.state_at ELSE now() END
    WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "workitem", "workitem_uid", "$2")
);

const BY_START: &str = "-- workitems_by_start
    SELECT start_at, workitem_uid, attributes FROM workitem
    WHERE partition_id = $1 AND (start_at, workitem_uid) > ($2, $3) AND start_at <= $4
    ORDER BY start_at, workitem_uid LIMIT $5";

macro_rules! walk_of {
    ($name:literal, $key:literal) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT start_at, workitem_uid, attributes FROM workitem
    WHERE partition_id = $1 AND (",
            $key,
            ", start_at, workitem_uid) > ($6, $2, $3) AND (",
            $key,
            ", start_at) <= ($6, $4)
    ORDER BY ",
            $key,
            ", start_at, workitem_uid LIMIT $5"
        )
    };
}

const BY_STATE: &str = walk_of!("workitems_by_state", "state");
const BY_PATIENT: &str = walk_of!("workitems_by_patient", "patient_id");

const BY_UID: &str = "-- workitems_by_uid
    SELECT w.start_at, w.workitem_uid, w.attributes
    FROM unnest($2::text[]) AS n(uid)
    CROSS JOIN LATERAL (SELECT start_at, workitem_uid, attributes FROM workitem
        WHERE partition_id = $1 AND workitem_uid >= n.uid AND workitem_uid <= n.uid
        ORDER BY workitem_uid) w";

const ANY: &str = "-- workitem_any
    SELECT (SELECT 1 FROM workitem WHERE partition_id = $1 AND workitem_uid > ''
        ORDER BY workitem_uid LIMIT 1) IS NOT NULL";

pub(super) const STATEMENTS: &[&str] =
    &[GET, LOCK, CREATE, CHANGE, BY_START, BY_STATE, BY_PATIENT, BY_UID, ANY];

/// A workitem whose row is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedWorkitem {
    /// Its state.
    pub state: State,
    /// The Transaction UID of who claimed it.
    pub lock: Option<String>,
    /// Its data set, as DICOM JSON.
    pub attributes: String,
}

/// A workitem that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundWorkitem {
    /// Where it stands in the order: when it is to start, and its UID.
    pub place: (String, String),
    /// Its data set, as DICOM JSON.
    pub attributes: String,
}

/// Which workitems are walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkitemWalk {
    /// All.
    All,
    /// Those in a state.
    State(State),
    /// Those about a patient.
    Patient(String),
}

/// What becomes of a workitem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkitemChange<'a> {
    /// Its state.
    pub state: State,
    /// The Transaction UID of who claimed it.
    pub lock: Option<&'a str>,
    /// What it is found by.
    pub keys: &'a Keys,
    /// Its data set, as DICOM JSON.
    pub attributes: &'a str,
}

fn found(row: &PgRow) -> Result<FoundWorkitem, IndexError> {
    let place = (row.try_get(0)?, row.try_get(1)?);
    Ok(FoundWorkitem { place, attributes: row.try_get(2)? })
}

impl PartitionTx {
    /// The data set of a workitem, as DICOM JSON.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem(&mut self, uid: &Uid) -> Result<Option<String>, IndexError> {
        let (query, conn) = self.statement(GET);
        let row = query.bind(uid.as_str().to_owned()).fetch_optional(conn).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// A workitem that nobody else changes before this transaction ends.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_lock(&mut self, uid: &Uid) -> Result<Option<LockedWorkitem>, IndexError> {
        let (query, conn) = self.statement(LOCK);
        let row = query.bind(uid.as_str().to_owned()).fetch_optional(conn).await?;
        let read = |row: PgRow| -> Result<LockedWorkitem, IndexError> {
            let state = State::of(row.try_get(0)?);
            let wrong = IndexError::Inconsistent { table: "workitem", column: "state" };
            let (lock, attributes) = (row.try_get(1)?, row.try_get(2)?);
            Ok(LockedWorkitem { state: state.ok_or(wrong)?, lock, attributes })
        };
        row.map(read).transpose()
    }

    /// Adds a workitem, nobody's and SCHEDULED; whether there was none of that UID.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_create(
        &mut self,
        uid: &Uid,
        keys: &Keys,
        attributes: &str,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(CREATE);
        let query = query.bind(uid.as_str().to_owned()).bind(State::Scheduled.as_str());
        let query = query.bind(keys.start.clone()).bind(keys.patient_id.clone());
        let done = query.bind(attributes.to_owned()).execute(conn).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Changes a locked workitem.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_change(
        &mut self,
        uid: &Uid,
        change: &WorkitemChange<'_>,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(CHANGE);
        let query = query.bind(uid.as_str().to_owned()).bind(change.state.as_str());
        let query = query.bind(change.lock.map(str::to_owned)).bind(change.keys.start.clone());
        let query = query.bind(change.keys.patient_id.clone());
        query.bind(change.attributes.to_owned()).execute(conn).await?;
        Ok(())
    }

    /// Workitems behind a place in the order, up to those that start at `last`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitems(
        &mut self,
        walk: &WorkitemWalk,
        (start, uid): (&str, &str),
        last: &str,
        limit: i64,
    ) -> Result<Vec<FoundWorkitem>, IndexError> {
        let (sql, key) = match walk {
            WorkitemWalk::All => (BY_START, None),
            WorkitemWalk::State(state) => (BY_STATE, Some(state.as_str().to_owned())),
            WorkitemWalk::Patient(id) => (BY_PATIENT, Some(id.clone())),
        };
        let (query, conn) = self.statement(sql);
        let query = query.bind(start.to_owned()).bind(uid.to_owned()).bind(last.to_owned());
        let query = query.bind(limit);
        let query = match key {
            Some(key) => query.bind(key),
            None => query,
        };
        query.fetch_all(conn).await?.iter().map(found).collect()
    }

    /// Those of some UIDs that there are, in the order of the UIDs.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitems_of(
        &mut self,
        uids: &[String],
    ) -> Result<Vec<FoundWorkitem>, IndexError> {
        let (query, conn) = self.statement(BY_UID);
        query.bind(uids.to_vec()).fetch_all(conn).await?.iter().map(found).collect()
    }

    /// Whether the partition has a workitem.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn has_workitems(&mut self) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(ANY);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }
}
