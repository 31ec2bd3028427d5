//! TLS of the listener: what is served, whose certificates are taken, and what becomes of new ones.

use std::path::Path;

use reqwest::{Method, Version};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    Answer, Client, Dicom, Server,
    certificates::{Authority, Pair},
    send, until,
};

/// Who is who.
const PRINCIPALS: &str = r#"
[[tls.principals]]
match = "CN=modality"
partitions = ["north"]
roles = ["writer"]

[[tls.principals]]
match = "CN=admin"
partitions = ["north", "south"]
roles = ["partition-admin"]

[[tls.principals]]
match = "CN=keeper"
partitions = ["*"]
operator = true
"#;

/// A server whose clients may show certificates, and who signs these.
pub struct Fenced {
    pub server: Server,
    pub authority: Authority,
    _files: TempDir,
}

impl Fenced {
    /// With authentication on, partitions, and an instance in `north`.
    pub async fn new(settings: &[(&str, &str)]) -> Self {
        let (authority, files) = (Authority::new(), tempfile::tempdir().unwrap());
        let (certificate, key) = authority.server().write(files.path());
        let ca = files.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let mut all = vec![
            ("features.enable_data_partition", "true"),
            ("auth.enabled", "true"),
            ("tls.client_auth", "optional"),
            ("tls.certificate", text(&certificate)),
            ("tls.key", text(&key)),
            ("tls.client_ca", text(&ca)),
        ];
        all.extend_from_slice(settings);
        let server = Server::with_file(PRINCIPALS, &all).await;
        let it = Self { server, authority, _files: files };
        let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
        it.as_client("admin").store("/partitions/north/studies", &[file]).await.is(200);
        it
    }

    /// The server by a client with a certificate of this name.
    pub fn as_client(&self, name: &str) -> Client {
        self.server.through(self.authority.http(Some(&self.authority.client(name))))
    }

    /// The server by a client without one.
    pub fn as_nobody(&self) -> Client {
        self.server.through(self.authority.http(None))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server with a certificate, and nobody asked for his.
async fn plain(settings: &[(&str, &str)]) -> (Server, Authority, TempDir) {
    let (authority, files) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.server().write(files.path());
    let mut all = vec![("tls.certificate", text(&certificate)), ("tls.key", text(&key))];
    all.extend_from_slice(settings);
    let server = Server::with(&all).await;
    (server, authority, files)
}

#[tokio::test]
async fn https_is_served_by_http_2_and_1_and_answers_point_to_it() {
    let (server, authority, _files) = plain(&[]).await;
    let client = server.through(authority.http(None));
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
    client.store("/studies", &[file.clone()]).await.is(200);
    let found = client.search("/studies").await;
    let url = found[0]["00081190"]["Value"][0].as_str().unwrap();
    assert_eq!(url, format!("{}/studies/1.2.1", server.base));
    assert!(url.starts_with("https://"), "{url}");
    let answer = client.get(url).await.is(200);
    assert_eq!(answer.bodies(), [file]);
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    let response = client.request(Method::GET, "/health/live").send().await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let first = authority.http_1();
    let response = server.through(first).request(Method::GET, "/health/live").send().await.unwrap();
    assert_eq!(response.version(), Version::HTTP_11);
    // Who does not know the authority, and who speaks in clear, gets nothing.
    let stranger = Authority::new().http(None);
    assert!(stranger.get(format!("{}/health/live", server.base)).send().await.is_err());
    let mut socket = TcpStream::connect(server.authority()).await.unwrap();
    socket.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn plain_http_says_nothing_of_https() {
    let server = Server::start().await;
    let answer = server.get("/health/live").await.is(200);
    assert_eq!(answer.header("strict-transport-security"), "");
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_cut_off() {
    let (server, authority, _files) =
        plain(&[("server.header_timeout", "1s"), ("server.max_connections", "1")]).await;
    for sent in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut socket = TcpStream::connect(server.authority()).await.unwrap();
        socket.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        assert!(answer.len() < 16, "{answer:?}");
    }
    // The one place is free again.
    server.through(authority.http(None)).get("/health/live").await.is(200);
}

#[tokio::test]
async fn new_certificates_are_taken_and_broken_ones_are_not() {
    let (server, first, files) = plain(&[("tls.reload", "20ms")]).await;
    let live = format!("{}/health/live", server.base);
    let reaches = async |authority: &Authority| {
        let answer = authority.http(None).get(&live).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    };
    assert!(reaches(&first).await);
    let second = Authority::new();
    second.server().write(files.path());
    until("the new certificate is in use", async || reaches(&second).await).await;
    assert!(!reaches(&first).await);
    // A key of another certificate, and then no key at all.
    let failed = async || {
        let client = server.through(second.http(None));
        let metrics = client.get("/metrics").await.is(200).text();
        let of = |line: &str| line.starts_with("collimator_tls_reloads_total{outcome=\"failed\"}");
        let line = metrics.lines().find(|line| of(line)).unwrap_or("x 0").to_owned();
        line.split(' ').next_back().unwrap().parse::<u64>().unwrap()
    };
    for key in [second.server().key, "nonsense".to_owned()] {
        let before = failed().await;
        std::fs::write(files.path().join("server.key"), key).unwrap();
        until("the key is looked at", async || failed().await > before).await;
        assert!(reaches(&second).await);
    }
    first.server().write(files.path());
    until("what fits together is taken again", async || reaches(&first).await).await;
}

#[tokio::test]
async fn what_cannot_be_used_keeps_the_server_from_starting() {
    let server = Server::start().await;
    let (authority, files) = (Authority::new(), tempfile::tempdir().unwrap());
    let (certificate, key) = authority.server().write(files.path());
    let other = files.path().join("other");
    for (content, part) in
        [("", "there is no private key"), (&*authority.server().key, "do not fit together")]
    {
        std::fs::write(&other, content).unwrap();
        let settings = [("tls.certificate", text(&certificate)), ("tls.key", text(&other))];
        let refusal = server.refusal(&settings).await;
        assert!(refusal.contains(part), "{refusal}");
    }
    std::fs::write(&other, "").unwrap();
    let settings = [("tls.certificate", text(&other)), ("tls.key", text(&key))];
    let refusal = server.refusal(&settings).await;
    assert!(refusal.contains("there is no certificate in it"), "{refusal}");
    let settings = [("tls.certificate", "/nonexistent"), ("tls.key", text(&key))];
    let refusal = server.refusal(&settings).await;
    assert!(refusal.contains("/nonexistent cannot be read"), "{refusal}");
}

#[tokio::test]
async fn a_certificate_says_who_asks() {
    let it = Fenced::new(&[]).await;
    let modality = it.as_client("modality");
    let file = Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file();
    modality.store("/partitions/north/studies", &[file.clone()]).await.is(200);
    modality.get("/partitions/north/studies/1.2.1").await.problem(403);
    // Out of reach and absent are alike.
    let south = modality.get("/partitions/south/studies/1.2.1").await.is(404);
    let nowhere = modality.get("/partitions/nowhere/studies/1.2.1").await.is(404);
    assert_eq!(south.body, nowhere.body);
    modality.store("/partitions/south/studies", &[file]).await.problem(404);
    let admin = it.as_client("admin");
    admin.get("/partitions/north/studies/1.2.2").await.is(200);
    // Nobody, and somebody who is nobody here.
    it.as_nobody().get("/partitions/north/studies/1.2.1").await.problem(401);
    let unknown = it.as_client("CN=admin").get("/partitions/north/studies/1.2.1").await;
    assert!(unknown.problem(401)["detail"].as_str().unwrap().contains("certificate"));
    // An explicit credential is what counts, also where it is wrong.
    let both =
        admin.get_with("/partitions/north/studies/1.2.1", &[("authorization", "Bearer nonsense")]);
    both.await.problem(401);
}

#[tokio::test]
async fn certificates_of_another_authority_and_none_are_not_let_in_where_one_is_required() {
    let it = Fenced::new(&[("tls.client_auth", "required")]).await;
    let live = format!("{}/health/live", it.server.base);
    it.as_client("modality").get(&live).await.is(200);
    assert!(it.authority.http(None).get(&live).send().await.is_err());
    let forged: Pair = Authority::new().client("admin");
    assert!(it.authority.http(Some(&forged)).get(&live).send().await.is_err());
}

#[tokio::test]
async fn a_forged_certificate_is_not_let_in_where_none_is_required_either() {
    let it = Fenced::new(&[]).await;
    let forged = it.authority.http(Some(&Authority::new().client("admin")));
    assert!(forged.get(format!("{}/health/live", it.server.base)).send().await.is_err());
    // Nor one that is for servers.
    let server = it.authority.http(Some(&it.authority.server()));
    assert!(server.get(format!("{}/health/live", it.server.base)).send().await.is_err());
}

#[tokio::test]
async fn metrics_are_for_operators_and_health_is_for_everybody() {
    let it = Fenced::new(&[]).await;
    it.as_client("keeper").get("/metrics").await.is(200);
    it.as_client("admin").get("/metrics").await.problem(403);
    it.as_nobody().get("/metrics").await.problem(401);
    for path in ["/health/live", "/health/ready", "/openapi.json", "/docs"] {
        it.as_nobody().get(path).await.is(200);
    }
    // A keeper of the platform sees nothing of patients.
    it.as_client("keeper").get("/partitions/north/studies").await.problem(403);
    let open = Fenced::new(&[("auth.open_metrics", "true")]).await;
    open.as_nobody().get("/metrics").await.is(200);
}

/// A request with a cookie, as any browser would send it.
async fn with_cookie(client: &Client, path: &str) -> Answer {
    send(client.request(Method::GET, path).header("cookie", "session=admin; token=x")).await
}

#[tokio::test]
async fn cookies_are_neither_set_nor_read() {
    let it = Fenced::new(&[]).await;
    let path = "/partitions/north/studies/1.2.1/metadata";
    for (client, status) in [(it.as_client("admin"), 200), (it.as_nobody(), 401)] {
        let without = client.get(path).await.is(status);
        let with = with_cookie(&client, path).await.is(status);
        assert_eq!(with.body, without.body);
        for answer in [with, without] {
            assert!(!answer.headers.contains_key("set-cookie"));
        }
    }
}
