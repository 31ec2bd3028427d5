//! Operations that move instances between the archive and places outside of it: what was asked for,
//! how far it is, and what came of it so far.
//!
//! What came of it is in the cursor, which is committed with each step: killed at any point, the
//! numbers are those of what the cursor says. Absent: the moving (`exchange`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{IndexError, OperationKind, PartitionTx, Progress, lookup::one};

const REQUEST_NOTE: &str = concat!(
    "-- transfer_request_note
    UPDATE operation t SET request = $3::text::jsonb WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "operation", "operation_id", "$2")
);

const REQUEST: &str = concat!(
    "-- transfer_request
    SELECT o.request::text FROM ",
    one!("request", "operation", "operation_id", "$2"),
    " o"
);

pub(super) const STATEMENTS: &[&str] = &[REQUEST_NOTE, REQUEST];

/// How far an import is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Importing {
    /// The last file that was dealt with.
    pub after: Option<String>,
    /// Pieces of the report that were written.
    pub lists: u64,
    /// What came of those so far.
    pub results: Imported,
}

impl Progress for Importing {
    const KIND: OperationKind = OperationKind::Import;
}

/// What came of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// Files that are in the archive now and were not before.
    pub stored: u64,
    /// Files that were in the archive.
    pub identical: u64,
    /// What is no DICOM file.
    pub skipped: u64,
    /// Files that could not be stored.
    pub failed: u64,
    /// Bytes of the files that are in the archive.
    pub bytes: u64,
    /// How many were skipped or failed for which reason, the first reasons each for itself. (What
    /// files are called may be somebody's name, and is told in reports alone.)
    pub reasons: BTreeMap<String, u64>,
    /// Where each file is told of: the destination, and where in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<(String, String)>,
}

/// How far an export is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exporting {
    /// Which of the resources that were asked for is under way, from 0.
    pub resource: usize,
    /// Its last instance that was dealt with, by watermark.
    pub after: Option<i64>,
    /// Lists of files that were written, each with what one step did.
    pub lists: u64,
    /// The study that files were written of last, by number from 1, and how many.
    pub study: Option<(String, u64, u64)>,
    /// What came of it so far.
    pub results: Exported,
}

impl Progress for Exporting {
    const KIND: OperationKind = OperationKind::Export;
}

/// What came of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// Instances that were written.
    pub exported: u64,
    /// Resources that are not in the archive.
    pub skipped: u64,
    /// Instances that may not be given de-identified.
    #[serde(default)]
    pub refused: u64,
    /// Instances that could not be written.
    pub failed: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// The destination's name.
    pub destination: String,
    /// Where it lies in the destination.
    pub path: String,
    /// Where errors are told.
    pub error_href: String,
    /// Where files are listed.
    pub manifest_href: String,
}

impl PartitionTx {
    /// Adds an operation of one of these kinds. `request` is what was asked for.
    ///
    /// # Errors
    /// [`IndexError`]. Nothing is added before [`PartitionTx::commit`].
    pub async fn transfer_create<P: Progress>(
        &mut self,
        id: Uuid,
        resources: &[String],
        request: &impl Serialize,
        cursor: &P,
    ) -> Result<(), IndexError> {
        self.operation_create(id, resources, None, cursor).await?;
        let text = serde_json::json!(request).to_string();
        let (query, conn) = self.statement(REQUEST_NOTE);
        query.bind(id).bind(text).execute(conn).await?;
        Ok(())
    }

    /// What was asked for.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn transfer_request<T: DeserializeOwned>(
        &mut self,
        id: Uuid,
    ) -> Result<T, IndexError> {
        let wrong = IndexError::Inconsistent { table: "operation", column: "request" };
        let (query, conn) = self.statement(REQUEST);
        let row = query.bind(id).fetch_optional(conn).await?;
        let text: Option<String> = row.map(|row| sqlx::Row::try_get(&row, 0)).transpose()?;
        text.and_then(|text| serde_json::from_str(&text).ok()).ok_or(wrong)
    }

    /// Notes how many things an operation deals with.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn transfer_total(&mut self, id: Uuid, total: u64) -> Result<(), IndexError> {
        self.operation_total(id, super::located::bigint(total)).await
    }
}
