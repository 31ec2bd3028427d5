//! Searches over many partitions: the same rows in the same order as from one, and nobody else's.

use collimator::{
    dicom::{attributes::Level, matching::Test},
    index::{Condition, Include, RowKey, SearchPlan},
    tenancy::Scope,
};

use crate::{
    data::{Sample, store},
    postgres::Database,
    search::{column, plan, several},
};

/// Partitions `p00` and on: few studies in most, many in some; `foreign` has all that they have.
async fn filled() -> (Database, Vec<String>) {
    let it = Database::new().await;
    let names: Vec<String> = (0..40).map(|n| format!("p{n:02}")).collect();
    for (n, name) in (0..).zip(&names) {
        let studies: u32 = match n % 10 {
            0 => 0,
            1 => 30,
            _ => 3,
        };
        let batch: Vec<Sample> = (0..studies).map(|s| sample(n * 100 + s)).collect();
        if !batch.is_empty() {
            store(&it.db, name, &batch).await;
            store(&it.db, "foreign", &batch).await;
        }
    }
    (it, names)
}

fn sample(n: u32) -> Sample {
    let date = if n.is_multiple_of(11) {
        String::new()
    } else {
        format!("2024{:02}{:02}", n % 12 + 1, n % 27 + 1)
    };
    Sample::new(n, n % 3, 1)
        .key("study_date", &date)
        .key("patient_name", ["smith^john", "smithers^ann", "li^jo"][n as usize % 3])
}

fn conditions() -> Vec<Vec<Condition>> {
    let name = |test| Condition::Name { level: Level::Study, column: "patient_name", test };
    let like = |pattern: &str| Test::Like(pattern.to_owned());
    let range = Test::Range { from: Some("20240301".to_owned()), to: Some("20240901".to_owned()) };
    vec![
        vec![],
        vec![Condition::ModalitiesInStudy(vec![Test::Equals("CT".to_owned())])],
        vec![name(like("smi*"))],
        vec![name(like("smithe*"))],
        vec![name(like("*^jo*"))],
        vec![column(Level::Study, "patient_id", like("*1*"))],
        vec![column(Level::Study, "patient_sex", Test::Empty)],
        vec![column(Level::Study, "study_date", range), name(like("*^j*"))],
        vec![column(
            Level::Study,
            "study_instance_uid",
            Test::AnyOf(vec!["1.2.101".into(), "1.2.203".into()]),
        )],
    ]
}

async fn keys(it: &Database, scope: &Scope, plan: &SearchPlan) -> Vec<RowKey> {
    it.db.begin(scope).await.unwrap().search_keys(plan).await.unwrap()
}

#[tokio::test]
async fn pages_of_many_partitions_are_those_of_each_put_together() {
    let (it, names) = filled().await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scope = several(&names);
    for level in [Level::Study, Level::Series, Level::Instance] {
        for conditions in conditions() {
            let all = plan(level, conditions);
            let what = format!("{all:?}");
            let expected = keys(&it, &scope, &all).await;
            let mut one_by_one = Vec::new();
            for name in &names {
                one_by_one.extend(keys(&it, &several(&[name]), &all).await);
            }
            assert_eq!(expected.len(), one_by_one.len(), "{what}");
            assert!(one_by_one.iter().all(|key| expected.contains(key)), "{what}");
            let mut tx = it.db.begin(&scope).await.unwrap();
            for most in [None, Some(5), Some(1_000)] {
                let count = tx.search_count(&all, most, None).await.unwrap();
                assert_eq!(count, (expected.len() as i64).min(most.unwrap_or(i64::MAX)), "{what}");
            }
            for limit in [1, 7, 50] {
                let mut paged: Vec<RowKey> = Vec::new();
                loop {
                    // By offset, and from where the last page ended: both go on there.
                    let by_offset = SearchPlan { limit, offset: paged.len() as i64, ..all.clone() };
                    let by_offset = tx.search_keys(&by_offset).await.unwrap();
                    let after = SearchPlan { limit, after: paged.last().cloned(), ..all.clone() };
                    let behind = tx.search_count(&after, None, None).await.unwrap();
                    assert_eq!(behind, (expected.len() - paged.len()) as i64, "{what}");
                    let page = tx.search_keys(&after).await.unwrap();
                    assert_eq!(page, by_offset, "{what}");
                    if page.is_empty() || (limit == 1 && paged.len() > 20) {
                        break;
                    }
                    paged.extend(page);
                }
                assert!(expected.starts_with(&paged), "{what} by {limit}");
                assert!(limit == 1 || paged.len() == expected.len(), "{what} by {limit}");
            }
            // Rows of few and of many partitions, in whatever order they are asked for.
            for few in [&expected[..], &expected[..expected.len().min(3)]] {
                let rows = tx.search_rows(level, few, everything(), &[]).await.unwrap();
                assert_eq!(rows.len(), few.len(), "{what}");
                for (row, key) in rows.iter().zip(few) {
                    assert_eq!(&row.partition, key.partition(), "{what}");
                    assert_eq!(row.study_instances, Some(1), "{what}");
                    assert_eq!(row.sop_classes.len(), 1, "{what}");
                    assert_eq!(row.transfer_syntaxes.len(), 1, "{what}");
                }
            }
        }
    }
}

fn everything() -> Include {
    Include {
        study: true,
        series: true,
        study_facts: true,
        series_facts: true,
        sop_classes: true,
        transfer_syntaxes: true,
        metadata: true,
    }
}

#[tokio::test]
async fn going_through_partitions_shows_nothing_of_others() {
    let (it, names) = filled().await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let all = plan(Level::Study, vec![]);
    let foreign = keys(&it, &several(&["foreign"]), &all).await;
    assert!(!foreign.is_empty());
    let scope = several(&names[..20]);
    let mut tx = it.db.begin(&scope).await.unwrap();
    let found = tx.search_keys(&all).await.unwrap();
    assert!(found.iter().all(|key| scope.partitions().contains(key.partition())));
    // The last statement left the scope at one partition; what comes next sees all of its own.
    assert_eq!(tx.search_count(&all, None, None).await.unwrap(), found.len() as i64);
    let rows = tx.search_rows(Level::Study, &found, everything(), &[]).await.unwrap();
    assert_eq!(rows.len(), found.len());
    assert_eq!(tx.search_keys(&all).await.unwrap(), found);
    // Foreign keys among one's own find nothing, whichever way rows are read.
    for own in [&found[..], &found[..2]] {
        let mixed: Vec<RowKey> = own.iter().chain(&foreign).cloned().collect();
        let rows = tx.search_rows(Level::Study, &mixed, everything(), &[]).await.unwrap();
        assert_eq!(rows.len(), own.len());
    }
    assert!(tx.search_rows(Level::Study, &foreign, everything(), &[]).await.unwrap().is_empty());
}
