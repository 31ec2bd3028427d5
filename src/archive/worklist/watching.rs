//! Who is told of workitems (PS3.18 §11.10 to §11.12, PS3.4 §CC.2.3 and §CC.2.4): subscriptions, and
//! the events that they get, written with the change.
//!
//! Holds: what Table CC.2.3-2 says becomes of subscriptions; an event is written in the transaction of
//! its change, or not at all. Who subscribes to many workitems stops changes of the worklist
//! meanwhile. Absent: sending events ([`super::channel`]).

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{WorkitemRefusal, search::passing_uids};
use crate::{
    archive::{Archive, ArchiveError, search::inconsistent},
    dicom::{
        AeTitle, Uid,
        matching::{KeyTest, Object},
        ups::{
            State,
            events::{self, Report},
        },
    },
    index::{GlobalWatch, LockedSubscriber, PartitionTx, Subscriber, WatchKind},
    tenancy::PartitionScope,
};

/// What is watched.
#[derive(Clone, Debug)]
pub enum Watched {
    /// A workitem.
    Workitem(Uid),
    /// All workitems, also those to come.
    All,
    /// Those that pass a filter, also those to come.
    Filtered(WatchFilter),
}

/// What workitems are watched by who has a filter.
#[derive(Clone, Debug, Default)]
pub struct WatchFilter {
    /// What a workitem has to pass.
    pub tests: Vec<KeyTest>,
    /// The parameters that say so, as typed.
    pub names: Vec<String>,
}

/// A global subscription, or a single one.
#[derive(Clone, Debug)]
pub enum Subscribed {
    /// To a workitem.
    Workitem(Uid),
    /// To all.
    All,
    /// By a filter.
    Filtered,
}

impl Archive {
    /// Has an Application Entity told of what it watches from now on, and be it of how that is now;
    /// with a deletion lock that keeps workitems which have ended.
    ///
    /// # Errors
    /// [`WorkitemRefusal::TooMany`]; [`ArchiveError::NotFound`] for a workitem that there is not;
    /// [`ArchiveError::TooBroad`] for a filter.
    pub async fn watch_workitems(
        &self,
        scope: &PartitionScope,
        aetitle: &AeTitle,
        watched: Watched,
        has_lock: bool,
    ) -> Result<(), WorkitemRefusal> {
        let most = i64::from(self.0.worklist.max_events);
        let mut tx = match watched {
            Watched::Workitem(uid) => {
                let mut tx = self.0.db.begin_worklist(scope).await?;
                tx.workitem_lock(&uid).await?.ok_or(ArchiveError::NotFound)?;
                let subscriber = self.subscriber(&mut tx, aetitle).await?;
                tx.workitem_subscribe(&uid, aetitle, has_lock).await?;
                tx.workitem_events_add(&[subscriber], &[(uid.as_str(), None)], most).await?;
                tx.audit_note("workitem", uid.as_str());
                tx
            }
            Watched::All => {
                let mut tx = self.0.db.begin_worklist_alone(scope).await?;
                let subscriber = self.subscriber(&mut tx, aetitle).await?;
                let watch = global(aetitle, WatchKind::All, has_lock, None);
                tx.workitem_global_put(&watch).await?;
                tx.workitem_subscribe_all(aetitle, has_lock).await?;
                if has_lock {
                    tx.workitem_events_add_all(&subscriber, most).await?;
                }
                tx
            }
            Watched::Filtered(WatchFilter { tests, names }) => {
                let tests: Arc<[KeyTest]> = tests.into();
                // What is too broad or too slow is refused before anybody waits for the worklist.
                let mut tx = self.0.db.begin_in(scope).await?;
                self.passing_workitems(&mut tx, tests.clone(), names.clone()).await?;
                drop(tx);
                let mut tx = self.0.db.begin_worklist_alone(scope).await?;
                let subscriber = self.subscriber(&mut tx, aetitle).await?;
                let filter = serde_json::to_string(&tests[..]).map_err(inconsistent)?;
                let watch = global(aetitle, WatchKind::Filtered, has_lock, Some(filter));
                tx.workitem_global_put(&watch).await?;
                let uids = self.passing_workitems(&mut tx, tests, names).await?;
                tx.workitem_subscribe_each(aetitle, has_lock, &uids).await?;
                if has_lock && !uids.is_empty() {
                    let events: Vec<(&str, Option<&Report>)> =
                        uids.iter().map(|uid| (&**uid, None)).collect();
                    tx.workitem_events_add(&[subscriber], &events, most).await?;
                }
                tx
            }
        };
        tx.audit_note("subscriber", aetitle.as_str());
        Ok(tx.commit().await?)
    }

    /// Has an Application Entity told of a workitem no more; or of none at all, where it ends its
    /// subscription to all; or of those that its filter brought. Its deletion locks go with it.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] where there is no such subscription.
    pub async fn unwatch_workitems(
        &self,
        scope: &PartitionScope,
        aetitle: &AeTitle,
        subscribed: Subscribed,
    ) -> Result<(), ArchiveError> {
        let (mut tx, was_there) = match subscribed {
            Subscribed::Workitem(uid) => {
                let mut tx = self.0.db.begin_worklist(scope).await?;
                tx.workitem_lock(&uid).await?.ok_or(ArchiveError::NotFound)?;
                let was_there = tx.workitem_unsubscribe(&uid, aetitle).await?;
                tx.audit_note("workitem", uid.as_str());
                (tx, was_there)
            }
            Subscribed::All => self.unwatch_all(scope, aetitle, WatchKind::All).await?,
            Subscribed::Filtered => self.unwatch_all(scope, aetitle, WatchKind::Filtered).await?,
        };
        if !was_there {
            return Err(ArchiveError::NotFound);
        }
        tx.audit_note("subscriber", aetitle.as_str());
        Ok(tx.commit().await?)
    }

    async fn unwatch_all(
        &self,
        scope: &PartitionScope,
        aetitle: &AeTitle,
        kind: WatchKind,
    ) -> Result<(PartitionTx, bool), ArchiveError> {
        let mut tx = self.0.db.begin_worklist_alone(scope).await?;
        let of = (kind == WatchKind::Filtered).then_some(kind);
        let was_global = tx.workitem_global_remove(aetitle, of).await?;
        let single = tx.workitem_unsubscribe_all(aetitle, kind).await?;
        Ok((tx, was_global || single > 0))
    }

    /// Has an Application Entity become a subscriber of no more workitems that are created; it stays
    /// one of those that there are.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`] where there is no such subscription.
    pub async fn suspend_watching(
        &self,
        scope: &PartitionScope,
        aetitle: &AeTitle,
        is_filtered: bool,
    ) -> Result<(), ArchiveError> {
        let kind = if is_filtered { WatchKind::Filtered } else { WatchKind::All };
        let mut tx = self.0.db.begin_worklist_alone(scope).await?;
        if !tx.workitem_global_remove(aetitle, Some(kind)).await? {
            return Err(ArchiveError::NotFound);
        }
        tx.audit_note("subscriber", aetitle.as_str());
        Ok(tx.commit().await?)
    }

    /// An Application Entity that is known from now on, with its row locked.
    async fn subscriber(
        &self,
        tx: &mut PartitionTx,
        aetitle: &AeTitle,
    ) -> Result<Subscriber, WorkitemRefusal> {
        let locked = self.known_subscriber(tx, aetitle).await?;
        Ok((aetitle.as_str().to_owned(), locked.last))
    }

    pub(super) async fn known_subscriber(
        &self,
        tx: &mut PartitionTx,
        aetitle: &AeTitle,
    ) -> Result<LockedSubscriber, WorkitemRefusal> {
        let limit = self.0.worklist.max_subscribers;
        if !tx.workitem_subscriber_ensure(aetitle, limit.into()).await? {
            return Err(WorkitemRefusal::TooMany { limit });
        }
        let missing = || ArchiveError::Internal(anyhow::anyhow!("a subscriber has no row"));
        Ok(tx.workitem_subscriber_lock(aetitle).await?.ok_or_else(missing)?)
    }

    /// Gives a workitem that was just created its subscribers, and tells them.
    pub(super) async fn announce(
        &self,
        tx: &mut PartitionTx,
        uid: &Uid,
        attributes: &Map<String, Value>,
        json: &str,
    ) -> Result<(), ArchiveError> {
        let watches = tx.workitem_globals().await?;
        if watches.is_empty() {
            return Ok(());
        }
        let object: Object<'_> = serde_json::from_str(json).map_err(inconsistent)?;
        let mut born: Vec<GlobalWatch> = Vec::new();
        for watch in watches.into_iter().filter(|watch| is_watched(watch, &object)) {
            match born.last_mut().filter(|last| last.aetitle == watch.aetitle) {
                Some(last) => last.has_lock |= watch.has_lock,
                None => born.push(watch),
            }
        }
        if born.is_empty() {
            return Ok(());
        }
        tx.workitem_subscribe_born(uid, &born.iter().collect::<Vec<_>>()).await?;
        self.tell(tx, uid, &events::created(attributes)).await?;
        Ok(())
    }

    /// Tells the subscribers of a locked workitem; whether there are any.
    pub(super) async fn tell(
        &self,
        tx: &mut PartitionTx,
        uid: &Uid,
        reports: &[Report],
    ) -> Result<bool, ArchiveError> {
        if reports.is_empty() {
            return Ok(false);
        }
        let subscribers = tx.workitem_subscribers(uid).await?;
        if subscribers.is_empty() {
            return Ok(false);
        }
        let events: Vec<(&str, Option<&Report>)> =
            reports.iter().map(|report| (uid.as_str(), Some(report))).collect();
        let most = i64::from(self.0.worklist.max_events);
        tx.workitem_events_add(&subscribers, &events, most).await?;
        Ok(true)
    }

    /// Tells the subscribers of a locked workitem what was changed.
    pub(super) async fn tell_change(
        &self,
        tx: &mut PartitionTx,
        uid: &Uid,
        before: (State, &Map<String, Value>),
        after: (State, &Map<String, Value>),
    ) -> Result<(), ArchiveError> {
        self.tell(tx, uid, &events::changed(before, after)).await?;
        Ok(())
    }

    /// The UIDs of workitems that pass.
    async fn passing_workitems(
        &self,
        tx: &mut PartitionTx,
        tests: Arc<[KeyTest]>,
        names: Vec<String>,
    ) -> Result<Vec<String>, ArchiveError> {
        passing_uids(tx, tests, names, &self.0.search).await
    }
}

fn global(
    aetitle: &AeTitle,
    kind: WatchKind,
    has_lock: bool,
    filter: Option<String>,
) -> GlobalWatch {
    GlobalWatch { aetitle: aetitle.as_str().to_owned(), kind, has_lock, filter }
}

/// Whether a subscription is to a workitem that was created.
fn is_watched(watch: &GlobalWatch, workitem: &Object<'_>) -> bool {
    let Some(filter) = &watch.filter else { return watch.kind == WatchKind::All };
    match serde_json::from_str::<Vec<KeyTest>>(filter) {
        Ok(tests) => tests.iter().all(|test| test.matches(workitem)),
        Err(error) => {
            tracing::error!(%error, "the filter of a subscription cannot be read");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{
        Tag,
        attributes::Matching,
        matching::{Element, Test, Word},
    };

    /// A filter is kept as JSON: what was kept before has to be read still.
    #[test]
    fn filters_are_read_as_they_were_kept() {
        let private = Element::Private { group: 9, creator: "ACME".to_owned(), element: 1 };
        let of = |at: Element, kind, test| KeyTest::Value { at, kind, test };
        let standard = Element::Standard(Tag(0x0010, 0x0020));
        let word = Word { text: "doe".to_owned(), sound: Some("T".to_owned()) };
        let range = Test::Range { from: None, to: Some("2026".to_owned()) };
        let tests = vec![
            of(standard.clone(), Matching::Text, Test::Equals("P".to_owned())),
            of(standard.clone(), Matching::DateTime, range),
            of(private.clone(), Matching::PersonName, Test::All(vec![Test::Fuzzy(word)])),
            KeyTest::Untyped { at: private, tests: vec![(Matching::Integer, Test::Empty)] },
            KeyTest::Item { at: standard, tests: Vec::new() },
        ];
        let kept = serde_json::to_string(&tests).unwrap();
        assert_eq!(serde_json::from_str::<Vec<KeyTest>>(&kept).unwrap(), tests);
        let before =
            r#"[{"Value":{"at":{"Standard":[16,32]},"kind":"Text","test":{"Equals":"P"}}}]"#;
        assert_eq!(serde_json::from_str::<Vec<KeyTest>>(before).unwrap(), tests[..1]);
        let workitem: Object<'_> =
            serde_json::from_str(r#"{"00100020":{"vr":"LO","Value":["P"]}}"#).unwrap();
        let title = "A".parse().unwrap();
        let watch = |filter: &str| global(&title, WatchKind::Filtered, false, Some(filter.into()));
        assert!(is_watched(&watch(before), &workitem) && is_watched(&watch("[]"), &workitem));
        assert!(!is_watched(&watch("[{\"Later\":1}]"), &workitem));
        assert!(is_watched(&global(&title, WatchKind::All, false, None), &workitem));
        assert!(!is_watched(&global(&title, WatchKind::Filtered, false, None), &workitem));
    }
}
