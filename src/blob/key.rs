//! Where a blob lies: the only code that builds or takes apart a key.
//!
//! Owns [`Layout`] and [`BlobKey`]. A key is `<prefix>/<room>/<2 hex digits>/<uuid>`, where the
//! room is a partition, or a reserved name that no partition can have because it begins with `_`.
//! The digits are the first two of the id, so that no folder grows beyond a 256th of its
//! partition. Holds: two partitions never share a room, and a listing of one never shows another's.
//! Absent: I/O.

use std::fmt;

use object_store::path::Path;
use uuid::Uuid;

use super::BlobError;
use crate::tenancy::PartitionId;

/// The room of the objects that the start's probe writes.
const PROBE: &str = "_probe";
/// The room of the marker that says whose store this is.
const OWNER: &str = "_owner";
/// Put after a partition id that ends in a dot: Azure and some file systems drop trailing dots, so
/// that `a.` would lie in the room of `a`. Not in the alphabet of partition ids.
const AFTER_DOT: &str = "@";

/// The key of one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobKey {
    path: Path,
    room: Path,
    shard: u8,
}

impl BlobKey {
    /// The key as the object store takes it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The prefix of the partition that the key lies in.
    pub(super) fn room(&self) -> &Path {
        &self.room
    }

    /// Which of the 256 folders of its room the key lies in.
    pub(super) fn shard(&self) -> u8 {
        self.shard
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path.as_ref())
    }
}

/// Turns partitions and ids into keys and back, below one prefix.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: Path,
}

impl Layout {
    /// A layout below `blob.prefix`, which is empty or segments of `A-Z a-z 0-9 . _ -` between
    /// slashes.
    pub(super) fn new(prefix: &str) -> Result<Self, BlobError> {
        let trimmed = prefix.trim_matches('/');
        let fits = |segment: &str| {
            !segment.is_empty()
                && !segment.ends_with('.')
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !trimmed.is_empty() && !trimmed.split('/').all(fits) {
            return Err(BlobError::config(
                "blob.prefix",
                "must be segments of A-Z, a-z, 0-9, '.', '_' and '-' between slashes, none ending in a dot",
            ));
        }
        Ok(Self { prefix: Path::from(trimmed) })
    }

    /// The key of a partition's blob.
    pub(super) fn blob(&self, partition: &PartitionId, id: Uuid) -> BlobKey {
        self.key(&self.room(partition), id)
    }

    /// The prefix of everything that a partition holds.
    pub(super) fn room(&self, partition: &PartitionId) -> Path {
        let id = partition.as_str();
        let after = if id.ends_with('.') { AFTER_DOT } else { "" };
        self.prefix.clone().join(format!("{id}{after}"))
    }

    /// The key of an object that the probe writes.
    pub(super) fn probe(&self, id: Uuid) -> BlobKey {
        self.key(&self.prefix.clone().join(PROBE), id)
    }

    /// The key of the marker that says whose store this is.
    pub(super) fn owner(&self) -> BlobKey {
        self.key(&self.prefix.clone().join(OWNER), Uuid::nil())
    }

    /// The prefix of all rooms.
    pub(super) fn rooms(&self) -> &Path {
        &self.prefix
    }

    /// The partition whose room this is; `None` for reserved rooms and for what is not ours.
    pub(super) fn partition_of(&self, room: &Path) -> Option<PartitionId> {
        let name = room.filename()?;
        let partition: PartitionId = name.strip_suffix(AFTER_DOT).unwrap_or(name).parse().ok()?;
        (self.room(&partition) == *room).then_some(partition)
    }

    /// The id of a listed object of `partition`; `None` for what is not a blob of ours.
    pub(super) fn id_of(&self, partition: &PartitionId, path: &Path) -> Option<Uuid> {
        let id: Uuid = path.filename()?.parse().ok()?;
        (self.blob(partition, id).path == *path).then_some(id)
    }

    /// Whether a path is the key of some partition's blob.
    pub(super) fn is_blob(&self, path: &Path) -> bool {
        let mut segments: Vec<_> = path.parts().collect();
        segments.truncate(segments.len().saturating_sub(2));
        let partition = self.partition_of(&Path::from_iter(segments));
        partition.is_some_and(|partition| self.id_of(&partition, path).is_some())
    }

    fn key(&self, room: &Path, id: Uuid) -> BlobKey {
        let [shard, ..] = *id.as_bytes();
        let path = room.clone().join(format!("{shard:02x}")).join(id.hyphenated().to_string());
        BlobKey { path, room: room.clone(), shard }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(text: &str) -> PartitionId {
        text.parse().unwrap()
    }

    const ID: Uuid = Uuid::from_u128(0x1a2b_3c4d_0000_4000_8000_0000_0000_00ff);

    #[test]
    fn a_key_is_prefix_partition_two_digits_and_id() {
        for (prefix, of, expected) in [
            ("", "clinic1", "clinic1/1a/1a2b3c4d-0000-4000-8000-0000000000ff"),
            ("a/b", "clinic1", "a/b/clinic1/1a/1a2b3c4d-0000-4000-8000-0000000000ff"),
            ("/a/b/", "c-1_x.y", "a/b/c-1_x.y/1a/1a2b3c4d-0000-4000-8000-0000000000ff"),
            ("", "c.", "c.@/1a/1a2b3c4d-0000-4000-8000-0000000000ff"),
        ] {
            let layout = Layout::new(prefix).unwrap();
            let key = layout.blob(&partition(of), ID);
            assert_eq!(key.to_string(), expected);
            assert_eq!(layout.id_of(&partition(of), key.path()), Some(ID));
            assert!(layout.is_blob(key.path()));
            assert_eq!(layout.partition_of(key.room()), Some(partition(of)));
        }
    }

    #[test]
    fn a_partition_with_a_trailing_dot_has_its_own_room() {
        let layout = Layout::new("").unwrap();
        assert_ne!(layout.room(&partition("c")), layout.room(&partition("c.")));
        assert_eq!(layout.partition_of(&Path::from("c@")), None, "not a room of ours");
        assert_eq!(layout.partition_of(&Path::from("c.")), None, "not a room of ours");
    }

    #[test]
    fn what_is_not_ours_is_not_a_blob() {
        let layout = Layout::new("p").unwrap();
        for path in [
            "p/c/1a/notes.txt",
            "p/c/1a2b3c4d-0000-4000-8000-0000000000ff",
            "p/c/ff/1a2b3c4d-0000-4000-8000-0000000000ff",
            "p/d/1a/1a2b3c4d-0000-4000-8000-0000000000ff",
            "c/1a/1a2b3c4d-0000-4000-8000-0000000000ff",
            "p/c/1a/1A2B3C4D-0000-4000-8000-0000000000FF",
            "p/c/1a/1a2b3c4d0000400080000000000000ff",
        ] {
            assert_eq!(layout.id_of(&partition("c"), &Path::from(path)), None, "{path}");
        }
        for path in ["", "p", "p/c/1a", "c/1a/1a2b3c4d-0000-4000-8000-0000000000ff"] {
            assert!(!layout.is_blob(&Path::from(path)), "{path}");
        }
        for reserved in [layout.probe(ID), layout.owner()] {
            assert_eq!(layout.partition_of(reserved.room()), None, "{reserved}");
            assert!(!layout.is_blob(reserved.path()));
        }
    }

    #[test]
    fn a_prefix_that_could_be_misread_is_refused() {
        for prefix in ["a//b", "..", "a/../b", ".", "a b", "a%2f", "\u{e9}", "a/."] {
            let refused = Layout::new(prefix).unwrap_err().to_string();
            assert!(refused.starts_with("blob.prefix"), "{prefix}: {refused}");
        }
    }
}
