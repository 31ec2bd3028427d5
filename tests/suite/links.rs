//! Signed URLs: what one lets in, and that nothing else of it does.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Client, Dicom, send, until},
    tls::Fenced,
};

const STUDY: &str = "/studies/1.2.1";
const SERIES: &str = "/studies/1.2.1/series/1.2.1.1";
const INSTANCE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";

/// Two studies in `north`, the first of them in `south` as well.
async fn server(settings: &[(&str, &str)]) -> Fenced {
    let it = Fenced::new(settings).await;
    let admin = it.as_client("admin");
    let file =
        |study: &str| Dicom::ct(study, &format!("{study}.1"), &format!("{study}.1.1")).file();
    admin.store("/partitions/north/studies", &[file("1.2.2")]).await.is(200);
    admin.store("/partitions/south/studies", &[file("1.2.1")]).await.is(200);
    it
}

async fn ask(client: &Client, partition: &str, body: Value) -> Answer {
    let path = format!("/partitions/{partition}/links");
    client.post(&path, "application/json", body.to_string().into_bytes()).await
}

/// A link of `north`.
async fn link(it: &Fenced, path: &str) -> String {
    link_in(it, "north", path).await
}

async fn link_in(it: &Fenced, partition: &str, path: &str) -> String {
    let made = ask(&it.as_client("admin"), partition, json!({"path": path})).await.is(201);
    assert_eq!(made.header("cache-control"), "no-store");
    made.json()["url"].as_str().unwrap().to_owned()
}

/// The query of a link.
fn query(url: &str) -> &str {
    url.split_once('?').unwrap().1
}

/// What a link that is good answers where it is for something else.
#[track_caller]
fn is_absent(answer: &Answer, absent: &Answer, what: &str) {
    assert_eq!((answer.status, &answer.body), (404, &absent.body), "{what}: {}", answer.text());
}

#[tokio::test]
async fn a_link_lets_whoever_has_it_have_its_resource() {
    let it = server(&[]).await;
    let (admin, nobody) = (it.as_client("admin"), it.as_nobody());
    let frame = format!("{INSTANCE}/frames/1");
    for path in [
        STUDY.to_owned(),
        format!("{STUDY}/metadata"),
        SERIES.to_owned(),
        format!("{SERIES}/rendered"),
        INSTANCE.to_owned(),
        frame.clone(),
        format!("{frame}/rendered"),
        format!("{INSTANCE}/thumbnail"),
    ] {
        let url = link(&it, &path).await;
        let own = admin.get(&format!("/partitions/north{path}")).await.is(200);
        let by_link = nobody.get(&url).await.is(200);
        assert_eq!(by_link.body.len(), own.body.len(), "{path}");
        assert_eq!(by_link.header("referrer-policy"), "no-referrer");
        assert!(["no-store", "private, no-cache"].contains(&by_link.header("cache-control")));
        send(nobody.request(Method::HEAD, &url)).await.is(200);
        let bare = url.split('?').next().unwrap();
        nobody.get(bare).await.problem(401);
    }
    // What says how something is to look stays free.
    let url = link(&it, &format!("{frame}/rendered")).await;
    let small = nobody.get(&format!("{url}&viewport=2,2")).await.is(200);
    let large = nobody.get(&format!("{url}&viewport=64,64")).await.is(200);
    assert_ne!(small.body, large.body);
    nobody.get(&format!("{url}&viewport=x")).await.problem(400);
    // And whatever else a request brings, a link is what it is.
    let with = nobody.get_with(&url, &[("authorization", "Bearer nonsense")]).await;
    with.is(200);
}

#[tokio::test]
async fn a_study_that_is_shared_can_be_viewed() {
    let it = server(&[]).await;
    let nobody = it.as_nobody();
    let url = link(&it, STUDY).await;
    let query = query(&url);
    for (path, other) in [
        ("/series", "/studies/1.2.2/series"),
        ("/instances", "/studies/1.2.2/instances"),
        ("/series/1.2.1.1/instances", "/studies/1.2.2/series/1.2.2.1/instances"),
    ] {
        let ask = |path: &str| format!("/partitions/north{path}?{query}");
        let found = nobody.search(&ask(&format!("{STUDY}{path}"))).await;
        assert_eq!(found.len(), 1, "{path}");
        nobody.get(&ask(other)).await.problem(404);
        // A condition can make less of it, and never something else.
        let more = format!("{}&StudyInstanceUID=1.2.2", ask(&format!("{STUDY}{path}")));
        for result in nobody.search(&more).await {
            assert_eq!(result["0020000D"]["Value"], json!(["1.2.1"]), "{more}");
        }
    }
    for path in ["/metadata", "/rendered", "/series/1.2.1.1", "/series/1.2.1.1/metadata"] {
        nobody.get(&format!("/partitions/north{STUDY}{path}?{query}")).await.is(200);
    }
    let frames = format!("/partitions/north{INSTANCE}/frames/1?{query}");
    nobody.get(&frames).await.is(200);
    // Links in answers have no signature: whoever adds it gets there.
    let metadata = nobody.get(&format!("/partitions/north{STUDY}/metadata?{query}")).await.is(200);
    assert!(!metadata.text().contains("signature"));
}

#[tokio::test]
async fn nothing_but_its_resource_answers_to_a_link() {
    let it = server(&[]).await;
    let nobody = it.as_nobody();
    let absent = it.as_client("admin").get("/partitions/north/studies/1.2.404").await.is(404);
    let of = [(STUDY, link(&it, STUDY).await), (INSTANCE, link(&it, INSTANCE).await)];
    let mut asked = 0;
    for (resource, url) in &of {
        let query = query(url);
        let mut paths: Vec<String> = [
            "/studies",
            "/studies/1.2",
            "/studies/1.2.",
            "/studies/1.2.2",
            "/studies/1.2.11",
            "/studies/1.2.2/series/1.2.2.1/instances/1.2.2.1.1",
            "/studies/1.2.2/metadata",
            "/studies/1%2E2%2E1",
            "/%73tudies/1.2.1",
            "/series",
            "/instances",
            "/changefeed",
            "/extendedquerytags",
            "/operations",
            "/removals",
            "/webhooks",
        ]
        .map(|path| format!("/partitions/north{path}?{query}"))
        .to_vec();
        paths.push(format!(
            "/partitions/north/wado?requestType=WADO&studyUID=1.2.1&seriesUID=1.2.1.1&\
             objectUID=1.2.1.1.1&{query}"
        ));
        // Where no partition is named, a link is none.
        for path in ["/partitions", "/metrics", "/studies/1.2.1"] {
            nobody.get(&format!("{path}?{query}")).await.problem(401);
        }
        if *resource == INSTANCE {
            paths.push(format!("/partitions/north{SERIES}?{query}"));
            paths.push(format!("/partitions/north{SERIES}/instances?{query}"));
            paths.push(format!("/partitions/north{STUDY}/metadata?{query}"));
        }
        for path in paths {
            let answer = nobody.get(&path).await;
            match answer.text().contains("no-such-route") {
                true => assert_eq!(answer.status, 404),
                false => is_absent(&answer, &absent, &path),
            }
            asked += 1;
        }
        // Methods that change something, at the resource itself and below.
        for (method, below) in [(Method::DELETE, ""), (Method::POST, "/$undelete")] {
            if *resource == STUDY {
                let path = format!("/partitions/north{resource}{below}?{query}");
                let answer = send(nobody.request(method, &path)).await;
                is_absent(&answer, &absent, &path);
            }
        }
        let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.9").file();
        let store = nobody.store(&format!("/partitions/north/studies?{query}"), &[file]).await;
        is_absent(&store, &absent, "a store");
        let share = format!("/partitions/north/links?{query}");
        let share =
            nobody.post(&share, "application/json", b"{\"path\":\"/studies/1.2.1\"}".to_vec());
        is_absent(&share.await, &absent, "a link by a link");
    }
    assert!(asked > 30, "{asked}");
    // Nothing of it happened.
    it.as_client("admin").get(&format!("/partitions/north{STUDY}")).await.is(200);
}

#[tokio::test]
async fn whatever_is_changed_of_a_link_makes_it_none() {
    let it = server(&[]).await;
    let nobody = it.as_nobody();
    let url = link(&it, STUDY).await;
    let (base, query) = url.split_once('?').unwrap();
    let theirs = link_in(&it, "south", STUDY).await;
    let other = link(&it, "/studies/1.2.2").await;
    let pairs: Vec<(&str, &str)> =
        query.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
    let value_of = |url: &str, name: &str| {
        let pair = url.split(['?', '&']).find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        pair.unwrap().to_owned()
    };
    let mut forged: Vec<String> = Vec::new();
    for (at, (name, value)) in pairs.iter().enumerate() {
        let with = |pair: String| {
            let mut pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
            pairs[at] = pair;
            pairs.retain(|pair| !pair.is_empty());
            pairs.join("&")
        };
        let (head, tail) = name.split_at(1);
        let mut bent = (*value).to_owned();
        let last = bent.pop().unwrap();
        bent.insert(0, if last == 'A' { 'B' } else { last });
        for pair in [
            String::new(),
            format!("{name}="),
            format!("{name}={value}&{name}={value}"),
            format!("{name}={}&{name}={value}", value_of(&other, name)),
            format!("{}{tail}={value}", head.to_uppercase()),
            format!("%{:02X}{tail}={value}", head.as_bytes()[0]),
            format!("{name}={value}%00"),
            format!("{name}=%20{value}"),
            format!("{name}={bent}x"),
        ] {
            forged.push(with(pair));
        }
        for stranger in [&theirs, &other] {
            let swapped = value_of(stranger, name);
            if swapped != *value {
                forged.push(with(format!("{name}={swapped}")));
            }
        }
    }
    let later = value_of(&url, "expires").parse::<i64>().unwrap() + 1;
    forged.push(query.replace(&value_of(&url, "expires"), &later.to_string()));
    forged.push(query.replace("1.2.1", "1.2"));
    forged.push(query.replace("/studies/1.2.1", "/"));
    forged.push(query.replace("/studies/1.2.1", "/studies"));
    forged.push(query.to_uppercase());
    let mut bodies = std::collections::BTreeSet::new();
    for query in &forged {
        let answer = nobody.get(&format!("{base}?{query}")).await;
        assert_eq!(answer.status, 401, "{query}: {}", answer.text());
        bodies.insert(answer.text());
    }
    assert!(forged.len() > 45, "{}", forged.len());
    assert!(bodies.len() <= 2, "no credential, or one that is not valid: {bodies:?}");
    // One partition's link in the other, whichever way that is named.
    let own = query;
    for (path, headers) in [
        (format!("/partitions/south{STUDY}?{own}"), vec![]),
        (format!("/partitions/nowhere{STUDY}?{own}"), vec![]),
        (format!("{STUDY}?{own}"), vec![]),
        (format!("{STUDY}?microsoft.partitionId=south&{own}"), vec![]),
        (format!("{STUDY}/series?microsoft.partitionId=north,south&{own}"), vec![]),
        (format!("{STUDY}?{own}"), vec![("microsoft.partitionId", "south")]),
    ] {
        let answer = nobody.get_with(&path, &headers).await;
        let is_none = answer.status == 401 || (answer.status == 400 && path.contains(','));
        assert!(is_none, "{path}: {} {}", answer.status, answer.text());
    }
    let conflict = format!("/partitions/north{STUDY}?microsoft.partitionId=south&{own}");
    nobody.get(&conflict).await.problem(400);
    // The partition's own, by another carrier and in another case, is the same link.
    for (path, headers) in [
        (format!("/partitions/NORTH{STUDY}?{own}"), vec![]),
        (format!("{STUDY}?{own}"), vec![("microsoft.partitionId", "north")]),
        (format!("{STUDY}?microsoft.partitionId=north&{own}"), vec![]),
        (format!("/v2/partitions/north{STUDY}?{own}"), vec![]),
    ] {
        nobody.get_with(&path, &headers).await.is(200);
    }
}

#[tokio::test]
async fn tricks_with_the_path_lead_nowhere() {
    let it = server(&[]).await;
    let nobody = it.as_nobody();
    let url = link(&it, STUDY).await;
    let query = query(&url);
    for path in [
        "/studies/1.2.1/../1.2.2",
        "/studies/1.2.1/%2e%2e/1.2.2",
        "/studies/1.2.1%2F..%2F1.2.2",
        "/studies/1.2.1/..%2f1.2.2/metadata",
        "/studies/1.2.1;/../1.2.2",
        "/studies/1.2.1//series/1.2.2.1",
        "/studies/1.2.1/series/..%2F..%2F1.2.2/metadata",
        "/studies/1.2.1/series/1.2.2.1",
        "/studies/1.2.1/series/1.2.2.1/instances/1.2.2.1.1",
        "/studies/1.2.1%00/series",
        "/studies/1.2.1\\..\\1.2.2",
    ] {
        // As bytes: a client would resolve some of them.
        let uri = format!("{}/partitions/north{path}?{query}", it.server.base);
        let answer = nobody.get(&uri).await;
        assert!((400..405).contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("1.2.2.1"), "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn links_end() {
    let it = server(&[]).await;
    let (admin, nobody) = (it.as_client("admin"), it.as_nobody());
    let made = ask(&admin, "north", json!({"path": STUDY, "expires": 1})).await.is(201).json();
    let url = made["url"].as_str().unwrap();
    until("the link ends", async || nobody.get(url).await.status == 401).await;
    let told = nobody.get(url).await.problem(401);
    assert!(told["detail"].as_str().unwrap().contains("expired"), "{told}");
    // That is said to who has the link, and not to who makes one up.
    let forged = url.replace("signature=", "signature=A");
    let told = nobody.get(&forged).await.problem(401);
    assert!(!told["detail"].as_str().unwrap().contains("expired"), "{told}");
}

#[tokio::test]
async fn keys_that_are_replaced_hold_for_a_while_and_revoked_ones_do_not() {
    let it = server(&[]).await;
    let (admin, nobody) = (it.as_client("admin"), it.as_nobody());
    let (first, theirs) = (link(&it, STUDY).await, link_in(&it, "south", STUDY).await);
    let rotate = async |query: &str| {
        let path = format!("/partitions/north/links/$rotate{query}");
        admin.post(&path, "application/json", Vec::new()).await
    };
    let rotated = rotate("").await.is(200).json();
    assert!(rotated["previousKeyUntil"].is_string(), "{rotated}");
    let second = link(&it, STUDY).await;
    assert!(!second.contains(&first[first.find("&key=").unwrap()..first.find("&link=").unwrap()]));
    for url in [&first, &second] {
        nobody.get(url).await.is(200);
    }
    let revoked = rotate("?now=true").await.is(200).json();
    assert!(revoked.get("previousKeyUntil").is_none(), "{revoked}");
    for url in [&first, &second] {
        nobody.get(url).await.problem(401);
    }
    // Those of others go on.
    nobody.get(&theirs).await.is(200);
    nobody.get(&link(&it, STUDY).await).await.is(200);
    rotate("?now=perhaps").await.problem(400);
    rotate("?now=true&now=true").await.problem(400);
    // However often: few keys are kept.
    for _ in 0..12 {
        rotate("").await.is(200);
    }
    let kept = it.server.count("SELECT count(*) FROM link_key WHERE partition_id = 'north'").await;
    assert_eq!(kept, 9);
}

#[tokio::test]
async fn who_may_not_have_it_cannot_share_it() {
    let it = server(&[("links.max_expires", "1h")]).await;
    let (admin, modality) = (it.as_client("admin"), it.as_client("modality"));
    ask(&modality, "north", json!({"path": STUDY})).await.problem(403);
    ask(&it.as_client("keeper"), "north", json!({"path": STUDY})).await.problem(403);
    ask(&it.as_nobody(), "north", json!({"path": STUDY})).await.problem(401);
    ask(&modality, "south", json!({"path": STUDY})).await.problem(404);
    ask(&admin, "nowhere", json!({"path": STUDY})).await.problem(404);
    let absent = ask(&admin, "north", json!({"path": "/studies/1.2.404"})).await.is(404);
    let foreign = ask(&admin, "south", json!({"path": "/studies/1.2.2"})).await.is(404);
    assert_eq!(absent.body, foreign.body);
    for body in [
        json!({}),
        json!({"path": "/wado"}),
        json!({"path": "/studies"}),
        json!({"path": "/partitions/south/studies/1.2.1"}),
        json!({"path": "/studies/1.2.1/../1.2.2"}),
        json!({"path": STUDY, "method": "DELETE"}),
        json!({"path": STUDY, "expires": 3601}),
        json!({"path": STUDY, "expires": 0}),
    ] {
        ask(&admin, "north", body).await.problem(400);
    }
    let rotate = "/partitions/north/links/$rotate";
    modality.post(rotate, "application/json", Vec::new()).await.problem(403);
}

#[tokio::test]
async fn a_link_says_its_partition_however_that_was_named() {
    let it = server(&[]).await;
    let (admin, nobody) = (it.as_client("admin"), it.as_nobody());
    let body = json!({"path": STUDY}).to_string();
    for (path, header) in [
        ("/links", Some("north")),
        ("/links?microsoft.partitionId=north", None),
        ("/partitions/north/links", None),
        ("/v1/partitions/north/links", None),
    ] {
        let request = admin.request(Method::POST, path).body(body.clone());
        let request = match header {
            Some(partition) => request.header("microsoft.partitionId", partition),
            None => request,
        };
        let made = send(request).await.is(201).json();
        nobody.get(made["url"].as_str().unwrap()).await.is(200);
    }
}
