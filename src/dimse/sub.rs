//! C-STORE as a sub-operation of C-GET and C-MOVE (PS3.4 §C.4.2, §C.4.3): one instance out, and what
//! is counted of all of them.

use std::pin::pin;

use bytes::{Buf as _, BytesMut};
use futures::FutureExt as _;

use super::{
    command::{Command, element, field, status},
    link::{End, Link},
};
use crate::{
    archive::{ArchiveError, Coming, Handed},
    control::Seat,
    dicom::{Tag, Uid, VR, compose::bulk_header},
    telemetry::names,
};

/// Failed instances that are listed; more would not fit a value of UI.
const LISTED: usize = 900;
/// (0008,0058) Failed SOP Instance UID List.
const FAILED_LIST: Tag = Tag(0x0008, 0x0058);

/// Why an instance was not sent.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The archive could not go on giving it.
    Archive(ArchiveError),
    /// The association is over.
    End(End),
}

impl From<End> for Unsent {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// Does what the peer may keep waiting: the seat is given back while it does.
pub(super) async fn aside<T>(seat: &mut Seat, with_peer: impl Future<Output = T>) -> T {
    let mut with_peer = pin!(with_peer);
    if let Some(done) = with_peer.as_mut().now_or_never() {
        return done;
    }
    seat.pause();
    let done = with_peer.await;
    seat.go_on();
    done
}

/// Sends the instance that was opened, as the message `message`.
pub(super) async fn send(
    link: &mut Link,
    (context, message): (u8, u16),
    coming: &Coming,
    (handed, seat): (&mut Handed, &mut Seat),
    originator: Option<(&str, u16)>,
) -> Result<(), Unsent> {
    let mut command = Command::request(field::STORE, message, &coming.sop_class)
        .with_text(element::AFFECTED_INSTANCE, coming.instance.as_str())
        .with(element::PRIORITY, 0)
        .with_data_set();
    if let Some((ae, of)) = originator {
        command = command.with_text(element::ORIGINATOR, ae).with(element::ORIGINATOR_MESSAGE, of);
    }
    aside(seat, link.begin(context, &command)).await?;
    let longest = link.longest();
    let mut held = BytesMut::new();
    while let Some(bytes) = handed.chunk().await.map_err(Unsent::Archive)? {
        held.extend_from_slice(&bytes);
        while held.len() > longest {
            // The last piece is kept, since it has to say so; all others have an even length.
            let piece = held.get(..longest).unwrap_or_default();
            aside(seat, link.write(context, piece, false)).await?;
            held.advance(longest);
        }
    }
    aside(seat, link.write(context, &held, true)).await?;
    Ok(aside(seat, link.flush()).await?)
}

/// Whether a message answers the instance that was sent as `message`; the status.
pub(super) fn answered(came: &Command, message: u16) -> Option<u16> {
    let is_answer = came.field() == field::STORE | field::RESPONSE
        && came.u16(element::RESPONDED) == Some(message);
    came.u16(element::STATUS).filter(|_| is_answer)
}

/// What became of the instances of one message.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) remaining: u64,
    completed: u64,
    failed: u64,
    warned: u64,
    failures: Vec<Uid>,
}

impl Tally {
    pub(super) fn of(count: u64) -> Self {
        Self { remaining: count, ..Self::default() }
    }

    /// An instance was answered with a status.
    pub(super) fn note(&mut self, instance: &Uid, answered: u16) {
        match answered {
            status::SUCCESS => self.completed += 1,
            // Table C.1 of PS3.7, and those of PS3.4 Table B.2-1.
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => self.warned += 1,
            _ => return self.fail(instance),
        }
        self.remaining = self.remaining.saturating_sub(1);
        metrics::counter!(names::DIMSE_SENT, names::OUTCOME => "sent").increment(1);
    }

    /// An instance was not sent, or not taken.
    pub(super) fn fail(&mut self, instance: &Uid) {
        self.remaining = self.remaining.saturating_sub(1);
        self.failed += 1;
        if self.failures.len() < LISTED {
            self.failures.push(instance.clone());
        }
        metrics::counter!(names::DIMSE_SENT, names::OUTCOME => "failed").increment(1);
    }

    /// What is left is not sent.
    pub(super) fn give_up(&mut self) {
        self.failed += std::mem::take(&mut self.remaining);
    }

    /// The status when all is done.
    pub(super) fn status(&self) -> u16 {
        match (self.failed, self.completed + self.warned) {
            (0, _) if self.warned == 0 => status::SUCCESS,
            (failed, 0) if failed > 0 => status::NO_SUB_OPERATIONS,
            _ => status::SOME_FAILED,
        }
    }

    /// An answer that says how far it is.
    pub(super) fn answer(&self, command: &Command, answered: u16) -> Command {
        let number = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
        let mut answer = command.answer(answered);
        if matches!(answered, status::PENDING | status::CANCELED) {
            answer = answer.with(element::REMAINING, number(self.remaining));
        }
        answer
            .with(element::COMPLETED, number(self.completed))
            .with(element::FAILED, number(self.failed))
            .with(element::WARNED, number(self.warned))
    }

    /// The data set of the last answer: which instances failed; `None`: none did.
    pub(super) fn failed_list(&self, implicit: bool) -> Option<Vec<u8>> {
        if self.failures.is_empty() {
            return None;
        }
        let texts: Vec<&str> = self.failures.iter().map(Uid::as_str).collect();
        let mut value = texts.join("\\").into_bytes();
        if value.len() % 2 == 1 {
            value.push(0);
        }
        let length = value.len() as u32;
        let mut out = match implicit {
            true => {
                let Tag(group, element) = FAILED_LIST;
                let [a, b] = group.to_le_bytes();
                let [c, d] = element.to_le_bytes();
                [&[a, b, c, d][..], &length.to_le_bytes()].concat()
            }
            false => bulk_header(FAILED_LIST, VR::UI, length),
        };
        out.append(&mut value);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_decides_of_the_status() {
        let uid: Uid = "1.2.3".parse().unwrap();
        let of = |answers: &[u16]| {
            let mut tally = Tally::of(3);
            answers.iter().for_each(|answered| tally.note(&uid, *answered));
            (tally.status(), tally.remaining, tally.failed_list(true).is_some())
        };
        assert_eq!(of(&[]), (status::SUCCESS, 3, false));
        assert_eq!(of(&[0, 0, 0]), (status::SUCCESS, 0, false));
        assert_eq!(of(&[0, 0xB007]), (status::SOME_FAILED, 1, false));
        assert_eq!(of(&[0, 0xA700]), (status::SOME_FAILED, 1, true));
        assert_eq!(of(&[0xC000, 0x0122]), (status::NO_SUB_OPERATIONS, 1, true));
    }
}
