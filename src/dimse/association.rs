//! One association, from the request for it to its end (PS3.8 §7).
//!
//! Holds: one message at a time; who calls and whom is decided before anything is agreed on, and
//! again for each message. Stores are worked at on the threads that step back.

use std::net::SocketAddr;

use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationRJ, AssociationRJResult as Again,
    AssociationRJServiceProviderASCEReason as Acse,
    AssociationRJServiceProviderPresentationReason as Presentation,
    AssociationRJServiceUserReason as User, AssociationRJSource as Source, AssociationRQ, Pdu,
};

use super::{
    Gateway,
    command::{Command, field, status},
    door::{Caller, Counted, Shut},
    link::{End, Link},
    negotiate::{Context, Service, Unfit, agree},
    record,
    wire::{Broken, Stream, Wire},
};
use crate::{identity::PeerCertificate, telemetry::names};

/// An established association.
pub(super) struct Association {
    pub(super) gateway: Gateway,
    pub(super) caller: Caller,
    pub(super) link: Link,
    pub(super) contexts: Vec<Context>,
    _counted: Counted,
}

/// Serves a connection to its end.
pub(super) async fn connect(
    gateway: Gateway,
    stream: Box<dyn Stream>,
    (address, peer): (SocketAddr, Option<PeerCertificate>),
) {
    let mut wire = Wire::new(stream, gateway.config.max_pdu, gateway.config.artim);
    let closing = gateway.closing.clone();
    let request = match closing.run_until_cancelled(wire.read()).await {
        Some(Ok(Pdu::AssociationRQ(request))) => request,
        Some(Ok(_) | Err(Broken::Invalid | Broken::Unknown)) => {
            count("malformed");
            let reason = AbortRQServiceProviderReason::UnexpectedPdu;
            let source = AbortRQSource::ServiceProvider(reason);
            if wire.send(&Pdu::AbortRQ { source }).await.is_ok() {
                wire.close(gateway.config.artim.min(FAREWELL)).await;
            }
            return;
        }
        Some(Err(_)) | None => return count("silent"),
    };
    match establish(&gateway, &request, address, peer.as_ref()).await {
        Ok((caller, agreed, counted)) => {
            if wire.send(&Pdu::AssociationAC(agreed.answer)).await.is_err() {
                return count("silent");
            }
            count("accepted");
            tracing::debug!(
                association = %caller.id,
                calling = %caller.calling,
                called = %caller.called,
                partition = %caller.partition,
                contexts = agreed.contexts.len(),
                "an association begins"
            );
            wire.set_patience(gateway.config.idle);
            let link = Link::new(wire, agreed.longest);
            let contexts = agreed.contexts;
            Association { gateway, caller, link, contexts, _counted: counted }.run().await;
        }
        Err(rejection) => {
            count("rejected");
            if wire.send(&Pdu::AssociationRJ(rejection)).await.is_ok() {
                wire.close(gateway.config.artim.min(FAREWELL)).await;
            }
        }
    }
}

/// Wait for a peer to close its side.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);

fn count(outcome: &'static str) {
    metrics::counter!(names::DIMSE_ASSOCIATIONS, names::OUTCOME => outcome).increment(1);
}

fn rejected(result: Again, source: Source) -> AssociationRJ {
    AssociationRJ { result, source }
}

/// Whether there is an association for a request, or how it is rejected (PS3.8 Table 9-21).
async fn establish(
    gateway: &Gateway,
    request: &AssociationRQ,
    address: SocketAddr,
    peer: Option<&PeerCertificate>,
) -> Result<(Caller, super::negotiate::Agreed, Counted), AssociationRJ> {
    let agreed = agree(request, gateway.config.max_pdu);
    if agreed.as_ref().is_err_and(|unfit| *unfit == Unfit::Version) {
        let source = Source::ServiceProviderASCE(Acse::ProtocolVersionNotSupported);
        return Err(rejected(Again::Permanent, source));
    }
    let titles = (&*request.calling_ae_title, &*request.called_ae_title);
    let caller = Caller::of(gateway, titles, address.ip(), peer).await.map_err(|shut| {
        if shut != Shut::Unavailable {
            record::turned_away(gateway, titles, address.ip(), shut);
        }
        match shut {
            Shut::Calling => {
                rejected(Again::Permanent, Source::ServiceUser(User::CallingAETitleNotRecognized))
            }
            Shut::Called => {
                rejected(Again::Permanent, Source::ServiceUser(User::CalledAETitleNotRecognized))
            }
            Shut::Unavailable => rejected(
                Again::Transient,
                Source::ServiceProviderPresentation(Presentation::TemporaryCongestion),
            ),
        }
    })?;
    let agreed = agreed.map_err(|unfit| match unfit {
        Unfit::Application => {
            let reason = User::ApplicationContextNameNotSupported;
            rejected(Again::Permanent, Source::ServiceUser(reason))
        }
        Unfit::Version | Unfit::Length | Unfit::Contexts => {
            rejected(Again::Permanent, Source::ServiceUser(User::NoReasonGiven))
        }
    })?;
    let counted = gateway.1.enter(gateway, &caller).ok_or_else(|| {
        let source = Source::ServiceProviderPresentation(Presentation::LocalLimitExceeded);
        rejected(Again::Transient, source)
    })?;
    Ok((caller, agreed, counted))
}

impl Association {
    /// Serves messages until it ends.
    async fn run(self) {
        let mut it = self;
        let end = loop {
            let (context, command) = match it.next().await {
                Ok(message) => message,
                Err(end) => break end,
            };
            let done = if (command.field(), context.service) == (field::STORE, Service::Storage)
                && context.asks
            {
                let aside = it.gateway.aside.clone();
                let stored = aside.run(async move {
                    let done = it.store(&context, &command).await;
                    (it, done)
                });
                // The threads end with the server, and with them what was on its way.
                let Some((back, done)) = stored.await else { return };
                it = back;
                done
            } else {
                it.message(&context, &command).await
            };
            if let Err(end) = done {
                break end;
            }
        };
        tracing::debug!(association = %it.caller.id, end = %end, "an association ended");
        it.link.end(end).await;
    }

    /// The next message: its context and its command.
    async fn next(&mut self) -> Result<(Context, Command), End> {
        let closing = self.gateway.closing.clone();
        let first =
            closing.run_until_cancelled(self.link.value()).await.unwrap_or(Err(End::Closing))?;
        let (id, command) = self.link.command_from(first).await?;
        let context = self.contexts.iter().find(|context| context.id == id);
        // Answers are waited for where something was asked.
        let is_request = command.field() & field::RESPONSE == 0;
        Ok((context.filter(|_| is_request).ok_or(End::Unexpected)?.clone(), command))
    }

    async fn message(&mut self, context: &Context, command: &Command) -> Result<(), End> {
        let answered = match (command.field(), context.service) {
            _ if !context.asks => status::SOP_CLASS_NOT_SUPPORTED,
            (field::ECHO, Service::Verification) => status::SUCCESS,
            (field::FIND, Service::Find(root)) => return self.find(context, command, root).await,
            (field::GET, Service::Get(root)) => return self.get(context, command, root).await,
            (field::MOVE, Service::Move(root)) => return self.r#move(context, command, root).await,
            // What it would cancel has ended.
            (field::CANCEL, _) => return Ok(()),
            (field::ECHO | field::STORE | field::FIND | field::GET | field::MOVE, _) => {
                status::SOP_CLASS_NOT_SUPPORTED
            }
            _ => status::UNRECOGNIZED,
        };
        self.link.pass(context.id, command).await?;
        record::count(command.field(), answered);
        self.link.send(context.id, &command.answer(answered)).await
    }
}
