//! What the decoder configuration of an HEVC track says of its pictures (ISO/IEC 14496-15 §8.3.3,
//! ITU-T H.265 §7.3.2.2).
//!
//! Holds: of a sequence parameter set no more than its beginning is read, which is bounded before it
//! is looked at. Absent: pictures, and parameter sets that come with them.

/// Bytes of a sequence parameter set that are read: what is told in it stands in the first hundred.
const READ: usize = 512;
/// The type of the NAL units that are sequence parameter sets.
const SPS: u8 = 33;
/// Thirty times the level 5.1.
const LEVEL_51: u8 = 153;

/// Which transfer syntax is made for such a stream (PS3.5 §8.2.10, §8.2.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// Main, up to level 5.1 of the Main tier: 8 bits in 4:2:0.
    Main,
    /// Main 10, likewise: up to 10 bits.
    Main10,
    /// Another profile, level, tier or form of pixels.
    Other,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) profile: Profile,
    /// Bits of a sample.
    pub(super) bits: u8,
    /// Columns and rows, where a parameter set has them.
    pub(super) size: Option<(u16, u16)>,
}

/// What pictures are like.
struct Form {
    /// 1 is 4:2:0.
    chroma: u32,
    luma_bits: u32,
    chroma_bits: u32,
}

/// Reads the content of an `hvcC` box.
pub(super) fn configuration(record: &[u8]) -> Option<Told> {
    let &head = record.first_chunk::<23>()?;
    let [_, kind, a, b, c, d, ..] = head;
    let fits = u32::from_be_bytes([a, b, c, d]);
    let is_of = |profile: u8| kind & 0x1F == profile || fits >> (31 - profile) & 1 == 1;
    let (is_high_tier, level) = (kind & 0x20 != 0, head[12]);
    let own = Form {
        chroma: u32::from(head[16] & 3),
        luma_bits: u32::from(head[17] & 7) + 8,
        chroma_bits: u32::from(head[18] & 7) + 8,
    };
    let (form, size) = match parameters(record.get(22..)?) {
        Some(set) => {
            let (form, columns, rows) = sequence(set)?;
            (form, Some((columns, rows)))
        }
        None => (own, None),
    };
    let Form { chroma, luma_bits, chroma_bits } = form;
    let is_known = chroma == 1 && luma_bits == chroma_bits && level <= LEVEL_51 && !is_high_tier;
    let profile = match luma_bits {
        8 if is_known && is_of(1) => Profile::Main,
        8..=10 if is_known && is_of(2) => Profile::Main10,
        _ => Profile::Other,
    };
    // More than that no profile has.
    let bits = u8::try_from(luma_bits).ok().filter(|bits| *bits <= 16)?;
    Some(Told { profile, bits, size })
}

/// The first sequence parameter set among the arrays of a record; `None`: they come with the pictures.
fn parameters(arrays: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = arrays.split_first()?;
    for _ in 0..*count {
        let (&[kind, a, b], units) = rest.split_first_chunk::<3>()?;
        rest = units;
        for _ in 0..u16::from_be_bytes([a, b]) {
            let (length, units) = rest.split_first_chunk::<2>()?;
            let (unit, units) = units.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            if kind & 0x3F == SPS {
                return Some(unit);
            }
            rest = units;
        }
    }
    None
}

/// What a sequence parameter set says: the form of pictures, columns and rows.
fn sequence(unit: &[u8]) -> Option<(Form, u16, u16)> {
    let mut bits = Bits::of(unit.get(2..)?);
    bits.skip(4)?;
    let layers = bits.take(3)?;
    bits.skip(1)?;
    profiles(&mut bits, layers)?;
    bits.number()?;
    let chroma = bits.number()?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    let (mut columns, mut rows) = (bits.number()?, bits.number()?);
    if bits.take(1)? == 1 {
        let wide = if chroma == 1 || chroma == 2 { 2 } else { 1 };
        let high = if chroma == 1 { 2 } else { 1 };
        for (side, unit) in [(&mut columns, wide), (&mut rows, high)] {
            for _ in 0..2 {
                *side = side.checked_sub(bits.number()?.checked_mul(unit)?)?;
            }
        }
    }
    let (luma_bits, chroma_bits) = (bits.number()?.checked_add(8)?, bits.number()?.checked_add(8)?);
    let side = |pixels| u16::try_from(pixels).ok();
    Some((Form { chroma, luma_bits, chroma_bits }, side(columns)?, side(rows)?))
}

/// Passes over profiles, tiers and levels: the general ones, and those of so many layers below.
fn profiles(bits: &mut Bits, layers: u32) -> Option<()> {
    bits.skip(96)?;
    let mut told = Vec::new();
    for _ in 0..layers {
        told.push((bits.take(1)? == 1, bits.take(1)? == 1));
    }
    if layers > 0 {
        bits.skip(16_u32.checked_sub(2 * layers)?)?;
    }
    for (profile, level) in told {
        bits.skip(88 * u32::from(profile) + 8 * u32::from(level))?;
    }
    Some(())
}

/// Bits of a payload, highest first.
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    /// The beginning of a NAL unit's payload, without the bytes that only keep start codes away.
    fn of(payload: &[u8]) -> Self {
        let mut bytes = Vec::new();
        let mut zeros = 0;
        for &byte in payload.iter().take(READ) {
            if zeros >= 2 && byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            bytes.push(byte);
        }
        Self { bytes, at: 0 }
    }

    /// The next `count` bits, of which there are at most 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.at += count as usize;
        (self.at <= 8 * self.bytes.len()).then_some(())
    }

    /// An unsigned number in Exp-Golomb code, `ue(v)`.
    fn number(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        (1_u32 << zeros).checked_add(self.take(zeros)?)?.checked_sub(1)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes bits.
    #[derive(Default)]
    struct Written(Vec<bool>);

    impl Written {
        fn put(&mut self, value: u32, count: u32) {
            self.0.extend((0..count).rev().map(|at| value >> at & 1 == 1));
        }

        fn number(&mut self, value: u32) {
            let length = (value + 1).ilog2();
            self.put(0, length);
            self.put(value + 1, length + 1);
        }

        /// As a payload, with what keeps start codes away.
        fn payload(mut self) -> Vec<u8> {
            self.put(1, 1);
            let bytes = self.0.chunks(8).map(|bits| {
                bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))
            });
            let mut out = Vec::new();
            for byte in bytes {
                if byte <= 3 && out.ends_with(&[0, 0]) {
                    out.push(3);
                }
                out.push(byte);
            }
            out
        }
    }

    /// What a record is made of.
    #[derive(Clone, Copy)]
    pub(in crate::codec) struct Made {
        pub profile: u8,
        pub level: u8,
        pub high_tier: bool,
        pub chroma: u32,
        pub bits: u32,
        pub layers: u32,
    }

    pub(in crate::codec) const MAIN: Made =
        Made { profile: 1, level: 93, high_tier: false, chroma: 1, bits: 8, layers: 0 };

    /// 1920 × 1080, cut out of 1920 × 1088.
    fn parameter_set(made: Made) -> Vec<u8> {
        let mut bits = Written::default();
        bits.put(0, 4);
        bits.put(made.layers, 3);
        bits.put(1, 1);
        bits.put(u32::from(made.profile), 8);
        bits.put(0, 32);
        bits.put(0, 24);
        bits.put(0, 24);
        bits.put(u32::from(made.level), 8);
        for _ in 0..made.layers {
            bits.put(0b11, 2);
        }
        if made.layers > 0 {
            bits.put(0, 2 * (8 - made.layers));
        }
        for _ in 0..made.layers {
            (0..3).for_each(|_| bits.put(0, 32));
        }
        bits.number(0);
        bits.number(made.chroma);
        if made.chroma == 3 {
            bits.put(0, 1);
        }
        bits.number(1920);
        bits.number(1088);
        bits.put(1, 1);
        let unit = if made.chroma == 1 { 2 } else { 1 };
        [0, 0, 0, 8 / unit].into_iter().for_each(|cut| bits.number(cut));
        bits.number(made.bits - 8);
        bits.number(made.bits - 8);
        [&[0x42, 0x01][..], &bits.payload()].concat()
    }

    /// An `hvcC` box's content, with its parameter set or without.
    pub(in crate::codec) fn record(made: Made, has_set: bool) -> Vec<u8> {
        let mut record = vec![1, made.profile | u8::from(made.high_tier) << 5];
        record.extend((1_u32 << (31 - made.profile)).to_be_bytes());
        record.extend([0; 6]);
        record.extend([made.level, 0xF0, 0, 0xFC, 0xFC | made.chroma as u8]);
        record.extend([0xF8 | (made.bits - 8) as u8, 0xF8 | (made.bits - 8) as u8, 0, 0, 0x0F]);
        if !has_set {
            record.push(0);
            return record;
        }
        let set = parameter_set(made);
        // A video parameter set before it.
        record.extend([2, 0x20, 0, 1, 0, 3, 0x40, 0x01, 0x0C]);
        record.extend([0xA1, 0, 1]);
        record.extend((set.len() as u16).to_be_bytes());
        record.extend(set);
        record
    }

    #[test]
    fn a_record_tells_size_and_bits_with_or_without_its_parameter_set() {
        let told = |made, has_set| configuration(&record(made, has_set)).unwrap();
        for layers in 0..7 {
            let made = Made { layers, ..MAIN };
            let size = Some((1920, 1080));
            assert_eq!(told(made, true), Told { profile: Profile::Main, bits: 8, size });
        }
        assert_eq!(told(MAIN, false), Told { profile: Profile::Main, bits: 8, size: None });
        let ten = Made { profile: 2, bits: 10, level: 153, ..MAIN };
        for has_set in [true, false] {
            assert_eq!(
                (told(ten, has_set).profile, told(ten, has_set).bits),
                (Profile::Main10, 10)
            );
        }
        assert_eq!(told(Made { bits: 8, ..ten }, true).profile, Profile::Main10);
    }

    /// As x265 writes it, of pictures of 72 × 54 that are coded as 80 × 64.
    #[test]
    fn what_an_encoder_wrote_is_read() {
        let record = [
            0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x1E, 0xF0,
            0x00, 0xFC, 0xFD, 0xF8, 0xF8, 0x00, 0x00, 0x0F, 0x01, 0xA1, 0x00, 0x01, 0x00, 0x2B,
            0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00,
            0x00, 0x03, 0x00, 0x1E, 0xA0, 0x28, 0x81, 0x07, 0x2C, 0xD9, 0x65, 0x65, 0x4A, 0x4C,
            0x2F, 0x01, 0x68, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xC8,
            0x40,
        ];
        let told = Told { profile: Profile::Main, bits: 8, size: Some((72, 54)) };
        assert_eq!(configuration(&record), Some(told));
    }

    #[test]
    fn what_no_transfer_syntax_has_is_told_apart() {
        for made in [
            Made { level: 156, ..MAIN },
            Made { high_tier: true, ..MAIN },
            Made { chroma: 3, profile: 4, ..MAIN },
            Made { chroma: 2, ..MAIN },
            Made { chroma: 0, ..MAIN },
            Made { bits: 10, ..MAIN },
            Made { bits: 12, profile: 2, ..MAIN },
        ] {
            for has_set in [true, false] {
                let told = configuration(&record(made, has_set)).unwrap();
                assert_eq!(told.profile, Profile::Other);
            }
        }
    }

    #[test]
    fn a_record_that_is_cut_says_the_same_or_nothing() {
        let record = record(MAIN, true);
        let whole = configuration(&record).unwrap();
        for end in 0..record.len() {
            let told = configuration(&record[..end]);
            let is_less = |told: Told| told == whole || told == Told { size: None, ..whole };
            assert!(told.is_none_or(is_less), "{end}: {told:?}");
        }
        // Sizes that are none, and numbers without end.
        assert!(configuration(&[0xFF; 4096]).is_none_or(|told| told.profile == Profile::Other));
        let mut zeros = record.clone();
        let at = record.len() - 12;
        zeros[at..].fill(0);
        assert!(configuration(&zeros).is_none_or(|told| told.size != whole.size));
    }
}
