//! RLE Lossless against the standard, against itself, and against damage.

use proptest::prelude::*;

use super::*;

fn layout(columns: u16, rows: u16, samples: u8, bits: u8) -> Layout {
    Layout {
        rows,
        columns,
        samples,
        bits_allocated: bits,
        bits_stored: bits,
        high_bit: bits - 1,
        signed: false,
        float: false,
        planar: false,
        photometric: if samples == 1 { Photometric::Monochrome2 } else { Photometric::Rgb },
    }
}

/// A frame of these segments.
fn frame(segments: &[&[u8]]) -> Vec<u8> {
    let mut words = vec![segments.len()];
    let mut start = 64;
    for segment in segments {
        words.push(start);
        start += segment.len();
    }
    words.resize(16, 0);
    let header = words.into_iter().flat_map(|word| (word as u32).to_le_bytes());
    header.chain(segments.concat()).collect()
}

#[test]
fn runs_and_literals() {
    let segment = [2, 1, 2, 3, 0xFD, 9, 0x80, 0, 7, 0];
    let decoded = decode(&layout(4, 2, 1, 8), &frame(&[&segment])).unwrap();
    assert_eq!(decoded.data, [1, 2, 3, 9, 9, 9, 9, 7]);
    let image = Raster { layout: layout(8, 1, 1, 8), data: decoded.data };
    // By its own row the same bytes are one literal and one run; the code 80H is never written.
    assert_eq!(encode(&image).unwrap().data, frame(&[&[2, 1, 2, 3, 0xFD, 9, 0, 7]]));
}

#[test]
fn runs_do_not_cross_rows_and_segments_are_even() {
    let image = Raster { layout: layout(3, 2, 1, 8), data: vec![5; 6] };
    assert_eq!(encode(&image).unwrap().data, frame(&[&[0xFE, 5, 0xFE, 5]]));
    let image = Raster { layout: layout(2, 1, 1, 8), data: vec![1, 2] };
    assert_eq!(encode(&image).unwrap().data, frame(&[&[1, 1, 2, 0]]));
}

#[test]
fn two_alike_stay_inside_a_literal_run() {
    let image = Raster { layout: layout(6, 1, 1, 8), data: vec![1, 2, 2, 3, 3, 3] };
    assert_eq!(encode(&image).unwrap().data, frame(&[&[2, 1, 2, 2, 0xFE, 3]]));
}

#[test]
fn long_runs_are_parted() {
    let mut row = vec![7; 300];
    row.extend((0..=255).cycle().take(300).map(|byte: u32| byte as u8));
    let image = Raster { layout: layout(600, 1, 1, 8), data: row };
    let encoded = encode(&image).unwrap();
    assert_eq!(encoded.data[64..70], [0x81, 7, 0x81, 7, 0xD5, 7]);
    assert_eq!(decode(&encoded.layout, &encoded.data).unwrap(), image);
}

#[test]
fn the_first_segment_has_the_most_significant_bytes() {
    let segments: [&[u8]; 6] =
        [&[0, 0x11, 0, 0], &[0, 0x12], &[0, 0x21], &[0, 0x22], &[0, 0x31], &[0, 0x32]];
    let interleaved = layout(1, 1, 3, 16);
    let decoded = decode(&interleaved, &frame(&segments)).unwrap();
    assert_eq!(decoded.data, [0x12, 0x11, 0x22, 0x21, 0x32, 0x31]);
}

#[test]
fn planar_configuration_says_how_the_frame_is_to_be() {
    let frame = frame(&[&[1, 1, 2], &[1, 3, 4], &[1, 5, 6]]);
    let by_pixel = layout(2, 1, 3, 8);
    assert_eq!(decode(&by_pixel, &frame).unwrap().data, [1, 3, 5, 2, 4, 6]);
    let by_plane = Layout { planar: true, ..by_pixel };
    let decoded = decode(&by_plane, &frame).unwrap();
    assert_eq!(
        (decoded.data.as_slice(), decoded.layout.planar),
        ([1, 2, 3, 4, 5, 6].as_slice(), true)
    );
}

#[test]
fn single_bits_are_bytes_or_packed() {
    let bits = layout(3, 3, 1, 1);
    let spread = frame(&[&[8, 1, 0, 1, 0, 0, 0, 0, 1, 1, 0]]);
    assert_eq!(decode(&bits, &spread).unwrap().data, [0b1000_0101, 1]);
    let packed = frame(&[&[1, 0b1000_0101, 1, 0]]);
    assert_eq!(decode(&bits, &packed).unwrap().data, [0b1000_0101, 1]);
    let encoded = encode(&Raster { layout: bits.clone(), data: vec![0b1000_0101, 1] }).unwrap();
    assert_eq!(decode(&bits, &encoded.data).unwrap().data, [0b1000_0101, 1]);
    assert_eq!(encoded.data[64..68], [2, 1, 0, 1]);
}

#[test]
fn what_writers_get_wrong_is_tolerated() {
    let grey = layout(3, 1, 1, 8);
    // More bytes than pixels, an odd segment, a cut-off run at the end.
    for segment in [[5, 1, 2, 3, 4, 5, 6].as_slice(), &[2, 1, 2, 3, 0], &[0xF0, 1], &[9, 1, 2, 3]] {
        assert_eq!(decode(&grey, &frame(&[segment])).unwrap().data.len(), 3);
    }
    let odd = frame(&[&[1, 1, 2], &[0xFF, 0]]);
    assert_eq!(decode(&layout(2, 1, 1, 16), &odd).unwrap().data, [0, 1, 0, 2]);
}

#[test]
fn what_does_not_agree_is_refused() {
    let grey = layout(3, 1, 1, 8);
    let damaged = |layout: &Layout, frame: &[u8]| {
        assert!(matches!(decode(layout, frame), Err(CodecError::Damaged(_))));
    };
    damaged(&grey, &[]);
    damaged(&grey, &frame(&[&[1, 1, 2]]));
    damaged(&grey, &frame(&[&[2, 1, 2, 3], &[2, 1, 2, 3]]));
    damaged(&layout(3, 1, 1, 16), &frame(&[&[2, 1, 2, 3]]));
    let mut outside = frame(&[&[2, 1, 2, 3]]);
    outside[4..8].copy_from_slice(&1000_u32.to_le_bytes());
    damaged(&grey, &outside);
    outside[4..8].copy_from_slice(&60_u32.to_le_bytes());
    damaged(&grey, &outside);
    damaged(&layout(u16::MAX, u16::MAX, 1, 8), &frame(&[&[0x81, 1]]));
    let wide = layout(1, 1, 3, 64);
    assert!(matches!(decode(&wide, &[0; 64]), Err(CodecError::Unsupported(_))));
    let float = Layout { float: true, ..layout(1, 1, 1, 32) };
    let float = Raster { layout: float, data: vec![0; 4] };
    assert!(matches!(encode(&float), Err(CodecError::Unsupported(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn lossless_is_lossless(
        (columns, rows, planar) in (1_u16..40, 1_u16..8, any::<bool>()),
        (samples, bits) in prop::sample::select(vec![
            (1, 1), (1, 8), (1, 16), (1, 32), (1, 64), (3, 8), (3, 16), (3, 32),
        ]),
        bytes in prop::collection::vec((any::<u8>(), 1_usize..200), 1..60),
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let layout = Layout { planar: planar && samples == 3, ..layout(columns, rows, samples, bits) };
        let runs = bytes.iter().flat_map(|(byte, count)| std::iter::repeat_n(*byte, *count));
        let mut data: Vec<u8> = runs.cycle().take(layout.frame_length()).collect();
        if bits == 1 {
            data = native::packed(&native::unpacked(&data, layout.pixels()));
        }
        let image = Raster { layout, data };
        let encoded = encode(&image).unwrap();
        let decoded = decode(&encoded.layout, &encoded.data).unwrap();
        prop_assert_eq!(&decoded, &image);
        let mut damaged = encoded.data.clone();
        for (place, value) in changes {
            let place = place.index(damaged.len());
            damaged[place] = value;
        }
        for damaged in [&damaged[..], &encoded.data[..cut.index(encoded.data.len())]] {
            if let Ok(raster) = decode(&image.layout, damaged) {
                prop_assert_eq!(raster.data.len(), image.layout.frame_length());
            }
        }
    }
}
