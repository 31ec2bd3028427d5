//! JPEG-LS against a reference, against itself, and against damage.

use proptest::prelude::*;

use super::*;

/// The image of T.87 §H.3 and its codestream.
const STANDARD: &str = "\
    ffd8fff7000b080004000401011100ffda0008010100000000c000006c80208e01c00000574000006ee6000001bc18\
    000005d800009160ffd9";

// Made by CharLS 2.4 (PyPI's pyjpegls 1.5.1) from `picture`.
const GREY_8_NEAR_3: &str = "\
    ffd8fff7000b08000a001001011100ffda0008010100030000f4000180c93cd65f7c99325c2218008418e596d2\
    f22c4b280002c8bd3d8a0000e15a7a7faa2b45512ee925b3920001c00001c9285a729ca1669c90a456ffd9";

const GREY_16: &str = "\
    ffd8fff7000b10000a001001011100fff8000d01ffff0012004301140040ffda00080101000000004058010040\
    100f9c6d8ff48ca997766dbf78e068ac00f21042284909a1344d1349a4d26869c841082114623131313131310c\
    b62087a12454646474750a518662087211448d2254c993a2eb9046a208512348952a64b2e411887a0000059801\
    004010080400b9045a3909a0073208a46a12401cd04946222803ffd9";

const GREY_3: &str = "\
    ffd8fff7000b03000a001001011100ffda00080101000000001dc53322cc8bbc9343bca2e531685d077a3ed5f9\
    eda4d2c574d33ae2bcbb3a14be8ae7a11f3ff0ffd9";

const RGB_PLANES: &str = "\
    ffd8fff7001108000a001003011100021100031100ffda00080101000000002ca800000f9000000b60fca2633a\
    88ed975bf5e13c00801803800000cb962e2971dcef083b891180026d9bc000007674833107635ac00072e5920a\
    de6796cfe164132b38af1f2f7590b0c400000071a0000000f8400003102c85452724282172402ce7acffda0008\
    0102000000003ca800000f8000000b60fca2633a88ed975bf5e13c00060002000143a1cfe2b21e45bc16e71c77\
    9e7b1dfd800000eceb6d25869bee3e748cb6b061a45cdbdf46c38598ec338e9b6892000a99363000001a084000\
    003b50c2000001e6000001d296c891000080007e5b7d7e90796de5da41c0ffda00080103000000001654000007\
    b8000005b07e51319d4476cbadfaf09e0000080000300000e1d192a8acb396c0000076f858924a2e4f864aa3d4\
    bda5923232589c9f51ae64b084848f464b1f13c5f5ab2cf9f1044645a3d26da678f31ae2000000ee440001c880\
    00003a5699e3b9fa1f299d60f50f94cea6ef10f0ffd9";

const RGB_LINES: &str = "\
    ffd8fff7001108000a001003011100021100031100ffda000c030100020003000001002ca800000f9000000b60\
    fca2633a88ed975bf5e078a2948000feef7a0526a55db25b6ed7f8b24924802bc9db40ff522bb5ab1db2eb9e00\
    400c01c0000065cb1714b8ee76f0580009e4b439fc564388b6f03854965e2e511695657000001dbe2077122312\
    65b38b1c6daecb7db731bfcb5b859dc9449f650aa030ed6a06620ed6358d5acd6d6cb1931f3f4f034b3dbb7718\
    bdff6a9940ade6737479b2db72e6319b1f3fd64b0a9bbaf97b1dfd8be9d68132f38ae4e6f061c54b3b17c74c7f\
    d6589136f13bafcfef682c310000001c680000003e1000000079e048002d9759002308001b861000000f300000\
    0e959620db401f440006620000fc4031b415149cb6a2800010000fd9679b4fd0f941410b96d357a20f259ae841\
    0f9405ae7ae5b4966883c966d3a7d0f0ffd9";

const RGB_SAMPLES_NEAR_2: &str = "\
    ffd8fff7001108000a001003011100021100031100ffda000c0301000200030002020024affe000000dc000003\
    001c00cd2d75d775b6dd75d2245f2e5cb952a54d99326cdab5ebd7df8204308100418300c71078821055a668d1\
    af5a357ad3b000002e30811fd14b445117e8cdcc237e9c480bdf938732d218697dc4315e774698e544b893a270\
    5e433c62b9612398df8f9af5ea3442aa6a7cc3257ce73b1c71bdba3252c8c56208c59a2af57ca226e11bbbe000\
    000301f00000e108000000360000018005842100281c000003840000001a03ef944538c9f802250075bf72863b\
    4ea786f927ff4a144349d94845c93ff8ffd9";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn layout(columns: u16, rows: u16, samples: u8, bits: u8) -> Layout {
    Layout {
        rows,
        columns,
        samples,
        bits_allocated: if bits > 8 { 16 } else { 8 },
        bits_stored: bits,
        high_bit: bits - 1,
        signed: false,
        float: false,
        planar: false,
        photometric: if samples == 1 { Photometric::Monochrome2 } else { Photometric::Rgb },
    }
}

fn of(layout: Layout, data: &[u8]) -> Raster {
    Raster { layout, data: data.to_vec() }
}

fn raster(layout: Layout, samples: impl IntoIterator<Item = u32>) -> Raster {
    let width = layout.sample_bytes();
    let cell = |sample: u32| sample.to_le_bytes().into_iter().take(width);
    let data = samples.into_iter().flat_map(cell).collect();
    Raster { layout, data }
}

/// Runs on the left, slopes on the right, a bright block below.
fn picture(samples: u8, bits: u8) -> Raster {
    let mask = (1 << bits) - 1;
    let sample = |x: u32, y: u32, c: u32| match (x, y) {
        (9.., 6..) => mask - c,
        (..5, _) => (3 + c) & mask,
        _ => (x * x * 5 + y * 11 * (c + 1) + x * y) & mask,
    };
    let places =
        (0..160 * u32::from(samples)).map(|n| (n / u32::from(samples), n % u32::from(samples)));
    raster(layout(16, 10, samples, bits), places.map(|(n, c)| sample(n % 16, n / 16, c)))
}

fn distance(a: &Raster, b: &Raster) -> i32 {
    let pairs = cells(a, a.layout.signed).zip(cells(b, b.layout.signed));
    pairs.map(|(a, b)| (a - b).abs()).max().unwrap()
}

#[test]
fn the_standards_example() {
    let samples = [0, 0, 90, 74, 68, 50, 43, 205, 64, 145, 145, 145, 100, 145, 145, 145];
    let image = raster(layout(4, 4, 1, 8), samples);
    assert_eq!(decode(&image.layout, &bytes(STANDARD)).unwrap(), image);
    assert_eq!(encode(&image).unwrap().data, bytes(STANDARD));
}

#[test]
fn codestreams_of_a_reference_encoder() {
    for (codestream, samples, bits, near) in [
        (GREY_3, 1, 3, 0),
        (GREY_8_NEAR_3, 1, 8, 3),
        (GREY_16, 1, 16, 0),
        (RGB_PLANES, 3, 8, 0),
        (RGB_LINES, 3, 8, 0),
        (RGB_SAMPLES_NEAR_2, 3, 8, 2),
    ] {
        let image = picture(samples, bits);
        let decoded = decode(&image.layout, &bytes(codestream)).unwrap();
        assert_eq!(distance(&decoded, &image), near, "{samples} samples of {bits} bits");
        if near == 3 {
            // What the reference decoder makes of it.
            let mut crc = flate2::Crc::new();
            crc.update(&decoded.data);
            assert_eq!(crc.sum(), 410_441_669);
        }
    }
}

#[test]
fn the_same_bytes_as_a_reference_encoder() {
    for (codestream, samples, bits) in [(GREY_3, 1, 3), (GREY_16, 1, 16), (RGB_LINES, 3, 8)] {
        assert_eq!(encode(&picture(samples, bits)).unwrap().data, bytes(codestream));
    }
    assert_eq!(write(picture(1, 8), 8, 3).data, bytes(GREY_8_NEAR_3));
}

/// The entropy-coded bytes of an image that was coded without preset parameters.
fn entropy(image: &Raster) -> Vec<u8> {
    let model = Preset::default().model(8, 0);
    let patterns: Vec<i32> = cells(image, false).collect();
    let mut out = Vec::new();
    encoder::scan(&patterns, image.layout.columns.into(), 1, Interleave::None, &model, &mut out);
    out
}

#[test]
fn restart_markers_start_anew() {
    let image = picture(1, 8);
    let mut codestream =
        bytes("ffd8 ffdd0004 0003 fff7000b08000a001001011100 ffda0008010100000000");
    for (number, strip) in image.data.chunks(16 * 3).enumerate() {
        if number > 0 {
            codestream.extend([0xFF, 0xCF + number as u8]);
        }
        let strip = of(layout(16, (strip.len() / 16) as u16, 1, 8), strip);
        codestream.extend(entropy(&strip));
    }
    codestream.extend([0xFF, 0xD9]);
    assert_eq!(decode(&image.layout, &codestream).unwrap(), image);
    let marker = codestream.windows(2).position(|pair| pair == [0xFF, 0xD1]).unwrap();
    codestream[marker + 1] = 0xD2;
    assert!(matches!(decode(&image.layout, &codestream), Err(CodecError::Damaged(_))));
}

#[test]
fn preset_parameters_are_obeyed() {
    let image = picture(1, 8);
    let preset = Preset { max: 255, thresholds: [5, 9, 30], reset: 40 };
    let patterns: Vec<i32> = cells(&image, false).collect();
    let mut codestream = bytes("ffd8 fff8000d01 00ff 0005 0009 001e 0028");
    codestream.extend(bytes("fff7000b08000a001001011100 ffda0008010100000000"));
    let model = preset.complete(8, 0).unwrap();
    encoder::scan(&patterns, 16, 1, Interleave::None, &model, &mut codestream);
    assert_eq!(decode(&image.layout, &codestream).unwrap(), image);
    // Without them the same bytes are another picture.
    let plain: Vec<u8> = codestream[..2].iter().chain(&codestream[17..]).copied().collect();
    assert_ne!(decode(&image.layout, &plain).ok(), Some(image));
    for wrong in [[4, 2, 1, 64], [300, 301, 302, 64], [5, 9, 30, 1]] {
        let [t1, t2, t3, reset] = wrong;
        let preset = Preset { max: 255, thresholds: [t1, t2, t3], reset };
        assert!(preset.complete(8, 0).is_err());
    }
    assert!(Preset::default().complete(8, 128).is_err());
}

#[test]
fn a_header_that_disagrees_is_refused() {
    let image = picture(1, 8);
    let good = encode(&image).unwrap().data;
    let refused = |layout: Layout| {
        assert!(matches!(decode(&layout, &good), Err(CodecError::Damaged(_))), "{layout:?}");
    };
    refused(Layout { rows: 11, ..image.layout.clone() });
    refused(Layout { columns: 15, ..image.layout.clone() });
    refused(layout(16, 10, 3, 8));
    let wide = encode(&picture(1, 12)).unwrap().data;
    assert!(matches!(decode(&image.layout, &wide), Err(CodecError::Damaged(_))));
    let mut subsampled = good.clone();
    subsampled[13] = 0x21;
    assert!(matches!(decode(&image.layout, &subsampled), Err(CodecError::Unsupported(_))));
    let mut mapped = good.clone();
    mapped[21] = 1;
    assert!(matches!(decode(&image.layout, &mapped), Err(CodecError::Unsupported(_))));
    let baseline = bytes("ffd8 ffc0000b08000a001001011100");
    assert!(matches!(decode(&image.layout, &baseline), Err(CodecError::Unsupported(_))));
}

#[test]
fn an_absurd_size_is_refused_before_it_costs_memory() {
    let codestream = bytes("ffd8 fff7000b10ffffffff01011100 ffda0008010100000000 00 ffd9");
    let huge = layout(u16::MAX, u16::MAX, 1, 16);
    assert_eq!(decode(&huge, &codestream), Err(CodecError::Damaged("too few bytes")));
}

#[test]
fn lines_that_the_header_leaves_open() {
    let image = picture(1, 8);
    let mut codestream = encode(&image).unwrap().data;
    codestream[7..9].fill(0);
    assert_eq!(decode(&image.layout, &codestream).unwrap(), image);
}

#[test]
fn precision_may_differ_from_bits_stored() {
    let image = picture(1, 8);
    let codestream = encode(&image).unwrap().data;
    let wide = Layout { bits_allocated: 16, bits_stored: 12, high_bit: 11, ..image.layout };
    let decoded = decode(&wide, &codestream).unwrap();
    assert!(cells(&decoded, false).eq(image.data.iter().map(|sample| i32::from(*sample))));
    // Two's complement of eight bits becomes that of sixteen.
    let decoded = decode(&Layout { signed: true, ..wide }, &codestream).unwrap();
    assert!(cells(&decoded, true).eq(image.data.iter().map(|sample| i32::from(*sample as i8))));
}

#[test]
fn bits_beside_the_sample_survive() {
    let image = raster(
        Layout { bits_stored: 12, high_bit: 11, ..layout(4, 2, 1, 16) },
        [0x8001, 0x0FFF, 0, 0x8123, 0xFFFF, 1, 2, 3],
    );
    for raster in
        [image.clone(), Raster { layout: Layout { signed: true, ..image.layout }, ..image }]
    {
        for encoded in [encode(&raster).unwrap(), encode_near(&raster, 1).unwrap()] {
            assert_eq!(encoded.layout, raster.layout);
            assert_eq!(decode(&encoded.layout, &encoded.data).unwrap(), raster);
        }
    }
}

#[test]
fn loss_follows_quality_and_never_turns_a_sign() {
    let full = raster(layout(4, 1, 1, 12), [0, 4095, 100, 7]);
    let at = |image: &Raster, quality| near(image, 12, quality);
    assert_eq!((at(&full, 100), at(&full, 90), at(&full, 50), at(&full, 1)), (0, 16, 82, 162));
    let signed =
        raster(Layout { signed: true, ..layout(4, 1, 1, 12) }, [-2040_i32 as u32, 100, 2000, 0]);
    assert_eq!(near(&signed, 12, 1), 8);
    let decoded = encode_near(&signed, 1).unwrap();
    let decoded = decode(&decoded.layout, &decoded.data).unwrap();
    assert!(distance(&decoded, &signed) <= 8);
    let palette = Layout { photometric: Photometric::Palette, ..layout(2, 1, 1, 8) };
    assert!(encode(&of(palette.clone(), &[1, 2])).is_ok());
    assert!(matches!(encode_near(&of(palette, &[1, 2]), 90), Err(CodecError::Unsupported(_))));
}

#[test]
fn pixels_without_a_place_are_refused() {
    for layout in [
        Layout { bits_allocated: 32, bits_stored: 32, high_bit: 31, ..layout(1, 1, 1, 8) },
        Layout { bits_allocated: 32, float: true, ..layout(1, 1, 1, 8) },
        Layout { photometric: Photometric::YbrPartial422, ..layout(2, 1, 3, 8) },
        Layout { photometric: Photometric::Argb, ..layout(1, 1, 4, 8) },
    ] {
        let data = vec![0; layout.frame_length()];
        let refused = encode(&Raster { layout, data });
        assert!(matches!(refused, Err(CodecError::Unsupported(_))));
    }
}

#[test]
fn subsampled_chroma_becomes_whole() {
    let half = Layout { photometric: Photometric::YbrFull422, ..layout(2, 1, 3, 8) };
    let encoded = encode(&of(half, &[1, 2, 3, 4])).unwrap();
    assert_eq!(encoded.layout.photometric, Photometric::YbrFull);
    assert_eq!(decode(&encoded.layout, &encoded.data).unwrap().data, [1, 3, 4, 2, 3, 4]);
}

prop_compose! {
    fn images()(
        (columns, rows, colour) in (1_u16..24, 1_u16..16, any::<bool>()),
        (bits, signed, planar) in (1_u8..=16, any::<bool>(), any::<bool>()),
        noise in 0_u32..4,
        seed in any::<u32>(),
    ) -> Raster {
        let samples = if colour { 3 } else { 1 };
        let signed = signed && !colour;
        let layout = Layout { signed, planar: planar && colour, ..layout(columns, rows, samples, bits) };
        let mask = (1 << bits) - 1;
        let mut state = seed | 1;
        let count = layout.pixels() * usize::from(samples);
        let unused = 32 - u32::from(bits);
        let samples = (0..count as u32).map(|n| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let sample = match noise {
                0 => state & mask,
                1 => (seed >> 3).wrapping_add(n / 3 * 2) & mask,
                2 => if state.is_multiple_of(9) { state & mask } else { seed & mask },
                _ => seed.wrapping_add(state % 3) & mask,
            };
            if signed { (((sample << unused) as i32) >> unused) as u32 } else { sample }
        });
        raster(layout, samples.collect::<Vec<_>>())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn lossless_is_lossless(image in images()) {
        let encoded = encode(&image).unwrap();
        let decoded = decode(&encoded.layout, &encoded.data).unwrap();
        prop_assert_eq!(native::arranged(decoded, image.layout.planar).unwrap(), image);
    }

    #[test]
    fn loss_is_bounded(image in images(), quality in 0_u8..=110) {
        let image = native::arranged(image, false).unwrap();
        let most = near(&image, precision(&image).unwrap(), quality);
        let encoded = encode_near(&image, quality).unwrap();
        prop_assert_eq!(&encoded.layout, &image.layout);
        let decoded = decode(&encoded.layout, &encoded.data).unwrap();
        prop_assert!(distance(&decoded, &image) <= most as i32);
    }

    #[test]
    fn scans_of_one_component_each(image in images()) {
        let image = native::arranged(image, true).unwrap();
        if image.layout.samples != 3 || image.layout.bits_stored > 12 {
            return Ok(());
        }
        let whole = encode(&image).unwrap().data;
        let header = whole.windows(2).position(|pair| pair == [0xFF, SOS]).unwrap();
        let mut codestream = whole[..header].to_vec();
        let one = Layout { samples: 1, photometric: Photometric::Monochrome2, planar: false, ..image.layout };
        for (id, plane) in image.data.chunks(one.frame_length()).enumerate() {
            let scan = write(of(one.clone(), plane), u32::from(one.bits_stored).max(2), 0).data;
            let start = scan.windows(2).position(|pair| pair == [0xFF, SOS]).unwrap();
            codestream.extend(&scan[start..scan.len() - 2]);
            let place = codestream.len() - (scan.len() - 2 - start) + 5;
            codestream[place] = id as u8 + 1;
        }
        let decoded = decode(&image.layout, &codestream).unwrap();
        prop_assert_eq!(native::arranged(decoded, true).unwrap(), image);
    }

    #[test]
    fn damage_is_an_error_or_a_frame(
        image in images(),
        quality in 1_u8..=100,
        cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut encoded = encode_near(&image, quality).unwrap();
        for (place, value) in changes {
            let place = place.index(encoded.data.len());
            encoded.data[place] = value;
        }
        let cut = &encoded.data[..cut.index(encoded.data.len() + 1)];
        for damaged in [encoded.data.as_slice(), cut] {
            if let Ok(raster) = decode(&encoded.layout, damaged) {
                prop_assert_eq!(raster.data.len(), raster.layout.frame_length());
            }
        }
    }

    #[test]
    fn samples_by_turns_survive_damage(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut codestream = bytes(RGB_SAMPLES_NEAR_2);
        for (place, value) in changes {
            let place = place.index(codestream.len());
            codestream[place] = value;
        }
        if let Ok(raster) = decode(&layout(16, 10, 3, 8), &codestream) {
            prop_assert_eq!(raster.data.len(), raster.layout.frame_length());
        }
    }

    #[test]
    fn a_codestream_that_ends_early_is_an_error(image in images(), keep in 0.0..1.0) {
        let encoded = encode(&image).unwrap();
        // The last bytes are the end marker, and padding that nothing may depend on.
        let keep = ((encoded.data.len() - 4) as f64 * keep) as usize;
        prop_assert!(decode(&encoded.layout, &encoded.data[..keep]).is_err());
    }
}

const SOS: u8 = 0xDA;
