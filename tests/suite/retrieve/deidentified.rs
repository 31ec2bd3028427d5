//! Instances de-identified: WADO-URI and WADO-RS with `anonymize=yes`.

use serde_json::json;

use super::pictures::report;
use crate::harness::{
    Answer, Dicom, PARTITIONS, Server,
    corpus::{BIG, DEFLATED, EXPLICIT, IMPLICIT, RLE},
    until,
};

/// What identifies in the files below.
const TELLING: [&str; 9] =
    ["Doe", "Jane", "PAT1", "ACC1", "Smith", "Somewhere", "1.2.1.1", "20240102", "SECRET"];
const US: &str = "1.2.840.10008.5.1.4.1.1.6.1";

fn ct(instance: &str) -> Dicom {
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", instance);
    let mut item = Dicom::item();
    item.text(0x0008, 0x1150, "UI", "1.2.840.10008.5.1.4.1.1.2")
        .text(0x0008, 0x1155, "UI", "1.2.1.1.9")
        .text(0x0010, 0x0010, "PN", "Doe^Jane");
    ct.text(0x0008, 0x0080, "LO", "Hospital of Somewhere")
        .text(0x0008, 0x0090, "PN", "Smith^John")
        .text(0x0008, 0x1030, "LO", "CT Thorax Doe")
        .sequence(0x0008, 0x1140, vec![item])
        .text(0x0009, 0x0010, "LO", "SECRET CREATOR")
        .text(0x0009, 0x1001, "LO", "SECRET Jane Doe");
    ct
}

fn wado(instance: &str) -> String {
    format!(
        "/wado?requestType=WADO&studyUID=1.2.1&seriesUID=1.2.1.1&objectUID={instance}\
         &contentType=application/dicom&anonymize=yes"
    )
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The value of an explicit element whose length has 16 bits.
fn value(body: &[u8], group: u16, element: u16, vr: &str) -> Option<String> {
    let mut head = [group.to_le_bytes(), element.to_le_bytes()].concat();
    head.extend(vr.as_bytes());
    let at = body.windows(head.len()).position(|window| window == head)? + head.len();
    let length = usize::from(u16::from_le_bytes([body[at], body[at + 1]]));
    let text = String::from_utf8_lossy(&body[at + 2..at + 2 + length]).into_owned();
    Some(text.trim_matches([' ', '\0']).to_owned())
}

fn check_nothing_tells(answer: &Answer) {
    for text in TELLING {
        assert!(!contains(&answer.body, text), "{text}");
        let told = answer.headers.values().any(|value| contains(value.as_bytes(), text));
        assert!(!told, "{text} in a header");
    }
    assert!(answer.headers.get("content-location").is_none());
    assert_eq!(value(&answer.body, 0x0012, 0x0062, "CS").as_deref(), Some("YES"));
}

#[tokio::test]
async fn nothing_identifies_in_any_transfer_syntax() {
    for syntax in [EXPLICIT, IMPLICIT, DEFLATED, BIG] {
        let server = Server::start().await;
        server.store("/studies", &[ct("1.2.1.1.1").syntax(syntax).file()]).await.is(200);
        let answer = server.get(&wado("1.2.1.1.1")).await.is(200);
        assert_eq!(
            answer.header("content-type"),
            "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
        );
        check_nothing_tells(&answer);
        let pixels: Vec<u8> = (0..16_u16).flat_map(u16::to_le_bytes).collect();
        assert!(answer.body.ends_with(&pixels), "{syntax}");
        // The same again, and no longer sent.
        let etag = answer.header("etag").to_owned();
        let again = server.get_with(&wado("1.2.1.1.1"), &[("if-none-match", &etag)]).await;
        assert_eq!(again.status, 304);
        let same = server.get(&wado("1.2.1.1.1")).await.is(200);
        assert_eq!(same.body, answer.body);
        let identified = server.get(&wado("1.2.1.1.1").replace("&anonymize=yes", "")).await.is(200);
        assert_ne!(identified.header("etag"), etag);
        assert!(contains(&identified.body, "Doe"));
    }
}

#[tokio::test]
async fn compressed_frames_stay_compressed_where_that_is_asked() {
    let server = Server::start().await;
    // One segment: 32 bytes of zeros and a literal.
    let mut frame = vec![0; 64];
    frame[0] = 2;
    frame[4] = 64;
    frame[8] = 68;
    frame.extend([0xF1, 0, 0, 0, 0xF1, 1, 0, 0]);
    let file = ct("1.2.1.1.1").encapsulated(RLE, vec![frame]).file();
    server.store("/studies", &[file]).await.is(200);
    let asked = format!("{}&transferSyntax={RLE}", wado("1.2.1.1.1"));
    let answer = server.get(&asked).await.is(200);
    assert!(answer.header("content-type").ends_with(RLE));
    check_nothing_tells(&answer);
    let decoded = server.get(&wado("1.2.1.1.1")).await.is(200);
    assert!(decoded.header("content-type").ends_with(EXPLICIT));
    check_nothing_tells(&decoded);
    // What is stored otherwise would have to be made otherwise.
    server.store("/studies", &[ct("1.2.1.1.2").syntax(IMPLICIT).file()]).await.is(200);
    server.get(&format!("{}&transferSyntax={IMPLICIT}", wado("1.2.1.1.2"))).await.problem(406);
}

#[tokio::test]
async fn pseudonyms_are_those_of_the_partition_until_its_key_is_removed() {
    let server = Server::with(&PARTITIONS).await;
    let files = [ct("1.2.1.1.1").file(), ct("1.2.1.1.2").file()];
    for partition in ["north", "south"] {
        server.store(&format!("/partitions/{partition}/studies"), &files).await.is(200);
    }
    let of = async |partition: &str, instance: &str| {
        let path = format!("/partitions/{partition}{}", wado(instance));
        let answer = server.get(&path).await.is(200);
        let value = |group, element, vr| value(&answer.body, group, element, vr).unwrap();
        [
            value(0x0010, 0x0020, "LO"),
            value(0x0020, 0x000D, "UI"),
            value(0x0008, 0x0018, "UI"),
            answer.header("etag").to_owned(),
        ]
    };
    let (first, second) = (of("north", "1.2.1.1.1").await, of("north", "1.2.1.1.2").await);
    assert_eq!(first[..2], second[..2]);
    assert_ne!(first[2], second[2]);
    let elsewhere = of("south", "1.2.1.1.1").await;
    assert!(first.iter().zip(&elsewhere).all(|(one, other)| one != other));
    assert_eq!(server.count("SELECT count(*) FROM pseudonym_key").await, 2);
    let mut conn = server.superuser().await;
    sqlx::query("DELETE FROM pseudonym_key WHERE partition_id = 'north'")
        .execute(&mut conn)
        .await
        .unwrap();
    let renewed = of("north", "1.2.1.1.1").await;
    assert!(first.iter().zip(&renewed).all(|(one, other)| one != other));
    assert_eq!(of("south", "1.2.1.1.1").await, elsewhere);
}

#[tokio::test]
async fn what_may_show_who_it_is_is_not_given() {
    let server = Server::start().await;
    let mut us = ct("1.2.1.1.1");
    us.text(0x0008, 0x0016, "UI", US);
    server.store("/studies", &[us.file()]).await.is(200);
    let problem = server.get(&wado("1.2.1.1.1")).await.problem(406);
    assert_eq!(problem["type"], "urn:collimator:problem:not-deidentifiable");
    let rs = "/studies/1.2.1?anonymize=yes";
    server.get(rs).await.problem(406);

    server.store("/studies", &[ct("1.2.1.1.2").file(), report("1.2.1.1.3").file()]).await.is(200);
    let answer = server.get(rs).await.is(206);
    let parts = answer.parts();
    assert_eq!(parts.len(), 2, "the ultrasound is left out");
    for part in &parts {
        assert!(TELLING.iter().all(|text| !contains(&part.body, text)));
        assert_eq!(part.header("content-location"), "");
    }
    let single = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.2?anonymize=yes";
    let answer = server.get_as(single, "application/dicom").await.is(200);
    check_nothing_tells(&answer);

    for query in ["anonymize=no", "anonymize=", "anonymize=yes&anonymize=yes"] {
        let problem = server.get(&format!("/studies/1.2.1?{query}")).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], "anonymize");
    }
    let octets = "multipart/related; type=\"application/octet-stream\"";
    server.get_as(rs, octets).await.problem(400);
    server.get("/studies/1.2.9?anonymize=yes").await.problem(404);

    let lenient = server.restart(&[("deidentify.burnt_in", "allow")]).await;
    lenient.get(&wado("1.2.1.1.1")).await.is(200);
}

#[tokio::test]
async fn options_are_those_of_the_configuration() {
    let server = Server::with(&[
        ("deidentify.retain_uids", "true"),
        ("deidentify.retain_institution_identity", "true"),
        ("deidentify.dates", "shift"),
        ("deidentify.clean_descriptors", "true"),
    ])
    .await;
    server.store("/studies", &[ct("1.2.1.1.1").file()]).await.is(200);
    let strict = server.get(&wado("1.2.1.1.1")).await.is(200);
    let at = |group, element, vr| value(&strict.body, group, element, vr).unwrap();
    assert_eq!(at(0x0008, 0x0018, "UI"), "1.2.1.1.1");
    assert_eq!(at(0x0008, 0x0080, "LO"), "Hospital of Somewhere");
    assert_eq!(at(0x0008, 0x1030, "LO"), "CT Thorax");
    let date = at(0x0008, 0x0020, "DA");
    assert!(date.len() == 8 && date != "20240102", "{date}");
    assert_eq!(at(0x0028, 0x0303, "CS"), "MODIFIED");
    let etag = strict.header("etag").to_owned();
    let server = server.restart(&[]).await;
    let basic = server.get(&wado("1.2.1.1.1")).await.is(200);
    assert_ne!(basic.header("etag"), etag);
    assert_eq!(value(&basic.body, 0x0008, 0x0020, "DA").as_deref(), Some(""));
}

#[tokio::test]
async fn the_audit_log_tells_that_it_was_de_identified() {
    let server = Server::with(&[("audit.reads", "always")]).await;
    server.store("/studies", &[ct("1.2.1.1.1").file()]).await.is(200);
    server.get(&wado("1.2.1.1.1")).await.is(200);
    server.get(&wado("1.2.1.1.1").replace("&anonymize=yes", "")).await.is(200);
    let reads = async || {
        let log = server.get("/audit?limit=100").await.is(200).json();
        let events: Vec<serde_json::Value> =
            log.as_array().unwrap().iter().map(|entry| entry["event"].clone()).collect();
        events.into_iter().filter(|event| event["route"] == "/wado").collect::<Vec<_>>()
    };
    until("both reads are there", async || reads().await.len() == 2).await;
    let told: Vec<_> = reads().await.iter().map(|event| event["detail"].clone()).collect();
    assert!(told.contains(&json!({ "deidentified": true })), "{told:?}");
    assert_eq!(told.iter().filter(|detail| detail["deidentified"] == true).count(), 1);
}
