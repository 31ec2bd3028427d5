//! What a search for workitems finds, in which order, and what it says of each.

use reqwest::Method;
use serde_json::{Value, json};

use super::{code, of, post, state, workitem};
use crate::harness::{Answer, Client, Server, send};

/// The UIDs of what was found, in its order.
fn uids(answer: &Answer) -> Vec<String> {
    let uid = |item: &Value| item["00080018"]["Value"][0].as_str().unwrap().to_owned();
    match answer.status {
        204 => Vec::new(),
        _ => answer.json().as_array().unwrap().iter().map(uid).collect(),
    }
}

async fn found(client: &Client, query: &str) -> Vec<String> {
    let answer = client.get(&format!("/workitems?{query}")).await;
    assert!([200, 204].contains(&answer.status), "{query}: {} {}", answer.status, answer.text());
    uids(&answer)
}

async fn filled() -> Server {
    let server = Server::start().await;
    // The later ones first, so that the order is that of their starts.
    for n in (1..=5).rev() {
        let mut item = workitem(&format!("P{n}"), &format!("2026010{n}0800"));
        item["00404011"] = of("DT", json!([format!("2026020{n}")]));
        item["00404025"] = of("SQ", json!([code(&format!("CT{n}"))]));
        item["00404034"] = of(
            "SQ",
            json!([{
                "00404009": of("SQ", json!([code(&format!("H{n}"))])),
                "00404037": of("PN", json!([{ "Alphabetic": "Ray^X" }])),
            }]),
        );
        item["00741200"] = of("CS", json!([if n == 1 { "HIGH" } else { "LOW" }]));
        item["00090010"] = of("LO", json!(["ACME"]));
        item["00091001"] = of("LO", json!([format!("own {n}")]));
        post(&server, &format!("/workitems?1.2.{n}"), &item).await.is(201);
    }
    state(&server, "/workitems/1.2.2", "IN PROGRESS", Some("1.2.999.77")).await.is(200);
    send(server.request(Method::POST, "/workitems/1.2.3/cancelrequest")).await.is(202);
    server
}

#[tokio::test]
async fn every_key_that_the_standard_demands_matches() {
    let server = filled().await;
    let all = ["1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5"];
    for (query, expected) in [
        ("", &all[..]),
        ("SOPInstanceUID=1.2.4", &["1.2.4"]),
        ("SOPInstanceUID=1.2.5,1.2.4,1.2.404", &["1.2.4", "1.2.5"]),
        ("SOPInstanceUID=1.2.4&PatientID=P5", &[]),
        ("ScheduledProcedureStepPriority=HIGH", &["1.2.1"]),
        ("ProcedureStepLabel=Read%20P4", &["1.2.4"]),
        ("WorklistLabel=Reading*", &all),
        ("WorklistLabel=reading*", &[]),
        ("ScheduledStationNameCodeSequence.CodeValue=CT4", &["1.2.4"]),
        ("00404025.00080100=CT4&00404025.00080102=99X", &["1.2.4"]),
        ("00404025.00080100=CT4&00404025.00080102=DCM", &[]),
        ("ScheduledStationClassCodeSequence.CodeValue=CT4", &[]),
        ("ScheduledHumanPerformersSequence.HumanPerformerCodeSequence.CodeValue=H5", &["1.2.5"]),
        ("ScheduledProcedureStepStartDateTime=20260102-20260103", &["1.2.2", "1.2.3"]),
        ("ScheduledProcedureStepStartDateTime=202601030801-", &["1.2.4", "1.2.5"]),
        ("ScheduledProcedureStepStartDateTime=-202601020800", &["1.2.1", "1.2.2"]),
        ("ScheduledProcedureStepStartDateTime=202601020800", &["1.2.2"]),
        ("ExpectedCompletionDateTime=20260204-", &["1.2.4", "1.2.5"]),
        ("ScheduledWorkitemCodeSequence.CodeValue=W1", &all),
        ("InputReadinessState=READY", &all),
        ("InputReadinessState=UNAVAILABLE", &[]),
        ("PatientName=doe^p4", &["1.2.4"]),
        ("PatientName=DOE*", &all),
        ("PatientID=P5", &["1.2.5"]),
        ("PatientID=P*", &all),
        ("PatientBirthDate=19700101", &all),
        ("PatientSex=F", &[]),
        ("ReferencedRequestSequence.AccessionNumber=A-P4", &["1.2.4"]),
        ("ReferencedRequestSequence.RequestedProcedureID=RP1", &all),
        ("ProcedureStepState=SCHEDULED", &["1.2.1", "1.2.4", "1.2.5"]),
        ("ProcedureStepState=IN%20PROGRESS", &["1.2.2"]),
        ("ProcedureStepState=CANCELED", &["1.2.3"]),
        ("ProcedureStepState=COMPLETED", &[]),
        ("00741000=SCHEDULED&ScheduledProcedureStepStartDateTime=20260104", &["1.2.4"]),
        ("PatientID=P4&ProcedureStepState=SCHEDULED", &["1.2.4"]),
        ("PatientID=P4&ProcedureStepState=COMPLETED", &[]),
        ("fuzzymatching=true&PatientName=p4%20doe", &["1.2.4"]),
        ("emptyvaluematching=true&AdmissionID=%22%22", &all),
        ("AdmissionID=", &all),
        ("00090010=ACME&00091001=own%202", &["1.2.2"]),
    ] {
        assert_eq!(found(&server, query).await, expected, "{query}");
    }
    for query in [
        "ScheduledProcedureStepStartDateTime=soon",
        "SOPInstanceUID=x",
        "PatientID=1&PatientID=2",
        "limit=x",
        "fuzzymatching=1",
        "includefield=nonsense",
    ] {
        server.get(&format!("/workitems?{query}")).await.problem(400);
    }
    // A change of what it is found by is found at once.
    let later = json!({ "00404005": of("DT", json!(["20270101"])) });
    post(&server, "/workitems/1.2.1", &later).await.is(200);
    let order = ["1.2.2", "1.2.3", "1.2.4", "1.2.5", "1.2.1"];
    assert_eq!(found(&server, "").await, order);
    assert_eq!(found(&server, "ProcedureStepState=SCHEDULED").await, ["1.2.4", "1.2.5", "1.2.1"]);
}

#[tokio::test]
async fn pages_follow_each_other_and_say_what_remains() {
    let server = filled().await;
    let first = server.get("/workitems?limit=2&PatientID=P*").await.is(206);
    assert_eq!(uids(&first), ["1.2.1", "1.2.2"]);
    let remain = "299 collimator: There are 3 additional results that can be requested";
    assert_eq!(first.header("warning"), remain);
    let next = |answer: &Answer| {
        let link = answer.header("link");
        link.strip_prefix('<')
            .and_then(|link| link.strip_suffix(">; rel=\"next\""))
            .unwrap()
            .to_owned()
    };
    let second = server.get(&next(&first)).await.is(206);
    assert_eq!(uids(&second), ["1.2.3", "1.2.4"]);
    let third = server.get(&next(&second)).await.is(200);
    assert_eq!((uids(&third), third.header("link")), (vec!["1.2.5".to_owned()], ""));
    server.get("/workitems?offset=5").await.is(204);
    let none = server.get("/workitems?limit=0").await;
    assert_eq!((none.status, none.header("warning").contains("5 additional")), (204, true));
    let uids_alone =
        server.get("/workitems?SOPInstanceUID=1.2.5,1.2.4,1.2.3&limit=2").await.is(206);
    assert_eq!(uids(&uids_alone), ["1.2.3", "1.2.4"]);
}

#[tokio::test]
async fn what_is_said_of_each_is_what_the_standard_demands_and_what_is_asked_for() {
    let server = filled().await;
    let one = async |query: &str| {
        let answer = server.get(&format!("/workitems?SOPInstanceUID=1.2.2&{query}")).await.is(200);
        answer.json()[0].take()
    };
    let plain = one("").await;
    let keys = [
        "00080016", "00080018", "00081080", "00081084", "00100010", "00100020", "00100021",
        "00100024", "00100030", "00100040", "00101002", "0020000D", "00380010", "00380014",
        "00404005", "00404018", "00404021", "00404025", "00404026", "00404027", "00404034",
        "00404041", "0040A370", "00741000", "00741002", "00741200", "00741202", "00741204",
        "00741210",
    ];
    assert_eq!(plain.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
    let more = one("includefield=ScheduledProcedureStepModificationDateTime,00404011").await;
    assert!(more["00404010"].is_object() && more["00404011"].is_object());
    let private = one("includefield=00091001&00090010=ACME").await;
    assert_eq!(private["00091001"]["Value"], json!(["own 2"]));
    assert_eq!(private["00090010"]["Value"], json!(["ACME"]));
    let matched = one("ExpectedCompletionDateTime=20260202").await;
    assert_eq!(matched["00404011"]["Value"], json!(["20260202"]));
    let all = one("includefield=all").await;
    assert!(all["00741216"].is_object() && all["00091001"].is_object());
    for shown in [&plain, &all, &one("includefield=00081195&TransactionUID=1.2.999.77").await] {
        assert_eq!(shown.get("00081195"), None);
        assert!(!shown.to_string().contains("1.2.999.77\""), "no lock is shown: {shown}");
    }
    let ignored = server.get("/workitems?Nonsense=1&TransactionUID=1.2.999.77").await.is(200);
    for name in ["Nonsense", "TransactionUID"] {
        assert!(ignored.header("warning").contains(name), "{}", ignored.header("warning"));
    }
    // As XML, one document each.
    let xml =
        server.get_as("/workitems", "multipart/related; type=\"application/dicom+xml\"").await;
    let parts = xml.is(200).parts();
    assert_eq!(parts.len(), 5);
    let text = String::from_utf8(parts[1].body.clone()).unwrap();
    assert!(text.contains("<Value number=\"1\">IN PROGRESS</Value>"), "{text}");
    assert!(!text.contains("TransactionUID"));
    server.get_as("/workitems", "image/png").await.problem(406);
}

#[tokio::test]
async fn a_search_looks_at_so_much_and_answers_so_much() {
    let server = filled().await;
    let mut conn = server.superuser().await;
    let many = "INSERT INTO workitem (partition_id, workitem_uid, state, start_at, attributes)
        SELECT partition_id, '1.3.' || n, state, start_at, attributes
        FROM workitem, generate_series(1, 300) n WHERE workitem_uid = '1.2.4'";
    sqlx::raw_sql(many).execute(&mut conn).await.unwrap();
    let small = [
        ("search.max_filtered", "100"),
        ("search.max_counted", "20"),
        ("worklist.max_answer_bytes", "64KiB"),
    ];
    let server = server.restart(&small).await;
    // Enough to fill a page and to count what is counted.
    let page = server.get("/workitems?limit=10").await.is(206);
    assert!(page.header("warning").contains("20 additional"), "{}", page.header("warning"));
    let broad = server.get("/workitems?PatientSex=F").await.problem(413);
    assert_eq!(broad["errors"][0]["field"], "PatientSex");
    let long = server.get("/workitems?limit=70&includefield=all").await.problem(413);
    assert_eq!(long["errors"][0]["field"], "worklist.max_answer_bytes");
    // What has an index finds its way.
    assert_eq!(found(&server, "PatientID=P5").await, ["1.2.5"]);
    assert_eq!(found(&server, "ProcedureStepState=CANCELED").await, ["1.2.3"]);
    let start = "ScheduledProcedureStepStartDateTime=20260105";
    assert_eq!(found(&server, start).await, ["1.2.5"]);
}
