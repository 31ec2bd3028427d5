//! Files, bodies and codestreams that were bent at random: read or refused, never a panic, never
//! memory beyond what the limits allow.
//!
//! The seeds are the files that the other tests make, one for each transfer syntax that can be
//! encoded, and every file under `COLLIMATOR_TEST_FILES` (a folder of real ones, such as pydicom's
//! test files). `PROPTEST_CASES` sets how many cases each test tries.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use proptest::{prelude::*, sample::Index};

#[path = "../suite/harness/corpus.rs"]
#[expect(dead_code, reason = "made for the suite, which uses all of it")]
mod corpus;

mod bodies;
mod deidentified;
mod headers;
mod metadata;
mod payloads;
mod pictures;

/// Counts what one thread holds, so that a test can say how much it may be.
struct Meter;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; the counters are plain numbers of the
// thread, without destructors, so that they can be used at any time.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.get().saturating_add(layout.size());
        HELD.set(held);
        MOST.set(MOST.get().max(held));
        // SAFETY: as this method's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: as this method's own contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static METER: Meter = Meter;

/// Bytes that `work` held at most beyond what was held before it.
pub fn most_held(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    work();
    MOST.get().saturating_sub(before)
}

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Bend {
    Flip(Index, u8),
    Overwrite(Index, [u8; 4]),
    Cut(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
    Truncate(Index),
    /// A 16- or 32-bit number that lies at the edge of something.
    Edge(Index, usize),
}

const EDGES: [&[u8]; 8] = [
    &[0xFF, 0xFF],
    &[0x00, 0x00],
    &[0xFF, 0x7F],
    &[0x00, 0x80],
    &[0xFF, 0xFF, 0xFF, 0xFF],
    &[0xFE, 0xFF, 0xFF, 0xFF],
    &[0x00, 0x00, 0x00, 0x80],
    &[0xFE, 0xFF, 0x00, 0xE0],
];

/// Several changes, to be made one after another.
#[derive(Clone, Debug)]
pub struct Bends(Vec<Bend>);

impl Bends {
    /// The bytes with all changes made. The first `keep` are left as they are.
    pub fn bend(&self, bytes: &[u8], keep: usize) -> Vec<u8> {
        let keep = keep.min(bytes.len());
        let mut bent = bytes.get(keep..).unwrap_or_default().to_vec();
        for bend in &self.0 {
            if bent.is_empty() {
                break;
            }
            bend.apply(&mut bent);
        }
        [bytes.get(..keep).unwrap_or_default(), &bent].concat()
    }
}

impl Bend {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let range = |at: &Index, count: usize| {
            let at = at.index(length);
            at..(at + count).min(length)
        };
        let put = |bytes: &mut Vec<u8>, at: &Index, new: &[u8]| {
            let place = range(at, new.len());
            let count = place.len();
            bytes[place].copy_from_slice(&new[..count]);
        };
        match self {
            Self::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Self::Overwrite(at, new) => put(bytes, at, new),
            Self::Edge(at, which) => put(bytes, at, EDGES[which % EDGES.len()]),
            Self::Cut(at, count) => drop(bytes.drain(range(at, *count))),
            Self::Repeat(at, count) => {
                let place = range(at, *count);
                let copy = bytes[place.clone()].to_vec();
                bytes.splice(place.start..place.start, copy);
            }
            Self::Insert(at, new) => {
                let at = at.index(length);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
}

/// A few changes.
pub fn bends() -> impl Strategy<Value = Bends> {
    let at = any::<Index>;
    let bend = prop_oneof![
        8 => (at(), 1..=255_u8).prop_map(|(at, bits)| Bend::Flip(at, bits)),
        4 => (at(), any::<[u8; 4]>()).prop_map(|(at, new)| Bend::Overwrite(at, new)),
        4 => (at(), 0..EDGES.len()).prop_map(|(at, which)| Bend::Edge(at, which)),
        2 => (at(), 1..64_usize).prop_map(|(at, count)| Bend::Cut(at, count)),
        1 => (at(), 1..64_usize).prop_map(|(at, count)| Bend::Repeat(at, count)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..32)).prop_map(|(a, n)| Bend::Insert(a, n)),
        1 => at().prop_map(Bend::Truncate),
    ];
    prop::collection::vec(bend, 1..6).prop_map(Bends)
}

/// Every seed: its name and its bytes.
pub static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let mut files = pictures::made();
    if let Some(folder) = std::env::var_os("COLLIMATOR_TEST_FILES") {
        let before = files.len();
        for path in listed(Path::new(&folder)) {
            let bytes = std::fs::read(&path).unwrap();
            // Larger ones bring no other structure, only time.
            if bytes.len() < 512 * 1024 {
                files.push((path.display().to_string(), bytes));
            }
        }
        assert!(files.len() > before, "no file in COLLIMATOR_TEST_FILES");
    }
    files
});

fn listed(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(listed(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
