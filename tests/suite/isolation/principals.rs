//! The attack matrix by who asks: every route that answers with what a partition holds, under every
//! prefix, through every carrier, by everybody who may not, and by those who may some of it.
//!
//! Cells are generated from the published routes. What each route takes to be permitted is told here
//! once more, by its path alone: a route that is added without a place in it fails.

use std::{collections::BTreeSet, sync::atomic::AtomicUsize, sync::atomic::Ordering::Relaxed};

use collimator::{
    dicom::non_patient::Category,
    http::routes,
    tenancy::{Permission, Permissions, Role},
};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::json;

use super::matrix::{
    Carrier, Expect, LIVE, MATRIX, SETTINGS, UNUSED, Uids, attack_on, base, carriers, shown,
};
use super::stage::{north_and_south, north_as};
use crate::harness::{
    Answer, Client, Server,
    issuer::{self, Issuer, bearer},
    mint::Forgery,
    send, until,
};

/// What becomes of a request that names `north`.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// 401, whatever is asked of whom.
    Unknown,
    /// As of what is not there, 401 where no partition is named: links know none but theirs.
    Narrow,
    /// As of a partition that does not exist.
    Elsewhere,
    /// 403, whatever is asked.
    ShutOut,
    /// 403, but for this.
    May(Permissions),
}

/// Somebody, and what becomes of him.
struct Somebody {
    called: String,
    client: Client,
    fate: Fate,
}

/// What a route of a partition takes.
fn permission_of(method: &str, path: &str) -> Permission {
    let service = path.split('/').nth(1).unwrap();
    let reads = method == "GET";
    let finds = ["/studies", "/series", "/instances"].iter().any(|end| path.ends_with(end));
    match service {
        "studies" | "series" | "instances" | "wado" => match method {
            "GET" if finds => Permission::Search,
            "GET" => Permission::Retrieve,
            "DELETE" => Permission::Delete,
            "POST" if path.ends_with("$undelete") => Permission::Delete,
            "POST" if path.contains('$') => Permission::Update,
            "POST" => Permission::Store,
            _ => panic!("{method} {path}"),
        },
        "patients" => Permission::Update,
        "commitment-requests" => Permission::Commit,
        "export" => Permission::Export,
        "import" => Permission::Store,
        category if Category::named(category).is_some() => match method {
            "GET" if path == format!("/{category}") => Permission::Search,
            "GET" => Permission::Retrieve,
            "DELETE" => Permission::Delete,
            "POST" => Permission::Store,
            _ => panic!("{method} {path}"),
        },
        "changefeed" => Permission::ReadChanges,
        "extendedquerytags" if reads => Permission::ReadTags,
        "extendedquerytags" => Permission::ManageTags,
        "operations" | "removals" if reads => Permission::ReadOperations,
        "operations" | "removals" => Permission::ManageOperations,
        "workitems" if reads => Permission::ReadWorkitems,
        "workitems" => Permission::ManageWorkitems,
        "subscribers" => Permission::ReadWorkitems,
        "webhooks" if reads => Permission::ReadWebhooks,
        "webhooks" => Permission::ManageWebhooks,
        "principals" | "roles" | "apikeys" | "revocations" if reads => Permission::ReadPrincipals,
        "principals" | "roles" | "apikeys" | "revocations" => Permission::ManagePrincipals,
        "policy" if reads => Permission::ReadPolicy,
        "policy" => Permission::ManagePolicy,
        "audit" => Permission::ReadAudit,
        "links" if path.ends_with("$rotate") => Permission::ManagePrincipals,
        "links" => Permission::Share,
        _ => panic!("{method} {path} takes no permission that is known here"),
    }
}

#[test]
fn every_permission_is_asked_for_by_a_route_of_the_matrix() {
    let mut asked: BTreeSet<Permission> =
        MATRIX.iter().map(|(method, path, ..)| permission_of(method, path)).collect();
    // Those of the platform, and what a body has to ask for, of which other tests tell.
    asked.extend([
        Permission::ListPartitions,
        Permission::ManagePartitions,
        Permission::ReadMetrics,
        Permission::ExportDeidentified,
    ]);
    for permission in Permission::ALL {
        assert!(asked.contains(permission), "{permission}");
    }
}

/// A call of a route through a carrier.
#[derive(Clone, Debug)]
pub struct Call {
    method: String,
    template: String,
    query: &'static str,
    carrier: Carrier,
}

impl Call {
    fn permission(&self) -> Permission {
        permission_of(&self.method, base(&self.template))
    }

    /// With a partition of somebody's, or of nobody's.
    pub async fn by(&self, client: &Client, partition: &str, uids: Uids) -> Answer {
        let call = (&*self.method, &*self.template, self.query);
        attack_on(partition, client, call, self.carrier, uids).await
    }
}

/// Every cell of routes and carriers.
pub fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    for (method, template) in routes().published() {
        let of_route =
            |(m, p, ..): &&(&str, &str, &str, Expect)| (*m, *p) == (&*method, base(&template));
        let Some((_, _, query, expect)) = MATRIX.iter().find(of_route) else { continue };
        for carrier in carriers(&template, *expect) {
            let (method, template) = (method.clone(), template.clone());
            calls.push(Call { method, template, query, carrier });
        }
    }
    calls
}

/// A server with `north` and `south`, and authentication on.
pub async fn fenced(issuer: &Issuer) -> Server {
    let list = issuer::list(&[issuer.settings()]);
    let mut settings = SETTINGS.to_vec();
    settings.extend([
        ("auth.enabled", "true"),
        ("auth.issuers", &list),
        ("auth.cache", "0s"),
        ("auth.failures", "1000000"),
    ]);
    north_and_south().await.restart(&settings).await
}

async fn put(client: &Client, path: &str, body: serde_json::Value) {
    let request = client.request(Method::PUT, path).header("content-type", "application/json");
    send(request.body(body.to_string())).await.is(200);
}

async fn post(client: &Client, path: &str, body: serde_json::Value) -> serde_json::Value {
    let answer = client.post(path, "application/json", body.to_string().into_bytes()).await;
    assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
    answer.json()
}

/// Queries of signed URLs, and what becomes of who has them.
async fn links(admin: &Client, south: &Client) -> Vec<(&'static str, String, Fate)> {
    let link = async |client: &Client, partition: &str, body| {
        let made = post(client, &format!("/partitions/{partition}/links"), body).await;
        made["url"].as_str().unwrap().split_once('?').unwrap().1.to_owned()
    };
    let study = json!({ "path": "/studies/1.2.51" });
    let rotated = link(admin, "north", study.clone()).await;
    post(admin, "/partitions/north/links/$rotate?now=true", json!({})).await;
    let brief = json!({ "path": "/studies/1.2.51", "expires": 1 });
    let expired = link(admin, "north", brief).await;
    let path = format!("/partitions/north/studies/1.2.51?{expired}");
    let nobody = Client::new(admin.base.clone());
    until("the link ends", async || nobody.get(&path).await.status == 401).await;
    let turned = link(admin, "north", study).await.replacen("signature=", "signature=A", 1);
    let other = link(admin, "north", json!({ "path": "/studies/1.2.50" })).await;
    let theirs = link(south, "south", json!({ "path": "/studies/1.2.9" })).await;
    vec![
        ("a link of another partition", theirs, Fate::Unknown),
        ("a link whose key was rotated away", rotated, Fate::Unknown),
        ("a link that ended", expired, Fate::Unknown),
        ("a link that was turned", turned, Fate::Unknown),
        ("a link for another study", other, Fate::Narrow),
    ]
}

/// Everybody.
async fn people(server: &Server, issuer: &Issuer) -> Vec<Somebody> {
    let with = |token: &str| server.with_header("authorization", &bearer(token));
    let admin = with(&issuer.token_for("ada", "north", "partition-admin"));
    let south = with(&issuer.token_for("sam", "south", "partition-admin"));
    let new = json!({ "name": "gateway", "roles": ["partition-admin"] });
    let key = post(&south, "/partitions/south/apikeys", new.clone()).await;
    let key = key["key"].as_str().unwrap().to_owned();
    let own = post(&admin, "/partitions/north/apikeys", new).await;
    let own = own["key"].as_str().unwrap().to_owned();
    let relabelled = format!("{}_north", key.strip_suffix("_south").unwrap());
    let turned = own.replacen("cmk_", "cmk_0", 1);
    // Somebody whom the partition shut out.
    let shut = with(&issuer.token_for("sue", "north", "partition-admin"));
    shut.get("/partitions/north/roles").await.is(200);
    let listed = admin.get("/partitions/north/principals").await.is(200).json();
    let sue = listed.as_array().unwrap().iter().find(|one| one["subject"] == "sue").unwrap();
    let path = format!("/partitions/north/principals/{}", sue["id"].as_str().unwrap());
    let request = admin.request(Method::PATCH, &path).header("content-type", "application/json");
    send(request.body(r#"{"state":"suspended"}"#)).await.is(200);

    let mut people = Vec::new();
    let mut add = |called: &str, client: Client, fate| {
        people.push(Somebody { called: called.to_owned(), client, fate });
    };
    add("nobody", Client::new(server.base.clone()), Fate::Unknown);
    for forgery in
        [Forgery::AlgNone, Forgery::HmacWithPublicKey, Forgery::WrongKey, Forgery::Expired]
    {
        let claims = json!({
            "sub": "ada", "tenant_id": "north", "realm_access": { "roles": ["partition-admin"] },
        });
        add(&format!("{forgery:?}"), with(&issuer.forge(forgery, claims)), Fate::Unknown);
    }
    add(
        "a key of another partition, relabelled",
        server.with_header("x-api-key", &relabelled),
        Fate::Unknown,
    );
    add("a key that was turned", server.with_header("x-api-key", &turned), Fate::Unknown);
    for (called, query, fate) in links(&admin, &south).await {
        add(called, server.with_query(&query), fate);
    }
    add("an admin of another partition", south, Fate::Elsewhere);
    add("a key of another partition", server.with_header("x-api-key", &key), Fate::Elsewhere);
    add("somebody suspended", shut, Fate::ShutOut);
    // The partition's policy says what such a one is.
    add(
        "somebody without a role",
        with(&issuer.token(json!({ "sub": "nil", "tenant_id": "north" }))),
        Fate::May(Role::Reader.permits()),
    );
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Operator) {
        let token = issuer.token_for(&format!("r-{}", role.as_str()), "north", role.as_str());
        add(role.as_str(), with(&token), Fate::May(role.permits()));
    }
    // A role of the platform is nothing that a partition's claim could give.
    add(
        "operator, by the name of the role",
        with(&issuer.token_for("eve", "north", "operator")),
        Fate::May(Permissions::NONE),
    );
    add("operator", with(&issuer.operator()), Fate::May(Role::Operator.permits()));
    people
}

/// Asks one cell; says what is wrong with the answer.
async fn ask(call: &Call, who: &Somebody) -> Result<(), String> {
    let case = |answer: &Answer| {
        let Call { method, template, carrier, .. } = call;
        Err(format!(
            "{} by {carrier:?}: {method} {template}: {} {}",
            who.called,
            answer.status,
            answer.text()
        ))
    };
    let answer = match who.fate {
        Fate::May(permissions) if permissions.has(call.permission()) => {
            // What is permitted is done, on what is not there.
            let answer = call.by(&who.client, "north", UNUSED).await;
            let is_refused = [401, 403].contains(&answer.status) || answer.status >= 500;
            return if is_refused { case(&answer) } else { Ok(()) };
        }
        _ => call.by(&who.client, "north", LIVE).await,
    };
    let is_as_told = match who.fate {
        Fate::Unknown => answer.status == 401,
        Fate::Narrow => {
            let absent = call.by(&who.client, "north", UNUSED).await;
            [401, 404].contains(&absent.status) && shown(&answer, LIVE) == shown(&absent, UNUSED)
        }
        Fate::ShutOut | Fate::May(_) => answer.status == 403,
        Fate::Elsewhere => {
            let absent = call.by(&who.client, "nowhere", UNUSED).await;
            absent.status == 404 && shown(&answer, LIVE) == shown(&absent, UNUSED)
        }
    };
    let tells = ["THEIRS", "OURS"].iter().any(|secret| answer.text().contains(secret));
    if is_as_told && !tells { Ok(()) } else { case(&answer) }
}

/// Asks all cells of these, several at a time; answers how many there were.
async fn ask_all(people: &[Somebody], calls: &[Call]) -> usize {
    let asked = AtomicUsize::new(0);
    let cells = people.iter().flat_map(|who| calls.iter().map(move |call| (who, call)));
    let wrong: Vec<String> = stream::iter(cells)
        .map(async |(who, call)| {
            asked.fetch_add(1, Relaxed);
            ask(call, who).await.err()
        })
        .buffer_unordered(8)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} cells are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
    asked.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_what_is_his_and_nothing_tells_of_the_rest() {
    let issuer = Issuer::start().await;
    let server = fenced(&issuer).await;
    let admin = issuer.token_for("ada", "north", "partition-admin");
    let admin = server.with_header("authorization", &bearer(&admin));
    let (people, calls) = (people(&server, &issuer).await, calls());
    let before = north_as(&admin, &server).await;
    // Those who may nothing first: afterwards all is as it was.
    let (may, rest): (Vec<_>, Vec<_>) =
        people.into_iter().partition(|who| matches!(who.fate, Fate::May(_)));
    let mut cells = ask_all(&rest, &calls).await;
    let after = north_as(&admin, &server).await;
    assert_eq!(after.1, before.1);
    for (was, is) in before.0.iter().zip(&after.0) {
        assert_eq!(shown(was, UNUSED), shown(is, UNUSED));
    }
    // The prefixes of versions lead to the same handlers; those who may nothing went through them.
    let plain: Vec<_> = calls.into_iter().filter(|call| !call.template.starts_with("/v")).collect();
    cells += ask_all(&may, &plain).await;
    println!("{cells} cells");
    assert!(cells > 10_000, "{cells}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_read_only_or_suspended_keeps_its_state() {
    let issuer = Issuer::start().await;
    let server = fenced(&issuer).await;
    let token = issuer.token_for("ada", "north", "partition-admin");
    let admin = server.with_header("authorization", &bearer(&token));
    let calls: Vec<_> =
        calls().into_iter().filter(|call| !call.template.starts_with("/v")).collect();
    let all = Role::PartitionAdmin.permits();
    let of_policy = [Permission::ReadPolicy, Permission::ManagePolicy];
    let of_keepers = [of_policy.as_slice(), &[Permission::ManagePrincipals]].concat();
    let reads = |permission: &Permission| !permission.changes() || of_keepers.contains(permission);
    for (state, may) in [
        ("read-only", all.iter().filter(reads).collect::<Permissions>()),
        ("suspended", Permissions::of(&of_policy)),
    ] {
        put(&admin, "/partitions/north/policy", json!({ "state": state })).await;
        let ada =
            Somebody { called: state.to_owned(), client: admin.clone(), fate: Fate::May(may) };
        ask_all(&[ada], &calls).await;
    }
    put(&admin, "/partitions/north/policy", json!({ "state": "active" })).await;
    admin.get("/partitions/north/studies/1.2.51").await.is(200);
}

/// What would name another partition besides one's own.
#[tokio::test]
async fn who_names_his_own_partition_and_another_gets_neither() {
    let issuer = Issuer::start().await;
    let server = fenced(&issuer).await;
    let token = issuer.token_for("sam", "south", "partition-admin");
    let south = server.with_header("authorization", &bearer(&token));
    let own = "/partitions/south/studies/1.2.51";
    for (query, header, host) in [
        ("?microsoft.partitionId=north", "", ""),
        ("?microsoft.partitionId=south&microsoft.partitionId=north", "", ""),
        ("?MICROSOFT.partitionId=north&microsoft.partitionId=north", "", ""),
        ("?microsoft%2EpartitionId=north", "", ""),
        ("?microsoft.partitionId=%6Eorth", "", ""),
        ("", "north", ""),
        ("", "NORTH", ""),
        ("", "", "north.dicom.test"),
        ("", "", "NORTH.dicom.test"),
    ] {
        let mut request = south.request(Method::GET, &format!("{own}{query}"));
        if !header.is_empty() {
            request = request.header("microsoft.partitionId", header);
        }
        if !host.is_empty() {
            request = request.header("host", host);
        }
        send(request).await.problem(400);
    }
    // What no carrier reads, and what nobody was told to trust, changes nothing.
    for (name, value) in [
        ("x-forwarded-host", "north.dicom.test"),
        ("forwarded", "host=north.dicom.test"),
        ("x-original-url", "/partitions/north/studies/1.2.51"),
        ("x-rewrite-url", "/partitions/north/studies/1.2.51"),
        ("x-http-method-override", "DELETE"),
        ("cookie", "microsoft.partitionId=north"),
    ] {
        let absent = south.get(own).await.is(404);
        let answer = south.get_with(own, &[(name, value)]).await;
        assert_eq!(shown(&answer, UNUSED), shown(&absent, UNUSED), "{name}");
    }
    // Paths that would lead elsewhere if somebody tidied them up.
    for path in [
        "/partitions/south/../north/studies/1.2.51",
        "/partitions/south/%2e%2e/north/studies/1.2.51",
        "/partitions/south/..%2fnorth/studies/1.2.51",
        "/partitions/south//partitions/north/studies/1.2.51",
        "/partitions/south%2f..%2fnorth/studies/1.2.51",
        "/partitions/south;north/studies/1.2.51",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let request = format!("{head}Authorization: {}\r\n\r\n", bearer(&token));
        let answer = String::from_utf8_lossy(&server.raw(request.as_bytes()).await).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "404"].contains(&status), "{path}: {answer}");
    }
}
