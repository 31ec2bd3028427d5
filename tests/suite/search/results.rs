//! What is returned of each match (PS3.18 Tables 10.6.3-3 to -5).

use serde_json::json;

use super::{filled, tags};
use crate::harness::{Dicom, Server};

const STUDY: [&str; 16] = [
    "00080020", "00080030", "00080050", "00080056", "00080061", "00080090", "00081190", "00100010",
    "00100020", "00100030", "00100040", "0020000D", "00200010", "00201206", "00201208", "00080005",
];
const SERIES: [&str; 5] = ["00080060", "0020000E", "00200011", "00201209", "00081190"];
const INSTANCE: [&str; 9] = [
    "00080016", "00080018", "00080056", "00081190", "00200013", "00280010", "00280011", "00280100",
    "00081190",
];

#[tokio::test]
async fn each_resource_returns_its_levels() {
    let server = filled().await;
    for (path, levels) in [
        ("/studies?PatientID=PAT-1", vec![&STUDY[..]]),
        ("/studies/1.2.1/series", vec![&SERIES[..]]),
        ("/series?PatientID=PAT-1", vec![&STUDY[..], &SERIES[..]]),
        ("/studies/1.2.1/series/1.2.1.1/instances", vec![&INSTANCE[..]]),
        ("/studies/1.2.1/instances", vec![&SERIES[..], &INSTANCE[..]]),
        ("/instances?PatientID=PAT-1", vec![&STUDY[..], &SERIES[..], &INSTANCE[..]]),
    ] {
        let results = server.search(path).await;
        for result in &results {
            let tags = tags(result);
            for tag in levels.iter().copied().flatten() {
                assert!(tags.contains(*tag), "{path} without {tag}: {result}");
            }
            assert!(result["00081190"]["Value"][0].is_string());
            // Attributes ascend.
            let keys: Vec<_> = result.as_object().unwrap().keys().collect();
            assert!(keys.is_sorted(), "{keys:?}");
        }
        // Study attributes only where the path does not name the study.
        if !levels.contains(&&STUDY[..]) {
            assert!(!tags(&results[0]).contains("00100010"), "{path}");
        }
    }
    let study = &server.search("/studies?PatientID=PAT-1").await[0];
    assert_eq!(study["00080061"]["Value"], json!(["CT", "PT"]));
    assert_eq!(study["00201206"]["Value"], json!([2]));
    assert_eq!(study["00201208"]["Value"], json!([4]));
    assert_eq!(study["00100010"]["Value"], json!([{"Alphabetic": "Müller^Jörg"}]));
    assert_eq!(study["00080056"]["Value"], json!(["ONLINE"]));
    // RetrieveURLs lead to what they name.
    for path in ["/studies", "/series", "/instances"] {
        let result = &server.search(&format!("{path}?PatientID=PAT-2")).await[0];
        server.get(result["00081190"]["Value"][0].as_str().unwrap()).await.is(200);
    }
}

#[tokio::test]
async fn required_attributes_are_there_though_empty() {
    let server = Server::start().await;
    let mut bare = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    for (group, element) in [
        (0x08, 0x20),
        (0x08, 0x30),
        (0x08, 0x50),
        (0x08, 0x60),
        (0x10, 0x10),
        (0x10, 0x20),
        (0x20, 0x11),
        (0x20, 0x13),
    ] {
        bare.remove(group, element);
    }
    server.store("/studies", &[bare.file()]).await.is(200);
    let result = &server.search("/instances").await[0];
    for (tag, vr) in [
        ("00080020", "DA"),
        ("00080030", "TM"),
        ("00080050", "SH"),
        ("00080090", "PN"),
        ("00100010", "PN"),
        ("00100020", "LO"),
        ("00100030", "DA"),
        ("00100040", "CS"),
        ("00200010", "SH"),
        ("00080060", "CS"),
        ("00200011", "IS"),
        ("00200013", "IS"),
    ] {
        assert_eq!(result[tag], json!({"vr": vr}), "{tag}");
    }
    assert_eq!(server.search("/studies").await[0]["00080061"], json!({"vr": "CS"}));
    // Conditional ones are not.
    assert!(result.get("0008103E").is_none() && result.get("00280008").is_none());
}

#[tokio::test]
async fn includefield_adds_and_all_adds_all() {
    let server = filled().await;
    for query in [
        "includefield=StudyDescription&includefield=00080062",
        "includefield=StudyDescription,SOPClassesInStudy",
        "includefield=00081030,00080062",
    ] {
        let result = &server.search(&format!("/studies?PatientID=PAT-1&{query}")).await[0];
        assert_eq!(result["00081030"]["Value"], json!(["Head [AXIAL]"]), "{query}");
        let mut classes = result["00080062"]["Value"].as_array().unwrap().clone();
        classes.sort_by_key(ToString::to_string);
        assert_eq!(classes.len(), 2, "{query}");
    }
    let all = &server.search("/instances?SOPInstanceUID=1.2.1.1.1&includefield=all").await[0];
    for tag in ["00081030", "00280002", "00280004", "00080062", "00083002"] {
        assert!(tags(all).contains(tag), "{tag} in {all}");
    }
    assert_eq!(all["00083002"]["Value"], json!(["1.2.840.10008.1.2.1"]));
    // Whatever the instance has can be asked for, known to the index or not.
    let path = "/instances?SOPInstanceUID=1.2.1.1.1&includefield=BitsStored,00280102,PixelSpacing";
    let result = &server.search(path).await[0];
    assert_eq!(result["00280101"]["Value"], json!([16]));
    assert_eq!(result["00280102"]["Value"], json!([15]));
    assert!(result.get("00280030").is_none(), "what it does not have is not made up");
}

#[tokio::test]
async fn as_xml_one_part_for_each_result() {
    let server = filled().await;
    let accept = "multipart/related; type=\"application/dicom+xml\"";
    let json = server.search("/studies?StudyDate=20240102").await;
    let path = "/studies?StudyDate=20240102";
    let answer = server.get_as(path, accept).await.is(200);
    let parts = answer.parts();
    assert_eq!(parts.len(), json.len());
    for (part, result) in parts.iter().zip(&json) {
        assert_eq!(part.header("content-type"), "application/dicom+xml");
        assert_eq!(part.header("content-location"), "");
        let text = String::from_utf8(part.body.clone()).unwrap();
        let attributes = text.matches("<DicomAttribute ").count();
        assert_eq!(attributes, result.as_object().unwrap().len(), "{text}");
        let id = result["00100020"]["Value"][0].as_str().unwrap();
        assert!(text.contains(&format!("keyword=\"PatientID\"><Value number=\"1\">{id}</Value>")));
    }
    assert_eq!(server.get_as(path, accept).await.body, answer.body, "the same the next time");

    // More than a page of rows, told as with JSON; and nothing at all.
    let answer = server.get_as("/instances?limit=3&offset=1", accept).await.is(200);
    assert_eq!(answer.parts().len(), 3);
    assert!(answer.header("warning").contains("12 additional results"), "{:?}", answer.headers);
    server.get_as("/studies?PatientID=none", accept).await.is(204);
    server.get_as("/studies", "application/dicom+xml").await.problem(406);
    let latin = [("accept-charset", "iso-8859-1")];
    let answer = server.get_with("/studies?PatientID=PAT-1", &latin).await.is(200);
    assert!(answer.body.is_ascii());
    assert_eq!(answer.json(), server.get("/studies?PatientID=PAT-1").await.json());
    let server = server.restart(&[("search.no_match", "200")]).await;
    assert!(server.get_as("/studies?PatientID=none", accept).await.is(200).body.starts_with(b"--"));
}
