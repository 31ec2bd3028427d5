//! Frame tables, by example and by property.

use proptest::prelude::*;

use super::*;

const JPEG: &str = "1.2.840.10008.1.2.4.50";
const RLE: &str = "1.2.840.10008.1.2.5";
const H264: &str = "1.2.840.10008.1.2.4.102";

fn image(frames: u32) -> ImagePixel {
    ImagePixel { number_of_frames: Some(frames), ..ImagePixel::default() }
}

/// Fragments of these lengths, end to end from offset 108; `first` says which begin a codestream.
fn encapsulated(lengths: &[u32], first: &[usize]) -> Encapsulated {
    let mut offset = 100;
    let mut fragments = Vec::new();
    for (at, &length) in lengths.iter().enumerate() {
        offset += 8;
        fragments.push(Fragment { offset, length, first: first.contains(&at) });
        offset += u64::from(length);
    }
    Encapsulated { fragments, ..Encapsulated::default() }
}

fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn ranges(table: Option<FrameTable>) -> Vec<Vec<(u64, u64)>> {
    let Some(table) = table else { return Vec::new() };
    assert!(!table.is_empty());
    assert_eq!(table.ranges(table.len()), None);
    (0..table.len()).map(|frame| table.ranges(frame).unwrap()).collect()
}

#[test]
fn native_frames() {
    let check = |image: ImagePixel, length, expect: &[(u64, u64)]| {
        let expect: Vec<_> = expect.iter().map(|range| vec![*range]).collect();
        assert_eq!(ranges(image.native(1000, length, None)), expect, "{image:?}");
    };
    let plain = ImagePixel {
        rows: Some(2),
        columns: Some(4),
        samples_per_pixel: Some(1),
        bits_allocated: Some(16),
        ..ImagePixel::default()
    };
    check(plain, 16, &[(1000, 16)]);
    check(plain, 18, &[(1000, 16)]);
    check(plain, 14, &[]);
    let three = ImagePixel { number_of_frames: Some(3), ..plain };
    check(three, 48, &[(1000, 16), (1016, 16), (1032, 16)]);
    check(three, 47, &[(1000, 16), (1016, 16)]);
    check(ImagePixel { number_of_frames: Some(0), ..plain }, 16, &[(1000, 16)]);
    check(ImagePixel { samples_per_pixel: None, ..plain }, 16, &[(1000, 16)]);
    check(ImagePixel { rows: None, ..plain }, 16, &[]);
    check(ImagePixel { columns: Some(0), ..plain }, 16, &[]);
    check(ImagePixel { bits_allocated: None, ..plain }, 16, &[]);
    let most = ImagePixel {
        rows: Some(u16::MAX),
        columns: Some(u16::MAX),
        samples_per_pixel: Some(u16::MAX),
        bits_allocated: Some(u16::MAX),
        number_of_frames: Some(u32::MAX),
        subsampling: None,
    };
    check(most, u64::MAX, &[]);

    let colour = ImagePixel { samples_per_pixel: Some(3), bits_allocated: Some(8), ..three };
    check(colour, 72, &[(1000, 24), (1024, 24), (1048, 24)]);
    let ybr_422 = ImagePixel { subsampling: Some(Subsampling::Horizontal), ..colour };
    check(ybr_422, 48, &[(1000, 16), (1016, 16), (1032, 16)]);
    // Not subsampled, whatever it says.
    check(ybr_422, 72, &[(1000, 24), (1024, 24), (1048, 24)]);
    let ybr_420 = ImagePixel { subsampling: Some(Subsampling::Both), ..colour };
    check(ybr_420, 36, &[(1000, 12), (1012, 12), (1024, 12)]);

    let floats = ImagePixel { bits_allocated: None, ..plain };
    assert_eq!(ranges(floats.native(0, 32, Some(32))), [[(0, 32)]]);
}

#[test]
fn one_bit_frames_need_not_start_on_bytes() {
    let image = ImagePixel {
        rows: Some(3),
        columns: Some(3),
        samples_per_pixel: Some(1),
        bits_allocated: Some(1),
        number_of_frames: Some(9),
        subsampling: None,
    };
    let table = image.native(0, 12, None).unwrap();
    let found: Vec<_> = (0..9)
        .map(|frame| (table.ranges(frame).unwrap().remove(0), table.skip_bits(frame)))
        .collect();
    let expect = [
        ((0, 2), 0),
        ((1, 2), 1),
        ((2, 2), 2),
        ((3, 2), 3),
        ((4, 2), 4),
        ((5, 2), 5),
        ((6, 2), 6),
        ((7, 2), 7),
        ((9, 2), 0),
    ];
    assert_eq!(found, expect);
}

#[test]
fn subsampling_of_interpretations() {
    assert_eq!(Subsampling::of(b"YBR_FULL_422"), Some(Subsampling::Horizontal));
    assert_eq!(Subsampling::of(b"YBR_PARTIAL_420 "), Some(Subsampling::Both));
    assert_eq!(Subsampling::of(b"YBR_FULL"), None);
}

#[test]
fn encapsulated_frames() {
    let check = |value: &Encapsulated, frames, syntax: &str, expect: &[&[(u64, u64)]]| {
        let found = ranges(value.table(&image(frames), &syntax.parse().unwrap()));
        assert_eq!(found, expect, "{value:?} {frames} {syntax}");
    };
    let three = encapsulated(&[10, 20, 30], &[]);
    let each: [&[(u64, u64)]; 3] = [&[(108, 10)], &[(126, 20)], &[(154, 30)]];
    let all: &[&[(u64, u64)]] = &[&[(108, 10), (126, 20), (154, 30)]];
    let two_one: [&[(u64, u64)]; 2] = [&[(108, 10), (126, 20)], &[(154, 30)]];
    check(&encapsulated(&[], &[]), 1, JPEG, &[]);
    check(&three, 3, JPEG, &each);
    check(&three, 1, JPEG, all);
    check(&three, 0, JPEG, all);
    // A stream is a stream, whatever Number of Frames says.
    check(&three, 3, H264, all);
    check(&three, 250, H264, all);
    // Without a table, one fragment a frame where nothing else is allowed; else it is not known.
    check(&three, 2, RLE, &each[..2]);
    check(&three, 5, RLE, &each);
    check(&three, 2, JPEG, &[]);
    check(&three, 5, JPEG, &[]);
    // Codestreams.
    check(&encapsulated(&[10, 20, 30], &[0, 2]), 2, JPEG, &two_one);
    check(&encapsulated(&[10, 20, 30], &[0, 1, 2]), 2, JPEG, &[]);
    check(&encapsulated(&[10, 20, 30], &[1, 2]), 2, JPEG, &[]);
    // An empty fragment at the end.
    check(&encapsulated(&[10, 20, 30, 0], &[]), 3, JPEG, &each);

    // Basic Offset Table.
    let with = |offsets: &[u32]| Encapsulated { basic_offsets: u32s(offsets), ..three.clone() };
    check(&with(&[0, 46]), 2, JPEG, &two_one);
    check(&with(&[0, 46]), 2, RLE, &two_one);
    check(&with(&[0, 18, 46]), 3, JPEG, &each);
    check(&with(&[0]), 1, JPEG, all);
    // Right in itself, though Number of Frames is not.
    check(&with(&[0, 46]), 7, JPEG, &two_one);
    // Not a fragment's offset, not ascending, not from 0: as if there were none.
    for wrong in [&[0, 45][..], &[46, 0], &[18, 46], &[0, 0], &[0, u32::MAX], &[]] {
        check(&with(wrong), 2, JPEG, &[]);
        check(&with(wrong), 3, JPEG, &each);
    }

    // Extended Offset Table.
    let with = |offsets: &[u64], lengths: &[u64]| Encapsulated {
        extended_offsets: u64s(offsets),
        extended_lengths: u64s(lengths),
        ..three.clone()
    };
    check(&with(&[0, 18, 46], &[9, 20, 30]), 3, JPEG, &[&[(108, 9)], each[1], each[2]]);
    check(&with(&[0, 18, 46], &[90, 2, 30]), 3, JPEG, &each);
    check(&with(&[0, 18, 46], &[]), 3, JPEG, &each);
    check(&with(&[0, 46], &[10, 20]), 2, JPEG, &two_one);
    check(&with(&[0, u64::MAX], &[u64::MAX]), 2, JPEG, &[]);
}

#[test]
fn codestreams_begin_so() {
    let check = |bytes: &[u8], expect| {
        assert_eq!(Fragment::begins_codestream(bytes), expect, "{bytes:x?}");
    };
    check(b"\xFF\xD8\xFF\xE0", true);
    check(b"\xFF\x4F\xFF\x51\0", true);
    check(b"\xFF\x0A\0", true);
    check(b"\0\0\0\x0CJXL \r\n\x87\n", true);
    check(b"\0\0\0\x0CjP  \r\n\x87\n", true);
    check(b"\xFF\xD9\xFF", false);
    check(b"\0\0\0\x0CJXL ", false);
    check(b"", false);
}

#[test]
fn the_span_of_fragments() {
    assert_eq!(encapsulated(&[10, 20], &[]).span(), Some((100, 46)));
    assert_eq!(encapsulated(&[], &[]).span(), None);
}

proptest! {
    #[test]
    fn tables_stay_inside_the_value(
        lengths in prop::collection::vec(0u32..50, 0..8),
        first in prop::collection::vec(0usize..8, 0..8),
        basic_offsets in prop::collection::vec(any::<u8>(), 0..12),
        offsets in prop::collection::vec(0u64..200, 0..4),
        extended_lengths in prop::collection::vec(any::<u8>(), 0..20),
        frames in 0u32..6,
        syntax in prop::sample::select(vec![JPEG, RLE, H264]),
    ) {
        let value = Encapsulated {
            basic_offsets,
            extended_offsets: u64s(&offsets),
            extended_lengths,
            ..encapsulated(&lengths, &first)
        };
        let end = value.span().map_or(0, |(start, length)| start + length);
        let table = value.table(&image(frames), &syntax.parse().unwrap());
        for (offset, length) in ranges(table).concat() {
            prop_assert!(offset >= 108 && offset + length <= end);
        }
    }

    #[test]
    fn native_tables_stay_inside_the_value(
        rows in 0u16..20, columns in 0u16..20, samples in 0u16..5, bits in 0u16..40,
        frames in any::<u32>(), length in 0u64..5000, horizontal in any::<bool>(),
    ) {
        let image = ImagePixel {
            rows: Some(rows),
            columns: Some(columns),
            samples_per_pixel: Some(samples),
            bits_allocated: Some(bits),
            number_of_frames: Some(frames),
            subsampling: horizontal.then_some(Subsampling::Horizontal),
        };
        if let Some(table) = image.native(7, length, None) {
            let last = table.ranges(table.len() - 1).unwrap();
            prop_assert!(last.iter().all(|(offset, size)| offset + size <= 7 + length));
        }
    }
}
