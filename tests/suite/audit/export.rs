//! The log on its way to receivers: DICOM audit messages over syslog and TLS, and lines of JSON.

use std::{path::Path, sync::Arc};

use quick_xml::{Reader, events::Event};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::{ON, ct};
use crate::harness::{Server, until};

/// A certificate that stands for itself, and its key, as files of PEM.
fn certificate(dir: &Path, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let path = |end: &str| dir.join(format!("{name}.{end}")).to_str().unwrap().to_owned();
    std::fs::write(path("pem"), certificate.pem()).unwrap();
    std::fs::write(path("key"), key.serialize_pem()).unwrap();
    (path("pem"), path("key"))
}

/// A receiver that wants to see the sender's certificate. Tells each message; closes every connection
/// after `most` of them.
struct Receiver {
    port: u16,
    messages: mpsc::UnboundedReceiver<String>,
}

impl Receiver {
    async fn start((own, key): &(String, String), client: &str, most: usize) -> Self {
        collimator::app::choose_cryptography();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(client).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let chain = vec![CertificateDer::from_pem_file(own).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let tls = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                for _ in 0..most {
                    let Some(message) = frame(&mut stream).await else { break };
                    if tell.send(message).is_err() {
                        return;
                    }
                }
            }
        });
        Self { port, messages }
    }

    async fn next(&mut self) -> String {
        let wait = std::time::Duration::from_secs(60);
        tokio::time::timeout(wait, self.messages.recv()).await.expect("a message").unwrap()
    }
}

/// Reads a frame (RFC 5425 §4.3): its length, a space, and so many octets.
async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut length = String::new();
    loop {
        match char::from(stream.read_u8().await.ok()?) {
            ' ' => break,
            digit if digit.is_ascii_digit() && length.len() < 7 => length.push(digit),
            other => panic!("{other:?} in the length of a frame"),
        }
    }
    assert!(!length.starts_with('0') && !length.is_empty(), "{length:?}");
    let mut message = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut message).await.ok()?;
    Some(String::from_utf8(message).unwrap())
}

/// What a message says, once it was found to be one of RFC 5424 with well-formed XML in it: codes of
/// EventID, attributes that tests look at, and the number in the chain.
fn read(message: &str) -> (String, String, i64) {
    let (head, xml) = message.split_once('\u{FEFF}').expect("a mark before UTF-8");
    let words: Vec<&str> = head.split(' ').collect();
    assert_eq!(words.len(), 8, "{head}");
    assert!(["<85>1", "<84>1"].contains(&words[0]), "{head}");
    assert!(words[1].ends_with('Z') && words[1].len() == 27, "{head}");
    assert_eq!((words[3], words[5], words[6]), ("collimator", "DICOM+RFC3881", "-"));
    let (mut reader, mut id, mut study, mut number) =
        (Reader::from_str(xml), String::new(), String::new(), 0);
    let mut names = Vec::new();
    loop {
        let element = match reader.read_event().unwrap() {
            Event::Start(element) | Event::Empty(element) => element,
            Event::Eof => break,
            _ => continue,
        };
        let name = String::from_utf8(element.name().as_ref().to_vec()).unwrap();
        let attribute = |name: &str| {
            let found = element.try_get_attribute(name).unwrap()?;
            Some(String::from_utf8(found.value.into_owned()).unwrap())
        };
        match &*name {
            "EventID" => id = attribute("csd-code").unwrap(),
            "ParticipantObjectIdentification" => {
                study = attribute("ParticipantObjectID").unwrap();
            }
            "ParticipantObjectDetail" if attribute("type").as_deref() == Some("number") => {
                use base64::Engine as _;
                let value = attribute("value").unwrap();
                let value = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
                number = String::from_utf8(value).unwrap().parse().unwrap();
            }
            _ => {}
        }
        names.push(name);
    }
    assert_eq!(names[0], "AuditMessage");
    for needed in ["EventIdentification", "ActiveParticipant", "AuditSourceIdentification"] {
        assert!(names.iter().any(|name| name == needed), "{needed} in {xml}");
    }
    (id, study, number)
}

#[tokio::test]
async fn a_receiver_of_syslog_gets_each_event_in_order_though_it_hangs_up() {
    let dir = tempfile::tempdir().unwrap();
    let own = certificate(dir.path(), "receiver");
    let client = certificate(dir.path(), "sender");
    let mut receiver = Receiver::start(&own, &client.0, 2).await;
    let address = format!("localhost:{}", receiver.port);
    let settings = [
        ON[0],
        ON[1],
        ("audit.syslog", &address),
        ("audit.syslog_ca", &own.0),
        ("audit.syslog_certificate", &client.0),
        ("audit.syslog_key", &client.1),
    ];
    let server = Server::with(&settings).await;
    // The creation of the partition goes first, in the log of the platform.
    server.store("/partitions/a/studies", &[ct("1.2.1", 1)]).await.is(200);
    let mut seen: Vec<(String, String, i64)> = Vec::new();
    for n in 1..=4 {
        if n > 1 {
            let study = format!("1.2.{n}");
            server.store("/partitions/a/studies", &[ct(&study, 1)]).await.is(200);
        }
        // Not before it came: each time another connection is needed sooner or later.
        loop {
            let told = read(&receiver.next().await);
            let is_it = told.1 == format!("1.2.{n}");
            seen.push(told);
            if is_it {
                break;
            }
        }
    }
    server.delete("/partitions/a/studies/1.2.4").await.is(204);
    loop {
        let told = read(&receiver.next().await);
        seen.push(told.clone());
        if told.0 == "110105" {
            assert_eq!(told.1, "1.2.4");
            break;
        }
    }
    // At least once, in order: what is told again was told before with all up to it.
    let of_a = seen.iter().filter(|(_, study, _)| study.starts_with("1.2."));
    let numbers: Vec<i64> = of_a.map(|(_, _, number)| *number).collect();
    let mut highest = 0;
    for number in &numbers {
        assert!(*number <= highest + 1, "{numbers:?}");
        highest = highest.max(*number);
    }
    assert_eq!(highest, 5, "{seen:?}");
    assert!(
        seen.iter().any(|(id, ..)| id == "110104") && seen.iter().any(|(id, ..)| id == "110113")
    );
}

#[tokio::test]
async fn lines_go_on_where_they_were_and_carry_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    let settings = [ON[0], ON[1], ("audit.lines", file.to_str().unwrap())];
    let server = Server::with(&settings).await;
    for n in 1..=3 {
        server.store("/partitions/a/studies", &[ct(&format!("1.2.{n}"), 1)]).await.is(200);
    }
    let lines = || -> Vec<(Value, String)> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let whole = text.lines().filter(|_| text.ends_with('\n'));
        let read = |line: &str| (serde_json::from_str(line).unwrap(), line.to_owned());
        let all = whole.map(read);
        let of_a = all.filter(|(line, _): &(Value, String)| line["event"]["partition"] == "a");
        // At least once: what was written and not yet noted when the server ended comes again.
        let mut highest = 0;
        let is_new = |(line, _): &(Value, String)| {
            let number = line["number"].as_i64().unwrap();
            let is_new = number > highest;
            highest = highest.max(number);
            is_new
        };
        of_a.filter(is_new).collect()
    };
    until("three lines", async || lines().len() >= 3).await;
    let server = server.restart(&settings).await;
    server.delete("/partitions/a/studies/1.2.1").await.is(204);
    until("a fourth line", async || lines().len() >= 4).await;
    // Whoever has the lines can make the chain anew.
    let mut hash = [0; 32];
    for (n, (line, text)) in (1..).zip(lines()) {
        assert_eq!(line["number"], n);
        let record = text.split_once("\"event\":").unwrap().1.strip_suffix('}').unwrap();
        hash = collimator::audit::link(&hash, record);
        let shown: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(line["hash"], shown.as_str());
    }
    assert_eq!(lines()[3].0["event"]["action"], "studies.delete");
}
