//! The gateway by TLS, and principals by certificate.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::peer::{CT, EXPLICIT, Peer, VERIFICATION, address, request};
use crate::{
    harness::{
        Dicom,
        certificates::{Authority, Pair},
    },
    tls::Fenced,
};

async fn connect(fenced: &Fenced, shown: Option<Pair>) -> Option<Box<dyn super::peer::Stream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let of =
        |authority: &Authority| CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
    roots.add(of(&fenced.authority)).unwrap();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
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
