//! Headers of instances that were asked about lately, parsed.
//!
//! Holds: entries are found by partition and watermark, so that no partition sees another's, and
//! what is found never changes, since watermarks are not used again; that the instance is still
//! there is for the caller to know. Bounded by an estimate of the memory that parsed JSON takes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{dicom::data_set::DataSet, tenancy::PartitionId};

/// What all entries may take, in bytes.
const BYTES: usize = 32 << 20;
/// Bytes that a byte of JSON takes once it is parsed, about: maps, keys and small texts cost more
/// than their letters.
const FACTOR: usize = 8;

type Key = (PartitionId, i64);

/// The cache.
#[derive(Default)]
pub(super) struct HeaderCache(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    found: HashMap<Key, Entry>,
    /// Keys by when they were last used, the longest ago first.
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

struct Entry {
    header: Arc<DataSet>,
    bytes: usize,
    used: u64,
}

impl HeaderCache {
    /// The header of a version, if it is here.
    pub(super) fn get(&self, partition: &PartitionId, watermark: i64) -> Option<Arc<DataSet>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = &mut *entries;
        let key = (partition.clone(), watermark);
        let entry = entries.found.get_mut(&key)?;
        entries.clock += 1;
        entries.order.remove(&entry.used);
        entry.used = entries.clock;
        entries.order.insert(entry.used, key);
        Some(entry.header.clone())
    }

    /// Drops versions that are gone.
    pub(super) fn forget(&self, partition: &PartitionId, watermarks: &[i64]) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for watermark in watermarks {
            entries.forget(&(partition.clone(), *watermark));
        }
    }

    /// Keeps a header that came from `json` bytes. One that would take more than a quarter of the
    /// cache is not kept.
    pub(super) fn put(
        &self,
        partition: &PartitionId,
        watermark: i64,
        header: &Arc<DataSet>,
        json: usize,
    ) {
        let bytes = json.saturating_mul(FACTOR);
        if bytes > BYTES / 4 {
            return;
        }
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = &mut *entries;
        let key = (partition.clone(), watermark);
        entries.forget(&key);
        entries.clock += 1;
        let used = entries.clock;
        entries.order.insert(used, key.clone());
        entries.found.insert(key, Entry { header: header.clone(), bytes, used });
        entries.bytes += bytes;
        while entries.bytes > BYTES {
            let Some((_, oldest)) = entries.order.first_key_value() else { break };
            let oldest = oldest.clone();
            entries.forget(&oldest);
        }
    }
}

impl Entries {
    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.found.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_partitions_are_apart() {
        let cache = HeaderCache::default();
        let (a, b): (PartitionId, PartitionId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let header = Arc::new(DataSet::default());
        let fifth = BYTES / FACTOR / 5;
        for watermark in 1..=5 {
            cache.put(&a, watermark, &header, fifth);
        }
        assert!(cache.get(&b, 1).is_none());
        assert!(cache.get(&a, 1).is_some(), "used again");
        cache.put(&a, 6, &header, fifth);
        assert!(cache.get(&a, 2).is_none());
        for watermark in [1, 3, 4, 5, 6] {
            assert!(cache.get(&a, watermark).is_some(), "{watermark}");
        }
        cache.forget(&b, &[1, 3]);
        cache.forget(&a, &[3, 4, 99]);
        for (watermark, is_there) in [(1, true), (3, false), (4, false), (5, true)] {
            assert_eq!(cache.get(&a, watermark).is_some(), is_there, "{watermark}");
        }
        cache.put(&a, 6, &header, fifth);
        cache.put(&a, 7, &header, BYTES / FACTOR / 4 + 1);
        assert!(cache.get(&a, 7).is_none());
        assert!(cache.get(&a, 1).is_some(), "nothing went for what is too large");
    }
}
