//! The association to the destination of a C-MOVE: asked for here, and used for all its instances.
//!
//! Holds: only destinations of the configuration are called. One association serves as long as it
//! has the contexts that are needed, and is asked for again where it has not; a destination that
//! cannot be reached, or breaks off, twice is left alone, and what is left counts as failed.

use std::{collections::BTreeSet, io::Read as _, sync::Arc};

use anyhow::Context as _;
use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResultReason,
    UserVariableItem,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    Gateway,
    link::{End, Link},
    negotiate::{APPLICATION_CONTEXT, MOST_CONTEXTS},
    sub::{self, Unsent},
    wire::{Stream, Wire},
};
use crate::{
    archive::{ArchiveError, Coming, Handed},
    config::{DimseConfig, DimsePeer, TlsConfig},
    control::Seat,
    dicom::{
        Uid,
        explicit::{IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION},
        transfer_syntax::{EXPLICIT_LITTLE, IMPLICIT_LITTLE},
    },
};

/// Failures after which a destination is left alone.
const PATIENCE: usize = 2;
/// Bytes of a file of certificates that are read.
const LONGEST: u64 = 16 << 20;

/// Whom destinations are believed by, and what this server shows them.
#[derive(Clone)]
pub struct Trust(Option<TlsConnector>);

impl Trust {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// What is wrong with them, in words for the operator.
    pub fn load(dimse: &DimseConfig, tls: &TlsConfig) -> anyhow::Result<Self> {
        let Some(ca) = &dimse.ca else { return Ok(Self(None)) };
        let read = |path: &std::path::Path| -> anyhow::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let file = std::fs::File::open(path);
            file.and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
                .with_context(|| format!("{} cannot be read", path.display()))?;
            Ok(bytes)
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&read(ca)?) {
            let certificate = certificate.map_err(|_| anyhow::anyhow!("dimse.ca is not PEM"))?;
            roots.add(certificate).context("dimse.ca: one is not of an authority")?;
        }
        anyhow::ensure!(!roots.is_empty(), "dimse.ca: there is no certificate in it");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_root_certificates(roots);
        let config = match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_slice_iter(&read(certificate)?).collect();
                let chain = chain.map_err(|_| anyhow::anyhow!("tls.certificate is not PEM"))?;
                let key = zeroize::Zeroizing::new(read(key)?);
                let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
                    anyhow::anyhow!("tls.key: there is no private key in PEM in it")
                })?;
                let built = builder.with_client_auth_cert(chain, key);
                built.context("tls.certificate and tls.key do not fit together")?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self(Some(TlsConnector::from(Arc::new(config)))))
    }
}

/// A context that the destination accepted.
struct Accepted {
    id: u8,
    class: Uid,
    syntax: Uid,
}

/// An association with the destination.
struct Open {
    link: Link,
    accepted: Vec<Accepted>,
    /// SOP classes and transfer syntaxes that were proposed.
    proposed: BTreeSet<(Uid, Uid)>,
    message: u16,
}

/// Who takes the instances of a move.
pub(super) struct Mover {
    gateway: Gateway,
    peer: DimsePeer,
    /// What the destination is told that calls.
    calling: Box<str>,
    originator: (Box<str>, u16),
    open: Option<Open>,
    failures: usize,
}

impl Mover {
    pub(super) fn new(
        gateway: &Gateway,
        peer: DimsePeer,
        calling: &str,
        originator: (Box<str>, u16),
    ) -> Self {
        let (gateway, calling) = (gateway.clone(), calling.into());
        Self { gateway, peer, calling, originator, open: None, failures: 0 }
    }

    /// Sends the next instance; the status that it was answered with, `None` where it was not sent.
    ///
    /// # Errors
    /// Where the archive fails before anything of it was sent.
    pub(super) async fn take(
        &mut self,
        handed: &mut Handed,
        coming: &Coming,
        seat: &mut Seat,
    ) -> Result<Option<u16>, ArchiveError> {
        let need = (coming.sop_class.clone(), coming.transfer_syntax.clone());
        let wanted = wanted(&need, handed);
        let Some(mut open) = sub::aside(seat, self.ready(&need, wanted)).await else {
            handed.pass();
            return Ok(None);
        };
        let ways: Vec<(u8, &Uid)> = open
            .accepted
            .iter()
            .filter(|accepted| accepted.class == coming.sop_class)
            .map(|accepted| (accepted.id, &accepted.syntax))
            .collect();
        let syntaxes: Vec<&Uid> = ways.iter().map(|(_, syntax)| *syntax).collect();
        let opened = handed.open(&syntaxes).await;
        let way = match opened {
            Ok(at) => at.and_then(|at| ways.get(at)).map(|(id, _)| *id),
            Err(error) => {
                self.open = Some(open);
                return Err(error);
            }
        };
        let Some(id) = way else {
            self.open = Some(open);
            return Ok(None);
        };
        open.message = open.message.wrapping_add(1);
        let by = (id, open.message);
        let originator = Some((&*self.originator.0, self.originator.1));
        let sent = match sub::send(&mut open.link, by, coming, (handed, seat), originator).await {
            Ok(()) => sub::aside(seat, answer(&mut open.link, by)).await,
            Err(Unsent::End(end)) => Err(end),
            Err(Unsent::Archive(error)) => {
                tracing::error!(error = %error, "an instance broke off on its way");
                Err(End::Failed)
            }
        };
        match sent {
            Ok(answered) => {
                self.open = Some(open);
                Ok(Some(answered))
            }
            Err(end) => {
                self.failures += 1;
                open.link.end(end).await;
                Ok(None)
            }
        }
    }

    /// An association with what the instance needs; `None`: there is none to be had.
    async fn ready(&mut self, need: &(Uid, Uid), wanted: BTreeSet<(Uid, Uid)>) -> Option<Open> {
        if let Some(open) = self.open.take() {
            if open.proposed.contains(need) {
                return Some(open);
            }
            open.link.release().await;
        }
        if self.failures >= PATIENCE {
            return None;
        }
        let open = self.associate(wanted).await;
        if open.is_none() {
            self.failures += 1;
            tracing::warn!(destination = %self.peer.ae, "the destination of a move does not answer, or rejects");
        }
        open
    }

    async fn associate(&self, wanted: BTreeSet<(Uid, Uid)>) -> Option<Open> {
        let config = &self.gateway.config;
        let stream = timeout(config.artim, self.connect()).await.ok()??;
        let mut wire = Wire::new(stream, config.max_pdu, config.artim);
        let proposed = proposals(&wanted);
        let request = AssociationRQ {
            protocol_version: 1,
            calling_ae_title: self.calling.to_string(),
            called_ae_title: self.peer.ae.to_string(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: proposed.clone(),
            user_variables: vec![
                UserVariableItem::MaxLength(config.max_pdu),
                UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS.to_owned()),
                UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION.to_owned()),
            ],
        };
        wire.send(&Pdu::AssociationRQ(request)).await.ok()?;
        let Pdu::AssociationAC(answer) = wire.read().await.ok()? else { return None };
        let results = answer.presentation_contexts.into_iter();
        let accepted = results.filter_map(|result| {
            let of = proposed.iter().find(|proposed| proposed.id == result.id)?;
            let syntax = result.transfer_syntax.trim_matches(['\0', ' ']);
            let is_ours = of.transfer_syntaxes.iter().any(|uid| uid == syntax);
            let is_taken = result.reason == PresentationContextResultReason::Acceptance;
            let class = of.abstract_syntax.parse().ok()?;
            let syntax = syntax.parse().ok()?;
            (is_taken && is_ours).then_some(Accepted { id: result.id, class, syntax })
        });
        let accepted: Vec<Accepted> = accepted.collect();
        let longest = answer.user_variables.iter().find_map(|item| match item {
            UserVariableItem::MaxLength(length) => Some(*length),
            _ => None,
        });
        wire.set_patience(config.idle);
        let link = Link::new(wire, longest.unwrap_or(0));
        Some(Open { link, accepted, proposed: wanted, message: 0 })
    }

    async fn connect(&self) -> Option<Box<dyn Stream>> {
        let (host, port) = self.peer.destination.as_ref()?;
        let stream = TcpStream::connect((&**host, *port)).await.ok()?;
        _ = stream.set_nodelay(true);
        if !self.peer.tls {
            return Some(Box::new(stream));
        }
        let name = ServerName::try_from(host.to_string()).ok()?;
        let stream = self.gateway.trust.0.as_ref()?.connect(name, stream).await.ok()?;
        Some(Box::new(stream))
    }

    /// Nothing more is sent.
    pub(super) async fn end(self) {
        if let Some(open) = self.open {
            open.link.release().await;
        }
    }
}

/// SOP classes and transfer syntaxes of what is needed now and what comes next. There are two contexts
/// at the most for each.
fn wanted(need: &(Uid, Uid), handed: &Handed) -> BTreeSet<(Uid, Uid)> {
    let mut wanted = BTreeSet::from([need.clone()]);
    for ahead in handed.ahead() {
        if wanted.len() >= MOST_CONTEXTS / 2 {
            break;
        }
        wanted.insert((ahead.sop_class, ahead.transfer_syntax));
    }
    wanted
}

/// What is proposed for SOP classes and the transfer syntaxes of what is stored: for each class what
/// every peer takes, and each other syntax by itself, so that the peer cannot choose it away.
fn proposals(wanted: &BTreeSet<(Uid, Uid)>) -> Vec<PresentationContextProposed> {
    let plain = [EXPLICIT_LITTLE, IMPLICIT_LITTLE];
    let classes: BTreeSet<&Uid> = wanted.iter().map(|(class, _)| class).collect();
    let native = classes.into_iter().map(|class| (class, plain.map(str::to_owned).to_vec()));
    let others = wanted.iter().filter(|(_, syntax)| !plain.contains(&syntax.as_str()));
    let others = others.map(|(class, syntax)| (class, vec![syntax.to_string()]));
    let ids = (1..=u8::MAX).step_by(2);
    let proposed = native.chain(others).zip(ids).map(|((class, transfer_syntaxes), id)| {
        let abstract_syntax = class.to_string();
        PresentationContextProposed { id, abstract_syntax, transfer_syntaxes }
    });
    proposed.collect()
}

/// The status that an instance is answered with.
async fn answer(link: &mut Link, (context, message): (u8, u16)) -> Result<u16, End> {
    let (by, came) = link.command().await?;
    let answered = sub::answered(&came, message).filter(|_| by == context);
    let answered = answered.ok_or(End::Unexpected)?;
    link.pass(by, &came).await?;
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_compressed_syntax_is_proposed_by_itself() {
        let (ct, jpeg) = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.70");
        let of = |class: &str, syntax: &str| (class.parse().unwrap(), syntax.parse().unwrap());
        let wanted = [of(ct, EXPLICIT_LITTLE), of(ct, jpeg), of("1.2.3", IMPLICIT_LITTLE)];
        let proposed = proposals(&wanted.into());
        let shown: Vec<_> = proposed
            .iter()
            .map(|one| (one.id, one.abstract_syntax.as_str(), one.transfer_syntaxes.len()))
            .collect();
        assert_eq!(shown, [(1, "1.2.3", 2), (3, ct, 2), (5, ct, 1)]);
        assert_eq!(proposed[2].transfer_syntaxes, [jpeg]);
    }
}
