//! What can be wrong, and what to do about it.
//!
//! A finding names ids alone: UIDs that are UIDs, watermarks, blobs, tables. What rows or files hold
//! is never repeated.

use std::{collections::BTreeMap, fmt};

use uuid::Uuid;

use crate::{dicom::Uid, tenancy::PartitionId};

/// Defines the kinds, their names and what to do about each.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident $name:literal $advice:literal,)*) => {
        /// A kind of damage. The names are published: reports, metrics and the table of damage have
        /// them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// What to do about it.
            pub fn advice(self) -> &'static str {
                match self {
                    $(Self::$kind => $advice,)*
                }
            }
        }
    };
}

kinds! {
    /// The store has no object for a blob.
    BlobMissing "blob_missing"
        "restore the object of this key from a backup of the blob store",
    /// The object is longer or shorter than its row says.
    BlobLength "blob_length"
        "restore the object of this key from a backup of the blob store",
    /// The store answers, but not with this blob.
    BlobUnreadable "blob_unreadable"
        "look at the disk or the store's own log, then restore the object from a backup",
    /// A blob without a live instance that does not await removal.
    BlobUnused "blob_unused"
        "nothing is lost; its bytes stay until its row is deleted and the sweeper finds it",
    /// Two instances lie over each other.
    BlobOverlap "blob_overlap"
        "retrieve both and compare them with their senders; delete and store again what is wrong",
    /// An instance does not lie inside its blob, or in none.
    OutsideBlob "outside_blob"
        "restore the database from a backup, or delete the instance and store it again",
    /// The object ends before the instance does, or is not there.
    BytesMissing "bytes_missing"
        "restore the blob from a backup, or delete the instance and store it again",
    /// The SHA-256 noted at Store is not that of the bytes.
    BytesDiffer "bytes_differ"
        "restore the blob from a backup, or delete the instance and store it again",
    /// An instance or series without its study.
    StudyMissing "study_missing"
        "restore the database from a backup, or delete and store the study again",
    /// An instance without its series.
    SeriesMissing "series_missing"
        "restore the database from a backup, or delete and store the study again",
    /// An instance whose series belongs to another study.
    ParentsDisagree "parents_disagree"
        "restore the database from a backup, or delete and store the study again",
    /// A series without instances.
    SeriesEmpty "series_empty"
        "delete the series; nothing is lost",
    /// A study without series.
    StudyEmpty "study_empty"
        "delete the study; nothing is lost",
    /// Search tells other counts than there are rows.
    CountsDiffer "counts_differ"
        "an index of the database is damaged: REINDEX the tables instance and series",
    /// An instance without metadata.
    MetadataMissing "metadata_missing"
        "delete the instance and store it again; its bytes are in its blob",
    /// Metadata that does not decompress or is no JSON.
    MetadataUnreadable "metadata_unreadable"
        "delete the instance and store it again; its bytes are in its blob",
    /// Metadata of another instance.
    MetadataDiffers "metadata_differs"
        "delete the instance and store it again; its bytes are in its blob",
    /// A frame table that leads outside of the file, or does not add up.
    FramesWrong "frames_wrong"
        "delete the instance and store it again; its bytes are in its blob",
    /// A study that is not found by a modality or SOP class that it has.
    TermMissing "term_missing"
        "delete the instance and store it again; the term comes back",
    /// A term that stands elsewhere in the order of results than its study.
    TermAstray "term_astray"
        "delete and store the study again",
    /// Rows of an instance, series or study that is not there.
    RowsLeft "rows_left"
        "nothing is lost; the rows may be deleted",
    /// A live instance that the change feed does not tell of.
    EventMissing "event_missing"
        "followers of the feed do not know of it: delete and store it again",
    /// A deleted instance whose deletion the change feed does not tell.
    DeletionUntold "deletion_untold"
        "followers of the feed still believe in it: tell them by hand",
    /// An event of an instance that is neither there nor was deleted.
    InstanceLost "instance_lost"
        "restore the database from a backup, or store the instance again",
    /// The change feed tells the deletion of an instance that is there.
    EventContradicted "event_contradicted"
        "followers of the feed take it for deleted: delete and store it again",
    /// Numbers of the change feed that nobody can read.
    FeedHole "feed_hole"
        "followers of the feed must compare what they have with a search, once",
    /// Events of the change feed whose numbers or times run backwards.
    FeedOrder "feed_order"
        "followers of the feed must compare what they have with a search, once",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// Study Instance UID.
    pub study: Option<String>,
    /// Series Instance UID.
    pub series: Option<String>,
    /// SOP Instance UID.
    pub instance: Option<String>,
    /// The stored version of the instance.
    pub watermark: Option<i64>,
    /// The blob.
    pub blob: Option<Uuid>,
    /// The number in the change feed.
    pub sequence: Option<i64>,
    /// What else there is to say: numbers and names of tables.
    pub detail: Option<String>,
}

impl Finding {
    /// A finding that names nothing yet.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            study: None,
            series: None,
            instance: None,
            watermark: None,
            blob: None,
            sequence: None,
            detail: None,
        }
    }

    pub(super) fn study(mut self, uid: Option<&str>) -> Self {
        self.study = uid.and_then(known);
        self
    }

    pub(super) fn series(mut self, uid: Option<&str>) -> Self {
        self.series = uid.and_then(known);
        self
    }

    pub(super) fn instance(mut self, uid: &str, watermark: i64) -> Self {
        self.instance = known(uid);
        self.watermark = Some(watermark);
        self
    }

    pub(super) fn watermark(mut self, watermark: i64) -> Self {
        self.watermark = Some(watermark);
        self
    }

    pub(super) fn blob(mut self, blob: Uuid) -> Self {
        self.blob = Some(blob);
        self
    }

    pub(super) fn sequence(mut self, sequence: i64) -> Self {
        self.sequence = Some(sequence);
        self
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// What it is about, in words without spaces that are the same whenever it is found again.
    pub fn subject(&self) -> String {
        let mut words = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("{name}={value}")));
        };
        match (self.watermark, self.sequence, self.blob) {
            (Some(watermark), _, _) => add("watermark", Some(watermark.to_string())),
            (_, Some(sequence), _) => add("sequence", Some(sequence.to_string())),
            (_, _, Some(blob)) => add("blob", Some(blob.to_string())),
            _ => {
                add("study", self.study.clone());
                add("series", self.series.clone());
                let nameless = self.study.is_none() && self.series.is_none();
                let detail = self.detail.as_ref().filter(|_| nameless);
                add("detail", detail.map(|detail| detail.replace(' ', "_")));
            }
        }
        words.join(" ")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        let mut tell = |name: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => write!(f, " {name} {value}"),
            None => Ok(()),
        };
        tell("study", self.study.as_ref().map(|it| it as _))?;
        tell("series", self.series.as_ref().map(|it| it as _))?;
        tell("instance", self.instance.as_ref().map(|it| it as _))?;
        tell("watermark", self.watermark.as_ref().map(|it| it as _))?;
        tell("blob", self.blob.as_ref().map(|it| it as _))?;
        tell("sequence", self.sequence.as_ref().map(|it| it as _))?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

/// A UID, where it is one: a damaged row may hold anything.
fn known(text: &str) -> Option<String> {
    text.parse::<Uid>().is_ok().then(|| text.to_owned())
}

/// What was looked at in a partition, and what was seen besides damage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Instances whose rows were looked at.
    pub instances: u64,
    /// Series.
    pub series: u64,
    /// Studies.
    pub studies: u64,
    /// Blobs whose rows and objects were looked at.
    pub blobs: u64,
    /// Bytes that were read of blobs and hashed.
    pub bytes: u64,
    /// Objects that the store listed.
    pub objects: u64,
    /// Events of the change feed.
    pub events: u64,
    /// Objects that no row knows.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Those of them that are older than the sweeper spares.
    pub orphans_overdue: u64,
}

/// A partition that was looked through.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The partition.
    pub partition: PartitionId,
    /// What was looked at.
    pub tally: Tally,
    /// How often each kind of damage was found.
    pub damage: BTreeMap<Kind, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_what_is_no_uid_is_not_told() {
        let names: std::collections::BTreeSet<&str> =
            Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let finding = Finding::new(Kind::BytesDiffer).study(Some("Doe^Jane")).instance("1.2", 7);
        assert_eq!(finding.to_string(), "bytes_differ instance 1.2 watermark 7");
        assert_eq!(finding.subject(), "watermark=7");
        let empty = Finding::new(Kind::StudyEmpty).study(Some("1.2"));
        assert_eq!(empty.subject(), "study=1.2");
    }
}
