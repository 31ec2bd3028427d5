//! TLS of the listeners (RFC 8446, and RFC 5246 for those who have nothing newer): certificates from
//! files, read again when these change, and the certificates of clients.
//!
//! Holds: what was read as a whole and fits together is used, or what was used before goes on;
//! connections that are open keep what they began with. Nobody resumes a session where clients show
//! certificates, so that each connection is verified by the authorities of its day.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use metrics::counter;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{Certificates, PeerCertificate};
use crate::{
    config::{ClientAuth, TlsConfig},
    telemetry::names,
};

/// What a client is offered to speak (RFC 7301), the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Bytes of a file that are read: a chain, and the authorities of a large hospital.
const LONGEST: u64 = 16 << 20;

/// The listener's TLS. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: Files,
    client_auth: ClientAuth,
    certificates: Certificates,
    interval: Duration,
    current: RwLock<Arc<ServerConfig>>,
    /// Of the content of the files when they were read last, whether it was taken or not.
    seen: RwLock<[u8; 32]>,
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What the files held at one moment. The key is overwritten when it is dropped.
struct Content {
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files; `None` where TLS is off.
    ///
    /// # Errors
    /// What is wrong with them, in words for the operator.
    pub fn load(config: &TlsConfig) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
            return Ok(None);
        };
        let files = Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: config.client_ca.clone(),
        };
        let content = files.read()?;
        let current = content.configuration(config.client_auth)?;
        Ok(Some(Self(Arc::new(Inner {
            files,
            client_auth: config.client_auth,
            certificates: Certificates::new(config),
            interval: config.reload,
            current: RwLock::new(Arc::new(current)),
            seen: RwLock::new(content.digest()),
        }))))
    }

    /// Reads the files again where they have changed; whether there is something new.
    ///
    /// # Errors
    /// Where what they hold now is not usable: what was read before stays.
    pub fn reload(&self) -> anyhow::Result<bool> {
        let content = self.0.files.read()?;
        let digest = content.digest();
        // Neither can be left half-changed.
        if *self.0.seen.read().unwrap_or_else(PoisonError::into_inner) == digest {
            return Ok(false);
        }
        *self.0.seen.write().unwrap_or_else(PoisonError::into_inner) = digest;
        let next = Arc::new(content.configuration(self.0.client_auth)?);
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(true)
    }

    /// Looks at the files from time to time and on SIGHUP, until `end`.
    pub async fn watch(self, end: CancellationToken) {
        let mut hangup = Hangup::listen();
        loop {
            let tick = async {
                match self.0.interval.is_zero() {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(self.0.interval).await,
                }
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = hangup.next() => tracing::info!("SIGHUP: certificates are read again"),
                () = tick => {}
            }
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => {
                    counter!(names::TLS_RELOADS, names::OUTCOME => "loaded").increment(1);
                    tracing::info!("new certificates are in use");
                }
                Ok(Err(error)) => {
                    counter!(names::TLS_RELOADS, names::OUTCOME => "failed").increment(1);
                    tracing::error!("certificates stay as they were: {error:#}");
                }
            }
        }
    }

    /// Shakes hands with a client of HTTP; answers the connection and whose certificate it showed.
    ///
    /// # Errors
    /// Where the client does not, or breaks off.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.shake_hands(current, stream).await
    }

    /// The same with a client of DICOM's upper layer, which has no name among protocols (PS3.15 B.12).
    ///
    /// # Errors
    /// As [`Tls::accept`].
    pub async fn accept_dicom(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut plain = ServerConfig::clone(&current);
        plain.alpn_protocols.clear();
        self.shake_hands(Arc::new(plain), stream).await
    }

    async fn shake_hands(
        &self,
        config: Arc<ServerConfig>,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = shown.and_then(|certificate| self.0.certificates.read(certificate));
        Ok((stream, peer))
    }
}

impl Files {
    fn read(&self) -> anyhow::Result<Content> {
        Ok(Content {
            certificate: read("tls.certificate", &self.certificate)?,
            key: zeroize::Zeroizing::new(read("tls.key", &self.key)?),
            client_ca: match &self.client_ca {
                Some(path) => Some(read("tls.client_ca", path)?),
                None => None,
            },
        })
    }
}

fn read(key: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| {
            // In one piece: what a growing buffer leaves behind is not overwritten.
            bytes.reserve_exact(file.metadata()?.len().min(LONGEST) as usize + 64);
            file.take(LONGEST).read_to_end(&mut bytes)
        })
        .with_context(|| format!("{key}: {} cannot be read", path.display()))?;
    Ok(bytes)
}

impl Content {
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [&self.certificate, &*self.key].into_iter().chain(&self.client_ca) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn configuration(&self, client_auth: ClientAuth) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates("tls.certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| anyhow::anyhow!("tls.key: there is no private key in PEM in it"))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .context("TLS cannot be set up")?;
        let builder = match self.verifier(client_auth, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .context("tls.certificate and tls.key do not fit together")?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        if client_auth != ClientAuth::None {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }

    /// Verifies certificates of clients, where they are asked for.
    fn verifier(
        &self,
        client_auth: ClientAuth,
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
        let Some(authorities) = self.client_ca.as_ref().filter(|_| client_auth != ClientAuth::None)
        else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("tls.client_ca", authorities)? {
            roots.add(certificate).context("tls.client_ca: one is not of an authority")?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match client_auth {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::None | ClientAuth::Required => builder,
        };
        Ok(Some(builder.build().context("tls.client_ca cannot be used")?))
    }
}

fn certificates(key: &str, pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| anyhow::anyhow!("{key}: it is not PEM"))?;
    anyhow::ensure!(!read.is_empty(), "{key}: there is no certificate in it");
    Ok(read)
}

/// SIGHUP; never, where there is none.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let signal = signal(SignalKind::hangup());
        if let Err(error) = &signal {
            tracing::warn!(%error, "SIGHUP cannot be listened to");
        }
        Self { signal: signal.ok() }
    }

    #[cfg(not(unix))]
    fn listen() -> Self {
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
