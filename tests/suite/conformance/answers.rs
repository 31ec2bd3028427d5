//! Media types, parameters and statuses: each that a route publishes, asked of it.

use collimator::{
    dicom::transfer_syntax::TransferSyntax,
    http::{
        accept::{Form, Offer},
        operation::{Operation, Place},
        routes,
    },
};
use reqwest::{Method, RequestBuilder};

use super::{instance, kinds, parents, stored_as, syntaxes};
use crate::harness::{
    Answer, Dicom, Server,
    corpus::{RELATED, multipart},
    send,
};

/// Media types that name a codestream: answered from an instance that holds one.
fn codestream(media_type: &str) -> Option<&'static TransferSyntax> {
    let known = TransferSyntax::with_media_type(media_type).next();
    known.filter(|_| media_type != "application/octet-stream")
}

/// A server with pixels of all kinds in one study, and an instance for each media type of frames
/// in another, with its instances' UIDs by media type.
async fn server() -> (Server, Vec<(String, String)>) {
    let server = Server::start().await;
    let mut files: Vec<Vec<u8>> = kinds().iter().map(Dicom::file).collect();
    let mut instances = Vec::new();
    for (at, syntax) in syntaxes().iter().enumerate() {
        let is_first = codestream(&syntax.media_type).is_some_and(|first| first.uid == syntax.uid);
        if is_first {
            let (uid, dicom) = stored_as(syntax, at);
            files.push(dicom.file());
            instances.push((syntax.media_type.clone(), uid));
        }
    }
    files.push(report().file());
    server.store("/studies", &files).await.is(200);
    let item = crate::worklist::workitem("P", "20260101").to_string().into_bytes();
    server.post(&format!("/workitems?{OWN}"), "application/dicom+json", item).await.is(201);
    (server, instances)
}

/// A structured report, for media types of text.
fn report() -> Dicom {
    let mut report = Dicom::ct("1.2.3", "1.2.3.1", REPORT);
    let mut title = Dicom::item();
    title.text(0x0008, 0x0100, "SH", "1").text(0x0008, 0x0102, "SH", "99X");
    title.text(0x0008, 0x0104, "LO", "Report");
    report
        .text(0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.1.1.88.11")
        .text(0x0008, 0x0060, "CS", "SR")
        .remove(0x7FE0, 0x0010)
        .text(0x0040, 0xA040, "CS", "CONTAINER")
        .text(0x0040, 0xA050, "CS", "SEPARATE")
        .sequence(0x0040, 0xA043, vec![title])
        .sequence(0x0040, 0xA730, Vec::new());
    report
}

/// The instance from which a route gives an offer.
fn instance_for<'a>(
    operation: &Operation,
    offer: &Offer,
    instances: &'a [(String, String)],
) -> &'a str {
    let media_type = offer.media_type;
    let is_of_pixels = ["frames", "bulkdata", "pixeldata"].contains(&operation.service);
    let is_rendered = ["rendered", "wado-uri"].contains(&operation.service);
    let own = instances.iter().find(|(known, _)| known == media_type);
    match own {
        Some((_, uid)) if is_of_pixels || is_rendered && media_type.starts_with("video/") => uid,
        _ if is_rendered && (media_type.starts_with("text/") || media_type.ends_with("/pdf")) => {
            REPORT
        }
        _ => OWN,
    }
}

/// The path of a route, to what is there.
fn path(operation: &Operation, instance: &str) -> String {
    let (study, series) = parents(instance);
    if operation.service == "wado-uri" {
        let uids = format!("studyUID={study}&seriesUID={series}&objectUID={instance}");
        return format!("{}?requestType=WADO&{uids}", operation.path);
    }
    operation
        .path
        .replace("{study}", &study)
        .replace("{series}", &series)
        .replace("{instance}", instance)
        .replace("{workitem}", instance)
        .replace("{aetitle}", "AE")
        .replace("{frames}", "1")
        .replace("{*path}", "7FE00010")
}

const OWN: &str = "1.2.1.1.8";
/// Services about other resources than studies, with tests of their own (`non_patient`, `commitment`).
const APART: [&str; 2] = ["non-patient", "commitment"];
const REPORT: &str = "1.2.3.1.1";

fn ask(server: &Server, operation: &Operation, path: &str) -> RequestBuilder {
    let request = server.request(operation.method.clone(), path);
    if operation.method == Method::POST {
        let file = kinds()[2].file();
        request.header("content-type", RELATED).body(multipart(&[file]))
    } else {
        request
    }
}

/// The routes whose answers are bodies, but for those that are for machines of operators, and those
/// of access, deletion, tags, links, operations, transfer, updates and webhooks, which have one form whatever is asked for,
/// and those of [`APART`].
fn answering() -> Vec<Operation> {
    let operations = routes().operations().to_vec();
    let one_form = [
        "access",
        "delete",
        "extended-query-tags",
        "links",
        "operations",
        "transfer",
        "update",
        "webhooks",
    ];
    let adds = |own: &Operation| own.path == "/partitions" && own.method == Method::POST;
    let is_asked =
        |own: &Operation| !own.offers.is_empty() && !one_form.contains(&own.service) && !adds(own);
    let is_here = |own: &Operation| is_asked(own) && !APART.contains(&own.service);
    operations.into_iter().filter(is_here).collect()
}

/// An answer that has no end, as it begins.
async fn begun(request: RequestBuilder) -> Answer {
    let mut response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.chunk().await.expect("a stream").expect("its first bytes");
    Answer { status, headers, body }
}

fn is_of(answer: &Answer, offer: &Offer) -> bool {
    let got = answer.header("content-type");
    match offer.form {
        Form::Single => got.split(';').next() == Some(offer.media_type),
        Form::Multipart => got.starts_with(&format!("{};", offer.name())),
    }
}

#[tokio::test]
async fn every_media_type_that_is_listed_is_given() {
    let (server, instances) = server().await;
    let mut asked = 0;
    for operation in answering() {
        for offer in operation.offers {
            let path = path(&operation, instance_for(&operation, offer, &instances));
            let request = ask(&server, &operation, &path).header("accept", offer.name());
            let answer = if offer.media_type == "text/event-stream" {
                begun(request).await
            } else {
                send(request).await
            };
            let case = format!("{} {path} as {}", operation.method, offer.name());
            // Of several items only those that can be had so.
            let some = answer.status == 206 && !operation.path.contains("{instance}");
            assert!(answer.status == 200 || some, "{case}: {} {}", answer.status, answer.text());
            assert!(is_of(&answer, offer), "{case}: {}", answer.header("content-type"));
            asked += 1;
        }
        // And the first is what a client gets that takes anything.
        let path = path(&operation, OWN);
        let answer = send(ask(&server, &operation, &path).header("accept", "*/*")).await;
        let first = &operation.offers[0];
        let case = format!("{} {path}: {}", operation.method, answer.header("content-type"));
        assert!(is_of(&answer, first), "{case}");
    }
    assert!(asked > 80, "{asked}");
}

#[tokio::test]
async fn every_parameter_of_a_search_is_known_and_no_other() {
    let (server, _) = server().await;
    for operation in answering().iter().filter(|own| own.service == "search") {
        let path = path(operation, OWN);
        let parameters = operation.all_parameters();
        assert!(parameters.iter().any(|one| one.name == "PatientID"), "{path}");
        for parameter in parameters.iter().filter(|one| one.place == Place::Query) {
            let value = match parameter.name {
                "limit" => "100",
                "microsoft.partitionId" => "microsoft.default",
                "includefield" => "PatientID",
                "accept" => "application/json",
                _ => parameter.default,
            };
            let answer = server.get(&format!("{path}?{}={value}", parameter.name)).await.is(200);
            assert_eq!(answer.header("warning"), "", "{path} {}", parameter.name);
        }
        let other = server.get(&format!("{path}?Nonsense=1")).await.is(200);
        assert!(other.header("warning").contains("Nonsense"), "{path}");
    }
}

/// How a status is brought about, where a request alone can do it: the path and headers.
fn provoked(operation: &Operation, status: u16) -> Option<(String, Vec<(&'static str, String)>)> {
    let path = path(operation, OWN);
    let takes = |name: &str| operation.all_parameters().iter().any(|one| one.name == name);
    let of = |name, value: &str| vec![(name, value.to_owned())];
    let one_part = operation.offers.iter().find(|offer| offer.form == Form::Single);
    let ranged = |range: &str| {
        let accept = ("accept", one_part?.name());
        Some((path.clone(), vec![accept, ("range", range.to_owned())]))
    };
    match status {
        400 if path != "/" => Some((format!("{path}?microsoft.partitionId=nobody"), Vec::new())),
        404 if operation.path.contains("{study}") && operation.service != "search" => {
            Some((path.replace("1.2.1", "1.2.9"), Vec::new()))
        }
        406 => Some((path, of("accept", "application/x-none"))),
        206 if takes("Range") => ranged("bytes=0-1"),
        416 if takes("Range") => ranged("bytes=99999-"),
        _ => None,
    }
}

#[tokio::test]
async fn statuses_come_as_they_are_listed() {
    let (server, _) = server().await;
    let mut seen = 0;
    let is_read = |own: &&Operation| {
        own.method != Method::DELETE && own.method != Method::POST && !APART.contains(&own.service)
    };
    for operation in routes().operations().iter().filter(is_read) {
        let case = |status: u16| format!("{} {}: {status}", operation.method, operation.path);
        for status in operation.statuses {
            let Some((path, headers)) = provoked(operation, *status) else { continue };
            let mut request = ask(&server, operation, &path);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = send(request).await;
            assert_eq!(answer.status, *status, "{} {}", case(*status), answer.text());
            seen += 1;
        }
        let path = path(operation, OWN);
        let answer = send(ask(&server, operation, &path)).await;
        let tag = answer.header("etag").to_owned();
        assert_eq!(operation.statuses.contains(&304), !tag.is_empty(), "{}", case(304));
        if !tag.is_empty() {
            let same = send(ask(&server, operation, &path).header("if-none-match", tag)).await;
            assert_eq!(same.status, 304, "{}", case(304));
            seen += 1;
        }
    }
    let deleted = instance(OWN);
    server.delete("/studies/1.2.1").await.is(204);
    server.get(&deleted).await.problem(410);
    let is_gone = |own: &&Operation| {
        own.statuses.contains(&410) && own.method == Method::GET && !APART.contains(&own.service)
    };
    for operation in routes().operations().iter().filter(is_gone) {
        server.get(&path(operation, OWN)).await.problem(410);
        seen += 1;
    }
    for operation in routes().operations().iter().filter(|own| own.method == Method::DELETE) {
        let answer = server.delete(&path(operation, OWN)).await;
        assert!(operation.statuses.contains(&answer.status), "{}", answer.status);
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}
