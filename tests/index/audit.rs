//! The audit log: with each change, append-only, and a chain that shows what was tampered with.

use std::{sync::Arc, time::Duration};

use collimator::{
    audit::Event,
    index::{AuditFilter, Db},
    tenancy::{Deed, PartitionId, PartitionScope, Permission, Principal},
    verify::{AuditBreak, audit_log},
};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

use crate::{
    data::{Sample, store, study},
    postgres::{Database, scope},
};

/// What is wrong, and with which number.
type Finding = (AuditBreak, Option<i64>);

const LONG_AGO: OffsetDateTime = datetime!(2024-01-02 3:04:05.5 UTC);

fn id(partition: &str) -> PartitionId {
    partition.parse().unwrap()
}

fn deed(permission: Permission) -> Arc<Deed> {
    let address = "192.0.2.7".parse().unwrap();
    let call = ("DELETE", "/studies/{study}");
    let named = vec![("study".into(), "1.2.1".into())];
    Arc::new(Deed::new(Principal::Anonymous, address, "r-1", permission, call, named))
}

fn by(deed: &Arc<Deed>, partition: &str) -> PartitionScope {
    let scope = (*scope(partition)).clone().for_deed(deed.clone());
    scope.try_into().unwrap()
}

/// Events of a partition, written and chained; the newest last.
async fn add(db: &Db, partition: &str, count: usize, at: OffsetDateTime) -> Vec<Event> {
    let second = |n: usize| Duration::from_secs(n as u64);
    let mut events = Vec::new();
    for n in 0..count {
        let mut event = Event::of(&deed(Permission::Retrieve), &id(partition), at + second(n));
        event.study = Some(format!("1.2.{}", n % 3));
        events.push(event);
    }
    let mut tx = db.begin_in(&scope(partition)).await.unwrap();
    tx.audit_insert(&events).await.unwrap();
    // As when an answer was lost and the batch comes again.
    tx.audit_insert(&events).await.unwrap();
    tx.commit().await.unwrap();
    chain(db, partition).await;
    events
}

async fn chain(db: &Db, partition: &str) -> u64 {
    let mut tx = db.begin_chaining(&scope(partition)).await.unwrap();
    let count = tx.audit_chain(1000).await.unwrap();
    tx.commit().await.unwrap();
    count
}

/// Something in each table of the log.
pub async fn fill(db: &Db, partition: &str) {
    add(db, partition, 4, LONG_AGO).await;
    let mut tx = db.begin_chaining(&scope(partition)).await.unwrap();
    assert_eq!(tx.audit_forget(Duration::ZERO, 2, 100).await.unwrap(), 2);
    tx.audit_export_claim("lines", Uuid::new_v4(), Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
}

async fn run(conn: &mut PgConnection, sql: &str) -> u64 {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
    done.rows_affected()
}

async fn records(it: &Database) -> Vec<Event> {
    let mut conn = it.superuser().await;
    let sql = "SELECT record FROM audit_event ORDER BY occurred_at, event_id";
    let rows = sqlx::query(sql).fetch_all(&mut conn).await.unwrap();
    rows.iter().map(|row| Event::read(row.get(0)).unwrap()).collect()
}

#[tokio::test]
async fn a_change_and_its_record_come_together_or_not_at_all() {
    let it = Database::new().await;
    let undone = deed(Permission::Delete);
    store(&it.db, "a", &[Sample::new(1, 1, 1)]).await;
    assert_eq!(records(&it).await, [], "nobody asked for it");
    let mut tx = it.db.begin_in(&by(&undone, "a")).await.unwrap();
    tx.delete(&study(1), Duration::ZERO).await.unwrap();
    drop(tx);
    assert_eq!(records(&it).await, []);
    assert!(!undone.is_recorded());

    let delete = deed(Permission::Delete);
    let mut tx = it.db.begin_in(&by(&delete, "a")).await.unwrap();
    let gone = tx.delete(&study(1), Duration::ZERO).await.unwrap();
    tx.audit_note("instances", gone.len());
    tx.commit().await.unwrap();
    assert!(delete.is_recorded());
    let [event] = &records(&it).await[..] else { panic!("one event") };
    assert_eq!((&*event.action, &*event.partition), ("studies.delete", "a"));
    assert_eq!((event.study.as_deref(), &*event.request), (Some("1.2.1"), "r-1"));
    assert_eq!(event.detail["instances"], 1);
    assert_eq!(event.who.kind, "anonymous");

    // What only reads leaves nothing by its transaction, nor does numbering on its way.
    let read = deed(Permission::ReadChanges);
    it.db.begin_in(&by(&read, "a")).await.unwrap().commit().await.unwrap();
    let mut tx = it.db.begin_numbering(&by(&delete, "a")).await.unwrap();
    assert!(tx.feed_number(10).await.unwrap() > 0);
    tx.commit().await.unwrap();
    assert_eq!(records(&it).await.len(), 1);

    // The registry's transaction writes to the log of the platform.
    let tags = deed(Permission::ManageTags);
    let root = it.db.begin_root_tags().await.unwrap();
    let tell = |event: &mut Event| _ = event.detail.insert("x".to_owned(), 1.into());
    root.commit_for(Some(&tags), &PartitionId::platform(), tell).await.unwrap();
    let last = records(&it).await.pop().unwrap();
    assert_eq!((&*last.partition, &last.detail["x"]), ("_platform", &1.into()));
    assert!(tags.is_recorded());
}

#[tokio::test]
async fn what_is_written_the_application_neither_changes_nor_removes() {
    let it = Database::new().await;
    fill(&it.db, "a").await;
    let mut app = it.raw().await;
    let open = "SET ROLE collimator_tenant; SET collimator.scope = 'a'";
    run(&mut app, open).await;
    for table in ["audit_event", "audit_chain", "audit_checkpoint"] {
        for sql in [
            format!("UPDATE {table} SET partition_id = partition_id"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
        ] {
            let refused = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut app).await;
            let refused = refused.unwrap_err();
            let code = refused.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("42501"), "{sql}");
        }
    }
    for sql in [
        "INSERT INTO audit_checkpoint (number, hash, event_id) VALUES (1, '', gen_random_uuid())",
        "SELECT audit_forget('b', '1 year', 100, 100)",
        "SELECT audit_forget(NULL, '1 year', 100, 100)",
    ] {
        let refused = sqlx::raw_sql(sql).execute(&mut app).await.unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("42501"), "{sql}");
    }
    let mut registry = it.raw().await;
    run(&mut registry, "SET ROLE collimator_registry; SET collimator.scope = 'a'").await;
    let refused = sqlx::raw_sql("SELECT audit_forget('a', '1 year', 100, 100)")
        .execute(&mut registry)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");

    // However short a time is asked for, what is younger than a day stays.
    add(&it.db, "b", 3, OffsetDateTime::now_utc() - Duration::from_secs(3600)).await;
    let mut tx = it.db.begin_chaining(&scope("b")).await.unwrap();
    assert_eq!(tx.audit_forget(Duration::ZERO, i64::MAX, 100).await.unwrap(), 0);
}

#[tokio::test]
async fn the_chain_counts_on_whoever_chains_and_whatever_retention_removes() {
    let it = Database::new().await;
    for _ in 0..3 {
        add(&it.db, "a", 5, LONG_AGO).await;
    }
    let events = (0..40).map(|n| {
        Event::of(&deed(Permission::Search), &id("a"), LONG_AGO + Duration::from_secs(100 + n))
    });
    let events: Vec<Event> = events.collect();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.audit_insert(&events).await.unwrap();
    tx.commit().await.unwrap();
    let both = futures::future::join_all((0..4).map(|_| chain(&it.db, "a"))).await;
    assert_eq!(both.iter().sum::<u64>(), 40);
    let whole = audit_log(&it.db, &id("a")).await.unwrap();
    assert_eq!((whole.links, whole.end.number, &whole.findings), (55, 55, &vec![]));

    // What a receiver has yet to be sent stays; the rest goes as far as one transaction takes it.
    let mut tx = it.db.begin_chaining(&scope("a")).await.unwrap();
    assert_eq!(tx.audit_forget(Duration::ZERO, 12, 10).await.unwrap(), 10);
    assert_eq!(tx.audit_forget(Duration::ZERO, 12, 10).await.unwrap(), 2);
    assert_eq!(tx.audit_forget(Duration::ZERO, 12, 10).await.unwrap(), 0);
    tx.commit().await.unwrap();
    chain(&it.db, "a").await;
    let rest = audit_log(&it.db, &id("a")).await.unwrap();
    assert_eq!((rest.begins_after, rest.end.number, &rest.findings), (12, 57, &vec![]));

    // All of it: the next number follows from the checkpoint.
    let mut conn = it.superuser().await;
    let age = "UPDATE audit_event SET occurred_at = '2024-02-01' WHERE action = 'audit.forget'";
    assert_eq!(run(&mut conn, age).await, 2);
    let mut tx = it.db.begin_chaining(&scope("a")).await.unwrap();
    assert_eq!(tx.audit_forget(Duration::ZERO, i64::MAX, 1000).await.unwrap(), 45);
    assert_eq!(tx.audit_last().await.unwrap().number, 57);
    tx.commit().await.unwrap();
    chain(&it.db, "a").await;
    let rest = audit_log(&it.db, &id("a")).await.unwrap();
    assert_eq!((rest.begins_after, rest.end.number, &rest.findings), (57, 58, &vec![]));
}

#[tokio::test]
async fn whatever_is_tampered_with_is_found() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    let cases: [(&str, &[Finding]); 9] = [
        (
            "UPDATE audit_event SET record = replace(record, '192.0.2.7', '192.0.2.8')
            WHERE event_id = (SELECT event_id FROM audit_chain WHERE partition_id = $P AND number = 3)
                AND partition_id = $P",
            &[(AuditBreak::Altered, Some(3))],
        ),
        (
            "UPDATE audit_event SET subject = 'somebody' WHERE partition_id = $P AND event_id =
                (SELECT event_id FROM audit_chain WHERE partition_id = $P AND number = 4)",
            &[(AuditBreak::Misfiled, Some(4))],
        ),
        (
            "DELETE FROM audit_event WHERE partition_id = $P AND event_id =
                (SELECT event_id FROM audit_chain WHERE partition_id = $P AND number = 5)",
            &[(AuditBreak::Removed, Some(5))],
        ),
        (
            "DELETE FROM audit_chain WHERE partition_id = $P AND number = 2",
            &[(AuditBreak::Missing, Some(2)), (AuditBreak::Unlinked, None)],
        ),
        (
            "WITH gone AS (DELETE FROM audit_chain WHERE partition_id = $P AND number = 2
                RETURNING event_id)
            DELETE FROM audit_event WHERE partition_id = $P AND event_id IN (SELECT event_id FROM gone)",
            &[(AuditBreak::Missing, Some(2))],
        ),
        (
            "INSERT INTO audit_event (partition_id, event_id, occurred_at, action, outcome, record)
            VALUES ($P, gen_random_uuid(), '2024-01-02', 'x', 'success', '{}')",
            &[(AuditBreak::Unlinked, None)],
        ),
        (
            "DROP INDEX audit_chain_event;
            UPDATE audit_chain c SET event_id = o.event_id FROM audit_chain o
            WHERE c.partition_id = $P AND o.partition_id = $P AND c.number + o.number = 5;
            CREATE UNIQUE INDEX audit_chain_event ON audit_chain (partition_id, event_id)",
            &[(AuditBreak::Altered, Some(1))],
        ),
        (
            "UPDATE audit_chain SET hash = sha256('x') WHERE partition_id = $P AND number = 6",
            &[(AuditBreak::Altered, Some(6))],
        ),
        (
            "WITH gone AS (DELETE FROM audit_chain WHERE partition_id = $P AND number <= 2
                RETURNING number, hash, event_id)
            INSERT INTO audit_checkpoint (partition_id, number, hash, event_id)
            SELECT $P, number, hash, event_id FROM gone WHERE number = 2",
            &[
                (AuditBreak::Unlinked, None),
                (AuditBreak::Unlinked, None),
                (AuditBreak::Checkpoint, Some(2)),
            ],
        ),
    ];
    for (n, (sql, expected)) in cases.into_iter().enumerate() {
        let partition = format!("p{n}");
        add(&it.db, &partition, 6, LONG_AGO).await;
        let clean = audit_log(&it.db, &id(&partition)).await.unwrap();
        assert_eq!((clean.end.number, &clean.findings), (6, &vec![]));
        run(&mut conn, &sql.replace("$P", &format!("'{partition}'"))).await;
        let found = audit_log(&it.db, &id(&partition)).await.unwrap();
        let seen = found.findings.iter().map(|one| (one.what.clone(), one.number));
        assert_eq!(seen.collect::<Vec<_>>(), expected, "{sql}");
        // What was sound before the break is still known.
        assert!(found.end.number < 6 || found.links >= 4, "{found:?}");
    }
}

#[tokio::test]
async fn pages_go_on_where_they_were_whatever_comes_meanwhile() {
    let it = Database::new().await;
    add(&it.db, "a", 30, LONG_AGO).await;
    // Several of one moment.
    let same: Vec<Event> =
        (0..7).map(|_| Event::of(&deed(Permission::Store), &id("a"), LONG_AGO)).collect();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.audit_insert(&same).await.unwrap();
    tx.commit().await.unwrap();
    let all = async |filter: &AuditFilter| {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
            let page = tx.audit_entries(filter, after, 4).await.unwrap();
            drop(tx);
            seen.extend(page.iter().map(|entry| entry.at));
            match page.last() {
                Some(last) => after = Some(last.at),
                None => return seen,
            }
            add(&it.db, "a", 1, OffsetDateTime::now_utc()).await;
        }
    };
    let until = Some(datetime!(2025-01-01 0:00 UTC));
    let everything = AuditFilter { until, ..AuditFilter::default() };
    let seen = all(&everything).await;
    assert_eq!(seen.len(), 37);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, each once");
    for (filter, count) in [
        (AuditFilter { study: Some("1.2.1".to_owned()), ..everything.clone() }, 17),
        (AuditFilter { action: Some("studies.store".to_owned()), ..everything.clone() }, 7),
        (AuditFilter { request: Some("r-1".to_owned()), ..everything.clone() }, 37),
        (AuditFilter { request: Some("r-2".to_owned()), ..everything.clone() }, 0),
        (AuditFilter { subject: Some("x".to_owned()), ..everything.clone() }, 0),
        (AuditFilter { outcome: Some("failed".to_owned()), ..everything.clone() }, 0),
        (AuditFilter { since: Some(LONG_AGO + Duration::from_secs(20)), ..everything.clone() }, 10),
    ] {
        assert_eq!(all(&filter).await.len(), count, "{filter:?}");
    }
}

#[tokio::test]
async fn one_at_a_time_sends_and_goes_on_where_another_was() {
    let it = Database::new().await;
    add(&it.db, "a", 3, LONG_AGO).await;
    let [one, two] = [Uuid::new_v4(), Uuid::new_v4()];
    let lease = Duration::from_secs(60);
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.audit_export_claim("lines", one, lease).await.unwrap(), Some(0));
    assert_eq!(tx.audit_export_claim("lines", two, lease).await.unwrap(), None);
    assert_eq!(tx.audit_export_claim("syslog", two, lease).await.unwrap(), Some(0));
    assert!(tx.audit_export_move("lines", one, 2, Duration::ZERO).await.unwrap());
    assert!(!tx.audit_export_move("lines", two, 3, lease).await.unwrap());
    tx.commit().await.unwrap();
    let mut conn = it.superuser().await;
    run(&mut conn, "UPDATE audit_export SET lease_until = now() - interval '1s'").await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.audit_export_claim("lines", two, lease).await.unwrap(), Some(2));
    assert!(!tx.audit_export_move("lines", one, 3, lease).await.unwrap());
    let rest = tx.audit_links(2, 10).await.unwrap();
    assert_eq!(rest.iter().map(|link| link.number).collect::<Vec<_>>(), [3]);
}
