//! People and programs that an issuer vouches for, as partitions come to know them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use collimator::{
    control::{Access, ControlError, Partitions},
    tenancy::{
        Circumstances, Denied, Known, Named, Permission, Permissions, Principal, PrincipalKind,
        Reach, Refused,
    },
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{FORGETFUL, call, get, two};
use crate::harness::{Server, server::config};

/// The decisions of a server that takes what an issuer vouches for.
async fn decisions(server: &Server, cache: &str) -> Partitions {
    let (db, _) = server.parts().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = [("features.enable_data_partition", "true"), ("auth.cache", cache)];
    let config = config(dir.path(), &settings);
    let access = Access::new(db.clone(), &config.auth);
    Partitions::new(db, access, &config.features, &config.partitions)
}

fn alice(reach: Reach, roles: &[&str]) -> Known {
    Known {
        kind: PrincipalKind::User,
        issuer: "issuer-a".into(),
        subject: "alice".into(),
        name: Some("Alice".into()),
        reach,
        roles: roles.iter().map(|role| Box::from(*role)).collect(),
        permissions: Permissions::NONE,
        limit: Permissions::ALL,
        is_operator: false,
        session: Some("s-1".into()),
        token: Some("t-1".into()),
    }
}

fn in_north() -> Reach {
    Reach::These(BTreeSet::from(["north".parse().unwrap()]))
}

fn now() -> Circumstances {
    let now = OffsetDateTime::now_utc();
    Circumstances { now, issued_at: Some(now), ..Circumstances::default() }
}

/// Whether she may search `north`.
async fn may(partitions: &Partitions, who: &Known, around: &Circumstances) -> Result<(), Refused> {
    let who = Principal::Known(Arc::new(who.clone()));
    let named = Named::One("north".parse().unwrap());
    match partitions.scope(&who, around, &named, Permission::Search).await {
        Ok(_) => Ok(()),
        Err(ControlError::Refused(refused)) => Err(refused),
        Err(error) => panic!("{error}"),
    }
}

/// The only principal of `north`.
async fn only(server: &Server, keeper: &str) -> Value {
    let listed = get(server, keeper, "/partitions/north/principals").await.is(200).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    listed[0].clone()
}

const MISSING: Refused = Refused::Denied(Denied::Permission(Permission::Search));

#[tokio::test]
async fn the_first_request_makes_somebody_known_once() {
    let (server, north, _) = two(&FORGETFUL).await;
    let partitions = decisions(&server, "0s").await;
    let who = alice(in_north(), &[]);
    // Many at once.
    let around = now();
    let many = (0..8).map(|_| may(&partitions, &who, &around));
    for verdict in futures::future::join_all(many).await {
        assert_eq!(verdict, Err(MISSING));
    }
    let shown = only(&server, &north).await;
    assert_eq!((&shown["subject"], &shown["name"]), (&"alice".into(), &"Alice".into()));
    assert!(shown["roles"] == json!([]) && shown["lastSeenTime"].is_string());
    // What the partition gives by default, and what it gives her.
    let policy = |roles: &[&str]| json!({ "defaultRoles": roles });
    let put = async |body: Value| {
        call(&server, &north, "PUT", "/partitions/north/policy", body).await.is(200);
    };
    put(policy(&["reader"])).await;
    assert_eq!(may(&partitions, &who, &now()).await, Ok(()));
    put(policy(&[])).await;
    assert_eq!(may(&partitions, &who, &now()).await, Err(MISSING));
    let one = format!("/partitions/north/principals/{}", shown["id"].as_str().unwrap());
    call(&server, &north, "PATCH", &one, json!({"roles": ["reader"]})).await.is(200);
    assert_eq!(may(&partitions, &who, &now()).await, Ok(()));
    // Whoever has the same name elsewhere has nothing of it.
    let other = Known { issuer: "issuer-b".into(), ..who.clone() };
    assert_eq!(may(&partitions, &other, &now()).await, Err(MISSING));
    assert_eq!(server.count("SELECT count(*) FROM principal").await, 2);
    // Nobody is made known where he does not get, nor by what the server vouches for itself.
    let elsewhere = Reach::These(BTreeSet::from(["south".parse().unwrap()]));
    let stranger = Known { subject: "bob".into(), reach: elsewhere, ..who.clone() };
    assert_eq!(may(&partitions, &stranger, &now()).await, Err(Refused::Hidden));
    for kind in [PrincipalKind::ApiKey, PrincipalKind::Link] {
        let it = Known { kind, subject: "it".into(), ..who.clone() };
        assert_eq!(may(&partitions, &it, &now()).await, Err(MISSING));
    }
    assert_eq!(server.count("SELECT count(*) FROM principal").await, 2);
}

#[tokio::test]
async fn whoever_looks_everywhere_is_known_where_he_goes_by_name() {
    let (server, north, _) = two(&FORGETFUL).await;
    let partitions = decisions(&server, "5s").await;
    let who = alice(Reach::Every, &["reader"]);
    let all = Principal::Known(Arc::new(who.clone()));
    partitions.scope(&all, &now(), &Named::Nothing, Permission::Search).await.unwrap();
    assert_eq!(server.count("SELECT count(*) FROM principal").await, 0);
    assert_eq!(may(&partitions, &who, &now()).await, Ok(()));
    only(&server, &north).await;
    // Seen again within the hour is not written again.
    let seen = "SELECT (extract(epoch FROM max(last_seen_at)) * 1000000)::bigint FROM principal";
    let before = server.count(seen).await;
    assert_eq!(may(&partitions, &who, &now()).await, Ok(()));
    let after = server.count(seen).await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn who_is_suspended_signed_out_or_revoked_is_out() {
    let (server, north, _) = two(&FORGETFUL).await;
    let partitions = decisions(&server, "0s").await;
    let who = alice(in_north(), &["reader"]);
    let then = now();
    assert_eq!(may(&partitions, &who, &then).await, Ok(()));
    let shown = only(&server, &north).await;
    let one = format!("/partitions/north/principals/{}", shown["id"].as_str().unwrap());
    call(&server, &north, "PATCH", &one, json!({"state": "suspended"})).await.is(200);
    assert_eq!(may(&partitions, &who, &now()).await, Err(Denied::Principal.into()));
    call(&server, &north, "PATCH", &one, json!({"state": "active"})).await.is(200);
    assert_eq!(may(&partitions, &who, &then).await, Ok(()));
    // Signed out: what was issued before, or does not say when, is not taken.
    call(&server, &north, "POST", &format!("{one}/$signOut"), Value::Null).await.is(200);
    assert_eq!(may(&partitions, &who, &then).await, Err(Denied::Revoked.into()));
    let undated = Circumstances { issued_at: None, ..now() };
    assert_eq!(may(&partitions, &who, &undated).await, Err(Denied::Revoked.into()));
    let later = Circumstances { issued_at: Some(then.now + Duration::from_secs(60)), ..now() };
    assert_eq!(may(&partitions, &who, &later).await, Ok(()));
    // A session or a token, of that issuer alone.
    for (kind, value, other) in [("session", "s-1", "s-2"), ("token", "t-1", "t-2")] {
        let path = "/partitions/north/revocations";
        let body = |issuer: &str| json!({"kind": kind, "issuer": issuer, "value": value});
        call(&server, &north, "POST", path, body("issuer-b")).await.is(201);
        assert_eq!(may(&partitions, &who, &later).await, Ok(()));
        let added = call(&server, &north, "POST", path, body("issuer-a")).await.is(201);
        assert_eq!(may(&partitions, &who, &later).await, Err(Denied::Revoked.into()));
        let mut another = who.clone();
        match kind {
            "session" => another.session = Some(other.into()),
            _ => another.token = Some(other.into()),
        }
        assert_eq!(may(&partitions, &another, &later).await, Ok(()));
        let one = format!("{path}/{}", added.json()["id"].as_str().unwrap());
        call(&server, &north, "DELETE", &one, Value::Null).await.is(204);
    }
    // A certificate has no sessions.
    let machine = Known { kind: PrincipalKind::Certificate, subject: "m".into(), ..who.clone() };
    assert_eq!(may(&partitions, &machine, &undated).await, Ok(()));
    let listed = get(&server, &north, "/partitions/north/principals?kind=certificate").await;
    let id = listed.json()[0]["id"].as_str().unwrap().to_owned();
    let out = format!("/partitions/north/principals/{id}/$signOut");
    call(&server, &north, "POST", &out, Value::Null).await.problem(409);
}

#[tokio::test]
async fn what_other_servers_change_is_seen_when_the_cache_is_old() {
    let (server, north, _) = two(&FORGETFUL).await;
    let (keeps, forgets) = (decisions(&server, "60s").await, decisions(&server, "0s").await);
    let who = alice(in_north(), &["reader"]);
    for partitions in [&keeps, &forgets] {
        assert_eq!(may(partitions, &who, &now()).await, Ok(()));
    }
    let suspended = json!({"state": "suspended"});
    call(&server, &north, "PUT", "/partitions/north/policy", suspended).await.is(200);
    assert_eq!(may(&keeps, &who, &now()).await, Ok(()));
    assert_eq!(may(&forgets, &who, &now()).await, Err(Denied::Partition.into()));
    // A text that no row can hold is nobody's.
    let odd = Known { subject: "a\0b".into(), ..who };
    assert_eq!(may(&forgets, &odd, &now()).await, Err(Denied::Revoked.into()));
}

#[tokio::test]
async fn what_one_partition_gave_is_good_in_that_one_alone() {
    let (server, north, _) = two(&FORGETFUL).await;
    let partitions = decisions(&server, "0s").await;
    let body = json!({"issuer": "issuer-a", "subject": "alice", "roles": ["partition-admin"]});
    call(&server, &north, "POST", "/partitions/north/principals", body).await.is(201);
    let ask = async |who: Known, named: Named| {
        let who = Principal::Known(Arc::new(who));
        match partitions.scope(&who, &now(), &named, Permission::ManageTags).await {
            Ok(scope) => Ok(scope.as_setting()),
            Err(ControlError::Refused(refused)) => Err(refused),
            Err(error) => panic!("{error}"),
        }
    };
    let in_one = Named::One("north".parse().unwrap());
    assert_eq!(ask(alice(Reach::Every, &[]), in_one).await, Ok("north".to_owned()));
    // What is at the root holds for all partitions.
    let denied = Denied::Permission(Permission::ManageTags);
    assert_eq!(ask(alice(Reach::Every, &[]), Named::Nothing).await, Err(denied.into()));
    let of_all = "microsoft.default,north,south".to_owned();
    let keeper = alice(Reach::Every, &["partition-admin"]);
    assert_eq!(ask(keeper, Named::Nothing).await, Ok(of_all.clone()));
    let operator = Known { is_operator: true, subject: "olga".into(), ..alice(Reach::Every, &[]) };
    assert_eq!(ask(operator, Named::Nothing).await, Ok(of_all));
}
