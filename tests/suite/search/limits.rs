//! What a search may cost, and what a hostile one gets.

use sqlx::Connection;

use super::found;
use crate::harness::{Dicom, PARTITIONS, Server};

async fn instances(server: &Server, path: &str, count: u32) {
    let files: Vec<_> = (1..=count)
        .map(|n| {
            Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}"))
                .text(0x0018, 0x0050, "DS", &(n % 2).to_string())
                .text(0x0020, 0x0013, "IS", &n.to_string())
                .text(0x0020, 0x0012, "IS", &(n % 3).to_string())
                .file()
        })
        .collect();
    server.store(path, &files).await.is(200);
}

#[tokio::test]
async fn filters_look_at_so_many_rows_and_say_how_to_narrow() {
    let server = Server::with(&[("search.max_filtered", "9")]).await;
    instances(&server, "/studies", 10).await;
    let problem =
        server.get("/instances?SliceThickness=1&00201041=2&InstanceNumber=").await.problem(413);
    assert_eq!(problem["type"], "urn:collimator:problem:search-too-broad");
    let fields: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| &e["field"]).collect();
    assert_eq!(fields, ["00201041", "SliceThickness"]);
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("more than 9 rows") && detail.contains("extended query tag"),
        "{detail}"
    );
    // Narrowed by what has an index it is answered, up to the last row.
    let narrow = "/instances?SliceThickness=1&SOPInstanceUID=1.2.1.1.1,1.2.1.1.2,1.2.1.1.3";
    assert_eq!(found(&server, narrow).await, ["1.2.1.1.1", "1.2.1.1.3"]);
    let nine: Vec<String> = (1..=9).map(|n| format!("1.2.1.1.{n}")).collect();
    let path = format!("/instances?SliceThickness=1&SOPInstanceUID={}", nine.join(","));
    assert_eq!(found(&server, &path).await.len(), 5);
    // What has an index is not bounded so.
    assert_eq!(found(&server, "/instances?InstanceNumber=3").await, ["1.2.1.1.3"]);
}

#[tokio::test]
async fn a_search_that_takes_too_long_is_told_how_to_narrow() {
    let server = Server::with(&[("search.timeout", "1s")]).await;
    instances(&server, "/studies", 2).await;
    // Whoever reads the table waits until this lets go of it.
    let mut holder = server.superuser().await;
    let mut holding = holder.begin().await.unwrap();
    sqlx::query("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holding)
        .await
        .unwrap();
    for query in ["InstanceNumber=1", "SliceThickness=1"] {
        let problem = server.get(&format!("/instances?{query}")).await.problem(413);
        assert_eq!(problem["type"], "urn:collimator:problem:search-too-slow");
        assert!(problem["detail"].as_str().unwrap().contains("search.timeout"), "{problem}");
    }
    holding.rollback().await.unwrap();
    // The connections are whole: none is lost to the searches that were given up.
    for _ in 0..20 {
        assert_eq!(found(&server, "/instances?InstanceNumber=1").await, ["1.2.1.1.1"]);
    }
}

#[tokio::test]
async fn searches_at_once_do_not_wait_for_each_others_connections() {
    let server = Server::with(&[("database.max_connections", "2")]).await;
    instances(&server, "/studies", 5).await;
    let answers = (0..8).map(|_| server.get("/instances?limit=2"));
    for answer in futures::future::join_all(answers).await {
        assert!(answer.header("warning").contains("There are 3 additional results"), "{answer:?}");
        assert_eq!(answer.is(200).json().as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn pages_of_a_filtered_search_are_exact() {
    let server = Server::start().await;
    instances(&server, "/studies", 600).await;
    let all = found(&server, "/instances?SliceThickness=1&limit=1000").await;
    assert_eq!(all.len(), 300);
    let all = server.search("/instances?AcquisitionNumber=1&limit=1000").await;
    assert_eq!(all.len(), 200);
    let mut seen = Vec::new();
    for offset in (0..220).step_by(60) {
        let answer =
            server.get(&format!("/instances?AcquisitionNumber=1&limit=60&offset={offset}")).await;
        let rest = 200_usize.saturating_sub(offset + 60);
        let expected = format!("There are {rest} additional results");
        let warning = answer.header("warning");
        assert!(
            if rest == 0 { warning.is_empty() } else { warning.contains(&expected) },
            "{warning}"
        );
        seen.extend(answer.is(200).json().as_array().unwrap().clone());
    }
    assert_eq!(seen, all);
    server.get("/instances?AcquisitionNumber=1&offset=200").await.is(204);
    let none = server.get("/instances?AcquisitionNumber=1&limit=0").await;
    assert!(none.header("warning").contains("There are 200 additional results"), "{none:?}");
}

#[tokio::test]
async fn filters_see_one_partition_like_everything_else() {
    let server = Server::with(&PARTITIONS).await;
    instances(&server, "/partitions/north/studies", 4).await;
    instances(&server, "/partitions/south/studies", 2).await;
    assert_eq!(server.search("/partitions/south/instances?SliceThickness=1").await.len(), 1);
    assert_eq!(server.search("/instances?SliceThickness=1").await.len(), 3);
    // The list of partitions, under each of its names.
    for list in ["microsoft.partitionId", "00651001", "00650010=COLLIMATOR%20PARTITION&00651001"] {
        for (value, expected) in [("north", 2), ("south,north", 3), ("south", 1)] {
            let path = format!("/instances?SliceThickness=1&{list}={value}");
            let answer = server.get(&path).await.is(200);
            assert_eq!(answer.json().as_array().unwrap().len(), expected, "{path}");
            assert_eq!(answer.header("warning"), "", "{path}");
        }
        server.get(&format!("/instances?{list}=nowhere")).await.is(404);
        server.get(&format!("/partitions/north/instances?{list}=south")).await.problem(400);
    }
    // Another creator's attribute of that number is an attribute like any other.
    let path = "/partitions/north/instances?00650010=ACME&00651001=x";
    server.get(path).await.is(204);
}

#[tokio::test]
async fn junk_is_refused_or_ignored_and_never_fails() {
    let server = Server::start().await;
    instances(&server, "/studies", 3).await;
    let long = "x".repeat(600);
    let stars = "*a".repeat(200);
    let deep = ["00081140"; 17].join(".");
    let many: Vec<String> = (0..65).map(|n| format!("0018{:04X}=1", 0x1000 + n)).collect();
    for (query, status) in [
        (format!("PatientID={long}"), 400),
        (format!("PatientComments={stars}"), 204),
        (format!("PatientName={stars}"), 204),
        (format!("{deep}=1"), 200),
        (many.join("&"), 400),
        ("PatientID=%00".to_owned(), 200),
        ("PatientID=a%00b".to_owned(), 400),
        ("PatientID=%FF".to_owned(), 204),
        ("SliceThickness=1e999".to_owned(), 400),
        ("AcquisitionDateTime=%C3%A9%C3%A9%C3%A9".to_owned(), 400),
        ("=1&&&=&%=".to_owned(), 200),
        ("FFFEE000=1&00020010=1&00000000=1".to_owned(), 200),
        ("00090000=1".to_owned(), 400),
        ("TimezoneOffsetFromUTC=%F0%9F%92%A3".to_owned(), 400),
        ("RequestAttributesSequence..=1".to_owned(), 200),
        ("emptyvaluematching=true&PixelData=%22%22".to_owned(), 204),
    ] {
        let answer = server.get(&format!("/instances?{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }
}
