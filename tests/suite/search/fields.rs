//! `includefield` in all its forms (PS3.18 §8.3.4.3), and attributes that differ inside a study.

use serde_json::json;

use super::{filled, tags};
use crate::harness::{Dicom, Server};

async fn nested() -> Server {
    let server = Server::start().await;
    let code = |value: &str| {
        let mut item = Dicom::item();
        item.text(0x0008, 0x0100, "SH", value)
            .text(0x0008, 0x0102, "SH", "SRT")
            .text(0x0008, 0x0104, "LO", "Meaning")
            .text(0x0023, 0x0010, "LO", "ACME")
            .text(0x0023, 0x1007, "LO", "inner");
        item
    };
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    ct.sequence(0x0008, 0x1032, vec![code("A"), code("B")])
        .sequence(0x0040, 0x0555, vec![code("C")])
        .text(0x0023, 0x0010, "LO", "ACME")
        .text(0x0023, 0x1001, "LO", "outer")
        .text(0x0023, 0x1002, "LO", "other");
    server.store("/studies", &[ct.file()]).await.is(200);
    server
}

#[tokio::test]
async fn paths_return_what_they_name_of_items() {
    let server = nested().await;
    for query in [
        "includefield=ProcedureCodeSequence.CodeValue,00081032.00080102",
        "includefield=00081032.CodeValue&includefield=ProcedureCodeSequence.CodingSchemeDesignator",
    ] {
        for path in ["/studies", "/series", "/instances"] {
            let result = &server.search(&format!("{path}?{query}")).await[0];
            let item = |value: &str| {
                json!({
                    "00080100": {"vr": "SH", "Value": [value]},
                    "00080102": {"vr": "SH", "Value": ["SRT"]},
                })
            };
            let expected = json!({"vr": "SQ", "Value": [item("A"), item("B")]});
            assert_eq!(result["00081032"], expected, "{path} {query}");
        }
    }
    // All of it, where all of it is asked for; nothing of what is not there.
    let whole = &server
        .search("/studies?includefield=ProcedureCodeSequence.CodeValue,ProcedureCodeSequence")
        .await[0];
    assert_eq!(whole["00081032"]["Value"][1]["00080104"]["Value"], json!(["Meaning"]));
    let none =
        &server.search("/studies?includefield=PatientID.CodeValue,00081110.00080100").await[0];
    assert_eq!(none["00100020"]["Value"], json!(["PAT1"]));
    assert!(none.get("00081110").is_none());
    // What only the instance has.
    let result = &server.search("/instances?includefield=00400555.00080100").await[0];
    assert_eq!(
        result["00400555"],
        json!({"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["C"]}}]})
    );
}

#[tokio::test]
async fn private_attributes_come_with_their_creator() {
    let server = nested().await;
    // In whatever block the client thinks it is.
    let path = "/instances?00230012=ACME&includefield=00231201,00081032.00231207";
    let answer = server.get(path).await.is(200);
    assert_eq!(answer.header("warning"), "");
    let result = &answer.json()[0];
    assert_eq!(result["00230010"]["Value"], json!(["ACME"]));
    assert_eq!(result["00231001"]["Value"], json!(["outer"]));
    assert!(result.get("00231002").is_none());
    assert_eq!(
        result["00081032"]["Value"][0],
        json!({
            "00230010": {"vr": "LO", "Value": ["ACME"]},
            "00231007": {"vr": "LO", "Value": ["inner"]},
        })
    );
    let foreign = &server.search("/instances?00230010=NOBODY&includefield=00231001").await[0];
    assert!(!tags(foreign).iter().any(|tag| tag.starts_with("0023")), "{foreign}");
    let problem = server.get("/instances?includefield=00231001").await.problem(400);
    assert_eq!(problem["errors"][0]["field"], "includefield");
    // A creator that nothing needs is told as ignored.
    let answer = server.get("/instances?00230010=ACME").await.is(200);
    assert!(answer.header("warning").ends_with("were ignored: 00230010"));
}

#[tokio::test]
async fn attributes_of_lower_levels_are_left_out_and_those_above_returned() {
    let server = filled().await;
    let result = &server.search("/studies?PatientID=PAT-1&includefield=00080060,Rows").await[0];
    assert!(!tags(result).contains("00080060") && !tags(result).contains("00280010"), "{result}");
    let result = &server
        .search("/studies/1.2.1/series/1.2.1.1/instances?includefield=PatientName,Modality")
        .await[0];
    assert_eq!(result["00100010"]["Value"], json!([{"Alphabetic": "Müller^Jörg"}]));
    assert_eq!(result["00080060"]["Value"], json!(["CT"]));
    for bad in ["Nothing", "PatientID,nothing", "00100010.nothing", "all,PatientID", "0010"] {
        let problem = server.get(&format!("/studies?includefield={bad}")).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], "includefield", "{bad}");
    }
}

/// Patient attributes differ inside a study in practice: the first value that came is the study's,
/// for matching and in results; each instance keeps its own in its metadata.
#[tokio::test]
async fn of_values_that_differ_inside_a_study_the_first_counts() {
    let server = Server::start().await;
    let ct = |n: u32, name: &str, sex: &str| {
        let mut ct = Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}"));
        ct.text(0x0010, 0x0010, "PN", name).text(0x0010, 0x0040, "CS", sex);
        ct.text(0x0010, 0x4000, "LT", if n == 1 { "" } else { sex });
        ct.file()
    };
    for file in [ct(1, "First^A", ""), ct(2, "Second^B", "F"), ct(3, "Third^C", "M")] {
        server.store("/studies", &[file]).await.is(200);
    }
    let count = async |query: &str| server.search(query).await.len();
    assert_eq!(count("/studies?PatientName=First*").await, 1);
    assert_eq!(count("/studies?PatientName=Second*").await, 0);
    assert_eq!(count("/studies?PatientSex=F").await, 1, "the first one that is not empty");
    assert_eq!(count("/studies?PatientSex=M").await, 0);
    assert_eq!(count("/studies?PatientComments=F").await, 1, "so do filters");
    assert_eq!(count("/studies?PatientComments=M").await, 0);
    assert_eq!(count("/instances?PatientName=First*").await, 3, "at every level");
    let results = server.search("/instances?includefield=PatientComments").await;
    for result in &results {
        assert_eq!(result["00100010"]["Value"], json!([{"Alphabetic": "First^A"}]));
        assert_eq!(result["00100040"]["Value"], json!(["F"]));
        assert_eq!(result["00104000"]["Value"], json!(["F"]));
    }
    let metadata = server.get("/studies/1.2.1/metadata").await.is(200).json();
    let names: Vec<&str> = metadata
        .as_array()
        .unwrap()
        .iter()
        .map(|instance| instance["00100010"]["Value"][0]["Alphabetic"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["First^A", "Second^B", "Third^C"]);
}
