//! Extended query tags in the index: what is stored before, while and after a tag is added is found
//! by it, once.

use std::{collections::BTreeSet, time::Duration};

use collimator::{
    dicom::{
        Tag, VR,
        attributes::Level,
        matching::{Test, Word},
        names,
    },
    index::{
        Condition, Db, DbOptions, NewTag, OperationFilter, OperationState, QueryTag, Reindexing,
        SearchPlan, Step, TagState, TagStatus, Within, Work,
    },
    tenancy::Scope,
};
use uuid::Uuid;

use crate::{
    data::{Sample, is_new, new_blob, series, store, store_in, study},
    postgres::{Database, login_options, scope},
    search::several,
};

const DAY: Duration = Duration::from_secs(86_400);

fn tag(path: &str, vr: VR, level: Level) -> NewTag {
    let number = u32::from_str_radix(path, 16).unwrap();
    NewTag { path: Tag((number >> 16) as u16, number as u16), creator: None, vr, level }
}

/// Adds a tag to a partition; answers the operation.
pub async fn add_tag(db: &Db, partition: &str, path: &str, vr: VR, level: Level) -> Uuid {
    add(db, partition, &[tag(path, vr, level)]).await
}

async fn add(db: &Db, partition: &str, tags: &[NewTag]) -> Uuid {
    let operation = Uuid::new_v4();
    let mut tx = db.begin_tags(&scope(partition)).await.unwrap();
    tx.tags_create(tags, operation).await.unwrap();
    tx.commit().await.unwrap();
    operation
}

async fn add_to_root(db: &Db, tags: &[NewTag]) -> Uuid {
    let operation = Uuid::new_v4();
    let mut tx = db.begin_root_tags().await.unwrap();
    tx.root_tags_create(tags, operation).await.unwrap();
    tx.commit().await.unwrap();
    operation
}

async fn claim(db: &Db, partition: &str, owner: Uuid) -> Work<Reindexing> {
    let mut tx = db.begin_in(&scope(partition)).await.unwrap();
    tx.tags_meet().await.unwrap();
    let work = tx.operation_claim::<Reindexing>(owner).await.unwrap();
    tx.commit().await.unwrap();
    work
}

/// Works on everything that the partition has to do.
async fn work(db: &Db, partition: &str) {
    let owner = Uuid::new_v4();
    while let Work::Now(mut claim) = claim(db, partition, owner).await {
        while db.reindex_step(&scope(partition), &mut claim, owner).await.unwrap() != Step::Ended {}
    }
}

async fn tags(db: &Db, scope: &Scope) -> Vec<QueryTag> {
    db.begin(scope).await.unwrap().query_tags(true, None, (100, 0)).await.unwrap()
}

fn age(value: &str) -> String {
    format!(r#"{{"00101010":{{"vr":"AS","Value":["{value}"]}}}}"#)
}

/// Keys of what is found at the level by a test of the partition's only tag.
async fn found(db: &Db, partition: &str, level: Level, test: Test) -> usize {
    let mut tx = db.begin(&scope(partition)).await.unwrap();
    let tags = tx.search_tags().await.unwrap();
    let condition = Condition::Tag { tag: tags[0].id, level: tags[0].level, test };
    let plan = SearchPlan {
        level,
        within: Within::Archive,
        conditions: vec![condition],
        limit: 1000,
        offset: 0,
        after: None,
    };
    tx.search_keys(&plan).await.unwrap().len()
}

fn equals(value: &str) -> Test {
    Test::Equals(value.to_owned())
}

#[tokio::test]
async fn what_was_stored_before_is_indexed_in_batches_and_what_comes_after_at_once() {
    let it = Database::new().await;
    let old: Vec<Sample> =
        (0..450).map(|n| Sample::new(n / 50, n % 2, n).json(&age("041Y"))).collect();
    store(&it.db, "a", &old).await;
    let operation = add_tag(&it.db, "a", "00101010", VR::AS, Level::Instance).await;
    store(&it.db, "a", &[Sample::new(99, 1, 1).json(&age("041Y"))]).await;
    assert_eq!(found(&it.db, "a", Level::Instance, equals("041Y")).await, 1);
    let state = it.db.begin(&scope("a")).await.unwrap().search_tags().await.unwrap()[0].state;
    assert_eq!(state, TagState::Adding);

    let owner = Uuid::new_v4();
    let Work::Now(mut claimed) = claim(&it.db, "a", owner).await else { panic!("nothing to do") };
    let step = it.db.reindex_step(&scope("a"), &mut claimed, owner).await.unwrap();
    assert_eq!(step, Step::Indexed { instances: 200, failed: 0 });
    assert_eq!(found(&it.db, "a", Level::Instance, equals("041Y")).await, 201);
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let seen = tx.operation(operation, DAY).await.unwrap().unwrap();
    assert_eq!((seen.state, seen.processed, seen.total), (OperationState::Running, 200, Some(450)));
    drop(tx);

    // Another server does not get it while the lease holds; and goes on where it ended after.
    let other = Uuid::new_v4();
    assert!(matches!(claim(&it.db, "a", other).await, Work::Later(_)));
    expire(&it, "a").await;
    let Work::Now(mut taken) = claim(&it.db, "a", other).await else { panic!("nothing to do") };
    assert_eq!(taken.cursor, claimed.cursor);
    let step = it.db.reindex_step(&scope("a"), &mut taken, other).await.unwrap();
    assert_eq!(step, Step::Indexed { instances: 200, failed: 0 });
    // The first one finds out before it commits anything.
    let step = it.db.reindex_step(&scope("a"), &mut claimed, owner).await.unwrap();
    assert_eq!(step, Step::Lost);
    while it.db.reindex_step(&scope("a"), &mut taken, other).await.unwrap() != Step::Ended {}
    assert_eq!(found(&it.db, "a", Level::Instance, equals("041Y")).await, 451);
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let seen = tx.operation(operation, DAY).await.unwrap().unwrap();
    assert_eq!((seen.state, seen.processed), (OperationState::Succeeded, 450));
    assert_eq!(tx.search_tags().await.unwrap()[0].state, TagState::Ready);
}

/// Lets the leases of a partition run out.
async fn expire(it: &Database, partition: &str) {
    let sql =
        "UPDATE operation SET lease_until = now() - interval '1 second' WHERE partition_id = $1";
    sqlx::query(sql).bind(partition).execute(&mut it.superuser().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_store_slips_through_while_tags_are_added() {
    let it = Database::new().await;
    let stores = (0..4).map(|task| {
        let db = it.db.clone();
        tokio::spawn(async move {
            for n in 0..30 {
                let sample = Sample::new(task, 1, n).json(
                    r#"{"00101010":{"vr":"AS","Value":["041Y"]},"00180050":{"vr":"DS","Value":[1]},
                        "00102160":{"vr":"SH","Value":["X"]}}"#,
                );
                let stored = store(&db, "a", &[sample]).await;
                assert!(stored.iter().all(is_new));
            }
        })
    });
    let adds = async {
        tokio::task::yield_now().await;
        add_tag(&it.db, "a", "00101010", VR::AS, Level::Study).await;
        add_to_root(&it.db, &[tag("00180050", VR::DS, Level::Instance)]).await;
        work(&it.db, "a").await;
        add_tag(&it.db, "a", "00102160", VR::SH, Level::Series).await;
    };
    let (stored, ()) = tokio::join!(futures::future::join_all(stores), adds);
    stored.into_iter().for_each(|task| task.unwrap());
    work(&it.db, "a").await;
    let mut conn = it.superuser().await;
    for path in ["00101010", "00180050", "00102160"] {
        let sql = "SELECT count(DISTINCT v.watermark) FROM query_tag_value v
            JOIN query_tag q USING (partition_id, tag_id) WHERE q.path = $1";
        let count: i64 = sqlx::query_scalar(sql).bind(path).fetch_one(&mut conn).await.unwrap();
        assert_eq!(count, 120, "{path}");
    }
    assert!(tags(&it.db, &scope("a")).await.iter().all(|tag| tag.status == TagStatus::Ready));
}

#[tokio::test]
async fn of_a_study_the_first_instance_with_a_value_speaks_until_it_is_deleted() {
    let it = Database::new().await;
    add_tag(&it.db, "a", "00101010", VR::AS, Level::Study).await;
    for (n, json) in [(1, "{}".to_owned()), (2, age("041Y")), (3, age("042Y"))] {
        store(&it.db, "a", &[Sample::new(1, 1, n).json(&json)]).await;
    }
    assert_eq!(found(&it.db, "a", Level::Study, equals("041Y")).await, 1);
    assert_eq!(found(&it.db, "a", Level::Instance, equals("041Y")).await, 3);
    assert_eq!(found(&it.db, "a", Level::Study, equals("042Y")).await, 0);
    assert_eq!(found(&it.db, "a", Level::Study, Test::Empty).await, 0);
    delete(&it.db, &Sample::new(1, 1, 2).target()).await;
    assert_eq!(found(&it.db, "a", Level::Study, equals("041Y")).await, 0);
    assert_eq!(found(&it.db, "a", Level::Study, equals("042Y")).await, 1);
    delete(&it.db, &series(1, 1)).await;
    let left = "SELECT count(*) FROM query_tag_value";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut it.superuser().await).await.unwrap();
    assert_eq!(left, 0);
}

async fn delete(db: &Db, target: &collimator::index::Target) {
    let mut tx = db.begin_in(&scope("a")).await.unwrap();
    assert!(!tx.delete(target, Duration::ZERO).await.unwrap().is_empty());
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn every_kind_of_test_is_said_in_sql() {
    let it = Database::new().await;
    add_tag(&it.db, "a", "00081050", VR::PN, Level::Series).await;
    let name = |names: &str| format!(r#"{{"00081050":{{"vr":"PN","Value":[{names}]}}}}"#);
    let samples = [
        name(r#"{"Alphabetic":"Schmidt^Änne"},{"Alphabetic":"Meier^Otto"}"#),
        name(r#"{"Alphabetic":"Yamada^Tarou","Ideographic":"山田^太郎"}"#),
        "{}".to_owned(),
    ];
    for (n, json) in (1..).zip(&samples) {
        store(&it.db, "a", &[Sample::new(n, 1, n).json(json)]).await;
    }
    let text = str::to_owned;
    let fuzzy = |word: &str| Test::Fuzzy(Word { text: text(word), sound: names::sound(word) });
    for (test, expected) in [
        (equals("schmidt^anne"), 1),
        (equals("meier^otto"), 1),
        (equals("Meier^Otto"), 0),
        (Test::Like(text("*otto")), 1),
        (Test::Like(text("山*")), 1),
        (Test::AnyOf(vec![text("meier^otto"), text("yamada^tarou")]), 2),
        (Test::Range { from: Some(text("s")), to: Some(text("z")) }, 2),
        (Test::Empty, 1),
        (fuzzy("smith"), 1),
        (fuzzy("tar"), 1),
        (Test::All(vec![fuzzy("smith"), fuzzy("otto")]), 1),
        (Test::All(vec![fuzzy("smith"), fuzzy("tar")]), 0),
        (Test::Any(vec![fuzzy("smith"), fuzzy("tar")]), 2),
        (Test::Any(vec![fuzzy("smith"), Test::Empty]), 2),
        (Test::All(vec![]), 3),
        (Test::Any(vec![]), 0),
        (equals("\0"), 0),
    ] {
        let what = format!("{test:?}");
        assert_eq!(found(&it.db, "a", Level::Series, test).await, expected, "{what}");
    }
}

#[tokio::test]
async fn an_error_switches_queries_off_once_and_goes_with_its_instance() {
    let it = Database::new().await;
    store(&it.db, "a", &[Sample::new(1, 1, 1).json(&age("SECRET"))]).await;
    add_tag(&it.db, "a", "00101010", VR::AS, Level::Instance).await;
    work(&it.db, "a").await;
    let seen = tags(&it.db, &scope("a")).await.remove(0);
    assert_eq!((seen.status, seen.is_enabled, seen.errors), (TagStatus::Ready, false, 1));
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let tag = tx.search_tags().await.unwrap().remove(0);
    assert_eq!((tag.state, tag.erroneous), (TagState::Disabled, true));
    let errors = tx.query_tag_errors(seen.id, (10, 0)).await.unwrap();
    assert_eq!(errors[0].instance.as_str(), "1.2.1.1.1");
    assert!(!errors[0].reason.contains("SECRET"));
    drop(tx);

    let mut tx = it.db.begin_store(&scope("a")).await.unwrap();
    tx.tag_query(seen.id, true).await.unwrap();
    tx.commit().await.unwrap();
    // What an administrator said stays.
    store(&it.db, "a", &[Sample::new(1, 1, 2).json(&age("nor this"))]).await;
    let seen = tags(&it.db, &scope("a")).await.remove(0);
    assert_eq!((seen.is_enabled, seen.errors), (true, 2));
    delete(&it.db, &study(1)).await;
    assert_eq!(tags(&it.db, &scope("a")).await[0].errors, 0);
}

#[tokio::test]
async fn a_root_tag_is_ready_when_each_partition_is_and_new_ones_have_it() {
    let it = Database::new().await;
    for partition in ["a", "b"] {
        store(&it.db, partition, &[Sample::new(1, 1, 1).json(&age("041Y"))]).await;
    }
    let operation = add_to_root(&it.db, &[tag("00101010", VR::AS, Level::Study)]).await;
    let all = several(&["a", "b", "c"]);
    let state = async || {
        let mut tx = it.db.begin(&all).await.unwrap();
        let operation = tx.operation(operation, DAY).await.unwrap().unwrap().state;
        (operation, tx.search_tags().await.unwrap()[0].state, tags(&it.db, &all).await[0].status)
    };
    assert_eq!(state().await, (OperationState::NotStarted, TagState::Adding, TagStatus::Adding));
    work(&it.db, "a").await;
    assert_eq!(state().await, (OperationState::Running, TagState::Adding, TagStatus::Adding));
    work(&it.db, "b").await;
    assert_eq!(state().await, (OperationState::Succeeded, TagState::Ready, TagStatus::Ready));
    // `c` comes later: it has nothing to reindex, and what is stored is found at once.
    store(&it.db, "c", &[Sample::new(1, 1, 1).json(&age("041Y"))]).await;
    assert_eq!(state().await, (OperationState::Succeeded, TagState::Ready, TagStatus::Ready));
    for partition in ["a", "b", "c"] {
        assert_eq!(found(&it.db, partition, Level::Study, equals("041Y")).await, 1, "{partition}");
    }
}

#[tokio::test]
async fn a_tag_of_one_partition_is_nowhere_else() {
    let it = Database::new().await;
    let operation = add_tag(&it.db, "a", "00101010", VR::AS, Level::Study).await;
    store(&it.db, "b", &[Sample::new(1, 1, 1).json(&age("041Y"))]).await;
    assert_eq!(tags(&it.db, &scope("a")).await.len(), 1);
    assert_eq!(tags(&it.db, &scope("b")).await, []);
    let mut tx = it.db.begin(&scope("b")).await.unwrap();
    assert_eq!(tx.search_tags().await.unwrap(), []);
    assert_eq!(tx.operation(operation, DAY).await.unwrap(), None);
    assert_eq!(tx.operations(OperationFilter::default(), (10, 0)).await.unwrap(), []);
    // Nor is it common to several.
    let mut tx = it.db.begin(&several(&["a", "b"])).await.unwrap();
    assert_eq!(tx.search_tags().await.unwrap(), []);
    let values = "SELECT count(*) FROM query_tag_value";
    let values: i64 =
        sqlx::query_scalar(values).fetch_one(&mut it.superuser().await).await.unwrap();
    assert_eq!(values, 0);
}

#[tokio::test]
async fn deleting_ends_the_operation_and_removes_all_values_in_batches() {
    let it = Database::new().await;
    let old: Vec<Sample> = (0..250).map(|n| Sample::new(1, 1, n).json(&age("041Y"))).collect();
    store(&it.db, "a", &old).await;
    let operation = add_tag(&it.db, "a", "00101010", VR::AS, Level::Study).await;
    let owner = Uuid::new_v4();
    let Work::Now(mut claimed) = claim(&it.db, "a", owner).await else { panic!("nothing to do") };
    it.db.reindex_step(&scope("a"), &mut claimed, owner).await.unwrap();
    let id = tags(&it.db, &scope("a")).await[0].id;
    let mut tx = it.db.begin_tags(&scope("a")).await.unwrap();
    tx.tag_delete(id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(tags(&it.db, &scope("a")).await[0].status, TagStatus::Deleting);
    let step = it.db.reindex_step(&scope("a"), &mut claimed, owner).await.unwrap();
    assert_eq!(step, Step::Ended);
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let seen = tx.operation(operation, DAY).await.unwrap().unwrap();
    assert_eq!(seen.state, OperationState::Canceled);
    assert_eq!(tx.search_tags().await.unwrap(), []);
    drop(tx);
    store(&it.db, "a", &[Sample::new(2, 1, 1).json(&age("041Y"))]).await;
    let mut gone = Vec::new();
    loop {
        let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
        let some = tx.tag_values_remove(id, 150).await.unwrap();
        tx.commit().await.unwrap();
        gone.push(some);
        if some == 0 {
            break;
        }
    }
    assert_eq!(gone, [150, 50, 0]);
}

#[tokio::test]
async fn two_handles_claim_different_partitions_and_cancelled_work_stops() {
    let it = Database::new().await;
    let second = Db::open(login_options(&it.name, &it.login), DbOptions::default()).await.unwrap();
    let mut operations = Vec::new();
    for partition in ["a", "b"] {
        store(&it.db, partition, &[Sample::new(1, 1, 1).json(&age("041Y"))]).await;
        operations.push(add_tag(&it.db, partition, "00101010", VR::AS, Level::Study).await);
        operations.push(add_tag(&it.db, partition, "00102160", VR::SH, Level::Study).await);
    }
    let owners = [Uuid::new_v4(), Uuid::new_v4()];
    let claims = futures::future::join_all([
        claim(&it.db, "a", owners[0]),
        claim(&second, "a", owners[1]),
        claim(&it.db, "b", owners[0]),
        claim(&second, "b", owners[1]),
    ])
    .await;
    let taken: BTreeSet<Uuid> = claims
        .iter()
        .filter_map(|work| match work {
            Work::Now(claim) => Some(claim.id),
            _ => None,
        })
        .collect();
    // The first of each partition, once; the second waits for the first to end.
    assert_eq!(taken, BTreeSet::from([operations[0], operations[2]]));

    let mut tx = it.db.begin_store(&scope("a")).await.unwrap();
    tx.operation_cancel(operations[0]).await.unwrap();
    tx.operation_cancel(operations[1]).await.unwrap();
    tx.commit().await.unwrap();
    let state = async |id| {
        let mut tx = it.db.begin(&scope("a")).await.unwrap();
        tx.operation(id, DAY).await.unwrap().unwrap().state
    };
    // One that is worked on ends with its batch.
    assert_eq!(state(operations[0]).await, OperationState::Running);
    assert_eq!(state(operations[1]).await, OperationState::Canceled);
    for (work, owner) in claims.into_iter().zip([owners[0], owners[1], owners[0], owners[1]]) {
        if let Work::Now(mut claim) = work
            && claim.id == operations[0]
        {
            let step = it.db.reindex_step(&scope("a"), &mut claim, owner).await.unwrap();
            assert_eq!(step, Step::Ended);
        }
    }
    assert_eq!(state(operations[0]).await, OperationState::Canceled);

    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.operations_forget(DAY).await.unwrap(), 0);
    tx.commit().await.unwrap();
    let old =
        "UPDATE operation SET ended_at = now() - interval '2 days' WHERE ended_at IS NOT NULL";
    sqlx::query(old).execute(&mut it.superuser().await).await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert_eq!(tx.operations_forget(DAY).await.unwrap(), 2);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn an_instance_that_is_deleted_meanwhile_leaves_no_values() {
    let it = Database::new().await;
    let old: Vec<Sample> = (0..20).map(|n| Sample::new(n, 1, n).json(&age("041Y"))).collect();
    store(&it.db, "a", &old).await;
    add_tag(&it.db, "a", "00101010", VR::AS, Level::Instance).await;
    let deletes = async {
        for n in 0..10 {
            delete(&it.db, &study(n)).await;
        }
    };
    tokio::join!(work(&it.db, "a"), deletes);
    let orphans = "SELECT count(*) FROM query_tag_value v WHERE NOT EXISTS (SELECT FROM instance i
        WHERE i.partition_id = v.partition_id AND i.watermark = v.watermark)";
    let orphans: i64 =
        sqlx::query_scalar(orphans).fetch_one(&mut it.superuser().await).await.unwrap();
    assert_eq!(orphans, 0);
    assert_eq!(found(&it.db, "a", Level::Instance, equals("041Y")).await, 10);
}

#[tokio::test]
async fn a_store_that_is_not_committed_makes_who_adds_a_tag_wait() {
    let it = Database::new().await;
    let mut storing = it.db.begin_store(&scope("a")).await.unwrap();
    store_in(&mut storing, &new_blob(), &[Sample::new(1, 1, 1).json(&age("041Y"))]).await.unwrap();
    let adding = tokio::spawn({
        let db = it.db.clone();
        async move { add_tag(&db, "a", "00101010", VR::AS, Level::Study).await }
    });
    // Others, meanwhile, store in other partitions, and read here.
    store(&it.db, "b", &[Sample::new(1, 1, 1)]).await;
    tags(&it.db, &scope("a")).await;
    assert!(!adding.is_finished());
    storing.commit().await.unwrap();
    adding.await.unwrap();
    work(&it.db, "a").await;
    assert_eq!(found(&it.db, "a", Level::Study, equals("041Y")).await, 1);
}
