//! Codestreams and what surrounds them: decoders and the renderer.

use std::collections::BTreeMap;

use collimator::{
    codec::{self, Layout, Photometric, Raster},
    dicom::{
        Uid, data_set::DataSet, frames::FrameTable, index::Indexed, transfer_syntax::TransferSyntax,
    },
    render::{Annotations, Format, Function, IccProfile, Renderer, View, Viewport, Window},
};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};

use crate::{
    FILES, bends,
    corpus::{BIG, DEFLATED, Dicom, EXPLICIT, IMPLICIT},
    headers::indexed,
    most_held,
};

/// Frames beyond this are not decoded here, as the server has a limit of its own.
const LARGEST: usize = 4 << 20;
/// What decoding or drawing may hold besides a multiple of the frame and of the codestream.
const ROOM: usize = 24 << 20;

fn layout(samples: u8, bits: u8, photometric: Photometric) -> Layout {
    Layout {
        rows: 24,
        columns: 20,
        samples,
        bits_allocated: if bits > 8 { 16 } else { 8 },
        bits_stored: bits,
        high_bit: bits - 1,
        signed: false,
        float: false,
        planar: false,
        photometric,
    }
}

fn raster(layout: Layout) -> Raster {
    let mask = (1_u32 << layout.bits_stored) - 1;
    let samples = layout.pixels() * usize::from(layout.samples);
    let values = (0..samples as u32).map(|at| ((at * 37) ^ (at / 20 * 61)) & mask);
    let data = match layout.bits_allocated {
        8 => values.map(|value| value as u8).collect(),
        _ => values.flat_map(|value| (value as u16).to_le_bytes()).collect(),
    };
    Raster { layout, data }
}

/// An instance whose pixels are these, before its transfer syntax is set.
fn instance(layout: &Layout) -> Dicom {
    let mut dicom = Dicom::ct("1.2.3", "1.2.3.4", "1.2.3.4.5");
    dicom
        .short(0x0028, 0x0002, layout.samples.into())
        .text(0x0028, 0x0004, "CS", layout.photometric.term())
        .short(0x0028, 0x0010, layout.rows)
        .short(0x0028, 0x0011, layout.columns)
        .short(0x0028, 0x0100, layout.bits_allocated.into())
        .short(0x0028, 0x0101, layout.bits_stored.into())
        .short(0x0028, 0x0102, layout.high_bit.into())
        .text(0x0028, 0x1050, "DS", "40")
        .text(0x0028, 0x1051, "DS", "400")
        .text(0x0028, 0x1052, "DS", "-100")
        .text(0x0028, 0x1053, "DS", "2");
    if layout.samples > 1 {
        dicom.short(0x0028, 0x0006, layout.planar.into());
    }
    dicom
}

/// Files of every transfer syntax that can be made, grey and in colour.
pub fn made() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let rasters = [
        raster(layout(1, 12, Photometric::Monochrome2)),
        raster(layout(1, 8, Photometric::Monochrome1)),
        raster(layout(3, 8, Photometric::Rgb)),
    ];
    for raster in &rasters {
        for entry in TransferSyntax::known() {
            let syntax: Uid = entry.uid.parse().unwrap();
            let native = [EXPLICIT, IMPLICIT, BIG, DEFLATED].contains(&entry.uid);
            let mut dicom = instance(&raster.layout);
            if native {
                dicom.syntax(entry.uid).bytes(0x7FE0, 0x0010, "OB", &raster.data);
            } else if codec::encodes(&syntax)
                && let Ok(encoded) = codec::encode(&syntax, raster, 80)
            {
                dicom = instance(&encoded.layout);
                let frames = vec![even(encoded.data.clone()), even(encoded.data)];
                dicom.encapsulated(entry.uid, frames);
            } else {
                continue;
            }
            files.push((
                format!("{} {}", entry.uid, raster.layout.photometric.term()),
                dicom.file(),
            ));
        }
    }
    let mut palette = instance(&layout(1, 8, Photometric::Palette));
    for element in [0x1101, 0x1102, 0x1103] {
        palette.words(0x0028, element, "US", vec![256, 0, 16]);
        let table: Vec<u8> = (0..256_u16).flat_map(|at| (at * 255).to_le_bytes()).collect();
        palette.bytes(0x0028, element + 0x100, "OW", &table);
    }
    palette.bytes(0x7FE0, 0x0010, "OB", &raster(layout(1, 8, Photometric::Palette)).data);
    files.push(("palette".into(), palette.file()));
    files
}

fn even(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

/// The bytes of a frame, as the archive would give them to a decoder; native ones only where they
/// lie on whole bytes in little endian.
fn frame(found: &Indexed, table: &FrameTable, file: &[u8], number: u32) -> Option<Vec<u8>> {
    let syntax = found.transfer_syntax.as_str();
    if [BIG, DEFLATED].contains(&syntax) || table.skip_bits(number) != 0 {
        return None;
    }
    let mut bytes = Vec::new();
    for (offset, length) in table.ranges(number)? {
        let start = usize::try_from(offset).ok()?;
        bytes
            .extend_from_slice(file.get(start..start.checked_add(usize::try_from(length).ok()?)?)?);
    }
    Some(bytes)
}

/// Bulk values, as the archive would read them.
fn values(found: &Indexed, file: &[u8], wanted: &[String]) -> BTreeMap<String, Vec<u8>> {
    let entries = found.bulk.iter().filter(|entry| wanted.contains(&entry.path));
    entries
        .filter_map(|entry| {
            let start = usize::try_from(entry.offset).ok()?;
            let end = start.checked_add(usize::try_from(entry.length).ok()?)?;
            Some((entry.path.clone(), file.get(start..end)?.to_vec()))
        })
        .collect()
}

/// Decodes and draws one frame of a file; how many bytes the picture has, where there is one.
fn drawn_frame(file: &[u8], number: u32) -> Option<usize> {
    let found = indexed(file, usize::MAX).ok()?;
    let table = found.frames.as_ref()?;
    let data_set = DataSet::parse(&found.metadata).ok()?;
    let layout = Layout::of(data_set.root()).ok()?;
    if layout.frame_length() > LARGEST {
        return None;
    }
    let number = number % table.len();
    let stream = frame(&found, table, file, number)?;
    let enough = 24 * layout.frame_length() + 16 * stream.len() + ROOM;
    let mut raster = None;
    let held = most_held(|| raster = codec::decode(&found.transfer_syntax, &layout, &stream).ok());
    assert!(held < enough, "{held} bytes to decode {} of {layout:?}", found.transfer_syntax);
    let raster = raster?;
    assert_eq!(raster.data.len(), raster.layout.frame_length());
    let mut picture = None;
    let held = most_held(|| picture = shown(&found, &data_set, file, number, &raster));
    assert!(held < enough, "{held} bytes to draw {layout:?}");
    picture
}

/// Draws one frame, with and without a window, and writes it in every format; bytes of the picture.
fn shown(
    found: &Indexed,
    data_set: &DataSet,
    file: &[u8],
    number: u32,
    raster: &Raster,
) -> Option<usize> {
    let wanted = Renderer::wants(data_set.root());
    let renderer = Renderer::new(data_set.root(), &values(found, file, &wanted)).ok()?;
    let window = Window { center: 40.0, width: 400.0, function: Function::Sigmoid };
    let viewport = Viewport { width: 40, height: 30, region: Some((2.0, 3.0, -9.0, 8.5)) };
    let plain = View::default();
    let other = View {
        viewport: Some(viewport),
        window: (raster.layout.samples == 1).then_some(window),
        annotations: Annotations { patient: true, technique: true },
        icc: IccProfile::AdobeRgb,
        ..View::default()
    };
    let mut bytes = None;
    for view in [&plain, &other] {
        let Ok(picture) = renderer.draw(number + 1, raster, view) else { continue };
        let channels = if picture.colour { 3 } else { 1 };
        let pixels = picture.width as usize * picture.height as usize;
        assert_eq!(picture.data.len(), pixels * channels);
        bytes = Some(picture.data.len());
        for format in [Format::Jpeg { quality: 75 }, Format::Png, Format::Gif] {
            let encoded = picture.encode(&format).expect("every picture can be written");
            assert!(!encoded.is_empty());
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn pictures_of_bent_files_are_drawn_or_refused(
        file in any::<Index>(),
        bends in bends(),
        number in 0..1000_u32,
    ) {
        let (_, bytes) = &FILES[file.index(FILES.len())];
        let _ = drawn_frame(&bends.bend(bytes, 128), number);
    }

    #[test]
    fn codestreams_that_were_bent_are_decoded_or_refused(
        file in any::<Index>(),
        bends in bends(),
        rows in prop_oneof![Just(24_u16), 1..40_u16, Just(1000)],
        samples in prop_oneof![4 => Just(None), 1 => Just(Some(1_u8)), 1 => Just(Some(3))],
    ) {
        let (_, bytes) = &FILES[file.index(FILES.len())];
        let Ok(found) = indexed(bytes, usize::MAX) else { return Ok(()) };
        let Some(table) = &found.frames else { return Ok(()) };
        let Ok(data_set) = DataSet::parse(&found.metadata) else { return Ok(()) };
        let Ok(mut layout) = Layout::of(data_set.root()) else { return Ok(()) };
        let Some(stream) = frame(&found, table, bytes, 0) else { return Ok(()) };
        layout.rows = if layout.rows == 24 { rows } else { layout.rows };
        if let Some(samples) = samples {
            layout.samples = samples;
            layout.photometric = if samples == 1 { Photometric::Monochrome2 } else { Photometric::Rgb };
        }
        let bent = bends.bend(&stream, 0);
        let enough = 24 * layout.frame_length() + 16 * bent.len() + ROOM;
        let held = most_held(|| {
            if let Ok(raster) = codec::decode(&found.transfer_syntax, &layout, &bent) {
                assert_eq!(raster.data.len(), raster.layout.frame_length());
            }
        });
        prop_assert!(held < enough, "{} bytes for {}", held, found.transfer_syntax);
    }
}

#[test]
fn seeds_are_drawn_as_they_are() {
    let made = made();
    assert!(made.len() > 30, "only {} files could be made", made.len());
    for (name, file) in &made {
        let found = indexed(file, usize::MAX).unwrap_or_else(|error| panic!("{name}: {error}"));
        let native = [BIG, DEFLATED].contains(&found.transfer_syntax.as_str());
        let drawn = drawn_frame(file, 0);
        assert_eq!(drawn.is_some(), !native, "{name}");
    }
}
