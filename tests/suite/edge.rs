//! What stands before handlers: who is held off after failures and from where he is believed to come,
//! and what answers say to browsers.

use reqwest::Method;

use crate::{
    harness::{Answer, Client, Dicom, Server, send},
    tls::Fenced,
};

/// A link that nobody signed, as if from an address.
async fn guess(client: &Client, header: &str, from: &str) -> Answer {
    let id = "0".repeat(32);
    let query = format!("resource=/studies/1&expires=9&key={id}&link={id}&signature=AAAA");
    client.get_with(&format!("/studies/1?{query}"), &[(header, from)]).await
}

#[tokio::test]
async fn who_guesses_is_held_off_and_nobody_else() {
    let settings = [("auth.failures", "3"), ("server.trusted_proxies", "127.0.0.0/8")];
    let server = Server::with(&settings).await;
    let from = async |address: &str| guess(&server, "x-forwarded-for", address).await;
    for _ in 0..3 {
        from("198.51.100.1").await.problem(401);
    }
    let held = from("198.51.100.1").await.is(429);
    assert!(held.header("retry-after").parse::<u64>().unwrap() > 0);
    held.problem(429);
    from("198.51.100.2").await.problem(401);
    // What a client writes in front of what the proxy adds is nothing to us.
    from("203.0.113.1, 198.51.100.1").await.problem(429);
    from("203.0.113.2, 198.51.100.1, 127.0.0.9").await.problem(429);
    // A network of IPv6 is one.
    for n in 1..=3 {
        from(&format!("2001:db8::{n}")).await.problem(401);
    }
    from("2001:db8::ffff").await.problem(429);
    from("2001:db8:0:1::1").await.problem(401);
    // Without a credential there is nothing to be held off from.
    let open = [("x-forwarded-for", "198.51.100.1")];
    server.get_with("/studies", &open).await.is(204);
    let metrics = server.get("/metrics").await.is(200).text();
    assert!(metrics.contains("collimator_auth_throttled_total"), "{metrics}");
}

#[tokio::test]
async fn links_that_are_wrong_hold_off_links_and_no_other_credential() {
    let settings = [
        ("features.enable_data_partition", "true"),
        ("auth.enabled", "true"),
        ("auth.failures", "3"),
    ];
    let server = Server::with(&settings).await;
    let key = server.key("microsoft.default", "reader").await;
    let ask = async |key: &str| {
        let path = "/partitions/microsoft.default/studies";
        server.get_with(path, &[("x-api-key", key)]).await
    };
    // As a page could have a browser do that shows it.
    for expected in [401, 401, 401, 429, 429] {
        assert_eq!(guess(&server, "accept", "image/png").await.status, expected);
    }
    ask(&key).await.is(204);
    // A key that was good once holds off nobody either; one that is made up does.
    let used = server.key("microsoft.default", "writer").await;
    let sql =
        "UPDATE api_key SET expires_at = now() - interval '1 second' WHERE roles = '{writer}'";
    sqlx::query(sql).execute(&mut server.superuser().await).await.unwrap();
    for _ in 0..6 {
        ask(&used).await.problem(401);
    }
    ask(&key).await.is(204);
    let made_up = format!("cmk_{}{}", "0".repeat(32), &key[36..]);
    for expected in [401, 401, 401, 429] {
        assert_eq!(ask(&made_up).await.status, expected);
    }
    ask(&key).await.problem(429);
}

#[tokio::test]
async fn who_is_no_proxy_comes_from_where_he_is_whatever_he_says() {
    for settings in [
        &[("auth.failures", "2")][..],
        &[("auth.failures", "2"), ("server.trusted_proxies", "10.0.0.0/8, 192.0.2.1")],
        &[("auth.failures", "2"), ("server.trust_forwarded", "true")],
        // The header that is not named is not read.
        &[
            ("auth.failures", "2"),
            ("server.trusted_proxies", "127.0.0.1"),
            ("server.address_header", "forwarded"),
        ],
    ] {
        let server = Server::with(settings).await;
        let statuses = async |header: &str| {
            let mut statuses = Vec::new();
            for n in 1..=4 {
                let from = format!("198.51.100.{n}");
                statuses.push(guess(&server, header, &from).await.status);
            }
            statuses
        };
        assert_eq!(statuses("x-forwarded-for").await, [401, 401, 429, 429], "{settings:?}");
        assert_eq!(statuses("x-real-ip").await, [429; 4], "{settings:?}");
    }
}

#[tokio::test]
async fn forwarded_hosts_are_believed_from_trusted_proxies_alone() {
    let said = [("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "https")];
    for (proxies, is_believed) in [("10.0.0.0/8", false), ("127.0.0.1", true), ("", true)] {
        let settings = [("server.trust_forwarded", "true"), ("server.trusted_proxies", proxies)];
        let server = Server::with(&settings).await;
        let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
        server.store("/studies", &[file]).await.is(200);
        let found = server.get_with("/studies", &said).await.is(200).json();
        let url = found[0]["00081190"]["Value"][0].as_str().unwrap();
        assert_eq!(url.starts_with("https://evil.example/"), is_believed, "{proxies}: {url}");
    }
}

#[tokio::test]
async fn answers_say_what_a_browser_may_do_with_them() {
    let it = Fenced::new(&[("cors.allowed_origins", "https://viewer.example")]).await;
    let admin = it.as_client("admin");
    for path in [
        "/partitions/north/studies",
        "/partitions/north/studies/1.2.1",
        "/partitions/north/studies/1.2.1/metadata",
        "/partitions/north/studies/1.2.404",
        "/partitions/north/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/rendered",
        "/nowhere",
        "/openapi.json",
        "/health/live",
        "/docs",
    ] {
        let answer = admin.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(policy.contains("sandbox"), path != "/docs", "{path}: {policy}");
        let cached = answer.header("cache-control");
        assert!(["no-store", "private, no-cache"].contains(&cached), "{path}: {cached}");
        let vary = answer.header("vary");
        for name in ["authorization", "x-api-key"] {
            assert!(vary.split(", ").any(|own| own == name), "{path}: {vary}");
        }
        assert!(!answer.headers.contains_key("set-cookie"), "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-credentials"), "{path}");
    }
    let preflight = [
        ("origin", "https://viewer.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization,x-api-key,cookie"),
    ];
    let answer = admin.options("/partitions/north/studies", &preflight).await.is(204);
    let allowed = answer.header("access-control-allow-headers");
    for name in ["authorization", "x-api-key"] {
        assert!(allowed.split(", ").any(|own| own == name), "{allowed}");
    }
    assert!(!allowed.contains("cookie"), "{allowed}");
}

#[tokio::test]
async fn without_authentication_a_credential_makes_an_answer_private() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    server.store("/studies", &[file]).await.is(200);
    assert_eq!(server.get("/studies").await.is(200).header("cache-control"), "");
    for (name, value) in [("authorization", "Bearer x"), ("x-api-key", "x")] {
        let request = server.request(Method::GET, "/studies").header(name, value);
        assert_eq!(send(request).await.is(200).header("cache-control"), "no-store", "{name}");
    }
}
