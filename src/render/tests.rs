//! Whole renderings: attributes and pixels in, pictures out; and whatever hostile ones do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    codec::{Layout, Photometric, Raster},
    dicom::data_set::DataSet,
};

fn layout(photometric: Photometric, rows: u16, columns: u16, bits: u8) -> Layout {
    Layout {
        rows,
        columns,
        samples: if photometric.is_colour() { 3 } else { 1 },
        bits_allocated: bits,
        bits_stored: bits,
        high_bit: bits - 1,
        signed: false,
        float: false,
        planar: false,
        photometric,
    }
}

fn renderer(attributes: &str) -> Result<Renderer, RenderError> {
    let data_set = DataSet::parse(format!("{{{attributes}}}").as_bytes()).unwrap();
    Renderer::new(data_set.root(), &BTreeMap::new())
}

/// A row of words, drawn.
fn row(attributes: &str, words: &[u16], change: impl FnOnce(&mut Layout)) -> Vec<u8> {
    let mut layout = layout(Photometric::Monochrome2, 1, words.len() as u16, 16);
    change(&mut layout);
    let raster =
        Raster { layout, data: words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    renderer(attributes).unwrap().draw(1, &raster, &View::default()).unwrap().data
}

const WINDOW: &str =
    r#""00281050":{"vr":"DS","Value":[50.5]},"00281051":{"vr":"DS","Value":[101]}"#;

#[test]
fn modality_then_window_then_polarity() {
    let rescale = r#""00281052":{"vr":"DS","Value":[-100]},"00281053":{"vr":"DS","Value":[2]}"#;
    let both = format!("{WINDOW},{rescale}");
    assert_eq!(row(&both, &[0, 50, 75, 100, 200], |_| {}), [0, 0, 128, 255, 255]);
    let inverted = |layout: &mut Layout| layout.photometric = Photometric::Monochrome1;
    assert_eq!(row(&both, &[0, 50, 75, 100, 200], inverted), [255, 255, 127, 0, 0]);
    let shape = |shape| format!(r#"{both},"20500020":{{"vr":"CS","Value":["{shape}"]}}"#);
    assert_eq!(row(&shape("INVERSE"), &[0, 200], inverted), [255, 0], "one inversion, not two");
    assert_eq!(row(&shape("INVERSE"), &[0, 200], |_| {}), [255, 0]);
    assert_eq!(row(&shape("IDENTITY"), &[0, 200], inverted), [0, 255]);
}

#[test]
fn signs_and_shifts_are_seen() {
    let signed = |layout: &mut Layout| layout.signed = true;
    assert_eq!(row(WINDOW, &[0xFFFF, 0, 100], signed), [0, 0, 255]);
    let shifted = |layout: &mut Layout| (layout.bits_stored, layout.high_bit) = (12, 15);
    assert_eq!(row(WINDOW, &[0x000F, 0x064F], shifted), [0, 255]);
}

#[test]
fn tables_go_before_windows_and_clients_before_both() {
    let table = |sequence: &str, data: &str| {
        format!(
            r#""{sequence}":{{"vr":"SQ","Value":[{{"00283002":{{"vr":"US","Value":[3,1,8]}},
            "00283006":{{"vr":"OW","InlineBinary":"{data}"}}}}]}}"#
        )
    };
    // 200, 100, 7
    let voi = format!("{WINDOW},{}", table("00283010", "yGQHAA=="));
    assert_eq!(row(&voi, &[0, 1, 2, 3, 9], |_| {}), [200, 200, 100, 7, 7]);
    let modality = format!("{WINDOW},{}", table("00283000", "yGQHAA=="));
    assert_eq!(row(&modality, &[0, 2, 3], |_| {}), [255, 255, 18]);
    let raster = Raster { layout: layout(Photometric::Monochrome2, 1, 2, 8), data: vec![1, 3] };
    let window = Window { center: 2.0, width: 2.0, function: Function::LinearExact };
    let view = View { window: Some(window), ..View::default() };
    assert_eq!(renderer(&voi).unwrap().draw(1, &raster, &view).unwrap().data, [0, 255]);
}

#[test]
fn bytes_without_a_window_come_through() {
    let data: Vec<u8> = (0..=255).collect();
    let raster = Raster { layout: layout(Photometric::Monochrome2, 16, 16, 8), data: data.clone() };
    let renderer = renderer("").unwrap();
    assert_eq!(renderer.draw(1, &raster, &View::default()).unwrap().data, data);
    assert!(renderer.automatic_window(1, &raster).is_some());
    let bits =
        Raster { layout: layout(Photometric::Monochrome2, 2, 4, 1), data: vec![0b1100_0101] };
    let picture = renderer.draw(1, &bits, &View::default()).unwrap();
    assert_eq!(picture.data, [255, 0, 255, 0, 0, 0, 255, 255]);
}

#[test]
fn without_a_window_outliers_are_cut_and_padding_is_black() {
    let mut words: Vec<u16> = (1000..2000).collect();
    words.extend([65535, 0]);
    let greys = row("", &words, |_| {});
    assert!(greys[10] < 5 && greys[990] > 250);
    assert!((126..=129).contains(&greys[500]));
    let padding = r#""00280120":{"vr":"US","Value":[3000]},"00280121":{"vr":"US","Value":[4000]}"#;
    words.extend([3000; 600]);
    words.extend([3500; 600]);
    let greys = row(padding, &words, |layout| layout.photometric = Photometric::Monochrome1);
    assert!((126..=129).contains(&greys[500]));
    assert_eq!((greys[1100], greys[1900]), (0, 0));
    assert_eq!(row("", &[0; 4], |_| {}), [0; 4]);
}

#[test]
fn floating_point_and_wide_samples_have_windows_too() {
    let values: Vec<f32> = vec![-1.0, 0.0, 1.0, f32::NAN, f32::INFINITY];
    let mut layout = layout(Photometric::Monochrome2, 1, 5, 32);
    layout.float = true;
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let draw = |layout: &Layout, data: &[u8]| {
        let raster = Raster { layout: layout.clone(), data: data.to_vec() };
        renderer("").unwrap().draw(1, &raster, &View::default()).unwrap().data
    };
    assert_eq!(draw(&layout, &data), [0, 128, 255, 0, 255]);
    assert_eq!(draw(&layout, &[0; 20]), [0; 5]);
    assert_eq!(draw(&layout, &5.0_f32.to_le_bytes().repeat(5)), [128; 5]);
    layout.float = false;
    layout.signed = true;
    let data: Vec<u8> =
        [-1_000_000, 0, 0, 0, 1_000_000_i32].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(draw(&layout, &data), [0, 128, 128, 128, 255]);
}

/// Tables of 4 entries of 8 bits from the value 1 on: red 0 1 2 3, green 10 …, blue 20 ….
const PALETTE: &str = r#""00280004":{"vr":"CS","Value":["PALETTE COLOR"]},
    "00281101":{"vr":"US","Value":[4,1,8]},"00281102":{"vr":"US","Value":[4,1,8]},
    "00281103":{"vr":"US","Value":[4,1,8]},
    "00281201":{"vr":"OW","InlineBinary":"AAECAw=="},
    "00281202":{"vr":"OW","InlineBinary":"CgsMDQ=="},
    "00281203":{"vr":"OW","InlineBinary":"FBUWFw=="}"#;

#[test]
fn palettes_colour_indices() {
    let palette = |layout: &mut Layout| layout.photometric = Photometric::Palette;
    let colours = row(PALETTE, &[0, 1, 3, 4, 500], palette);
    assert_eq!(colours, [0, 10, 20, 0, 10, 20, 2, 12, 22, 3, 13, 23, 3, 13, 23]);
}

#[test]
fn supplemental_palettes_colour_part_of_the_greys() {
    let mixed = format!(
        r#"{WINDOW},{},"00089205":{{"vr":"CS","Value":["MIXED"]}}"#,
        PALETTE.replace("PALETTE COLOR", "MONOCHROME2").replace("[4,1,8]", "[4,100,8]")
    );
    assert_eq!(
        row(&mixed, &[0, 50, 100, 103], |_| {}),
        [0, 0, 0, 128, 128, 128, 0, 10, 20, 3, 13, 23]
    );
    let plain = mixed.replace("MIXED", "MONOCHROME");
    assert_eq!(row(&plain, &[0, 50, 100], |_| {}), [0, 128, 255]);
}

#[test]
fn palettes_without_data_are_damaged() {
    let without = PALETTE.replace("InlineBinary", "BulkDataURI");
    assert!(matches!(renderer(&without), Err(RenderError::Damaged(_))));
    let none = r#""00280004":{"vr":"CS","Value":["PALETTE COLOR"]}"#;
    assert!(matches!(renderer(none), Err(RenderError::Damaged(_))));
    let data_set = DataSet::parse(format!("{{{without}}}").as_bytes()).unwrap();
    assert_eq!(Renderer::wants(data_set.root()).len(), 3);
}

#[test]
fn bulk_values_are_asked_for_by_their_paths() {
    let json = br#"{"00282000":{"vr":"OB","BulkDataURI":"@00282000"},
        "00283010":{"vr":"SQ","Value":[{"00283006":{"vr":"OW","BulkDataURI":"@00283010/0/00283006"}}]},
        "00480105":{"vr":"SQ","Value":[{"00282000":{"vr":"OB","InlineBinary":"AA=="}}]},
        "60023000":{"vr":"OW","BulkDataURI":"@60023000"},
        "7FE00010":{"vr":"OW","BulkDataURI":"@7FE00010"}}"#;
    let data_set = DataSet::parse(json).unwrap();
    let wants = Renderer::wants(data_set.root());
    assert_eq!(wants, ["00282000", "00283010/0/00283006", "60023000"]);
}

#[test]
fn overlays_and_viewports_come_in_order() {
    let overlay = r#""60000010":{"vr":"US","Value":[1]},"60000011":{"vr":"US","Value":[1]},
        "60000050":{"vr":"SS","Value":[1,2]},"60003000":{"vr":"OW","InlineBinary":"AQA="}"#;
    let raster = Raster { layout: layout(Photometric::Monochrome2, 1, 3, 8), data: vec![9; 3] };
    let renderer = renderer(overlay).unwrap();
    let draw = |overlays, region| {
        let viewport = Viewport { width: 2, height: 1, region };
        let view = View { overlays, viewport: Some(viewport), ..View::default() };
        renderer.draw(1, &raster, &view).unwrap().data
    };
    let region = Some((1.0, 0.0, -2.0, 1.0));
    assert_eq!(draw(true, region), [9, 255]);
    assert_eq!(draw(false, region), [9, 9]);
}

#[test]
fn frames_that_are_too_short_or_too_large_are_refused() {
    let renderer = renderer("").unwrap();
    let draw = |layout: Layout, data: Vec<u8>| {
        renderer.draw(1, &Raster { layout, data }, &View::default())
    };
    let short = draw(layout(Photometric::Monochrome2, 4, 4, 16), vec![0; 31]);
    assert_eq!(short, Err(RenderError::Damaged("too few bytes")));
    let wide = draw(layout(Photometric::Monochrome2, 1, 20_000, 8), vec![0; 20_000]);
    assert!(matches!(wide, Err(RenderError::Unsupported(_))));
}

#[test]
fn the_representative_frame_is_one_of_the_frames() {
    let frame = |json: &str| {
        let data_set = DataSet::parse(json.as_bytes()).unwrap();
        Renderer::representative_frame(data_set.root())
    };
    let of = |n| {
        format!(
            r#"{{"00280008":{{"vr":"IS","Value":[9]}},"00286010":{{"vr":"US","Value":[{n}]}}}}"#
        )
    };
    assert_eq!(
        (frame(&of(5)), frame(&of(9)), frame(&of(10)), frame(&of(0))),
        (Some(5), Some(9), None, None)
    );
    assert_eq!(frame("{}"), None);
}

#[test]
fn a_renderer_is_shared_by_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Renderer>();
    let renderer = renderer("").unwrap();
    for center in 0..20 {
        let raster = Raster { layout: layout(Photometric::Monochrome2, 1, 1, 8), data: vec![100] };
        let window =
            Window { center: f64::from(center * 10), width: 2.0, function: Function::Linear };
        let view = View { window: Some(window), ..View::default() };
        let grey = renderer.draw(1, &raster, &view).unwrap().data[0];
        assert_eq!(grey, if center > 10 { 0 } else { 255 });
    }
}

/// Attributes that pictures depend on, with their values in JSON.
fn hostile_attributes() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("1".to_owned()),
        Just("1e308".to_owned()),
        Just("-1e-308".to_owned()),
        Just("65536".to_owned()),
        Just("\"x\"".to_owned()),
        Just("null".to_owned()),
        any::<i16>().prop_map(|n| n.to_string()),
        any::<u16>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f32>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
    ];
    let numbers = proptest::collection::vec(number, 0..4)
        .prop_map(|numbers| format!(r#"{{"vr":"DS","Value":[{}]}}"#, numbers.join(",")));
    let binary = proptest::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        format!(r#"{{"vr":"OW","InlineBinary":"{text}"}}"#)
    });
    let term = prop_oneof![
        Just("INVERSE"),
        Just("SIGMOID"),
        Just("R"),
        Just("MIXED"),
        Just("PALETTE COLOR"),
        Just("LINEAR_EXACT"),
        Just("山田^ﷺ\\u202e"),
    ]
    .prop_map(|term| format!(r#"{{"vr":"CS","Value":["{term}"]}}"#));
    let value = prop_oneof![4 => numbers, 3 => binary, 1 => term];
    let tags = proptest::sample::select(vec![
        "00280004", "00280030", "00280034", "00280103", "00280120", "00280121", "00280122",
        "00281050", "00281051", "00281052", "00281053", "00281056", "00281101", "00281102",
        "00281103", "00281201", "00281202", "00281203", "00281221", "00281222", "00281223",
        "00282000", "00283002", "00283006", "00089205", "20500020", "60000010", "60000011",
        "60000015", "60000050", "60000051", "60000040", "60000100", "60000102", "60003000",
        "00100010", "00100020", "00180060", "00286010", "00280008",
    ]);
    let flat = proptest::collection::btree_map(tags, value, 0..25).prop_map(|map| {
        map.into_iter()
            .map(|(tag, value)| format!(r#""{tag}":{value}"#))
            .collect::<Vec<_>>()
            .join(",")
    });
    let sequence = proptest::sample::select(vec![
        "00283000", "00283010", "00480105", "52009229", "52009230", "00289145", "00289132",
    ]);
    (flat.clone(), sequence, flat).prop_map(|(outer, sequence, inner)| {
        let item = format!(r#""{sequence}":{{"vr":"SQ","Value":[{{{inner}}},{{{inner}}}]}}"#);
        if outer.is_empty() { item } else { format!("{outer},{item}") }
    })
}

fn any_layout() -> impl Strategy<Value = Layout> {
    let photometric = proptest::sample::select(vec![
        Photometric::Monochrome1,
        Photometric::Monochrome2,
        Photometric::Palette,
        Photometric::Rgb,
        Photometric::Argb,
        Photometric::YbrFull,
        Photometric::YbrFull422,
        Photometric::YbrPartial422,
        Photometric::YbrPartial420,
        Photometric::YbrIct,
        Photometric::YbrRct,
        Photometric::Xyb,
    ]);
    let bits = proptest::sample::select(vec![1_u8, 8, 16, 32, 64]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (photometric, bits, any::<u8>(), any::<u8>(), 1..20_u16, 1..20_u16, flags).prop_map(
        |(photometric, allocated, stored, high, rows, columns, (signed, float, planar))| {
            let stored = stored % allocated + 1;
            let float = float && allocated >= 32;
            Layout {
                rows,
                columns,
                samples: match photometric {
                    Photometric::Argb => 4,
                    other if other.is_colour() => 3,
                    _ => 1,
                },
                bits_allocated: allocated,
                bits_stored: if float { allocated } else { stored },
                high_bit: if float {
                    allocated - 1
                } else {
                    stored - 1 + high % (allocated - stored + 1)
                },
                signed,
                float,
                planar,
                photometric,
            }
        },
    )
}

fn any_view() -> impl Strategy<Value = View> {
    let number = prop_oneof![-100.0..100.0, any::<f64>(), Just(f64::NAN), Just(0.0)];
    let region =
        proptest::option::of((number.clone(), number.clone(), number.clone(), number.clone()));
    let side = prop_oneof![4 => 0..60_u32, 1 => Just(3000_u32)];
    let viewport = (side.clone(), side, region).prop_map(|(width, height, region)| Viewport {
        width,
        height,
        region,
    });
    let function =
        proptest::sample::select(vec![Function::Linear, Function::LinearExact, Function::Sigmoid]);
    let window = (number.clone(), number, function).prop_map(|(center, width, function)| Window {
        center,
        width,
        function,
    });
    let icc = proptest::sample::select(vec![
        IccProfile::No,
        IccProfile::Yes,
        IccProfile::Srgb,
        IccProfile::AdobeRgb,
        IccProfile::RommRgb,
    ]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (proptest::option::of(viewport), proptest::option::of(window), icc, flags).prop_map(
        |(viewport, window, icc, (patient, technique, overlays))| View {
            viewport,
            window,
            annotations: Annotations { patient, technique },
            icc,
            overlays,
            turn: Turn::default(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the attributes, the pixels and the wishes are: an error or a picture that is as
    /// large as it says and can be written.
    #[test]
    fn nothing_outside_makes_a_renderer_fall(
        attributes in hostile_attributes(),
        layout in any_layout(),
        seed in any::<u8>(),
        short in 0..4_usize,
        frame in 0..5_u32,
        view in any_view(),
    ) {
        let length = layout.frame_length().saturating_sub(short / 3);
        let data = (0..length).map(|n| (n as u8).wrapping_mul(seed | 1)).collect();
        let raster = Raster { layout, data };
        let Ok(renderer) = renderer(&attributes) else { return Ok(()) };
        renderer.automatic_window(frame, &raster);
        let Ok(picture) = renderer.draw(frame, &raster, &view) else { return Ok(()) };
        let channels = if picture.colour { 3 } else { 1 };
        prop_assert_eq!(picture.data.len(), (picture.width * picture.height) as usize * channels);
        if let Some(viewport) = view.viewport {
            prop_assert!(picture.width <= viewport.width && picture.height <= viewport.height);
        }
        if picture.data.len() > 20_000 {
            return Ok(());
        }
        prop_assert!(picture.encode(&Format::Png).is_ok());
        prop_assert!(picture.encode(&Format::Gif).is_ok());
        let jpeg = picture.encode(&Format::Jpeg { quality: 80 });
        prop_assert!(jpeg.is_ok());
    }

    /// Damaged ICC profiles are read like all the others, without falling.
    #[test]
    fn profiles_cannot_hurt(at in 0..500_usize, bytes in proptest::collection::vec(any::<u8>(), 1..12)) {
        let raster = Raster { layout: layout(Photometric::Rgb, 1, 1, 8), data: vec![1, 2, 3] };
        let plain = renderer("").unwrap();
        let view = |icc| View { icc, ..View::default() };
        let icc = plain.draw(1, &raster, &view(IccProfile::AdobeRgb)).unwrap().icc.unwrap();
        let mut damaged = icc;
        let at = at % damaged.len();
        for (byte, other) in damaged.iter_mut().skip(at).zip(bytes) {
            *byte = other;
        }
        let data_set = DataSet::parse(br#"{"00282000":{"vr":"OB","BulkDataURI":"@p"}}"#).unwrap();
        let values = BTreeMap::from([("p".to_owned(), damaged)]);
        let renderer = Renderer::new(data_set.root(), &values).unwrap();
        for icc in [IccProfile::Yes, IccProfile::Srgb, IccProfile::RommRgb] {
            let picture = renderer.draw(1, &raster, &view(icc)).unwrap();
            prop_assert!(picture.icc.is_some());
        }
    }
}
