//! A receiver of syslog over TLS (RFC 5425): a connection that is made when it is needed.
//!
//! Syslog has no answers. What was written may be lost with the connection, so after each batch the
//! connection is listened to for a moment: a receiver that has gone says so there, and what it was
//! sent counts as not sent. Where the operator names the receiver no guard stands: it is not a tenant
//! who chooses it.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::config::AuditConfig;

/// Time for a connection, and for writing a batch.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a connection is listened to after a batch.
const LISTEN: Duration = Duration::from_millis(250);

/// Why a receiver could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    /// A file of the configuration is not what it should be.
    #[error("{key} cannot be used")]
    File {
        /// The key.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The receiver's name is neither a name nor an address.
    #[error("audit.syslog has no name of a host")]
    Name,
    /// The key is not that of the certificate, or of no known kind.
    #[error("audit.syslog_certificate and audit.syslog_key cannot be used")]
    Certificate(#[source] rustls::Error),
}

/// A receiver. What it is sent is framed already.
pub struct Syslog {
    host: String,
    port: u16,
    name: ServerName<'static>,
    connector: TlsConnector,
    stream: Option<TlsStream<TcpStream>>,
}

impl Syslog {
    /// The one of the configuration, if there is one.
    ///
    /// # Errors
    /// [`SyslogError`].
    pub fn of(config: &AuditConfig) -> Result<Option<Self>, SyslogError> {
        let Some((host, port)) = config.syslog.clone() else { return Ok(None) };
        let name = ServerName::try_from(host.clone()).map_err(|_| SyslogError::Name)?;
        let mut roots = RootCertStore::empty();
        if let Some(path) = &config.syslog_ca {
            for certificate in certificates("audit.syslog_ca", path)? {
                roots.add(certificate).map_err(|error| SyslogError::File {
                    key: "audit.syslog_ca",
                    source: error.into(),
                })?;
            }
        }
        let tls = ClientConfig::builder().with_root_certificates(roots);
        let tls = match (&config.syslog_certificate, &config.syslog_key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("audit.syslog_certificate", certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| SyslogError::File {
                    key: "audit.syslog_key",
                    source: error.into(),
                })?;
                tls.with_client_auth_cert(chain, key).map_err(SyslogError::Certificate)?
            }
            _ => tls.with_no_client_auth(),
        };
        let connector = TlsConnector::from(Arc::new(tls));
        Ok(Some(Self { host, port, name, connector, stream: None }))
    }

    /// Sends frames, one after the other.
    ///
    /// # Errors
    /// Where they may not have arrived: all of them are to be sent again.
    pub async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        // Taken: whatever goes wrong, or nobody waits for any more, ends the connection.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => timeout(PATIENCE, self.connect()).await??,
        };
        timeout(PATIENCE, async {
            stream.write_all(frames).await?;
            stream.flush().await
        })
        .await??;
        let mut answer = [0; 256];
        match timeout(LISTEN, stream.read(&mut answer)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            // Whatever it says is no answer.
            Ok(Ok(_)) | Err(_) => {}
        }
        self.stream = Some(stream);
        Ok(())
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        self.connector.connect(self.name.clone(), tcp).await
    }
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, SyslogError> {
    let wrong =
        |error: rustls::pki_types::pem::Error| SyslogError::File { key, source: error.into() };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
    let read = read.map_err(wrong)?;
    if read.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(read)
}
