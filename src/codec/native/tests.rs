//! Native frames, and the samples inside them.

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

fn subsampled(columns: u16, rows: u16, photometric: Photometric) -> Layout {
    Layout { photometric, ..layout(columns, rows, 3, 8) }
}

#[test]
fn frame_lengths_follow_subsampling() {
    for (photometric, length) in [
        (Photometric::Rgb, 24),
        (Photometric::YbrFull, 24),
        (Photometric::YbrFull422, 16),
        (Photometric::YbrPartial422, 16),
        (Photometric::YbrPartial420, 12),
    ] {
        assert_eq!(subsampled(4, 2, photometric).frame_length(), length, "{photometric:?}");
    }
    assert_eq!(subsampled(3, 1, Photometric::YbrPartial420).frame_length(), 5);
    assert_eq!(layout(3, 3, 1, 1).frame_length(), 2);
    assert_eq!(layout(3, 3, 1, 64).frame_length(), 72);
}

#[test]
fn a_frame_may_have_one_byte_of_padding() {
    let odd = layout(3, 1, 1, 8);
    for (frame, agrees) in [
        ([1, 2].as_slice(), false),
        (&[1, 2, 3], true),
        (&[1, 2, 3, 0], true),
        (&[1, 2, 3, 0, 0], false),
    ] {
        let decoded = decode_little(&odd, frame);
        assert_eq!(decoded.is_ok(), agrees, "{frame:?}");
        if let Ok(raster) = decoded {
            assert_eq!(raster, Raster { layout: odd.clone(), data: vec![1, 2, 3] });
            assert_eq!(encode(&raster).unwrap().data, [1, 2, 3]);
        }
    }
    let wrong = Raster { layout: odd, data: vec![1, 2] };
    assert!(encode(&wrong).is_err() && deflate(&wrong).is_err() && samples(&wrong).is_err());
}

#[test]
fn chroma_that_is_not_subsampled_although_it_should_be() {
    let half = subsampled(2, 1, Photometric::YbrFull422);
    assert_eq!(decode_little(&half, &[1, 2, 3, 4]).unwrap().layout, half);
    let whole = decode_little(&half, &[1, 2, 3, 4, 5, 6]).unwrap();
    assert_eq!(whole.layout.photometric, Photometric::YbrFull);
    assert_eq!(whole.data, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn big_endian_words_of_the_private_syntax() {
    let words = decode(GE_BIG_ENDIAN, &layout(2, 1, 1, 16), &[1, 2, 3, 4]).unwrap();
    assert_eq!(words.data, [2, 1, 4, 3]);
    let words = decode("1.2.840.10008.1.2.1", &layout(2, 1, 1, 16), &[1, 2, 3, 4]).unwrap();
    assert_eq!(words.data, [1, 2, 3, 4]);
    assert!(!encodes(GE_BIG_ENDIAN) && encodes("1.2.840.10008.1.2"));
}

#[test]
fn inflating_is_bounded() {
    let zeros = Raster { layout: layout(1000, 1000, 1, 8), data: vec![0; 1_000_000] };
    let bomb = deflate(&zeros).unwrap().data;
    assert!(bomb.len() < 2000);
    assert_eq!(inflate(&zeros.layout, &bomb).unwrap(), zeros);
    let small = inflate(&layout(10, 10, 1, 8), &bomb);
    assert_eq!(small, Err(CodecError::Damaged("too many bytes")));
    assert!(inflate(&zeros.layout, &bomb[..bomb.len() / 2]).is_err());
    assert!(inflate(&zeros.layout, &[0x78, 0x9C, 0xFF, 0xFF]).is_err());
    // The padding of an odd stream is no part of it.
    assert_eq!(inflate(&zeros.layout, &[&bomb[..], &[0]].concat()).unwrap(), zeros);
}

#[test]
fn floating_point_pixels_are_not_deflated() {
    let float = Layout { float: true, ..layout(1, 1, 1, 32) };
    let raster = Raster { layout: float, data: vec![0, 0, 0xC0, 0x3F] };
    assert!(matches!(deflate(&raster), Err(CodecError::Unsupported(_))));
    assert_eq!(samples(&raster).unwrap(), Samples::Real(vec![1.5]));
}

#[test]
fn samples_are_the_stored_bits_alone() {
    let twelve = Layout { bits_stored: 12, high_bit: 11, ..layout(2, 1, 1, 16) };
    let data = vec![0xFF, 0xF7, 0x00, 0x08];
    let read = |layout: &Layout| samples(&Raster { layout: layout.clone(), data: data.clone() });
    assert_eq!(read(&twelve), Ok(Samples::Integer(vec![0x7FF, 0x800])));
    let signed = Layout { signed: true, ..twelve.clone() };
    assert_eq!(read(&signed), Ok(Samples::Integer(vec![0x7FF, -0x800])));
    let high = Layout { high_bit: 15, ..signed };
    assert_eq!(read(&high), Ok(Samples::Integer(vec![-0x81, 0x80])));
}

#[test]
fn samples_of_every_size() {
    let read =
        |layout: Layout, data: &[u8]| samples(&Raster { layout, data: data.to_vec() }).unwrap();
    assert_eq!(read(layout(3, 3, 1, 1), &[0b1000_0101, 1]), {
        Samples::Integer(vec![1, 0, 1, 0, 0, 0, 0, 1, 1])
    });
    let signed = |bits| Layout { signed: true, ..layout(1, 1, 1, bits) };
    assert_eq!(read(layout(1, 1, 1, 8), &[0xFE]), Samples::Integer(vec![254]));
    assert_eq!(read(signed(8), &[0xFE]), Samples::Integer(vec![-2]));
    assert_eq!(read(signed(32), &[0xFE, 255, 255, 255]), Samples::Integer(vec![-2]));
    assert_eq!(read(layout(1, 1, 1, 32), &[255; 4]), Samples::Real(vec![4_294_967_295.0]));
    assert_eq!(read(signed(64), &[255; 8]), Samples::Real(vec![-1.0]));
    let double = Layout { float: true, ..layout(1, 1, 1, 64) };
    assert_eq!(read(double, &0.1_f64.to_le_bytes()), Samples::Real(vec![0.1]));
}

#[test]
fn samples_come_by_pixel() {
    let read = |layout, data: &[u8]| samples(&Raster { layout, data: data.to_vec() });
    let planes = Layout { planar: true, ..layout(2, 1, 3, 8) };
    let by_pixel = Ok(Samples::Integer(vec![1, 3, 5, 2, 4, 6]));
    assert_eq!(read(planes, &[1, 2, 3, 4, 5, 6]), by_pixel);
    let half = subsampled(2, 1, Photometric::YbrPartial422);
    assert_eq!(read(half, &[1, 2, 3, 4]), Ok(Samples::Integer(vec![1, 3, 4, 2, 3, 4])));
    let quarter = subsampled(2, 2, Photometric::YbrPartial420);
    assert!(matches!(read(quarter, &[0; 6]), Err(CodecError::Unsupported(_))));
    let odd = subsampled(3, 2, Photometric::YbrFull422);
    assert!(matches!(read(odd, &[0; 12]), Err(CodecError::Unsupported(_))));
}

#[test]
fn chroma_is_repeated() {
    let half = subsampled(2, 2, Photometric::YbrFull422);
    let raster = Raster { layout: half, data: vec![1, 2, 3, 4, 5, 6, 7, 8] };
    let whole = expanded(raster).unwrap();
    assert_eq!(whole.layout, subsampled(2, 2, Photometric::YbrFull));
    assert_eq!(whole.data, [1, 3, 4, 2, 3, 4, 5, 7, 8, 6, 7, 8]);
    assert_eq!(expanded(whole.clone()).unwrap(), whole);
    let words = Layout { bits_allocated: 16, ..subsampled(2, 1, Photometric::YbrFull422) };
    let raster = Raster { layout: words, data: vec![1, 10, 2, 20, 3, 30, 4, 40] };
    assert_eq!(expanded(raster).unwrap().data, [1, 10, 3, 30, 4, 40, 2, 20, 3, 30, 4, 40]);
}

proptest! {
    #[test]
    fn planes_and_pixels_are_the_same_samples(
        (columns, rows) in (1_u16..9, 1_u16..9),
        bits in prop::sample::select(vec![8_u8, 16, 32, 64]),
        count in prop::sample::select(vec![1_u8, 3, 4]),
        bytes in prop::collection::vec(any::<u8>(), 2048),
    ) {
        let photometric = if count == 4 { Photometric::Argb } else { Photometric::Rgb };
        let layout = layout(columns, rows, count, bits);
        let layout = if count == 1 { layout } else { Layout { photometric, ..layout } };
        let data: Vec<u8> = bytes.into_iter().cycle().take(layout.frame_length()).collect();
        let raster = Raster { layout, data };
        let planes = arranged(raster.clone(), true).unwrap();
        prop_assert_eq!(planes.layout.planar, count > 1);
        prop_assert_eq!(samples(&planes).unwrap(), samples(&raster).unwrap());
        prop_assert_eq!(arranged(planes, false).unwrap(), raster);
    }

    #[test]
    fn bits_pack_and_unpack(bits in prop::collection::vec(0_u8..=1, 0..70)) {
        let bytes = packed(&bits);
        prop_assert_eq!(bytes.len(), bits.len().div_ceil(8));
        prop_assert_eq!(unpacked(&bytes, bits.len()), bits);
    }

    #[test]
    fn deflate_and_inflate(columns in 1_u16..50, bytes in prop::collection::vec(any::<u8>(), 1..50)) {
        let layout = layout(columns, 3, 1, 8);
        let data = bytes.into_iter().cycle().take(layout.frame_length()).collect();
        let raster = Raster { layout, data };
        let encoded = deflate(&raster).unwrap();
        prop_assert_eq!(inflate(&encoded.layout, &encoded.data), Ok(raster));
    }
}
