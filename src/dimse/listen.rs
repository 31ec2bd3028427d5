//! The accept loop, and its end.
//!
//! Holds: besides the associations that are served there are a few connections for a moment each, of
//! which requests are rejected for now; further ones wait in the listen queue. After the signal to
//! stop nothing new is accepted or begun, and what is in flight has `server.drain_timeout`.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinError, JoinSet},
};

use super::{Gateway, association::connect, wire::Stream};
use crate::{control::accept, identity::PeerCertificate, telemetry::names};

/// Connections beyond those that are served.
const CROWD: usize = 16;

/// Serves until [`super::Parts::closing`] is cancelled, then drains; how many connections had to be
/// cut off.
pub async fn serve(listener: TcpListener, gateway: Gateway, drain_timeout: Duration) -> usize {
    let places = Arc::new(Semaphore::new(gateway.config.max_associations.saturating_add(CROWD)));
    let mut connections = JoinSet::new();
    let closing = gateway.closing.clone();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((place, accept(&listener).await))
        };
        let Some(Some((place, (stream, address)))) = closing.run_until_cancelled(next).await else {
            break;
        };
        while let Some(ended) = connections.try_join_next() {
            note(ended);
        }
        let gateway = gateway.clone();
        connections.spawn(async move {
            let _open = Open::new();
            if let Some((stream, peer)) = open(&gateway, stream).await {
                connect(gateway, stream, (address, peer)).await;
            }
            drop(place);
        });
    }
    drop(listener);
    let ended = tokio::time::timeout(drain_timeout, async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    });
    if ended.await.is_ok() {
        return 0;
    }
    let cut_off = connections.len();
    connections.shutdown().await;
    cut_off
}

/// Shakes hands where connections are encrypted; `None` where nothing comes of it.
async fn open(
    gateway: &Gateway,
    stream: TcpStream,
) -> Option<(Box<dyn Stream>, Option<PeerCertificate>)> {
    let Some(tls) = &gateway.tls else { return Some((Box::new(stream), None)) };
    let shaken = tokio::time::timeout(gateway.config.artim, tls.accept_dicom(stream));
    let outcome = match gateway.closing.run_until_cancelled(shaken).await? {
        Ok(Ok((stream, peer))) => return Some((Box::new(stream), peer)),
        Ok(Err(_)) => "refused",
        Err(_) => "timeout",
    };
    metrics::counter!(names::TLS_FAILURES, names::OUTCOME => outcome).increment(1);
    None
}

/// Logs a panic, which only ends its connection. Its message stays out of the log.
fn note(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a DIMSE connection ended by a panic");
    }
}

/// Counts a connection while it is open, however it ends.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!(names::DIMSE_CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!(names::DIMSE_CONNECTIONS).decrement(1.0);
    }
}
