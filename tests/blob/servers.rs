//! The stores that the suite runs against, started by the test and stopped with it.

use std::{
    any::Any,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use collimator::{
    blob::BlobStore,
    config::{BlobConfig, BlobKind, Secret},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::shim;

pub const BUCKET: &str = "test";
/// How long a program may take until it answers.
const START: Duration = Duration::from_secs(60);

/// One store, and what keeps it alive.
pub struct Subject {
    pub name: &'static str,
    pub config: BlobConfig,
    /// The same with credentials that are wrong, where the store has any.
    pub wrong: Option<BlobConfig>,
    /// The same with a bucket that does not exist, where the store does not simply make it (both
    /// S3 servers do).
    pub absent: Option<BlobConfig>,
    /// Whether the store says which uploads in parts were begun and not finished.
    pub lists_uploads: bool,
    dir: PathBuf,
    _alive: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// Opens the store below a prefix of its own, so that cases do not see each other.
    pub fn open(&self, prefix: &str) -> BlobStore {
        self.open_as(&BlobConfig { prefix: prefix.to_owned(), ..self.config.clone() })
    }

    pub fn open_as(&self, config: &BlobConfig) -> BlobStore {
        BlobStore::open(config, &self.dir).expect("the configuration is right")
    }

    /// Where the files lie, of a folder.
    pub fn folder(&self) -> Option<PathBuf> {
        (self.config.kind == BlobKind::Local).then(|| self.dir.join("blobs"))
    }
}

pub fn folder() -> Subject {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().to_owned();
    let config = BlobConfig::default();
    let alive: Vec<Box<dyn Any + Send + Sync>> = vec![Box::new(dir)];
    Subject { dir: path, wrong: None, ..remote("folder", config, alive) }
}

pub async fn s3s() -> Subject {
    let (address, dir) = serve_s3s(Some(("testkey", "testsecret"))).await;
    let config = s3_config(address, "testkey", "testsecret");
    remote("s3s-fs", config, vec![Box::new(dir)])
}

pub async fn gcs() -> Subject {
    let (s3, dir) = serve_s3s(None).await;
    let address = shim::gcs(s3).await;
    let config = gcs_config(address);
    Subject { wrong: None, ..remote("gcs shim", config, vec![Box::new(dir)]) }
}

pub async fn seaweedfs(program: &str) -> Subject {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let identities = dir.path().join("s3.json");
    let json = r#"{"identities":[{"name":"test","credentials":[{"accessKey":"testkey","secretKey":"testsecret"}],"actions":["Admin","Read","Write","List","Tagging"]}]}"#;
    std::fs::write(&identities, json).expect("a file in a temporary folder");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("a folder in a temporary folder");
    let [master, volume, filer, s3] = ports();
    let child = Command::new(program)
        .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"])
        .args(["-master.volumeSizeLimitMB=1024", "-volume.max=20", "-filer", "-s3"])
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"])
        .arg(format!("-dir={}", data.display()))
        .arg(format!("-s3.config={}", identities.display()))
        .arg(format!("-master.port={master}"))
        .arg(format!("-volume.port={volume}"))
        .arg(format!("-filer.port={filer}"))
        .arg(format!("-s3.port={s3}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("COLLIMATOR_TEST_SEAWEEDFS names a program");
    let mut program = Program { child, sockets: vec![s3, filer, master, volume] };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, s3));
    program.answers(&format!("http://{address}/healthz"), |status| status == 200).await;
    let config = s3_config(address, "testkey", "testsecret");
    let alive: Vec<Box<dyn Any + Send + Sync>> = vec![Box::new(program), Box::new(dir)];
    Subject { lists_uploads: true, ..remote("SeaweedFS", config, alive) }
}

pub async fn azurite(program: &str) -> Subject {
    /// The account and the key that every Azurite has.
    const ACCOUNT: &str = "devstoreaccount1";
    const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let dir = tempfile::tempdir().expect("a temporary folder");
    let [port, ..] = ports();
    let child = Command::new(program)
        .args(["--blobHost", "127.0.0.1", "--silent", "--disableTelemetry"])
        .args(["--skipApiVersionCheck", "--blobPort", &port.to_string(), "--location"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("COLLIMATOR_TEST_AZURITE names a program");
    let mut program = Program { child, sockets: vec![] };
    let endpoint = format!("http://127.0.0.1:{port}/{ACCOUNT}");
    program.answers(&endpoint, |_| true).await;
    create_container(&endpoint, ACCOUNT, KEY).await;
    let config = BlobConfig {
        kind: BlobKind::Azure,
        bucket: BUCKET.into(),
        endpoint: Some(endpoint),
        account: ACCOUNT.into(),
        account_key: Some(Secret::new(KEY)),
        allow_http: true,
        ..BlobConfig::default()
    };
    let wrong = BlobConfig { account_key: Some(Secret::new("d3Jvbmc=")), ..config.clone() };
    let absent = BlobConfig { bucket: "absent".into(), ..config.clone() };
    let alive: Vec<Box<dyn Any + Send + Sync>> = vec![Box::new(program), Box::new(dir)];
    Subject { wrong: Some(wrong), absent: Some(absent), ..remote("Azurite", config, alive) }
}

fn remote(
    name: &'static str,
    config: BlobConfig,
    alive: Vec<Box<dyn Any + Send + Sync>>,
) -> Subject {
    let wrong = BlobConfig { secret_access_key: Some(Secret::new("wrong")), ..config.clone() };
    Subject {
        name,
        config,
        wrong: Some(wrong),
        absent: None,
        lists_uploads: false,
        dir: PathBuf::from("/nowhere"),
        _alive: alive,
    }
}

pub fn s3_config(address: SocketAddr, id: &str, secret: &str) -> BlobConfig {
    BlobConfig {
        kind: BlobKind::S3,
        bucket: BUCKET.into(),
        endpoint: Some(format!("http://{address}")),
        region: "us-east-1".into(),
        access_key_id: Some(Secret::new(id)),
        secret_access_key: Some(Secret::new(secret)),
        allow_http: true,
        ..BlobConfig::default()
    }
}

fn gcs_config(address: SocketAddr) -> BlobConfig {
    BlobConfig {
        kind: BlobKind::Gcs,
        bucket: BUCKET.into(),
        service_account_key: Some(Secret::new(format!(
            r#"{{"gcs_base_url":"http://{address}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#
        ))),
        allow_http: true,
        ..BlobConfig::default()
    }
}

/// An S3 server in this process; without credentials it takes anonymous requests.
pub async fn serve_s3s(credentials: Option<(&str, &str)>) -> (SocketAddr, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join(BUCKET)).expect("a folder in a temporary folder");
    let mut builder = S3ServiceBuilder::new(FileSystem::new(dir.path()).expect("a folder"));
    if let Some((id, secret)) = credentials {
        builder.set_auth(SimpleAuth::from_single(id, secret));
    }
    let service = builder.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                // A client that hangs up is the client's business.
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    (address, dir)
}

/// What a test asks by itself.
pub fn client() -> reqwest::Client {
    collimator::app::choose_cryptography();
    reqwest::Client::new()
}

/// A program that is killed with the test.
struct Program {
    child: Child,
    sockets: Vec<u16>,
}

impl Program {
    /// Waits until the URL answers, and makes sure that it is our child that does.
    async fn answers(&mut self, url: &str, right: impl Fn(u16) -> bool) {
        let begun = Instant::now();
        let client = client();
        loop {
            let status = client.get(url).send().await.map(|answer| answer.status().as_u16());
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "the server ended by itself: {ended:?}");
            if status.is_ok_and(&right) {
                return;
            }
            assert!(begun.elapsed() < START, "the server at {url} did not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SeaweedFS takes 25 seconds to end politely.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Killed, it leaves its sockets behind.
        for port in &self.sockets {
            for name in ["s3", "filer", "master", "volume"] {
                for end in [format!("{port}"), format!("grpc-{}", port + 10_000)] {
                    let socket = format!("/tmp/seaweedfs-{name}-{end}.sock");
                    let _ = std::fs::remove_file(socket);
                }
            }
        }
    }
}

/// Free ports whose neighbours ten thousand above are free too: SeaweedFS takes both.
fn ports() -> [u16; 4] {
    let free = |port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let mut held = Vec::new();
    let mut found = Vec::new();
    while found.len() < 4 {
        let one = free(0).expect("a free port");
        let port = one.local_addr().expect("a bound socket").port();
        if port < 55_000
            && let Ok(other) = free(port + 10_000)
        {
            found.push(port);
            held.push(other);
        }
        held.push(one);
    }
    [found[0], found[1], found[2], found[3]]
}

/// `object_store` cannot create a container, so the one request for it is signed here.
async fn create_container(endpoint: &str, account: &str, key: &str) {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let date = time::OffsetDateTime::now_utc().format(&format).expect("a date");
    let version = "2021-08-06";
    let to_sign = format!(
        "PUT{}x-ms-date:{date}\nx-ms-version:{version}\n/{account}/{account}/{BUCKET}\nrestype:container",
        "\n".repeat(12)
    );
    let secret = BASE64_STANDARD.decode(key).expect("a known key");
    let signature = BASE64_STANDARD.encode(hmac_sha256(&secret, to_sign.as_bytes()));
    let request = client()
        .put(format!("{endpoint}/{BUCKET}?restype=container"))
        .header("x-ms-date", date)
        .header("x-ms-version", version)
        .header("authorization", format!("SharedKey {account}:{signature}"))
        .header("content-length", "0");
    let status = request.send().await.expect("Azurite answers").status();
    assert_eq!(status.as_u16(), 201);
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}
