//! Metadata of instances that were stored together, as one piece.
//!
//! The instances of a series say nearly the same, so that together they take a tenth of what they
//! take one by one, and reading a study is reading a few pieces. Owns the form; it is compressed as
//! [`super::kept`] says. Holds: a pack that is no pack is told, and takes no more memory than it
//! says it does, which is bounded. Absent: which instances live ([`crate::index`]): a pack is a
//! copy.
//!
//! Form, numbers in little endian: a byte that says which form; how many series (2 bytes), each a
//! UID; how many members (4), each its watermark (8), the number of its series (2), the length of
//! its JSON (4) and its UID; the JSON of all. A UID is its length (1) and its characters.

use std::{io, ops::Range};

use super::{Uid, kept};

/// The one form that there is so far.
const FORM: u8 = 1;

/// JSON in a pack, in bytes, from which nothing is added to it.
const FULL: usize = 512 << 10;

/// Longest JSON of a member, in bytes. What is longer gains nothing by company.
pub const LONGEST: usize = 16 << 10;

/// Watermarks from the first to the last of a pack. What spans no more can be found by where its
/// first one is.
pub const SPAN: i64 = 1024;

/// Makes packs of instances, which come ascending by watermark.
#[derive(Debug, Default)]
pub struct Packer {
    series: Vec<(Uid, i64)>,
    watermarks: Vec<i64>,
    table: Vec<u8>,
    json: Vec<u8>,
}

/// A pack as it is kept.
#[derive(Debug)]
pub struct Packed {
    /// The watermarks of its members, ascending.
    pub watermarks: Vec<i64>,
    /// Keys of their series.
    pub series: Vec<i64>,
    /// The pack, compressed.
    pub bytes: Vec<u8>,
}

impl Packer {
    /// Adds an instance, its series by UID and key, unless it is better kept apart. Answers the
    /// pack before it, where that is full.
    ///
    /// # Errors
    /// Where memory is short.
    pub fn add(
        &mut self,
        watermark: i64,
        (series, series_key): (&Uid, i64),
        instance: &Uid,
        json: &[u8],
    ) -> io::Result<Option<Packed>> {
        let (Ok(length), Ok(uid_length)) =
            (u32::try_from(json.len()), u8::try_from(instance.as_str().len()))
        else {
            return Ok(None);
        };
        if json.len() > LONGEST {
            return Ok(None);
        }
        let is_far = self.watermarks.first().is_some_and(|first| watermark - first >= SPAN);
        let full = if is_far || self.json.len() + json.len() > FULL { self.take()? } else { None };
        let known = self.series.iter().position(|(_, key)| *key == series_key);
        let number = known.unwrap_or(self.series.len());
        // There are not more series than watermarks.
        let Ok(number) = u16::try_from(number) else { return Ok(full) };
        if known.is_none() {
            self.series.push((series.clone(), series_key));
        }
        self.watermarks.push(watermark);
        self.table.extend_from_slice(&watermark.to_le_bytes());
        self.table.extend_from_slice(&number.to_le_bytes());
        self.table.extend_from_slice(&length.to_le_bytes());
        self.table.push(uid_length);
        self.table.extend_from_slice(instance.as_str().as_bytes());
        self.json.extend_from_slice(json);
        Ok(full)
    }

    /// The pack of what was added since the last; `None` where that is less than two, which gain
    /// nothing.
    ///
    /// # Errors
    /// Where memory is short.
    pub fn take(&mut self) -> io::Result<Option<Packed>> {
        let Self { series, watermarks, table, json } = std::mem::take(self);
        let (Ok(series_count), Ok(count)) =
            (u16::try_from(series.len()), u32::try_from(watermarks.len()))
        else {
            return Ok(None);
        };
        if count < 2 {
            return Ok(None);
        }
        let mut plain = Vec::with_capacity(series.len() * 65 + table.len() + json.len() + 7);
        plain.push(FORM);
        plain.extend_from_slice(&series_count.to_le_bytes());
        for (uid, _) in &series {
            plain.push(u8::try_from(uid.as_str().len()).unwrap_or(0));
            plain.extend_from_slice(uid.as_str().as_bytes());
        }
        plain.extend_from_slice(&count.to_le_bytes());
        plain.extend_from_slice(&table);
        plain.extend_from_slice(&json);
        let bytes = kept::compress(&plain)?;
        let series = series.into_iter().map(|(_, key)| key).collect();
        Ok(Some(Packed { watermarks, series, bytes }))
    }
}

/// What was packed.
#[derive(Debug)]
pub struct Pack {
    plain: Vec<u8>,
    series: Vec<Uid>,
    /// Ascending by watermark.
    members: Vec<Member>,
}

/// An instance of a pack.
#[derive(Debug)]
struct Member {
    watermark: i64,
    series: u16,
    uid: Range<usize>,
    json: Range<usize>,
}

impl Pack {
    /// Reads a pack as it is kept.
    ///
    /// # Errors
    /// Where it is none.
    pub fn open(bytes: &[u8]) -> io::Result<Self> {
        let plain = kept::decompress(bytes)?;
        Self::read(plain).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn read(plain: Vec<u8>) -> Option<Self> {
        let mut reader = Reader { plain: &plain, at: 0 };
        if reader.array()? != [FORM] {
            return None;
        }
        let mut series = Vec::new();
        for _ in 0..u16::from_le_bytes(reader.array()?) {
            series.push(Uid::from_value(plain.get(reader.uid()?)?).ok()?);
        }
        let count = u32::from_le_bytes(reader.array()?);
        // Each takes more bytes than this, so that a wrong number ends before it hurts.
        let mut members: Vec<Member> = Vec::with_capacity((count as usize).min(plain.len() / 16));
        let mut length = 0_usize;
        for _ in 0..count {
            let watermark = i64::from_le_bytes(reader.array()?);
            let number = u16::from_le_bytes(reader.array()?);
            let from = length;
            length = length.checked_add(u32::from_le_bytes(reader.array()?) as usize)?;
            let uid = reader.uid()?;
            let follows = members.last().is_none_or(|last| last.watermark < watermark);
            if !follows || usize::from(number) >= series.len() {
                return None;
            }
            members.push(Member { watermark, series: number, uid, json: from..length });
        }
        let start = reader.at;
        if plain.len().checked_sub(start)? != length {
            return None;
        }
        for member in &mut members {
            member.json = member.json.start + start..member.json.end + start;
        }
        Some(Self { plain, series, members })
    }

    /// The watermarks of its members, ascending.
    pub fn watermarks(&self) -> impl DoubleEndedIterator<Item = i64> {
        self.members.iter().map(|member| member.watermark)
    }

    /// Whether it has a member.
    pub fn has(&self, watermark: i64) -> bool {
        self.members.binary_search_by_key(&watermark, |member| member.watermark).is_ok()
    }

    /// The series and the JSON of a member, and its UID.
    pub fn member(&self, watermark: i64) -> Option<(&Uid, Uid, &[u8])> {
        let at = self.members.binary_search_by_key(&watermark, |member| member.watermark).ok()?;
        let member = self.members.get(at)?;
        let uid = Uid::from_value(self.plain.get(member.uid.clone())?).ok()?;
        let series = self.series.get(usize::from(member.series))?;
        Some((series, uid, self.plain.get(member.json.clone())?))
    }
}

struct Reader<'a> {
    plain: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.plain.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(*bytes)
    }

    fn uid(&mut self) -> Option<Range<usize>> {
        let [length] = self.array()?;
        let range = self.at..self.at + usize::from(length);
        self.plain.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn json(watermark: i64) -> Vec<u8> {
        format!(r#"{{"00080018":{{"vr":"UI","Value":["1.2.{watermark}"]}}}}"#).into_bytes()
    }

    #[test]
    fn what_was_packed_comes_back_each_by_its_watermark() {
        let (one, two) = (uid("1.2.3"), uid("1.2.4"));
        let mut packer = Packer::default();
        for watermark in [5, 7, 8, 20] {
            let series = if watermark == 8 { (&two, 40) } else { (&one, 30) };
            let instance = uid(&format!("1.2.3.{watermark}"));
            assert!(packer.add(watermark, series, &instance, &json(watermark)).unwrap().is_none());
        }
        let packed = packer.take().unwrap().unwrap();
        assert_eq!(
            (&packed.watermarks[..], &packed.series[..]),
            (&[5, 7, 8, 20][..], &[30, 40][..])
        );
        let pack = Pack::open(&packed.bytes).unwrap();
        assert_eq!(pack.watermarks().collect::<Vec<_>>(), [5, 7, 8, 20]);
        let (series, instance, text) = pack.member(8).unwrap();
        assert_eq!((series, instance, text), (&two, uid("1.2.3.8"), &json(8)[..]));
        assert_eq!(pack.member(20).unwrap().0, &one);
        assert!(pack.member(6).is_none());
        assert!(packer.take().unwrap().is_none(), "it was taken");
    }

    #[test]
    fn packs_end_where_they_are_full_or_reach_too_far() {
        let series = uid("1.2.3");
        let mut packer = Packer::default();
        let mut add = |watermark, json: &[u8]| {
            packer.add(watermark, (&series, 1), &uid("1.2"), json).unwrap()
        };
        assert!(add(1, b"{}").is_none());
        assert!(add(2, &vec![b' '; LONGEST + 1]).is_none(), "it is kept apart");
        assert!(add(SPAN, b"{}").is_none());
        assert_eq!(add(SPAN + 1, b"{}").unwrap().watermarks, [1, SPAN]);
        let mut full = None;
        let mut next = SPAN + 2;
        while full.is_none() {
            full = add(next, &vec![b' '; LONGEST]);
            next += 1;
        }
        let full = full.unwrap();
        assert_eq!(full.watermarks.len(), FULL / LONGEST);
        assert_eq!(Pack::open(&full.bytes).unwrap().member(SPAN + 1).unwrap().2, b"{}");
        assert!(packer.take().unwrap().is_none(), "one alone gains nothing");
    }

    #[test]
    fn what_is_no_pack_is_told() {
        let series = uid("1.2.3");
        let mut packer = Packer::default();
        for watermark in [1, 2] {
            packer.add(watermark, (&series, 1), &uid("1.2"), &json(watermark)).unwrap();
        }
        let packed = packer.take().unwrap().unwrap();
        let plain = kept::decompress(&packed.bytes).unwrap();
        assert!(Pack::read(plain.clone()).is_some());
        for end in 0..plain.len() {
            assert!(Pack::read(plain[..end].to_vec()).is_none(), "{end} bytes of it");
        }
        let mut many = plain.clone();
        many[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Pack::read(many).is_none());
        let mut another = plain;
        another[0] = FORM + 1;
        assert!(Pack::read(another).is_none());
        assert!(Pack::open(b"{}").is_err());
    }
}
