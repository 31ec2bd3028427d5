//! Search (PS3.18 §10.6): what matches, what is returned, and how pages are told.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Dicom, Server, corpus::MR};

mod dates;
mod fields;
mod fuzzy;
mod kinds;
mod limits;
mod pages;
mod results;

/// What a search found, by UID of its level.
async fn found(server: &Server, path: &str) -> Vec<String> {
    let resource = path.split('?').next().unwrap();
    let tag = match resource.rsplit('/').next().unwrap() {
        "studies" => "0020000D",
        "series" => "0020000E",
        _ => "00080018",
    };
    let results = server.search(path).await;
    let mut uids: Vec<String> =
        results.iter().map(|r| r[tag]["Value"][0].as_str().unwrap().to_owned()).collect();
    uids.sort();
    uids
}

/// Four studies that differ in every key.
async fn filled() -> Server {
    let server = Server::start().await;
    let mut files = Vec::new();
    for (n, name, date, time, physician) in [
        (1, "Müller^Jörg", "20240102", "101112", "House^Gregory"),
        (2, "MUELLER^JÖRG", "20240301", "235959.5", "Wilson^James"),
        (3, "Doe^Jane=山田^太郎", "20231224", "0000", "Cuddy^Lisa"),
        (4, "O'Brien_Test%", "20240102", "1200", ""),
    ] {
        let study = format!("1.2.{n}");
        for series in 1..3 {
            let modality = if series == 2 && n < 3 { "PT" } else { "CT" };
            let (uid, number) = (format!("{study}.{series}"), (10 * n + series).to_string());
            for instance in 1..3 {
                let mut ct = Dicom::ct(&study, &uid, &format!("{uid}.{instance}"));
                ct.text(0x0008, 0x0005, "CS", "ISO_IR 192")
                    .text(0x0010, 0x0010, "PN", name)
                    .text(0x0010, 0x0020, "LO", &format!("PAT-{n}"))
                    .text(0x0010, 0x0030, "DA", &format!("19{n}00101"))
                    .text(0x0010, 0x0040, "CS", if n % 2 == 0 { "M" } else { "F" })
                    .text(0x0008, 0x0020, "DA", date)
                    .text(0x0008, 0x0030, "TM", time)
                    .text(0x0008, 0x0050, "SH", &format!("ACC{n}"))
                    .text(0x0008, 0x0090, "PN", physician)
                    .text(0x0008, 0x1030, "LO", "Head [AXIAL]")
                    .text(0x0020, 0x0010, "SH", &format!("ID{n}"))
                    .text(0x0008, 0x0060, "CS", modality)
                    .text(0x0020, 0x0011, "IS", &number)
                    .text(0x0020, 0x0013, "IS", &format!("{instance} "))
                    .text(0x0040, 0x0244, "DA", &format!("2022010{n}"))
                    .text(0x0040, 0x0245, "TM", &format!("0{n}3000"));
                if modality == "PT" {
                    ct.text(0x0008, 0x0016, "UI", MR);
                }
                files.push(ct.file());
            }
        }
    }
    server.store("/studies", &files).await.is(200);
    server
}

#[tokio::test]
async fn every_required_key_by_keyword_and_by_tag() {
    let server = filled().await;
    // A list of UIDs may be given one by one.
    let both = "/studies?StudyInstanceUID=1.2.1&0020000D=1.2.4";
    assert_eq!(found(&server, both).await, ["1.2.1", "1.2.4"]);
    // (resource, keyword, tag, value, the studies, series or instances found)
    let cases: &[(&str, &str, &str, &str, &[&str])] = &[
        ("/studies", "StudyDate", "00080020", "20231224", &["1.2.3"]),
        ("/studies", "StudyDate", "00080020", "20240101-20240131", &["1.2.1", "1.2.4"]),
        ("/studies", "StudyDate", "00080020", "20240102-", &["1.2.1", "1.2.2", "1.2.4"]),
        ("/studies", "StudyDate", "00080020", "-20231231", &["1.2.3"]),
        ("/studies", "StudyTime", "00080030", "101112", &["1.2.1"]),
        ("/studies", "StudyTime", "00080030", "10", &["1.2.1"]),
        ("/studies", "StudyTime", "00080030", "12-235959.5", &["1.2.2", "1.2.4"]),
        ("/studies", "StudyTime", "00080030", "-1010", &["1.2.3"]),
        ("/studies", "AccessionNumber", "00080050", "ACC2", &["1.2.2"]),
        ("/studies", "AccessionNumber", "00080050", "acc2", &[]),
        ("/studies", "AccessionNumber", "00080050", "ACC?", &["1.2.1", "1.2.2", "1.2.3", "1.2.4"]),
        ("/studies", "ModalitiesInStudy", "00080061", "PT", &["1.2.1", "1.2.2"]),
        ("/studies", "ModalitiesInStudy", "00080061", "PT,XX", &["1.2.1", "1.2.2"]),
        (
            "/studies",
            "ModalitiesInStudy",
            "00080061",
            "PT\\CT",
            &["1.2.1", "1.2.2", "1.2.3", "1.2.4"],
        ),
        ("/studies", "ReferringPhysicianName", "00080090", "house^gregory", &["1.2.1"]),
        ("/studies", "ReferringPhysicianName", "00080090", "*james", &["1.2.2"]),
        ("/studies", "PatientName", "00100010", "muller^jorg", &["1.2.1"]),
        ("/studies", "PatientName", "00100010", "MÜLLER*", &["1.2.1"]),
        ("/studies", "PatientName", "00100010", "m*^j?rg", &["1.2.1", "1.2.2"]),
        ("/studies", "PatientName", "00100010", "山田*", &["1.2.3"]),
        ("/studies", "PatientName", "00100010", "o'brien_test%25", &["1.2.4"]),
        ("/studies", "PatientName", "00100010", "o'brien%25", &[]),
        ("/studies", "PatientName", "00100010", "_*", &[]),
        ("/studies", "PatientID", "00100020", "PAT-3", &["1.2.3"]),
        ("/studies", "PatientID", "00100020", "*-3", &["1.2.3"]),
        ("/studies", "PatientID", "00100020", "pat-3", &[]),
        ("/studies", "PatientBirthDate", "00100030", "19200101", &["1.2.2"]),
        ("/studies", "StudyInstanceUID", "0020000D", "1.2.1,1.2.4,1.2.77", &["1.2.1", "1.2.4"]),
        ("/studies", "StudyInstanceUID", "0020000D", "1.2.1\\1.2.2", &["1.2.1", "1.2.2"]),
        ("/studies", "StudyID", "00200010", "ID4", &["1.2.4"]),
        (
            "/studies",
            "StudyDescription",
            "00081030",
            "Head [*",
            &["1.2.1", "1.2.2", "1.2.3", "1.2.4"],
        ),
        ("/series", "Modality", "00080060", "PT", &["1.2.1.2", "1.2.2.2"]),
        ("/series", "SeriesInstanceUID", "0020000E", "1.2.3.1", &["1.2.3.1"]),
        ("/series", "SeriesNumber", "00200011", "42", &["1.2.4.2"]),
        ("/series", "SeriesNumber", "00200011", "042", &["1.2.4.2"]),
        (
            "/series",
            "PerformedProcedureStepStartDate",
            "00400244",
            "20220103",
            &["1.2.3.1", "1.2.3.2"],
        ),
        (
            "/series",
            "PerformedProcedureStepStartTime",
            "00400245",
            "0415-05",
            &["1.2.4.1", "1.2.4.2"],
        ),
        ("/series", "PatientID", "00100020", "PAT-1", &["1.2.1.1", "1.2.1.2"]),
        ("/studies/1.2.1/series", "Modality", "00080060", "CT", &["1.2.1.1"]),
        (
            "/instances",
            "SOPClassUID",
            "00080016",
            MR,
            &["1.2.1.2.1", "1.2.1.2.2", "1.2.2.2.1", "1.2.2.2.2"],
        ),
        (
            "/instances",
            "SOPInstanceUID",
            "00080018",
            "1.2.3.1.2,1.2.1.1.1",
            &["1.2.1.1.1", "1.2.3.1.2"],
        ),
        (
            "/studies/1.2.1/instances",
            "InstanceNumber",
            "00200013",
            "2",
            &["1.2.1.1.2", "1.2.1.2.2"],
        ),
        (
            "/studies/1.2.1/series/1.2.1.1/instances",
            "InstanceNumber",
            "00200013",
            "02",
            &["1.2.1.1.2"],
        ),
        ("/studies/1.2.1/series/1.2.2.1/instances", "InstanceNumber", "00200013", "1", &[]),
    ];
    for (resource, keyword, tag, value, expected) in cases {
        for key in [keyword, tag] {
            let path = format!("{resource}?{key}={value}");
            assert_eq!(found(&server, &path).await, *expected, "{path}");
        }
    }
    // Universal matching: everything, and the attribute is returned.
    for value in ["", "*"] {
        let path = format!("/studies?StudyDescription={value}");
        let results = server.search(&path).await;
        assert_eq!(results.len(), 4, "{path}");
        assert!(results.iter().all(|r| r["00081030"]["Value"][0] == "Head [AXIAL]"), "{path}");
    }
}

#[tokio::test]
async fn several_keys_all_match_and_dates_with_times_are_moments() {
    let server = filled().await;
    let cases: &[(&str, &[&str])] = &[
        ("/studies?StudyDate=20240102&PatientID=PAT-4", &["1.2.4"]),
        ("/studies?StudyDate=20240102&PatientID=PAT-3", &[]),
        ("/studies?PatientName=m*&ModalitiesInStudy=PT&StudyID=ID2", &["1.2.2"]),
        // From 24 December 00:00 to 2 January 11:00, not "between 0 and 11 o'clock".
        ("/studies?StudyDate=20231224-20240102&StudyTime=000000-110000", &["1.2.1", "1.2.3"]),
        ("/studies?StudyDate=20231224-20240301&StudyTime=100000-090000", &["1.2.1", "1.2.4"]),
        ("/series?PatientID=PAT-2&Modality=PT&SeriesNumber=22", &["1.2.2.2"]),
    ];
    for (path, expected) in cases {
        assert_eq!(found(&server, path).await, *expected, "{path}");
    }
}

#[tokio::test]
async fn bad_values_are_400_and_say_which() {
    let server = filled().await;
    for (query, field) in [
        ("StudyDate=2024", "StudyDate"),
        ("StudyDate=20240230", "StudyDate"),
        ("StudyDate=20240102-20240101", "StudyDate"),
        ("StudyTime=99", "StudyTime"),
        ("StudyTime=1000-0900", "StudyTime"),
        ("StudyDate=20240101&StudyTime=1000-0900", "StudyTime"),
        ("StudyInstanceUID=a", "StudyInstanceUID"),
        ("SeriesInstanceUID=1..2", "SeriesInstanceUID"),
        ("SeriesNumber=x", "SeriesNumber"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("offset=", "offset"),
        ("limit=1&limit=2", "limit"),
        ("fuzzymatching=maybe", "fuzzymatching"),
        ("emptyvaluematching=1", "emptyvaluematching"),
        ("multiplevaluematching=", "multiplevaluematching"),
        ("TimezoneOffsetFromUTC=0100", "TimezoneOffsetFromUTC"),
        ("TimezoneOffsetFromUTC=%2B1500", "TimezoneOffsetFromUTC"),
        ("RequestAttributesSequence=a", "RequestAttributesSequence"),
        ("PatientID.PatientName=a", "PatientID.PatientName"),
        ("00231001=a", "00231001"),
        ("PatientAge=a%0A", "PatientAge"),
        ("PatientSize=tall", "PatientSize"),
        ("PatientName=a=b=c=d", "PatientName"),
        ("includefield=Unknown", "includefield"),
        ("includefield=all,PatientID", "includefield"),
        ("PatientID=a&00100020=b", "00100020"),
    ] {
        let problem = server.get(&format!("/series?{query}")).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{query}: {problem}");
    }
}

/// The names of a result's attributes.
fn tags(result: &Value) -> BTreeSet<String> {
    result.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn what_is_ignored_is_told() {
    let server = filled().await;
    let answer = server.get("/studies?PatientID=PAT-1&Modality=CT&foo=1&fuzzymatching=true").await;
    let warnings: Vec<&str> =
        answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(
        warnings,
        [
            "299 collimator: The following query parameters are not supported here and were ignored: \
          Modality, foo"
        ]
    );
    assert_eq!(answer.is(200).json().as_array().unwrap().len(), 1);
    // What PS3.18 has words for where it is not supported is supported.
    for name in ["fuzzymatching", "emptyvaluematching", "multiplevaluematching"] {
        for value in ["true", "false"] {
            let answer = server.get(&format!("/studies?{name}={value}")).await.is(200);
            assert_eq!(answer.header("warning"), "", "{name}={value}");
        }
    }
    assert_eq!(server.search("/studies?limit=2&offset=0").await.len(), 2);
    assert_eq!(json!([]), json!(found(&server, "/studies?PatientID=nobody").await));
}
