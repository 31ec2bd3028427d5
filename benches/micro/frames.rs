//! The frame index: made of what the reader heard, and one frame found in it.

use collimator::dicom::{
    Uid,
    frames::{Encapsulated, Fragment, FrameTable, ImagePixel},
};

use criterion::Throughput;

use crate::{Bench, step};

const FRAMES: u32 = 200;
const JPEG: &str = "1.2.840.10008.1.2.4.50";

fn image() -> ImagePixel {
    ImagePixel {
        rows: Some(512),
        columns: Some(512),
        samples_per_pixel: Some(1),
        bits_allocated: Some(16),
        number_of_frames: Some(FRAMES),
        subsampling: None,
    }
}

/// Fragments of 20,000 bytes, so many to a frame.
fn fragments(of_a_frame: u32) -> Vec<Fragment> {
    let fragment = |number: u32| Fragment {
        offset: 1_000 + u64::from(number) * 20_008 + 8,
        length: 20_000,
        first: number.is_multiple_of(of_a_frame),
    };
    (0..FRAMES * of_a_frame).map(fragment).collect()
}

fn encapsulated(of_a_frame: u32, with_offsets: bool) -> Encapsulated {
    let offsets = (0..FRAMES).map(|frame| (frame * of_a_frame * 20_008).to_le_bytes());
    Encapsulated {
        basic_offsets: if with_offsets { offsets.flatten().collect() } else { Vec::new() },
        fragments: fragments(of_a_frame),
        ..Encapsulated::default()
    }
}

pub fn benches(bench: &mut Bench) {
    let (image, jpeg) = (image(), JPEG.parse::<Uid>().expect("a UID"));
    let mut group = bench.benchmark_group("frames");
    let native = || image.native(1_000, u64::from(FRAMES) * 524_288, None).expect("200 frames");
    let all = || Throughput::Elements(u64::from(FRAMES));
    step(&mut group, "native", all(), native);
    let mut tables = vec![("one of 200, native", native())];
    for (made, found, of_a_frame, with_offsets) in [
        ("offset table, one fragment each", "one of 200, one fragment each", 1, true),
        ("offset table, four fragments each", "one of 200, four fragments each", 4, true),
        ("fragments scanned, four each", "one of 200, fragments scanned", 4, false),
    ] {
        let pixels = encapsulated(of_a_frame, with_offsets);
        let table = || pixels.table(&image, &jpeg).expect(made);
        step(&mut group, made, all(), table);
        tables.push((found, table()));
    }
    for (name, table) in tables {
        assert_eq!(table.len(), FRAMES, "{name}");
        step(&mut group, name, Throughput::Elements(1), || frame(std::hint::black_box(&table)));
    }
    group.finish();
}

fn frame(table: &FrameTable) -> Vec<(u64, u64)> {
    table.ranges(123).expect("it has 200")
}
