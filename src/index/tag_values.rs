//! The values of extended query tags: written by Store and by a reindex, removed with instances and
//! with tags.
//!
//! Holds: each instance has rows of its own, whatever the level of the tag. Of a study or series
//! the instance with the smallest watermark that has a value speaks (see `tag_search`), so that
//! concurrent stores to one study never meet on a row, and a deletion lets the next one speak.
//! Absent: which tags there are (`query_tags`), what a value is ([`crate::dicom::tag_values`]).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use sqlx::Row;

use super::{
    IndexError, KnownTag, PartitionTx, TagStatus,
    lookup::{delete_each, one},
};
use crate::dicom::{
    attributes::Level,
    kept,
    matching::Object,
    tag_values::{self, Kind},
};

/// Values derived before they are written, about, in bytes.
const CHUNK: usize = 4 << 20;

const OWNERS: &str = concat!(
    "-- tag_owners
    SELECT i.watermark, i.study_key, i.series_key
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("watermark, study_key, series_key", "instance", "watermark", "n.key"),
    " i"
);

/// Delete waits for who holds the study; stores share it.
const OWNERS_HOLD: &str = concat!(
    "-- tag_owners_hold
    SELECT s.study_key FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("study_key", "study", "study_key", "n.key", "FOR KEY SHARE"),
    " s"
);

const VALUES_CREATE: &str = "-- tag_values_create
    INSERT INTO query_tag_value (partition_id, watermark, tag_id, place, owner_key, kind, value,
        attribute_key, attribute)
    SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::integer[], $5::bigint[],
        $6::smallint[], $7::text[], $8::text[], $9::text[])
    ON CONFLICT (partition_id, watermark, tag_id, place) DO NOTHING";

const ERRORS_CREATE: &str = "-- tag_errors_create
    INSERT INTO query_tag_error (partition_id, tag_id, watermark, reason)
    SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[])
    ON CONFLICT (partition_id, tag_id, watermark) DO NOTHING";

/// Of instances that go.
pub(super) const DELETE_VALUES: &str =
    delete_each!("delete_tag_values", "query_tag_value", "watermark", "");
pub(super) const DELETE_ERRORS: &str =
    delete_each!("delete_tag_errors", "query_tag_error", "watermark", "");

/// Of a tag that goes, some at a time.
const VALUES_REMOVE: &str = "-- tag_values_remove
    DELETE FROM query_tag_value t
    USING (SELECT ctid AS at FROM query_tag_value
        WHERE partition_id = $1 AND tag_id >= $2 AND tag_id <= $2 ORDER BY tag_id LIMIT $3) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const ERRORS_REMOVE: &str = "-- tag_errors_remove
    DELETE FROM query_tag_error t
    USING (SELECT ctid AS at FROM query_tag_error
        WHERE partition_id = $1 AND tag_id >= $2 AND tag_id <= $2 ORDER BY tag_id LIMIT $3) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

pub(super) const STATEMENTS: &[&str] = &[
    OWNERS,
    OWNERS_HOLD,
    VALUES_CREATE,
    ERRORS_CREATE,
    DELETE_VALUES,
    DELETE_ERRORS,
    VALUES_REMOVE,
    ERRORS_REMOVE,
];

/// An instance whose metadata is read for values.
#[derive(Clone, Debug)]
pub struct Source {
    /// The instance.
    pub watermark: i64,
    /// Its study and series.
    pub parents: (i64, i64),
    /// Its DICOM JSON, as one zstd frame.
    pub metadata: Vec<u8>,
}

/// Rows to write: what some instances have for some tags.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    /// The instances that were read, in order, each with its study.
    pub instances: Vec<(i64, i64)>,
    values: Vec<Value>,
    errors: Vec<(i64, i64, String)>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Value {
    watermark: i64,
    tag: i64,
    place: i32,
    owner: i64,
    kind: Kind,
    value: String,
    attribute: Option<(String, String)>,
}

impl Derived {
    /// Instances with an error.
    pub fn failed(&self) -> usize {
        self.errors.iter().map(|(_, watermark, _)| watermark).collect::<HashSet<_>>().len()
    }

    /// Keeps the rows of some tags.
    pub(super) fn keep_tags(&mut self, is_kept: impl Fn(i64) -> bool) {
        self.values.retain(|value| is_kept(value.tag));
        self.errors.retain(|(tag, _, _)| is_kept(*tag));
    }

    fn retain(&mut self, is_live: impl Fn(i64) -> bool) {
        self.values.retain(|value| is_live(value.watermark));
        self.errors.retain(|(_, watermark, _)| is_live(*watermark));
    }

    fn read(&mut self, source: &Source, tags: &[KnownTag]) {
        self.instances.push((source.watermark, source.parents.0));
        let json = kept::decompress(&source.metadata).ok();
        let object =
            json.as_deref().and_then(|json| serde_json::from_slice::<Object<'_>>(json).ok());
        let Some(object) = object else {
            let reason = "the metadata of the instance cannot be read".to_owned();
            let failed = tags.iter().map(|tag| (tag.id, source.watermark, reason.clone()));
            self.errors.extend(failed);
            return;
        };
        for KnownTag { id, tag, .. } in tags {
            let Some(found) = tag_values::read(&object, &tag.element(), tag.vr) else { continue };
            let owner = match tag.level {
                Level::Study => source.parents.0,
                Level::Series => source.parents.1,
                Level::Instance => source.watermark,
            };
            self.errors.extend(found.error.map(|reason| (*id, source.watermark, reason)));
            let mut attribute = Some((found.key, found.attribute));
            for (place, (kind, value)) in (0..).zip(found.rows) {
                let attribute = attribute.take();
                self.bytes += value.len() + attribute.as_ref().map_or(64, |(_, json)| json.len());
                let (watermark, tag) = (source.watermark, *id);
                self.values.push(Value { watermark, tag, place, owner, kind, value, attribute });
            }
        }
    }
}

/// Reads values out of metadata, a bounded piece at a time, away from the threads that serve
/// requests.
#[derive(Debug)]
pub struct Deriver {
    tags: Arc<[KnownTag]>,
    sources: VecDeque<Source>,
}

impl Deriver {
    /// What is to be read, for which tags.
    pub fn new(tags: Vec<KnownTag>, sources: Vec<Source>) -> Self {
        Self { tags: tags.into(), sources: sources.into() }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`IndexError::Decode`] where reading panicked.
    pub async fn next(&mut self) -> Result<Option<Derived>, IndexError> {
        if self.sources.is_empty() {
            return Ok(None);
        }
        let (tags, mut sources) = (self.tags.clone(), std::mem::take(&mut self.sources));
        let task = tokio::task::spawn_blocking(move || {
            let mut derived = Derived::default();
            while derived.bytes < CHUNK
                && let Some(source) = sources.pop_front()
            {
                derived.read(&source, &tags);
            }
            (derived, sources)
        });
        let (derived, left) = task.await.map_err(|_| IndexError::Decode)?;
        self.sources = left;
        Ok(Some(derived))
    }
}

impl PartitionTx {
    /// The tags that values are written of, in a transaction that holds the definitions; root tags
    /// that the partition has not met are met.
    pub(super) async fn tags_to_write(&mut self) -> Result<Vec<KnownTag>, IndexError> {
        self.hold_tags().await?;
        let mut tags = self.tags_known().await?;
        tags.retain(|tag| tag.status != TagStatus::Deleting);
        if tags.iter().any(|tag| !tag.is_met) {
            self.tags_meet().await?;
        }
        Ok(tags)
    }

    /// Writes the values of instances that this transaction stored.
    pub(super) async fn index_tags(
        &mut self,
        tags: Vec<KnownTag>,
        stored: Vec<(i64, &[u8])>,
    ) -> Result<(), IndexError> {
        if tags.is_empty() || stored.is_empty() {
            return Ok(());
        }
        let watermarks: Vec<i64> = stored.iter().map(|(watermark, _)| *watermark).collect();
        let owners = self.tag_owners(&watermarks).await?;
        let sources = stored.into_iter().filter_map(|(watermark, metadata)| {
            let parents = *owners.get(&watermark)?;
            Some(Source { watermark, parents, metadata: metadata.to_vec() })
        });
        let mut deriver = Deriver::new(tags, sources.collect());
        while let Some(derived) = deriver.next().await? {
            self.write_derived(derived).await?;
        }
        Ok(())
    }

    /// Writes what was derived outside of a transaction, for the instances that are still there,
    /// and holds their studies, so that none is deleted meanwhile.
    pub(super) async fn index_derived(&mut self, mut derived: Derived) -> Result<(), IndexError> {
        let mut studies: Vec<i64> = derived.instances.iter().map(|(_, study)| *study).collect();
        studies.sort_unstable();
        studies.dedup();
        let (query, conn) = self.statement(OWNERS_HOLD);
        query.bind(studies).execute(conn).await?;
        let watermarks: Vec<i64> =
            derived.instances.iter().map(|(watermark, _)| *watermark).collect();
        let live = self.tag_owners(&watermarks).await?;
        derived.retain(|watermark| live.contains_key(&watermark));
        self.write_derived(derived).await
    }

    /// Study and series of those instances that are there.
    async fn tag_owners(
        &mut self,
        watermarks: &[i64],
    ) -> Result<HashMap<i64, (i64, i64)>, IndexError> {
        let (query, conn) = self.statement(OWNERS);
        let rows = query.bind(watermarks).fetch_all(conn).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
    }

    async fn write_derived(&mut self, derived: Derived) -> Result<(), IndexError> {
        let Derived { values, errors, .. } = derived;
        if !values.is_empty() {
            let bigints = |of: fn(&Value) -> i64| -> Vec<i64> { values.iter().map(of).collect() };
            let places: Vec<i32> = values.iter().map(|value| value.place).collect();
            let kinds: Vec<i16> = values.iter().map(|value| value.kind as i16).collect();
            let texts: Vec<&str> = values.iter().map(|value| value.value.as_str()).collect();
            let attribute = |of: fn(&(String, String)) -> &str| -> Vec<Option<&str>> {
                values.iter().map(|value| value.attribute.as_ref().map(of)).collect()
            };
            let (query, conn) = self.statement(VALUES_CREATE);
            query
                .bind(bigints(|value| value.watermark))
                .bind(bigints(|value| value.tag))
                .bind(places)
                .bind(bigints(|value| value.owner))
                .bind(kinds)
                .bind(texts)
                .bind(attribute(|(key, _)| key))
                .bind(attribute(|(_, json)| json))
                .execute(conn)
                .await?;
        }
        if !errors.is_empty() {
            let tags: Vec<i64> = errors.iter().map(|(tag, _, _)| *tag).collect();
            let watermarks: Vec<i64> = errors.iter().map(|(_, watermark, _)| *watermark).collect();
            let reasons: Vec<&str> = errors.iter().map(|(_, _, reason)| reason.as_str()).collect();
            let (query, conn) = self.statement(ERRORS_CREATE);
            query.bind(&tags).bind(watermarks).bind(reasons).execute(conn).await?;
            let mut tags = tags;
            tags.sort_unstable();
            tags.dedup();
            self.tags_disable(&tags).await?;
        }
        Ok(())
    }

    /// Removes values and errors of a tag that is being deleted, at most `limit` of each; says how
    /// many went.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn tag_values_remove(&mut self, id: i64, limit: i64) -> Result<u64, IndexError> {
        let mut gone = 0;
        for sql in [VALUES_REMOVE, ERRORS_REMOVE] {
            let (query, conn) = self.statement(sql);
            gone += query.bind(id).bind(limit).execute(conn).await?.rows_affected();
        }
        Ok(gone)
    }
}
