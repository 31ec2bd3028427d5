//! Instances that come as metadata with their values beside it (PS3.18 §10.5.2).

use serde_json::{Value, json};

use super::{failed, items, others, stored, text};
use crate::{
    harness::{
        Answer, Dicom, PARTITIONS, Server,
        corpus::{AVC, HEVC, bytes_of, mp4, multipart_of},
    },
    retrieve::pixels::{Picture, lossless, lossy, picture, read, stored as image},
};

const JSON: &str = "application/dicom+json";
const XML: &str = "application/dicom+xml";
const OCTETS: &str = "application/octet-stream";
const INSTANCE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";

/// The header of a part for a value, behind the name of its first field.
fn at(media_type: &str, location: &str) -> String {
    format!("{media_type}\r\nContent-Location: {location}")
}

async fn post(server: &Server, path: &str, root: &str, parts: &[(String, Vec<u8>)]) -> Answer {
    let content_type = format!("multipart/related; type=\"{root}\"; boundary=frontier");
    let parts: Vec<(&str, &[u8])> = parts.iter().map(|(kind, body)| (&**kind, &**body)).collect();
    server.post(path, &content_type, multipart_of(&parts)).await
}

/// A data set of metadata that names no value.
fn metadata(instance: &str, more: &Value) -> Value {
    let mut data_set = json!({
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
        "00080018": {"vr": "UI", "Value": [instance]},
        "00100020": {"vr": "LO", "Value": ["PAT1"]},
        "0020000D": {"vr": "UI", "Value": ["1.2.1"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.1.1"]},
    });
    for (tag, attribute) in more.as_object().unwrap() {
        data_set[tag] = attribute.clone();
    }
    data_set
}

fn grey(rows: u16, columns: u16) -> Value {
    json!({
        "00280002": {"vr": "US", "Value": [1]},
        "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
        "00280010": {"vr": "US", "Value": [rows]},
        "00280011": {"vr": "US", "Value": [columns]},
        "00280100": {"vr": "US", "Value": [16]},
        "00280101": {"vr": "US", "Value": [16]},
        "00280102": {"vr": "US", "Value": [15]},
        "00280103": {"vr": "US", "Value": [0]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "pixels"},
    })
}

fn body(data_sets: &[Value]) -> (String, Vec<u8>) {
    (JSON.to_owned(), serde_json::to_vec(data_sets).unwrap())
}

/// All BulkDataURIs of a data set.
fn uris(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("BulkDataURI").map(|uri| uri.as_str().unwrap().to_owned()));
            members.values().for_each(|member| uris(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| uris(item, found)),
        _ => {}
    }
}

/// Sources of many kinds, one study each.
fn sources() -> Vec<Dicom> {
    let ct = |n: u32| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}"));
    let mut inner = Dicom::item();
    inner.bytes(0x0042, 0x0011, "OB", &[7; 5000]).text(0x0008, 0x0100, "SH", "T-1");
    let mut middle = Dicom::item();
    middle.sequence(0x0008, 0x1140, vec![Dicom::item(), inner]);
    let mut nested = ct(2);
    nested
        .text(0x0008, 0x0005, "CS", "ISO_IR 192")
        .text(0x0010, 0x0010, "PN", "Müller^Jörg=山田^太郎")
        .text(0x0009, 0x0010, "LO", "ACME")
        .bytes(0x0009, 0x1001, "UN", b"in here!")
        .bytes(0x0009, 0x1002, "OB", &[9; 6000])
        .text(0x0010, 0x1030, "DS", "70.50")
        .text(0x0010, 0x4000, "LT", "one\\two")
        .sequence(0x0040, 0xA730, vec![middle, Dicom::item()]);
    vec![ct(1), nested]
}

/// The metadata and values of all instances of `from`, stored again in `to`.
async fn sent_on(server: &Server, root: &str, from: &str, to: &str) -> Answer {
    let study = format!("/partitions/{from}/studies/1.2.1");
    let given = server.get_as(&format!("{study}/metadata"), JSON).await.is(200);
    let mut parts = Vec::new();
    if root == JSON {
        parts.push((JSON.to_owned(), given.body.to_vec()));
    } else {
        let accept = format!("multipart/related; type=\"{XML}\"");
        let documents = server.get_as(&format!("{study}/metadata"), &accept).await.is(200);
        parts.extend(documents.parts().into_iter().map(|part| (XML.to_owned(), part.body)));
    }
    let mut named = Vec::new();
    uris(&given.json(), &mut named);
    for uri in named {
        let accept = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*";
        let answer = server.get_as(&uri, accept).await.is(200);
        let given = answer.parts().into_iter();
        parts.extend(given.map(|part| (at(part.header("content-type"), &uri), part.body)));
    }
    post(server, &format!("/partitions/{to}/studies"), root, &parts).await
}

#[tokio::test]
async fn what_is_retrieved_can_be_stored_elsewhere_and_is_the_same() {
    let mut studies: Vec<Vec<Dicom>> = vec![sources()];
    for syntax in lossless().into_iter().chain(lossy()) {
        for (bits, samples) in [(8, 1), (8, 3), (16, 1)] {
            studies.extend(image(&picture(bits, samples, 2), syntax).map(|dicom| vec![dicom]));
        }
    }
    assert!(studies.len() > 20);
    for root in [JSON, XML] {
        let server = Server::with(&PARTITIONS).await;
        for (number, study) in studies.iter().enumerate() {
            let (from, to) = (format!("from{number}"), format!("to{number}"));
            let files: Vec<Vec<u8>> = study.iter().map(|dicom| dicom.file()).collect();
            server.store(&format!("/partitions/{from}/studies"), &files).await.is(200);
            let answer = sent_on(&server, root, &from, &to).await.is(200);
            assert_eq!(stored(&answer).len(), files.len());
            // Metadata, values and frames are equal.
            let both = [from, to].map(|partition| format!("/partitions/{partition}"));
            let mut metadata = Vec::new();
            for partition in &both {
                let path = format!("{partition}/studies/1.2.1/metadata");
                metadata.push(server.get(&path).await.is(200).text().replace(partition, ""));
            }
            assert_eq!(metadata[0], metadata[1], "{root}");
            let mut named = Vec::new();
            uris(&serde_json::from_str(&metadata[0]).unwrap(), &mut named);
            for uri in named {
                let uri = uri.strip_prefix(&server.base).unwrap().to_owned();
                let any = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*";
                let [one, other] = [
                    server.get_as(&format!("{}{uri}", both[0]), any).await.is(200),
                    server.get_as(&format!("{}{uri}", both[1]), any).await.is(200),
                ]
                .map(|answer| {
                    let parts = answer.parts().into_iter();
                    parts.map(|p| (p.header("content-type").to_owned(), p.body)).collect::<Vec<_>>()
                });
                assert_eq!(one, other, "{root} {uri}");
            }
        }
    }
}

#[tokio::test]
async fn a_plain_image_is_the_file_that_it_would_have_been() {
    let server = Server::with(&PARTITIONS).await;
    let ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    server.store("/partitions/a/studies", &[ct.file()]).await.is(200);
    for root in [JSON, XML] {
        let partition = if root == JSON { "json" } else { "xml" };
        sent_on(&server, root, "a", partition).await.is(200);
        let path = format!("/partitions/{partition}{INSTANCE}");
        let file = server.get_as(&path, "application/dicom").await.is(200).body;
        assert!(file.ends_with(&ct.data_set()), "{root}");
        assert_eq!(&file[128..132], b"DICM");
        // It is there like any other.
        let found = server.search(&format!("/partitions/{partition}/studies?PatientID=PAT1")).await;
        assert_eq!(found.len(), 1);
        // The same again is the same instance.
        sent_on(&server, root, "a", partition).await.is(200);
    }
}

#[tokio::test]
async fn many_instances_and_their_values_in_any_order() {
    let server = Server::start().await;
    let pixels = |n: u8| vec![n; 32];
    let data_set = |n: u8| {
        let mut more = grey(4, 4);
        more["7FE00010"]["BulkDataURI"] = json!(format!("p{n}"));
        more["00091001"] = json!({"vr": "OB", "BulkDataURI": format!("q{n}")});
        metadata(&format!("1.2.1.1.{n}"), &more)
    };
    let mut parts = vec![body(&(0..4).map(data_set).collect::<Vec<_>>())];
    for (name, n) in
        [("q", 0), ("p", 0), ("p", 2), ("p", 1), ("q", 1), ("q", 3), ("q", 2), ("p", 3)]
    {
        let value = if name == "p" { pixels(n) } else { vec![n, 1] };
        parts.push((at(OCTETS, &format!("{name}{n}")), value));
    }
    let answer = post(&server, "/studies", JSON, &parts).await.is(200);
    let mut all = stored(&answer);
    all.sort();
    assert_eq!(all, ["1.2.1.1.0", "1.2.1.1.1", "1.2.1.1.2", "1.2.1.1.3"]);
    for n in 0..4 {
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.{n}");
        let file = server.get_as(&path, "application/dicom").await.is(200).body;
        assert!(file.ends_with(&pixels(n)));
        let value = server.get_as(&format!("{path}/frames/1"), OCTETS).await.is(200);
        assert_eq!(value.body, pixels(n));
    }
    // The study of the URL counts, as for any other.
    let parts = [body(&[metadata("1.2.9", &json!({}))])];
    let answer = post(&server, "/studies/1.2.2", JSON, &parts).await.is(409);
    assert_eq!(failed(&answer), [("1.2.9".to_owned(), 0xA900)]);
    // One body without parts.
    let alone = serde_json::to_vec(&metadata("1.2.1.1.9", &json!({}))).unwrap();
    let answer = server.post("/studies", JSON, alone).await.is(200);
    assert_eq!(stored(&answer), ["1.2.1.1.9"]);
    // With members that the model does not have.
    let told =
        json!({"00081030": {"keyword": "StudyDescription", "vr": "LO", "Value": ["Thorax"]}});
    let alone = serde_json::to_vec(&metadata("1.2.1.2.9", &told)).unwrap();
    server.post("/studies", JSON, alone).await.is(200);
    let found = server.get("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.2.9/metadata").await;
    let kept = found.is(200).json();
    assert_eq!(kept[0]["00081030"], json!({"vr": "LO", "Value": ["Thorax"]}));
}

#[tokio::test]
async fn an_instance_with_a_flaw_fails_alone() {
    let server = Server::start().await;
    let wrong = [
        (json!({"00280010": {"vr": "US", "Value": ["many"]}}), 0xC000),
        (json!({"0020000D": {"vr": "UI", "Value": ["1..2"]}}), 0xA900),
        (json!({"0020000E": {"vr": "UI"}}), 0xA900),
        (json!({"00091001": {"vr": "OB", "BulkDataURI": "nowhere"}}), 0xC000),
        (
            json!({"00091001": {"vr": "OB", "BulkDataURI": "twice"},
                "00091002": {"vr": "OB", "BulkDataURI": "twice"}}),
            0xC000,
        ),
    ];
    for (more, reason) in &wrong {
        let fine = metadata("1.2.1.1.1", &json!({"00091001": {"vr": "OB", "BulkDataURI": "x"}}));
        let parts = [
            body(&[metadata("1.2.1.1.2", more), fine]),
            (at(OCTETS, "x"), vec![1, 2]),
            (at(OCTETS, "twice"), vec![1, 2]),
        ];
        let answer = post(&server, "/studies", JSON, &parts).await.is(202);
        assert_eq!(stored(&answer), ["1.2.1.1.1"], "{more}");
        assert_eq!(failed(&answer), [("1.2.1.1.2".to_owned(), *reason)], "{more}");
        let words = &items(&answer, "00081198")[0]["00741048"]["Value"][0]["00000902"]["Value"][0];
        assert!(words.as_str().unwrap().starts_with('('), "{words}");
    }
    // Without its UIDs it is none that could be named.
    let mut unknown = metadata("1.2.1.1.3", &json!({}));
    unknown.as_object_mut().unwrap().remove("00080018");
    let answer = post(&server, "/studies", JSON, &[body(&[unknown])]).await.is(409);
    assert_eq!((failed(&answer).len(), others(&answer)), (0, vec![0xA900]));
    assert_eq!(server.search("/instances").await.len(), 1);
}

#[tokio::test]
async fn parts_that_are_nobodys_or_too_many_are_told() {
    let server = Server::start().await;
    let data_set = || body(&[metadata("1.2.1.1.1", &grey(4, 4))]);
    let pixels = || (at(OCTETS, "pixels"), vec![5; 32]);
    let stray = || (at(OCTETS, "stray"), vec![5; 32]);
    // A part that nobody names.
    let answer = post(&server, "/studies", JSON, &[data_set(), stray(), pixels(), stray()]).await;
    assert_eq!(stored(&answer.is(202)).len(), 1);
    // The same value twice: it cannot be told which is meant.
    let answer = post(&server, "/studies", JSON, &[data_set(), pixels(), pixels()]).await.is(409);
    assert_eq!(failed(&answer), [("1.2.1.1.1".to_owned(), 0xA900)]);
    // Values before their metadata, instances beside metadata.
    let file = Dicom::ct("1.2.5", "1.2.5.1", "1.2.5.1.1").file();
    let parts = [data_set(), pixels(), ("application/dicom".to_owned(), file)];
    let answer = post(&server, "/studies", JSON, &parts).await.is(202);
    assert_eq!((stored(&answer).len(), others(&answer)), (1, vec![0xC000]));
    server.get("/studies/1.2.5").await.problem(404);
    // A part without a location.
    let parts = [data_set(), (OCTETS.to_owned(), vec![1]), pixels()];
    let answer = post(&server, "/studies", JSON, &parts).await.is(202);
    assert_eq!((stored(&answer).len(), others(&answer)), (1, vec![0xC000]));
}

#[tokio::test]
async fn pixel_data_must_be_what_the_metadata_says() {
    let server = Server::start().await;
    let jpeg = image(&picture(8, 1, 2), "1.2.840.10008.1.2.4.50").unwrap().file();
    let frames = read(&jpeg).frames();
    let part = |media_type: &str, value: &[u8]| (at(media_type, "pixels"), value.to_vec());
    let mut two = grey(24, 17);
    two["00280008"] = json!({"vr": "IS", "Value": [2]});
    let is_refused = async |more: &Value, parts: Vec<(String, Vec<u8>)>| {
        let all = [vec![body(&[metadata("1.2.1.1.1", more)])], parts].concat();
        let answer = post(&server, "/studies", JSON, &all).await.is(409);
        let (uid, reason) = failed(&answer).remove(0);
        assert_eq!(uid, "1.2.1.1.1");
        assert!([0xA900, 0xC000].contains(&reason), "{}", answer.text());
    };
    let jpeg_part = |n: usize| part("image/jpeg", &frames[n]);
    is_refused(&grey(4, 4), vec![part(OCTETS, &[0; 30])]).await;
    is_refused(&grey(4, 4), vec![part(OCTETS, &[0; 34])]).await;
    is_refused(&grey(4, 4), vec![jpeg_part(0)]).await;
    is_refused(&two, vec![jpeg_part(0)]).await;
    is_refused(&two, vec![jpeg_part(0), jpeg_part(1), jpeg_part(1)]).await;
    is_refused(&grey(24, 17), vec![part("image/jp2", &frames[0])]).await;
    is_refused(&grey(24, 17), vec![part("image/jpeg", b"no picture")]).await;
    is_refused(&grey(24, 17), vec![part("image/tiff", &frames[0])]).await;
    let lossless = "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70";
    is_refused(&grey(24, 17), vec![part(lossless, &frames[0])]).await;
    let short = format!("{OCTETS}\r\nContent-Length: 40\r\nContent-Location: pixels");
    is_refused(&grey(4, 4), vec![(short, vec![0; 32])]).await;
    // Frames come one part each.
    let all = [body(&[metadata("1.2.1.1.1", &two)]), jpeg_part(0), jpeg_part(1)];
    post(&server, "/studies", JSON, &all).await.is(200);
    let file = read(&server.get_as(INSTANCE, "application/dicom; transfer-syntax=*").await.body);
    assert_eq!((file.syntax.as_str(), file.frames()), ("1.2.840.10008.1.2.4.50", frames));
}

#[tokio::test]
async fn attributes_of_the_image_are_taken_from_its_pixels() {
    let server = Server::start().await;
    let mut tried = 0;
    for syntax in lossless().into_iter().chain(lossy()) {
        let told = [
            "4.50", "4.51", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "4.201", "4.203",
            "4.110",
        ];
        if !told.iter().any(|end| syntax == format!("1.2.840.10008.1.2.{end}")) {
            continue;
        }
        for (bits, samples) in [(8, 1), (8, 3), (16, 1)] {
            let source: Picture = picture(bits, samples, 1);
            let Some(dicom) = image(&source, syntax) else { continue };
            let expected = read(&dicom.file());
            let uid = format!("1.2.1.1.{tried}");
            tried += 1;
            let more = json!({"7FE00010": {"vr": "OB", "BulkDataURI": "pixels"}});
            let media_type = expected.media_type();
            let frame = expected.frames().remove(0);
            let parts = [body(&[metadata(&uid, &more)]), (at(media_type, "pixels"), frame.clone())];
            let answer = post(&server, "/studies", JSON, &parts).await;
            assert_eq!(answer.status, 200, "{syntax} {bits} {samples}: {}", answer.text());
            let path = format!("/studies/1.2.1/series/1.2.1.1/instances/{uid}");
            let file = server.get_as(&path, "application/dicom; transfer-syntax=*").await.is(200);
            let made = read(&file.body);
            assert_eq!(made.frames(), [frame], "{syntax}");
            assert_eq!(made.decoded(), expected.decoded(), "{syntax} {bits} {samples}");
            for element in [0x0002, 0x0010, 0x0011, 0x0100, 0x0103] {
                let [made, told] = [&made, &expected].map(|file| file.text(0x0028, element));
                assert_eq!(made, told, "{syntax} {bits} {samples} {element:04X}");
            }
        }
    }
    assert!(tried > 15, "{tried}");
}

#[tokio::test]
async fn a_video_is_one_part() {
    let server = Server::start().await;
    let mut more = grey(24, 17);
    more["00280008"] = json!({"vr": "IS", "Value": [30]});
    let stream: Vec<u8> = (0..999_u32).map(|n| n as u8).collect();
    let parts =
        [body(&[metadata("1.2.1.1.1", &more)]), (at("video/mpeg", "pixels"), stream.clone())];
    post(&server, "/studies", JSON, &parts).await.is(200);
    let any = "application/dicom; transfer-syntax=*";
    let made = read(&server.get_as(INSTANCE, any).await.is(200).body);
    assert_eq!(made.syntax, "1.2.840.10008.1.2.4.101");
    assert_eq!(made.frames(), [[stream, vec![0]].concat()]);
}

#[tokio::test]
async fn h264_and_hevc_tell_what_they_are() {
    let server = Server::start().await;
    let [main, ten] = HEVC.map(bytes_of);
    let mut high = main.clone();
    // Level 6.
    high[12] = 180;
    let video = |entry: &[u8; 4], configuration: &[u8]| match entry {
        b"avc1" => mp4(entry, (b"avcC", configuration)),
        _ => mp4(entry, (b"hvcC", configuration)),
    };
    let more = json!({"7FE00010": {"vr": "OB", "BulkDataURI": "pixels"}});
    let main_syntax = "video/H265; transfer-syntax=1.2.840.10008.1.2.4.107";
    let ten_syntax = "video/H265; transfer-syntax=1.2.840.10008.1.2.4.108";
    for (n, (media_type, stream, syntax, bits)) in [
        ("video/mp4", video(b"avc1", &AVC), "102", ("8", "8", "7")),
        ("video/H265", video(b"hvc1", &main), "107", ("8", "8", "7")),
        ("video/mp4", video(b"hev1", &main), "107", ("8", "8", "7")),
        ("video/H265", video(b"hvc1", &ten), "108", ("16", "10", "9")),
        (ten_syntax, video(b"hvc1", &main), "108", ("8", "8", "7")),
    ]
    .into_iter()
    .enumerate()
    {
        let uid = format!("1.2.1.1.{n}");
        let parts = [body(&[metadata(&uid, &more)]), (at(media_type, "pixels"), stream.clone())];
        let answer = post(&server, "/studies", JSON, &parts).await;
        assert_eq!(answer.status, 200, "{n}: {}", answer.text());
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/{uid}");
        let file = server.get_as(&path, "application/dicom; transfer-syntax=*").await.is(200);
        let made = read(&file.body);
        assert_eq!(made.syntax, format!("1.2.840.10008.1.2.4.{syntax}"));
        assert_eq!(made.frames()[0][..stream.len()], stream);
        let told =
            [0x0010, 0x0011, 0x0008, 0x0002, 0x0004].map(|element| made.text(0x0028, element));
        assert_eq!(told, ["54", "72", "50", "3", "YBR_PARTIAL_420"]);
        let told = [0x0100, 0x0101, 0x0102].map(|element| made.text(0x0028, element));
        assert_eq!(told, [bits.0, bits.1, bits.2], "{media_type}");
        assert_eq!(
            (made.text(0x0018, 0x1063), made.text(0x0028, 0x2110)),
            ("40.0".into(), "01".into())
        );
    }
    let mut wrong = more.clone();
    wrong["00280010"] = json!({"vr": "US", "Value": [55]});
    for (media_type, stream, more) in [
        // Ten bits are not of Main; what is of neither; H.264 is no HEVC; and another height.
        (main_syntax, video(b"hvc1", &ten), &more),
        ("video/H265", video(b"hvc1", &high), &more),
        (ten_syntax, video(b"hvc1", &high), &more),
        ("video/H265", video(b"avc1", &AVC), &more),
        ("video/H265", video(b"hvc1", &main), &wrong),
    ] {
        let parts = [body(&[metadata("1.2.1.1.99", more)]), (at(media_type, "pixels"), stream)];
        let answer = post(&server, "/studies", JSON, &parts).await.is(409);
        assert_eq!(failed(&answer), [("1.2.1.1.99".to_owned(), 0xA900)], "{media_type}");
    }
}

#[tokio::test]
async fn png_and_gif_become_native_frames() {
    let server = Server::start().await;
    let source = picture(8, 1, 1);
    let file = image(&source, "1.2.840.10008.1.2.1").unwrap().file();
    server.store("/studies", &[file]).await.is(200);
    let frames: Vec<u8> = source.frames.concat();
    let colours: Vec<u8> = frames.iter().flat_map(|grey| [*grey; 3]).collect();
    for (n, (media_type, samples, pixels)) in
        [("image/png", 1, &frames), ("image/gif", 3, &colours)].into_iter().enumerate()
    {
        let rendered = format!("{INSTANCE}/rendered");
        let rendered = server.get_as(&rendered, media_type).await.is(200).body;
        let uid = format!("1.2.1.1.10{n}");
        let more = json!({"7FE00010": {"vr": "OW", "BulkDataURI": "pixels"}});
        let parts = [body(&[metadata(&uid, &more)]), (at(media_type, "pixels"), rendered.to_vec())];
        post(&server, "/studies", JSON, &parts).await.is(200);
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/{uid}");
        let made = read(&server.get_as(&path, "application/dicom").await.is(200).body);
        assert_eq!(made.text(0x0028, 0x0002), samples.to_string(), "{media_type}");
        assert_eq!(
            (made.text(0x0028, 0x0010), made.text(0x0028, 0x0011)),
            ("24".into(), "17".into())
        );
        assert_eq!(&made.frames()[0], pixels, "{media_type}");
        let mut wrong = more.clone();
        wrong["00280010"] = json!({"vr": "US", "Value": [5]});
        let broken = (at(media_type, "pixels"), b"nothing of the kind".to_vec());
        let parts = [body(&[metadata("1.2.1.1.200", &wrong)]), broken];
        let answer = post(&server, "/studies", JSON, &parts).await.is(409);
        assert_eq!(failed(&answer), [("1.2.1.1.200".to_owned(), 0xA900)]);
    }
}

#[tokio::test]
async fn documents_say_what_they_are() {
    let server = Server::start().await;
    for (n, (media_type, document)) in [
        ("application/pdf", &b"%PDF-1.7 and so on"[..]),
        ("text/xml", b"<ClinicalDocument/>"),
        ("model/stl", b"solid"),
    ]
    .into_iter()
    .enumerate()
    {
        let uid = format!("1.2.1.1.{n}");
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/{uid}");
        let more = json!({"00420011": {"vr": "OB", "BulkDataURI": "document"}});
        let part = (at(media_type, "document"), document.to_vec());
        let parts = [body(&[metadata(&uid, &more)]), part.clone()];
        post(&server, "/studies", JSON, &parts).await.is(200);
        let data_set = &server.get(&format!("{path}/metadata")).await.is(200).json()[0];
        assert_eq!(text(data_set, "00420012"), media_type);
        assert_eq!(data_set["00420015"]["Value"], json!([document.len()]));
        // One that says otherwise.
        let mut more = more.clone();
        more["00420012"] = json!({"vr": "LO", "Value": ["application/msword"]});
        let parts = [body(&[metadata("1.2.1.1.99", &more)]), part];
        let answer = post(&server, "/studies", JSON, &parts).await.is(409);
        assert_eq!(failed(&answer), [("1.2.1.1.99".to_owned(), 0xA900)]);
    }
}

#[tokio::test]
async fn malformed_metadata_and_limits() {
    let server =
        Server::with(&[("limits.staged_bytes", "16KiB"), ("limits.element_depth", "2")]).await;
    for (root, bad) in [(JSON, "[{]"), (JSON, "\u{1}"), (XML, "<a/>"), (XML, "")] {
        let parts = [(root.to_owned(), bad.as_bytes().to_vec())];
        post(&server, "/studies", root, &parts).await.problem(400);
    }
    let many: Vec<Value> = (0..200).map(|n| metadata(&format!("1.2.3.{n}"), &json!({}))).collect();
    let answer = post(&server, "/studies", JSON, &[body(&many)]).await;
    let problem = answer.problem(413);
    assert!(problem.to_string().contains("limits.staged_bytes"), "{problem}");
    // What was stored before stays.
    let parts = [body(&[metadata("1.2.1.1.1", &json!({}))]), (JSON.to_owned(), b"[{]".to_vec())];
    let answer = post(&server, "/studies", JSON, &parts).await.is(202);
    assert_eq!((stored(&answer).len(), others(&answer)), (1, vec![0xC000]));
    // A value that has to wait and is too long for that fails its instance alone.
    let mut more = grey(100, 100);
    more["00091001"] = json!({"vr": "OB", "BulkDataURI": "first"});
    let fine = || body(&[metadata("1.2.1.1.2", &more)]);
    let (first, pixels) =
        ((at(OCTETS, "first"), vec![1, 2]), (at(OCTETS, "pixels"), vec![0; 20_000]));
    let parts = [fine(), pixels.clone(), first.clone()];
    let problem = post(&server, "/studies", JSON, &parts).await.problem(413);
    assert!(problem.to_string().contains("limits.staged_bytes"), "{problem}");
    // Beside one that is stored, and one that fails for something else.
    let whole = body(&[metadata("1.2.1.1.1", &json!({}))]);
    let all = [&[whole][..], &parts].concat();
    let answer = post(&server, "/studies", JSON, &all).await.is(202);
    assert_eq!(failed(&answer), [("1.2.1.1.2".to_owned(), 0xA700)]);
    let wrong = body(&[metadata("1.2.1.1.4", &json!({"00280010": {"vr": "LO"}}))]);
    let all = [&[wrong][..], &parts].concat();
    let answer = post(&server, "/studies", JSON, &all).await.is(409);
    let reasons: Vec<u64> = failed(&answer).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, [0xC000, 0xA700]);
    post(&server, "/studies", JSON, &[fine(), first, pixels]).await.is(200);
    let deep = json!({"00400260": {"vr": "SQ", "Value": [{"00400260": {"vr": "SQ", "Value": [
        {"00400260": {"vr": "SQ", "Value": [{}]}}]}}]}});
    let answer = post(&server, "/studies", JSON, &[body(&[metadata("1.2.1.1.3", &deep)])]).await;
    assert_eq!(failed(&answer.is(409)).len(), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_keeps_what_was_whole() {
    let server = Server::start().await;
    let data_set = |n: u8| {
        let mut more = grey(4, 4);
        more["7FE00010"]["BulkDataURI"] = json!(format!("p{n}"));
        metadata(&format!("1.2.1.1.{n}"), &more)
    };
    let (_, json) = body(&[data_set(1), data_set(2), data_set(3)]);
    let (one, two) = (at(OCTETS, "p1"), at(OCTETS, "p2"));
    let parts: [(&str, &[u8]); 3] = [(JSON, &json), (&one, &[1; 32]), (&two, &[2; 32])];
    let mut all = multipart_of(&parts);
    all.truncate(all.len() - 30);
    let content_type = format!("multipart/related; type=\"{JSON}\"; boundary=frontier");
    let answer = server.post("/studies", &content_type, all).await.is(202);
    assert_eq!(stored(&answer), ["1.2.1.1.1"]);
    let names: Vec<String> = failed(&answer).into_iter().map(|(uid, _)| uid).collect();
    assert_eq!(
        (names.as_slice(), others(&answer)),
        (&["1.2.1.1.2".to_owned(), "1.2.1.1.3".to_owned()][..], vec![0xC000])
    );
    assert_eq!(server.search("/instances").await.len(), 1);
}
