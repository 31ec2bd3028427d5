//! Limit, offset, order, and answers without results.

use super::found;
use crate::harness::{Dicom, Server};

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
