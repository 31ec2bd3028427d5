//! Non-Patient Instances (PS3.18 chapter 12).

use serde_json::Value;

use crate::harness::{Answer, Dicom, PARTITIONS, Server, until};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const XML: &str = "application/dicom+xml";

/// Each resource with a SOP class of it.
const CATEGORIES: [(&str, &str); 6] = [
    ("color-palettes", "1.2.840.10008.5.1.4.39.1"),
    ("hanging-protocols", "1.2.840.10008.5.1.4.38.1"),
    ("defined-procedure-protocols", "1.2.840.10008.5.1.4.1.1.200.1"),
    ("implant-templates", "1.2.840.10008.5.1.4.43.1"),
    ("inventories", "1.2.840.10008.5.1.4.1.1.201.1"),
    ("protocol-approvals", "1.2.840.10008.5.1.4.1.1.200.3"),
];

fn instance(class: &str, uid: &str) -> Dicom {
    let mut dicom = Dicom::item();
    dicom.text(0x0008, 0x0016, "UI", class).text(0x0008, 0x0018, "UI", uid);
    dicom
}

fn palette(uid: &str, label: &str) -> Dicom {
    let mut palette = instance(CATEGORIES[0].1, uid);
    palette.text(0x0070, 0x0080, "CS", label).text(0x0070, 0x0084, "PN", "Doe^Jane").words(
        0x0028,
        0x1201,
        "OW",
        (0..256).collect(),
    );
    palette
}

fn protocol(uid: &str, name: &str, modality: &str, date: &str) -> Dicom {
    let mut definition = Dicom::item();
    definition.text(0x0008, 0x0060, "CS", modality);
    let mut protocol = instance(CATEGORIES[1].1, uid);
    protocol
        .text(0x0072, 0x0002, "SH", name)
        .text(0x0072, 0x0006, "CS", "SITE")
        .text(0x0072, 0x000A, "DT", date)
        .sequence(0x0072, 0x000C, vec![definition])
        .short(0x0072, 0x0014, 1);
    protocol
}

/// The SOP Instance UIDs of results.
fn uids(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| result["00080018"]["Value"][0].as_str().unwrap()).collect()
}

fn reason(answer: &Answer) -> u64 {
    answer.json()["00081198"]["Value"][0]["00081197"]["Value"][0].as_u64().unwrap()
}

#[tokio::test]
async fn each_category_stores_gives_finds_and_deletes_its_own() {
    let server = Server::start().await;
    for (at, (category, class)) in CATEGORIES.into_iter().enumerate() {
        let (list, one) = (format!("/{category}"), format!("/{category}/1.2.{at}"));
        server.get(&list).await.is(204);
        server.get(&one).await.problem(404);
        let file = instance(class, &format!("1.2.{at}")).file();
        let stored = server.store(&list, &[file.clone()]).await.is(200);
        let item = &stored.json()["00081199"]["Value"][0];
        assert_eq!(item["00081150"]["Value"][0], *class);
        let url = item["00081190"]["Value"][0].as_str().unwrap().to_owned();
        assert!(url.ends_with(&one), "{url}");
        assert_eq!(stored.header("location"), url);
        // Again is no change, by either path.
        server.store(&list, &[file.clone()]).await.is(200);
        server.post(&one, "application/dicom", file.clone()).await.is(200);

        let given = server.get_as(&url, "application/dicom").await.is(200);
        assert_eq!(given.body, file);
        let content_type = format!("application/dicom; transfer-syntax={EXPLICIT}");
        assert_eq!(given.header("content-type"), content_type);
        assert_eq!(given.header("content-location"), url);
        let parts = "multipart/related; type=\"application/dicom\"";
        assert_eq!(server.get_as(&one, parts).await.is(200).bodies(), [file.clone()]);
        let json = server.get(&one).await.is(200);
        assert_eq!(json.header("content-type"), "application/dicom+json");
        assert_eq!(json.json()[0]["00080016"]["Value"][0], *class);
        let xml = server.get_as(&one, XML).await.is(200);
        assert!(xml.text().contains("keyword=\"SOPInstanceUID\""), "{}", xml.text());
        let documents = format!("multipart/related; type=\"{XML}\"");
        assert_eq!(server.get_as(&one, &documents).await.is(200).parts()[0].body, xml.body);
        server.get_as(&one, "image/png").await.problem(406);
        let tag = json.header("etag").to_owned();
        server.get_with(&one, &[("if-none-match", &tag)]).await.is(304);

        let found = server.search(&list).await;
        assert_eq!(uids(&found), [format!("1.2.{at}")]);
        assert_eq!(found[0]["00081190"]["Value"][0], url);
        for (other, _) in CATEGORIES.into_iter().filter(|(other, _)| *other != category) {
            server.get(&format!("/{other}/1.2.{at}")).await.problem(404);
            server.delete(&format!("/{other}/1.2.{at}")).await.problem(404);
            let refused = server.store(&format!("/{other}"), &[file.clone()]).await.is(409);
            assert_eq!(reason(&refused), 0xA900);
        }
    }
    for (at, (category, _)) in CATEGORIES.into_iter().enumerate() {
        let one = format!("/{category}/1.2.{at}");
        server.delete(&one).await.is(204);
        server.get(&one).await.problem(404);
        server.delete(&one).await.problem(404);
        server.get(&format!("/{category}")).await.is(204);
    }
    // No study came of it, and no event.
    server.get("/studies").await.is(204);
    assert_eq!(server.count("SELECT count(*) FROM change_feed").await, 0);
}

#[tokio::test]
async fn what_cannot_be_stored_fails_alone() {
    let server = Server::start().await;
    let palette = |uid: &str, label: &str| palette(uid, label).file();
    let ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let answer =
        server.store("/color-palettes", &[palette("1.2.1", "A"), ct, b"no DICOM".to_vec()]).await;
    let answer = answer.is(202).json();
    assert_eq!(answer["00081199"]["Value"].as_array().unwrap().len(), 1);
    assert_eq!(answer["00081198"]["Value"].as_array().unwrap().len(), 1);
    assert_eq!(answer["0008119A"]["Value"].as_array().unwrap().len(), 1);
    // Other bytes under the same UID, and another than the path says.
    let refused = server.store("/color-palettes", &[palette("1.2.1", "B")]).await.is(409);
    assert_eq!(reason(&refused), 0x0111);
    let refused = server.store("/color-palettes/1.2.3", &[palette("1.2.2", "A")]).await.is(409);
    assert_eq!(reason(&refused), 0xA900);
    server.post("/color-palettes", "text/plain", b"x".to_vec()).await.problem(415);
    server.post("/color-palettes/x", "application/dicom", palette("1.2.3", "A")).await.problem(400);
    server.store("/studies", &[palette("1.2.5", "A")]).await.is(409);
    assert_eq!(uids(&server.search("/color-palettes").await), ["1.2.1"]);
    // What came to nothing left nothing.
    assert_eq!(server.blobs("microsoft.default").len(), 1);
}

#[tokio::test]
async fn other_transfer_syntaxes_are_made_explicit_unless_they_are_asked_for() {
    let server = Server::start().await;
    let file = palette("1.2.1", "A").syntax(IMPLICIT).file();
    server.store("/color-palettes", &[file.clone()]).await.is(200);
    let one = "/color-palettes/1.2.1";
    let given = server.get_as(one, "application/dicom").await.is(200);
    let expected = format!("application/dicom; transfer-syntax={EXPLICIT}");
    assert_eq!(given.header("content-type"), expected);
    assert_ne!(given.body, file);
    let stored = server.get_as(one, "application/dicom; transfer-syntax=*").await.is(200);
    assert_eq!(stored.body, file);
    let jpeg = "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50";
    let refused = server.get_as(one, jpeg).await.problem(406);
    assert!(refused["available"].to_string().contains(EXPLICIT), "{refused}");
}

#[tokio::test]
async fn bulk_values_are_named_and_given() {
    let server = Server::with(&[("limits.bulk_threshold", "64")]).await;
    server.store("/color-palettes", &[palette("1.2.1", "A").file()]).await.is(200);
    let metadata = server.get("/color-palettes/1.2.1").await.is(200).json();
    let uri = metadata[0]["00281201"]["BulkDataURI"].as_str().unwrap();
    let value: Vec<u8> = (0..256_u16).flat_map(u16::to_le_bytes).collect();
    let given = server.get_as(uri, "application/octet-stream").await.is(200);
    assert_eq!(given.body, value);
    assert_eq!(server.get(uri).await.is(200).bodies(), [value.clone()]);
    let range = [("range", "bytes=2-5"), ("accept", "application/octet-stream")];
    assert_eq!(server.get_with(uri, &range).await.is(206).body, value[2..6]);
    server.get("/color-palettes/1.2.1/bulkdata/00281202").await.problem(404);
    server.get("/hanging-protocols/1.2.1/bulkdata/00281201").await.problem(404);
    server.get_as(uri, "image/png").await.problem(406);
}

#[tokio::test]
async fn searches_match_any_attribute_and_turn_pages() {
    let server = Server::start().await;
    let all = [
        protocol("1.2.1", "CHEST", "CT", "20240101120000"),
        protocol("1.2.2", "CHEST LATERAL", "DX", "20240201120000"),
        protocol("1.2.3", "HEAD", "MR", "20240301120000"),
    ];
    let files: Vec<Vec<u8>> = all.iter().map(Dicom::file).collect();
    server.store("/hanging-protocols", &files).await.is(200);
    for (query, expected) in [
        ("", &["1.2.1", "1.2.2", "1.2.3"][..]),
        ("HangingProtocolName=CHEST", &["1.2.1"]),
        ("HangingProtocolName=CHEST*", &["1.2.1", "1.2.2"]),
        ("00720006=SITE&HangingProtocolName=HE?D", &["1.2.3"]),
        ("HangingProtocolDefinitionSequence.Modality=DX", &["1.2.2"]),
        ("SOPInstanceUID=1.2.1,1.2.3", &["1.2.1", "1.2.3"]),
        ("HangingProtocolCreationDateTime=20240115-20240215", &["1.2.2"]),
        ("NumberOfPriorsReferenced=1&limit=2", &["1.2.1", "1.2.2"]),
        ("NumberOfPriorsReferenced=1&limit=2&offset=2", &["1.2.3"]),
        ("limit=1&offset=1", &["1.2.2"]),
        ("HangingProtocolName=NECK", &[]),
    ] {
        let found = server.search(&format!("/hanging-protocols?{query}")).await;
        assert_eq!(uids(&found), expected, "{query}");
    }
    let page = server.get("/hanging-protocols?limit=2").await.is(200);
    assert!(page.header("warning").contains("There are 1 additional results"));
    let page = server.get("/hanging-protocols?HangingProtocolLevel=SITE&limit=1").await.is(200);
    assert!(page.header("warning").contains("There are 2 additional results"));
    // The keys of the information model come unasked, others where they are asked for.
    let found = &server.search("/hanging-protocols?SOPInstanceUID=1.2.1").await[0];
    assert_eq!(found["00720002"]["Value"][0], "CHEST");
    assert_eq!(found["0072000C"]["Value"][0]["00080060"]["Value"][0], "CT");
    let palette = palette("1.2.9", "A").text(0x0008, 0x0070, "LO", "Maker").file();
    server.store("/color-palettes", &[palette]).await.is(200);
    let maker = async |query: &str| {
        server.search(&format!("/color-palettes?{query}")).await[0].get("00080070").is_some()
    };
    assert!(!maker("").await && maker("includefield=Manufacturer").await);
    assert!(maker("includefield=all").await && maker("Manufacturer=Maker").await);
    let xml = format!("multipart/related; type=\"{XML}\"");
    let documents = server.get_as("/hanging-protocols", &xml).await.is(200).parts();
    assert_eq!(documents.len(), 3);
    server.get("/hanging-protocols?limit=x").await.problem(400);
    let ignored = server.get("/hanging-protocols?NoSuchThing=1").await.is(200);
    assert!(ignored.header("warning").contains("NoSuchThing"));
}

#[tokio::test]
async fn a_search_looks_into_no_more_than_it_may() {
    let server = Server::with(&[("search.max_filtered", "2")]).await;
    let files: Vec<Vec<u8>> = (1..=3).map(|n| palette(&format!("1.2.{n}"), "A").file()).collect();
    server.store("/color-palettes", &files).await.is(200);
    let problem = server.get("/color-palettes?ContentLabel=A").await.problem(413);
    assert_eq!(problem["errors"][0]["field"], "ContentLabel");
    assert_eq!(server.search("/color-palettes").await.len(), 3);
}

#[tokio::test]
async fn each_partition_has_its_own() {
    let server = Server::with(&PARTITIONS).await;
    for (partition, label) in [("north", "N"), ("south", "S")] {
        let path = format!("/partitions/{partition}/color-palettes");
        server.store(&path, &[palette("1.2.1", label).file()]).await.is(200);
    }
    for (partition, label) in [("north", "N"), ("south", "S")] {
        let path = format!("/partitions/{partition}/color-palettes");
        let found = server.search(&path).await;
        assert_eq!(found[0]["00700080"]["Value"][0], label);
        assert!(found[0]["00081190"]["Value"][0].as_str().unwrap().contains(&path));
    }
    for path in ["/color-palettes", "/color-palettes/1.2.1"] {
        server.get(path).await.problem(400);
    }
    server.store("/color-palettes", &[palette("1.2.2", "A").file()]).await.problem(400);
    server.delete("/partitions/north/color-palettes/1.2.1").await.is(204);
    server.get("/partitions/south/color-palettes/1.2.1").await.is(200);
}

/// What lives is known to the sweeper, to verify and to storage commitment; what was deleted goes.
#[tokio::test]
async fn their_blobs_are_known_and_go_with_them() {
    let short = [("sweep.interval", "1s"), ("delete.grace_period", "0s")];
    let server = Server::with(&short).await;
    server.store("/color-palettes", &[palette("1.2.1", "A").file()]).await.is(200);
    server.store("/color-palettes", &[palette("1.2.2", "B").file()]).await.is(200);
    let named =
        "SELECT count(*) FROM blob b JOIN non_patient_instance n USING (partition_id, blob_id)";
    assert_eq!(server.count(named).await, 2);
    let body = format!(
        r#"{{"00081199":{{"vr":"SQ","Value":[{{
            "00081150":{{"vr":"UI","Value":["{}"]}},
            "00081155":{{"vr":"UI","Value":["1.2.1"]}}}}]}}}}"#,
        CATEGORIES[0].1
    );
    let path = "/commitment-requests/1.9.1";
    server.post(path, "application/dicom+json", body.into_bytes()).await;
    until("it is checked", async || server.get(path).await.status == 200).await;
    assert!(server.get(path).await.json().get("00081199").is_some());
    assert_eq!(server.blobs("microsoft.default").len(), 2);
    server.delete("/color-palettes/1.2.1").await.is(204);
    until("its blob is gone", async || server.blobs("microsoft.default").len() == 1).await;
    server.get("/color-palettes/1.2.2").await.is(200);
    let left = "SELECT (SELECT count(*) FROM blob) + (SELECT count(*) FROM blob_removal)";
    until("its rows are gone", async || server.count(left).await == 1).await;
}
