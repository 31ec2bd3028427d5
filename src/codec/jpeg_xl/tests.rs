//! JPEG XL against references, against itself, and against damage.

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

/// libjxl 0.11: lossless, 12 bits.
const JXL: &str = "\
    ff0a600022c0a0681108040100a8014b3840b9ad8e2c90189f9dbd4b424142494021a2c088552c8e55142262181b11\
    5dfa84800b00fc47cf6bc776c369f3da37ff62c9bb8bae6efc41030491346d1ac1fec81286106a89f425122c22d8b5\
    2008362450c1804ea6605a30112d463095601dc100505d82d10906";

/// libjxl 0.11: lossy.
const JXL_LOSSY: &str = "\
    ff0a6000220c0013880064026f220000800a9551c60d5ecef57cf9a1c362dac67586b6dab6b084b1d95e1824248955\
    a0bc5d8407c050adc6a6354dfd8c621a7b20297b02816a7bf34ebfcdc6d8ce8b32c3a22904408514c8b25d552419e3\
    c5a878648c772614aac3bbac1691742f1d44d1c1efbe32168182a818cbf3c146397af1e09016041e93f02770fb71f7\
    9b9003c40f8df684ec3cccc5d42f5aff0612573e4fc1fa00";

/// libjxl 0.11: a JPEG coded again.
const JXL_JPEG: &str = "\
    0000000c4a584c200d0a870a00000014667479706a786c20000000006a786c20000000136a786c7000000000ff0a60\
    00228048000001e06a627264c06d03088220b40c088050a340c85525000020e4a86cc1509cff1344c608659c530ada\
    8f9021cc52071966a074871aac0f194e3e66c0210715163968d881eda386fefd91650e3bee4043d1fd2fc63863924b\
    36f96494539e99e69a6dbe19e79c851e9ae8a28d3e1ae9a4a59e9aeaaaadbe1aebacc51e9becb2cd3e1bedb4e59e9b\
    eebaedbe1befbc051f9cf0c20d3f1cf1c423977c72ca2bb7fc72cc330f5df4d1492fddf4d3514f3d76d967a7bd76db\
    6fc73df7e0851f9ef8e28d3f1ef9e4a3977e7aeaabb7fe7aecb3073f7cf1c727bf7cf3cf473f7df8e3977f7efaebb7\
    ff7efcf3ff57305555020020e4a86cc1509cff17444229a3ac538ac47840c866d420c3a43ad0503dd870ee21c70c28\
    c8070d39e8b0031b8b2c73d4eff661c70dade88f3c33f824c3fb5f8c71c6259b7c32ca29d35cb3cd37e39cb3d04313\
    5db4d147239db4d453535db5d557639db5d863935db6d967a39db6dc73d35db7dd77e39d77e0820f4e78e1861f8e78\
    e2914b3e39e5955b7e39e699872efae8a4976efae9a8a71ebbecb3d35ebbedb7e39e7bf0c20f4f7cf1c61f8f7cf2d1\
    4b3f3df5d55b7f3df6d9872ffef8e4976ffef9e8a71fbffcf3d35fbffdf7e39fffbfc00f005416000b0880e000104a\
    4649460001010000010001000003000001256a786c7080000001e05b0010004804086008600860feff0e0000180008\
    000100000000008080258922e3d80969ee3000332928dc822c14e7e818a362705c8c311e93fb6d00e045bfd37d9ab3\
    17148539ef62f76b82df3d2668fcd5fd0e90b8380e305271028839725700f0263c7682146b438ab0f1990a8837f221\
    74deb9c46ac3754573989f81920aa3a1f5e37b148b87940200000000005048817cbbadd593a4633c9292221b23c578\
    5c0784637a87c8ca14cf0f801f83287a85cd343b882d86f829597111b12cd2a5ba4543378d7c8beb746642cd9bc7a2\
    aa5ebd7bbe765335ffaaa360383188ac5091bc54ba312e6c019aa440a8aff8343e5ca29a43a452f014c17041837e92\
    1602b8f3743df72dfd990d92782935c847b40fe50451085502";

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

#[test]
fn reference_streams_are_read() {
    assert_eq!(decode(LOSSLESS, &layout(1, 12), &bytes(JXL)).unwrap(), grey());
    for (syntax, hex, most) in [(ANY, JXL_LOSSY, 24), (RECOMPRESSED, JXL_JPEG, 24)] {
        let named = Layout { photometric: Photometric::YbrFull, ..layout(3, 8) };
        let raster = decode(syntax, &named, &bytes(hex)).unwrap();
        assert!(difference(&raster, &colours()) <= most, "{syntax}");
        let given_back = syntax == RECOMPRESSED;
        assert_eq!(raster.layout.photometric == Photometric::Rgb, given_back);
    }
}

#[test]
fn what_contradicts_the_layout_is_damaged() {
    for wrong in [Layout { rows: 12, ..layout(1, 12) }, layout(3, 8), layout(1, 8)] {
        assert!(matches!(decode(LOSSLESS, &wrong, &bytes(JXL)), Err(CodecError::Damaged(_))));
    }
}

#[test]
fn signed_samples_that_may_be_lossy_are_refused() {
    let signed = Layout { signed: true, ..layout(1, 12) };
    assert!(matches!(decode(ANY, &signed, &bytes(JXL)), Err(CodecError::Unsupported(_))));
    assert!(decode(LOSSLESS, &signed, &bytes(JXL)).is_ok());
}

#[test]
fn pictures_that_the_encoder_lacks_are_refused() {
    let refused = |layout: Layout| {
        let raster = Raster { data: vec![1; layout.frame_length()], layout };
        matches!(encode(&raster), Err(CodecError::Unsupported(_)))
    };
    assert!(refused(Layout { rows: 1, ..layout(1, 8) }));
    assert!(refused(Layout { bits_allocated: 32, ..layout(1, 8) }));
    assert!(refused(Layout { photometric: Photometric::YbrFull422, ..layout(3, 8) }));
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::with_cases(16) })]

    #[test]
    fn lossless_is_lossless(
        rows in 2..300_u16,
        columns in 2..300_u16,
        (wide, colour, planar, signed) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u64>(),
        noise in 0..9_u32,
    ) {
        let layout = Layout { rows, columns, signed, planar: planar && colour,
            ..layout(if colour { 3 } else { 1 }, if wide { 16 } else { 8 }) };
        let mut state = seed | 1;
        let data = (0..layout.frame_length()).map(|n| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (n as u64 / 5).wrapping_add(state >> 33 >> (31 - noise)) as u8
        }).collect();
        let raster = Raster { layout, data };
        let Ok(encoded) = encode(&raster) else {
            // The library runs out of room for what is hardly more than noise.
            prop_assert!(noise > 5);
            return Ok(());
        };
        let decoded = decode(LOSSLESS, &encoded.layout, &encoded.data).unwrap();
        let (bytes, pixels) = (raster.layout.sample_bytes(), raster.layout.pixels());
        let samples: Vec<&[u8]> = raster.data.chunks(bytes).collect();
        let sample = |n: usize| match raster.layout.planar {
            true => samples[n % 3 * pixels + n / 3],
            false => samples[n],
        };
        prop_assert!(!decoded.layout.planar);
        prop_assert!((0..samples.len()).map(sample).eq(decoded.data.chunks(bytes)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_gives_an_error_or_a_frame(
        which in 0..3_usize,
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 0..6),
        whole in any::<bool>(),
    ) {
        let (syntax, hex, layout) = [
            (LOSSLESS, JXL, layout(1, 12)), (ANY, JXL_LOSSY, layout(3, 8)),
            (RECOMPRESSED, JXL_JPEG, layout(3, 8)),
        ][which].clone();
        let mut stream = bytes(hex);
        for (at, bit) in &flips {
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
        }
        if !whole {
            stream.truncate(cut.index(stream.len()));
        }
        if let Ok(raster) = decode(syntax, &layout, &stream) {
            prop_assert_eq!(raster.data.len(), layout.frame_length());
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_damaged() {
    let stream = bytes(JXL);
    for length in 0..stream.len() - 1 {
        let cut = stream.get(..length).unwrap();
        assert_eq!(decode(LOSSLESS, &layout(1, 12), cut), Err(DAMAGED), "{length}");
    }
}
