//! Every kind of matching on every value representation, through columns and through filters, over
//! real data sets (PS3.4 §C.2.2.2, PS3.18 §8.3.4).

use super::found;
use crate::harness::{Dicom, Server, corpus::IMPLICIT};

/// An item with a requested procedure and a scheduled step.
fn request(procedure: &str, step: &str, accession: &str) -> Dicom {
    let mut item = Dicom::item();
    item.text(0x0040, 0x1001, "SH", procedure)
        .text(0x0040, 0x0009, "SH", step)
        .text(0x0008, 0x0050, "SH", accession);
    item
}

fn code(value: &str, scheme: &str) -> Dicom {
    let mut item = Dicom::item();
    item.text(0x0008, 0x0100, "SH", value).text(0x0008, 0x0102, "SH", scheme);
    item
}

/// Three studies of one instance each: `1.2.n.1.1`.
async fn rich() -> Server {
    let server = Server::start().await;
    let ct = |n: u32| {
        let study = format!("1.2.{n}");
        Dicom::ct(&study, &format!("{study}.1"), &format!("{study}.1.1"))
    };
    let mut first = ct(1);
    first
        .text(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL")
        .text(0x0008, 0x0021, "DA", "20240110")
        .text(0x0008, 0x0031, "TM", "0830")
        .text(0x0008, 0x0022, "DA", "20240111")
        .text(0x0008, 0x0032, "TM", "235959.5")
        .text(0x0008, 0x002A, "DT", "20240102003000+0100")
        .text(0x0008, 0x0054, "AE", "ARCHIVE1")
        .text(0x0010, 0x1000, "LO", "A1\\B2\\C3")
        .text(0x0010, 0x1010, "AS", "063Y")
        .text(0x0010, 0x1020, "DS", "1.80 ")
        .text(0x0010, 0x4000, "LT", "First line\r\nsecond (allergic)")
        .text(0x0018, 0x0050, "DS", "1.50")
        .text(0x0018, 0x1030, "LO", "Routine Head")
        .text(0x0020, 0x0012, "IS", "+07")
        .text(0x0020, 0x0052, "UI", "1.9.1")
        .text(0x0040, 0xA160, "UT", "Plain text\\with a backslash")
        .text(0x0008, 0x0119, "UC", "LONG1\\LONG2")
        .text(0x0040, 0xE010, "UR", "http://example.org/a")
        .bytes(0x0018, 0x9073, "FD", &0.1_f64.to_le_bytes())
        .bytes(0x0070, 0x0022, "FL", &[0.1_f32.to_le_bytes(), 2.5_f32.to_le_bytes()].concat())
        .bytes(0x0070, 0x0052, "SL", &[(-5_i32).to_le_bytes(), 7_i32.to_le_bytes()].concat())
        .bytes(0x0018, 0x6030, "UL", &4_000_000_000_u32.to_le_bytes())
        .bytes(0x0072, 0x0083, "UV", &u64::MAX.to_le_bytes())
        .bytes(0x0072, 0x0082, "SV", &(-9_i64).to_le_bytes())
        .bytes(0x0028, 0x0106, "SS", &(-3_i16).to_le_bytes())
        .bytes(0x0028, 0x0009, "AT", &[0x18, 0x00, 0x63, 0x10])
        .sequence(0x0040, 0x0275, vec![request("P1", "S1", "A1"), request("P2", "S2", "A2")])
        .sequence(0x0008, 0x1032, vec![code("T-1", "SRT"), code("T-2", "DCM")])
        .text(0x0023, 0x0010, "LO", "ACME")
        .text(0x0023, 0x1001, "LO", "001239")
        .bytes(0x0023, 0x1002, "US", &9_u16.to_le_bytes())
        .text(0x0023, 0x1003, "DA", "20240105");
    let mut second = ct(2);
    second
        .text(0x0008, 0x0008, "CS", "DERIVED\\SECONDARY\\AXIAL")
        .text(0x0008, 0x0022, "DA", "20240112")
        .text(0x0008, 0x002A, "DT", "20240102003000")
        .text(0x0010, 0x1000, "LO", "B2")
        .text(0x0010, 0x1010, "AS", "006M")
        .text(0x0018, 0x0050, "DS", "15e-1")
        .text(0x0020, 0x0012, "IS", "8")
        .sequence(0x0040, 0x0275, vec![request("P1", "S2", "A2")])
        .sequence(
            0x0008,
            0x1032,
            vec![code("T-1", "DCM"), {
                let mut outer = code("T-3", "SRT");
                outer.sequence(0x0008, 0x0121, vec![code("T-1", "99X"), code("T-9", "SRT")]);
                outer
            }],
        )
        .text(0x0023, 0x0010, "LO", "OTHER")
        .text(0x0023, 0x1001, "LO", "001239")
        .text(0x0023, 0x0011, "LO", "ACME")
        .text(0x0023, 0x1101, "LO", "777");
    // Implicit VR: private values without a VR.
    let mut third = ct(3);
    third
        .syntax(IMPLICIT)
        .text(0x0008, 0x0050, "SH", "")
        .text(0x0010, 0x4000, "LT", "")
        .text(0x0018, 0x0050, "DS", "2")
        .text(0x0023, 0x0010, "LO", "ACME")
        .text(0x0023, 0x1001, "LO", "001239")
        .sequence(0x0008, 0x1032, vec![]);
    server.store("/studies", &[first.file(), second.file(), third.file()]).await.is(200);
    server
}

const NONE: &[u32] = &[];

/// What each query finds, by the number of the study.
async fn check(server: &Server, cases: &[(&str, &[u32])]) {
    for (query, expected) in cases {
        let suffix = match query.split('?').next() {
            Some("/studies") => "",
            Some("/series") => ".1",
            _ => ".1.1",
        };
        let expected: Vec<String> = expected.iter().map(|n| format!("1.2.{n}{suffix}")).collect();
        assert_eq!(found(server, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn values_of_instances_that_no_index_holds() {
    let server = rich().await;
    check(
        &server,
        &[
            // CS, AE, LO, UC, UR, UT, LT: text with wildcards, any of several values.
            ("/instances?ImageType=AXIAL", &[1, 2]),
            ("/instances?ImageType=ORIG*", &[1]),
            ("/instances?ImageType=axial", NONE),
            ("/instances?ImageType=ORIGINAL%5CPRIMARY", NONE),
            ("/instances?RetrieveAETitle=ARCH*", &[1]),
            ("/instances?LongCodeValue=LONG2", &[1]),
            ("/instances?RetrieveURI=http://example.org/?", &[1]),
            ("/instances?TextValue=*with%20a%20back*", &[1]),
            ("/instances?TextValue=Plain%20text%5Cwith%20a%20backslash", &[1]),
            // IS, US, SS, UL, SL, UV, SV: integers by meaning.
            ("/instances?AcquisitionNumber=7", &[1]),
            ("/instances?AcquisitionNumber=%2B008", &[2]),
            ("/instances?BitsStored=016", &[1, 2, 3]),
            ("/instances?SmallestImagePixelValue=-3", &[1]),
            ("/instances?TransducerFrequency=4000000000", &[1]),
            ("/instances?DisplayedAreaTopLeftHandCorner=7", &[1]),
            ("/instances?SelectorUVValue=18446744073709551615", &[1]),
            ("/instances?SelectorSVValue=-9", &[1]),
            // DS, FD, FL: numbers by meaning.
            ("/instances?SliceThickness=1.5", &[1, 2]),
            ("/instances?SliceThickness=1.50e0", &[1, 2]),
            ("/instances?SliceThickness=2.0", &[3]),
            ("/instances?AcquisitionDuration=0.1", &[1]),
            ("/instances?GraphicData=0.1", &[1]),
            ("/instances?GraphicData=2.50", &[1]),
            // DA, TM, DT.
            ("/instances?AcquisitionDate=20240111-", &[1, 2]),
            ("/instances?AcquisitionDate=-20240111", &[1]),
            ("/instances?AcquisitionTime=2359", &[1]),
            ("/instances?AcquisitionDateTime=20240101", &[1]),
            ("/instances?AcquisitionDateTime=20240102", &[2]),
            ("/instances?AcquisitionDateTime=202401", &[1, 2]),
            ("/instances?AcquisitionDateTime=20240102-0100", NONE),
            ("/instances?AcquisitionDateTime=20240102%2B0100", &[1, 2]),
            ("/instances?AcquisitionDateTime=2024010123-20240101235959", &[1]),
            ("/instances?AcquisitionDateTime=2024010200-", &[2]),
            // AT, UI.
            ("/instances?FrameIncrementPointer=00181063", &[1]),
            ("/instances?FrameOfReferenceUID=1.9.1,1.9.2", &[1]),
            // Together with what has an index, and with each other.
            ("/instances?ImageType=AXIAL&StudyInstanceUID=1.2.2", &[2]),
            ("/instances?ImageType=AXIAL&SliceThickness=1.5&AcquisitionNumber=8", &[2]),
            ("/studies/1.2.1/instances?ImageType=AXIAL", &[1]),
            ("/studies/1.2.3/series/1.2.3.1/instances?SliceThickness=2", &[3]),
        ],
    )
    .await;
}

#[tokio::test]
async fn values_of_studies_and_series_that_no_index_holds() {
    let server = rich().await;
    check(
        &server,
        &[
            ("/studies?OtherPatientIDs=B2", &[1, 2]),
            ("/studies?OtherPatientIDs=C*", &[1]),
            ("/studies?PatientAge=063Y", &[1]),
            ("/studies?PatientAge=06*", NONE),
            ("/studies?PatientSize=1.8", &[1]),
            ("/studies?PatientComments=First*(allergic)", &[1]),
            ("/series?ProtocolName=Routine%20*", &[1]),
            ("/series?PatientSize=1.8&Modality=CT", &[1]),
            ("/instances?PatientSize=1.8&ProtocolName=*Head", &[1]),
            ("/series?SeriesDate=20240109-20240111&SeriesTime=09-08", &[1]),
            ("/series?SeriesDate=20240110-20240111&SeriesTime=09-08", NONE),
            ("/series?SeriesDate=20240110&SeriesTime=08-09", &[1]),
            ("/instances?AcquisitionDate=20240110-20240112&AcquisitionTime=00-22", &[1]),
            ("/instances?AcquisitionDate=20240110-20240113&AcquisitionTime=00-22", &[1, 2]),
        ],
    )
    .await;
}

#[tokio::test]
async fn sequences_match_by_one_item() {
    let server = rich().await;
    let step = "RequestAttributesSequence.ScheduledProcedureStepID";
    let both = |step_id: &str, procedure: &str| {
        format!("/series?{step}={step_id}&00400275.00401001={procedure}")
    };
    let codes = "ProcedureCodeSequence.CodeValue";
    check(
        &server,
        &[
            (&format!("/series?{step}=S1"), &[1]),
            (&format!("/series?{step}=S2"), &[1, 2]),
            (&format!("/series?{step}=S*"), &[1, 2]),
            (&both("S1", "P1"), &[1]),
            (&both("S2", "P1"), &[2]),
            (&both("S1", "P2"), NONE),
            (&both("", "P1"), &[1, 2]),
            (&format!("{}&00400275.AccessionNumber=A2", both("S2", "P*")), &[1, 2]),
            (&format!("{}&00400275.AccessionNumber=A1", both("S2", "P*")), NONE),
            (&format!("/instances?{step}=S1&ImageType=AXIAL"), &[1]),
            // Studies, by attributes of the study; any item, one item, items of items.
            (&format!("/studies?{codes}=T-1"), &[1, 2]),
            (&format!("/studies?{codes}=T-1&00081032.CodingSchemeDesignator=SRT"), &[1]),
            (&format!("/studies?{codes}=T-2&00081032.CodingSchemeDesignator=SRT"), NONE),
            ("/studies?ProcedureCodeSequence.EquivalentCodeSequence.00080100=T-9", &[2]),
            ("/studies?00081032.00080121.00080100=T-1&00081032.00080121.00080102=SRT", NONE),
            ("/studies?00081032.00080100=T-3&00081032.EquivalentCodeSequence.CodeValue=T-1", &[2]),
            // Empty ones.
            ("/studies?ProcedureCodeSequence=%22%22&emptyvaluematching=true", &[3]),
            ("/series?RequestAttributesSequence=%22%22&emptyvaluematching=true", &[3]),
            (
                "/studies?00081032.CodingSchemeVersion=%22%22&00081032.CodeValue=T-2&\
                 emptyvaluematching=true",
                &[1],
            ),
        ],
    )
    .await;
    // What was matched is returned, in XML too.
    let result = &server.search(&both("S1", "P1")).await[0];
    assert_eq!(result["00400275"]["Value"].as_array().unwrap().len(), 2);
    let result = &server.search(&format!("/studies?{codes}=T-2")).await[0];
    assert_eq!(result["00081032"]["Value"][1]["00080100"]["Value"][0], "T-2");
    let xml = "multipart/related; type=\"application/dicom+xml\"";
    let answer = server.get_as(&format!("/studies?{codes}=T-2"), xml).await.is(200);
    let text = String::from_utf8(answer.parts()[0].body.clone()).unwrap();
    assert!(text.contains("keyword=\"ProcedureCodeSequence\"><Item number=\"1\">"), "{text}");
}

#[tokio::test]
async fn private_attributes_match_by_their_creator() {
    let server = rich().await;
    check(
        &server,
        &[
            // PS3.18 §8.3.4.1, with a creator that reserves another block in each data set.
            ("/instances?00230010=ACME&00231001=001239", &[1, 3]),
            ("/instances?00230011=ACME&00231101=001239", &[1, 3]),
            ("/instances?00230010=ACME&00231001=777", &[2]),
            ("/instances?00230010=OTHER&00231001=001239", &[2]),
            ("/instances?00230010=ACME&00231001=0012*", &[1, 3]),
            ("/instances?00230010=ACME&00231002=09", &[1]),
            ("/instances?00230010=ACME&00231003=20240101-20240131", &[1]),
            ("/instances?00230010=ACME&00231003=%22%22&emptyvaluematching=true", &[2, 3]),
            ("/instances?00230010=NOBODY&00231001=001239", NONE),
        ],
    )
    .await;
    let result = &server.search("/instances?00230010=ACME&00231001=777").await[0];
    assert_eq!(result["00230011"]["Value"][0], "ACME", "{result}");
    assert_eq!(result["00231101"]["Value"][0], "777");
    assert!(result.get("00231001").is_none());
    let problem = server.get("/instances?00231001=x").await.problem(400);
    assert_eq!(problem["errors"][0]["field"], "00231001");
    assert!(problem["errors"][0]["reason"].as_str().unwrap().contains("00230010"));
}

#[tokio::test]
async fn empty_and_multiple_values() {
    let server = rich().await;
    let empty = |query: &str| format!("{query}=%22%22&emptyvaluematching=true");
    let multiple = |query: &str| format!("{query}&multiplevaluematching=true");
    check(
        &server,
        &[
            // Columns and filters, absent and empty.
            (&empty("/studies?AccessionNumber"), &[3]),
            (&empty("/studies?PatientBirthDate"), &[1, 2, 3]),
            (&empty("/studies?PatientName"), NONE),
            (&empty("/studies?PatientComments"), &[2, 3]),
            (&empty("/series?ProtocolName"), &[2, 3]),
            (&empty("/instances?AcquisitionDate"), &[3]),
            (&empty("/instances?AcquisitionDuration"), &[2, 3]),
            (&empty("/instances?ImageType"), &[3]),
            (&empty("/studies?ModalitiesInStudy"), NONE),
            (&empty("/studies?InstanceAvailability"), NONE),
            // Without the parameter two quotes are a value like any other.
            ("/studies?AccessionNumber=%22%22", NONE),
            // All of the values, word for word.
            (&multiple("/instances?ImageType=AXIAL%5CORIGINAL"), &[1]),
            (&multiple("/instances?ImageType=AXIAL%5CPRI*"), NONE),
            (&multiple("/instances?ImageType=PRI*"), &[1]),
            (&multiple("/studies?OtherPatientIDs=C3%5CB2"), &[1]),
            (&multiple("/studies?ModalitiesInStudy=CT"), &[1, 2, 3]),
            (&multiple("/studies?ModalitiesInStudy=CT%5CMR"), NONE),
            ("/studies?ModalitiesInStudy=CT%5CMR", &[1, 2, 3]),
            ("/studies?ModalitiesInStudy=MR&ModalitiesInStudy=CT", &[1, 2, 3]),
            // Computed ones.
            ("/studies?InstanceAvailability=ONLINE", &[1, 2, 3]),
            ("/studies?InstanceAvailability=OFFLINE", NONE),
            ("/instances?AvailableTransferSyntaxUID=1.2.840.10008.1.2", &[3]),
        ],
    )
    .await;
}
