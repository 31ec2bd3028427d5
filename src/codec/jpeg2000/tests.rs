//! JPEG 2000 against references, against itself, and against damage.

use proptest::prelude::*;

use super::*;

/// OpenJPEG 2.5: every mode of code-blocks but one, tiles, two layers, markers in packets, RPCL.
const MODES: &str = "\
    ff4fff5100290000000000120000000d00000000000000000000000b00000009000000000000000000010b0101ff52\
    000c06020002000204043d01ff5c000a4060686870686870ff90000a0000000000a20001ff93ff910004000080ff92\
    ff9100040001dfe122422110884422110884422110ff9206a3357700b61400b6695ab6542ab678aab6272ab6312ab6\
    27aab6b4aab6fd2ab6ff55b6ff910004000280ff92ff9100040003c0fc089249249282211088ff9217788a34484515\
    431f2b3ffdaa0229ff55b6002ab6002ab6ff910004000480ff92ff9100040005c003a80900ff921150533ff2b6ff90\
    000a0001000000b10001ff93ff9100040000c8c0ff9208ee49ff9100040001ff012492090482412090482412ff9240\
    b1b6c62ab679b69db6d9b645b6f5b61db679b6b5b6ff910004000280ff92ff9100040003c01f39024120904c001140\
    0088ff9208e140b640b645b6eab601ca087bff910004000480ff92ff9100040005c0fc08965128a4522d10c8ff9223\
    f29c340dc47688458fb61d824cb6001564d5b60015c695b6ff7ffa5a55b6ff7ffab6ff90000a0002000000e10001ff\
    93ff9100040000c880ff9208e1ff9100040001ff002412090482412090482412ff92c6b6acb654b6cab62ab60ab68a\
    b6cab6aab60ab6ff910004000280ff92ff9100040003c0fc08924924928120904c0fc08924904824120904c00f9c89\
    24924924ff920cce00ac4068003e30003bd5aa0e1ccab60ab62ab60df0ac001a3468b645b60ab6aab6eab64ab60df0\
    00004068ac3e30683b2aaa3aff910004000480ff92ff9100040005c003a61180fb4894492892492490ff920890720c\
    b2b61f33bc001b09c582882f3eadb60131b60155b601fdb6ff90000a0003000000e00001ff93ff9100040000c440ff\
    920637ff9100040001fea249241209048241209048ff9268acb61500b6beb695b695b615b615b6d5b655b6ff910004\
    000280ff92ff9100040003c01f39024120904c0fc0812090482412090480ff92086600b600b668b62ab6087b00b6ac\
    b6d7b6d5b655b695b655b6ff910004000480ff92ff9100040005c0fc0c924924924928904c07da44924924924924c0\
    03e1324924ff920c205ee440b65022b6240eb60515b605b5b6ff2a95b65db6068d1f34b60e15b606e8b60acab60a6a\
    b60a4ab6047149b534b68ac6b6ffd9";

/// OpenJPEG 2.5: plain bits between coded ones, precincts, PCRL.
const BYPASS: &str = "\
    ff4fff5100290000000000120000000d0000000000000000000000120000000d000000000000000000010b0101ff52\
    000f01030001000202020101223344ff5c000a4060686870686870ff90000a00000000009d0001ff93dfe092448912\
    2448d1a0120bd332a2e936643f4a13ff7f6cebff7f3266ff7f393aff7f3338ff7faaa4ff7fff7f2aff7fff7b2aff7f\
    c03ea0e4890024b47062ad02c70006ff7f000cff7fc003a200115053b6cfe418a142850a142811dd67faff7fe5ff7f\
    95ff7f55ff7f35ff7fc5ff7fc5ff7fc0010801c0fc028a14285003fb2ac67f4aff7f66ff7faaff7ffeff7fffd9";

/// OpenJPEG 2.5: components transformed together, a tile-part for each resolution, CPRL.
const COLOUR: &str = "\
    ff4fff51002f0000000000120000000d0000000000000000000000120000000d000000000000000000030701010701\
    01070101ff52000c00040001010204040001ff5c000a4040484850484850ff90000a0000000000260009ff93cfb454\
    111db650b1880ebffb1a6be4e8677997e0c4c1bcdfff90000a00000000001d0109ff93c011c011c0088014002b0234\
    7f022eff90000a0000000000170209ff93c07c22803e1a6248edff90000a0000000000220309ff93df80880137add5\
    c7612966ba596d9fb7a660f0dfff90000a0000000000130409ff93c0110022bfff90000a0000000000180509ff93c0\
    f903008e51624ab23fff90000a0000000000210609ff93df8080011588d97dce1ba734372edbc4e514f7ff90000a00\
    00000000130709ff93c01100216fff90000a0000000000170809ff93c0f902803bc1dcff7fffd9";

/// OpenJPEG 2.5: components as they are.
const PLAIN_COLOUR: &str = "\
    ff4fff51002f0000000000120000000d0000000000000000000000120000000d000000000000000000030701010701\
    01070101ff52000c00000001000104040001ff5c00074040484850ff90000a0000000000bb0001ff93df8170122bbb\
    243c22e0d7948504a78581ba2f84185fdf538f539069c5a3b6ea5563f38a37a62e9eeaab46c6204259c13fdf816812\
    2b5934f489bd689162253a11c7e5663c59d17c81d130649e95808b4c71b5d9555e8e0b05555513876d2b007fdf8188\
    1150723c5287da1df2a28e62750f9ba2877f2a69269046f91e045b61e63092f353c0617d87946f6772efcecb9ff86d\
    a14fc0f903003bc1dc9eff7fc011003bc1c0f902808d3edc581fffd9";

/// OpenJPEG 2.5: the irreversible transforms.
const REAL: &str = "\
    ff4fff51002f0000000000120000000d0000000000000000000000120000000d000000000000000000030701010701\
    01070101ff52000c00000001010304040000ff5c001742673867506750676850055005504757d357d35762ff90000a\
    0000000000c40001ff93c7ea1406828c14c6506d00263fc3f2080c299dc40f7e133fc3f2090c1b9f48d0c423fa15c0\
    1f18381f602801674b0b3d16e5cfc00f80380fa42c0070400aef870c3846a49b1043c01f18381f602002e3d710580e\
    71c03e01601f00a0216d440d2b02bac367bfc03e11a00e1824b389d8037f05770aa9edcfc03e01601f00a0215d77d9\
    2b10325ae12fc03e11a00e148f9fff0a18a7153d5129bfc01d1600468e4f286c7f121ccfc01d1a00483bc19ea6ff7f\
    128d491fffd9";

/// OpenJPH 0.26: tiles.
const HT: &str = "\
    ff4fff5100294000000000120000000d00000000000000000000001000000010000000000000000000010f0101ff50\
    000800020000000aff52000c00020001000204044001ff5c000a2088909090888888ff64001700014f70656e4a5048\
    2056657220302e32362e332eff90000a0000000000870001ff93c0002e9c0d0085ff2dff0bfa37fa8bf94dfce77cbf\
    bfcebfabbf86dfafafc947dda3e900f5974240333800c00016a200009077ef5d5c90f9debd77e10206390538b844b1\
    b700f8b3e300c0002eacb55555150a2c606d55558502155d5b555541013f44abb580e4797fbfb9d96bf597ced7eb2e\
    212c6a31b201ff90000a0001000000330001ff93c0002b409bf97ff6b1f911fc0bf50b750000c0002bc0c45876000a\
    943c018ff7f5f10b7800ffd9";

/// OpenJPH 0.26: three components, a tile-part for each resolution.
const HT_PARTS: &str = "\
    ff4fff51002f4000000000120000000d0000000000000000000000120000000d000000000000000000030701010701\
    01070101ff500008000200000003ff52000c00020001010204044001ff5c000a2050585858505050ff64001700014f\
    70656e4a50482056657220302e32362e332eff5500160060000000000065000000000038000000000038ff90000a00\
    00000000650003ff93c016d8fde3f35474d17b979e91edba550ca908ed0e765220bc0002a9ba00c016c0e7e1f9eefd\
    5fcf3797dfdfc3e925d9059a8a8717b264b900c016d89fefe3f7f8bc02a2bf1f7fdfbfcf9770f30073058461782244\
    ba00ff90000a0000000000380103ff93c009e00544009c00f0076afdb5000080559d7cadb60000f00b38adb500c008\
    c0e11300c00900a00be400ff90000a0000000000380203ff93c01560021bf8efc9fd5f5fab7800c01560110cf4efc6\
    7f57c97d1800c015606ebbddefd3fafd7e4b7800ffd9";

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}

fn layout(samples: u8, bits: u8) -> Layout {
    Layout {
        rows: 13,
        columns: 18,
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

/// The picture of 12 bits that the grey reference streams hold.
fn grey() -> Raster {
    let pixels = (0..13_u32).flat_map(|y| (0..18).map(move |x| 3 * x * x + 17 * y + 5 * x * y));
    let data = pixels.flat_map(|n| ((n & 4095) as u16).to_le_bytes()).collect();
    Raster { layout: layout(1, 12), data }
}

/// That of the others.
fn colours() -> Raster {
    let pixels = (0..13_u32).flat_map(|y| (0..18).map(move |x| [9 * x + y, x + 13 * y, x * y]));
    let data = pixels.flatten().map(|n| n as u8).collect();
    Raster { layout: layout(3, 8), data }
}

/// The greatest difference of two frames of 8 bits.
fn difference(one: &Raster, other: &Raster) -> u8 {
    assert_eq!(one.data.len(), other.data.len());
    one.data.iter().zip(&other.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn read(hex: &str, layout: &Layout) -> Raster {
    decode(layout, &bytes(hex)).unwrap()
}

#[test]
fn reference_streams_are_read_bit_for_bit() {
    for (name, hex) in [("modes", MODES), ("bypass", BYPASS), ("ht", HT)] {
        assert_eq!(read(hex, &layout(1, 12)), grey(), "{name}");
    }
    for (name, hex) in [("mixed", COLOUR), ("plain", PLAIN_COLOUR), ("ht", HT_PARTS)] {
        assert_eq!(read(hex, &layout(3, 8)), colours(), "{name}");
    }
}

#[test]
fn lossy_reference_streams_are_read_closely() {
    assert!(difference(&read(REAL, &layout(3, 8)), &colours()) <= 3);
}

#[test]
fn the_component_transform_is_the_codestreams_and_its_name_the_layouts() {
    let named = |photometric| Layout { photometric, ..layout(3, 8) };
    for (given, named_after) in [
        (Photometric::YbrRct, Photometric::Rgb),
        (Photometric::YbrIct, Photometric::Rgb),
        (Photometric::Rgb, Photometric::Rgb),
        (Photometric::YbrFull, Photometric::YbrFull),
        (Photometric::YbrFull422, Photometric::YbrFull),
    ] {
        for hex in [COLOUR, PLAIN_COLOUR] {
            let raster = read(hex, &named(given));
            assert_eq!((raster.layout.photometric, &raster.data), (named_after, &colours().data));
        }
    }
}

#[test]
fn boxes_around_a_codestream_are_opened() {
    let stream = bytes(COLOUR);
    let mut file = b"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 ".to_vec();
    file.extend(((stream.len() + 8) as u32).to_be_bytes());
    file.extend(b"jp2c");
    file.extend(&stream);
    assert_eq!(decode(&layout(3, 8), &file).unwrap(), colours());
}

#[test]
fn signs_are_the_layouts_and_unused_bits_follow_them() {
    // The stream says unsigned, the layout signed: bit 11 is the sign.
    let layout = Layout { signed: true, ..layout(1, 12) };
    let unsigned = grey().data;
    let expected = unsigned
        .as_chunks::<2>()
        .0
        .iter()
        .flat_map(|bytes| (((u16::from_le_bytes(*bytes) << 4) as i16) >> 4).to_le_bytes());
    assert_eq!(decode(&layout, &bytes(MODES)).unwrap().data, expected.collect::<Vec<u8>>());
    // And the other way round.
    let raster = Raster { layout: layout.clone(), data: vec![0xFF; layout.frame_length()] };
    let encoded = encode("1.2.840.10008.1.2.4.90", &raster, 0).unwrap();
    let unsigned = Layout { signed: false, ..layout };
    let decoded = decode(&unsigned, &encoded.data).unwrap().data;
    assert!(decoded.as_chunks::<2>().0.iter().all(|bytes| *bytes == [0xFF, 0x0F]));
}

#[test]
fn what_contradicts_the_layout_is_refused_before_anything_is_made() {
    let stream = bytes(COLOUR);
    for wrong in [
        Layout { rows: 12, ..layout(3, 8) },
        Layout { columns: 19, ..layout(3, 8) },
        layout(1, 8),
        Layout { samples: 4, photometric: Photometric::Argb, ..layout(3, 8) },
    ] {
        assert!(matches!(decode(&wrong, &stream), Err(CodecError::Damaged(_))), "{wrong:?}");
    }
    // Twelve bits do not fit eight.
    assert!(matches!(decode(&layout(1, 8), &bytes(HT)), Err(CodecError::Damaged(_))));
}

#[test]
fn progressive_streams_have_lengths_levels_and_parts() {
    let layout = Layout { rows: 200, columns: 5000, ..layout(1, 8) };
    let data = (0..layout.frame_length()).map(|n| (n / 7) as u8).collect();
    let raster = Raster { layout: layout.clone(), data };
    let encoded = encode("1.2.840.10008.1.2.4.202", &raster, 0).unwrap();
    assert_eq!(decode(&layout, &encoded.data).unwrap(), raster);
    let at = |marker: u8| {
        let place = encoded.data.windows(2).position(|pair| pair == [0xFF, marker]).unwrap();
        encoded.data.get(place..).unwrap()
    };
    // RPCL, and seven levels, after which 5000 columns have become 40.
    assert_eq!((at(0x52)[5], at(0x52)[9]), (2, 7));
    // TLM lists eight tile-parts, which end where the end marker stands.
    let lengths = at(0x55)[6..6 + 8 * 4].as_chunks::<4>().0;
    let sum: u32 = lengths.iter().map(|length| u32::from_be_bytes(*length)).sum();
    assert_eq!(at(0x90).len(), sum as usize + 2);
}

#[test]
fn quality_makes_lossy_streams_better_and_longer() {
    for syntax in ["1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"] {
        let made = [10, 50, 90].map(|quality| encode(syntax, &colours(), quality).unwrap());
        let errors = made.each_ref().map(|encoded| {
            assert_eq!(encoded.layout.photometric, Photometric::YbrIct);
            difference(&decode(&encoded.layout, &encoded.data).unwrap(), &colours())
        });
        let lengths = made.map(|encoded| encoded.data.len());
        assert!(
            lengths.is_sorted() && errors.is_sorted_by(|a, b| a >= b),
            "{lengths:?} {errors:?}"
        );
        assert!(errors[2] <= 4 && !is_lossless(syntax));
    }
}

#[test]
fn samples_that_jpeg_2000_does_not_have_are_refused() {
    let refused = |layout: Layout| {
        let raster = Raster { data: vec![0x55; layout.frame_length()], layout };
        matches!(encode("1.2.840.10008.1.2.4.90", &raster, 0), Err(CodecError::Unsupported(_)))
    };
    let wide = Layout { bits_allocated: 32, bits_stored: 32, high_bit: 31, ..layout(1, 8) };
    assert!(refused(wide.clone()) && refused(Layout { float: true, ..wide }));
    assert!(refused(Layout { bits_allocated: 1, bits_stored: 1, high_bit: 0, ..layout(1, 8) }));
    assert!(refused(Layout { photometric: Photometric::YbrFull422, ..layout(3, 8) }));
    let indices = Layout { photometric: Photometric::Palette, ..layout(1, 8) };
    let raster = Raster { data: vec![1; indices.frame_length()], layout: indices };
    assert!(encode("1.2.840.10008.1.2.4.91", &raster, 90).is_err());
    assert!(encode("1.2.840.10008.1.2.4.90", &raster, 90).is_ok());
}

/// Layouts of all kinds that are encoded, and frames of them: smooth, noisy, or with bits above the
/// stored ones.
fn frames() -> impl Strategy<Value = Raster> {
    let kinds = (1..70_u16, 1..70_u16, any::<bool>(), any::<bool>(), any::<bool>());
    let bits = prop_oneof![
        (1..=8_u8).prop_map(|n| (n, 8)),
        (2..=16_u8).prop_map(|n| (n, 16)),
        (20..=26_u8).prop_map(|n| (n, 32))
    ];
    (kinds, bits, any::<u64>(), 0..4_u32).prop_map(
        |((rows, columns, colour, signed, planar), (bits_stored, bits_allocated), seed, noise)| {
            let layout = Layout {
                rows,
                columns,
                samples: if colour { 3 } else { 1 },
                bits_allocated,
                bits_stored,
                high_bit: bits_stored - 1,
                signed,
                float: false,
                planar: planar && colour,
                photometric: if colour { Photometric::Rgb } else { Photometric::Monochrome1 },
            };
            let mut state = seed | 1;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 33
            };
            let count = layout.frame_length() / layout.sample_bytes();
            let unused = 64
                - u32::from(if noise == 3 && bits_allocated < 32 {
                    bits_allocated
                } else {
                    bits_stored
                });
            let mut data = Vec::new();
            for index in 0..count as u64 {
                let sample = if noise == 0 { index * 3 + (random() & 3) } else { random() };
                let sample = if signed {
                    (sample << unused) as i64 >> unused
                } else {
                    (sample << unused >> unused) as i64
                };
                data.extend(sample.to_le_bytes().iter().take(layout.sample_bytes()));
            }
            Raster { layout, data }
        },
    )
}

/// The same frame pixel after pixel.
fn interleaved(raster: &Raster) -> Raster {
    let mut layout = raster.layout.clone();
    let (bytes, pixels) = (layout.sample_bytes(), layout.pixels());
    if !layout.planar {
        return raster.clone();
    }
    layout.planar = false;
    let sample = |n: usize| raster.data.chunks(bytes).nth(n % 3 * pixels + n / 3).unwrap();
    let data = (0..3 * pixels).flat_map(|n| sample(n).to_vec()).collect();
    Raster { layout, data }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn lossless_is_lossless(raster in frames(), syntax in prop_oneof![Just("90"), Just("201"), Just("202")]) {
        let syntax = format!("1.2.840.10008.1.2.4.{syntax}");
        prop_assert!(is_lossless(&syntax));
        let encoded = encode(&syntax, &raster, 1).unwrap();
        prop_assert_eq!(decode(&encoded.layout, &encoded.data).unwrap(), interleaved(&raster));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damage_gives_an_error_or_a_frame(
        which in 0..7_usize,
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 0..6),
        whole in any::<bool>(),
    ) {
        let (hex, layout) = [
            (MODES, layout(1, 12)), (BYPASS, layout(1, 12)), (HT, layout(1, 12)),
            (COLOUR, layout(3, 8)), (PLAIN_COLOUR, layout(3, 8)), (REAL, layout(3, 8)),
            (HT_PARTS, layout(3, 8)),
        ][which].clone();
        let mut stream = bytes(hex);
        for (at, bit) in &flips {
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
        }
        if !whole {
            stream.truncate(cut.index(stream.len()));
        }
        if let Ok(raster) = decode(&layout, &stream) {
            prop_assert_eq!(raster.data.len(), layout.frame_length());
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_damaged() {
    for hex in [MODES, BYPASS, HT] {
        let stream = bytes(hex);
        // The end marker alone may be missing.
        assert!(decode(&layout(1, 12), stream.get(..stream.len() - 2).unwrap()).is_ok());
        for length in 0..stream.len() - 2 {
            let cut = stream.get(..length).unwrap();
            assert!(matches!(decode(&layout(1, 12), cut), Err(CodecError::Damaged(_))), "{length}");
        }
    }
}

#[test]
fn far_too_many_code_blocks_and_progressions_are_refused() {
    // Precincts of two samples, each a code-block: COD of the reversible grey stream, made so.
    let layout = Layout { rows: 2000, columns: 2000, ..layout(1, 8) };
    let mut stream = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
    for number in [2000_u32, 2000, 0, 0, 2000, 2000, 0, 0] {
        stream.extend(number.to_be_bytes());
    }
    stream.extend([0, 1, 7, 1, 1]);
    stream.extend([0xFF, 0x52, 0, 13, 1, 0, 0xFF, 0xFF, 0, 0, 4, 4, 0, 1, 0x11]);
    stream.extend([0xFF, 0x5C, 0, 4, 0x40, 0x40]);
    stream.extend([0xFF, 0x90, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0x93, 0, 0, 0, 0]);
    let error = decode(&layout, &stream).unwrap_err();
    assert_eq!(error, CodecError::Damaged("far more JPEG 2000 code-blocks than samples"));
}
