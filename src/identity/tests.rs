//! Tokens as issuers make them, and as nobody should.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    authenticator::{AuthError, Identified},
    flaw::Flaw,
    tokens::Tokens,
};
use crate::{
    config::{AuthConfig, ClaimPath, Config, Sources},
    tenancy::{Known, Permission, Permissions, Principal, PrincipalKind, Reach},
};

#[path = "../../tests/suite/harness/mint.rs"]
mod mint;

use mint::{Forgery, Signer, with};

/// The time of these tests, in seconds since 1970.
const NOW: i64 = 1_800_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

/// Two issuers; `more` are lines of the first.
fn config(more: &str) -> AuthConfig {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "[[auth.issuers]]\nname = \"one\"\nissuer = \"https://one.example\"\n\
         audience = [\"dicom\", \"archive\"]\nroles_claim = \"realm_access.roles\"\n\
         {partitions}{more}\n[[auth.issuers]]\nname = \"two\"\nissuer = \"https://two.example\"\n\
         audience = \"dicom\"\npartitions = \"two\"\n",
        partitions =
            if more.contains("partition") { "" } else { "partition_claim = \"tenant_id\"\n" },
    );
    std::fs::write(file.path(), text).unwrap();
    let environment = vec![("HOME".into(), "/x".into())];
    let sources = Sources { file: Some(file.path().into()), environment, flags: Vec::new() };
    Config::load(&sources).unwrap().auth
}

fn claims() -> Value {
    json!({
        "iss": "https://one.example", "aud": "dicom", "sub": "alice", "azp": "viewer",
        "iat": NOW - 10, "exp": NOW + 600, "jti": "t-1", "sid": "s-1", "tenant_id": "Clinic1",
        "name": "Alice", "realm_access": { "roles": ["reader"] },
    })
}

/// What becomes of a token where these keys are the first issuer's.
async fn verify(more: &str, keys: &[&Signer], token: &str) -> Result<Identified, AuthError> {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    let (keys, none) = (json!({ "keys": keys }), json!({ "keys": [] }));
    Tokens::with_keys(&config(more), &[&keys, &none]).verify(token, now()).await
}

/// Who claims are about, by the configuration.
async fn read(more: &str, claims: &Value) -> Result<(Identified, Known), Flaw> {
    let signer = Signer::new("k", "ES256");
    match verify(more, &[&signer], &signer.token(claims)).await {
        Ok(identified) => match identified.who.clone() {
            Principal::Known(known) => Ok((identified, Known::clone(&known))),
            Principal::Anonymous => panic!("nobody"),
        },
        Err(AuthError::Token(flaw)) => Err(flaw),
        Err(other) => panic!("{other:?}"),
    }
}

async fn known(more: &str, claims: &Value) -> Known {
    read(more, claims).await.unwrap().1
}

fn partitions(known: &Known) -> Vec<&str> {
    match &known.reach {
        Reach::Every => vec!["*"],
        Reach::These(these) => these.iter().map(|one| one.as_str()).collect(),
    }
}

fn roles(known: &Known) -> Vec<&str> {
    known.roles.iter().map(|role| &**role).collect()
}

#[tokio::test]
async fn tokens_of_every_algorithm_say_who_asks() {
    for algorithm in
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
    {
        let signer = Signer::new("k", algorithm);
        let found = verify("", &[&signer], &signer.token(&claims())).await;
        let Ok(Identified { who: Principal::Known(known), issued_at, expires_at, has_mfa }) = found
        else {
            panic!("{algorithm}: {found:?}")
        };
        assert_eq!((&*known.issuer, &*known.subject), ("one", "alice"));
        assert_eq!((known.kind, known.name.as_deref()), (PrincipalKind::User, Some("Alice")));
        assert_eq!((partitions(&known), roles(&known)), (vec!["clinic1"], vec!["reader"]));
        assert_eq!((known.session.as_deref(), known.token.as_deref()), (Some("s-1"), Some("t-1")));
        assert_eq!((known.limit, known.is_operator), (Permissions::ALL, false));
        assert_eq!(issued_at.map(OffsetDateTime::unix_timestamp), Some(NOW - 10));
        assert_eq!(expires_at.map(OffsetDateTime::unix_timestamp), Some(NOW + 660));
        assert!(!has_mfa);
    }
}

#[tokio::test]
async fn every_forgery_is_refused() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let signer = Signer::new("k", algorithm);
        for forgery in Forgery::ALL {
            let token = forgery.token(&signer, &claims(), NOW);
            let refused = verify("", &[&signer], &token).await;
            let expected = match forgery {
                Forgery::Critical => Flaw::Critical,
                Forgery::AlgNone | Forgery::AlgNoneInOtherCase | Forgery::HmacWithPublicKey => {
                    Flaw::Algorithm
                }
                Forgery::WrongKey
                | Forgery::OwnJwk
                | Forgery::OwnJku
                | Forgery::Changed
                | Forgery::Truncated
                | Forgery::Unsigned => Flaw::Signature,
                Forgery::UnknownKid
                | Forgery::PathLikeKid
                | Forgery::SqlLikeKid
                | Forgery::OtherAlgorithm => Flaw::Key,
                Forgery::OtherType => Flaw::Type,
                Forgery::Expired | Forgery::Endless => Flaw::Expired,
                Forgery::NotYet | Forgery::FromTheFuture => Flaw::NotYet,
                Forgery::OtherAudience | Forgery::NoAudience => Flaw::Audience,
                Forgery::OtherIssuer | Forgery::NoIssuer | Forgery::IssuerWithSlash => Flaw::Issuer,
                Forgery::NoSubject => Flaw::Claim,
                Forgery::Bound => Flaw::Bound,
                Forgery::IdToken => Flaw::Purpose,
                Forgery::TwiceSubject
                | Forgery::TwiceAlg
                | Forgery::TwoParts
                | Forgery::FiveParts
                | Forgery::Padded
                | Forgery::Oversized
                | Forgery::NoObject => Flaw::Malformed,
            };
            let refused = refused.map(|found| found.who);
            assert_eq!(refused, Err(AuthError::Token(expected)), "{algorithm} {forgery:?}");
        }
    }
}

#[tokio::test]
async fn one_issuer_does_not_speak_for_another() {
    let (one, two) = (Signer::new("k", "ES256"), Signer::new("k", "ES256"));
    let (ones, twos) = (json!({ "keys": [one.jwk()] }), json!({ "keys": [two.jwk()] }));
    let tokens = Tokens::with_keys(&config(""), &[&ones, &twos]);
    let of_two = with(&claims(), "iss", json!("https://two.example"));
    let found = tokens.verify(&two.token(&of_two), now()).await.unwrap();
    let Principal::Known(known) = found.who else { panic!() };
    // The same subject, and somebody else.
    assert_eq!(
        (&*known.issuer, &*known.subject, partitions(&known)),
        ("two", "alice", vec!["two"])
    );
    for (signer, claims) in [(&two, claims()), (&one, of_two)] {
        let refused = tokens.verify(&signer.token(&claims), now()).await.map(|found| found.who);
        assert_eq!(refused, Err(AuthError::Token(Flaw::Signature)));
    }
}

#[tokio::test]
async fn only_keys_that_fit_are_used() {
    let (rsa, ec) = (Signer::new("k", "RS256"), Signer::new("k", "ES256"));
    let of = |jwk: Value, signer: &Signer| {
        let keys = json!({ "keys": [jwk, { "kty": "oct", "kid": "k", "k": "AAAA" }] });
        let tokens = Tokens::with_keys(&config(""), &[&keys, &keys]);
        let token = signer.token(&claims());
        async move { tokens.verify(&token, now()).await.is_ok() }
    };
    assert!(of(rsa.jwk(), &rsa).await && of(ec.jwk(), &ec).await);
    assert!(of(with(&rsa.jwk(), "alg", Value::Null), &rsa).await);
    assert!(of(with(&rsa.jwk(), "use", Value::Null), &rsa).await);
    for (name, value) in [
        ("use", json!("enc")),
        ("alg", json!("PS256")),
        ("alg", json!("RSA-OAEP")),
        ("key_ops", json!(["encrypt"])),
        ("kid", json!("other")),
        ("kty", json!("EC")),
        ("n", json!("AQAB")),
        ("n", json!(format!("AAAA{}", &rsa.jwk()["n"].as_str().unwrap()[..172]))),
    ] {
        assert!(!of(with(&rsa.jwk(), name, value.clone()), &rsa).await, "{name} {value}");
    }
    for (name, value) in [("crv", json!("P-384")), ("x", json!("AAAA")), ("y", json!(null))] {
        assert!(!of(with(&ec.jwk(), name, value.clone()), &ec).await, "{name} {value}");
    }
    let refused = verify("algorithms = \"ES256\"", &[&rsa], &rsa.token(&claims())).await;
    assert_eq!(refused.map(|found| found.who), Err(AuthError::Token(Flaw::Algorithm)));
}

#[tokio::test]
async fn without_a_kid_the_issuer_must_have_one_key_that_fits() {
    let (one, other) = (Signer::new("a", "ES256"), Signer::new("b", "ES256"));
    let rsa = Signer::new("c", "RS256");
    let token = one.sign(r#"{"alg":"ES256"}"#, &claims().to_string());
    assert!(verify("", &[&one, &rsa], &token).await.is_ok());
    let refused = verify("", &[&one, &other], &token).await.map(|found| found.who);
    assert_eq!(refused, Err(AuthError::Token(Flaw::Key)));
}

#[tokio::test]
async fn times_are_held_against_the_clock_with_some_slack() {
    for (name, seconds, is_good) in [
        ("exp", json!(NOW - 59), true),
        ("exp", json!(NOW - 60), false),
        ("exp", json!(NOW as f64 + 0.5), true),
        ("exp", json!("soon"), false),
        ("exp", json!(1e300), false),
        ("nbf", json!(NOW + 60), true),
        ("nbf", json!(NOW + 61), false),
        ("iat", json!(NOW + 61), false),
        ("iat", json!("now"), false),
        ("auth_time", json!("then"), false),
    ] {
        let read = read("", &with(&claims(), name, seconds.clone())).await;
        assert_eq!(read.is_ok(), is_good, "{name} {seconds}");
    }
    // The log-in counts, not how often the token was renewed.
    let (renewed, _) = read("", &with(&claims(), "auth_time", json!(NOW - 5000))).await.unwrap();
    assert_eq!(renewed.issued_at.map(OffsetDateTime::unix_timestamp), Some(NOW - 5000));
    let (undated, _) = read("", &with(&claims(), "iat", json!(null))).await.unwrap();
    assert_eq!(undated.issued_at, None);
}

#[tokio::test]
async fn audiences_and_parties_must_be_those_of_the_configuration() {
    let listed = with(&claims(), "aud", json!(["x", "archive"]));
    assert!(read("", &listed).await.is_ok());
    let parties = "authorized_parties = [\"viewer\"]";
    assert!(read(parties, &claims()).await.is_ok());
    for (name, value) in [("azp", json!("other")), ("azp", json!(null)), ("azp", json!(["viewer"]))]
    {
        let refused = read(parties, &with(&claims(), name, value)).await;
        assert_eq!(refused.unwrap_err(), Flaw::Party);
    }
    let by_client = with(&with(&claims(), "azp", json!(null)), "client_id", json!("viewer"));
    assert!(read(parties, &by_client).await.is_ok());
}

#[tokio::test]
async fn partitions_follow_from_claims() {
    for (more, value, expected) in [
        ("partition_claim = \"org\"", json!("b"), vec!["b"]),
        ("partition_claim = \"org\"", json!(["b", "a", "not one", 7]), vec!["7", "a", "b"]),
        ("partition_claim = \"org\"", json!({ "acme": { "id": "x" }, "b": {} }), vec!["acme", "b"]),
        ("partition_claim = \"org\"", json!(null), vec![]),
        ("partition_claim = \"org\"", json!("../x"), vec![]),
        ("partition_claim = \"org\"", json!("*"), vec![]),
        ("partition_claim = \"org.id\"", json!({ "id": "c" }), vec!["c"]),
        ("partition_claim = [\"org\", \"id\"]", json!({ "id": "c" }), vec!["c"]),
        ("partition_claim = \"org.id\"", json!("c"), vec![]),
        ("partition_template = \"clinic-{org}\"", json!(["1", "2"]), vec!["clinic-1", "clinic-2"]),
        ("partition_template = \"{org.id}.x\"", json!({ "id": "c" }), vec!["c.x"]),
        ("partitions = [\"a\", \"b\"]", json!("c"), vec!["a", "b"]),
        ("partitions = \"*\"", json!("c"), vec!["*"]),
        (
            "partition_claim = \"org\"\npartition_map = { \"0b9d4a47-75ab\" = [\"a\", \"b\"], \"/c\" = \"c\" }",
            json!(["0b9d4a47-75ab", "/c", "d"]),
            vec!["a", "b", "c"],
        ),
    ] {
        let known = known(more, &with(&claims(), "org", value.clone())).await;
        assert_eq!(partitions(&known), expected, "{more} {value}");
    }
    let many: Vec<String> = (0..1100).map(|n| format!("p{n}")).collect();
    let many = read("partition_claim = \"org\"", &with(&claims(), "org", json!(many))).await;
    assert_eq!(many.unwrap_err(), Flaw::Claim);
}

#[tokio::test]
async fn names_of_claims_may_be_urls() {
    let claims = with(&claims(), "https://example.org/roles", json!(["writer"]));
    let mut config = config("");
    config.issuers[0].roles_claim = Some(ClaimPath::of("https://example.org/roles"));
    let signer = Signer::new("k", "ES256");
    let keys = json!({ "keys": [signer.jwk()] });
    let tokens = Tokens::with_keys(&config, &[&keys]);
    let found = tokens.verify(&signer.token(&claims), now()).await.unwrap();
    let Principal::Known(known) = found.who else { panic!() };
    assert_eq!(roles(&known), ["writer"]);
}

#[tokio::test]
async fn roles_follow_from_claims() {
    let having = |roles: Value| with(&claims(), "realm_access", json!({ "roles": roles }));
    let map = "role_map = { doctor = [\"reader\", \"writer\"] }";
    for (more, theirs, expected) in [
        ("", json!(["reader", "local-role"]), vec!["local-role", "reader"]),
        ("", json!("reader"), vec!["reader"]),
        ("", json!([]), vec![]),
        (map, json!(["doctor", "partition-admin"]), vec!["reader", "writer"]),
        (map, json!(["partition-admin"]), vec![]),
        ("default_roles = \"reader\"", json!([]), vec!["reader"]),
        ("default_roles = \"reader\"", json!(["writer"]), vec!["writer"]),
    ] {
        let known = known(more, &having(theirs.clone())).await;
        assert_eq!(roles(&known), expected, "{more} {theirs}");
    }
    let operator = known("operator_roles = \"root\"", &having(json!(["root", "reader"]))).await;
    assert!(operator.is_operator && operator.roles.is_empty());
    assert_eq!(operator.reach, Reach::Every);
    // The name alone makes nobody an operator.
    let named = known("", &having(json!(["operator"]))).await;
    assert!(!named.is_operator);
}

#[tokio::test]
async fn programs_are_told_from_people() {
    for (changes, kind) in [
        (json!({}), PrincipalKind::User),
        (json!({ "sub": "viewer" }), PrincipalKind::Service),
        (json!({ "sub": "svc", "azp": null, "client_id": "svc" }), PrincipalKind::Service),
        (json!({ "idtyp": "app" }), PrincipalKind::Service),
        (json!({ "gty": "client-credentials" }), PrincipalKind::Service),
        (
            json!({ "preferred_username": "service-account-svc", "client_id": "svc", "sid": null }),
            PrincipalKind::Service,
        ),
        // Whoever calls himself so has a session.
        (
            json!({ "preferred_username": "service-account-svc", "client_id": "svc" }),
            PrincipalKind::User,
        ),
        (json!({ "preferred_username": "service-account-x", "sid": null }), PrincipalKind::User),
    ] {
        let of =
            |claims: Value, (name, value): (&String, &Value)| with(&claims, name, value.clone());
        let claims = changes.as_object().unwrap().iter().fold(claims(), of);
        assert_eq!(known("", &claims).await.kind, kind, "{changes}");
    }
}

#[tokio::test]
async fn more_than_one_factor_is_what_the_configuration_says() {
    let mfa = async |more: &str, name: &str, value: Value| {
        read(more, &with(&claims(), name, value)).await.unwrap().0.has_mfa
    };
    assert!(mfa("", "amr", json!(["pwd", "mfa"])).await);
    assert!(!mfa("", "amr", json!(["pwd", "otp"])).await);
    assert!(!mfa("", "acr", json!("gold")).await);
    assert!(mfa("mfa_values = [\"gold\", \"2\"]", "acr", json!("gold")).await);
    assert!(mfa("mfa_values = [\"gold\", \"2\"]", "acr", json!(2)).await);
    assert!(!mfa("mfa_values = []", "amr", json!(["mfa"])).await);
    let elsewhere = "mfa_claims = \"https://example.org/amr\"";
    assert!(mfa(elsewhere, "https://example.org/amr", json!(["mfa"])).await);
    assert!(!mfa(elsewhere, "amr", json!(["mfa"])).await);
}

#[tokio::test]
async fn scopes_of_smart_limit_and_grant_where_they_may() {
    let scoped = |scope: Value| with(&claims(), "scope", scope);
    let service = |scope: Value| with(&scoped(scope), "sub", json!("viewer"));
    let reading = known("", &scoped(json!("openid user/ImagingStudy.rs"))).await;
    assert!(reading.limit.has(Permission::Search) && !reading.limit.has(Permission::Store));
    let patient = known("", &scoped(json!("patient/ImagingStudy.rs"))).await;
    assert_eq!(patient.limit, Permissions::NONE);
    let ignored = known("smart_scopes = \"ignore\"", &scoped(json!("patient/*.*"))).await;
    assert_eq!(ignored.limit, Permissions::ALL);
    let listed = with(&claims(), "scp", json!(["system/ImagingStudy.c"]));
    assert!(known("", &listed).await.limit.has(Permission::Store));
    let grant = "smart_scopes = \"grant\"";
    let system = || json!("system/ImagingStudy.rs");
    assert_eq!(known("", &service(system())).await.permissions, Permissions::NONE);
    assert_eq!(known(grant, &scoped(system())).await.permissions, Permissions::NONE);
    assert!(known(grant, &service(system())).await.permissions.has(Permission::Retrieve));
}

#[tokio::test]
async fn what_could_not_be_kept_or_revoked_is_refused() {
    let long = "x".repeat(256);
    for (name, value) in [
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!(long)),
        ("sub", json!("a\nb")),
        ("sid", json!(long)),
        ("jti", json!(7)),
    ] {
        let refused = read("", &with(&claims(), name, value.clone())).await;
        assert_eq!(refused.unwrap_err(), Flaw::Claim, "{name}");
    }
    let named = known("", &with(&claims(), "name", json!("é".repeat(1000)))).await;
    assert_eq!(named.name.unwrap().chars().count(), 255);
    let nameless = known("subject_claim = \"oid\"", &with(&claims(), "oid", json!("o-1"))).await;
    assert_eq!(&*nameless.subject, "o-1");
}

#[test]
fn nothing_is_told_of_what_was_not_verified() {
    let unverified = [
        Flaw::Malformed,
        Flaw::Critical,
        Flaw::Type,
        Flaw::Issuer,
        Flaw::Algorithm,
        Flaw::Key,
        Flaw::Signature,
    ];
    let said: std::collections::BTreeSet<&str> = unverified.map(Flaw::said).into();
    assert_eq!(said.len(), 1);
}
