//! Frame tables: kept so that finding one frame costs the same whatever their number.
//!
//! Native frames have a fixed stride: three numbers. Encapsulated frames are fixed-size entries in
//! an uncompressed column, of which a lookup reads only the slices that it needs.

use sqlx::{
    Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{
    IndexError, Located, NewInstance, PartitionTx, Target,
    located::{LOCATED_COLUMNS, bigint, located_columns},
    lookup::{from_instance, one, series_uid_of_i, study_uid_of_i},
};
use crate::dicom::frames::FrameTable;

/// `$5` and `$6` are runs of frames: the first (from 0) and how many. With `starts` a run yields
/// its numbers of fragments (one more than frames), else the fragments themselves.
const FRAMES_LOCATE: &str = concat!(
    "-- frames_locate
    SELECT ",
    located_columns!(),
    ",
        f.number_of_frames, f.native_offset, f.native_length, f.native_frame_bits,
        f.starts IS NOT NULL,
        CASE
            WHEN f.starts IS NOT NULL THEN ARRAY(
                SELECT substring(f.starts FROM r.first * 4 + 1 FOR r.count * 4 + 4)
                FROM unnest($5::integer[], $6::integer[]) WITH ORDINALITY AS r(first, count, n)
                ORDER BY r.n)
            WHEN f.fragments IS NOT NULL THEN ARRAY(
                SELECT substring(f.fragments FROM r.first * 12 + 1 FOR r.count * 12)
                FROM unnest($5::integer[], $6::integer[]) WITH ORDINALITY AS r(first, count, n)
                ORDER BY r.n)
        END
    ",
    from_instance!("$4"),
    " CROSS JOIN LATERAL ",
    one!("*", "frame_table", "watermark", "i.watermark"),
    " f
    WHERE ",
    study_uid_of_i!(),
    " = $2 AND ",
    series_uid_of_i!(),
    " = $3"
);

const FRAGMENTS_READ: &str = concat!(
    "-- fragments_read
    SELECT substring(f.fragments FROM r.first * 12 + 1 FOR r.count * 12)
    FROM unnest($3::integer[], $4::integer[]) AS r(first, count) CROSS JOIN LATERAL ",
    one!("*", "frame_table", "watermark", "$2"),
    " f"
);

pub(super) const STATEMENTS: &[&str] = &[FRAMES_LOCATE, FRAGMENTS_READ];

/// Bytes of one entry of `fragments`.
const FRAGMENT: usize = 12;

/// Most fragments of one instance: 200 MB of entries, well inside the 1 GB of a column and the
/// 32-bit offsets of `substring`. `limits.frames` stops far earlier.
const MAX_FRAGMENTS: usize = 1 << 24;

/// The stride of native frames. With a `frame_bits` that is no multiple of 8 frames begin and end
/// inside bytes: frame *n* (from 0) is `frame_bits` bits from bit `n * frame_bits` of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeFrames {
    /// First byte of the pixel data value in the file.
    pub offset: u64,
    /// Length of the value in bytes.
    pub length: u64,
    /// Bits of one frame.
    pub frame_bits: u64,
}

/// The pieces of one frame, in order: offset in the file and length, in bytes.
pub type Pieces = Vec<(u64, u64)>;

/// Where some frames of an instance are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramesLocated {
    /// The instance.
    pub located: Located,
    /// How many frames it has.
    pub number_of_frames: u32,
    /// Set where pixel data is native.
    pub native: Option<NativeFrames>,
    /// For each frame asked for, in that order: its bytes in the file; `None` for a frame that the
    /// instance does not have. Native frames that do not begin on a byte come with the whole first
    /// and last byte.
    pub ranges: Vec<Option<Pieces>>,
}

/// The columns of `frame_table`, one entry for each instance that has a frame table.
#[derive(Default)]
pub(super) struct Rows {
    keys: Vec<i64>,
    frames: Vec<i32>,
    native: [Vec<Option<i64>>; 3],
    fragments: Vec<Option<Vec<u8>>>,
    starts: Vec<Option<Vec<u8>>>,
}

impl Rows {
    /// Of instances by what tells them apart in the statement: watermarks, or places.
    pub(super) fn of(stored: &[(i64, &NewInstance<'_>)]) -> Self {
        let mut rows = Self::default();
        for (key, new) in stored {
            if let Some(table) = &new.indexed.frames {
                rows.push(*key, table);
            }
        }
        rows
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds a row; one beyond what the columns can address is left out, as if the frames could not
    /// be told apart.
    fn push(&mut self, key: i64, table: &FrameTable) {
        let mut native = [None; 3];
        let (count, fragments, starts) = match table {
            FrameTable::Native { offset, length, frame_bits, frames } => {
                native = [*offset, *length, *frame_bits].map(|size| Some(bigint(size)));
                (*frames as usize, None, None)
            }
            FrameTable::Fragment { frames } => (frames.len(), Some(entries(frames)), None),
            FrameTable::Fragments { frames } => {
                let all: Vec<(u64, u32)> = frames.iter().flatten().copied().collect();
                let mut starts = Vec::with_capacity((frames.len() + 1) * 4);
                let mut first = 0_u32;
                starts.extend(first.to_be_bytes());
                for fragments in frames {
                    first =
                        first.saturating_add(u32::try_from(fragments.len()).unwrap_or(u32::MAX));
                    starts.extend(first.to_be_bytes());
                }
                (frames.len(), Some(entries(&all)), Some(starts))
            }
        };
        let too_many = fragments.as_ref().is_some_and(|f| f.len() / FRAGMENT > MAX_FRAGMENTS);
        let Ok(count) = i32::try_from(count) else { return };
        if too_many {
            return;
        }
        self.keys.push(key);
        self.frames.push(count);
        for (column, value) in self.native.iter_mut().zip(native) {
            column.push(value);
        }
        self.fragments.push(fragments);
        self.starts.push(starts);
    }

    /// Binds the columns in the order of the table.
    pub(super) fn bind(
        self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Query<'static, Postgres, PgArguments> {
        let [offset, length, bits] = self.native;
        let query = query.bind(self.keys).bind(self.frames);
        query.bind(offset).bind(length).bind(bits).bind(self.fragments).bind(self.starts)
    }
}

fn entries(fragments: &[(u64, u32)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fragments.len() * FRAGMENT);
    for (offset, length) in fragments {
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
    }
    bytes
}

/// Reads entries back; a slice that is no whole number of them is a damaged row.
fn fragments(bytes: &[u8]) -> Result<Vec<(u64, u64)>, IndexError> {
    let (entries, rest) = bytes.as_chunks::<FRAGMENT>();
    if !rest.is_empty() {
        return Err(damaged("fragments"));
    }
    let entry = |[a, b, c, d, e, f, g, h, l @ ..]: &[u8; FRAGMENT]| {
        let offset = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
        (offset, u64::from(u32::from_be_bytes(*l)))
    };
    Ok(entries.iter().map(entry).collect())
}

fn damaged(column: &'static str) -> IndexError {
    IndexError::Inconsistent { table: "frame_table", column }
}

/// Frames asked for, as runs of neighbours: (first from 0, how many).
#[derive(Default)]
struct Runs {
    first: Vec<i32>,
    count: Vec<i32>,
    /// For each frame asked for: which run, and the place in it. `None`: it cannot exist.
    places: Vec<Option<(usize, usize)>>,
}

impl Runs {
    fn of(frames: &[u32]) -> Self {
        let mut runs = Self::default();
        for frame in frames {
            // The largest number whose entry can be addressed at all.
            let number = frame.checked_sub(1).and_then(|n| i32::try_from(n).ok());
            let Some(number) = number.filter(|n| (*n as usize) < MAX_FRAGMENTS) else {
                runs.places.push(None);
                continue;
            };
            let follows = match (runs.first.last(), runs.count.last()) {
                (Some(first), Some(count)) => first + count == number,
                _ => false,
            };
            match runs.count.last_mut() {
                Some(count) if follows => *count += 1,
                _ => {
                    runs.first.push(number);
                    runs.count.push(1);
                }
            }
            let place = runs.count.last().map_or(0, |count| *count as usize - 1);
            runs.places.push(Some((runs.first.len() - 1, place)));
        }
        runs
    }
}

impl PartitionTx {
    /// Finds frames (from 1) of an instance. `None`: the partition does not hold it, or its frames
    /// cannot be told apart. Costs the same whatever the number of frames of the instance.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn frames_locate(
        &mut self,
        target: &Target,
        frames: &[u32],
    ) -> Result<Option<FramesLocated>, IndexError> {
        let Target::Instance { study, series, instance } = target else { return Ok(None) };
        let runs = Runs::of(frames);
        let (query, conn) = self.statement(FRAMES_LOCATE);
        let query = query.bind(study.as_str()).bind(series.as_str()).bind(instance.as_str());
        let row = query.bind(&runs.first).bind(&runs.count).fetch_optional(conn).await?;
        let Some(row) = row else { return Ok(None) };
        let located = Located::read(&row, study.clone(), series.clone())?;
        let number_of_frames = u32::try_from(row.try_get::<i32, _>(LOCATED_COLUMNS)?)
            .map_err(|_| damaged("number_of_frames"))?;
        let native = native(&row)?;
        let ranges = if let Some(native) = native {
            frames.iter().map(|frame| native.range(*frame, number_of_frames)).collect()
        } else {
            let slices: Vec<Vec<u8>> = row.try_get(LOCATED_COLUMNS + 5)?;
            if row.try_get(LOCATED_COLUMNS + 4)? {
                self.many_to_a_frame(located.watermark, &runs, &slices).await?
            } else {
                one_to_a_frame(&runs, &slices)?
            }
        };
        Ok(Some(FramesLocated { located, number_of_frames, native, ranges }))
    }

    /// Reads the fragments of frames whose numbers of fragments are in `slices`.
    async fn many_to_a_frame(
        &mut self,
        watermark: i64,
        runs: &Runs,
        slices: &[Vec<u8>],
    ) -> Result<Vec<Option<Pieces>>, IndexError> {
        // For each run, where each of its frames begins, and behind the last one where it ends.
        let starts: Vec<Vec<i32>> = slices
            .iter()
            .map(|bytes| {
                let numbers = bytes.as_chunks::<4>().0.iter().map(|n| i32::from_be_bytes(*n));
                numbers.collect()
            })
            .collect();
        let bounds = |starts: &Vec<i32>| match (starts.first(), starts.last()) {
            (Some(first), Some(last)) => (*first, last.saturating_sub(*first).max(0)),
            _ => (0, 0),
        };
        let (first, count): (Vec<i32>, Vec<i32>) = starts.iter().map(bounds).unzip();
        let (query, conn) = self.statement(FRAGMENTS_READ);
        let rows = query.bind(watermark).bind(&first).bind(count).fetch_all(conn).await?;
        let mut read = Vec::with_capacity(rows.len());
        for row in &rows {
            read.push(fragments(row.try_get(0)?)?);
        }
        let pieces = |(run, place): (usize, usize)| {
            let starts = starts.get(run)?;
            let origin = *first.get(run)?;
            let from = usize::try_from(starts.get(place)?.checked_sub(origin)?).ok()?;
            let to = usize::try_from(starts.get(place + 1)?.checked_sub(origin)?).ok()?;
            Some(read.get(run)?.get(from..to)?.to_vec())
        };
        Ok(runs.places.iter().map(|place| place.and_then(pieces)).collect())
    }
}

fn one_to_a_frame(runs: &Runs, slices: &[Vec<u8>]) -> Result<Vec<Option<Pieces>>, IndexError> {
    let read = slices.iter().map(|bytes| fragments(bytes)).collect::<Result<Vec<_>, _>>()?;
    let piece = |(run, place): (usize, usize)| Some(vec![*read.get(run)?.get(place)?]);
    Ok(runs.places.iter().map(|place| place.and_then(piece)).collect())
}

fn native(row: &PgRow) -> Result<Option<NativeFrames>, IndexError> {
    let read = |at: usize| -> Result<Option<u64>, IndexError> {
        let number: Option<i64> = row.try_get(LOCATED_COLUMNS + at)?;
        number.map(|n| u64::try_from(n).map_err(|_| damaged("native_offset"))).transpose()
    };
    Ok(match (read(1)?, read(2)?, read(3)?) {
        (Some(offset), Some(length), Some(frame_bits)) => {
            Some(NativeFrames { offset, length, frame_bits })
        }
        _ => None,
    })
}

impl NativeFrames {
    /// The bytes that hold frame `frame` (from 1) of `frames`; `None` where there is no such frame
    /// or the value ends before it does.
    fn range(&self, frame: u32, frames: u32) -> Option<Pieces> {
        if frame == 0 || frame > frames {
            return None;
        }
        let first_bit = u64::from(frame - 1).checked_mul(self.frame_bits)?;
        let end = first_bit.checked_add(self.frame_bits)?.div_ceil(8);
        let first = first_bit / 8;
        (end <= self.length).then(|| vec![(self.offset + first, end - first)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_frames_have_a_stride() {
        let native = NativeFrames { offset: 100, length: 30, frame_bits: 80 };
        assert_eq!(native.range(1, 3), Some(vec![(100, 10)]));
        assert_eq!(native.range(3, 3), Some(vec![(120, 10)]));
        assert_eq!(native.range(0, 3), None);
        assert_eq!(native.range(4, 3), None);
        assert_eq!(native.range(4, 4), None, "the value is too short for a fourth");
    }

    #[test]
    fn single_bit_frames_come_with_their_whole_bytes() {
        let native = NativeFrames { offset: 0, length: 3, frame_bits: 9 };
        assert_eq!(native.range(1, 2), Some(vec![(0, 2)]));
        assert_eq!(native.range(2, 2), Some(vec![(1, 2)]));
    }

    #[test]
    fn neighbours_are_asked_for_together() {
        let runs = Runs::of(&[1, 2, 3, 7, 8, 2, 0, u32::MAX]);
        assert_eq!(runs.first, [0, 6, 1]);
        assert_eq!(runs.count, [3, 2, 1]);
        let places = [Some((0, 0)), Some((0, 1)), Some((0, 2)), Some((1, 0)), Some((1, 1))];
        assert_eq!(runs.places[..5], places);
        assert_eq!(runs.places[5..], [Some((2, 0)), None, None]);
    }

    #[test]
    fn entries_read_back() {
        let list = [(1, 2), (u64::MAX, u32::MAX)];
        let expected = [(1, 2), (u64::MAX, u64::from(u32::MAX))];
        assert_eq!(fragments(&entries(&list)).unwrap(), expected);
        assert!(fragments(&[0; 13]).is_err());
    }
}
