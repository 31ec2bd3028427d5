//! Dates and times as moments, in the zone of whoever asks (PS3.18 §8.3.4.1.1, §10.6.1.2).

use serde_json::json;

use super::found;
use crate::harness::{Dicom, Server};

/// Studies `1.2.n` with date, time and their own offset from UTC.
async fn dated(moments: &[(&str, &str, &str)]) -> Server {
    let server = Server::start().await;
    let files: Vec<_> = (1..)
        .zip(moments)
        .map(|(n, (date, time, zone))| {
            let study = format!("1.2.{n}");
            let mut ct = Dicom::ct(&study, &format!("{study}.1"), &format!("{study}.1.1"));
            ct.remove(0x0008, 0x0020).remove(0x0008, 0x0030);
            for (element, vr, value) in
                [(0x0020, "DA", date), (0x0030, "TM", time), (0x0201, "SH", zone)]
            {
                if !value.is_empty() {
                    ct.text(0x0008, element, vr, value);
                }
            }
            ct.text(0x0040, 0x0244, "DA", date).text(0x0040, 0x0245, "TM", time);
            ct.file()
        })
        .collect();
    server.store("/studies", &files).await.is(200);
    server
}

async fn check(server: &Server, cases: &[(&str, &[u32])]) {
    for (query, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|n| format!("1.2.{n}")).collect();
        assert_eq!(found(server, &format!("/studies?{query}")).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_range_of_dates_and_its_range_of_times_are_one() {
    let server = dated(&[
        ("20240101", "0900", ""),
        ("20240101", "1700", ""),
        ("20240102", "", ""),
        ("20240103", "0900", ""),
        ("20240103", "", ""),
        ("", "1000", ""),
    ])
    .await;
    check(
        &server,
        &[
            ("StudyDate=20240101-20240103&StudyTime=1000-1600", &[2, 3, 4]),
            ("StudyDate=20240101-20240103&StudyTime=1000-0800", &[2, 3]),
            ("StudyDate=20240101-&StudyTime=1800-", &[3, 4, 5]),
            ("StudyDate=-20240103&StudyTime=-0859", &[1, 2, 3]),
            // Whole days are decided by the date alone.
            ("StudyDate=20240102-20240103&StudyTime=0000-2359", &[3, 4, 5]),
            ("StudyDate=20240103-&StudyTime=0000-", &[4, 5]),
            // A single one of either stays what it is.
            ("StudyDate=20240101-20240103&StudyTime=09", &[1, 4]),
            ("StudyDate=20240101&StudyTime=0800-1000", &[1]),
            ("StudyTime=0800-1000", &[1, 4, 6]),
            ("StudyDate=20240103&StudyTime=", &[4, 5]),
        ],
    )
    .await;
    let series = "/series?PerformedProcedureStepStartDate=20240101-20240103&\
                  PerformedProcedureStepStartTime=1000-1600";
    assert_eq!(found(&server, series).await, ["1.2.2.1", "1.2.3.1", "1.2.4.1"]);
}

#[tokio::test]
async fn the_zone_of_a_query_moves_its_moments() {
    let server = dated(&[
        // 23:30 UTC on 1 January, however it is written.
        ("20240102", "003000", "+0100"),
        ("20240101", "233000", "+0000"),
        ("20240101", "183000", "-0500"),
        // As written, since it does not say where.
        ("20240102", "003000", ""),
        ("20240102", "", "+0100"),
    ])
    .await;
    let zone = |zone: &str, query: &str| format!("{query}&TimezoneOffsetFromUTC={zone}");
    check(
        &server,
        &[
            ("StudyDate=20240101", &[2, 3]),
            (&zone("%2B0000", "StudyDate=20240101"), &[1, 2, 3]),
            (&zone("%2B0100", "StudyDate=20240102"), &[1, 2, 3, 4, 5]),
            (&zone("+0100", "StudyDate=20240102&StudyTime=0030"), &[1, 2, 3, 4]),
            (&zone("-0500", "StudyDate=20240101-20240101&StudyTime=18-19"), &[1, 2, 3]),
            (&zone("-0500", "StudyDate=20240102-"), &[4, 5]),
            // A time alone has no day to be moved to.
            (&zone("-0500", "StudyTime=0030"), &[1, 4]),
            (&zone("-0500", "PatientID=PAT1"), &[1, 2, 3, 4, 5]),
        ],
    )
    .await;
    let result =
        &server.search(&format!("/studies?{}", zone("%2B0000", "StudyInstanceUID=1.2.1"))).await[0];
    assert_eq!(result["00080201"]["Value"], json!(["+0100"]));
    for bad in ["0100", "%2B01", "%2B1401", "%2B0160", "UTC"] {
        let problem =
            server.get(&format!("/studies?TimezoneOffsetFromUTC={bad}")).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], "TimezoneOffsetFromUTC", "{bad}");
    }
}
