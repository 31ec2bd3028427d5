//! Who watches workitems: Application Entities, their subscriptions, and whom a new workitem gets as
//! subscribers (PS3.4 Table CC.2.3-2).
//!
//! Holds: whoever changes workitems or single subscriptions holds a lock of the partition shared
//! ([`Db::begin_worklist`]), and who subscribes to many workitems holds it alone
//! ([`Db::begin_worklist_alone`]): so there is no workitem that such a subscription misses, and no
//! change between its initial event and those that follow. A single subscription changes only in a
//! transaction that has locked its workitem. Absent: events (`worklist_events`).

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};

use super::{Db, IndexError, PartitionTx, feed::PATIENCE, tag_lock};
use crate::{
    dicom::{AeTitle, Uid},
    tenancy::PartitionScope,
};

/// First key of the lock of a partition's worklist.
const OF_PARTITION: i32 = 0x5550_5300;

const ANY: &str = "-- workitem_subscriber_any
    SELECT (SELECT 1 FROM workitem_subscriber WHERE partition_id = $1 AND aetitle > ''
        ORDER BY aetitle LIMIT 1) IS NOT NULL";

const ENSURE: &str = "-- workitem_subscriber_ensure
    INSERT INTO workitem_subscriber (partition_id, aetitle) VALUES ($1, $2)
    ON CONFLICT (partition_id, aetitle) DO NOTHING";

const COUNT: &str = "-- workitem_subscriber_count
    SELECT (SELECT count(*) FROM workitem_subscriber WHERE partition_id = $1 AND aetitle > ''),
        (SELECT aetitle FROM workitem_subscriber
            WHERE partition_id = $1 AND aetitle >= $2 AND aetitle <= $2 ORDER BY aetitle)
            IS NOT NULL";

/// Those that nothing leads to any more.
const FORGET: &str = "-- workitem_subscriber_forget
    DELETE FROM workitem_subscriber t
    USING (SELECT ctid AS at FROM workitem_subscriber s
        WHERE partition_id = $1 AND aetitle > '' AND channel IS NULL
            AND (SELECT 1 FROM workitem_event
                WHERE partition_id = $1 AND aetitle >= s.aetitle AND aetitle <= s.aetitle
                ORDER BY aetitle, sequence LIMIT 1) IS NULL
            AND (SELECT 1 FROM workitem_subscription
                WHERE partition_id = $1 AND aetitle >= s.aetitle AND aetitle <= s.aetitle
                ORDER BY aetitle, workitem_uid LIMIT 1) IS NULL
            AND (SELECT 1 FROM workitem_global
                WHERE partition_id = $1 AND aetitle >= s.aetitle AND aetitle <= s.aetitle
                ORDER BY aetitle, kind LIMIT 1) IS NULL
        ORDER BY aetitle) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const SUBSCRIBE: &str = "-- workitem_subscribe
    INSERT INTO workitem_subscription (partition_id, workitem_uid, aetitle, has_lock, origin)
    VALUES ($1, $2, $3, $4, 'own')
    ON CONFLICT (partition_id, workitem_uid, aetitle)
        DO UPDATE SET has_lock = excluded.has_lock, origin = excluded.origin";

const UNSUBSCRIBE: &str = "-- workitem_unsubscribe
    DELETE FROM workitem_subscription t
    WHERE t.partition_id = $1 AND t.ctid = (SELECT ctid FROM workitem_subscription
        WHERE partition_id = $1 AND (workitem_uid, aetitle) >= ($2, $3)
            AND (workitem_uid, aetitle) <= ($2, $3)
        ORDER BY workitem_uid, aetitle)";

const BORN: &str = "-- workitem_subscribe_born
    INSERT INTO workitem_subscription (partition_id, workitem_uid, aetitle, has_lock, origin)
    SELECT $1, $2, n.aetitle, n.has_lock, n.origin
    FROM unnest($3::text[], $4::boolean[], $5::text[]) AS n(aetitle, has_lock, origin)
    ON CONFLICT (partition_id, workitem_uid, aetitle) DO NOTHING";

/// Subscribes to workitems that there are; subscriptions that there are stay as they are.
macro_rules! subscribe_to {
    ($name:literal, $origin:literal, $workitems:literal) => {
        concat!(
            "-- ",
            $name,
            "
    INSERT INTO workitem_subscription (partition_id, workitem_uid, aetitle, has_lock, origin)
    SELECT $1, w.uid, $2, $3, '",
            $origin,
            "' FROM ",
            $workitems,
            "
    ON CONFLICT (partition_id, workitem_uid, aetitle) DO NOTHING"
        )
    };
}

const SUBSCRIBE_ALL: &str = subscribe_to!(
    "workitem_subscribe_all",
    "all",
    "(SELECT workitem_uid AS uid FROM workitem
        WHERE partition_id = $1 AND workitem_uid > '' ORDER BY workitem_uid) w"
);

const SUBSCRIBE_EACH: &str =
    subscribe_to!("workitem_subscribe_each", "filtered", "unnest($4::text[]) AS w(uid)");

const UNSUBSCRIBE_ALL: &str = "-- workitem_unsubscribe_all
    DELETE FROM workitem_subscription t
    USING (SELECT ctid AS at FROM workitem_subscription
        WHERE partition_id = $1 AND aetitle >= $2 AND aetitle <= $2
            AND ($3::text IS NULL OR origin = $3)
        ORDER BY aetitle, workitem_uid) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const GLOBAL_PUT: &str = "-- workitem_global_put
    INSERT INTO workitem_global (partition_id, aetitle, kind, has_lock, filter)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (partition_id, aetitle, kind)
        DO UPDATE SET has_lock = excluded.has_lock, filter = excluded.filter";

const GLOBAL_REMOVE: &str = "-- workitem_global_remove
    DELETE FROM workitem_global t
    USING (SELECT ctid AS at FROM workitem_global
        WHERE partition_id = $1 AND aetitle >= $2 AND aetitle <= $2
            AND ($3::text IS NULL OR kind = $3)
        ORDER BY aetitle, kind) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

const GLOBALS: &str = "-- workitem_globals
    SELECT aetitle, kind, has_lock, filter FROM workitem_global
    WHERE partition_id = $1 AND aetitle > '' ORDER BY aetitle, kind";

/// Workitems that ended some time ago and that nobody holds.
const ENDED: &str = "-- workitems_ended
    SELECT workitem_uid FROM workitem w
    WHERE partition_id = $1 AND state IN ('COMPLETED', 'CANCELED')
        AND state_at <= now() - make_interval(secs => $2)
        AND (SELECT 1 FROM workitem_subscription
            WHERE partition_id = $1 AND workitem_uid >= w.workitem_uid
                AND workitem_uid <= w.workitem_uid AND has_lock
            ORDER BY workitem_uid, aetitle LIMIT 1) IS NULL
    ORDER BY state_at, workitem_uid LIMIT $3";

macro_rules! remove_of {
    ($name:literal, $table:literal) => {
        concat!(
            "-- ",
            $name,
            "
    DELETE FROM ",
            $table,
            " t USING unnest($2::text[]) AS n(uid) CROSS JOIN LATERAL (
        SELECT ctid AS at FROM ",
            $table,
            "
        WHERE partition_id = $1 AND workitem_uid >= n.uid AND workitem_uid <= n.uid
        ORDER BY workitem_uid) x
    WHERE t.partition_id = $1 AND t.ctid = x.at"
        )
    };
}

const REMOVE: &str = remove_of!("workitems_remove", "workitem");
const REMOVE_SUBSCRIPTIONS: &str =
    remove_of!("workitems_remove_subscriptions", "workitem_subscription");

pub(super) const STATEMENTS: &[&str] = &[
    ANY,
    ENSURE,
    COUNT,
    FORGET,
    SUBSCRIBE,
    UNSUBSCRIBE,
    BORN,
    SUBSCRIBE_ALL,
    SUBSCRIBE_EACH,
    UNSUBSCRIBE_ALL,
    GLOBAL_PUT,
    GLOBAL_REMOVE,
    GLOBALS,
    ENDED,
    REMOVE,
    REMOVE_SUBSCRIPTIONS,
];

/// Of which workitems a global subscription makes somebody a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// All.
    All,
    /// Those that pass a filter.
    Filtered,
}

impl WatchKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Filtered => "filtered",
        }
    }
}

/// A global subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalWatch {
    /// Whose.
    pub aetitle: String,
    /// To which workitems.
    pub kind: WatchKind,
    /// Whether workitems are to stay.
    pub has_lock: bool,
    /// The filter, where there is one, as it was put.
    pub filter: Option<String>,
}

impl Db {
    /// Opens a transaction that changes workitems or single subscriptions.
    ///
    /// # Errors
    /// [`IndexError::Busy`] while somebody subscribes to many workitems for long;
    /// [`IndexError::Unavailable`].
    pub async fn begin_worklist(&self, scope: &PartitionScope) -> Result<PartitionTx, IndexError> {
        let key = tag_lock::key(scope.partition());
        let lock = format!("SELECT pg_advisory_xact_lock_shared({OF_PARTITION}, {key})");
        self.begin_holding(scope, &[PATIENCE.to_owned(), lock]).await
    }

    /// Opens a transaction that changes subscriptions to many workitems, while nobody changes any.
    ///
    /// # Errors
    /// As [`Db::begin_worklist`].
    pub async fn begin_worklist_alone(
        &self,
        scope: &PartitionScope,
    ) -> Result<PartitionTx, IndexError> {
        let key = tag_lock::key(scope.partition());
        let lock = format!("SELECT pg_advisory_xact_lock({OF_PARTITION}, {key})");
        self.begin_holding(scope, &[PATIENCE.to_owned(), lock]).await
    }
}

impl PartitionTx {
    /// Whether an Application Entity watches something, or did lately.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn has_workitem_subscribers(&mut self) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(ANY);
        Ok(query.fetch_one(conn).await?.try_get(0)?)
    }

    /// Makes sure that an Application Entity is known, if there are no more than `most`; whether it
    /// is.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_subscriber_ensure(
        &mut self,
        aetitle: &AeTitle,
        most: i64,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(COUNT);
        let row = query.bind(aetitle.as_str().to_owned()).fetch_one(conn).await?;
        let (count, is_known): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !is_known && count >= most {
            return Ok(false);
        }
        let (query, conn) = self.statement(ENSURE);
        query.bind(aetitle.as_str().to_owned()).execute(conn).await?;
        Ok(true)
    }

    /// Forgets Application Entities that watch nothing, have no channel and nothing to be told. Of a
    /// transaction that [`Db::begin_worklist_alone`] opened.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_subscribers_forget(&mut self) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(FORGET);
        Ok(query.execute(conn).await?.rows_affected())
    }

    /// Subscribes to a locked workitem, with a deletion lock or without.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_subscribe(
        &mut self,
        uid: &Uid,
        aetitle: &AeTitle,
        has_lock: bool,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(SUBSCRIBE);
        let query = query.bind(uid.as_str().to_owned()).bind(aetitle.as_str().to_owned());
        query.bind(has_lock).execute(conn).await?;
        Ok(())
    }

    /// Ends a subscription to a locked workitem; whether there was one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_unsubscribe(
        &mut self,
        uid: &Uid,
        aetitle: &AeTitle,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(UNSUBSCRIBE);
        let query = query.bind(uid.as_str().to_owned()).bind(aetitle.as_str().to_owned());
        Ok(query.execute(conn).await?.rows_affected() > 0)
    }

    /// Gives a workitem that was just created its subscribers, one for each Application Entity.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_subscribe_born(
        &mut self,
        uid: &Uid,
        watches: &[&GlobalWatch],
    ) -> Result<(), IndexError> {
        let titles: Vec<&str> = watches.iter().map(|watch| &*watch.aetitle).collect();
        let locks: Vec<bool> = watches.iter().map(|watch| watch.has_lock).collect();
        let origins: Vec<&str> = watches.iter().map(|watch| watch.kind.as_str()).collect();
        let (query, conn) = self.statement(BORN);
        let query = query.bind(uid.as_str().to_owned());
        query.bind(titles).bind(locks).bind(origins).execute(conn).await?;
        Ok(())
    }

    /// Subscribes to all workitems; subscriptions that there are stay as they are.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_subscribe_all(
        &mut self,
        aetitle: &AeTitle,
        has_lock: bool,
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(SUBSCRIBE_ALL);
        query.bind(aetitle.as_str().to_owned()).bind(has_lock).execute(conn).await?;
        Ok(())
    }

    /// Subscribes to some workitems that passed a filter; subscriptions that there are stay as they
    /// are.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_subscribe_each(
        &mut self,
        aetitle: &AeTitle,
        has_lock: bool,
        uids: &[String],
    ) -> Result<(), IndexError> {
        let (query, conn) = self.statement(SUBSCRIBE_EACH);
        let query = query.bind(aetitle.as_str().to_owned()).bind(has_lock);
        query.bind(uids.to_vec()).execute(conn).await?;
        Ok(())
    }

    /// Ends all subscriptions of an Application Entity, or those of a filter; how many there were.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_unsubscribe_all(
        &mut self,
        aetitle: &AeTitle,
        of: WatchKind,
    ) -> Result<u64, IndexError> {
        let origin = (of == WatchKind::Filtered).then_some(of.as_str());
        let (query, conn) = self.statement(UNSUBSCRIBE_ALL);
        let query = query.bind(aetitle.as_str().to_owned()).bind(origin);
        Ok(query.execute(conn).await?.rows_affected())
    }

    /// Has a global subscription, in place of one of the same kind.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_global_put(&mut self, watch: &GlobalWatch) -> Result<(), IndexError> {
        let (query, conn) = self.statement(GLOBAL_PUT);
        let query = query.bind(watch.aetitle.clone()).bind(watch.kind.as_str());
        query.bind(watch.has_lock).bind(watch.filter.clone()).execute(conn).await?;
        Ok(())
    }

    /// Ends the global subscription of a kind, or of all kinds; whether there was one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_global_remove(
        &mut self,
        aetitle: &AeTitle,
        kind: Option<WatchKind>,
    ) -> Result<bool, IndexError> {
        let (query, conn) = self.statement(GLOBAL_REMOVE);
        let query = query.bind(aetitle.as_str().to_owned()).bind(kind.map(WatchKind::as_str));
        Ok(query.execute(conn).await?.rows_affected() > 0)
    }

    /// All global subscriptions, by Application Entity.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitem_globals(&mut self) -> Result<Vec<GlobalWatch>, IndexError> {
        let (query, conn) = self.statement(GLOBALS);
        let read = |row: &PgRow| {
            let kind = match row.try_get(1)? {
                "all" => WatchKind::All,
                _ => WatchKind::Filtered,
            };
            let (aetitle, has_lock, filter) = (row.try_get(0)?, row.try_get(2)?, row.try_get(3)?);
            Ok(GlobalWatch { aetitle, kind, has_lock, filter })
        };
        query.fetch_all(conn).await?.iter().map(read).collect()
    }

    /// Removes workitems that ended `after` ago and that nobody holds, with their subscriptions, up
    /// to `limit`; how many. Of a transaction that [`Db::begin_worklist_alone`] opened.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn workitems_purge(
        &mut self,
        after: Duration,
        limit: i64,
    ) -> Result<u64, IndexError> {
        let (query, conn) = self.statement(ENDED);
        let rows = query.bind(after.as_secs_f64()).bind(limit).fetch_all(conn).await?;
        let uids: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        if uids.is_empty() {
            return Ok(0);
        }
        let (query, conn) = self.statement(REMOVE_SUBSCRIPTIONS);
        query.bind(uids.clone()).execute(conn).await?;
        let (query, conn) = self.statement(REMOVE);
        Ok(query.bind(uids).execute(conn).await?.rows_affected())
    }
}
