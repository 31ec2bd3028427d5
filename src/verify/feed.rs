//! The change feed against instances, and against its own rules.
//!
//! First all watermarks of live and of deleted instances are marked, then the feed is read to its end
//! and each event takes the mark of what it explains. An event is committed with its change, so all
//! that was marked is explained by then: what keeps its mark, and is still there when it is looked up
//! again, is damage, unless its event is older than those that are kept (`change_feed.retention`).
//! Marks are bits of a window of watermarks; beyond it the feed is read once more.
//!
//! Events get their numbers while this goes on. So those that have one are read first, then those
//! that have none, and then those that got one meanwhile: each is read at least once.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::{
    Checker, Cursor, Finding, Kind, VerifyError,
    marks::{Marks, WINDOW},
};
use crate::index::{VerifyEvent, VerifyStanding};

/// Events, or watermarks, of a page.
const PAGE: i64 = 1_000;
/// Marks looked up again at once.
const AGAIN: usize = 500;
/// Lost instances whose UIDs are remembered, and contradicted events whose watermarks are.
const NAMED: usize = 1_000;

/// A window of watermarks, and how far the feed was read for it.
#[derive(Debug)]
pub(super) struct Pass {
    from: i64,
    part: Part,
    /// Live instances that no event explains so far.
    live: Marks,
    /// Deleted instances of which no deletion is told so far.
    deleted: Marks,
    /// Instances of events that are nowhere, and of which no deletion is told so far.
    lost: Marks,
    names: BTreeMap<i64, [String; 3]>,
    /// Watermarks of events that were told to be contradicted.
    contradicted: BTreeSet<i64>,
    /// The numbered event that was read last.
    last: Option<Numbers>,
    /// The lowest watermark beyond the window.
    beyond: Option<i64>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Live { after: i64 },
    Deleted { after: i64 },
    Numbered { after: i64 },
    Unnumbered { after: i64, numbered: i64 },
    NumberedMeanwhile { after: i64 },
    End,
}

#[derive(Clone, Copy, Debug)]
struct Numbers {
    sequence: i64,
    position: i64,
    occurred_at: OffsetDateTime,
}

impl Pass {
    fn new(from: i64) -> Self {
        let [live, deleted, lost] = [from; 3].map(Marks::new);
        let part = Part::Live { after: from - 1 };
        let (names, contradicted, last, beyond) = Default::default();
        Self { from, part, live, deleted, lost, names, contradicted, last, beyond }
    }

    /// Whether the feed is read for the first time; what it says by itself is looked at then.
    fn is_first(&self) -> bool {
        self.from <= 1
    }

    /// Marks a page of watermarks; says after which one the next begins, where there is more.
    fn mark(&mut self, page: &[i64], live: bool) -> Option<i64> {
        let marks = if live { &mut self.live } else { &mut self.deleted };
        for watermark in page {
            if *watermark - self.from >= WINDOW {
                let beyond = self.beyond.map_or(*watermark, |beyond| beyond.min(*watermark));
                self.beyond = Some(beyond);
                return None;
            }
            marks.set(*watermark);
        }
        page.last().copied().filter(|_| page.len() as i64 == PAGE)
    }

    /// Takes the marks of what an event explains.
    fn explain(&mut self, event: &VerifyEvent) {
        let watermark = event.watermark;
        if let Some(replaced) = event.replaced {
            // What became of it is told of its successor.
            self.lost.clear(replaced);
        }
        if watermark - self.from >= WINDOW {
            self.beyond = Some(self.beyond.map_or(watermark, |beyond| beyond.min(watermark)));
        } else if event.is_deletion {
            self.deleted.clear(watermark);
            self.lost.clear(watermark);
        } else {
            self.live.clear(watermark);
            // What was replaced has another version.
            let is_nowhere = event.live.is_none() && event.deleted.is_none() && event.now.is_none();
            if is_nowhere && watermark >= self.from {
                self.lost.set(watermark);
                if self.names.len() < NAMED {
                    self.names.insert(watermark, event.uids.clone());
                }
            }
        }
    }

    /// How an event contradicts what is under its watermark in the same moment. Told once: the event
    /// may be read again, with a number, and for the next window.
    fn contradiction(&mut self, event: &VerifyEvent) -> Option<&'static str> {
        let [.., instance] = &event.uids;
        let other = |uid: &String| uid != instance;
        let reason = if event.is_deletion && event.live.is_some() {
            "it tells a deletion of what is there"
        } else if event.live.as_ref().is_some_and(other)
            || event.deleted.as_ref().is_some_and(other)
        {
            "its watermark is another instance's"
        } else {
            return None;
        };
        if !self.is_first() || self.contradicted.contains(&event.watermark) {
            return None;
        }
        if self.contradicted.len() < NAMED {
            self.contradicted.insert(event.watermark);
        }
        Some(reason)
    }
}

impl Checker {
    pub(super) async fn feed(&mut self, from: i64) -> Result<Cursor, VerifyError> {
        let mut pass = match self.feed.take() {
            Some(pass) if pass.from == from => pass,
            _ => Pass::new(from),
        };
        let is_first = pass.is_first();
        if is_first && pass.part == (Part::Live { after: from - 1 }) {
            // Begun anew: what was counted before comes again.
            self.tally.events = 0;
        }
        let mut tx = self.db.begin_verify(&self.scope).await?;
        match pass.part {
            Part::Live { after } => {
                let page = tx.verify_watermarks(true, after, PAGE).await?;
                pass.part = match pass.mark(&page, true) {
                    Some(after) => Part::Live { after },
                    None => Part::Deleted { after: from - 1 },
                };
            }
            Part::Deleted { after } => {
                let page = tx.verify_watermarks(false, after, PAGE).await?;
                pass.part = match pass.mark(&page, false) {
                    Some(after) => Part::Deleted { after },
                    None => Part::Numbered { after: 0 },
                };
            }
            Part::Numbered { after } | Part::NumberedMeanwhile { after } => {
                let page = tx.verify_events(true, after, PAGE).await?;
                drop(tx);
                let has_more = page.len() as i64 == PAGE;
                let mut reached = after;
                for event in &page {
                    if is_first {
                        self.numbers(&mut pass, event).await?;
                    }
                    reached = event.sequence.unwrap_or(reached);
                    pass.explain(event);
                    self.contradicted(&mut pass, event);
                }
                let is_meanwhile = matches!(pass.part, Part::NumberedMeanwhile { .. });
                if is_first && !is_meanwhile {
                    self.tally.events += page.len() as u64;
                }
                pass.part = match (has_more, is_meanwhile) {
                    (true, false) => Part::Numbered { after: reached },
                    (true, true) => Part::NumberedMeanwhile { after: reached },
                    (false, false) => Part::Unnumbered { after: 0, numbered: reached },
                    (false, true) => Part::End,
                };
            }
            Part::Unnumbered { after, numbered } => {
                let page = tx.verify_events(false, after, PAGE).await?;
                for event in &page {
                    pass.explain(event);
                    self.contradicted(&mut pass, event);
                }
                if is_first {
                    self.tally.events += page.len() as u64;
                }
                pass.part = match page.last() {
                    Some(last) if page.len() as i64 == PAGE => {
                        Part::Unnumbered { after: last.id, numbered }
                    }
                    _ => Part::NumberedMeanwhile { after: numbered },
                };
            }
            Part::End => {
                drop(tx);
                self.unexplained(&pass).await?;
                return Ok(match pass.beyond {
                    Some(from) => Cursor::Feed { from },
                    None => Cursor::Done,
                });
            }
        }
        self.feed = Some(pass);
        Ok(Cursor::Feed { from })
    }

    /// Holds the numbers of an event against those of the one before it.
    async fn numbers(&mut self, pass: &mut Pass, event: &VerifyEvent) -> Result<(), VerifyError> {
        let Some(sequence) = event.sequence else { return Ok(()) };
        let Some(position) = event.position else {
            self.found(told(Kind::FeedOrder, event).detail("it has no position"));
            return Ok(());
        };
        let numbers = Numbers { sequence, position, occurred_at: event.occurred_at };
        let Some(before) = pass.last.replace(numbers) else { return Ok(()) };
        if sequence != before.sequence + 1 {
            // The oldest may be removed at any time.
            let first = self.db.begin_verify(&self.scope).await?.verify_first_event().await?;
            if first.is_none_or(|(first, _)| first <= before.sequence) {
                let (from, to) = (before.sequence + 1, sequence - 1);
                let hole = Finding::new(Kind::FeedHole).sequence(from);
                self.found(hole.detail(format!("{from} to {to} are missing")));
            }
        }
        if position <= before.position {
            self.found(told(Kind::FeedOrder, event).detail("its position runs backwards"));
        } else if event.occurred_at < before.occurred_at {
            self.found(told(Kind::FeedOrder, event).detail("its time runs backwards"));
        }
        Ok(())
    }

    fn contradicted(&mut self, pass: &mut Pass, event: &VerifyEvent) {
        if let Some(reason) = pass.contradiction(event) {
            self.found(told(Kind::EventContradicted, event).detail(reason));
        }
    }

    /// Looks up again what kept its mark.
    async fn unexplained(&mut self, pass: &Pass) -> Result<(), VerifyError> {
        for (kind, marks) in [
            (Kind::EventMissing, &pass.live),
            (Kind::DeletionUntold, &pass.deleted),
            (Kind::InstanceLost, &pass.lost),
        ] {
            let mut from = i64::MIN;
            loop {
                let some = marks.some(from, AGAIN);
                let Some(last) = some.last() else { break };
                from = last + 1;
                let mut tx = self.db.begin_verify(&self.scope).await?;
                let first = tx.verify_first_event().await?;
                let standing = tx.verify_standing(&some).await?;
                drop(tx);
                for one in &standing {
                    if let Some(finding) = unexplained(kind, one, first, &pass.names) {
                        self.found(finding);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with what kept its mark; `None`: nothing, by now.
fn unexplained(
    kind: Kind,
    standing: &VerifyStanding,
    first: Option<(i64, OffsetDateTime)>,
    names: &BTreeMap<i64, [String; 3]>,
) -> Option<Finding> {
    // An event tells the time of its change, or a later one.
    let is_forgotten = |when: OffsetDateTime| {
        first.is_some_and(|(sequence, occurred_at)| sequence > 1 && when <= occurred_at)
    };
    let about = |uids: &[Option<String>; 3]| {
        let [study, series, instance] = uids.each_ref().map(Option::as_deref);
        let finding = Finding::new(kind).study(study).series(series);
        finding.instance(instance.unwrap_or_default(), standing.watermark)
    };
    match (kind, &standing.live, &standing.deleted) {
        (Kind::EventMissing, Some((when, uids)), _)
        | (Kind::DeletionUntold, _, Some((when, uids))) => {
            (!is_forgotten(*when)).then(|| about(uids))
        }
        (Kind::InstanceLost, None, None) => {
            let name = |uids: &[String; 3]| about(&uids.each_ref().map(|uid| Some(uid.clone())));
            let unnamed = || Finding::new(kind).watermark(standing.watermark);
            Some(names.get(&standing.watermark).map_or_else(unnamed, name))
        }
        _ => None,
    }
}

fn told(kind: Kind, event: &VerifyEvent) -> Finding {
    let [study, series, instance] = &event.uids;
    let finding = Finding::new(kind).study(Some(study)).series(Some(series));
    let finding = finding.instance(instance, event.watermark);
    match event.sequence {
        Some(sequence) => finding.sequence(sequence),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(watermark: i64, is_deletion: bool) -> VerifyEvent {
        VerifyEvent {
            id: 1,
            sequence: None,
            position: None,
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            is_deletion,
            watermark,
            uids: ["1.2", "1.2.3", "1.2.3.4"].map(str::to_owned),
            live: None,
            deleted: None,
            now: None,
            replaced: None,
        }
    }

    #[test]
    fn events_take_the_marks_of_their_window_and_tell_where_the_next_begins() {
        let mut pass = Pass::new(1);
        assert_eq!(pass.mark(&[1, 2, 3, WINDOW + 9], true), None);
        assert_eq!(pass.mark(&[4, 5], false), None);
        let live =
            |watermark| VerifyEvent { live: Some("1.2.3.4".into()), ..event(watermark, false) };
        pass.explain(&live(2));
        pass.explain(&event(4, false));
        pass.explain(&event(4, true));
        pass.explain(&event(7, false));
        pass.explain(&live(WINDOW + 3));
        assert_eq!(pass.live.some(0, 9), [1, 3]);
        assert_eq!(pass.deleted.some(0, 9), [5]);
        assert_eq!(pass.lost.some(0, 9), [7]);
        assert_eq!(pass.beyond, Some(WINDOW + 3));
    }

    #[test]
    fn what_contradicts_is_told_once_however_often_it_is_read() {
        let there = VerifyEvent { live: Some("1.2.3.4".into()), ..event(5, true) };
        let other = VerifyEvent { live: Some("1.2.3.5".into()), ..event(6, false) };
        let mut pass = Pass::new(1);
        assert!(pass.contradiction(&there).is_some() && pass.contradiction(&other).is_some());
        // By then it has a number.
        let again = VerifyEvent { sequence: Some(9), position: Some(9), ..there.clone() };
        assert_eq!(pass.contradiction(&again), None);
        assert_eq!(pass.contradiction(&event(7, true)), None, "it is gone, as told");
        let mut next = Pass::new(WINDOW + 1);
        assert_eq!(next.contradiction(&there), None, "it was told when the first window was read");
    }

    #[test]
    fn what_is_older_than_the_oldest_event_kept_is_excused() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let live = |seconds| VerifyStanding {
            watermark: 5,
            live: Some((at(seconds), [None, None, Some("1.2".into())])),
            deleted: None,
        };
        let names = BTreeMap::new();
        let judge = |standing, first| {
            unexplained(Kind::EventMissing, &standing, first, &names).map(|f| f.to_string())
        };
        let told = Some("event_missing instance 1.2 watermark 5".to_owned());
        assert_eq!(judge(live(10), Some((1, at(10)))), told);
        assert_eq!(judge(live(10), Some((7, at(10)))), None);
        assert_eq!(judge(live(11), Some((7, at(10)))), told);
        assert_eq!(judge(live(10), None), told);
        let gone = VerifyStanding { live: None, ..live(0) };
        assert_eq!(judge(gone, Some((1, at(10)))), None, "it was deleted since");
    }
}
