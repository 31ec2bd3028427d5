//! Extended query tags: which there are, and how far each partition is with them.
//!
//! A definition is the root's, which holds for all partitions, or a partition's own. Of a root tag
//! each partition keeps its own state in a row of `query_tag`, made by whoever comes first (a store,
//! or the reindex): a partition that held nothing then has nothing to reindex. See `tag_lock` for
//! what makes a definition and the stores around it agree.
//!
//! Holds: a path is in a view once, the ones being deleted included. Absent: what a request may ask
//! ([`crate::archive`]), values (`tag_values`), how what is stored is read (`operations`).

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{IndexError, PartitionTx, RegistryTx, lookup::one};
use crate::dicom::{
    Tag, VR,
    attributes::Level,
    json::{name, tag_of},
    matching::Element,
};

const ROOT_LIST: &str = "-- query_tag_root_list
    SELECT tag_id, path, private_creator, vr, level, operation_id, true,
        CASE WHEN is_deleting THEN 'deleting' ELSE 'adding' END, false
    FROM query_tag_root ORDER BY tag_id";

const ROOT_CREATE: &str = "-- query_tag_root_create
    INSERT INTO query_tag_root (operation_id, path, private_creator, vr, level)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::smallint[])";

const ROOT_QUERY: &str = "-- query_tag_root_query
    UPDATE query_tag_root SET query_enabled = $2 WHERE tag_id = $1";

const ROOT_DELETE: &str = "-- query_tag_root_delete
    UPDATE query_tag_root SET is_deleting = true WHERE tag_id = $1";

const ROOT_REMOVE: &str = "-- query_tag_root_remove
    DELETE FROM query_tag_root WHERE tag_id = $1 AND is_deleting";

pub(super) const REGISTRY_STATEMENTS: &[&str] =
    &[ROOT_LIST, ROOT_CREATE, ROOT_QUERY, ROOT_DELETE, ROOT_REMOVE];

/// Every tag that the partition sees; the last column says whether it has a row for it.
const KNOWN: &str = "-- query_tags_known
    SELECT q.tag_id, q.path, q.private_creator, q.vr, q.level, q.operation_id, q.is_root,
        CASE WHEN q.is_root AND (SELECT NOT r.is_deleting FROM query_tag_root r
                WHERE r.tag_id >= q.tag_id AND r.tag_id <= q.tag_id ORDER BY r.tag_id) IS NOT TRUE
            THEN 'deleting' ELSE q.state END, true
    FROM (SELECT * FROM query_tag WHERE partition_id = $1 AND tag_id > 0 ORDER BY tag_id) q
    UNION ALL
    SELECT r.tag_id, r.path, r.private_creator, r.vr, r.level, r.operation_id, true,
        CASE WHEN r.is_deleting THEN 'deleting' ELSE 'adding' END, false
    FROM (SELECT * FROM query_tag_root WHERE tag_id > 0 ORDER BY tag_id) r
    WHERE (SELECT q.tag_id FROM query_tag q WHERE q.partition_id = $1
        AND q.tag_id >= r.tag_id AND q.tag_id <= r.tag_id ORDER BY q.tag_id) IS NULL";

const CREATE: &str = "-- query_tag_create
    INSERT INTO query_tag (partition_id, is_root, state, operation_id, path, private_creator, vr,
        level)
    SELECT $1, false, 'adding', $2, * FROM unnest($3::text[], $4::text[], $5::text[], $6::smallint[])
    RETURNING tag_id";

/// Rows for root tags that have none here.
const MEET: &str = "-- query_tag_meet
    INSERT INTO query_tag (partition_id, tag_id, is_root, path, private_creator, vr, level,
        operation_id, query_enabled, state)
    SELECT $1, r.tag_id, true, r.path, r.private_creator, r.vr, r.level, r.operation_id,
        r.query_enabled, CASE WHEN (SELECT 1 FROM instance WHERE partition_id = $1 AND watermark > 0
            ORDER BY watermark LIMIT 1) IS NULL THEN 'ready' ELSE 'adding' END
    FROM (SELECT * FROM query_tag_root WHERE tag_id > 0 AND NOT is_deleting ORDER BY tag_id) r
    WHERE (SELECT q.tag_id FROM query_tag q WHERE q.partition_id = $1
        AND q.tag_id >= r.tag_id AND q.tag_id <= r.tag_id ORDER BY q.tag_id) IS NULL
    ON CONFLICT (partition_id, tag_id) DO NOTHING
    RETURNING operation_id, path, state = 'adding'";

const QUERY: &str = concat!(
    "-- query_tag_query
    UPDATE query_tag t SET query_enabled = $3
    WHERE t.partition_id = $1 AND t.query_enabled IS DISTINCT FROM $3 AND t.ctid = ",
    one!("ctid", "query_tag", "tag_id", "$2")
);

const DELETE: &str = concat!(
    "-- query_tag_delete
    UPDATE query_tag t SET state = 'deleting' WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "query_tag", "tag_id", "$2")
);

const REMOVE: &str = concat!(
    "-- query_tag_remove
    DELETE FROM query_tag t WHERE t.partition_id = $1 AND t.ctid = ",
    one!("ctid", "query_tag", "tag_id", "$2")
);

/// The first error switches queries off, unless an administrator has said otherwise.
const DISABLE: &str = concat!(
    "-- query_tag_disable
    UPDATE query_tag t SET query_enabled = false
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "query_tag", "tag_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at AND t.query_enabled IS NULL"
);

const READY: &str = "-- query_tag_ready
    UPDATE query_tag t SET state = 'ready'
    FROM (SELECT ctid AS at FROM query_tag
        WHERE partition_id = $1 AND tag_id > 0 AND operation_id = $2 AND state = 'adding'
        ORDER BY tag_id) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

pub(super) const STATEMENTS: &[&str] =
    &[KNOWN, CREATE, MEET, QUERY, DELETE, REMOVE, DISABLE, READY];

/// A tag to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTag {
    /// The attribute. Of a private one, the block is how the path spells it.
    pub path: Tag,
    /// The private creator of a private one.
    pub creator: Option<String>,
    /// How its values are read and matched.
    pub vr: VR,
    /// What its values belong to.
    pub level: Level,
}

/// How far a tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagStatus {
    /// What was stored before it is being indexed.
    Adding,
    /// Everything is indexed.
    Ready,
    /// Its values are being removed.
    Deleting,
}

/// The definition of a tag, as a partition or the root sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTag {
    /// Its id.
    pub id: i64,
    /// What it is.
    pub tag: NewTag,
    /// The operation that indexes what is stored.
    pub operation: Uuid,
    /// Whether it is the root's.
    pub is_root: bool,
    /// How far it is.
    pub status: TagStatus,
    /// Whether the partition has a row for it.
    /// Of a root tag it has none before somebody looks.
    pub is_met: bool,
}

impl NewTag {
    /// The attribute in a data set.
    pub fn element(&self) -> Element {
        match &self.creator {
            Some(creator) => Element::Private {
                group: self.path.0,
                creator: creator.clone(),
                element: (self.path.1 & 0xFF) as u8,
            },
            None => Element::Standard(self.path),
        }
    }
}

/// Reads `path, private_creator, vr, level` from `at` on.
pub(super) fn definition(row: &PgRow, at: usize) -> Result<NewTag, IndexError> {
    let broken = |column| IndexError::Inconsistent { table: "query_tag", column };
    let vr: &str = row.try_get(at + 2)?;
    let level = match row.try_get::<i16, _>(at + 3)? {
        0 => Level::Study,
        1 => Level::Series,
        2 => Level::Instance,
        _ => return Err(broken("level")),
    };
    Ok(NewTag {
        path: tag_of(row.try_get(at)?).ok_or_else(|| broken("path"))?,
        creator: row.try_get(at + 1)?,
        vr: vr.parse().map_err(|_| broken("vr"))?,
        level,
    })
}

pub(super) fn status(text: &str) -> Result<TagStatus, IndexError> {
    match text {
        "adding" => Ok(TagStatus::Adding),
        "ready" => Ok(TagStatus::Ready),
        "deleting" => Ok(TagStatus::Deleting),
        _ => Err(IndexError::Inconsistent { table: "query_tag", column: "state" }),
    }
}

pub(super) fn known(row: &PgRow) -> Result<KnownTag, IndexError> {
    Ok(KnownTag {
        id: row.try_get(0)?,
        tag: definition(row, 1)?,
        operation: row.try_get(5)?,
        is_root: row.try_get(6)?,
        status: status(row.try_get(7)?)?,
        is_met: row.try_get(8)?,
    })
}

/// Columns of definitions to insert: path, creator, VR, level.
type Columns = (Vec<String>, Vec<Option<String>>, Vec<String>, Vec<i16>);

fn columns(tags: &[NewTag]) -> Columns {
    let mut columns = Columns::default();
    for tag in tags {
        columns.0.push(name(tag.path));
        columns.1.push(tag.creator.clone());
        columns.2.push(tag.vr.to_string().to_owned());
        columns.3.push(tag.level as i16);
    }
    columns
}

impl RegistryTx {
    /// The tags of the root, by id: `Adding` or `Deleting`, since how far they are is a matter of
    /// each partition.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn root_tags(&mut self) -> Result<Vec<KnownTag>, IndexError> {
        let (query, conn) = self.statement(ROOT_LIST);
        query.fetch_all(conn).await?.iter().map(known).collect()
    }

    /// Adds tags to the root, in a transaction of [`Db::begin_root_tags`](super::Db::begin_root_tags).
    /// Partitions meet them one by one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn root_tags_create(
        &mut self,
        tags: &[NewTag],
        operation: Uuid,
    ) -> Result<(), IndexError> {
        let (paths, creators, vrs, levels) = columns(tags);
        let (query, conn) = self.statement(ROOT_CREATE);
        query
            .bind(operation)
            .bind(paths)
            .bind(creators)
            .bind(vrs)
            .bind(levels)
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Sets what partitions that meet the tag later begin with.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn root_tag_query(&mut self, id: i64, enabled: bool) -> Result<(), IndexError> {
        let (query, conn) = self.statement(ROOT_QUERY);
        query.bind(id).bind(enabled).execute(conn).await?;
        Ok(())
    }

    /// Begins to delete a tag, in a transaction of
    /// [`Db::begin_root_tags`](super::Db::begin_root_tags).
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn root_tag_delete(&mut self, id: i64) -> Result<(), IndexError> {
        let (query, conn) = self.statement(ROOT_DELETE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }

    /// Removes a tag that is being deleted, after no partition has a row of it.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn root_tag_remove(&mut self, id: i64) -> Result<(), IndexError> {
        let (query, conn) = self.statement(ROOT_REMOVE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }
}

impl PartitionTx {
    /// Every tag that the partition sees, its own and the root's.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn tags_known(&mut self) -> Result<Vec<KnownTag>, IndexError> {
        let (query, conn) = self.statement(KNOWN);
        query.fetch_all(conn).await?.iter().map(known).collect()
    }

    /// Makes the partition's rows of root tags that it has none of, and the operations that index
    /// what it holds for them.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn tags_meet(&mut self) -> Result<(), IndexError> {
        self.hold_tags().await?;
        let (query, conn) = self.statement(MEET);
        let mut operations: Vec<(Uuid, Vec<String>)> = Vec::new();
        for row in query.fetch_all(conn).await? {
            if !row.try_get::<bool, _>(2)? {
                continue;
            }
            let (id, path): (Uuid, String) = (row.try_get(0)?, row.try_get(1)?);
            match operations.iter_mut().find(|(known, _)| *known == id) {
                Some((_, paths)) => paths.push(path),
                None => operations.push((id, vec![path])),
            }
        }
        for (id, paths) in operations {
            self.reindex_create(id, &paths).await?;
        }
        Ok(())
    }

    /// Adds tags to the partition, and the operation that indexes what it holds for them, in a
    /// transaction of [`Db::begin_tags`](super::Db::begin_tags).
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn tags_create(
        &mut self,
        tags: &[NewTag],
        operation: Uuid,
    ) -> Result<(), IndexError> {
        let (paths, creators, vrs, levels) = columns(tags);
        let (query, conn) = self.statement(CREATE);
        let query = query.bind(operation).bind(&paths).bind(creators).bind(vrs).bind(levels);
        query.execute(conn).await?;
        self.reindex_create(operation, &paths).await
    }

    /// Lets a tag be searched by, or not. Says whether it was otherwise before.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn tag_query(&mut self, id: i64, enabled: bool) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(QUERY);
        Ok(query.bind(id).bind(enabled).execute(conn).await?.rows_affected() > 0)
    }

    /// Begins to delete a tag of the partition's own, in a transaction of
    /// [`Db::begin_tags`](super::Db::begin_tags).
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn tag_delete(&mut self, id: i64) -> Result<(), IndexError> {
        let (query, conn) = self.statement(DELETE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }

    /// Removes the row of a tag that is being deleted and has no values any more.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn tag_remove(&mut self, id: i64) -> Result<(), IndexError> {
        let (query, conn) = self.statement(REMOVE);
        query.bind(id).execute(conn).await?;
        Ok(())
    }

    /// Switches queries off for tags that have an error, unless an administrator said otherwise.
    pub(super) async fn tags_disable(&mut self, ids: &[i64]) -> Result<(), IndexError> {
        let (query, conn) = self.statement(DISABLE);
        query.bind(ids).execute(conn).await?;
        Ok(())
    }

    /// What the operation had to index is indexed.
    pub(super) async fn tags_ready(&mut self, operation: Uuid) -> Result<(), IndexError> {
        let (query, conn) = self.statement(READY);
        query.bind(operation).execute(conn).await?;
        Ok(())
    }
}
