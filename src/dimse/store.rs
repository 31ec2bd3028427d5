//! C-STORE as its SCP (PS3.4 Annex B): instances in, by the path of all Stores.
//!
//! Holds: a data set flows into the archive while it arrives, behind File Meta Information that is
//! written here and says the transfer syntax that was agreed on; success is answered once the
//! instance is durable. A seat is held only while there is something to do.

use bytes::Bytes;

use super::{
    association::Association,
    command::{Command, element, field, status},
    link::End,
    negotiate::Context,
    record,
    sub::aside,
};
use crate::{
    archive::{FailureReason, Outcome},
    control::{ControlError, Kind},
    dicom::{
        Uid,
        explicit::{Identity, file_meta},
    },
    tenancy::Permission,
};

/// What an answer says.
type Answered = (u16, String);

impl Association {
    /// Stores the instance of a message.
    pub(super) async fn store(&mut self, context: &Context, command: &Command) -> Result<(), End> {
        let (answered, comment) = self.take(context, command).await?;
        record::count(field::STORE, answered);
        let answer = command.answer(answered).with_comment(&comment);
        self.link.send(context.id, &answer).await
    }

    async fn take(&mut self, context: &Context, command: &Command) -> Result<Answered, End> {
        if !command.has_data_set() {
            return Ok((status::CANNOT_UNDERSTAND, "there is no data set".to_owned()));
        }
        let deed = self.caller.deed(Permission::Store, "C-STORE", Vec::new());
        let scope = match self.caller.scope(&self.gateway, &deed).await {
            Ok(scope) => scope,
            Err(error) => {
                record::refused(&self.gateway, &deed, &self.caller.partition, &error);
                self.link.pass(context.id, command).await?;
                return Ok(refusal(&error));
            }
        };
        let class = command.uid(element::AFFECTED_CLASS);
        let instance = command.uid(element::AFFECTED_INSTANCE);
        let (Some(sop_class), Some(sop_instance)) = (class, instance) else {
            self.link.pass(context.id, command).await?;
            return Ok((status::DOES_NOT_MATCH, "the command has no valid UIDs".to_owned()));
        };
        let busy = "the server has enough to do; try again later".to_owned();
        let seat = self.gateway.seats.take((&*scope).into(), Some(Kind::Store)).await;
        let Some(mut seat) =
            seat.ok().filter(|_| self.gateway.archive.room_for_store(&scope).is_ok())
        else {
            self.link.pass(context.id, command).await?;
            return Ok((status::OUT_OF_RESOURCES, busy));
        };
        let prepare = {
            let (partitions, scope) = (self.gateway.partitions.clone(), scope.clone());
            async move { partitions.ensure(scope.partition(), scope.deed()).await }
        };
        let may_reject = self.caller.may_reject(&self.gateway);
        let session = self.gateway.archive.store(scope, None, Box::pin(prepare));
        let mut session = session.rejecting(may_reject);
        let identity = Identity { sop_class, sop_instance };
        let mut sink = session.part();
        let meta = file_meta(&context.syntax, &identity);
        let mut room = self.gateway.limits.instance_bytes.saturating_sub(meta.len() as u64);
        sink.push(meta.into()).await;
        let mut ended = Ok(());
        let (mut is_whole, mut is_too_long) = (false, false);
        while !is_whole && !is_too_long {
            let (piece, is_last) = match aside(&mut seat, self.link.piece(context.id)).await {
                Ok(piece) => piece,
                Err(end) => {
                    ended = Err(end);
                    break;
                }
            };
            is_whole = is_last;
            match room.checked_sub(piece.len() as u64) {
                Some(left) => {
                    room = left;
                    sink.push(Bytes::from(piece)).await;
                }
                None => is_too_long = true,
            }
        }
        if let Err(end) = ended {
            sink.abandon().await;
            record::ended(&self.gateway, &deed, &self.caller.partition, None);
            return Err(end);
        }
        let said = Some((identity.sop_class, identity.sop_instance));
        if is_too_long {
            sink.refuse_too_large(self.gateway.limits.instance_bytes).await;
        } else if sink.sop().is_some_and(|sop| Some(sop) != said) {
            let detail = "the UIDs of command and data set differ".to_owned();
            sink.refuse(said, FailureReason::DoesNotMatchSopClass, detail).await;
        } else {
            sink.finish().await;
        }
        if is_whole {
            seat.wind_up();
        }
        let outcome = session.finish().await;
        while !is_whole {
            is_whole = aside(&mut seat, self.link.piece(context.id)).await?.1;
        }
        drop(seat);
        let answered = answered(&outcome);
        record::ended(&self.gateway, &deed, &self.caller.partition, Some(answered.0));
        Ok(answered)
    }
}

/// How a refusal is answered: what is hidden looks like what is not permitted.
pub(super) fn refusal(error: &ControlError) -> Answered {
    match error {
        ControlError::Refused(_) => (status::NOT_AUTHORIZED, "not permitted".to_owned()),
        ControlError::Index(_) => {
            (status::OUT_OF_RESOURCES, "the index does not answer now".to_owned())
        }
    }
}

/// The status of one instance (PS3.4 Table B.2-1).
fn answered(outcome: &Outcome) -> Answered {
    match (outcome.stored.first(), outcome.failed.first()) {
        (Some(stored), _) if !stored.coerced.is_empty() => {
            (status::COERCED, "attributes were coerced".to_owned())
        }
        (Some(stored), _) if stored.warnings.is_empty() => (status::SUCCESS, String::new()),
        (Some(_), _) => (status::ELEMENTS_WARNED, "attributes break rules of their VR".to_owned()),
        (None, Some(failed)) if outcome.unavailable => {
            (status::OUT_OF_RESOURCES, failed.detail.clone())
        }
        (None, Some(failed)) => (failed.reason.code(), failed.detail.clone()),
        (None, None) => (FailureReason::Processing.code(), String::new()),
    }
}

/// A place of the archive as the audit log names it.
pub(super) fn named(study: Option<&Uid>) -> Vec<(Box<str>, Box<str>)> {
    study.into_iter().map(|uid| ("study".into(), uid.as_str().into())).collect()
}
