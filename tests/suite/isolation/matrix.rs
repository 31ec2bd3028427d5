//! The attack matrix: every published route is called in one partition with UIDs of another,
//! through every carrier, and must answer as for UIDs that nobody has.

use std::collections::BTreeMap;

use collimator::{http::routes, index::TENANT_TABLES};
use reqwest::Method;
use sqlx::AssertSqlSafe;

use super::stage::{north, north_and_south};
use crate::harness::{
    Answer, Client, Dicom, Server,
    corpus::{RELATED, multipart, multipart_of},
    send, until,
};

/// What an attack comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// 404.
    Absent,
    /// 204: nothing found.
    Nothing,
    /// 200 with an empty list.
    Empty,
    /// 200: what is stored is the caller's own.
    Stored,
    /// 202: what is added is the caller's own.
    Added,
    /// 200 with what is the caller's own.
    Own,
    /// 200 with what every partition has.
    Common,
    /// 426: what is opened is the caller's own.
    Opened,
}
use Expect::{Absent, Added, Common, Empty, Nothing, Opened, Own, Stored};

/// Every route that answers with what a partition holds, and the query it is attacked with.
pub const MATRIX: &[(&str, &str, &str, Expect)] = &[
    ("POST", "/studies", "", Stored),
    ("POST", "/studies/{study}", "", Stored),
    ("GET", "/studies/{study}", "", Absent),
    ("GET", "/studies/{study}/series/{series}", "", Absent),
    ("GET", "/studies/{study}/series/{series}/instances/{instance}", "", Absent),
    ("GET", "/studies/{study}/metadata", "", Absent),
    ("GET", "/studies/{study}/series/{series}/metadata", "", Absent),
    ("GET", "/studies/{study}/series/{series}/instances/{instance}/metadata", "", Absent),
    ("GET", "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}", "", Absent),
    ("GET", "/studies/{study}/series/{series}/instances/{instance}/bulkdata/{*path}", "", Absent),
    ("GET", "/studies/{study}/bulkdata", "", Absent),
    ("GET", "/studies/{study}/series/{series}/bulkdata", "", Absent),
    ("GET", "/studies/{study}/series/{series}/instances/{instance}/bulkdata", "", Absent),
    ("GET", "/studies/{study}/pixeldata", "", Absent),
    ("GET", "/studies/{study}/series/{series}/pixeldata", "", Absent),
    ("GET", "/studies/{study}/series/{series}/instances/{instance}/pixeldata", "", Absent),
    ("GET", "/studies/{study}/rendered", "", Absent),
    ("GET", "/studies/{study}/thumbnail", "", Absent),
    ("GET", "/studies/{study}/series/{series}/rendered", "", Absent),
    ("GET", "/studies/{study}/series/{series}/thumbnail", "", Absent),
    ("GET", "/studies/{study}/series/{series}/instances/{instance}/rendered", "", Absent),
    ("GET", "/studies/{study}/series/{series}/instances/{instance}/thumbnail", "", Absent),
    (
        "GET",
        "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered",
        "",
        Absent,
    ),
    (
        "GET",
        "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/thumbnail",
        "",
        Absent,
    ),
    (
        "GET",
        "/wado",
        "requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={instance}",
        Absent,
    ),
    ("GET", "/studies", "StudyInstanceUID={study}&includefield=all", Nothing),
    ("GET", "/series", "SeriesInstanceUID={series}&includefield=all", Nothing),
    ("GET", "/instances", "SOPInstanceUID={instance}&includefield=all", Nothing),
    ("GET", "/studies/{study}/series", "", Nothing),
    ("GET", "/studies/{study}/instances", "", Nothing),
    ("GET", "/studies/{study}/series/{series}/instances", "", Nothing),
    ("DELETE", "/studies/{study}", "", Absent),
    ("DELETE", "/studies/{study}/series/{series}", "", Absent),
    ("DELETE", "/studies/{study}/series/{series}/instances/{instance}", "", Absent),
    ("POST", "/commitment-requests/{transaction}", "", Added),
    ("GET", "/commitment-requests/{transaction}", "", Absent),
    ("POST", "/color-palettes", "", Added),
    ("POST", "/color-palettes/{instance}", "", Added),
    ("GET", "/color-palettes", "SOPInstanceUID={instance}&includefield=all", Nothing),
    ("GET", "/color-palettes/{instance}", "", Absent),
    ("GET", "/color-palettes/{instance}/bulkdata/{*path}", "", Absent),
    ("DELETE", "/color-palettes/{instance}", "", Absent),
    ("POST", "/hanging-protocols", "", Added),
    ("POST", "/hanging-protocols/{instance}", "", Added),
    ("GET", "/hanging-protocols", "", Nothing),
    ("GET", "/hanging-protocols/{instance}", "", Absent),
    ("GET", "/hanging-protocols/{instance}/bulkdata/{*path}", "", Absent),
    ("DELETE", "/hanging-protocols/{instance}", "", Absent),
    ("POST", "/defined-procedure-protocols", "", Added),
    ("POST", "/defined-procedure-protocols/{instance}", "", Added),
    ("GET", "/defined-procedure-protocols", "", Nothing),
    ("GET", "/defined-procedure-protocols/{instance}", "", Absent),
    ("GET", "/defined-procedure-protocols/{instance}/bulkdata/{*path}", "", Absent),
    ("DELETE", "/defined-procedure-protocols/{instance}", "", Absent),
    ("POST", "/implant-templates", "", Added),
    ("POST", "/implant-templates/{instance}", "", Added),
    ("GET", "/implant-templates", "", Nothing),
    ("GET", "/implant-templates/{instance}", "", Absent),
    ("GET", "/implant-templates/{instance}/bulkdata/{*path}", "", Absent),
    ("DELETE", "/implant-templates/{instance}", "", Absent),
    ("POST", "/inventories", "", Added),
    ("POST", "/inventories/{instance}", "", Added),
    ("GET", "/inventories", "", Nothing),
    ("GET", "/inventories/{instance}", "", Absent),
    ("GET", "/inventories/{instance}/bulkdata/{*path}", "", Absent),
    ("DELETE", "/inventories/{instance}", "", Absent),
    ("POST", "/protocol-approvals", "", Added),
    ("POST", "/protocol-approvals/{instance}", "", Added),
    ("GET", "/protocol-approvals", "", Nothing),
    ("GET", "/protocol-approvals/{instance}", "", Absent),
    ("GET", "/protocol-approvals/{instance}/bulkdata/{*path}", "", Absent),
    ("DELETE", "/protocol-approvals/{instance}", "", Absent),
    ("GET", "/changefeed", "offset=0&wait=0s", Own),
    ("GET", "/changefeed/latest", "", Own),
    ("POST", "/extendedquerytags", "", Added),
    ("GET", "/extendedquerytags", "", Empty),
    ("GET", "/extendedquerytags/{tag}", "", Absent),
    ("GET", "/extendedquerytags/{tag}/errors", "", Absent),
    ("PATCH", "/extendedquerytags/{tag}", "", Absent),
    ("DELETE", "/extendedquerytags/{tag}", "", Absent),
    ("POST", "/studies/{study}/$undelete", "", Absent),
    ("POST", "/studies/$bulkUpdate", "", Added),
    ("POST", "/studies/$assignPatient", "", Added),
    ("POST", "/patients/$merge", "", Absent),
    ("POST", "/studies/{study}/$move", "", Absent),
    ("POST", "/studies/{study}/series/{series}/$move", "", Absent),
    ("GET", "/removals", "", Empty),
    ("POST", "/removals/$retry", "", Empty),
    ("GET", "/operations", "", Empty),
    ("GET", "/operations/{operation}", "", Absent),
    ("DELETE", "/operations/{operation}", "", Absent),
    ("POST", "/links", "", Absent),
    ("POST", "/links/$rotate", "", Added),
    ("GET", "/audit", "study={study}&action=studies.store", Empty),
    ("POST", "/webhooks", "", Added),
    ("GET", "/webhooks", "", Empty),
    ("GET", "/webhooks/{webhook}", "", Absent),
    ("PATCH", "/webhooks/{webhook}", "", Absent),
    ("DELETE", "/webhooks/{webhook}", "", Absent),
    ("POST", "/webhooks/{webhook}/$rotateSecret", "", Absent),
    ("POST", "/webhooks/{webhook}/$test", "", Absent),
    ("GET", "/webhooks/{webhook}/deadletters", "", Absent),
    ("POST", "/webhooks/{webhook}/deadletters/$replay", "", Absent),
    ("GET", "/webhooks/{webhook}/deadletters/{letter}", "", Absent),
    ("DELETE", "/webhooks/{webhook}/deadletters/{letter}", "", Absent),
    ("POST", "/webhooks/{webhook}/deadletters/{letter}/$replay", "", Absent),
    ("POST", "/export", "", Added),
    ("POST", "/import", "", Added),
    ("POST", "/workitems", "", Added),
    ("GET", "/workitems", "SOPInstanceUID={instance}&includefield=all", Nothing),
    ("GET", "/workitems/{workitem}", "", Absent),
    ("POST", "/workitems/{workitem}", "", Absent),
    ("PUT", "/workitems/{workitem}/state", "", Absent),
    ("POST", "/workitems/{workitem}/cancelrequest", "", Absent),
    ("POST", "/workitems/{workitem}/subscribers/{aetitle}", "deletionlock=true", Absent),
    ("DELETE", "/workitems/{workitem}/subscribers/{aetitle}", "", Absent),
    ("POST", "/workitems/{workitem}/subscribers/{aetitle}/suspend", "", Absent),
    ("GET", "/subscribers/{aetitle}", "", Opened),
    ("GET", "/principals", "", Empty),
    ("POST", "/principals", "", Added),
    ("GET", "/principals/{principal}", "", Absent),
    ("PATCH", "/principals/{principal}", "", Absent),
    ("DELETE", "/principals/{principal}", "", Absent),
    ("POST", "/principals/{principal}/$signOut", "", Absent),
    ("GET", "/roles", "", Common),
    ("GET", "/roles/{role}", "", Absent),
    ("PUT", "/roles/{role}", "", Added),
    ("DELETE", "/roles/{role}", "", Absent),
    ("GET", "/apikeys", "", Empty),
    ("POST", "/apikeys", "", Added),
    ("GET", "/apikeys/{key}", "", Absent),
    ("PATCH", "/apikeys/{key}", "", Absent),
    ("DELETE", "/apikeys/{key}", "", Absent),
    ("POST", "/apikeys/{key}/$rotate", "", Absent),
    ("GET", "/policy", "", Common),
    ("PUT", "/policy", "", Added),
    ("GET", "/revocations", "", Empty),
    ("POST", "/revocations", "", Added),
    ("DELETE", "/revocations/{revocation}", "", Absent),
];

/// Routes that tell nothing of what a partition holds. With authentication off, everybody may see
/// every partition's name. (`OPTIONS` of every other path is the same route as that of the root:
/// `capabilities_say_the_same_of_what_is_there_and_what_is_not` attacks them.)
const OPEN_TO_ALL: &[(&str, &str)] = &[
    ("OPTIONS", "/"),
    ("GET", "/partitions"),
    ("POST", "/partitions"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
];

/// How an attack names the partition `south`.
#[derive(Clone, Copy, Debug)]
pub enum Carrier {
    Path,
    Query,
    Header,
    Host,
    FirstPart,
}

/// UIDs of one instance, which is also that of a workitem (that of the study is also one of a
/// transaction), an extended query tag with its operation, and a webhook with a dead letter,
/// whose id is also that of a principal, an API key and a revocation.
/// All have equal lengths, so that answers may be compared as they are.
#[derive(Clone, Copy, Debug)]
pub struct Uids {
    pub study: &'static str,
    pub series: &'static str,
    pub instance: &'static str,
    pub tag: &'static str,
    pub operation: &'static str,
    pub webhook: &'static str,
}

/// Live in `north`.
pub const LIVE: Uids = Uids {
    study: "1.2.51",
    series: "1.2.51.1",
    instance: "1.2.51.1.1",
    tag: "00101010",
    operation: "00000000000000000000000000000051",
    webhook: "00000000000000000000000000000151",
};
/// Deleted in `north`: 410 there.
pub const DELETED: Uids = Uids {
    study: "1.2.52",
    series: "1.2.52.1",
    instance: "1.2.52.1.1",
    tag: "00101020",
    operation: "00000000000000000000000000000052",
    webhook: "00000000000000000000000000000152",
};
/// Nobody's.
pub const UNUSED: Uids = Uids {
    study: "1.2.53",
    series: "1.2.53.1",
    instance: "1.2.53.1.1",
    tag: "00101030",
    operation: "00000000000000000000000000000053",
    webhook: "00000000000000000000000000000153",
};

pub const SETTINGS: [(&str, &str); 4] = [
    ("features.enable_data_partition", "true"),
    ("tenancy.base_domain", "dicom.test"),
    ("webhooks.allow_http", "true"),
    ("webhooks.allow_private", "true"),
];

impl Uids {
    pub fn file(self, patient: &str) -> Vec<u8> {
        let mut ct = Dicom::ct(self.study, self.series, self.instance);
        ct.text(0x0010, 0x0020, "LO", patient).file()
    }

    pub fn fill(self, template: &str) -> String {
        template
            .replace("{study}", self.study)
            .replace("{transaction}", self.study)
            .replace("{series}", self.series)
            .replace("{instance}", self.instance)
            .replace("{tag}", self.tag)
            .replace("{operation}", self.operation)
            .replace("{webhook}", self.webhook)
            .replace("{workitem}", self.instance)
            .replace("{aetitle}", "AE")
            .replace("{letter}", "7")
            .replace("{principal}", self.webhook)
            .replace("{key}", self.webhook)
            .replace("{revocation}", self.webhook)
            .replace("{role}", &super::access::role(self.webhook))
            .replace("{frames}", "1")
            .replace("{*path}", "7FE00010")
            .replace("{partition}", "south")
    }
}

/// The route of a template, without version and partition.
pub fn base(template: &str) -> &str {
    let rest = template.strip_prefix("/v1").or(template.strip_prefix("/v2")).unwrap_or(template);
    let rest = rest.strip_prefix("/partitions/{partition}").unwrap_or(rest);
    if rest.is_empty() { "/" } else { rest }
}

#[test]
fn every_published_route_is_attacked() {
    let published = routes().published();
    let listed = |method: &str, path: &str| {
        MATRIX.iter().any(|(m, p, ..)| (*m, *p) == (method, path))
            || OPEN_TO_ALL.contains(&(method, path))
    };
    for (method, template) in &published {
        let path = if method == "OPTIONS" { "/" } else { base(template) };
        assert!(listed(method, path), "{method} {template} is not in the matrix");
    }
    let all = MATRIX.iter().map(|(m, p, ..)| (*m, *p)).chain(OPEN_TO_ALL.iter().copied());
    for (method, path) in all {
        let found = published.contains(&(method.to_owned(), path.to_owned()));
        assert!(found, "{method} {path} is in the matrix and not published");
    }
}

/// The body of a change.
fn change_of(template: &str) -> &'static str {
    if template.ends_with("/links") {
        r#"{"path":"/studies/{study}"}"#
    } else if template.ends_with("/$move") {
        r#"{"studyInstanceUid":"1.2.999"}"#
    } else if template.ends_with("/$merge") {
        r#"{"source":{"patientId":"THEIRS"},"target":{"patientId":"OURS"}}"#
    } else if template.ends_with("/state") {
        r#"{"00081195":{"vr":"UI","Value":["1.2.999"]},"00741000":{"vr":"CS","Value":["IN PROGRESS"]}}"#
    } else if template.contains("/workitems/") {
        r#"{"00741204":{"vr":"LO","Value":["OURS"]}}"#
    } else if template.contains("principal") {
        r#"{"state":"suspended"}"#
    } else if template.contains("webhook") || template.contains("apikey") {
        r#"{"state":"disabled"}"#
    } else {
        r#"{"queryStatus":"disabled"}"#
    }
}

/// Sends one attack on `south`.
async fn attack(client: &Client, call: (&str, &str, &str), carrier: Carrier, uids: Uids) -> Answer {
    attack_on("south", client, call, carrier, uids).await
}

/// Sends one attack on a partition.
pub async fn attack_on(
    partition: &str,
    client: &Client,
    (method, template, query): (&str, &str, &str),
    carrier: Carrier,
    uids: Uids,
) -> Answer {
    let mut path = uids.fill(&template.replace("{partition}", partition));
    let mut query = uids.fill(query);
    if matches!(carrier, Carrier::Query) {
        let more = if query.is_empty() { "" } else { "&" };
        query = format!("{query}{more}microsoft.partitionId={partition}");
    }
    if !query.is_empty() {
        path = format!("{path}?{query}");
    }
    let method: Method = method.parse().unwrap();
    let is_of_store = template.ends_with("/studies") || template.ends_with("/studies/{study}");
    let is_store = method == Method::POST && is_of_store;
    let changes_workitem = template.contains("/workitems/") && method != Method::GET;
    let is_correction = ["/$move", "/$merge"].iter().any(|end| template.ends_with(end));
    let is_change = method == Method::PATCH
        || template.ends_with("/links")
        || is_correction
        || changes_workitem;
    let mut request = client.request(method, &path);
    match carrier {
        Carrier::Header => request = request.header("microsoft.partitionId", partition),
        Carrier::Host => request = request.header("host", format!("{partition}.dicom.test")),
        Carrier::Path | Carrier::Query | Carrier::FirstPart => {}
    }
    if is_change {
        request = request.body(uids.fill(change_of(template)));
    }
    if is_store {
        let file = uids.file("OURS");
        let named = format!(r#"[{{"key":"microsoft.partitionId","value":"{partition}"}}]"#);
        let body = match carrier {
            Carrier::FirstPart => {
                let named = ("application/json", named.as_bytes());
                multipart_of(&[named, ("application/dicom", &file)])
            }
            _ => multipart(&[file]),
        };
        request = request.header("content-type", RELATED).body(body);
    }
    send(request).await
}

/// An answer as a client can tell it from another: without the id and time of the request, and
/// with the UIDs asked for made equal.
pub fn shown(answer: &Answer, uids: Uids) -> (u16, BTreeMap<String, String>, String) {
    let same = |text: &str| {
        text.replace(uids.instance, "INSTANCE")
            .replace(uids.series, "SERIES")
            .replace(uids.study, "STUDY")
    };
    let headers = answer.headers.iter().filter_map(|(name, value)| {
        let plain = !["date", "x-request-id"].contains(&name.as_str());
        plain.then(|| (name.to_string(), same(value.to_str().unwrap())))
    });
    (answer.status, headers.collect(), same(&answer.text()))
}

pub fn carriers(template: &str, expect: Expect) -> Vec<Carrier> {
    match (template.contains("{partition}"), expect) {
        (true, _) => vec![Carrier::Path],
        (false, Stored) => {
            vec![Carrier::Query, Carrier::Header, Carrier::Host, Carrier::FirstPart]
        }
        (false, _) => vec![Carrier::Query, Carrier::Header, Carrier::Host],
    }
}

#[tokio::test]
async fn foreign_is_answered_as_absent() {
    attack_every_route(&north_and_south().await).await;
}

/// Every statement names the partition itself: what row-level security would hide is not looked for
/// in the first place. (That the policies alone hold is shown in tests/index/isolation.rs.)
#[tokio::test]
async fn foreign_is_answered_as_absent_by_the_statements_alone() {
    let server = north_and_south().await;
    let mut conn = server.superuser().await;
    for table in TENANT_TABLES {
        let sql =
            format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    }
    attack_every_route(&server).await;
}

async fn attack_every_route(server: &Server) {
    let before = north(server).await;
    let events = "SELECT count(*) FROM change_feed WHERE partition_id = 'north'";
    assert_eq!(server.count(events).await, 4);
    let mut attacks = 0;
    for (method, template) in routes().published() {
        let attack_of =
            |(m, p, ..): &&(&str, &str, &str, Expect)| (*m, *p) == (&*method, base(&template));
        let Some((_, _, query, expect)) = MATRIX.iter().find(attack_of) else { continue };
        if [Stored, Added].contains(expect) {
            continue;
        }
        for carrier in carriers(&template, *expect) {
            let call = (&*method, &*template, *query);
            let absent = attack(server, call, carrier, UNUSED).await;
            let case = format!("{method} {template} by {carrier:?}");
            let status = match expect {
                Absent => 404,
                Nothing => 204,
                Opened => 426,
                Empty | Stored | Added | Own | Common => 200,
            };
            assert_eq!(absent.status, status, "{case}: {}", absent.text());
            assert!(*expect != Empty || absent.text() == "[]", "{case}: {}", absent.text());
            let (text, own) = (absent.text(), "\"sopInstanceUid\":\"1.2.9.1.1\"");
            let is_own = text.contains(own) && text.matches("sopInstanceUid").count() == 1;
            assert!(*expect != Own || is_own, "{case}: {text}");
            for uids in [LIVE, DELETED] {
                let foreign = attack(server, call, carrier, uids).await;
                assert_eq!(shown(&foreign, uids), shown(&absent, UNUSED), "{case}");
                attacks += 1;
            }
        }
    }
    assert!(attacks > 400, "{attacks}");
    let after = north(server).await;
    assert_eq!(after.1, before.1);
    for (was, is) in before.0.iter().zip(&after.0) {
        assert_eq!(shown(was, UNUSED), shown(is, UNUSED));
    }
    assert_eq!(server.count(events).await, 4);
}

#[tokio::test]
async fn capabilities_say_the_same_of_what_is_there_and_what_is_not() {
    let server = north_and_south().await;
    for (method, template) in routes().published().into_iter().filter(|(m, _)| m == "OPTIONS") {
        let call = (&*method, &*template, "");
        for carrier in carriers(&template, Absent) {
            let unused = attack(&server, call, carrier, UNUSED).await;
            assert_eq!(unused.status, 200, "{template} by {carrier:?}: {}", unused.text());
            for uids in [LIVE, DELETED] {
                let foreign = attack(&server, call, carrier, uids).await;
                let case = format!("{template} by {carrier:?}");
                assert_eq!(shown(&foreign, uids), shown(&unused, UNUSED), "{case}");
            }
        }
        // And of a partition that nobody has: what names it apart.
        let path = UNUSED.fill(&template);
        let south = send(server.request(Method::OPTIONS, &path)).await;
        let nowhere =
            send(server.request(Method::OPTIONS, &path.replace("south", "nowhere"))).await;
        assert_eq!(nowhere.status, south.status, "{template}");
        assert_eq!(nowhere.text().replace("nowhere", "south"), south.text(), "{template}");
    }
}

#[tokio::test]
async fn uids_of_another_partition_are_free_to_store() {
    for carrier in
        [Carrier::Path, Carrier::Query, Carrier::Header, Carrier::Host, Carrier::FirstPart]
    {
        let server = north_and_south().await;
        let before = north(&server).await;
        let templates: Vec<(String, String)> = routes()
            .published()
            .into_iter()
            .filter(|(m, t)| {
                m == "POST"
                    && ["/studies", "/studies/{study}"].contains(&base(t))
                    && t.contains("{partition}") == matches!(carrier, Carrier::Path)
            })
            .collect();
        assert_eq!(templates.len(), 6);
        for (method, template) in templates {
            let case = format!("{template} by {carrier:?}");
            let call = (&*method, &*template, "");
            // The first time new, then identical: alike either way.
            let unused = attack(&server, call, carrier, UNUSED).await;
            for uids in [LIVE, DELETED] {
                let foreign = attack(&server, call, carrier, uids).await;
                assert_eq!(foreign.status, 200, "{case}: {}", foreign.text());
                assert_eq!(shown(&foreign, uids), shown(&unused, UNUSED), "{case}");
            }
        }
        // Both have theirs.
        let ours = server.get("/partitions/south/studies/1.2.51").await.is(200);
        assert_eq!(ours.bodies(), [LIVE.file("OURS")]);
        let after = north(&server).await;
        assert_eq!(after.1, before.1);
        for (was, is) in before.0.iter().zip(&after.0) {
            assert_eq!(shown(was, UNUSED), shown(is, UNUSED), "{carrier:?}");
        }
        // And taking ours away takes nothing of theirs.
        server.delete("/partitions/south/studies/1.2.51").await.is(204);
        server.get("/partitions/south/studies/1.2.51").await.problem(410);
        assert_eq!(north(&server).await.1, before.1);
        server.get("/partitions/north/studies/1.2.51").await.is(200);
    }
}

#[tokio::test]
async fn tags_of_another_partition_are_free_to_add() {
    let server = north_and_south().await;
    let before = north(&server).await;
    for (at, uids) in [LIVE, DELETED, UNUSED].into_iter().enumerate() {
        let body = format!(r#"[{{"path":"{}","level":"series"}}]"#, uids.tag);
        let path = "/partitions/south/extendedquerytags";
        let answer = server.post(path, "application/json", body.into_bytes()).await.is(202);
        let href = answer.json()["href"].as_str().unwrap().to_owned();
        until("the operation ends", async || server.get(&href).await.status == 200).await;
        let tag = server.get(&format!("{path}/{}", uids.tag)).await.is(200).json();
        assert_eq!((&tag["level"], tag.get("errors")), (&"series".into(), None));
        let listed = server.get("/partitions/south/operations").await.is(200).json();
        assert_eq!(listed.as_array().unwrap().len(), at + 1);
    }
    server.delete("/partitions/south/extendedquerytags/00101010").await.is(204);
    let after = north(&server).await;
    for (was, is) in before.0.iter().zip(&after.0) {
        assert_eq!(shown(was, UNUSED), shown(is, UNUSED));
    }
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_answered_like_one_without_it() {
    let server = north_and_south().await;
    for (method, path, query, expect) in MATRIX {
        if [Stored, Added].contains(expect) {
            continue;
        }
        let url = |partition: &str| {
            let path = UNUSED.fill(path);
            let query = UNUSED.fill(query);
            format!("/partitions/{partition}{path}?{query}")
        };
        let method: Method = method.parse().unwrap();
        let ask = async |partition: &str| {
            let request = server.request(method.clone(), &url(partition));
            send(request.body(UNUSED.fill(change_of(path)))).await
        };
        let nowhere = ask("nowhere").await;
        assert_eq!(nowhere.status, 404, "{method} {path}: {}", nowhere.text());
        if *expect == Absent {
            assert_eq!(shown(&nowhere, UNUSED), shown(&ask("south").await, UNUSED), "{path}");
        }
    }
}
