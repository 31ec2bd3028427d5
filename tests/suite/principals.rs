//! Who may do what in a partition, as it is kept over HTTP: API keys, roles, principals, the policy.

mod known;
mod long;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Dicom, Server, send};

/// Partitions and authentication on.
const ON: [(&str, &str); 2] =
    [("features.enable_data_partition", "true"), ("auth.enabled", "true")];

/// The same, and nothing remembered: what other servers, or SQL, change is seen at once.
const FORGETFUL: [(&str, &str); 3] = [ON[0], ON[1], ("auth.cache", "0s")];

async fn call(client: &Client, key: &str, method: &str, path: &str, body: Value) -> Answer {
    let method: Method = method.parse().unwrap();
    let request = client.request(method, path).header("x-api-key", key);
    let has_body = !body.is_null();
    send(if has_body { request.body(body.to_string()) } else { request }).await
}

async fn get(client: &Client, key: &str, path: &str) -> Answer {
    call(client, key, "GET", path, Value::Null).await
}

/// A server with the partitions `north` and `south`, and a key of who keeps each.
async fn two(settings: &[(&str, &str)]) -> (Server, String, String) {
    let server = Server::with(settings).await;
    let mut conn = server.superuser().await;
    let sql = "INSERT INTO partition (partition_id) VALUES ('north'), ('south')";
    sqlx::query(sql).execute(&mut conn).await.unwrap();
    let north = server.key("north", "partition-admin").await;
    let south = server.key("south", "partition-admin").await;
    (server, north, south)
}

/// Makes a key; answers its id and the key itself.
async fn made(server: &Server, by: &str, within: &str, body: Value) -> (String, String) {
    let path = format!("/partitions/{within}/apikeys");
    let answer = call(server, by, "POST", &path, body).await.is(201);
    let shown = answer.json();
    let text = |name: &str| shown[name].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

#[tokio::test]
async fn without_a_credential_nobody_gets_in() {
    let (server, north, south) = two(&ON).await;
    for path in ["/partitions/north/studies", "/studies", "/partitions", "/partitions/x/policy"] {
        let problem = server.get(path).await;
        assert_eq!(problem.header("www-authenticate"), "Bearer realm=\"collimator\"");
        problem.problem(401);
    }
    get(&server, &north, "/partitions/north/studies").await.is(204);
    let bearer = format!("Bearer {north}");
    let headers = [("authorization", &*bearer)];
    server.get_with("/partitions/north/studies", &headers).await.is(204);
    // Named or not, by whatever carrier: a key is good for its own partition.
    get(&server, &north, "/studies").await.is(204);
    for path in ["/partitions/south/studies", "/partitions/nowhere/studies"] {
        let hidden = get(&server, &north, path).await;
        let absent = get(&server, &north, "/partitions/north/studies/1.2.3").await;
        assert_eq!((hidden.status, &hidden.body), (404, &absent.body), "{path}");
    }
    get(&server, &south, "/partitions/south/studies").await.is(204);
    let seen = get(&server, &north, "/partitions").await.is(200).json();
    assert_eq!(seen.as_array().unwrap().len(), 1);
    assert_eq!(seen[0]["partitionId"], "north");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_key_is_answered_alike() {
    let (server, north, _) = two(&FORGETFUL).await;
    let (expired, expired_key) =
        made(&server, &north, "north", json!({"name": "e", "roles": ["reader"]})).await;
    let (disabled, disabled_key) =
        made(&server, &north, "north", json!({"name": "d", "roles": ["reader"]})).await;
    for key in [&expired_key, &disabled_key] {
        get(&server, key, "/studies").await.is(204);
    }
    let one = format!("/partitions/north/apikeys/{disabled}");
    call(&server, &north, "PATCH", &one, json!({"state": "disabled"})).await.is(200);
    let sql =
        "UPDATE api_key SET expires_at = now() - interval '1 second' WHERE key_id = $1::text::uuid";
    sqlx::query(sql).bind(&expired).execute(&mut server.superuser().await).await.unwrap();
    let partition = north.rsplit_once('_').unwrap().0;
    // A secret of another key, an id of nobody, and keys said to be of another partition.
    let wrong_secret = format!("{}{}", &north[..37], &expired_key[37..]);
    let unknown = format!("cmk_{}{}", "0".repeat(32), &north[36..]);
    let elsewhere = [format!("{partition}_south"), format!("{partition}_nowhere")];
    let junk = ["cmk_junk".to_owned(), "junk".to_owned(), format!("{north}x/")];
    let all = [expired_key, disabled_key, wrong_secret, unknown].into_iter();
    let mut bodies = Vec::new();
    for key in all.chain(elsewhere).chain(junk) {
        for path in ["/partitions/north/studies", "/partitions/south/studies", "/partitions"] {
            let answer = get(&server, &key, path).await;
            let challenge = "Bearer realm=\"collimator\", error=\"invalid_token\"";
            assert_eq!(answer.header("www-authenticate"), challenge);
            bodies.push(answer.problem(401).to_string());
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    // One in two places says nothing.
    let both = [("x-api-key", &*north), ("authorization", "Bearer x")];
    server.get_with("/studies", &both).await.problem(400);
    // States as they are listed.
    let listed = get(&server, &north, "/partitions/north/apikeys").await.is(200).json();
    let states: Vec<&str> =
        listed.as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "expired", "disabled"]);
    // Enabled again it is good again.
    call(&server, &north, "PATCH", &one, json!({"state": "active"})).await.is(200);
}

#[tokio::test]
async fn keys_are_made_shown_once_used_and_rotated_with_overlap() {
    let (server, north, south) = two(&ON).await;
    let path = "/partitions/north/apikeys";
    let body = json!({"name": "gateway", "roles": ["writer"], "permissions": ["studies.search"],
        "expiresTime": "2999-01-01T00:00:00Z"});
    let answer = call(&server, &north, "POST", path, body).await.is(201);
    assert_eq!(answer.header("cache-control"), "no-store");
    let shown = answer.json();
    let (id, key) = (shown["id"].as_str().unwrap(), shown["key"].as_str().unwrap());
    assert_eq!(answer.header("location"), format!("{}{path}/{id}", server.base));
    assert!(key.starts_with(shown["prefix"].as_str().unwrap()) && key.ends_with("_north"));
    assert!(shown["createdBy"].as_str().unwrap().starts_with("api-key "));
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    let store = async |key: &str| {
        let request = server.request(Method::POST, "/studies").header("x-api-key", key);
        send(request.header("content-type", "application/dicom").body(file.clone())).await.status
    };
    assert_eq!(store(key).await, 200);
    get(&server, key, "/studies").await.is(200);
    get(&server, key, "/studies/1.2.1").await.problem(403);
    get(&server, key, path).await.problem(403);
    // It is not shown again, nor is what is kept of it, and it is seen that it was used.
    let one = format!("{path}/{id}");
    for path in [path, &one] {
        let text = get(&server, &north, path).await.is(200).text();
        assert!(!text.contains(&key[37..80]) && !text.contains("hash"), "{text}");
    }
    assert!(get(&server, &north, &one).await.json()["lastUsedTime"].is_string());
    // The old secret holds for a while, or not.
    let rotate = |overlap: &str| format!("{one}/$rotate?overlap={overlap}");
    let rotated = call(&server, &north, "POST", &rotate("1h"), Value::Null).await.is(200).json();
    let second = rotated["key"].as_str().unwrap();
    assert!(rotated["previousSecretUntil"].is_string() && second != key);
    for key in [key, second] {
        get(&server, key, "/studies").await.is(200);
    }
    let rotated = call(&server, &north, "POST", &rotate("0s"), Value::Null).await.is(200).json();
    let third = rotated["key"].as_str().unwrap();
    for (key, status) in [(key, 401), (second, 401), (third, 200)] {
        assert_eq!(get(&server, key, "/studies").await.status, status);
    }
    call(&server, &north, "POST", &rotate("31days"), Value::Null).await.problem(400);
    // To others it is not there.
    for (method, path) in [("GET", &one), ("DELETE", &one), ("POST", &rotate("1h"))] {
        call(&server, &south, method, path, Value::Null).await.problem(404);
        let foreign = path.replace("north", "south");
        call(&server, &south, method, &foreign, Value::Null).await.problem(404);
    }
    call(&server, &north, "DELETE", &one, Value::Null).await.is(204);
    get(&server, third, "/studies").await.problem(401);
    call(&server, &north, "DELETE", &one, Value::Null).await.problem(404);
}

#[tokio::test]
async fn a_key_is_asked_for_as_the_rules_say() {
    let (server, north, _) = two(&ON).await;
    for (body, field) in [
        (json!({"roles": ["reader"]}), "name"),
        (json!({"name": "", "roles": ["reader"]}), "name"),
        (json!({"name": "x"}), "roles"),
        (json!({"name": "x", "roles": []}), "roles"),
        (json!({"name": "x", "roles": ["nothing"]}), "roles"),
        (json!({"name": "x", "roles": ["operator"]}), "roles"),
        (json!({"name": "x", "permissions": ["metrics.read"]}), "permissions"),
        (json!({"name": "x", "permissions": ["partitions.manage"]}), "permissions"),
        (
            json!({"name": "x", "roles": ["reader"], "expiresTime": "1999-01-01T00:00:00Z"}),
            "expiresTime",
        ),
    ] {
        let answer = call(&server, &north, "POST", "/partitions/north/apikeys", body.clone()).await;
        assert_eq!(answer.problem(400)["errors"][0]["field"], field, "{body}");
    }
}

#[tokio::test]
async fn nobody_gives_more_than_he_has() {
    let (server, north, _) = two(&ON).await;
    let limited = json!({"name": "help desk", "permissions":
        ["principals.manage", "principals.read", "studies.search"]});
    let (_, desk) = made(&server, &north, "north", limited).await;
    let within = |path: &str| format!("/partitions/north{path}");
    let (admin_id, _) =
        made(&server, &north, "north", json!({"name": "a", "roles": ["partition-admin"]})).await;
    let (own_id, _) =
        made(&server, &desk, "north", json!({"name": "s", "permissions": ["studies.search"]}))
            .await;
    let who = json!({"issuer": "i", "subject": "s"});
    let added = call(&server, &desk, "POST", &within("/principals"), who).await.is(201).json();
    let principal = within(&format!("/principals/{}", added["id"].as_str().unwrap()));
    let permits = |list: &[&str]| json!({ "permissions": list });
    call(&server, &north, "PUT", &within("/roles/deep"), permits(&["studies.delete"]))
        .await
        .is(201);
    for (method, path, body) in [
        ("POST", within("/apikeys"), json!({"name": "x", "roles": ["reader"]})),
        ("POST", within("/apikeys"), json!({"name": "x", "roles": ["deep"]})),
        ("POST", within("/apikeys"), json!({"name": "x", "permissions": ["studies.delete"]})),
        ("PATCH", within(&format!("/apikeys/{own_id}")), json!({"roles": ["writer"]})),
        ("PATCH", within(&format!("/apikeys/{own_id}")), json!({"permissions": ["audit.read"]})),
        // Whoever replaces a secret has the key.
        ("POST", within(&format!("/apikeys/{admin_id}/$rotate")), Value::Null),
        ("POST", within("/principals"), json!({"issuer": "i", "subject": "t", "roles": ["deep"]})),
        ("PATCH", principal.clone(), json!({"roles": ["partition-admin"]})),
        ("PUT", within("/roles/mine"), permits(&["studies.retrieve"])),
        ("PUT", within("/roles/deep"), permits(&["studies.delete"])),
        ("PUT", within("/policy"), json!({"defaultRoles": ["partition-admin"]})),
    ] {
        let answer = call(&server, &desk, method, &path, body.clone()).await;
        assert_eq!(answer.status, 403, "{method} {path} {body}: {}", answer.text());
    }
    // Nor may he switch on, have last longer or let in again what may do more than he.
    let admin = within(&format!("/apikeys/{admin_id}"));
    call(&server, &north, "PATCH", &admin, json!({"state": "disabled"})).await.is(200);
    call(&server, &desk, "PATCH", &admin, json!({"state": "active"})).await.problem(403);
    let ends = json!({"expiresTime": "2998-01-01T00:00:00Z"});
    call(&server, &north, "PATCH", &admin, ends).await.is(200);
    call(&server, &desk, "PATCH", &admin, json!({"expiresTime": null})).await.problem(403);
    let strong = json!({"issuer": "i", "subject": "strong", "roles": ["partition-admin"]});
    let strong = call(&server, &north, "POST", &within("/principals"), strong).await.is(201).json();
    let strong = within(&format!("/principals/{}", strong["id"].as_str().unwrap()));
    call(&server, &desk, "PATCH", &strong, json!({"state": "suspended"})).await.is(200);
    call(&server, &desk, "PATCH", &strong, json!({"state": "active"})).await.problem(403);
    // A key never has nothing, which would be what the partition gives by default.
    call(&server, &north, "PUT", &within("/policy"), json!({"defaultRoles": ["reader"]}))
        .await
        .is(200);
    let own = within(&format!("/apikeys/{own_id}"));
    call(&server, &desk, "PATCH", &own, json!({"permissions": []})).await.problem(400);
    // What he has he can give.
    call(&server, &desk, "PUT", &within("/roles/mine"), permits(&["studies.search"])).await.is(201);
    call(&server, &desk, "PATCH", &principal, json!({"roles": ["mine"]})).await.is(200);
    let (_, given) = made(&server, &desk, "north", json!({"name": "m", "roles": ["mine"]})).await;
    get(&server, &given, "/studies").await.is(204);
    get(&server, &given, "/studies/1.2.3").await.problem(403);
    // What somebody has already is not taken for given by who changes something else of it.
    call(&server, &north, "PATCH", &principal, json!({"roles": ["mine", "deep"]})).await.is(200);
    let kept = json!({"name": "Bob", "roles": ["deep"]});
    call(&server, &desk, "PATCH", &principal, kept).await.is(200);
}

#[tokio::test]
async fn while_all_is_in_one_partition_keys_of_others_are_nobodys() {
    let (server, north, _) = two(&ON).await;
    let own = server.key("microsoft.default", "reader").await;
    let server = server.restart(&[ON[1]]).await;
    get(&server, &own, "/studies").await.is(204);
    get(&server, &north, "/studies").await.problem(401);
}

#[tokio::test]
async fn a_key_that_leaked_is_taken_back_while_nothing_else_changes() {
    let (server, north, _) = two(&ON).await;
    let (id, leaked) =
        made(&server, &north, "north", json!({"name": "l", "roles": ["reader"]})).await;
    let policy = "/partitions/north/policy";
    call(&server, &north, "PUT", policy, json!({"state": "read-only"})).await.is(200);
    get(&server, &leaked, "/studies").await.is(204);
    let path = format!("/partitions/north/apikeys/{id}");
    call(&server, &north, "PATCH", &path, json!({"state": "disabled"})).await.is(200);
    get(&server, &leaked, "/studies").await.problem(401);
    let study = "/partitions/north/studies/1.2.3";
    call(&server, &north, "DELETE", study, Value::Null).await.problem(403);
}

#[tokio::test]
async fn names_are_those_that_can_be_somebodys() {
    let (server, north, _) = two(&ON).await;
    // As long in bytes as no index takes; and what a token calls its issuer, which is no name here.
    let long = "\u{1F600}".repeat(256);
    let (principals, revocations) =
        ("/partitions/north/principals", "/partitions/north/revocations");
    for (path, body) in [
        (principals, json!({"issuer": "i", "subject": long})),
        (principals, json!({"issuer": "https://id.example", "subject": "s"})),
        (principals, json!({"issuer": "api-key", "subject": "s"})),
        (revocations, json!({"kind": "token", "issuer": "i", "value": long})),
        (revocations, json!({"kind": "token", "issuer": "https://id.example", "value": "v"})),
    ] {
        call(&server, &north, "POST", path, body).await.problem(400);
    }
    let longest = "\u{1F600}".repeat(255);
    let body = json!({"issuer": "i", "subject": longest});
    call(&server, &north, "POST", principals, body).await.is(201);
    let body = json!({"kind": "token", "issuer": "i", "value": longest});
    call(&server, &north, "POST", revocations, body).await.is(201);
}

#[tokio::test]
async fn roles_of_a_partition_are_kept_and_hold_at_once() {
    let (server, north, south) = two(&ON).await;
    let path = "/partitions/north/roles";
    let listed = get(&server, &north, path).await.is(200).json();
    assert_eq!(listed.as_array().unwrap().len(), 7);
    assert!(listed.as_array().unwrap().iter().all(|role| role["builtIn"] == true));
    let night = format!("{path}/night-shift");
    let body = json!({"permissions": ["studies.search"], "description": "nights"});
    call(&server, &north, "PUT", &night, body).await.is(201);
    let (id, key) =
        made(&server, &north, "north", json!({"name": "n", "roles": ["night-shift"]})).await;
    get(&server, &key, "/studies").await.is(204);
    get(&server, &key, "/studies/1.2.1").await.problem(403);
    let more = json!({"permissions": ["studies.search", "studies.retrieve"]});
    call(&server, &north, "PUT", &night, more).await.is(200);
    get(&server, &key, "/studies/1.2.1").await.problem(404);
    let shown = get(&server, &north, &night).await.is(200).json();
    assert_eq!(shown["permissions"], json!(["studies.retrieve", "studies.search"]));
    // Another partition has none of it.
    get(&server, &south, "/partitions/south/roles/night-shift").await.problem(404);
    let other = json!({"name": "n", "roles": ["night-shift"]});
    call(&server, &south, "POST", "/partitions/south/apikeys", other).await.problem(400);
    // It stays while somebody has it; those that are built in stay for ever.
    call(&server, &north, "DELETE", &night, Value::Null).await.problem(409);
    let key_path = format!("/partitions/north/apikeys/{id}");
    call(&server, &north, "PATCH", &key_path, json!({"roles": ["reader"]})).await.is(200);
    let policy = json!({"defaultRoles": ["night-shift"]});
    call(&server, &north, "PUT", "/partitions/north/policy", policy).await.is(200);
    call(&server, &north, "DELETE", &night, Value::Null).await.problem(409);
    call(&server, &north, "PUT", "/partitions/north/policy", json!({})).await.is(200);
    call(&server, &north, "DELETE", &night, Value::Null).await.is(204);
    call(&server, &north, "DELETE", &night, Value::Null).await.problem(404);
    let reader = format!("{path}/reader");
    get(&server, &north, &reader).await.is(200);
    call(&server, &north, "DELETE", &reader, Value::Null).await.problem(409);
    let body = json!({"permissions": []});
    call(&server, &north, "PUT", &reader, body.clone()).await.problem(409);
    call(&server, &north, "PUT", &format!("{path}/Night"), body).await.problem(400);
    let platform = json!({"permissions": ["partitions.manage"]});
    call(&server, &north, "PUT", &night, platform).await.problem(400);
}

#[tokio::test]
async fn a_policy_holds_at_once_for_everybody_but_who_keeps_it() {
    let (server, north, _) = two(&ON).await;
    let path = "/partitions/north/policy";
    let put = async |body: Value| call(&server, &north, "PUT", path, body).await;
    let (_, reader) =
        made(&server, &north, "north", json!({"name": "r", "roles": ["reader"]})).await;
    let (_, writer) =
        made(&server, &north, "north", json!({"name": "w", "roles": ["writer"]})).await;
    let store = async || {
        let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
        let request = server.request(Method::POST, "/studies").header("x-api-key", &writer);
        send(request.header("content-type", "application/dicom").body(file)).await
    };
    store().await.is(200);
    let shown = get(&server, &north, path).await.is(200).json();
    assert_eq!((&shown["state"], shown.get("lastUpdatedBy")), (&"active".into(), None));
    put(json!({"state": "read-only"})).await.is(200);
    store().await.problem(403);
    get(&server, &reader, "/studies").await.is(200);
    call(&server, &north, "DELETE", "/studies/1.2.1", Value::Null).await.problem(403);
    put(json!({"state": "suspended"})).await.is(200);
    get(&server, &reader, "/studies").await.problem(403);
    get(&server, &north, "/studies").await.problem(403);
    assert_eq!(get(&server, &reader, "/partitions").await.json()[0]["partitionId"], "north");
    assert_eq!(get(&server, &north, path).await.is(200).json()["state"], "suspended");
    put(json!({})).await.is(200);
    get(&server, &reader, "/studies").await.is(200);
    // Addresses: not without who sets them, unless he insists.
    let elsewhere = json!({"allowedAddresses": ["192.0.2.0/24"]});
    let refused = put(elsewhere.clone()).await.problem(409);
    assert_eq!(refused["errors"][0]["field"], "force");
    get(&server, &reader, "/studies").await.is(200);
    put(json!({"allowedAddresses": ["127.0.0.1", "192.0.2.0/24"]})).await.is(200);
    get(&server, &reader, "/studies").await.is(200);
    let forced = format!("{path}?force=true");
    call(&server, &north, "PUT", &forced, elsewhere).await.is(200);
    for key in [&reader, &north] {
        let said = get(&server, key, "/studies").await.problem(403);
        assert!(said["detail"].as_str().unwrap().contains("address"), "{said}");
    }
}

#[tokio::test]
async fn the_last_who_keeps_a_partition_stays() {
    let (server, north, _) = two(&ON).await;
    let id = north[4..36].to_owned();
    let own = format!("/partitions/north/apikeys/{id}");
    for (method, body) in [
        ("PATCH", json!({"state": "disabled"})),
        ("PATCH", json!({"roles": ["reader"]})),
        ("DELETE", Value::Null),
    ] {
        let problem = call(&server, &north, method, &own, body).await.problem(409);
        assert_eq!(problem["errors"][0]["field"], "force");
    }
    // A role of the partition's own counts, and what it is turned into.
    let (keeper, all) =
        ("/partitions/north/roles/keeper", ["principals.manage", "principals.read"]);
    call(&server, &north, "PUT", keeper, json!({ "permissions": all })).await.is(201);
    let (_, second) =
        made(&server, &north, "north", json!({"name": "2", "roles": ["keeper"]})).await;
    call(&server, &north, "DELETE", &own, Value::Null).await.is(204);
    get(&server, &north, "/studies").await.problem(401);
    let none = json!({"permissions": ["principals.read"]});
    call(&server, &second, "PUT", keeper, none.clone()).await.problem(409);
    call(&server, &second, "PUT", &format!("{keeper}?force=true"), none).await.is(200);
    call(&server, &second, "PUT", keeper, json!({ "permissions": all })).await.problem(403);
    // Who has the database can make another.
    let third = server.key("north", "partition-admin").await;
    get(&server, &third, "/partitions/north/apikeys").await.is(200);
}

#[tokio::test]
async fn principals_are_named_in_advance_listed_and_forgotten() {
    let (server, north, south) = two(&ON).await;
    let path = "/partitions/north/principals";
    let add = async |body: Value| call(&server, &north, "POST", path, body).await;
    let alice = json!({"issuer": "issuer-a", "subject": "alice", "name": "Alice",
        "roles": ["reader", "exporter"]});
    let added = add(alice.clone()).await.is(201);
    let shown = added.json();
    let id = shown["id"].as_str().unwrap();
    assert_eq!(added.header("location"), format!("{}{path}/{id}", server.base));
    assert_eq!((&shown["kind"], &shown["state"]), (&"user".into(), &"active".into()));
    add(alice).await.problem(409);
    // The same subject of another issuer is somebody else.
    add(json!({"issuer": "issuer-b", "subject": "alice", "kind": "service"})).await.is(201);
    for (body, field) in [
        (json!({"subject": "x"}), "issuer"),
        (json!({"issuer": "x"}), "subject"),
        (json!({"issuer": "api-key", "subject": "x"}), "issuer"),
        (json!({"issuer": "link", "subject": "x"}), "issuer"),
        (json!({"issuer": "i", "subject": "a\u{0}b"}), "subject"),
        (json!({"issuer": "i", "subject": "x", "kind": "api-key"}), "kind"),
        (json!({"issuer": "i", "subject": "x", "roles": ["operator"]}), "roles"),
        (json!({"issuer": "i", "subject": "x", "roles": ["nothing"]}), "roles"),
    ] {
        let problem = add(body.clone()).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{body}");
    }
    let listed = async |query: &str| {
        let list = get(&server, &north, &format!("{path}?{query}")).await.is(200).json();
        let list = list.as_array().unwrap().clone();
        list.iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("").await, ["user", "service"]);
    assert_eq!(listed("limit=1&offset=1").await, ["service"]);
    assert_eq!(listed("kind=user").await, ["user"]);
    assert_eq!(listed("issuer=issuer-b&subject=alice").await, ["service"]);
    assert_eq!(listed("state=suspended").await.len(), 0);
    get(&server, &north, &format!("{path}?kind=robot")).await.problem(400);
    let one = format!("{path}/{id}");
    let change = json!({"state": "suspended", "roles": []});
    let changed = call(&server, &north, "PATCH", &one, change).await.is(200).json();
    assert_eq!((&changed["roles"], &changed["state"]), (&json!([]), &"suspended".into()));
    assert!(changed["suspendedTime"].is_string() && changed["name"] == "Alice");
    assert_eq!(listed("state=suspended").await, ["user"]);
    let out = format!("{one}/$signOut");
    assert!(call(&server, &north, "POST", &out, Value::Null).await.json()["validFrom"].is_string());
    let foreign = one.replace("north", "south");
    get(&server, &south, &foreign).await.problem(404);
    call(&server, &north, "DELETE", &one, Value::Null).await.is(204);
    get(&server, &north, &one).await.problem(404);
}

#[tokio::test]
async fn revocations_are_added_listed_and_taken_back() {
    let (server, north, _) = two(&ON).await;
    let path = "/partitions/north/revocations";
    let body = json!({"kind": "session", "issuer": "issuer-a", "value": "s-1",
        "expiresTime": "2999-01-01T00:00:00Z"});
    let added = call(&server, &north, "POST", path, body.clone()).await.is(201).json();
    // Once more is the same one.
    let again = call(&server, &north, "POST", path, body).await.is(201).json();
    assert_eq!(added["id"], again["id"]);
    for (body, field) in [
        (json!({"issuer": "i", "value": "v"}), "kind"),
        (json!({"kind": "user", "issuer": "i", "value": "v"}), "kind"),
        (json!({"kind": "token", "value": "v"}), "issuer"),
        (json!({"kind": "token", "issuer": "i"}), "value"),
    ] {
        let problem = call(&server, &north, "POST", path, body.clone()).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{body}");
    }
    // What has ended is dropped when the next one comes.
    let ended = "UPDATE revocation SET expires_at = now() - interval '1 second'";
    sqlx::query(ended).execute(&mut server.superuser().await).await.unwrap();
    let token = json!({"kind": "token", "issuer": "i", "value": "t"});
    let token = call(&server, &north, "POST", path, token).await.is(201).json();
    let listed = get(&server, &north, path).await.is(200).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["kind"], &listed[0]["id"]), (&"token".into(), &token["id"]));
    let one = format!("{path}/{}", token["id"].as_str().unwrap());
    call(&server, &north, "DELETE", &one, Value::Null).await.is(204);
    call(&server, &north, "DELETE", &one, Value::Null).await.problem(404);
}

#[tokio::test]
async fn partitions_are_made_by_who_keeps_the_platform() {
    let (server, north, _) = two(&ON).await;
    let body = json!({"partitionId": "New"});
    call(&server, &north, "POST", "/partitions", body.clone()).await.problem(403);
    let server = server.restart(&ON[..1]).await;
    let post = async |path: &str, body: &Value| {
        server.post(path, "application/json", body.to_string().into_bytes()).await
    };
    assert_eq!(post("/partitions", &body).await.is(201).json()["partitionId"], "new");
    post("/partitions", &body).await.problem(409);
    let made = post("/v2/partitions", &json!({"partitionId": "newer"})).await.is(201).json();
    assert_eq!(made["partitionName"], "newer");
    for wrong in [json!({}), json!({"partitionId": "a/b"}), json!({"partitionId": 7})] {
        let problem = post("/partitions", &wrong).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], "partitionId");
    }
    server.get("/partitions/newer/studies").await.is(204);
}

#[tokio::test]
async fn with_authentication_off_the_state_of_a_partition_holds_nevertheless() {
    let server = Server::with(&ON[..1]).await;
    for partition in ["a", "b"] {
        let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
        server.store(&format!("/partitions/{partition}/studies"), &[file]).await.is(200);
    }
    let put = async |body: Value| {
        let request = server.request(Method::PUT, "/partitions/a/policy");
        send(request.body(body.to_string())).await
    };
    // Keys say nothing, good or not.
    server.get_with("/partitions/a/studies", &[("x-api-key", "junk")]).await.is(200);
    put(json!({"state": "read-only", "needsMfa": true})).await.is(200);
    server.delete("/partitions/a/studies/1.2.1").await.problem(403);
    server.get("/partitions/a/studies/1.2.1").await.is(200);
    put(json!({"state": "suspended"})).await.is(200);
    server.get("/partitions/a/studies/1.2.1").await.problem(403);
    assert_eq!(server.search("/studies").await.len(), 1);
    server.get("/studies?microsoft.partitionId=a,b").await.problem(403);
    server.get("/partitions/b/studies/1.2.1").await.is(200);
    put(json!({"allowedAddresses": ["192.0.2.1"]})).await.problem(409);
    put(json!({})).await.is(200);
    assert_eq!(server.search("/studies").await.len(), 2);
}
