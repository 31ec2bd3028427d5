//! What payloads of pixel data say of themselves, and files that are decoded when they are stored.

use std::sync::LazyLock;

use collimator::{
    codec::{
        pictures,
        probe::{HEAD, probe},
    },
    dicom::{data_set::DataSet, frames::FrameTable, index::Indexed},
};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};

use crate::{
    FILES, bends,
    corpus::{AVC, HEVC, bytes_of, mp4},
    headers::indexed,
    most_held,
};

/// What reading a header may hold besides what is read: the states of a decoder.
const ROOM: usize = 8 << 20;
/// Most bytes that a file may become.
const LARGEST: usize = 1 << 20;

/// The first frame of a file.
fn first(found: &Indexed, file: &[u8]) -> Option<Vec<u8>> {
    let table =
        found.frames.as_ref().filter(|table| !matches!(table, FrameTable::Native { .. }))?;
    let mut bytes = Vec::new();
    for (offset, length) in table.ranges(0)? {
        let start = usize::try_from(offset).ok()?;
        bytes.extend_from_slice(file.get(start..start + usize::try_from(length).ok()?)?);
    }
    Some(bytes)
}

/// Codestreams of every kind that can be made, those of the files, and videos.
static STREAMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let files = FILES.iter().filter_map(|(_, file)| first(&indexed(file, usize::MAX).ok()?, file));
    let mut streams: Vec<Vec<u8>> = files.collect();
    // As often as the others together would be too much; once would be too little.
    for _ in 0..streams.len().div_ceil(12) {
        streams.push(mp4(b"avc1", (b"avcC", &AVC)));
        for configuration in HEVC {
            for entry in [b"hvc1", b"hev1"] {
                streams.push(mp4(entry, (b"hvcC", &bytes_of(configuration))));
            }
        }
    }
    streams
});

/// PNG and GIF files: grey, in colour, with a palette and with alpha, of several bits and frames.
static PICTURES: LazyLock<Vec<(&'static str, Vec<u8>)>> = LazyLock::new(|| {
    let mut files = Vec::new();
    let (width, height) = (24, 20);
    for (color, channels) in [
        (png::ColorType::Grayscale, 1),
        (png::ColorType::Rgb, 3),
        (png::ColorType::Rgba, 4),
        (png::ColorType::Indexed, 1),
    ] {
        for depth in [png::BitDepth::Eight, png::BitDepth::Sixteen] {
            if color == png::ColorType::Indexed && depth == png::BitDepth::Sixteen {
                continue;
            }
            let mut file = Vec::new();
            let mut encoder = png::Encoder::new(&mut file, width, height);
            encoder.set_color(color);
            encoder.set_depth(depth);
            if color == png::ColorType::Indexed {
                encoder
                    .set_palette((0..=255).flat_map(|at| [at, 255 - at, 7]).collect::<Vec<u8>>());
            }
            let bytes = if depth == png::BitDepth::Sixteen { 2 } else { 1 };
            let count = (width * height) as usize * channels * bytes;
            let data: Vec<u8> = (0..count).map(|at| ((at * 37) ^ (at / 20)) as u8).collect();
            let mut writer = encoder.write_header().unwrap();
            writer.write_image_data(&data).unwrap();
            writer.finish().unwrap();
            files.push(("image/png", file));
        }
    }
    for frames in [1, 3] {
        let mut file = Vec::new();
        let palette: Vec<u8> = (0..64_u8).flat_map(|at| [at * 4, 255 - at, at]).collect();
        let mut encoder = gif::Encoder::new(&mut file, 24, 20, &palette).unwrap();
        for frame in 0..frames {
            let data: Vec<u8> = (0..480_u32).map(|at| ((at + frame) % 64) as u8).collect();
            encoder.write_frame(&gif::Frame::from_indexed_pixels(24, 20, data, Some(3))).unwrap();
        }
        drop(encoder);
        files.push(("image/gif", file));
    }
    files
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn payloads_that_were_bent_say_what_a_frame_can_be_or_nothing(
        stream in any::<Index>(),
        bends in bends(),
        in_head in any::<bool>(),
    ) {
        let stream = &STREAMS[stream.index(STREAMS.len())];
        // What is told stands at the beginning.
        let head = if in_head { stream.len().min(600) } else { stream.len() };
        let mut bent = bends.bend(&stream[..head], 0);
        bent.extend_from_slice(&stream[head..]);
        bent.truncate(HEAD);
        let mut told = None;
        let held = most_held(|| told = probe(&bent));
        prop_assert!(held < ROOM + 4 * bent.len(), "{} bytes for {}", held, bent.len());
        if let Some(told) = told {
            let it = told.description;
            prop_assert!(it.rows > 0 && it.columns > 0 && [1, 3].contains(&it.samples));
            prop_assert!((1..=16).contains(&it.bits));
            if let Some((frames, time)) = told.moves {
                prop_assert!(frames > 0 && time.is_finite() && time >= 0.0);
            }
            prop_assert!(told.syntax.is_empty() || told.fits(told.syntax));
        }
    }

    #[test]
    fn pictures_that_were_bent_become_whole_frames_or_are_refused(
        file in any::<Index>(),
        bends in bends(),
        most in prop_oneof![3 => Just(LARGEST), 1 => 0..4096_usize],
    ) {
        let (media_type, file) = &PICTURES[file.index(PICTURES.len())];
        let bent = bends.bend(file, 0);
        let mut decoded = None;
        let held = most_held(|| decoded = pictures::decode(media_type, &bent, most).ok());
        prop_assert!(held < 4 * most + 4 * bent.len() + ROOM, "{} bytes for {}", held, most);
        if let Some(frames) = decoded {
            let it = frames.description;
            let sample = if it.bits > 8 { 2 } else { 1 };
            let pixels = usize::from(it.rows) * usize::from(it.columns);
            let frame = pixels * usize::from(it.samples) * sample;
            prop_assert!(frames.count > 0 && frames.data.len() <= most);
            prop_assert_eq!(frames.data.len(), frame * frames.count as usize);
        }
    }
}

#[test]
fn seeds_say_what_they_are() {
    // Of each kind that says something of itself.
    let mut syntaxes: Vec<&str> =
        STREAMS.iter().filter_map(|stream| Some(probe(stream)?.syntax)).collect();
    syntaxes.sort_unstable();
    syntaxes.dedup();
    assert!(syntaxes.len() >= 10, "{syntaxes:?}");
    for (media_type, file) in PICTURES.iter() {
        let frames = pictures::decode(media_type, file, LARGEST).unwrap();
        assert_eq!((frames.description.rows, frames.description.columns), (20, 24), "{media_type}");
    }
    // And what they say is what the attributes beside them say.
    for (name, file) in FILES.iter().take(20) {
        let Ok(found) = indexed(file, usize::MAX) else { continue };
        let Some(told) = first(&found, file).and_then(|stream| probe(&stream)) else { continue };
        let data_set = DataSet::parse(&found.metadata).unwrap();
        let rows = data_set.root().integer(collimator::dicom::Tag(0x0028, 0x0010));
        assert_eq!(rows, Some(i64::from(told.description.rows)), "{name}");
    }
}
