//! Who asks, by access tokens of real issuers on loopback: what a token opens, what it does not, and
//! what becomes of requests while issuers rotate their keys or are away.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Client, Dicom, client,
    corpus::{RELATED, multipart},
    issuer::{self, Issuer, Mood, bearer},
    mint::Forgery,
    until,
};

async fn get(server: &Client, path: &str, token: &str) -> Answer {
    server.get_with(path, &[("authorization", &bearer(token))]).await
}

async fn store(server: &Client, partition: &str, token: &str) -> Answer {
    let file = Dicom::ct("1.2.3", "1.2.3.1", "1.2.3.1.1").file();
    let request = server.request(Method::POST, &format!("/partitions/{partition}/studies"));
    let request = request.header("content-type", RELATED).header("authorization", bearer(token));
    client::send(request.body(multipart(&[file]))).await
}

/// What a list of partitions names.
fn listed(answer: &Answer) -> Vec<String> {
    let names = |value: &Value| value["partitionId"].as_str().unwrap().to_owned();
    answer.json().as_array().unwrap().iter().map(names).collect()
}

const STUDIES: &str = "/partitions/north/studies";
const STUDY: &str = "/partitions/north/studies/1.2.3";

#[tokio::test]
async fn partitions_and_roles_follow_from_claims() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[]).await;
    let writer = issuer.token_for("wendy", "north", "writer");
    let reader = issuer.token_for("rita", "north", "reader");
    let foreign = issuer.token_for("rita", "south", "reader");
    store(&server, "north", &writer).await.is(200);
    store(&server, "south", &issuer.token_for("sam", "south", "writer")).await.is(200);
    get(&server, STUDY, &reader).await.is(200);
    // Its role does not permit it; that the partition is there it knows.
    get(&server, STUDY, &writer).await.problem(403);
    store(&server, "north", &reader).await.problem(403);
    // In another one's partition everything is as if it were not there.
    let hidden = get(&server, STUDY, &foreign).await.is(404);
    let absent = get(&server, "/partitions/nowhere/studies/1.2.3", &foreign).await.is(404);
    assert_eq!(hidden.body, absent.body);
    assert_eq!(listed(&get(&server, "/partitions", &reader).await.is(200)), ["north"]);
    let both = issuer.token(json!({
        "tenant_id": ["north", "south", "nowhere"], "realm_access": { "roles": ["reader"] },
    }));
    assert_eq!(listed(&get(&server, "/partitions", &both).await.is(200)), ["north", "south"]);
    // Without a role nothing is permitted, and without a partition nothing is there.
    get(&server, STUDY, &issuer.token(json!({ "tenant_id": "north" }))).await.problem(403);
    let nowhere = issuer.token(json!({ "realm_access": { "roles": ["reader"] } }));
    get(&server, STUDY, &nowhere).await.problem(404);
    // A token for less is good for less.
    let narrow = issuer.token(json!({
        "tenant_id": "north", "realm_access": { "roles": ["reader"] },
        "scope": "openid user/ImagingStudy.s",
    }));
    get(&server, STUDIES, &narrow).await.is(200);
    get(&server, STUDY, &narrow).await.problem(403);
}

#[tokio::test]
async fn an_operator_sees_nothing_of_patients() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[]).await;
    store(&server, "north", &issuer.token_for("wendy", "north", "writer")).await.is(200);
    let operator = issuer.operator();
    let all = listed(&get(&server, "/partitions", &operator).await.is(200));
    assert_eq!(all, ["microsoft.default", "north"]);
    for path in [STUDY, STUDIES, "/partitions/north/changefeed"] {
        get(&server, path, &operator).await.problem(403);
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_that_is_good() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[]).await;
    store(&server, "north", &issuer.token_for("wendy", "north", "writer")).await.is(200);
    let nothing = server.get(STUDY).await;
    assert_eq!(nothing.header("www-authenticate"), "Bearer realm=\"collimator\"");
    nothing.problem(401);
    let claims = json!({ "tenant_id": "north", "realm_access": { "roles": ["reader"] } });
    get(&server, STUDY, &issuer.token(claims.clone())).await.is(200);
    for forgery in Forgery::ALL {
        let answer = get(&server, STUDY, &issuer.forge(*forgery, claims.clone())).await;
        let challenge = answer.header("www-authenticate").to_owned();
        assert_eq!(
            challenge, "Bearer realm=\"collimator\", error=\"invalid_token\"",
            "{forgery:?}"
        );
        // Whether there is such a partition makes no difference.
        let elsewhere = STUDY.replace("north", "nowhere");
        let other = get(&server, &elsewhere, &issuer.forge(*forgery, claims.clone())).await;
        assert_eq!(answer.body, other.body, "{forgery:?}");
        answer.problem(401);
    }
    let good = bearer(&issuer.token(claims));
    let path = STUDY;
    for headers in [
        &[("authorization", &*good), ("authorization", &*good)][..],
        &[("authorization", &good), ("x-api-key", "some")],
        &[("x-api-key", "some"), ("x-api-key", "other")],
    ] {
        server.get_with(path, headers).await.problem(400);
    }
    for authorization in ["Basic YTpi", "Bearer", "Bearer opaque", &good.replace("Bearer", "Token")]
    {
        server.get_with(path, &[("authorization", authorization)]).await.problem(401);
    }
    // The query is no place for it: URLs are written down (RFC 6750 §2.3).
    let token = good.split(' ').nth(1).unwrap();
    server.get(&format!("{path}?access_token={token}")).await.problem(401);
}

#[tokio::test]
async fn two_issuers_have_people_of_their_own() {
    let (one, two) = (Issuer::start().await, Issuer::named("other", "RS256").await);
    let tables = [one.settings(), two.settings_with("partitions = [\"south\"]")];
    let server = issuer::server_with(&tables, &[]).await;
    store(&server, "north", &one.token_for("wendy", "north", "writer")).await.is(200);
    get(&server, STUDY, &one.token_for("alice", "north", "reader")).await.is(200);
    // What it says of the north is not its business.
    let foreign = two.token_for("alice", "north", "reader");
    get(&server, STUDY, &foreign).await.problem(404);
    store(&server, "south", &two.token_for("alice", "north", "writer")).await.is(200);
    // Nor can it speak for the other, whose key has the same name.
    let claims =
        one.claims(json!({ "tenant_id": "north", "realm_access": { "roles": ["reader"] } }));
    get(&server, STUDY, &two.signer().token(&claims)).await.problem(401);
}

#[tokio::test]
async fn keys_may_be_rotated_at_any_time() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[("auth.jwks_min_refresh", "1s")]).await;
    let reader = || issuer.token_for("rita", "north", "writer");
    let before = reader();
    store(&server, "north", &before).await.is(200);
    issuer.rotate(true);
    store(&server, "north", &reader()).await.is(200);
    store(&server, "north", &before).await.is(200);
    issuer.rotate(false);
    // It asked a moment ago: this may take a second.
    until("the new key is known", async || store(&server, "north", &reader()).await.status == 200)
        .await;
    // What the keys before had signed is not taken any more, unless it was a short while ago.
    issuer.rotate(true);
    let other = issuer.forge(Forgery::WrongKey, json!({ "tenant_id": "north" }));
    store(&server, "north", &other).await.problem(401);
}

#[tokio::test]
async fn nobody_can_make_the_server_ask_again_and_again() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[("auth.jwks_min_refresh", "1h")]).await;
    let forged = |forgery| issuer.forge(forgery, json!({ "tenant_id": "north" }));
    // Not even once for who is nobody's, or forged in other ways.
    for forgery in [Forgery::OtherIssuer, Forgery::AlgNone, Forgery::HmacWithPublicKey] {
        get(&server, STUDY, &forged(forgery)).await.problem(401);
    }
    assert_eq!(issuer.asked(), (0, 0));
    let tokens: Vec<String> = (0..40)
        .map(|n| forged([Forgery::UnknownKid, Forgery::PathLikeKid, Forgery::SqlLikeKid][n % 3]))
        .collect();
    let asked = tokens.iter().map(|token| get(&server, STUDY, token));
    for answer in futures::future::join_all(asked).await {
        answer.problem(401);
    }
    for token in &tokens {
        get(&server, STUDY, token).await.problem(401);
    }
    // Once because there were no keys, and once because there was none of that name.
    assert_eq!(issuer.asked(), (2, 2));
    get(&server, STUDY, &issuer.token_for("rita", "north", "reader")).await.problem(404);
}

#[tokio::test]
async fn an_issuer_that_is_away_is_no_reason_to_refuse_anybody() {
    let issuer = Issuer::start().await;
    let server = issuer::server(&[&issuer], &[("auth.jwks_min_refresh", "1s")]).await;
    let reader = || issuer.token_for("rita", "north", "reader");
    for mood in [Mood::Down, Mood::Nonsense, Mood::Impostor, Mood::Redirects, Mood::Endless] {
        let server = issuer::server(&[&issuer], &[]).await;
        issuer.is(mood);
        let begun = Instant::now();
        let answer = get(&server, STUDY, &reader()).await;
        assert!(!answer.header("retry-after").is_empty(), "{mood:?}");
        answer.problem(503);
        // It is left alone for five seconds, which may have passed on a busy machine.
        let asked = issuer.asked();
        get(&server, STUDY, &reader()).await.problem(503);
        assert!(issuer.asked() == asked || begun.elapsed().as_secs() >= 5, "{mood:?}");
        // Who would not be taken anyhow is refused all the same.
        get(&server, STUDY, &issuer.forge(Forgery::AlgNone, json!({}))).await.problem(401);
    }
    issuer.is(Mood::Oauth);
    get(&server, STUDY, &reader()).await.problem(404);
    // Its keys are known now: what they sign is good, also while it is away.
    issuer.is(Mood::Down);
    get(&server, STUDY, &reader()).await.problem(404);
    issuer.rotate(true);
    get(&server, STUDY, &reader()).await.problem(503);
    issuer.is(Mood::Well);
    until("the new key is known", async || get(&server, STUDY, &reader()).await.status == 404)
        .await;
}

#[tokio::test]
async fn many_who_come_at_once_wait_for_one_answer() {
    let issuer = Issuer::start().await;
    issuer.is(Mood::Slow);
    let server = issuer::server(&[&issuer], &[]).await;
    let tokens: Vec<String> =
        (0..20).map(|n| issuer.token_for(&format!("user-{n}"), "north", "reader")).collect();
    // One that leaves early does not take the answer along.
    let first = tokio::spawn({
        let (client, token) = (Client::new(server.base.clone()), tokens[0].clone());
        async move { get(&client, STUDY, &token).await }
    });
    until("it is asked", async || issuer.asked().0 == 1).await;
    first.abort();
    issuer.open(2);
    for answer in
        futures::future::join_all(tokens.iter().map(|token| get(&server, STUDY, token))).await
    {
        answer.problem(404);
    }
    assert_eq!(issuer.asked(), (1, 1));
}
