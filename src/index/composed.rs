//! Composed blobs: new versions that share bytes with the first version of their instance.
//!
//! Such a blob holds the beginning of one file, which was written anew; the rest of the file is the
//! rest of the first version's. A row says from which byte on, and names the first version by its
//! watermark and not by its place: wherever that version is moved (`compaction`), buried
//! (`originals`) or brought back (`undelete`), the rest of the file is there. To everybody else a
//! composed blob looks like one that holds the whole file, and its id says what it is
//! ([`is_composed`]), so that no look-up of any other blob has to ask.
//!
//! Holds: the bytes that are shared stay as long as somebody may ask for them, because a first version
//! lives as long as its instance, and can come back as long as its instance can; the two are deleted,
//! brought back and erased in one transaction. A composed blob never shares bytes of another one. Its
//! row goes when its object is gone. Absent: bytes, and who shares which (`archive`).

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use sqlx::Row;
use uuid::{Builder, Uuid};

use super::{
    IndexError, PartitionTx,
    located::{bigint, size},
    lookup::one,
};

/// Of those of some blobs whose first version is known still.
const PLACES: &str = concat!(
    "-- composed_places
    SELECT c.blob_id, c.original, c.head_length, c.rest_at, coalesce(o.blob_id, d.blob_id),
        coalesce(o.blob_offset, d.blob_offset), coalesce(o.length, d.length)
    FROM unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "composed_blob", "blob_id", "n.key"),
    " c LEFT JOIN LATERAL ",
    one!("*", "original_instance", "watermark", "c.original"),
    " o ON true LEFT JOIN LATERAL ",
    one!("*", "deleted_instance", "watermark", "c.original"),
    " d ON true
    WHERE coalesce(o.length, d.length) > c.rest_at"
);

/// The version that is replaced, `replaces`, is or has the first one by then. Nothing where that is
/// not the one that was read, or is not as long.
const CREATE: &str = concat!(
    "-- composed_create
    INSERT INTO composed_blob (partition_id, blob_id, original, head_length, rest_at)
    SELECT o.partition_id, n.blob, o.watermark, n.head, n.at
    FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
        AS n(blob, replaces, original, head, at, length) CROSS JOIN LATERAL ",
    one!("*", "original_instance", "of_watermark", "n.replaces"),
    " o
    WHERE o.watermark = n.original AND o.length - n.at = n.length - n.head
    RETURNING blob_id"
);

const REMOVED: &str = concat!(
    "-- composed_removed
    DELETE FROM composed_blob t
    USING unnest($2::uuid[]) AS n(key) CROSS JOIN LATERAL ",
    one!("ctid AS at", "composed_blob", "blob_id", "n.key"),
    " x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
);

pub(super) const STATEMENTS: &[&str] = &[PLACES, CREATE, REMOVED];

/// The version of the ids of composed blobs (RFC 9562 §5.8); those of others are random (§5.4).
const VERSION: usize = 8;

/// A new id for a composed blob.
pub fn composed_id() -> Uuid {
    Builder::from_custom_bytes(Uuid::new_v4().into_bytes()).into_uuid()
}

/// Whether a blob is a composed one.
pub fn is_composed(blob: Uuid) -> bool {
    blob.get_version_num() == VERSION
}

/// What a composed blob is made of, and where that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Composed {
    /// Its id.
    pub blob: Uuid,
    /// Bytes that it holds itself.
    pub head: u64,
    /// The blob that has the rest, where it begins there, and its length.
    pub rest: (Uuid, u64, u64),
    /// Of which file that is: the watermark of the first version, and the first byte.
    pub shared: Shared,
}

impl Composed {
    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.head.saturating_add(self.rest.2)
    }

    /// Where ranges of the file are, in their order. What leaves the file leaves the blob that has
    /// its end.
    pub fn pieces(&self, ranges: &[Range<u64>]) -> Vec<(Uuid, Range<u64>)> {
        let (rest, at, _) = self.rest;
        let mut pieces = Vec::with_capacity(ranges.len() + 1);
        for range in ranges {
            let of_head = range.start..range.end.min(self.head);
            if !of_head.is_empty() {
                pieces.push((self.blob, of_head));
            }
            let of_rest = range.start.max(self.head)..range.end;
            if !of_rest.is_empty() {
                let place = |byte: u64| (byte - self.head).saturating_add(at);
                pieces.push((rest, place(of_rest.start)..place(of_rest.end)));
            }
        }
        pieces
    }
}

/// From which byte on a file is that of a first version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The watermark of the first version.
    pub original: i64,
    /// Bytes of the file that are its own.
    pub head: u64,
    /// The byte of the first version's file that comes behind them.
    pub at: u64,
}

impl PartitionTx {
    /// What some composed blobs are made of; one of which something is gone for good is left out.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn composed(
        &mut self,
        blobs: &[Uuid],
    ) -> Result<HashMap<Uuid, Composed>, IndexError> {
        const TABLE: &str = "composed_blob";
        let (query, conn) = self.statement(PLACES);
        let rows = query.bind(blobs).fetch_all(conn).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let blob = row.try_get(0)?;
            let (head, at) = (size(row, 2, TABLE, "head_length")?, size(row, 3, TABLE, "rest_at")?);
            let offset = size(row, 5, "original_instance", "blob_offset")?.saturating_add(at);
            let length = size(row, 6, "original_instance", "length")?.saturating_sub(at);
            let shared = Shared { original: row.try_get(1)?, head, at };
            let rest = (row.try_get(4)?, offset, length);
            found.insert(blob, Composed { blob, head, rest, shared });
        }
        Ok(found)
    }

    /// What new versions of some live instances, named by watermark and blob, can share with their
    /// first ones. Those that have no bytes in common that are known are left out.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn shareable(
        &mut self,
        places: &[(i64, Uuid)],
    ) -> Result<HashMap<i64, Shared>, IndexError> {
        let (composed, whole): (Vec<_>, Vec<_>) =
            places.iter().copied().partition(|(_, blob)| is_composed(*blob));
        let mut shareable = HashMap::with_capacity(places.len());
        if !whole.is_empty() {
            let whole: Vec<i64> = whole.into_iter().map(|(watermark, _)| watermark).collect();
            let later = self.originals_of(&whole).await?;
            let later: HashSet<i64> = later.into_iter().map(|(of, _)| of).collect();
            let first = whole.into_iter().filter(|watermark| !later.contains(watermark));
            shareable.extend(first.map(|it| (it, Shared { original: it, head: 0, at: 0 })));
        }
        if !composed.is_empty() {
            let blobs: Vec<Uuid> = composed.iter().map(|(_, blob)| *blob).collect();
            let found = self.composed(&blobs).await?;
            let shared = composed.into_iter().filter_map(|(watermark, blob)| {
                found.get(&blob).map(|composed| (watermark, composed.shared))
            });
            shareable.extend(shared);
        }
        Ok(shareable)
    }

    /// Notes what composed blobs are made of, each with the version that its file replaces and the
    /// length of that file. First versions are kept by then (`originals`).
    pub(super) async fn composed_create(
        &mut self,
        composed: &[(Uuid, i64, Shared, u64)],
    ) -> Result<(), IndexError> {
        if composed.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&(Uuid, i64, Shared, u64)) -> i64| -> Vec<i64> {
            composed.iter().map(of).collect()
        };
        let blobs: Vec<Uuid> = composed.iter().map(|(blob, ..)| *blob).collect();
        let (query, conn) = self.statement(CREATE);
        let query = query
            .bind(blobs)
            .bind(column(|(_, replaces, ..)| *replaces))
            .bind(column(|(_, _, shared, _)| shared.original))
            .bind(column(|(_, _, shared, _)| bigint(shared.head)))
            .bind(column(|(_, _, shared, _)| bigint(shared.at)))
            .bind(column(|(.., length)| bigint(*length)));
        if query.fetch_all(conn).await?.len() < composed.len() {
            return Err(IndexError::Inconsistent { table: "composed_blob", column: "original" });
        }
        Ok(())
    }

    /// The objects of blobs are gone from the store.
    pub(super) async fn composed_removed(&mut self, blobs: &[Uuid]) -> Result<(), IndexError> {
        let composed: Vec<Uuid> = blobs.iter().copied().filter(|id| is_composed(*id)).collect();
        if !composed.is_empty() {
            let (query, conn) = self.statement(REMOVED);
            query.bind(composed).execute(conn).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_composed_blobs_from_others() {
        for _ in 0..100 {
            assert!(is_composed(composed_id()));
            assert!(!is_composed(Uuid::new_v4()));
        }
        assert!(!is_composed(Uuid::nil()));
        assert_ne!(composed_id(), composed_id());
    }

    #[test]
    fn a_range_lies_in_the_head_in_the_rest_or_in_both() {
        let (blob, rest) = (composed_id(), Uuid::new_v4());
        let shared = Shared { original: 1, head: 100, at: 40 };
        // A first version of 1,000 bytes at byte 5,000, of which all but 40 follow.
        let it = Composed { blob, head: 100, rest: (rest, 5_040, 960), shared };
        assert_eq!(it.length(), 1_060);
        let cut = |range: Range<u64>| it.pieces(std::slice::from_ref(&range));
        assert_eq!(cut(0..100), [(blob, 0..100)]);
        assert_eq!(cut(10..20), [(blob, 10..20)]);
        assert_eq!(cut(100..1_060), [(rest, 5_040..6_000)]);
        assert_eq!(cut(99..101), [(blob, 99..100), (rest, 5_040..5_041)]);
        assert_eq!(cut(0..1_060), [(blob, 0..100), (rest, 5_040..6_000)]);
        assert_eq!(cut(50..50), []);
        assert_eq!(cut(700..700), []);
        let two = it.pieces(&[500..600, 0..10]);
        assert_eq!(two, [(rest, 5_440..5_540), (blob, 0..10)]);
    }
}
