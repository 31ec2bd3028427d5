//! C-GET and C-MOVE as their SCP (PS3.4 §C.4.2, §C.4.3).
//!
//! Holds: instances go one after another, each in a transfer syntax that its receiver accepted for
//! its SOP class, or it is counted as failed; after each one the requestor is told how far it is,
//! and a C-CANCEL is heard. A destination is one that the configuration knows for the partition.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;

use super::{
    association::Association,
    command::{Command, element, field, status},
    find::{
        At, Failure, INSTANCE, PATIENT, SERIES, STUDY, cancels, failure, mismatch, named_study,
        refuse, text, uid,
    },
    link::End,
    mover::Mover,
    negotiate::{Context, Root},
    record,
    sub::{self, Tally, Unsent},
};
use crate::{
    archive::{ArchiveError, Coming, Handed, Target},
    control::{Kind, Seat},
    dicom::{Uid, attributes::Level, identifier::Element, transfer_syntax::IMPLICIT_LITTLE},
    query::{Key, Resource},
    tenancy::{PartitionScope, Permission},
};

/// Most UIDs that an identifier may list.
const LISTED: usize = 1_000;

/// What is to be sent.
struct Wish {
    target: Target,
    /// Of a series, these instances.
    only: Option<BTreeSet<Uid>>,
}

/// How it ended.
enum Ended {
    Wholly,
    Canceled,
    Failed(Failure),
}

/// As C-GET and C-MOVE say that there are not the means: they have statuses of their own for it
/// (PS3.4 Tables C.4-2 and C.4-3).
fn refused((answered, comment): Failure, of: u16) -> Failure {
    (if answered == status::OUT_OF_RESOURCES { of } else { answered }, comment)
}

impl Association {
    /// Sends instances by this association.
    pub(super) async fn get(
        &mut self,
        context: &Context,
        command: &Command,
        root: Root,
    ) -> Result<(), End> {
        let keys = self.identifier(context, command).await?;
        self.retrieve(context, command, (root, keys), None).await
    }

    /// Sends instances to somebody else.
    pub(super) async fn r#move(
        &mut self,
        context: &Context,
        command: &Command,
        root: Root,
    ) -> Result<(), End> {
        let keys = self.identifier(context, command).await?;
        let title = command.text(element::DESTINATION).unwrap_or_default();
        let peers = self.gateway.config.peers.iter();
        let reaches = |reach: &crate::tenancy::Reach| {
            !self.gateway.partitions.enabled() || reach.has(&self.caller.partition)
        };
        let mut known = peers.filter(|peer| *peer.ae == *title && reaches(&peer.reach));
        let destination = known.find(|peer| peer.destination.is_some()).cloned();
        let to = destination.map(|peer| {
            let originator = (self.caller.calling.clone(), command.message());
            Mover::new(&self.gateway, peer, &self.caller.called, originator)
        });
        self.retrieve(context, command, (root, keys), Some(to)).await
    }

    /// `to`: of a move, its destination, if there is one of that name.
    async fn retrieve(
        &mut self,
        context: &Context,
        command: &Command,
        (root, keys): (Root, Result<Vec<Element>, Failure>),
        to: Option<Option<Mover>>,
    ) -> Result<(), End> {
        let (of, message) = match &to {
            Some(_) => (field::MOVE, "C-MOVE"),
            None => (field::GET, "C-GET"),
        };
        let named = keys.as_ref().map(|keys| named_study(keys)).unwrap_or_default();
        let deed = self.caller.deed(Permission::Retrieve, message, named);
        let (scope, is_refused) = match self.caller.scope(&self.gateway, &deed).await {
            Ok(scope) => (Ok(scope), false),
            Err(error) => (Err(refuse(self, &deed, &error)), true),
        };
        let begun = match (scope, keys, to) {
            (Err(failure), ..) | (_, Err(failure), _) => Err(failure),
            (Ok(_), Ok(_), Some(None)) => {
                Err((status::DESTINATION_UNKNOWN, "the destination is not known".to_owned()))
            }
            (Ok(scope), Ok(keys), to) => {
                self.begin(scope, root, &keys).await.map(|begun| (begun, to.flatten()))
            }
        };
        let (tally, ended) = match begun {
            Ok(((scope, wishes, count, seat), to)) => {
                let mut hands = Hands { seat, to, tally: Tally::of(count), message: 0 };
                let ended = self.hand_all(context, command, (scope, wishes), &mut hands).await;
                let Hands { seat, to, tally, .. } = hands;
                // Nobody waits for it while the destination takes leave.
                drop(seat);
                if let Some(mover) = to {
                    mover.end().await;
                }
                (Some(tally), ended?)
            }
            Err(failure) => (None, Ended::Failed(refused(failure, status::NOT_COUNTED))),
        };
        let mut tally = tally.unwrap_or_default();
        let (answered, comment) = match ended {
            Ended::Canceled => (status::CANCELED, String::new()),
            Ended::Wholly => {
                tally.remaining = 0;
                (tally.status(), String::new())
            }
            Ended::Failed(failure) => {
                tally.give_up();
                refused(failure, status::NO_SUB_OPERATIONS)
            }
        };
        if !is_refused {
            record::ended(&self.gateway, &deed, &self.caller.partition, Some(answered));
        }
        record::count(of, answered);
        let is_implicit = context.syntax.as_str() == IMPLICIT_LITTLE;
        let answer = tally.answer(command, answered).with_comment(&comment);
        match tally.failed_list(is_implicit) {
            Some(list) => self.link.send_with(context.id, answer, &list).await,
            None => self.link.send(context.id, &answer).await,
        }
    }

    /// What is to be sent, how many instances that is, and a seat for it.
    async fn begin(
        &self,
        scope: PartitionScope,
        root: Root,
        keys: &[Element],
    ) -> Result<(PartitionScope, Vec<Wish>, u64, Seat), Failure> {
        let at = At::of(keys, root)?;
        let seat = self.gateway.seats.take((&*scope).into(), Some(Kind::Heavy)).await;
        let busy = "the server has enough to do; try again later";
        let seat = seat.map_err(|_| (status::OUT_OF_RESOURCES, busy.to_owned()))?;
        let wishes = self.wishes(&scope, at, keys).await?;
        let named = wishes.iter().flat_map(|wish| &wish.only).map(BTreeSet::len).sum::<usize>();
        let whole = wishes.iter().filter(|wish| wish.only.is_none()).map(|wish| &wish.target);
        let counted = self.gateway.archive.count(&scope, &whole.collect::<Vec<_>>()).await;
        let count = counted.map_err(|error| failure(&error))? + named as u64;
        Ok((scope, wishes, count, seat))
    }

    async fn wishes(
        &self,
        scope: &PartitionScope,
        at: At,
        keys: &[Element],
    ) -> Result<Vec<Wish>, Failure> {
        let whole = |target| Wish { target, only: None };
        if at == At::Patient {
            let studies = self.studies_of(scope, text(keys, PATIENT)).await?;
            return Ok(studies
                .into_iter()
                .map(|uid| whole(Target::Study { study: uid }))
                .collect());
        }
        if at == At::Study {
            let studies = uids(keys, STUDY)?;
            return Ok(studies
                .into_iter()
                .map(|uid| whole(Target::Study { study: uid }))
                .collect());
        }
        let study = uid(keys, STUDY)?;
        if at == At::Series {
            let series = uids(keys, SERIES)?.into_iter();
            let target = |series| whole(Target::Series { study: study.clone(), series });
            return Ok(series.map(target).collect());
        }
        let series = uid(keys, SERIES)?;
        let mut instances = uids(keys, INSTANCE)?;
        if instances.len() == 1
            && let Some(instance) = instances.pop_first()
        {
            return Ok(vec![whole(Target::Instance { study, series, instance })]);
        }
        Ok(vec![Wish { target: Target::Series { study, series }, only: Some(instances) }])
    }

    /// The studies of a patient.
    async fn studies_of(
        &self,
        scope: &PartitionScope,
        patient: &str,
    ) -> Result<BTreeSet<Uid>, Failure> {
        if patient.is_empty() || patient.contains(['*', '?', '\\']) {
            return Err(mismatch("(0010,0020) has to be one value"));
        }
        let resource = Resource { level: Level::Study, study: None, series: None };
        let key = Key { path: vec![PATIENT], value: patient.to_owned() };
        let (page, _) = self.page(scope, &resource, &[key]).await?;
        if page.remaining > 0 || page.results > LISTED {
            let what = "the patient has more studies than one message may move".to_owned();
            return Err((status::OUT_OF_RESOURCES, what));
        }
        let found: Result<Vec<_>, _> = page.objects().try_collect().await;
        let found = found.map_err(|error| failure(&error))?;
        let study = |json: Vec<u8>| {
            let read: serde_json::Value = serde_json::from_slice(&json).ok()?;
            read.get("0020000D")?.get("Value")?.get(0)?.as_str()?.parse().ok()
        };
        Ok(found.into_iter().filter_map(study).collect())
    }
}

/// The UIDs that a key lists.
fn uids(keys: &[Element], tag: crate::dicom::Tag) -> Result<BTreeSet<Uid>, Failure> {
    let listed = text(keys, tag).split('\\').map(|uid| uid.trim_matches([' ', '\0']));
    let parsed: Result<BTreeSet<Uid>, _> = listed.map(str::parse).collect();
    let parsed = parsed.map_err(|_| (status::DOES_NOT_MATCH, format!("{tag} has to list UIDs")))?;
    match parsed.len() {
        1..=LISTED => Ok(parsed),
        _ => Err((status::DOES_NOT_MATCH, format!("{tag} may list 1000 UIDs"))),
    }
}

/// What it takes to send instances.
struct Hands {
    seat: Seat,
    to: Option<Mover>,
    tally: Tally,
    /// The number of the last message that was sent.
    message: u16,
}

impl Association {
    async fn hand_all(
        &mut self,
        context: &Context,
        command: &Command,
        (scope, wishes): (PartitionScope, Vec<Wish>),
        hands: &mut Hands,
    ) -> Result<Ended, End> {
        for Wish { target, only } in wishes {
            let opened = self.gateway.archive.hand(scope.clone(), target, only.clone()).await;
            let mut handed = match opened {
                Ok(handed) => handed,
                Err(ArchiveError::NotFound | ArchiveError::Gone) => {
                    only.iter().flatten().for_each(|uid| hands.tally.fail(uid));
                    continue;
                }
                Err(error) => return Ok(Ended::Failed(failure(&error))),
            };
            match self.hand(context, command, &mut handed, hands).await? {
                Ended::Wholly => {}
                ended => return Ok(ended),
            }
            handed.missing().for_each(|uid| hands.tally.fail(uid));
        }
        Ok(Ended::Wholly)
    }

    /// Sends the instances of one target.
    async fn hand(
        &mut self,
        context: &Context,
        command: &Command,
        handed: &mut Handed,
        hands: &mut Hands,
    ) -> Result<Ended, End> {
        loop {
            let coming = match handed.coming().await {
                Ok(Some(coming)) => coming,
                Ok(None) => return Ok(Ended::Wholly),
                Err(error) => return Ok(Ended::Failed(failure(&error))),
            };
            if self.is_canceled(context, command).await? {
                return Ok(Ended::Canceled);
            }
            let canceled = match hands.to.take() {
                None => self.give(context, command, handed, &coming, hands).await?,
                Some(mut mover) => {
                    let moved = mover.take(handed, &coming, &mut hands.seat).await;
                    hands.to = Some(mover);
                    match moved {
                        Ok(Some(answered)) => hands.tally.note(&coming.instance, answered),
                        Ok(None) => hands.tally.fail(&coming.instance),
                        Err(error) => return Ok(Ended::Failed(failure(&error))),
                    }
                    false
                }
            };
            let pending = hands.tally.answer(command, status::PENDING);
            sub::aside(&mut hands.seat, self.link.send(context.id, &pending)).await?;
            if canceled {
                return Ok(Ended::Canceled);
            }
        }
    }

    /// Sends an instance by this association; whether it was canceled meanwhile.
    async fn give(
        &mut self,
        context: &Context,
        command: &Command,
        handed: &mut Handed,
        coming: &Coming,
        hands: &mut Hands,
    ) -> Result<bool, End> {
        let fits = |of: &&Context| of.takes && of.class == coming.sop_class;
        let ways: Vec<(u8, Uid)> =
            self.contexts.iter().filter(fits).map(|of| (of.id, of.syntax.clone())).collect();
        let syntaxes: Vec<&Uid> = ways.iter().map(|(_, syntax)| syntax).collect();
        let opened = handed.open(&syntaxes).await;
        // Nothing was sent of it.
        let at = opened.inspect_err(|error| _ = failure(error)).ok().flatten();
        let Some((id, _)) = at.and_then(|at| ways.get(at)) else {
            hands.tally.fail(&coming.instance);
            return Ok(false);
        };
        hands.message = hands.message.wrapping_add(1);
        let message = hands.message;
        let sent = (handed, &mut hands.seat);
        match sub::send(&mut self.link, (*id, message), coming, sent, None).await {
            Ok(()) => {}
            Err(Unsent::End(end)) => return Err(end),
            // Half of it is on the way: nothing but an abort can take that back.
            Err(Unsent::Archive(error)) => {
                _ = failure(&error);
                return Err(End::Failed);
            }
        }
        let mut is_canceled = false;
        let answered = loop {
            let (by, came) = sub::aside(&mut hands.seat, self.link.command()).await?;
            match sub::answered(&came, message).filter(|_| by == *id) {
                Some(answered) => {
                    sub::aside(&mut hands.seat, self.link.pass(by, &came)).await?;
                    break answered;
                }
                None => is_canceled |= cancels(context, command, by, &came)?,
            }
        };
        hands.tally.note(&coming.instance, answered);
        Ok(is_canceled)
    }
}
