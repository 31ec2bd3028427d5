//! What holds for every route: over HTTP/1.1 and HTTP/2, for pages of other origins, with `HEAD`,
//! and what routes say of themselves.

mod capabilities;

use std::collections::BTreeMap;

use collimator::http::routes;
use reqwest::Method;

use crate::harness::{Answer, Client, Dicom, Server, send};

const ORIGIN: (&str, &str) = ("origin", "https://viewer.example");

async fn server(settings: &[(&str, &str)]) -> Server {
    let server = Server::with(settings).await;
    let path = "/partitions/microsoft.default/studies";
    server.store(path, &[Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file()]).await.is(200);
    server
}

/// The path of a template with what is there, or with UIDs of nothing.
fn path(template: &str, there: bool) -> String {
    let (study, series, instance) =
        if there { ("1.2.1", "1.2.1.1", "1.2.1.1.1") } else { ("1.2.9", "1.2.9.1", "1.2.9.1.1") };
    template
        .replace("{study}", study)
        .replace("{series}", series)
        .replace("{instance}", instance)
        .replace("{frames}", "1")
        .replace("{*path}", "7FE00010")
        .replace("{tag}", "00101010")
        .replace("{operation}", "00000000000000000000000000000051")
        .replace("{webhook}", "00000000000000000000000000000151")
        .replace("{letter}", "7")
        .replace("{principal}", "00000000000000000000000000000151")
        .replace("{key}", "00000000000000000000000000000151")
        .replace("{revocation}", "00000000000000000000000000000151")
        .replace("{role}", "role-1")
        .replace("{workitem}", instance)
        .replace("{aetitle}", "AE")
        .replace("{partition}", "microsoft.default")
}

/// Every route that is read, as it is there and as it is not.
fn read_paths() -> Vec<String> {
    let routes = routes().published().into_iter().filter(|(method, _)| method == "GET");
    routes.flat_map(|(_, template)| [path(&template, true), path(&template, false)]).collect()
}

/// The headers but for those that differ from answer to answer.
fn headers(answer: &Answer) -> BTreeMap<String, String> {
    let varying = ["date", "x-request-id", "connection", "transfer-encoding", "upgrade"];
    let headers = answer.headers.iter().filter(|(name, _)| !varying.contains(&name.as_str()));
    headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect()
}

async fn ask(client: &Client, method: Method, path: &str) -> Answer {
    send(client.request(method, path).header("accept", "*/*").header(ORIGIN.0, ORIGIN.1)).await
}

#[tokio::test]
async fn every_route_answers_alike_over_http_2_and_to_head() {
    let server = server(&[("cors.allowed_origins", "*")]).await;
    let second = server.over_http2();
    let mut found = 0;
    for path in read_paths() {
        let plain = ask(&server, Method::GET, &path).await;
        let multiplexed = ask(&second, Method::GET, &path).await;
        // Metrics and readiness say something else each time.
        let is_fixed = !path.contains("/metrics") && !path.contains("/health");
        assert_eq!(multiplexed.status, plain.status, "{path}");
        if is_fixed {
            assert_eq!(multiplexed.body, plain.body, "{path}");
            assert_eq!(headers(&multiplexed), headers(&plain), "{path}");
        }
        for client in [&*server, &second] {
            let head = ask(client, Method::HEAD, &path).await;
            assert_eq!(head.status, plain.status, "HEAD {path}");
            assert!(head.body.is_empty(), "HEAD {path}");
            let (mut ours, mut theirs) = (headers(&head), headers(&plain));
            // A length that costs work to know may be left out (RFC 9110 §8.6), never differ.
            if ours.remove("content-length").is_some() {
                let length = theirs.remove("content-length").unwrap();
                assert!(!is_fixed || head.header("content-length") == length, "HEAD {path}");
            }
            theirs.remove("content-length");
            assert_eq!(ours, theirs, "HEAD {path}");
        }
        found += usize::from(plain.status == 200);
    }
    assert!(found > 100, "{found} routes answered 200");
}

#[tokio::test]
async fn answers_without_a_body_announce_no_length() {
    let server = server(&[]).await;
    for client in [&*server, &server.over_http2()] {
        let nothing = client.get("/studies?PatientID=nobody").await.is(204);
        assert_eq!(nothing.header("content-length"), "");
        let metadata = "/studies/1.2.1/metadata";
        let tag = client.get(metadata).await.is(200).header("etag").to_owned();
        let same = client.get_with(metadata, &[("if-none-match", &tag)]).await.is(304);
        assert_eq!((same.header("content-length"), same.header("etag")), ("", &*tag));
    }
    server.delete("/studies/1.2.1").await.is(204);
}

#[tokio::test]
async fn stores_and_deletes_go_over_http_2_as_well() {
    let server = server(&[]).await;
    let second = server.over_http2();
    for (method, template) in routes().published() {
        if method == "POST" && template.contains("/studies") && !template.contains('$') {
            let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
            second.store(&path(&template, true), &[file]).await.is(200);
        } else if method == "DELETE" {
            second.delete(&path(&template, false)).await.problem(404);
        } else if method == "OPTIONS" {
            second.options(&path(&template, true), &[]).await.is(200);
        }
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_every_answer() {
    let server = server(&[("cors.allowed_origins", ORIGIN.1)]).await;
    let check = |answer: &Answer, of: &str| {
        assert_eq!(answer.header("access-control-allow-origin"), ORIGIN.1, "{of}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin", "{of}");
        let exposed = answer.header("access-control-expose-headers");
        // What a viewer reads of an answer: sizes, ranges, tags, warnings, when to come back.
        for name in [
            "content-type",
            "content-length",
            "content-range",
            "accept-ranges",
            "etag",
            "location",
            "content-location",
            "warning",
            "retry-after",
            "www-authenticate",
        ] {
            assert!(exposed.split(", ").any(|own| own == name), "{of}: {name}");
        }
        let vary = answer.header("vary");
        for name in ["accept", "accept-encoding", "origin"] {
            assert!(vary.split(", ").any(|own| own == name), "{of}: {name}");
        }
    };
    for (method, template) in routes().published() {
        for there in [true, false] {
            let path = path(&template, there);
            if method != "DELETE" || !there {
                let method: Method = method.parse().unwrap();
                check(&ask(&server, method, &path).await, &path);
            }
            let preflight = server
                .options(
                    &path,
                    &[
                        ORIGIN,
                        ("access-control-request-method", &method),
                        ("access-control-request-headers", "accept,authorization,range"),
                    ],
                )
                .await
                .is(204);
            check(&preflight, &path);
            let allowed = preflight.header("access-control-allow-methods");
            assert!(allowed.split(", ").any(|own| own == method), "{path}: {method}");
            let headers = preflight.header("access-control-allow-headers");
            for name in ["accept", "authorization", "content-type", "range", "if-none-match"] {
                assert!(headers.split(", ").any(|own| own == name), "{path}: {name}");
            }
            assert!(preflight.header("access-control-max-age").parse::<u32>().unwrap() > 3_600);
            assert_eq!(preflight.header("content-type"), "", "no capabilities");
        }
    }
    // Errors of every kind, and another origin.
    for (path, status) in [("/nowhere", 404), ("/studies/x", 400), ("/studies/1.2.1?accept=", 406)]
    {
        let request = server.request(Method::GET, path).header(ORIGIN.0, ORIGIN.1);
        let answer = send(request.header("accept", "image/x-none")).await.is(status);
        check(&answer, path);
    }
    let put = send(server.request(Method::PUT, "/studies").header(ORIGIN.0, ORIGIN.1)).await;
    check(&put.is(405), "405");
    let other = server.get_with("/studies", &[("origin", "https://evil.example")]).await.is(200);
    assert_eq!(other.header("access-control-allow-origin"), "");
}
