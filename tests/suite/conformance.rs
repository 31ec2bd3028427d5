//! The conformance statement against the running server: what its tables list is what is answered.
//! (That the tables are those of the code is held by `tests/docs/tables.rs`.)

mod answers;

use crate::harness::{Answer, Dicom, Server};

const STATEMENT: &str = include_str!("../../docs/conformance.md");

/// The cells of a table of the statement, without code marks.
fn table(name: &str) -> Vec<Vec<String>> {
    let (_, rest) = STATEMENT.split_once(&format!("<!-- {name} -->")).expect("the table");
    let (inside, _) = rest.split_once("<!-- end of").expect("its end");
    let rows = inside.lines().filter(|line| line.starts_with("| ")).skip(2);
    let cells = |line: &str| {
        let line = line.trim_start_matches("| ").trim_end_matches(" |").to_owned();
        line.split(" | ").map(|cell| cell.trim().replace('`', "")).collect()
    };
    rows.map(cells).collect()
}

/// A row of the table of transfer syntaxes.
struct Syntax {
    uid: String,
    media_type: String,
    is_read: bool,
    is_made: bool,
}

fn syntaxes() -> Vec<Syntax> {
    let rows = table("transfer syntaxes");
    assert!(rows.len() > 60, "{} rows", rows.len());
    let one = |row: Vec<String>| {
        let [_, uid, media_type, stored, read, made] = row.try_into().expect("six cells");
        assert_eq!(stored, "yes");
        Syntax { uid, media_type, is_read: read == "yes", is_made: made == "yes" }
    };
    rows.into_iter().map(one).collect()
}

/// Pixels of several kinds, since no codec takes all: of 16, 12 and 8 bits.
fn kinds() -> [Dicom; 3] {
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.16");
    ct.pixels((0..16).map(|n| n * 4_000).collect());
    let mut twelve = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.12");
    twelve.short(0x0028, 0x0101, 12).short(0x0028, 0x0102, 11);
    twelve.pixels((0..16).map(|n| n * 250).collect());
    let mut eight = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.8");
    eight.short(0x0028, 0x0100, 8).short(0x0028, 0x0101, 8).short(0x0028, 0x0102, 7);
    eight.bytes(0x7FE0, 0x0010, "OB", &(0..16).map(|n| n * 15).collect::<Vec<u8>>());
    [ct, twelve, eight]
}

/// The path of an instance, whose UID begins with that of its study, of three numbers, and its
/// series, of four.
fn instance(uid: &str) -> String {
    let (study, series) = parents(uid);
    format!("/studies/{study}/series/{series}/instances/{uid}")
}

fn parents(uid: &str) -> (String, String) {
    let numbers: Vec<&str> = uid.split('.').collect();
    (numbers[..3].join("."), numbers[..4].join("."))
}

/// An instance as a transfer syntax has it: native pixels where it has them, else a fragment that
/// is no codestream.
fn stored_as(syntax: &Syntax, at: usize) -> (String, Dicom) {
    // Each in a study of its own: an answer of several that meets what does not decode breaks off.
    let uid = format!("1.2.{}.1.1", 100 + at);
    let (study, series) = parents(&uid);
    let mut dicom = Dicom::ct(&study, &series, &uid);
    let native = ["2", "2.1", "2.2", "2.1.99", "20"];
    let is_native = native.iter().any(|end| syntax.uid == format!("1.2.840.10008.1.{end}"))
        || syntax.uid == "1.2.840.113619.5.2";
    let jpip_or_flow = ["4.94", "4.95", "4.204", "4.205", "7.1", "7.2", "7.3"];
    if is_native {
        dicom.syntax(&syntax.uid);
    } else if jpip_or_flow.iter().any(|end| syntax.uid.ends_with(&format!(".1.2.{end}"))) {
        dicom.remove(0x7FE0, 0x0010).syntax(&syntax.uid);
    } else {
        dicom.encapsulated(&syntax.uid, vec![vec![0x5A; 10]]);
    }
    (uid, dicom)
}

#[tokio::test]
async fn every_transfer_syntax_is_stored_read_and_made_as_the_table_says() {
    let server = Server::start().await;
    let files: Vec<Vec<u8>> = kinds().iter().map(Dicom::file).collect();
    server.store("/studies", &files).await.is(200);
    for (at, syntax) in syntaxes().iter().enumerate() {
        let Syntax { uid, media_type, is_read, is_made } = syntax;
        let (name, dicom) = stored_as(syntax, at);
        server.store("/studies", &[dicom.file()]).await.is(200);
        let path = instance(&name);
        let given = server.get_as(&path, "application/dicom; transfer-syntax=*").await.is(200);
        assert_eq!(given.body, dicom.file(), "{uid} as stored");

        let wanted = format!("application/octet-stream; transfer-syntax={uid}");
        let mut made: Option<(Dicom, Answer)> = None;
        for kind in kinds() {
            let bits = if made.is_some() { break } else { bits(&kind) };
            let frame = format!("{}/frames/1", instance(&format!("1.2.1.1.{bits}")));
            let answer = server.get_as(&frame, &wanted).await;
            match answer.status {
                200 => made = Some((kind, answer)),
                status => assert_eq!(status, 406, "{uid} of {bits} bits: {}", answer.text()),
            }
        }
        assert_eq!(made.is_some(), *is_made, "{uid} is made");
        let Some((mut kind, answer)) = made else {
            if !is_read && media_type != "application/octet-stream" {
                let frame = format!("{path}/frames/1");
                server.get_as(&frame, "application/octet-stream").await.problem(406);
            }
            continue;
        };
        assert_eq!(
            answer.header("content-type"),
            format!("{media_type}; transfer-syntax={uid}"),
            "{uid} is labelled"
        );
        if media_type == "application/octet-stream" && answer.body.len() % 16 == 0 {
            continue;
        }
        // Read again, from an instance that holds what was made.
        assert!(is_read, "{uid} is made and not read");
        let again = format!("1.2.1.3.{at}");
        let (_, series) = parents(&again);
        kind.text(0x0020, 0x000E, "UI", &series).text(0x0008, 0x0018, "UI", &again);
        kind.encapsulated(uid, vec![even(answer.body.to_vec())]);
        server.store("/studies", &[kind.file()]).await.is(200);
        let frame = format!("{}/frames/1", instance(&again));
        let pixels = server.get_as(&frame, "application/octet-stream").await.is(200);
        assert_eq!(
            pixels.header("content-type"),
            "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
        );
        assert_eq!(pixels.body.len(), 16 * usize::from(if bits(&kind) == 8 { 1 } else { 2_u8 }));
    }
}

fn bits(kind: &Dicom) -> u16 {
    kind.number(0x0028, 0x0101)
}

fn even(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}
