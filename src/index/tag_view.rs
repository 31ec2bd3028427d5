//! Extended query tags as who manages them sees them: states and errors over a scope.

use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    IndexError, KnownTag, NewTag, ScopedTx, TagStatus,
    located::uid,
    query_tags::{definition, status},
    registry,
};
use crate::{
    dicom::{Tag, Uid, json::name},
    tenancy::PartitionId,
};

/// A page of tags by id: the root's, and with `$2` those of the partitions of the scope as well.
const VIEW: &str = "-- query_tags_view
    SELECT d.tag_id, d.path, d.private_creator, d.vr, d.level, d.operation_id, d.is_root, d.state,
        p.known, p.ready, p.disabled, d.query_enabled, e.errors
    FROM (SELECT * FROM (
            SELECT tag_id, path, private_creator, vr, level, operation_id, true AS is_root,
                CASE WHEN is_deleting THEN 'deleting' ELSE 'adding' END AS state, query_enabled
            FROM query_tag_root
            UNION ALL
            SELECT tag_id, path, private_creator, vr, level, operation_id, false, state,
                query_enabled
            FROM query_tag WHERE partition_id = ANY($1) AND $2 AND NOT is_root) a
        WHERE $3::text IS NULL OR path = $3
        ORDER BY tag_id LIMIT $4 OFFSET $5) d
    CROSS JOIN LATERAL (SELECT count(*) AS known, count(*) FILTER (WHERE q.state = 'ready') AS ready,
            bool_or(q.query_enabled IS FALSE) AS disabled
        FROM query_tag q WHERE q.partition_id = ANY($1) AND q.tag_id = d.tag_id) p
    CROSS JOIN LATERAL (SELECT count(*) AS errors
        FROM query_tag_error e WHERE e.partition_id = ANY($1) AND e.tag_id = d.tag_id) e
    ORDER BY d.tag_id";

const ERRORS: &str = "-- query_tag_errors
    SELECT e.partition_id, s.study_instance_uid, x.series_instance_uid, i.sop_instance_uid,
        e.created_at, e.reason
    FROM (SELECT partition_id, watermark, created_at, reason FROM query_tag_error
        WHERE partition_id = ANY($1) AND tag_id = $2
        ORDER BY partition_id, watermark LIMIT $3 OFFSET $4) e
    JOIN instance i ON i.partition_id = e.partition_id AND i.watermark = e.watermark
    JOIN study s ON s.partition_id = i.partition_id AND s.study_key = i.study_key
    JOIN series x ON x.partition_id = i.partition_id AND x.series_key = i.series_key
    ORDER BY e.partition_id, e.watermark";

/// Own tags of the scope's partitions.
const OWN: &str = "-- query_tags_own
    SELECT tag_id, path, private_creator, vr, level, operation_id, false, state, true
    FROM query_tag WHERE partition_id = ANY($1) AND NOT is_root ORDER BY tag_id";

pub(super) const SCOPED_STATEMENTS: &[&str] = &[VIEW, ERRORS, OWN];

/// An extended query tag as it is in a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryTag {
    /// Its id.
    pub id: i64,
    /// What it is.
    pub tag: NewTag,
    /// Whether it is the root's.
    pub is_root: bool,
    /// How far it is, in the partition that is furthest behind.
    pub status: TagStatus,
    /// Whether it can be searched by in every partition of the scope, once it is ready.
    pub is_enabled: bool,
    /// Instances with values that could not be indexed.
    pub errors: i64,
    /// The operation that indexes what is stored.
    pub operation: Uuid,
}

/// An instance with a value that could not be indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagError {
    /// Where it is.
    pub partition: PartitionId,
    /// Study Instance UID.
    pub study: Uid,
    /// Series Instance UID.
    pub series: Uid,
    /// SOP Instance UID.
    pub instance: Uid,
    /// When it was found.
    pub created_at: OffsetDateTime,
    /// The rule that the value breaks.
    pub reason: String,
}

impl ScopedTx {
    /// A page of the tags of a scope, by id: those of the root, and with `own` those of its
    /// partitions (one, then). With `path` that one alone.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn query_tags(
        &mut self,
        own: bool,
        path: Option<Tag>,
        (limit, offset): (i64, i64),
    ) -> Result<Vec<QueryTag>, IndexError> {
        let partitions = self.scope().partitions().len() as u64;
        let (query, conn) = self.statement(VIEW);
        let query = query.bind(own).bind(path.map(name)).bind(limit).bind(offset);
        let rows = query.fetch_all(conn).await?;
        let (mut tags, mut wants_unmet) = (Vec::with_capacity(rows.len()), false);
        for row in &rows {
            let is_root: bool = row.try_get(6)?;
            let (known, ready): (i64, i64) = (row.try_get(8)?, row.try_get(9)?);
            let defined = status(row.try_get(7)?)?;
            let status = match defined {
                TagStatus::Adding if is_root && known == ready => TagStatus::Ready,
                _ => defined,
            };
            wants_unmet |= is_root && (known as u64) < partitions;
            let disabled: Option<bool> = row.try_get(10)?;
            let default: Option<bool> = row.try_get(11)?;
            tags.push(QueryTag {
                id: row.try_get(0)?,
                tag: definition(row, 1)?,
                is_root,
                status,
                is_enabled: !disabled.unwrap_or(default == Some(false)),
                errors: row.try_get(12)?,
                operation: row.try_get(5)?,
            });
        }
        if wants_unmet {
            for (unmet, _, _) in self.tags_unmet(None).await? {
                for tag in tags.iter_mut().filter(|tag| tag.id == unmet) {
                    tag.status = TagStatus::Adding;
                }
            }
        }
        Ok(tags)
    }

    /// A page of the errors of a tag, by partition and arrival.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn query_tag_errors(
        &mut self,
        id: i64,
        (limit, offset): (i64, i64),
    ) -> Result<Vec<TagError>, IndexError> {
        let (query, conn) = self.statement(ERRORS);
        let rows = query.bind(id).bind(limit).bind(offset).fetch_all(conn).await?;
        rows.iter()
            .map(|row| {
                Ok(TagError {
                    partition: registry::partition(row, 0)?,
                    study: uid(row, 1, "study", "study_instance_uid")?,
                    series: uid(row, 2, "series", "series_instance_uid")?,
                    instance: uid(row, 3, "instance", "sop_instance_uid")?,
                    created_at: row.try_get(4)?,
                    reason: row.try_get(5)?,
                })
            })
            .collect()
    }

    /// The tags that partitions of the scope have of their own.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn own_tags(&mut self) -> Result<Vec<KnownTag>, IndexError> {
        let (query, conn) = self.statement(OWN);
        query.fetch_all(conn).await?.iter().map(super::query_tags::known).collect()
    }
}
