//! The gateway by TLS, and principals by certificate.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    keys,
    peer::{CT, EXPLICIT, Peer, STUDY_MOVE, VERIFICATION, address, data_set, request},
};
use crate::{
    harness::{
        Dicom, Server,
        certificates::{Authority, Pair},
    },
    tls::Fenced,
};

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    roots
}

fn parsed(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    (chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap())
}

async fn connect(fenced: &Fenced, shown: Option<Pair>) -> Option<Box<dyn super::peer::Stream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&fenced.authority));
    let config = match shown {
        Some(pair) => {
            let (chain, key) = parsed(&pair);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address(&fenced.server)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    Some(Box::new(stream))
}

#[tokio::test]
async fn a_certificate_says_who_calls() {
    let settings = [("dimse.listen", "127.0.0.1:0"), ("dimse.tls", "true")];
    let fenced = Fenced::new(&settings).await;
    let contexts = [(VERIFICATION, &[EXPLICIT][..]), (CT, &[EXPLICIT])];
    let ask = async |name: Option<&str>, called: &str| {
        let shown = name.map(|name| fenced.authority.client(name));
        let stream = connect(&fenced, shown).await.unwrap();
        Peer::over(stream, request("ANY", called, &contexts, &[])).await
    };
    let mut peer = ask(Some("modality"), "NORTH").await.unwrap();
    assert_eq!(peer.echo().await.status, 0);
    let dicom = Dicom::ct("1.2.9", "1.2.9.1", "1.2.9.1.1").data_set();
    assert_eq!(peer.store("1.2.9.1.1", &dicom).await.status, 0);
    peer.release().await;
    let foreign = ask(Some("modality"), "SOUTH").await.err().unwrap();
    assert_eq!(ask(Some("modality"), "EAST").await.err(), Some(foreign));
    let unknown = ask(Some("stranger"), "NORTH").await.err().unwrap();
    assert_eq!(ask(None, "NORTH").await.err(), Some(unknown));
    // In clear nothing is spoken.
    let stream = TcpStream::connect(address(&fenced.server)).await.unwrap();
    let mut bytes = Vec::new();
    dicom_ul::pdu::write_pdu(&mut bytes, &request("ANY", "NORTH", &contexts, &[]).into()).unwrap();
    let (mut reads, mut writes) = stream.into_split();
    tokio::io::AsyncWriteExt::write_all(&mut writes, &bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut reads, &mut answer).await;
    assert_ne!(answer.first(), Some(&0x02), "{answer:?}");
}

/// A destination with a certificate of `signer`, which wants one of `authority` from who calls.
fn acceptor(signer: &Authority, authority: &Authority) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let known = Arc::new(roots(authority));
    let verifier = WebPkiClientVerifier::builder_with_provider(known, provider.clone());
    let (chain, key) = parsed(&signer.server());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_move_goes_by_tls_to_a_destination_that_is_believed_and_to_no_other() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let (certificate, key) = authority.both().write(files.path());
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, certificate, key) = (text(&ca), text(&certificate), text(&key));
    // One is as it should be, one has a certificate of somebody else's, one speaks in clear.
    let mut listeners = Vec::new();
    let mut peers = vec!["{ ae = \"WS\", partitions = \"*\" }".to_owned()];
    for ae in ["SURE", "STRANGE", "CLEAR"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        peers.push(format!(
            "{{ ae = \"{ae}\", partitions = \"*\", destination = \"127.0.0.1:{port}\", tls = true }}"
        ));
        listeners.push(listener);
    }
    let clear = listeners.pop().unwrap();
    let strange = listeners.pop().unwrap();
    let sure = listeners.pop().unwrap();
    let server = Server::with(&[
        ("dimse.listen", "127.0.0.1:0"),
        ("dimse.ca", &*ca),
        ("dimse.peers", &*format!("[{}]", peers.join(", "))),
        ("tls.certificate", &*certificate),
        ("tls.key", &*key),
    ])
    .await;
    let dicom = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    server.through(authority.http(None)).store("/studies", &[dicom.file()]).await.is(200);
    let taken = tokio::spawn({
        let acceptor = acceptor(&authority, &authority);
        async move {
            let stream = acceptor.accept(sure.accept().await.unwrap().0).await.unwrap();
            // Whom the destination deals with is known to it.
            assert_eq!(stream.get_ref().1.peer_certificates().map(<[_]>::len), Some(1));
            let (mut own, _) = Peer::accept(Box::new(stream), |_, syntax| syntax == EXPLICIT).await;
            let came = own.answer().await;
            own.stored(&came, 0).await;
            assert_eq!(own.read().await, dicom_ul::pdu::Pdu::ReleaseRQ);
            own.send(&dicom_ul::pdu::Pdu::ReleaseRP).await;
            came
        }
    });
    let acceptor = acceptor(&stranger, &authority);
    let refused = tokio::spawn(async move {
        assert!(acceptor.accept(strange.accept().await.unwrap().0).await.is_err());
    });
    let silent = tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        let (mut stream, _) = clear.accept().await.unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).await.unwrap();
        first[0]
    });
    let study = keys(&[(0x0008, 0x0052, "CS", "STUDY"), (0x0020, 0x000D, "UI", "1.2.1")]);
    let mut peer = Peer::new(&server, "WS", "SERVER", &[STUDY_MOVE]).await;
    for (ae, status, counts) in [
        ("SURE", 0, [None, Some(1), Some(0), Some(0)]),
        ("STRANGE", 0xA702, [None, Some(0), Some(1), Some(0)]),
        ("CLEAR", 0xA702, [None, Some(0), Some(1), Some(0)]),
    ] {
        peer.ask(STUDY_MOVE, 0x0021, &study, Some(ae)).await;
        let answers = peer.answers().await;
        let last = answers.last().unwrap();
        assert_eq!((last.status, last.counts), (status, counts), "{ae}");
    }
    assert_eq!(taken.await.unwrap().bytes, data_set(&dicom.file()));
    refused.await.unwrap();
    // What came there is the beginning of a TLS handshake, and no request for an association.
    assert_eq!(silent.await.unwrap(), 0x16);
}
