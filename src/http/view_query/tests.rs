//! Rows from PS3.18 §8.3.5.1 and around its edges.

use super::*;

fn pixels(values: [Option<f64>; 4]) -> Region {
    Region::Pixels(values)
}

fn size(width: u32, height: u32) -> Size {
    Size { width: Some(width), height: Some(height) }
}

/// The field and the rule of a refusal.
#[track_caller]
fn refused(query: &str, field: &str) -> String {
    let problem = rendered(query).expect_err(query);
    assert_eq!(problem.status().as_u16(), 400, "{query}");
    let [error] = problem.errors() else { panic!("{query}: {:?}", problem.errors()) };
    assert_eq!(error.field, field, "{query}");
    error.reason.to_string()
}

#[test]
fn viewports() {
    for (value, expected) in [
        ("512,512", (size(512, 512), Region::Whole)),
        ("1,8192", (size(1, 8192), Region::Whole)),
        ("512%2C256", (size(512, 256), Region::Whole)),
        ("512,512,,,512,512", (size(512, 512), pixels([None, None, Some(512.0), Some(512.0)]))),
        ("10,20,1.5", (size(10, 20), pixels([Some(1.5), None, None, None]))),
        ("10,20,,7", (size(10, 20), pixels([None, Some(7.0), None, None]))),
        ("10,20,1,2,3", (size(10, 20), pixels([Some(1.0), Some(2.0), Some(3.0), None]))),
        ("10,20,,,,-4.25", (size(10, 20), pixels([None, None, None, Some(-4.25)]))),
        (
            "10,20,-1,-2,-3,-4",
            (size(10, 20), pixels([Some(1.0), Some(2.0), Some(-3.0), Some(-4.0)])),
        ),
        (
            "10,20,%2B1,2e1,3,4",
            (size(10, 20), pixels([Some(1.0), Some(20.0), Some(3.0), Some(4.0)])),
        ),
    ] {
        let view = rendered(&format!("viewport={value}")).unwrap().view;
        assert_eq!((view.size, view.region), expected, "{value}");
    }
    for value in [
        "",
        ",",
        "512",
        "512,",
        ",512",
        "0,10",
        "10,0",
        "-1,10",
        "10,8193",
        "1.5,10",
        "a,b",
        "10,10,",
        "10,10,,",
        "10,10,,,,",
        "10,10,1,2,3,",
        "10,10,1,2,3,4,",
        "10,10,1,2,3,4,5",
        "10,10,x",
        "10,10,1,NaN",
        "10,10,inf",
        "10,10,1,2,0,5",
        "10,10,1,2,5,-0",
        "10, 10",
        "+10,10",
        "99999999999,1",
        "10;10",
        "10,10,1,2,1e300,3",
    ] {
        refused(&format!("viewport={value}"), "viewport");
    }
    refused("viewport=10,10&viewport=10,10", "viewport");
}

#[test]
fn windows() {
    let window = |center, width, function| Some(Window { center, width, function });
    for (value, expected) in [
        ("40,400,linear", window(40.0, 400.0, Function::Linear)),
        ("-600.5,1,LINEAR", window(-600.5, 1.0, Function::Linear)),
        ("0,0.5,linear-exact", window(0.0, 0.5, Function::LinearExact)),
        ("1e2,1.5e3,sigmoid", window(100.0, 1500.0, Function::Sigmoid)),
        ("40%2C400%2Clinear", window(40.0, 400.0, Function::Linear)),
    ] {
        assert_eq!(rendered(&format!("window={value}")).unwrap().view.window, expected, "{value}");
    }
    for value in [
        "",
        "40",
        "40,400",
        "40,400,",
        ",400,linear",
        "40,,linear",
        "40,400,linear,",
        "a,b,linear",
        "40,0,linear",
        "40,0.5,linear",
        "40,-1,sigmoid",
        "40,0,linear-exact",
        "NaN,1,linear",
        "40,inf,linear",
        "40,400,cubic",
        "40,400,linear_exact",
        "40, 400,linear",
    ] {
        refused(&format!("window={value}"), "window");
    }
    refused("window=1,2,linear&window=1,2,linear", "window");
}

#[test]
fn qualities() {
    for (value, expected) in [("1", 1), ("100", 100), ("080", 80)] {
        let view = rendered(&format!("quality={value}")).unwrap().view;
        assert_eq!(view.quality(), expected, "{value}");
    }
    assert_eq!(rendered("").unwrap().view.quality(), QUALITY);
    for value in ["", "0", "101", "-1", "+5", "1.5", "x", "256", "1000000000000"] {
        refused(&format!("quality={value}"), "quality");
    }
    refused("quality=5&quality=5", "quality");
}

#[test]
fn annotation_keywords() {
    let both = |patient, technique| Annotations { patient, technique };
    for (value, expected, unsupported) in [
        ("patient", both(true, false), &[][..]),
        ("technique,patient", both(true, true), &[]),
        ("patient,patient", both(true, false), &[]),
        ("patient,%20technique", both(true, true), &[]),
        ("dose", both(false, false), &["dose"]),
        ("dose,patient,x-ray,dose", both(true, false), &["dose", "x-ray"]),
        // Keywords are told apart by case (PS3.18 §8.3.5.1.1).
        ("Patient", both(false, false), &["Patient"]),
    ] {
        let read = rendered(&format!("annotation={value}")).unwrap();
        assert_eq!(read.view.annotations, expected, "{value}");
        assert_eq!(read.unsupported, unsupported, "{value}");
    }
    assert_eq!(rendered("").unwrap().view.annotations, both(false, false));
    for value in [
        "",
        ",",
        "patient,",
        ",patient",
        "1",
        "pa tient",
        "a%00b",
        "%22",
        "p%C3%A4",
        "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q",
        "abcdefghijklmnopqrstuvwxyzabcdefghi",
    ] {
        refused(&format!("annotation={value}"), "annotation");
    }
}

#[test]
fn colour_profiles_and_the_types_that_hold_them() {
    for (value, expected) in [
        ("no", IccProfile::No),
        ("yes", IccProfile::Yes),
        ("srgb", IccProfile::Srgb),
        ("adobergb", IccProfile::AdobeRgb),
        ("rommrgb", IccProfile::RommRgb),
    ] {
        let view = rendered(&format!("iccprofile={value}")).unwrap().view;
        assert_eq!(view.icc, Some(expected));
        assert!(view.fits("image/jpeg").is_ok() && view.fits("image/png").is_ok());
        assert_eq!(view.fits("image/gif").is_ok(), value == "no", "{value}");
        assert_eq!(view.fits("video/mp4").is_ok(), value == "no", "{value}");
    }
    for value in ["", "maybe", "YES", "srgb,no"] {
        refused(&format!("iccprofile={value}"), "iccprofile");
    }
    assert!(rendered("").unwrap().view.fits("image/gif").is_ok());
}

#[test]
fn what_is_unknown_is_left_alone() {
    let query = "Viewport=x&WINDOW=y&accept=image/png&accept=image/jpeg&foo=%ff&&=";
    assert_eq!(rendered(query).unwrap(), Read::default());
}

#[test]
fn thumbnails_take_a_size_alone() {
    assert_eq!(thumbnail("").unwrap(), None);
    assert_eq!(thumbnail("viewport=64%2C48").unwrap(), Some((64, 48)));
    // The other parameters mean nothing to a thumbnail.
    assert_eq!(thumbnail("window=x&quality=0&annotation=&iccprofile=z").unwrap(), None);
    for value in ["64", "64,", "64,0", "64,48,1", "64,48,,,1,1", "64,48,,"] {
        let problem = thumbnail(&format!("viewport={value}")).expect_err(value);
        assert_eq!(problem.errors()[0].field, "viewport", "{value}");
    }
}

#[test]
fn regions_are_settled_by_the_size_of_the_image() {
    let at = |query: &str| {
        let view = rendered(query).unwrap().view.view(100, 80).unwrap();
        view.viewport.map(|v| (v.width, v.height, v.region))
    };
    assert_eq!(at(""), None);
    assert_eq!(at("viewport=50,60"), Some((50, 60, None)));
    for (query, region) in [
        ("viewport=5,6,10,20", (10.0, 20.0, 90.0, 60.0)),
        ("viewport=5,6,,,-30", (0.0, 0.0, -30.0, 80.0)),
        ("viewport=5,6,90,70,50,-50", (90.0, 70.0, 10.0, -10.0)),
        ("viewport=5,6,99.5", (99.5, 0.0, 0.5, 80.0)),
    ] {
        assert_eq!(at(query), Some((5, 6, Some(region))), "{query}");
    }
    for query in ["viewport=5,6,100", "viewport=5,6,,80,1,1"] {
        let problem = rendered(query).unwrap().view.view(100, 80).expect_err(query);
        assert_eq!(problem.errors()[0].field, "viewport");
    }
    let parts = ViewQuery { region: Region::Parts([0.25, 0.5, 0.75, 1.0]), ..Default::default() };
    let viewport = parts.view(100, 80).unwrap().viewport.unwrap();
    assert_eq!((viewport.width, viewport.height), (50, 40));
    assert_eq!(viewport.region, Some((25.0, 40.0, 50.0, 40.0)));
    let wide = ViewQuery { size: Size { width: Some(10), height: None }, ..ViewQuery::default() };
    let viewport = wide.view(100, 80).unwrap().viewport.unwrap();
    assert_eq!((viewport.width, viewport.height), (10, MAX_SIDE));
}

#[test]
fn presentation_states_take_neither_window_nor_region() {
    let overrides = |query: &str| rendered(query).unwrap().view.overrides();
    assert_eq!(overrides("viewport=5,6&annotation=patient&quality=3"), None);
    assert_eq!(overrides("viewport=5,6,1"), Some("viewport"));
    assert_eq!(overrides("window=1,2,linear"), Some("window"));
}
