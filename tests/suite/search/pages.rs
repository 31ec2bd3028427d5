//! Limit, offset, order, and answers without results.

use super::found;
use crate::harness::{Answer, Dicom, PARTITIONS, Server};

async fn studies(server: &Server, count: u32) {
    let files: Vec<_> = (0..count)
        .map(|n| {
            let study = format!("1.2.{n}");
            Dicom::ct(&study, &format!("{study}.1"), &format!("{study}.1.1"))
                .text(0x0008, 0x0020, "DA", &format!("202401{:02}", 1 + n % 3))
                .file()
        })
        .collect();
    server.store("/studies", &files).await.is(200);
}

#[tokio::test]
async fn pages_cover_everything_once_and_say_what_remains() {
    let server = Server::start().await;
    studies(&server, 23).await;
    for resource in ["/studies", "/series", "/instances"] {
        let mut seen = Vec::new();
        for offset in (0..30).step_by(5) {
            let path = format!("{resource}?limit=5&offset={offset}");
            let page = server.get(&path).await;
            let expected = 23_usize.saturating_sub(offset).min(5);
            if expected == 0 {
                page.is(204);
                continue;
            }
            let page = page.is(200);
            let remaining = 23 - offset - expected;
            let warning = format!(
                "299 collimator: There are {remaining} additional results that can be requested"
            );
            let expected_warning = if remaining == 0 { "" } else { &warning };
            assert_eq!(page.header("warning"), expected_warning, "{path}");
            let results = page.json();
            assert_eq!(results.as_array().unwrap().len(), expected);
            seen.extend(results.as_array().unwrap().iter().map(|r| r["00081190"].to_string()));
            // The same again is the same.
            assert_eq!(server.get(&path).await.body, page.body);
        }
        let all: Vec<String> =
            server.search(resource).await.iter().map(|r| r["00081190"].to_string()).collect();
        assert_eq!(seen, all, "{resource}");
    }
    let none = server.get("/studies?limit=0").await;
    assert!([200, 204].contains(&none.status));
    assert!(none.header("warning").contains("There are 23 additional results"), "{none:?}");
}

#[tokio::test]
async fn a_larger_limit_than_allowed_is_the_largest_one() {
    let server = Server::with(&[
        ("search.max_studies", "4"),
        ("search.max_series", "5"),
        ("search.max_instances", "6"),
    ])
    .await;
    studies(&server, 9).await;
    for (resource, maximum) in [("/studies", 4), ("/series", 5), ("/instances", 6)] {
        for query in ["", "?limit=100", "?limit=99999999999999999999"] {
            let page = server.get(&format!("{resource}{query}")).await.is(200);
            assert_eq!(page.json().as_array().unwrap().len(), maximum, "{resource}{query}");
            let rest = format!("There are {} additional results", 9 - maximum);
            assert!(page.header("warning").contains(&rest), "{:?}", page.header("warning"));
        }
        let exact = server.get(&format!("{resource}?limit=3&offset=6")).await.is(200);
        assert_eq!(exact.header("warning"), "");
    }
}

#[tokio::test]
async fn no_match_is_204_or_an_empty_array_by_configuration() {
    let server = Server::start().await;
    studies(&server, 1).await;
    let queries =
        ["/studies?PatientID=nobody", "/instances?limit=5&offset=9", "/studies/1.2.99/series"];
    for query in queries {
        assert!(server.get(query).await.is(204).body.is_empty());
    }
    let server = server.restart(&[("search.no_match", "200")]).await;
    for query in queries {
        let answer = server.get(query).await.is(200);
        assert_eq!(&*answer.body, b"[]");
        assert_eq!(answer.header("content-type"), "application/dicom+json");
    }
    assert_eq!(found(&server, "/studies").await, ["1.2.0"]);
}

/// The address of the next page (RFC 8288), if there is one.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link").strip_suffix("; rel=\"next\"")?;
    Some(link.strip_prefix('<')?.strip_suffix('>')?.to_owned())
}

#[tokio::test]
async fn each_page_links_to_the_next_as_the_client_asked() {
    let server = Server::with(&PARTITIONS).await;
    for partition in ["north", "south"] {
        let files: Vec<_> = (1..=5)
            .map(|n| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}")).file())
            .collect();
        server.store(&format!("/partitions/{partition}/studies"), &files).await.is(200);
    }
    for (path, expected) in [
        ("/partitions/north/instances?limit=2", 5),
        ("/v2/partitions/north/instances?offset=1&limit=2&PatientName=d*%5Ej%61ne", 4),
        ("/instances?microsoft.partitionId=north&limit=2&includefield=PatientID", 5),
        ("/instances?limit=3", 10),
        ("/instances?microsoft.partitionId=north,south&limit=%33", 10),
    ] {
        let (mut at, mut seen) = (Some(format!("{}{path}", server.base)), 0);
        let head = path.split('?').next().unwrap();
        while let Some(url) = at {
            assert!(url.starts_with(&format!("{}{head}?", server.base)), "{url}");
            let page = server.get(&url).await.is(200);
            seen += page.json().as_array().unwrap().len();
            assert_eq!(next(&page).is_some(), page.header("warning").contains("additional"));
            at = next(&page);
        }
        assert_eq!(seen, expected, "{path}");
    }
    // Nobody is led in circles, and no header is made too long.
    assert_eq!(server.get("/partitions/north/instances?limit=0").await.header("link"), "");
    let long = format!("/partitions/north/instances?limit=1&x={}", "y".repeat(5_000));
    assert_eq!(next(&server.get(&long).await.is(200)), None);
    let odd = "/partitions/north/instances?limit=1&x=%22%3E;a=%3C&y=<\">é";
    let link = next(&server.get(odd).await.is(200)).unwrap();
    assert!(!link.contains(['<', '>', '"']), "{link}");
    server.get(&link).await.is(200);
}

/// Studies enough for places to be used, `1.2.n`.
fn many(from: usize, to: usize) -> Vec<Vec<u8>> {
    let one = |n: usize| {
        let study = format!("1.2.{n}");
        Dicom::ct(&study, &format!("{study}.1"), &format!("{study}.1.1"))
            .text(0x0008, 0x0020, "DA", &format!("2024{:02}{:02}", 1 + n % 12, 1 + n % 25))
            .text(0x0008, 0x0030, "TM", &format!("{:02}00", n % 24))
            .remove(0x7FE0, 0x0010)
            .file()
    };
    (from..to).map(one).collect()
}

#[tokio::test]
async fn pages_far_behind_are_those_of_one_large_page() {
    let settings = [PARTITIONS[0], ("search.max_counted", "0")];
    let server = Server::with(&settings).await;
    server.store("/partitions/north/studies", &many(0, 1_150)).await.is(200);
    server.store("/partitions/south/studies", &many(1_000, 1_150)).await.is(200);
    for (resource, count) in [
        ("/studies", 1_300_usize),
        ("/series", 1_300),
        ("/instances", 1_300),
        ("/partitions/north/studies", 1_150),
        ("/partitions/north/instances", 1_150),
    ] {
        let all = server.search(&format!("{resource}?limit=2000")).await;
        assert_eq!(all.len(), count);
        // Forth, as somebody turns pages; then anywhere, with places to go by.
        let forth = (0..count).step_by(125);
        for offset in forth.chain([1_125, 1_000, 1_001, 1_127, 999, count - 1, 0]) {
            let path = format!("{resource}?limit=125&offset={offset}");
            let page = server.get(&path).await.is(200);
            let expected = all.get(offset..(offset + 125).min(count)).unwrap();
            assert_eq!(page.json().as_array().unwrap(), expected, "{path}");
            let rest = count.saturating_sub(offset + 125);
            let warning = page.header("warning");
            let expected = format!("There are {rest} additional results");
            let fits = if rest == 0 { warning.is_empty() } else { warning.contains(&expected) };
            assert!(fits, "{path}: {warning}");
        }
        server.get(&format!("{resource}?limit=125&offset={count}")).await.is(204);
        // Another search has places of its own.
        let other = format!("{resource}?PatientID=PAT1&limit=50&offset=1100");
        assert_eq!(server.search(&other).await, all[1_100..1_150]);
    }
    // The row at a place is gone: the page behind is still found.
    let studies = "/partitions/north/studies";
    let all = server.search(&format!("{studies}?limit=2000")).await;
    let gone = all[1_124]["0020000D"]["Value"][0].as_str().unwrap();
    server.get(&format!("{studies}?limit=125&offset=1000")).await.is(200);
    server.delete(&format!("{studies}/{gone}")).await.is(204);
    let page = server.search(&format!("{studies}?limit=5&offset=1125")).await;
    assert!(page == all[1_125..1_130] || page == all[1_126..1_131], "{page:?}");
}

#[tokio::test]
async fn what_remains_is_counted_so_far_and_no_further() {
    let server = Server::with(&[("search.max_counted", "4")]).await;
    studies(&server, 12).await;
    for (query, rest) in
        [("limit=3", 4), ("limit=7", 4), ("limit=8", 4), ("limit=10", 2), ("limit=12", 0)]
    {
        let page = server.get(&format!("/studies?{query}")).await.is(200);
        let expected = format!("There are {rest} additional results");
        let warning = page.header("warning");
        assert!(
            if rest == 0 { warning.is_empty() } else { warning.contains(&expected) },
            "{query}: {warning}"
        );
    }
}
