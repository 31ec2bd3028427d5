//! Round trips, codestreams of other encoders, codestreams that lie, and damaged ones.

mod vectors;

use proptest::prelude::*;

use super::*;

fn layout(columns: u16, rows: u16, samples: u8, bits: (u8, u8), signed: bool) -> Layout {
    Layout {
        rows,
        columns,
        samples,
        bits_allocated: bits.0,
        bits_stored: bits.1,
        high_bit: bits.1 - 1,
        signed,
        float: false,
        planar: false,
        photometric: if samples == 3 { Photometric::Rgb } else { Photometric::Monochrome2 },
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
    digits.iter().map(|pair| byte(pair).unwrap()).collect()
}

fn words(words: impl IntoIterator<Item = u16>) -> Vec<u8> {
    words.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// The picture that the lossless vectors show.
fn picture() -> impl Iterator<Item = u16> {
    (0..6_u16).flat_map(|y| (0..10_u16).map(move |x| x * 37 + y * y * 11 + x * y * 5))
}

fn vectors() -> Vec<(&'static str, Layout)> {
    let grey = layout(10, 6, 1, (16, 12), false);
    let wide = layout(20, 9, 1, (16, 12), false);
    let colour = layout(19, 9, 3, (8, 8), false);
    let colour = Layout { photometric: Photometric::YbrFull422, ..colour };
    vec![
        (vectors::PREDICTOR_1, grey.clone()),
        (vectors::PREDICTOR_2, grey.clone()),
        (vectors::PREDICTOR_3, grey.clone()),
        (vectors::PREDICTOR_4, grey.clone()),
        (vectors::PREDICTOR_5, grey.clone()),
        (vectors::PREDICTOR_6, grey.clone()),
        (vectors::PREDICTOR_7, grey.clone()),
        (vectors::POINT_TRANSFORM, grey),
        (vectors::SIGNED_16, layout(10, 6, 1, (16, 16), true)),
        (vectors::RGB_LOSSLESS, layout(10, 6, 3, (8, 8), false)),
        (vectors::EXTENDED_12, wide.clone()),
        (vectors::SPECTRAL_12, wide.clone()),
        (vectors::PROGRESSIVE_12, wide),
        (vectors::COLOUR_420, colour.clone()),
        (vectors::COLOUR_422_PROGRESSIVE, colour),
    ]
}

#[test]
fn lossless_frames_of_another_encoder_are_exact() {
    let vectors = vectors();
    for (stream, layout) in &vectors[..7] {
        let raster = decode(layout, &bytes(stream)).unwrap();
        assert_eq!(raster.data, words(picture()));
        assert_eq!(&raster.layout, layout);
    }
    let (stream, layout) = &vectors[7];
    assert_eq!(decode(layout, &bytes(stream)).unwrap().data, words(picture().map(|v| v & !3)));
    let (stream, layout) = &vectors[8];
    let steep = picture().map(|v| v.wrapping_mul(97));
    assert_eq!(decode(layout, &bytes(stream)).unwrap().data, words(steep));
    let (stream, layout) = &vectors[9];
    let raster = decode(layout, &bytes(stream)).unwrap();
    let pixels = picture().flat_map(|v| [v as u8, (v * 3) as u8, 255 - v as u8]);
    assert_eq!(raster.data, pixels.collect::<Vec<u8>>());
    assert_eq!(raster.layout.photometric, Photometric::Rgb);
}

#[test]
fn lossy_frames_are_as_libjpeg_has_them() {
    let samples = [
        (vectors::EXTENDED_12, vectors::EXTENDED_12_OUT),
        (vectors::SPECTRAL_12, vectors::SPECTRAL_12_OUT),
        (vectors::PROGRESSIVE_12, vectors::PROGRESSIVE_12_OUT),
        (vectors::COLOUR_420, vectors::COLOUR_420_OUT),
        (vectors::COLOUR_422_PROGRESSIVE, vectors::COLOUR_422_PROGRESSIVE_OUT),
    ];
    for ((stream, out), (_, layout)) in samples.into_iter().zip(vectors().split_off(10)) {
        let raster = decode(&layout, &bytes(stream)).unwrap();
        assert_eq!(raster.data, bytes(out));
        let colour = layout.samples == 3;
        assert_eq!(raster.layout.photometric == Photometric::Rgb, colour);
        assert_eq!(raster.data.len(), raster.layout.frame_length());
    }
}

#[test]
fn damaged_frames_are_errors_and_never_panic() {
    for (stream, layout) in vectors() {
        let whole = bytes(stream);
        let right = decode(&layout, &whole).unwrap();
        for length in 0..whole.len() {
            // Without EOI, or without bits that only pad, nothing is missing.
            if let Ok(raster) = decode(&layout, &whole[..length]) {
                assert_eq!(raster, right);
                assert!(length + 3 >= whole.len());
            }
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            if let Ok(raster) = decode(&layout, &bytes) {
                assert_eq!(raster.data.len(), raster.layout.frame_length());
            }
        }
        let mut padded = whole.clone();
        padded.extend([0, 0xFF, 0]);
        assert_eq!(decode(&layout, &padded).unwrap(), right);
    }
    let (_, layout) = vectors().swap_remove(0);
    assert_eq!(decode(&layout, &[]), Err(CodecError::Damaged("not JPEG")));
}

#[test]
fn frames_that_differ_from_the_attributes_are_damaged() {
    let (stream, right) = vectors().swap_remove(0);
    let stream = bytes(stream);
    for wrong in [
        Layout { rows: 5, ..right.clone() },
        Layout { columns: 11, ..right.clone() },
        Layout { samples: 3, photometric: Photometric::Rgb, ..right.clone() },
        Layout { bits_allocated: 8, bits_stored: 8, high_bit: 7, ..right.clone() },
    ] {
        assert!(matches!(decode(&wrong, &stream), Err(CodecError::Damaged(_))));
    }
    let wider = Layout { bits_allocated: 32, ..right.clone() };
    assert!(matches!(decode(&wider, &stream), Err(CodecError::Unsupported(_))));
    // Bits that nobody announced do no harm: there is room for them.
    let fewer = Layout { bits_stored: 10, high_bit: 9, ..right };
    assert_eq!(decode(&fewer, &stream).unwrap().data, words(picture()));
}

#[test]
fn a_few_bytes_cannot_claim_a_large_frame() {
    let large = layout(65_500, 65_500, 1, (16, 12), false);
    for (stream, _) in vectors() {
        let mut stream = bytes(stream);
        let at = stream.windows(2).position(|m| m[0] == 0xFF && (0xC0..0xC4).contains(&m[1]));
        let size = at.unwrap() + 5;
        stream[size..size + 4].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
        assert!(matches!(decode(&large, &stream), Err(CodecError::Damaged(_))));
    }
}

/// Cuts a grey lossless codestream of ours: what stands before the frame header's component, the
/// Huffman table, the scan header, the scan.
fn cut(stream: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let table = stream.windows(2).position(|m| m == [0xFF, 0xC4]).unwrap();
    let scan = stream.windows(2).position(|m| m == [0xFF, 0xDA]).unwrap();
    (&stream[..table], &stream[table..scan], &stream[scan..stream.len() - 2])
}

#[test]
fn scans_of_one_component_and_tables_between_them() {
    let grey = layout(10, 6, 1, (8, 8), false);
    let planes: Vec<Vec<u8>> = (1..4).map(|n| picture().map(|v| (v * n) as u8).collect()).collect();
    let mut stream = vec![0xFF, 0xD8];
    let three = layout(10, 6, 3, (8, 8), false);
    write::frame(&mut stream, 0xC3, 8, &three, &[7, 8, 9]);
    for (predictor, (id, data)) in (1..).zip((7..).zip(&planes)) {
        let raster = Raster { layout: grey.clone(), data: data.clone() };
        let encoded = lossless_encode::encode(&raster, Some(predictor)).unwrap().data;
        let (_, table, scan) = cut(&encoded);
        stream.extend_from_slice(table);
        stream.extend_from_slice(scan);
        let header = stream.len() - scan.len();
        stream[header + 5] = id;
    }
    let raster = decode(&three, &stream).unwrap();
    for (component, plane) in planes.iter().enumerate() {
        let found: Vec<u8> = raster.data.iter().skip(component).step_by(3).copied().collect();
        assert_eq!(&found, plane);
    }
    // A component that comes twice, and one that never comes.
    let last = stream.windows(2).rposition(|m| m == [0xFF, 0xDA]).unwrap();
    let mut twice = stream.clone();
    twice[last + 5] = 8;
    assert_eq!(decode(&three, &twice), Err(damaged("a component twice")));
    assert_eq!(decode(&three, &stream[..last]), Err(damaged("a component is missing")));
}

#[test]
fn prediction_begins_anew_behind_a_restart_marker() {
    let band = layout(10, 6, 1, (16, 12), false);
    for predictor in 1..8 {
        let raster = Raster { layout: band.clone(), data: words(picture()) };
        let encoded = lossless_encode::encode(&raster, Some(predictor)).unwrap().data;
        let (head, table, scan) = cut(&encoded);
        let mut stream = head.to_vec();
        stream[8] = 30;
        stream.extend_from_slice(table);
        stream.extend([0xFF, 0xDD, 0, 4, 0, 60]);
        stream.extend_from_slice(scan);
        for marker in 0xD0..0xD4 {
            stream.extend([0xFF, marker]);
            stream.extend_from_slice(&scan[10..]);
        }
        let five = Layout { rows: 30, ..band.clone() };
        assert_eq!(decode(&five, &stream).unwrap().data, words(picture()).repeat(5));
        let wrong = stream.windows(2).position(|m| m == [0xFF, 0xD2]).unwrap();
        stream[wrong + 1] = 0xD3;
        assert_eq!(decode(&five, &stream), Err(damaged("restart marker")));
    }
}

/// A baseline codestream of one colour, Y, Cb, Cr as they are, without any segment that says so.
fn flat(colour: [u8; 3], halved: bool) -> Vec<u8> {
    let layout = Layout {
        photometric: Photometric::YbrFull,
        ..layout(if halved { 16 } else { 15 }, 8, 3, (8, 8), false)
    };
    let data = colour.repeat(layout.pixels());
    let stream = encode_baseline(&Raster { layout, data }, 100).unwrap().data;
    // APP0 comes first.
    let length = usize::from(u16::from_be_bytes([stream[4], stream[5]]));
    [&stream[..2], &stream[4 + length..]].concat()
}

fn with(stream: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    let mut out = stream[..2].to_vec();
    write::segment(&mut out, marker, body);
    out.extend_from_slice(&stream[2..]);
    out
}

#[test]
fn colour_is_what_the_codestream_says_it_is() {
    let (ybr, rgb) = ([76, 85, 255], [254, 0, 0]);
    let plain = flat(ybr, false);
    let adobe =
        |transform| with(&plain, 0xEE, &[b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat());
    let jfif = with(&plain, 0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    let mut named = plain.clone();
    for (marker, offset, step) in [(0xC0, 10, 3), (0xDA, 5, 2)] {
        let at = plain.windows(2).position(|m| m == [0xFF, marker]).unwrap();
        b"RGB".iter().enumerate().for_each(|(n, id)| named[at + offset + n * step] = *id);
    }
    let short = with(&plain, 0xEE, b"Adobe\x65\0\0\0\0");
    let cases = [
        (&plain, Photometric::Rgb, ybr),
        (&plain, Photometric::YbrFull, rgb),
        (&plain, Photometric::YbrFull422, rgb),
        (&adobe(0), Photometric::Rgb, ybr),
        (&adobe(1), Photometric::Rgb, rgb),
        (&adobe(0), Photometric::YbrFull, ybr),
        (&adobe(1), Photometric::YbrFull, rgb),
        (&jfif, Photometric::Rgb, rgb),
        (&jfif, Photometric::YbrFull422, rgb),
        (&named, Photometric::YbrFull, ybr),
        (&named, Photometric::Rgb, ybr),
        (&short, Photometric::Rgb, ybr),
    ];
    for (index, (stream, photometric, expected)) in cases.into_iter().enumerate() {
        let layout = Layout { photometric, ..layout(15, 8, 3, (8, 8), false) };
        let raster = decode(&layout, stream).unwrap();
        assert_eq!(raster.layout.photometric, Photometric::Rgb);
        for pixel in raster.data.as_chunks::<3>().0 {
            let close = pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1);
            assert!(close, "case {index}: {pixel:?}");
        }
    }
    // Sub-sampled red, green and blue there are none, whatever the attributes say.
    let raster = decode(&layout(16, 8, 3, (8, 8), false), &flat(ybr, true)).unwrap();
    assert!(raster.data.iter().zip(rgb.iter().cycle()).all(|(a, b)| a.abs_diff(*b) <= 1));
}

#[test]
fn lossless_colour_is_left_alone() {
    for photometric in [Photometric::YbrFull, Photometric::Rgb] {
        for planar in [false, true] {
            let layout = Layout { photometric, planar, ..layout(10, 6, 3, (8, 8), false) };
            let data: Vec<u8> = (0..180_u8).map(|n| n.wrapping_mul(29)).collect();
            let encoded =
                encode_lossless(&Raster { layout, data: data.clone() }, LOSSLESS).unwrap();
            let raster = decode(&encoded.layout, &encoded.data).unwrap();
            assert_eq!(raster.layout, encoded.layout);
            assert!(!raster.layout.planar);
            assert_eq!(raster.layout.photometric, photometric);
            for pixel in 0..60 {
                for sample in 0..3 {
                    let at = if planar { sample * 60 + pixel } else { pixel * 3 + sample };
                    assert_eq!(raster.data[pixel * 3 + sample], data[at]);
                }
            }
        }
    }
}

#[test]
fn signs_come_back_whatever_the_precision() {
    // DCMTK codes such samples with 16 bits, others with those that are stored.
    let twelve = layout(10, 6, 1, (16, 12), true);
    let negative = words(picture().map(|v| v.wrapping_sub(500)));
    let raster = Raster { layout: twelve.clone(), data: negative.clone() };
    let narrow = encode_lossless(&raster, LOSSLESS_SV1).unwrap().data;
    let sixteen = layout(10, 6, 1, (16, 16), true);
    let raster = Raster { layout: sixteen, data: negative.clone() };
    let wide = encode_lossless(&raster, LOSSLESS_SV1).unwrap().data;
    assert_ne!(narrow, wide);
    assert_eq!(decode(&twelve, &narrow).unwrap().data, negative);
    assert_eq!(decode(&twelve, &wide).unwrap().data, negative);
}

#[test]
fn lossy_encoding_is_close_and_says_what_it_did() {
    let steep = |n: usize, top: f64| ((n as f64 / 23.0).sin() * 0.4 + 0.5) * top;
    let grey: Vec<u8> = (0..40 * 30).map(|n| steep(n, 255.0) as u8).collect();
    let raster = Raster { layout: layout(40, 30, 1, (8, 8), false), data: grey };
    for encode in [encode_baseline, encode_extended] {
        let encoded = encode(&raster, 95).unwrap();
        assert_eq!(encoded.layout, raster.layout);
        let back = decode(&encoded.layout, &encoded.data).unwrap();
        assert!(back.data.iter().zip(&raster.data).all(|(a, b)| a.abs_diff(*b) <= 12));
        assert!(encode(&raster, 10).unwrap().data.len() < encoded.data.len());
    }
    let twelve = words((0..40 * 30).map(|n| steep(n, 1023.0) as u16));
    let raster = Raster { layout: layout(40, 30, 1, (16, 10), false), data: twelve };
    assert!(encode_baseline(&raster, 90).is_err());
    let encoded = encode_extended(&raster, 100).unwrap();
    assert_eq!(encoded.layout, layout(40, 30, 1, (16, 12), false));
    let back = decode(&encoded.layout, &encoded.data).unwrap();
    let pairs = back.data.as_chunks::<2>().0.iter().zip(raster.data.as_chunks::<2>().0);
    for (a, b) in pairs {
        assert!(u16::from_le_bytes(*a).abs_diff(u16::from_le_bytes(*b)) <= 2);
    }
    let coarse = encode_extended(&raster, 1).unwrap();
    assert!(coarse.data.len() * 3 < encoded.data.len());
    assert!(decode(&coarse.layout, &coarse.data).is_ok());
    for (columns, photometric) in [(40, Photometric::YbrFull422), (39, Photometric::YbrFull)] {
        let layout = Layout { planar: true, ..layout(columns, 30, 3, (8, 8), false) };
        let data = vec![200; layout.frame_length()];
        let encoded = encode_baseline(&Raster { layout, data }, 90).unwrap();
        assert_eq!(encoded.layout.photometric, photometric);
        assert!(!encoded.layout.planar);
        let back = decode(&encoded.layout, &encoded.data).unwrap();
        assert_eq!(back.layout.photometric, Photometric::Rgb);
        assert!(back.data.iter().all(|sample| sample.abs_diff(200) <= 1));
    }
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let refused = |layout: Layout, lossless: bool| {
        let raster = Raster { data: vec![0; layout.frame_length()], layout };
        let unsupported = |result| matches!(result, Err(CodecError::Unsupported(_)));
        assert!(unsupported(encode_baseline(&raster, 90)));
        assert!(unsupported(encode_extended(&raster, 90)));
        assert_eq!(unsupported(encode_lossless(&raster, LOSSLESS)), lossless);
    };
    refused(layout(8, 8, 1, (8, 8), true), false);
    refused(layout(8, 8, 1, (16, 16), false), false);
    refused(layout(8, 8, 1, (32, 32), false), true);
    refused(layout(8, 8, 1, (1, 1), false), true);
    refused(layout(8, 8, 3, (16, 12), false), false);
    let palette = layout(8, 8, 1, (8, 8), false);
    refused(Layout { photometric: Photometric::Palette, ..palette.clone() }, false);
    let halved = Layout { samples: 3, photometric: Photometric::YbrFull422, ..palette.clone() };
    refused(halved, true);
    let short = Raster { layout: palette, data: vec![0; 63] };
    assert!(matches!(encode_lossless(&short, LOSSLESS), Err(CodecError::Damaged(_))));
    assert!(matches!(encode_baseline(&short, 90), Err(CodecError::Damaged(_))));
}

fn any_raster() -> impl Strategy<Value = Raster> {
    let bits = prop_oneof![
        (1_u8..=8).prop_map(|stored| (8_u8, stored)),
        (1_u8..=16).prop_map(|stored| (16_u8, stored)),
    ];
    let samples = prop_oneof![Just(1_u8), Just(3)];
    let shape = (1_u16..40, 1_u16..40, samples, bits, any::<bool>(), 0_u8..4, 0_u32..6);
    shape.prop_flat_map(|(columns, rows, samples, bits, signed, above, noise)| {
        let mut layout = layout(columns, rows, samples, bits, signed);
        // Seldom the samples do not lie lowest, or there are bits that nothing describes.
        if above == 0 {
            layout.high_bit = bits.0 - 1;
        }
        let count = layout.pixels() * usize::from(samples);
        proptest::collection::vec(any::<u16>(), count).prop_map(move |random| {
            let spare = 16 - u32::from(bits.1);
            let mut walk = 0_u16;
            let samples = random.into_iter().map(|n| {
                walk = walk.wrapping_add(n >> (3 * noise).min(15));
                match (above, signed) {
                    (0 | 1, _) => n,
                    (_, true) => ((walk << spare) as i16 >> spare) as u16,
                    (_, false) => walk << spare >> spare,
                }
            });
            let data = match bits.0 {
                8 => samples.map(|sample| sample as u8).collect(),
                _ => words(samples),
            };
            Raster { layout: layout.clone(), data }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn lossless_encoding_keeps_every_bit(raster in any_raster(), predictor in 0_u8..=7) {
        let predictor = (predictor > 0).then_some(predictor);
        let encoded = lossless_encode::encode(&raster, predictor).unwrap();
        prop_assert_eq!(&encoded.layout, &raster.layout);
        prop_assert_eq!(decode(&encoded.layout, &encoded.data).unwrap(), raster);
    }

    #[test]
    fn any_change_is_survived(
        which in 0_usize..15,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (stream, layout) = vectors().swap_remove(which);
        let mut stream = bytes(stream);
        for (at, value) in changes {
            let at = at.index(stream.len());
            stream[at] = value;
        }
        if let Ok(raster) = decode(&layout, &stream) {
            prop_assert_eq!(raster.data.len(), raster.layout.frame_length());
        }
    }

    #[test]
    fn any_scan_is_survived(
        which in 0_usize..15,
        scan in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let (stream, layout) = vectors().swap_remove(which);
        let mut stream = bytes(stream);
        let header = stream.windows(2).position(|m| m == [0xFF, 0xDA]).unwrap();
        stream.truncate(header + 2 + usize::from(stream[header + 3]));
        stream.extend(scan);
        match decode(&layout, &stream) {
            Ok(raster) => prop_assert_eq!(raster.data.len(), raster.layout.frame_length()),
            Err(error) => prop_assert!(matches!(error, CodecError::Damaged(_)), "{}", error),
        }
    }
}
