//! Documents of every kind, and of hostile ones.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dicom::data_set::DataSet;
use DocumentFormat::{Html, Pdf, Text, Xml};

const ALL: [DocumentFormat; 4] = [Html, Text, Xml, Pdf];

fn code(value: &str, meaning: &str) -> Value {
    json!({"vr": "SQ", "Value": [{
        "00080100": {"vr": "SH", "Value": [value]},
        "00080102": {"vr": "SH", "Value": ["DCM"]},
        "00080104": {"vr": "LO", "Value": [meaning]},
    }]})
}

/// A content item with its value's attributes.
fn item(relation: &str, value_type: &str, name: &str, attributes: Value) -> Value {
    let mut item = json!({
        "0040A010": {"vr": "CS", "Value": [relation]},
        "0040A040": {"vr": "CS", "Value": [value_type]},
    });
    if !name.is_empty() {
        item["0040A043"] = code("1", name);
    }
    for (tag, attribute) in attributes.as_object().unwrap() {
        item[tag] = attribute.clone();
    }
    item
}

fn text(name: &str, value: &str) -> Value {
    item("CONTAINS", "TEXT", name, json!({"0040A160": {"vr": "UT", "Value": [value]}}))
}

fn sequence(items: Vec<Value>) -> Value {
    json!({"vr": "SQ", "Value": items})
}

/// A Comprehensive SR with that content.
fn report(content: Vec<Value>) -> Value {
    json!({
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.88.33"]},
        "00080018": {"vr": "UI", "Value": ["1.2.3.4"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane^^Dr.^MD"}]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3.1"]},
        "0040A043": code("1", "Chest report"),
        "0040A491": {"vr": "CS", "Value": ["COMPLETE"]},
        "0040A493": {"vr": "CS", "Value": ["VERIFIED"]},
        "0040A073": sequence(vec![json!({
            "0040A027": {"vr": "LO", "Value": ["General"]},
            "0040A030": {"vr": "DT", "Value": ["20240102101112.500+0100"]},
            "0040A075": {"vr": "PN", "Value": [
                {"Alphabetic": "House^Gregory", "Ideographic": "家^格"}]},
        })]),
        "0040A730": sequence(content),
    })
}

fn made(object: &Value, format: DocumentFormat) -> Result<Vec<u8>, RenderError> {
    let data_set = DataSet::parse(object.to_string().as_bytes()).unwrap();
    render(data_set.root(), &BTreeMap::new(), format)
}

#[track_caller]
fn shown(object: &Value, format: DocumentFormat) -> String {
    String::from_utf8(made(object, format).unwrap()).unwrap()
}

#[track_caller]
fn contains(text: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(text.contains(piece), "{piece:?} in:\n{text}");
    }
}

/// One item of each kind.
fn everything() -> Value {
    let sop = |class: &str, uid: &str, frames: Value| {
        sequence(vec![json!({
            "00081150": {"vr": "UI", "Value": [class]},
            "00081155": {"vr": "UI", "Value": [uid]},
            "00081160": frames,
        })])
    };
    let measured = sequence(vec![json!({
        "004008EA": {"vr": "SQ", "Value": [{
            "00080100": {"vr": "SH", "Value": ["mm"]},
            "00080102": {"vr": "SH", "Value": ["UCUM"]},
            "00080104": {"vr": "LO", "Value": ["millimeter"]},
        }]},
        "0040A30A": {"vr": "DS", "Value": [12.5]},
    })]);
    let ct = "1.2.840.10008.5.1.4.1.1.2";
    let mut object = report(vec![
        item(
            "HAS CONCEPT MOD",
            "CODE",
            "Language",
            json!({"0040A043": code("121049", "Language"), "0040A168": code("de-CH", "Swiss German")}),
        ),
        item(
            "HAS OBS CONTEXT",
            "PNAME",
            "Observer",
            json!({"0040A123": {"vr": "PN", "Value":
            [{"Alphabetic": "Wilson^James"}]}}),
        ),
        item(
            "CONTAINS",
            "CONTAINER",
            "Findings",
            json!({"0040A730": sequence(vec![
                item("CONTAINS", "NUM", "Diameter", json!({"0040A300": measured})),
                item("CONTAINS", "NUM", "Volume", json!({"0040A301": code("1", "Not a number")})),
                item("CONTAINS", "CODE", "Finding", json!({"0040A168": code("F-1", "Mass")})),
                item("CONTAINS", "DATE", "Day", json!({"0040A121": {"vr": "DA", "Value": ["20240102"]}})),
                item("CONTAINS", "TIME", "Clock", json!({"0040A122": {"vr": "TM", "Value": ["101112.250"]}})),
                item("CONTAINS", "DATETIME", "When", json!({"0040A120": {"vr": "DT", "Value": ["202401021011"]}})),
                item("CONTAINS", "UIDREF", "Frame", json!({"0040A124": {"vr": "UI", "Value": ["1.9"]}})),
                item("CONTAINS", "SCOORD", "Outline", json!({
                    "00700023": {"vr": "CS", "Value": ["POLYLINE"]},
                    "00700022": {"vr": "FL", "Value": [1.5, 2, 3, 4]},
                    "0040A730": sequence(vec![item("SELECTED FROM", "IMAGE", "",
                        json!({"00081199": sop(ct, "1.2.3.2.7", json!({"vr": "IS", "Value": [7]}))}))]),
                })),
                item("CONTAINS", "SCOORD3D", "Place", json!({
                    "00700023": {"vr": "CS", "Value": ["POINT"]},
                    "00700022": {"vr": "FL", "Value": [1, 2, 3]},
                })),
                item("CONTAINS", "TCOORD", "Span", json!({
                    "0040A130": {"vr": "CS", "Value": ["SEGMENT"]},
                    "0040A138": {"vr": "DS", "Value": [1, 2]},
                })),
                item("CONTAINS", "COMPOSITE", "Other", json!({"00081199": sop("1.9.9", "1.2.3.9", json!({"vr": "IS"}))})),
                item("CONTAINS", "WAVEFORM", "Curve", json!({"00081199": sop(ct, "1.2.3.2.7", json!({"vr": "IS"}))})),
                json!({"0040A010": {"vr": "CS", "Value": ["INFERRED FROM"]},
                    "0040DB73": {"vr": "UL", "Value": [1, 3, 1]}}),
                item("CONTAINS", "NEW", "Unheard", json!({})),
            ])}),
        ),
        text("Impression", "Two\r\nlines"),
    ]);
    object["0040A375"] = sequence(vec![json!({
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00081115": sequence(vec![json!({
            "0020000E": {"vr": "UI", "Value": ["1.2.3.2"]},
            "00081199": sop(ct, "1.2.3.2.7", json!({"vr": "IS"})),
        })]),
    })]);
    object
}

#[test]
fn text_tells_everything() {
    contains(
        &shown(&everything(), Text),
        &[
            "Chest report\n============\n",
            "Patient:              Dr. Jane Doe, MD\n",
            "Document:             Comprehensive SR\n",
            "Verified by:          Gregory House (格 家), General, 2024-01-02 10:11:12.5 +01:00\n",
            "[Language: Swiss German (de-CH, DCM)]\n[Observer: James Wilson]\n",
            "\nFindings\n--------\n  Diameter: 12.5 mm\n  Volume: Not a number\n",
            "  Finding: Mass (F-1, DCM)\n  Day: 2024-01-02\n  Clock: 10:11:12.25\n",
            "  When: 2024-01-02 10:11\n  Frame: 1.9\n",
            "  Outline: POLYLINE (1.5, 2) (3, 4)\n",
            "    Selected from: CT Image Storage 1.2.3.2.7, frames 7\n",
            "  Place: POINT (1, 2, 3)\n  Span: SEGMENT, seconds 1, 2\n",
            "  Other: instance 1.2.3.9\n  Curve: CT Image Storage 1.2.3.2.7\n",
            "  Inferred from: Diameter (1.3.1)\n",
            "  Unheard: a value of a kind that is not shown\n",
            "Impression: Two\n  lines\n",
        ],
    );
}

#[test]
fn html_nests_and_links() {
    let page = shown(&everything(), Html);
    contains(
        &page,
        &[
            "<!DOCTYPE html>\n<html lang=\"de-CH\">",
            "<title>Chest report</title>",
            "<section id=\"item-1.3\"><h2>Findings</h2>",
            "<p id=\"item-1.3.1\" class=\"v i0\"><b>Diameter:</b> 12.5 mm</p>",
            "<a href=\"#item-1.3.1\">Diameter (1.3.1)</a>",
            "<a href=\"../../../../../1.2.3/series/1.2.3.2/instances/1.2.3.2.7/frames/7/rendered\">",
            "<b>Curve:</b> CT Image Storage 1.2.3.2.7</p>",
            "</section>\n<p id=\"item-1.4\" class=\"v i0\"><b>Impression:</b> Two",
            "Gregory House (格 家)",
        ],
    );
    assert_eq!(page.matches("<section").count(), page.matches("</section>").count());

    let data_set = DataSet::parse(everything().to_string().as_bytes()).unwrap();
    let links = Links { studies: "https://h/p/studies/".into(), query: "?a=\"b\"&c".into() };
    let page = render_linked(data_set.root(), &BTreeMap::new(), Html, &links).unwrap();
    let href = "href=\"https://h/p/studies/1.2.3/series/1.2.3.2/instances/1.2.3.2.7/frames/7\
        /rendered?a=&quot;b&quot;&amp;c\"";
    contains(&String::from_utf8(page).unwrap(), &[href]);
}

#[test]
fn xml_is_the_data_set() {
    let mut object = everything();
    object["7FE10001"] = json!({"vr": "OB", "BulkDataURI": "@7FE10001"});
    contains(
        &shown(&object, Xml),
        &[
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<NativeDicomModel ",
            "keyword=\"CompletionFlag\"><Value number=\"1\">COMPLETE</Value>",
            "keyword=\"TextValue\"><Value number=\"1\">Two&#13;&#10;lines</Value>",
            "<BulkData uri=\"../../../../../1.2.3/series/1.2.3.1/instances/1.2.3.4/bulkdata/7FE10001\"/>",
        ],
    );
}

#[test]
fn pdf_shows_what_it_can_show_right() {
    let mut object = everything();
    object["0040A073"] = json!({"vr": "SQ"});
    let latin = made(&object, Pdf).unwrap();
    assert!(latin.starts_with(b"%PDF-1.") && latin.ends_with(b"%%EOF"));
    assert_eq!(made(&object, Pdf).unwrap(), latin, "the same report makes the same bytes");
    let pages = |pdf: &[u8]| {
        memchr::memmem::find_iter(pdf, b"/Type/Page/").count()
            + memchr::memmem::find_iter(pdf, b"/Type /Page\n").count()
    };
    assert_eq!(pages(&latin), 1);
    let long = report_of("Befund", &"Wort Größe Łódź Ελληνικά Кириллица ≤ 5 µm. ".repeat(400));
    assert!(pages(&made(&long, Pdf).unwrap()) > 3);
    let word = made(&report_of("Word", &"x".repeat(20_000)), Pdf).unwrap();
    assert!(pages(&word) > 2);
    // Decomposed letters are composed; what cannot be is refused, as other scripts are.
    made(&report_of("Name", "u\u{308} e\u{301}"), Pdf).unwrap();
    for text in ["山田", "שלום", "مرحبا", "ไทย", "한국", "q\u{30C}", "😀"] {
        let refused = made(&report_of("Name", text), Pdf);
        assert!(matches!(refused, Err(RenderError::Unsupported(_))), "{text}");
        contains(&shown(&report_of("Name", text), Html), &[text]);
        contains(&shown(&report_of("Name", text), Text), &[text]);
    }
}

fn report_of(name: &str, value: &str) -> Value {
    let mut object = report(vec![text(name, value)]);
    object["0040A073"] = json!({"vr": "SQ"});
    object
}

#[test]
fn what_a_report_says_is_never_markup() {
    let evil = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='&#60;";
    let mut object = report(vec![
        text(evil, evil),
        item(
            "CONTAINS",
            "CONTAINER",
            evil,
            json!({"0040A730": sequence(vec![
                item("CONTAINS", "UIDREF", evil, json!({"0040A124": {"vr": "UI", "Value": [evil]}})),
                item("CONTAINS", "IMAGE", evil, json!({"00081199": sequence(vec![json!({
                    "00081150": {"vr": "UI", "Value": [evil]},
                    "00081155": {"vr": "UI", "Value": [evil]},
                })])})),
                json!({"0040A010": {"vr": "CS", "Value": [evil]},
                    "0040DB73": {"vr": "UT", "Value": [evil]}}),
            ])}),
        ),
        item(
            "HAS CONCEPT MOD",
            "CODE",
            "x",
            json!({
            "0040A043": code("121049", "x"), "0040A168": code("\"><script>", evil)}),
        ),
    ]);
    object["00100010"] = json!({"vr": "PN", "Value": [{"Alphabetic": evil}]});
    object["0040A043"] = code("1", evil);
    object["0040A375"] = sequence(vec![json!({
        "0020000D": {"vr": "UI", "Value": ["\"><script>"]},
        "00081115": sequence(vec![json!({
            "0020000E": {"vr": "UI", "Value": ["javascript:"]},
            "00081199": sequence(vec![json!({"00081155": {"vr": "UI", "Value": [evil]}})]),
        })]),
    })]);
    let page = shown(&object, Html);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("javascript:"));
    // Every tag is one of ours.
    for tag in page.split('<').skip(1) {
        let name: &str =
            tag.split(|c: char| !c.is_ascii_alphanumeric()).find(|n| !n.is_empty()).unwrap();
        let ours = "DOCTYPE html head meta title style body main h1 h2 table tr th td section p b";
        assert!(ours.split(' ').any(|own| own == name), "{tag}");
    }
    contains(&page, &["<html lang=\"en\">", "&lt;/p&gt;&lt;script&gt;alert(1)"]);
    assert!(!page.contains("<a "), "no link without UIDs");
    contains(&shown(&object, Xml), &["&lt;script&gt;"]);
    object["0040A073"] = json!({"vr": "SQ"});
    made(&object, Pdf).unwrap();
    let spoof = report(vec![text("Name", "a\u{202E}b\u{1B}[31m\u{7}")]);
    contains(&shown(&spoof, Text), &["Name: ab[31m\n"]);
}

#[test]
fn references_in_circles_end() {
    let by = |numbers: Value| {
        json!({"0040A010": {"vr": "CS", "Value": ["INFERRED FROM"]},
        "0040DB73": {"vr": "UL", "Value": numbers}})
    };
    let mut first = text("First", "a");
    first["0040A730"] = sequence(vec![by(json!([1, 1])), by(json!([1])), by(json!([1, 1, 1]))]);
    let object =
        report(vec![first, by(json!([9, 9, 9])), by(json!([0])), by(json!([1, 0])), by(json!([]))]);
    contains(
        &shown(&object, Text),
        &[
            "First: a\n  Inferred from: First (1.1)\n  Inferred from: Chest report (1)\n",
            "  Inferred from: 1.1.1\nInferred from: 9.9.9\n",
        ],
    );
    // A long name that everything refers to is not repeated whole.
    let long = "n".repeat(60_000);
    let mut content = vec![text(&long, "a")];
    content.extend((0..2000).map(|_| by(json!([1, 1]))));
    assert!(shown(&report(content), Html).len() < 2_000_000);
}

#[test]
fn size_and_depth_are_bounded() {
    let wide = report(vec![json!({"0040A160": {"vr": "UT"}, "0040A040": {"vr": "CS"}}); 100_001]);
    let long = report(vec![text("a", &"x".repeat(1 << 20)); 9]);
    for object in [wide, long] {
        let data_set = DataSet::parse(object.to_string().as_bytes()).unwrap();
        for format in [Html, Text, Pdf] {
            let refused = render(data_set.root(), &BTreeMap::new(), format);
            assert_eq!(refused, Err(RenderError::Unsupported("a report of this size")));
        }
    }
    let mut deep = text("innermost", "here");
    for _ in 0..38 {
        deep = item("CONTAINS", "CONTAINER", "level", json!({"0040A730": sequence(vec![deep])}));
    }
    let mut object = report(vec![deep]);
    object["0040A073"] = json!({"vr": "SQ"});
    for format in ALL {
        made(&object.clone(), format)
            .map(|_| ())
            .or_else(|e| if format == Pdf { Ok(()) } else { Err(e) })
            .unwrap();
    }
    contains(&shown(&object, Html), &["<h6>level</h6>", "innermost"]);
}

fn encapsulated(class: &str, mime_type: &str, bytes: Value) -> Value {
    json!({
        "00080016": {"vr": "UI", "Value": [class]},
        "00080018": {"vr": "UI", "Value": ["1.2.3.4"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3.1"]},
        "00420010": {"vr": "ST", "Value": ["A <document>"]},
        "00420011": bytes,
        "00420012": {"vr": "LO", "Value": [mime_type]},
    })
}

#[test]
fn encapsulated_documents_come_out_as_they_are() {
    let bulk = json!({"vr": "OB", "BulkDataURI": "@00420011"});
    let mut object = encapsulated(PDF_CLASS, "application/pdf", bulk.clone());
    let given = |object: &Value, bytes: &[u8], format| {
        let data_set = DataSet::parse(object.to_string().as_bytes()).unwrap();
        let header = data_set.root();
        let wanted = wants(header, format);
        let values = wanted.into_iter().map(|path| (path, bytes.to_vec())).collect();
        render(header, &values, format)
    };
    assert_eq!(given(&object, b"%PDF-1.4 x\0", Pdf).unwrap(), b"%PDF-1.4 x");
    assert_eq!(given(&object, b"%PDF-1.4 xy", Pdf).unwrap(), b"%PDF-1.4 xy");
    object["00420015"] = json!({"vr": "UL", "Value": [9]});
    assert_eq!(given(&object, b"%PDF-1.4\0\0", Pdf).unwrap(), b"%PDF-1.4\0");
    object["00420015"] = json!({"vr": "UL", "Value": [4_000_000_000_u32]});
    assert_eq!(given(&object, b"%PDF-1.4 x\0", Pdf).unwrap(), b"%PDF-1.4 x");
    assert!(matches!(given(&object, b"<html>", Pdf), Err(RenderError::Damaged(_))));
    assert!(matches!(made(&object, Pdf), Err(RenderError::Damaged(_))), "without its bytes");
    assert!(matches!(made(&object, Text), Err(RenderError::Unsupported(_))));
    let own =
        "../../../../../1.2.3/series/1.2.3.1/instances/1.2.3.4/rendered?accept=application/pdf";
    contains(
        &shown(&object, Html),
        &[
            "<h1>A &lt;document&gt;</h1>",
            &format!("<a href=\"{own}\">Open the document</a>"),
            &format!("<object type=\"application/pdf\" data=\"{own}\"></object>"),
        ],
    );
    let cda = encapsulated(CDA_CLASS, "text/XML", json!({"vr": "OB", "InlineBinary": "PGEvPgA="}));
    assert_eq!(made(&cda, Xml).unwrap(), b"<a/>");
    assert!(!shown(&cda, Html).contains("<object"));
    let object = encapsulated(CDA_CLASS, "text/xml", bulk);
    assert!(matches!(given(&object, b"MZ\0\0", Xml), Err(RenderError::Damaged(_))));
}

#[test]
fn each_kind_has_its_formats() {
    let check = |object: &Value, expect: &[DocumentFormat]| {
        let data_set = DataSet::parse(object.to_string().as_bytes()).unwrap();
        assert_eq!(formats(data_set.root()), expect, "{object}");
        assert_eq!(is_document(data_set.root()), !expect.is_empty());
        for format in ALL.into_iter().filter(|format| !expect.contains(format)) {
            let refused = render(data_set.root(), &BTreeMap::new(), format);
            assert!(matches!(refused, Err(RenderError::Unsupported(_))), "{object}");
        }
    };
    let bytes = json!({"vr": "OB", "BulkDataURI": "@00420011"});
    check(&everything(), &ALL);
    check(&json!({"00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.88.59"]}}), &ALL);
    check(&json!({"0040A730": {"vr": "SQ"}}), &ALL);
    check(&encapsulated(PDF_CLASS, "application/pdf", bytes.clone()), &[Html, Pdf]);
    check(&encapsulated(PDF_CLASS, "", bytes.clone()), &[Html, Pdf]);
    check(&encapsulated(CDA_CLASS, "text/xml", bytes.clone()), &[Html, Xml]);
    // Models for printing, pages, and pictures with content are no documents.
    check(&encapsulated("1.2.840.10008.5.1.4.1.1.104.3", "model/stl", bytes.clone()), &[]);
    check(&encapsulated(PDF_CLASS, "text/html", bytes.clone()), &[]);
    check(&encapsulated("1.2.3", "text/xml", bytes.clone()), &[]);
    check(&json!({"0040A730": {"vr": "SQ"}, "7FE00010": {"vr": "OW"}}), &[]);
    check(&json!({}), &[]);
}

#[test]
fn attributes_of_the_wrong_form_are_no_trouble() {
    let content = json!({"vr": "SQ", "Value": [null, 1, "x", {}, {"0040A040": {"vr": "CS"}},
        {"0040A040": {"vr": "CS", "Value": ["NUM"]}, "0040A300": {"vr": "UL", "Value": [1]}},
        {"0040A040": {"vr": "CS", "Value": ["SCOORD"]}, "00700022": {"vr": "OF", "InlineBinary": "!"}},
        {"0040A040": {"vr": "CS", "Value": ["PNAME"]}, "0040A123": {"vr": "PN", "Value": ["x", null]}},
        {"0040A040": {"vr": "CS", "Value": ["IMAGE"]}, "00081199": {"vr": "SQ", "Value": [{}]}},
        {"0040A040": {"vr": "CS", "Value": ["DATE"]}, "0040A121": {"vr": "DA", "Value": ["２０２４"]}},
        {"0040A040": {"vr": "CS", "Value": ["DATETIME"]}, "0040A120": {"vr": "DT", "Value": ["-é+20240102x"]}},
    ]});
    let mut object = report(Vec::new());
    object["0040A730"] = content;
    for format in [Html, Text] {
        made(&object, format).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_values_break_a_report(
        texts in proptest::collection::vec(any::<String>(), 4),
        value_type in "TEXT|CODE|NUM|DATETIME|DATE|TIME|UIDREF|PNAME|SCOORD|TCOORD|IMAGE|[A-Z]{0,3}",
        tag in "0040A160|0040A120|0040A121|0040A122|0040A124|0040A123|00700023|0040A130|0040DB73",
    ) {
        let value = json!({"vr": "UT", "Value": [texts[0], {"Alphabetic": texts[1]}, null, 1e300]});
        let object = report(vec![item(&texts[2], &value_type, &texts[3], json!({tag: value}))]);
        for format in ALL {
            let made = made(&object, format);
            prop_assert!(format == Pdf || made.is_ok());
        }
        prop_assert!(!shown(&object, Html).contains("<script"));
    }
}
