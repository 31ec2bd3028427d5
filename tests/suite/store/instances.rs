//! Instances of every kind: stored as they came, whatever this server can decode.

use serde_json::json;

use crate::harness::{
    Dicom, Server,
    corpus::{BIG, DEFLATED, EXPLICIT, IMPLICIT},
};

/// Encapsulated syntaxes of PS3.6, current and retired, and one that nobody knows.
const ENCAPSULATED: [&str; 40] = [
    "1.98", "4.50", "4.51", "4.52", "4.53", "4.54", "4.55", "4.57", "4.58", "4.64", "4.66", "4.70",
    "4.80", "4.81", "4.90", "4.91", "4.92", "4.93", "4.100", "4.101", "4.102", "4.103", "4.104",
    "4.105", "4.106", "4.107", "4.108", "4.110", "4.111", "4.112", "4.201", "4.202", "4.203", "5",
    "8.1", "4.100.1", "4.102.1", "4.106.1", "4.99", "4.999",
];

#[tokio::test]
async fn every_transfer_syntax_goes_in_and_comes_out_as_it_was() {
    let server = Server::start().await;
    let mut files = Vec::new();
    for (n, syntax) in [IMPLICIT, EXPLICIT, BIG, DEFLATED].into_iter().enumerate() {
        let mut ct = Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}"));
        files.push(ct.syntax(syntax).file());
    }
    for (n, syntax) in ENCAPSULATED.into_iter().enumerate() {
        let mut ct = Dicom::ct("1.2.1", "1.2.1.2", &format!("1.2.1.2.{n}"));
        let syntax = format!("1.2.840.10008.1.2.{syntax}");
        files.push(ct.encapsulated(&syntax, vec![vec![0xFF, 0xD8, n as u8, 0]]).file());
    }
    server.store("/studies", &files).await.is(200);
    let any = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
    let answer = server.get_as("/studies/1.2.1", any).await.is(200);
    files.sort();
    assert_eq!(answer.bodies(), files);
}

#[tokio::test]
async fn files_without_preamble() {
    let server = Server::start().await;
    let path = "/studies/1.2.1/series/1.2.1.1/instances";
    for (n, cut) in [(1, 128), (2, 132)] {
        let dicom = Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}"));
        let file = dicom.file()[cut..].to_vec();
        let answer = server.store("/studies", &[file]).await;
        assert_eq!(answer.status, 200, "without the first {cut} bytes: {}", answer.text());
        let given =
            server.get_as(&format!("{path}/1.2.1.1.{n}"), "application/dicom").await.is(200);
        assert!(given.body.ends_with(&dicom.data_set()), "the data set is the one that came");
    }
}

#[tokio::test]
async fn sequences_private_elements_and_bulk_values() {
    let server = Server::start().await;
    let mut inner = Dicom::item();
    inner.text(0x0008, 0x0100, "SH", "T-1").bytes(0x0009, 0x1001, "UN", b"in there");
    let mut middle = Dicom::item();
    middle.sequence(0x0040, 0xA168, vec![inner]);
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    ct.sequence(0x0040, 0xA730, vec![middle, Dicom::item()])
        .text(0x0009, 0x0010, "LO", "ACME")
        .bytes(0x0009, 0x1001, "UN", b"private")
        .text(0x0009, 0x1002, "LO", "words")
        .bytes(0x0011, 0x1001, "OB", &[1, 2, 3, 4]);
    let file = ct.file();
    server.store("/studies", &[file.clone()]).await.is(200);
    assert_eq!(server.get("/studies/1.2.1").await.bodies(), [file]);
    let metadata = &server.get("/studies/1.2.1/metadata").await.is(200).json()[0];
    assert_eq!(metadata["00090010"], json!({"vr": "LO", "Value": ["ACME"]}));
    assert_eq!(metadata["00091001"]["InlineBinary"], "cHJpdmF0ZQA=");
    assert_eq!(metadata["00091002"]["Value"], json!(["words"]));
    let items = metadata["0040A730"]["Value"].as_array().unwrap();
    assert_eq!(items[0]["0040A168"]["Value"][0]["00080100"]["Value"], json!(["T-1"]));
    assert_eq!(items[1], json!({}));
}

#[tokio::test]
async fn texts_of_all_character_sets_are_found_and_shown() {
    let server = Server::start().await;
    // (SpecificCharacterSet, the name as bytes, the same in UTF-8), PS3.5 Annexes H to K and PS3.3 C.12.1.1.2.
    let names: [(&str, &[u8], &str); 9] = [
        ("ISO_IR 100", b"M\xFCller^J\xF6rg", "Müller^Jörg"),
        ("ISO_IR 101", b"Wa\xB3\xEAsa^Lech", "Wałęsa^Lech"),
        ("ISO_IR 144", b"\xBB\xEE\xDA\x63\x65\xDC\xD1\x79\x70\xD3", "Люкceмбypг"),
        ("ISO_IR 126", b"\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2", "Διονυσιος"),
        ("ISO_IR 138", b"\xF9\xF8\xE5\xEF", "שרון"),
        ("GB18030", b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Ōe^Kenzaburō".as_bytes(), "Ōe^Kenzaburō"),
        (
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B",
            "Yamada^Tarou=山田^太郎",
        ),
        (
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7",
            "Hong^Gildong=洪^吉洞",
        ),
    ];
    let mut files = Vec::new();
    for (n, (set, name, _)) in names.iter().enumerate() {
        let study = format!("1.2.{n}");
        let mut ct = Dicom::ct(&study, &format!("{study}.1"), &format!("{study}.1.1"));
        files.push(ct.text(8, 5, "CS", set).bytes(0x10, 0x10, "PN", name).file());
    }
    server.store("/studies", &files).await.is(200);
    for (n, (set, _, name)) in names.iter().enumerate() {
        let metadata = &server.get(&format!("/studies/1.2.{n}/metadata")).await.json()[0];
        let groups: Vec<&str> = name.split('=').collect();
        let shown = &metadata["00100010"]["Value"][0];
        assert_eq!(shown["Alphabetic"], groups[0], "{set}");
        if let Some(ideographic) = groups.get(1) {
            assert_eq!(shown["Ideographic"], *ideographic, "{set}");
        }
        assert_eq!(metadata["00080005"]["Value"], json!(["ISO_IR 192"]), "{set}");
        let family = groups.last().unwrap().split('^').next().unwrap();
        let found = server.search(&format!("/studies?PatientName={family}*")).await;
        assert_eq!(found.len(), 1, "{set} {family}");
        assert_eq!(found[0]["0020000D"]["Value"][0], format!("1.2.{n}"), "{set}");
    }
}
