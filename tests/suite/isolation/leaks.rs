//! What one partition's answers could tell of another without naming a UID.

use collimator::http::routes;
use serde_json::json;

use super::{
    matrix::{Carrier, Expect, LIVE, MATRIX, UNUSED, attack_on, base, carriers, shown},
    stage::north_and_south,
};
use crate::harness::{Dicom, PARTITIONS, Server};

/// The same study in both partitions, with more of it in `north`.
async fn twins() -> Server {
    let server = Server::with(&PARTITIONS).await;
    let ct = |n: u32, modality: &str, patient: &str| {
        let series = if modality == "CT" { "1.2.1.1" } else { "1.2.1.2" };
        Dicom::ct("1.2.1", series, &format!("1.2.1.1.{n}"))
            .text(0x0008, 0x0060, "CS", modality)
            .text(0x0010, 0x0010, "PN", patient)
            .file()
    };
    let theirs: Vec<_> =
        (1..6).map(|n| ct(n, if n == 5 { "MR" } else { "CT" }, "North^Nora")).collect();
    server.store("/partitions/north/studies", &theirs).await.is(200);
    server.store("/partitions/south/studies", &[ct(1, "CT", "South^Sam")]).await.is(200);
    server
}

#[tokio::test]
async fn counts_wildcards_and_computed_attributes_are_of_one_partition() {
    let server = twins().await;
    let study = &server.search("/partitions/south/studies?includefield=all&PatientName=*").await[0];
    assert_eq!(study["00201208"]["Value"], json!([1]));
    assert_eq!(study["00201206"]["Value"], json!([1]));
    assert_eq!(study["00080061"]["Value"], json!(["CT"]));
    assert_eq!(study["00100010"]["Value"], json!([{"Alphabetic": "South^Sam"}]));
    for query in [
        "/studies?ModalitiesInStudy=MR",
        "/studies?PatientName=North*",
        "/studies?PatientName=N*",
        "/studies?PatientName=?orth^Nora",
        "/instances?SOPInstanceUID=1.2.1.1.2",
        "/instances?Modality=MR",
        "/series?SeriesInstanceUID=1.2.1.2",
        "/studies/1.2.1/series?Modality=MR",
        "/studies/1.2.1/series/1.2.1.2/instances",
    ] {
        let found = server.search(&format!("/partitions/south{query}")).await;
        assert!(found.is_empty(), "{query}: {found:?}");
        let theirs = server.search(&format!("/partitions/north{query}")).await;
        assert_eq!(theirs.len(), 1, "{query}");
    }
    // A page says what remains of one's own.
    let page = server.get("/partitions/south/instances?limit=1").await.is(200);
    assert_eq!(page.header("warning"), "");
    let page = server.get("/partitions/north/instances?limit=1").await.is(200);
    assert!(
        page.header("warning").contains("There are 4 additional results"),
        "{:?}",
        page.headers
    );
    // Metadata tags tell nothing of the twin either.
    let south = server.get("/partitions/south/studies/1.2.1/metadata").await.is(200);
    assert_eq!(south.json().as_array().unwrap().len(), 1);
    assert!(!south.text().contains("/partitions/north/"));
}

#[tokio::test]
async fn blobs_and_events_lie_in_their_partition() {
    let server = twins().await;
    assert_eq!(server.blobs("north").len(), 1);
    assert_eq!(server.blobs("south").len(), 1);
    assert!(server.blobs("microsoft.default").is_empty());
    for (partition, instances) in [("north", 5), ("south", 1)] {
        let mut conn = server.superuser().await;
        for table in ["instance", "change_feed", "instance_metadata", "frame_table"] {
            let sql = format!("SELECT count(*) FROM {table} WHERE partition_id = $1");
            let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .bind(partition)
                .fetch_one(&mut conn)
                .await
                .unwrap();
            assert_eq!(count, instances, "{table} of {partition}");
        }
    }
    // A failed store in one leaves nothing in the other.
    server
        .store("/partitions/south/studies/1.2.9", &[Dicom::ct("1.2.1", "1", "2").file()])
        .await
        .is(409);
    assert_eq!(server.count("SELECT count(*) FROM change_feed").await, 6);
}

/// Whoever has an entity tag of another partition, by whatever way, learns nothing by showing it.
#[tokio::test]
async fn entity_tags_of_another_partition_match_nothing() {
    let server = north_and_south().await;
    let gets = || {
        routes().published().into_iter().filter(|(method, _)| method == "GET").filter_map(|own| {
            let row = MATRIX.iter().find(|(m, p, ..)| (*m, *p) == ("GET", base(&own.1)))?;
            (row.3 == Expect::Absent).then_some((own.1, row.2))
        })
    };
    let mut tags = vec!["*".to_owned()];
    for (template, query) in gets().filter(|(template, _)| template.starts_with("/partitions/")) {
        let call = ("GET", &*template, query);
        let answer = attack_on("north", &server, call, Carrier::Path, LIVE).await;
        if let Some(tag) = answer.headers.get("etag") {
            tags.push(tag.to_str().unwrap().to_owned());
        }
    }
    assert!(tags.len() > 15, "{tags:?}");
    let (any, all) = (tags.remove(0), tags.join(", "));
    for name in ["if-none-match", "if-match", "if-range"] {
        for shows in [&all, &any, &tags[0]] {
            let client = server.with_header(name, shows);
            for (template, query) in gets() {
                let call = ("GET", &*template, query);
                for carrier in carriers(&template, Expect::Absent) {
                    let foreign = attack_on("south", &client, call, carrier, LIVE).await;
                    let absent = attack_on("south", &client, call, carrier, UNUSED).await;
                    assert_eq!(foreign.status, 404, "{name} {template}");
                    assert_eq!(shown(&foreign, LIVE), shown(&absent, UNUSED), "{name} {template}");
                }
            }
        }
    }
}
