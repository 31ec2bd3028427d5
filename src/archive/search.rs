//! Search (PS3.18 §10.6): a plan in, a stream of DICOM JSON or XML out.
//!
//! Holds: the keys of all results are found first, in one transaction, so that the answer is in one
//! order and its number is known; what is said about them is read page by page, as the client takes
//! them. Nothing is counted but what a page shows.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    Archive, ArchiveError, ByteStream,
    metadata::{decompress, document},
};
use crate::{
    dicom::{
        Tag,
        attributes::{self, Level},
        xml,
    },
    index::{Include, RowKey, SearchPlan, SearchRow},
    tenancy::Scope,
};

/// Results that are read in one transaction.
const PAGE: usize = 100;

/// Results that are read in one transaction with their metadata, which can be large.
const PAGE_WITH_METADATA: usize = 10;

/// Longest value out of the metadata that a result holds, as JSON, in bytes: as for the attributes
/// that the index holds.
const MAX_VALUE: usize = 64 * 1024;

/// The private creator of the partition's id and the attribute that holds it, in results of a
/// server with partitions.
const CREATOR: (Tag, &str) = (Tag(0x0065, 0x0010), "COLLIMATOR PARTITION");
const PARTITION: Tag = Tag(0x0065, 0x1001);

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const INSTANCE_AVAILABILITY: Tag = Tag(0x0008, 0x0056);
const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);
const SOP_CLASSES_IN_STUDY: Tag = Tag(0x0008, 0x0062);
const RETRIEVE_URL: Tag = Tag(0x0008, 0x1190);
const AVAILABLE_SYNTAXES: Tag = Tag(0x0008, 0x3002);
const STUDY_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_UID: Tag = Tag(0x0020, 0x000E);
const INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const STUDY_SERIES: Tag = Tag(0x0020, 0x1206);
const STUDY_INSTANCES: Tag = Tag(0x0020, 0x1208);
const SERIES_INSTANCES: Tag = Tag(0x0020, 0x1209);

/// What to return of each match.
#[derive(Clone, Debug)]
pub struct Returned {
    /// The attributes of the study.
    pub study: bool,
    /// The attributes of the series.
    pub series: bool,
    /// Every attribute that the index knows of these levels.
    pub all: bool,
    /// Attributes asked for one by one, matched ones included.
    pub tags: BTreeSet<Tag>,
    /// Whether results name their partition.
    pub partition: bool,
}

/// The RetrieveURL of a result.
pub type RetrieveUrl = std::sync::Arc<dyn Fn(&SearchRow) -> String + Send + Sync>;

/// An answer to a search.
pub struct SearchPage {
    /// Results of this answer.
    pub results: usize,
    /// Matches beyond this answer.
    pub remaining: i64,
    rows: Rows,
}

struct Rows {
    archive: Archive,
    scope: Scope,
    level: Level,
    include: Include,
    returned: Returned,
    retrieve_url: RetrieveUrl,
    keys: std::vec::IntoIter<RowKey>,
}

impl Archive {
    /// Searches the partitions of a scope.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn search(
        &self,
        scope: Scope,
        plan: SearchPlan,
        returned: Returned,
        retrieve_url: RetrieveUrl,
    ) -> Result<SearchPage, ArchiveError> {
        let limit = plan.limit.max(0);
        let mut tx = self.0.db.begin(&scope).await?;
        // One more than asked tells whether anything remains; only then is there a count.
        let ahead = SearchPlan { limit: limit.saturating_add(1), ..plan.clone() };
        let mut keys = tx.search_keys(&ahead).await?;
        let mut remaining = 0;
        if keys.len() as i64 > limit {
            keys.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let matches = tx.search_count(&plan, None).await?;
            remaining = matches.saturating_sub(plan.offset).saturating_sub(limit).max(1);
        }
        drop(tx);
        let results = keys.len();
        let rows = Rows {
            archive: self.clone(),
            scope,
            level: plan.level,
            include: include(plan.level, &returned),
            returned,
            retrieve_url,
            keys: keys.into_iter(),
        };
        Ok(SearchPage { results, remaining, rows })
    }
}

impl SearchPage {
    /// One DICOM JSON array. Its pieces end between results.
    pub fn array(self) -> ByteStream {
        let chunks = stream::try_unfold(Some((self.rows, true)), |state| async move {
            let Some((mut rows, mut first)) = state else { return Ok(None) };
            let mut out = Vec::with_capacity(16 * 1024);
            for json in rows.next().await? {
                out.push(if first { b'[' } else { b',' });
                out.extend_from_slice(&json);
                first = false;
            }
            if rows.keys.len() > 0 {
                return Ok(Some((out.into(), Some((rows, first)))));
            }
            out.extend_from_slice(if first { b"[]" } else { b"]" });
            Ok(Some((Bytes::from(out), None)))
        });
        chunks.boxed()
    }

    /// One document in the Native DICOM Model for each result.
    pub fn documents(
        self,
        encoding: xml::Encoding,
    ) -> BoxStream<'static, Result<Bytes, ArchiveError>> {
        let pages = stream::try_unfold(self.rows, move |mut rows| async move {
            if rows.keys.len() == 0 {
                return Ok::<_, ArchiveError>(None);
            }
            let page = rows.next().await?;
            let documents =
                page.into_iter().map(move |json| document(&json, encoding).map(Bytes::from));
            Ok(Some((stream::iter(documents), rows)))
        });
        pages.try_flatten().boxed()
    }
}

/// What has to be read about each row for what is to be returned.
fn include(level: Level, returned: &Returned) -> Include {
    let wants = |tag| returned.all || returned.tags.contains(&tag);
    Include {
        study: level > Level::Study && (returned.study || asks_of(Level::Study, &returned.tags)),
        series: level > Level::Series
            && (returned.series || asks_of(Level::Series, &returned.tags)),
        study_facts: (level == Level::Study || returned.study)
            || [MODALITIES_IN_STUDY, STUDY_SERIES, STUDY_INSTANCES].into_iter().any(wants),
        series_facts: level >= Level::Series && (returned.series || wants(SERIES_INSTANCES)),
        sop_classes: wants(SOP_CLASSES_IN_STUDY),
        transfer_syntaxes: wants(AVAILABLE_SYNTAXES),
        metadata: level == Level::Instance && returned.tags.iter().any(|tag| is_other(*tag)),
    }
}

fn asks_of(level: Level, tags: &BTreeSet<Tag>) -> bool {
    tags.iter().any(|tag| attributes::by_tag(*tag).is_some_and(|row| row.level == level))
}

/// Whether an attribute is neither in the index nor computed: then only the metadata has it.
fn is_other(tag: Tag) -> bool {
    const COMPUTED: [Tag; 10] = [
        CHARACTER_SET,
        INSTANCE_AVAILABILITY,
        MODALITIES_IN_STUDY,
        SOP_CLASSES_IN_STUDY,
        RETRIEVE_URL,
        AVAILABLE_SYNTAXES,
        STUDY_SERIES,
        STUDY_INSTANCES,
        SERIES_INSTANCES,
        PARTITION,
    ];
    attributes::by_tag(tag).is_none() && !COMPUTED.contains(&tag)
}

impl Rows {
    /// The next results as DICOM JSON objects; none at the end.
    async fn next(&mut self) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let page = if self.include.metadata { PAGE_WITH_METADATA } else { PAGE };
        let keys: Vec<RowKey> = self.keys.by_ref().take(page).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.archive.0.db.begin(&self.scope).await?;
        let rows = tx.search_rows(self.level, &keys, self.include).await?;
        drop(tx);
        let results = rows.iter().map(|row| {
            let url = (self.retrieve_url)(row);
            let mut json = Vec::with_capacity(2048);
            result(row, self.level, &self.returned, &url, &mut json)?;
            Ok(json)
        });
        results.collect()
    }
}

/// Writes one result: attributes ascending by tag (PS3.18 Annex F).
fn result(
    row: &SearchRow,
    level: Level,
    returned: &Returned,
    url: &str,
    out: &mut Vec<u8>,
) -> Result<(), ArchiveError> {
    let mut result: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    let shown = |of: Level| match of {
        Level::Study => returned.study,
        Level::Series => returned.series,
        Level::Instance => level == Level::Instance,
    };
    for of in [Level::Study, Level::Series, Level::Instance] {
        let Some(text) = &row.attributes[of as usize] else { continue };
        let attributes: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).map_err(inconsistent)?;
        for (key, value) in attributes {
            let wanted = key_tag(&key).is_some_and(|tag| {
                returned.tags.contains(&tag)
                    || (shown(of)
                        && attributes::by_tag(tag).is_some_and(|row| row.default || returned.all))
            });
            if wanted {
                result.insert(key, value);
            }
        }
    }
    if let Some(frame) = &row.metadata {
        let json = decompress(frame)?;
        let attributes: BTreeMap<&str, &RawValue> =
            serde_json::from_slice(&json).map_err(inconsistent)?;
        for tag in returned.tags.iter().filter(|tag| is_other(**tag)) {
            let key = tag_key(*tag);
            // A value that is large or only named by URI is fetched through the metadata.
            if let Some(value) = attributes.get(key.as_str())
                && value.get().len() <= MAX_VALUE
                && !value.get().contains("\"BulkDataURI\":\"@")
            {
                result.insert(key, (*value).to_owned());
            }
        }
    }
    let mut add = |tag: Tag, value: Value| -> Result<(), ArchiveError> {
        result.insert(tag_key(tag), to_raw_value(&value).map_err(inconsistent)?);
        Ok(())
    };
    let wants = |tag| returned.all || returned.tags.contains(&tag);
    add(INSTANCE_AVAILABILITY, json!({ "vr": "CS", "Value": ["ONLINE"] }))?;
    add(RETRIEVE_URL, json!({ "vr": "UR", "Value": [url] }))?;
    add(STUDY_UID, json!({ "vr": "UI", "Value": [row.study.as_str()] }))?;
    if let Some(series) = &row.series {
        add(SERIES_UID, json!({ "vr": "UI", "Value": [series.as_str()] }))?;
    }
    if let Some(instance) = &row.instance {
        add(INSTANCE_UID, json!({ "vr": "UI", "Value": [instance.as_str()] }))?;
    }
    if returned.study || wants(MODALITIES_IN_STUDY) {
        add(MODALITIES_IN_STUDY, list("CS", &row.modalities))?;
    }
    for (tag, count, is_shown) in [
        (STUDY_SERIES, row.study_series, returned.study),
        (STUDY_INSTANCES, row.study_instances, returned.study),
        (SERIES_INSTANCES, row.series_instances, returned.series),
    ] {
        if let Some(count) = count.filter(|_| is_shown || wants(tag)) {
            add(tag, json!({ "vr": "IS", "Value": [count] }))?;
        }
    }
    if wants(SOP_CLASSES_IN_STUDY) {
        add(SOP_CLASSES_IN_STUDY, list("UI", &row.sop_classes))?;
    }
    if wants(AVAILABLE_SYNTAXES) {
        add(AVAILABLE_SYNTAXES, list("UI", &row.transfer_syntaxes))?;
    }
    if returned.partition {
        add(CREATOR.0, json!({ "vr": "LO", "Value": [CREATOR.1] }))?;
        add(PARTITION, json!({ "vr": "LO", "Value": [row.partition.as_str()] }))?;
    }
    for attribute in attributes::TABLE {
        // Return type R: present even without a value (PS3.18 Tables 10.6.3-3 to -5).
        if attribute.required
            && shown(attribute.level)
            && let Entry::Vacant(place) = result.entry(tag_key(attribute.tag))
        {
            let empty = json!({ "vr": attribute.vr.to_string() });
            place.insert(to_raw_value(&empty).map_err(inconsistent)?);
        }
    }
    if result.values().any(|value| !value.get().is_ascii()) {
        let utf8 = json!({ "vr": "CS", "Value": ["ISO_IR 192"] });
        result.insert(tag_key(CHARACTER_SET), to_raw_value(&utf8).map_err(inconsistent)?);
    }
    serde_json::to_writer(out, &result).map_err(inconsistent)
}

fn list(vr: &str, values: &[String]) -> Value {
    if values.is_empty() { json!({ "vr": vr }) } else { json!({ "vr": vr, "Value": values }) }
}

fn tag_key(Tag(group, element): Tag) -> String {
    format!("{group:04X}{element:04X}")
}

fn key_tag(key: &str) -> Option<Tag> {
    let number = u32::from_str_radix(key, 16).ok()?;
    Some(Tag((number >> 16) as u16, number as u16))
}

fn inconsistent(error: serde_json::Error) -> ArchiveError {
    ArchiveError::Internal(anyhow::Error::new(error).context("attributes of a row are no JSON"))
}
