//! Search finds what it must, in order, page by page.

use collimator::{
    dicom::{attributes::Level, kept, matching::Test},
    index::{Condition, Db, Include, RequestKey, SearchPlan, SearchRow, Within},
    tenancy::{Grants, Named, PartitionId, Permission, Scope, decide},
};

use crate::{
    data::{Sample, store, study_uid, uid},
    postgres::{Database, scope},
};

/// A scope of several partitions.
pub fn several(partitions: &[&str]) -> Scope {
    let partition = |id: &&str| (id.parse::<PartitionId>().unwrap(), Ok(()));
    let partitions = partitions.iter().map(partition).collect();
    let grants = Grants { partitions, every: true, may_create: false };
    decide(true, &Named::Nothing, &grants, Permission::Search).unwrap()
}

pub fn plan(level: Level, conditions: Vec<Condition>) -> SearchPlan {
    SearchPlan { level, within: Within::Archive, conditions, limit: 1000, offset: 0, after: None }
}

pub fn column(level: Level, column: &'static str, test: Test) -> Condition {
    Condition::Column { level, column, test }
}

fn name(test: Test) -> Condition {
    Condition::Name { level: Level::Study, column: "patient_name", test }
}

fn text(value: &str) -> String {
    value.to_owned()
}

async fn rows(db: &Db, scope: &Scope, plan: &SearchPlan, include: Include) -> Vec<SearchRow> {
    let mut tx = db.begin(scope).await.unwrap();
    let keys = tx.search_keys(plan).await.unwrap();
    let rows = tx.search_rows(plan.level, &keys, include, &[]).await.unwrap();
    assert_eq!(rows.len(), keys.len());
    // What is found and read by one statement is the same.
    let few = tx.search_few(plan, include, &[], |row| row).await.unwrap();
    assert!(few.is_none_or(|few| few == rows), "{plan:?}");
    if plan.offset == 0 && (keys.len() as i64) < plan.limit {
        assert_eq!(tx.search_count(plan, None, None).await.unwrap(), keys.len() as i64);
    }
    rows
}

/// The last components of the UIDs of the rows found in partition `a`.
pub async fn found(db: &Db, plan: &SearchPlan) -> Vec<String> {
    let rows = rows(db, &scope("a"), plan, Include::default()).await;
    rows.iter()
        .map(|row| {
            let uid = row.instance.as_ref().or(row.series.as_ref()).unwrap_or(&row.study);
            uid.as_str().trim_start_matches("1.2.").to_owned()
        })
        .collect()
}

/// Checks what conditions on studies find, without regard to order.
async fn check(db: &Db, conditions: Vec<Condition>, expected: &[&str]) {
    let mut studies = found(db, &plan(Level::Study, conditions.clone())).await;
    studies.sort();
    assert_eq!(studies, expected, "{conditions:?}");
}

async fn people() -> Database {
    let it = Database::new().await;
    let batch = [
        Sample::new(1, 1, 1)
            .key("patient_name", "SMITH^JOHN")
            .key("study_date", "20240101")
            .key("study_time", "080000.000000"),
        Sample::new(2, 2, 1)
            .key("patient_name", "SMITHSON^ANN")
            .key("patient_name_ideographic", "\u{5c71}\u{7530}^\u{592a}\u{90ce}")
            .key("patient_name_phonetic", "\u{3084}\u{307e}\u{3060}")
            .key("study_date", "20240102")
            .key("study_time", "235959.000000"),
        Sample::new(3, 1, 1)
            .key("patient_name", "50%_OFF\\^X")
            .key("study_date", "20240103")
            .key("study_time", ""),
        Sample::new(3, 2, 2).key("study_date", "20240103"),
        Sample::new(4, 1, 1).key("patient_name", "").key("study_date", "").key("study_time", ""),
    ];
    store(&it.db, "a", &batch).await;
    store(&it.db, "b", &[Sample::new(1, 1, 1).key("patient_name", "SMITH^OTHER")]).await;
    it
}

#[tokio::test]
async fn conditions_find_what_they_say() {
    let it = people().await;
    let db = &it.db;
    let like = |pattern: &str| vec![name(Test::Like(text(pattern)))];
    check(db, vec![], &["1", "2", "3", "4"]).await;
    check(db, like("SMITH*"), &["1", "2"]).await;
    check(db, like("SMITH^*"), &["1"]).await;
    check(db, like("*SON*"), &["2"]).await;
    check(db, like("SM?TH^JOHN"), &["1"]).await;
    check(db, like("50%*"), &["3"]).await;
    check(db, like("50%_OFF\\^?"), &["3"]).await;
    check(db, like("50__*"), &[]).await;
    check(db, like("*%*"), &["3"]).await;
    check(db, like("\u{5c71}*"), &["2"]).await;
    check(db, like("*\u{307e}\u{3060}"), &["2"]).await;
    check(db, like("*"), &["1", "2", "3"]).await;
    check(db, like("A\0*"), &[]).await;
    check(db, vec![name(Test::Equals(text("SMITH^JOHN")))], &["1"]).await;
    check(db, vec![column(Level::Study, "patient_name", Test::Empty)], &["4"]).await;
    let id = |test| vec![column(Level::Study, "patient_id", test)];
    check(db, id(Test::Equals(text("P2"))), &["2"]).await;
    check(db, id(Test::Equals(text("p2"))), &[]).await;
    check(db, id(Test::AnyOf(vec![text("P1"), text("P3")])), &["1", "3"]).await;
    let date = |from: Option<&str>, to: Option<&str>| {
        let (from, to) = (from.map(text), to.map(text));
        vec![column(Level::Study, "study_date", Test::Range { from, to })]
    };
    check(db, date(Some("20240102"), None), &["2", "3"]).await;
    check(db, date(None, Some("20240102")), &["1", "2"]).await;
    check(db, date(Some("20240102"), Some("20240102")), &["2"]).await;
    check(db, date(None, None), &["1", "2", "3"]).await;
    let two = [date(None, Some("20240102")), like("*SON*")].concat();
    check(db, two, &["2"]).await;
    let uids = [uid("1.2.1"), uid("1.2.4"), uid("1.2.99")];
    let uids = Test::AnyOf(uids.iter().map(|uid| text(uid.as_str())).collect());
    check(db, vec![column(Level::Study, "study_instance_uid", uids)], &["1", "4"]).await;
}

#[tokio::test]
async fn a_date_and_a_time_are_one_moment() {
    let it = people().await;
    let moment = |from: Option<(&str, &str)>, to: Option<(&str, &str)>| {
        let pair = |(date, time): (&str, &str)| (text(date), text(time));
        vec![Condition::Moment {
            level: Level::Study,
            date: "study_date",
            time: "study_time",
            from: from.map(pair),
            to: to.map(pair),
            offset: None,
        }]
    };
    let from = ("20240101", "090000.000000");
    let to = ("20240103", "000000.000000");
    check(&it.db, moment(Some(from), Some(to)), &["2"]).await;
    check(&it.db, moment(Some(("20240101", "080000.000000")), None), &["1", "2", "3"]).await;
    check(&it.db, moment(None, Some(("20240102", "235958.999999"))), &["1"]).await;
    check(&it.db, moment(None, None), &["1", "2", "3"]).await;
}

#[tokio::test]
async fn moments_are_compared_in_utc_where_both_sides_say_their_zone() {
    let it = Database::new().await;
    let zoned = |n, zone: &str| Sample::new(n, 1, 1).key("timezone_offset", zone);
    let at = |sample: Sample, date: &str, time: &str| {
        sample.key("study_date", date).key("study_time", time)
    };
    let batch = [
        // 2024-01-01 11:00 UTC
        at(zoned(1, "+0100"), "20240101", "120000.000000"),
        // 2024-01-02 02:30 UTC
        at(zoned(2, "-0530"), "20240101", "210000.000000"),
        // As written.
        at(zoned(3, ""), "20240101", "120000.000000"),
        at(zoned(4, "+0100"), "20240101", ""),
        at(zoned(5, "1"), "20240101", "233000.000000"),
        // 2023-12-31 22:00 UTC
        at(zoned(6, "+1400"), "20240101", "120000.000000"),
        at(zoned(7, "+0100"), "", "120000.000000"),
    ];
    store(&it.db, "a", &batch).await;
    let moment = |from: (&str, &str), to: (&str, &str), offset| {
        let pair = |(date, time): (&str, &str)| Some((text(date), text(time)));
        let (from, to) = (pair(from), pair(to));
        let (date, time) = ("study_date", "study_time");
        vec![Condition::Moment { level: Level::Study, date, time, from, to, offset }]
    };
    let (ten, noon) = (("20240101", "100000.000000"), ("20240101", "120000.000000"));
    check(&it.db, moment(ten, noon, None), &["1", "3", "6"]).await;
    check(&it.db, moment(ten, noon, Some(0)), &["1", "3"]).await;
    check(&it.db, moment(ten, noon, Some(60)), &["1", "3"]).await;
    check(&it.db, moment(ten, noon, Some(120)), &["3"]).await;
    let (eve, night) = (("20231231", "200000.000000"), ("20231231", "235959.999999"));
    check(&it.db, moment(eve, night, Some(0)), &["6"]).await;
    check(
        &it.db,
        moment(eve, ("20240102", "030000.000000"), Some(0)),
        &["1", "2", "3", "4", "5", "6"],
    )
    .await;
    // Beyond what a calendar has.
    let ends = (("00000101", "000000.000000"), ("99991231", "235960.999999"));
    check(&it.db, moment(ends.0, ends.1, Some(840)), &["1", "2", "3", "4", "5", "6"]).await;
}

#[tokio::test]
async fn one_item_of_the_requests_passes_all_tests() {
    let it = Database::new().await;
    let requests = |n: u32, items: &str| {
        let mut sample = Sample::new(n, 1, 1);
        let value = if items.is_empty() { String::new() } else { format!(r#","Value":[{items}]"#) };
        let json = format!(r#"{{"00400275":{{"vr":"SQ"{value}}}}}"#);
        sample.indexed.level_attributes[1] = json.into_bytes();
        sample
    };
    let item = |step: &str, procedure: &str| {
        format!(
            r#"{{"00400009":{{"vr":"SH","Value":["{step}"]}},"00401001":{{"vr":"SH","Value":["{procedure}"]}}}}"#
        )
    };
    let batch = [
        requests(1, &[item("S1", "R1"), item("S2", "R2")].join(",")),
        requests(2, &item("S1", "R2")),
        requests(3, &[item("S1", "R3"), item("S1", "R4")].join(",")),
        requests(4, "{}"),
        requests(5, ""),
    ];
    store(&it.db, "a", &batch).await;
    store(&it.db, "b", &batch).await;
    // The first sequence with items counts, as for the row.
    let mut later = requests(5, &item("S5", "R5"));
    later.indexed.instance = uid("1.2.5.1.2");
    store(&it.db, "a", &[later]).await;
    let mut ignored = requests(2, &item("S6", "R6"));
    ignored.indexed.instance = uid("1.2.2.1.2");
    store(&it.db, "a", &[ignored]).await;
    let (step, procedure) =
        (RequestKey::ScheduledProcedureStepId, RequestKey::RequestedProcedureId);
    let equals = |value: &str| Test::Equals(text(value));
    let check = async |tests: Vec<(RequestKey, Test)>, expected: &[&str]| {
        for level in [Level::Series, Level::Instance] {
            let found = found(&it.db, &plan(level, vec![Condition::Request(tests.clone())])).await;
            let mut studies: Vec<&str> =
                found.iter().map(|uid| uid.split('.').next().unwrap()).collect();
            studies.sort_unstable();
            studies.dedup();
            assert_eq!(studies, expected, "{tests:?}");
        }
    };
    check(vec![(step, equals("S1"))], &["1", "2", "3"]).await;
    check(vec![(step, equals("S1")), (procedure, equals("R2"))], &["2"]).await;
    check(vec![(procedure, Test::Like(text("R?"))), (step, equals("S2"))], &["1"]).await;
    check(vec![(step, equals("S5"))], &["5"]).await;
    check(vec![(step, equals("S6"))], &[]).await;
    check(vec![(step, Test::Empty)], &["4"]).await;
    check(vec![(step, Test::Like(text("*1")))], &["1", "2", "3"]).await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.delete(&crate::data::study(1), std::time::Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
    check(vec![(step, equals("S1"))], &["2", "3"]).await;
    check(vec![(step, equals("S2"))], &[]).await;
}

#[tokio::test]
async fn the_place_of_a_study_is_what_its_date_and_time_say() {
    let it = Database::new().await;
    let mut batch = Vec::new();
    let dates = ["00000101", "00010101", "20231231", "20240101", "20240229", "99991231"];
    let times =
        ["", "000000.000000", "000000.000001", "101560.999999", "101600.000000", "235960.500000"];
    for date in dates {
        for time in times {
            let n = batch.len() as u32 + 1;
            batch.push(Sample::new(n, 1, 1).key("study_date", date).key("study_time", time));
        }
    }
    store(&it.db, "a", &batch).await;
    let expected: Vec<String> = (1..=batch.len()).rev().map(|n| n.to_string()).collect();
    assert_eq!(found(&it.db, &plan(Level::Study, vec![])).await, expected);
    // A day of a range is all of it, also where it is no day of a calendar that begins with 1.
    for (n, date) in dates.into_iter().enumerate() {
        let day = column(Level::Study, "study_date", Test::Equals(text(date)));
        let of_day = found(&it.db, &plan(Level::Study, vec![day])).await;
        let first = batch.len() - (n + 1) * times.len();
        assert_eq!(of_day, expected[first..first + times.len()], "{date}");
    }
}

#[tokio::test]
async fn studies_are_found_by_what_is_in_them() {
    let it = people().await;
    let modalities = |tests: &[&str]| {
        let tests = tests.iter().map(|value| Test::Equals(text(value))).collect();
        vec![Condition::ModalitiesInStudy(tests)]
    };
    check(&it.db, modalities(&["CT"]), &["2", "3"]).await;
    check(&it.db, modalities(&["MR"]), &["1", "3", "4"]).await;
    check(&it.db, modalities(&["US", "CT"]), &["2", "3"]).await;
    check(&it.db, [modalities(&["CT"]), modalities(&["MR"])].concat(), &["3"]).await;
    let pattern = vec![Condition::ModalitiesInStudy(vec![Test::Like(text("C*"))])];
    check(&it.db, pattern, &["2", "3"]).await;
    let pattern = vec![Condition::ModalitiesInStudy(vec![Test::Like(text("?R"))])];
    check(&it.db, pattern, &["1", "3", "4"]).await;
    let both = Test::All(vec![Test::Equals(text("CT")), Test::Equals(text("MR"))]);
    check(&it.db, vec![Condition::ModalitiesInStudy(vec![both])], &["3"]).await;
    check(&it.db, vec![Condition::ModalitiesInStudy(vec![Test::Empty])], &[]).await;
    check(&it.db, vec![Condition::Never], &[]).await;
    let ct = vec![Condition::SopClassesInStudy(vec![uid("1.2.840.10008.5.1.4.1.1.2")])];
    check(&it.db, ct, &["1", "2", "3", "4"]).await;
    check(&it.db, vec![Condition::SopClassesInStudy(vec![uid("1.2")])], &[]).await;
}

#[tokio::test]
async fn series_and_instances_are_found_below_and_across() {
    let it = people().await;
    let mut series = plan(Level::Series, vec![]);
    assert_eq!(found(&it.db, &series).await.len(), 5);
    series.within = Within::Study(study_uid(3));
    assert_eq!(found(&it.db, &series).await, ["3.1", "3.2"]);
    series.conditions = vec![column(Level::Series, "modality", Test::Equals(text("CT")))];
    assert_eq!(found(&it.db, &series).await, ["3.2"]);
    series.within = Within::Archive;
    series.conditions.push(name(Test::Like(text("SMITH*"))));
    assert_eq!(found(&it.db, &series).await, ["2.2"]);

    let mut instances = plan(Level::Instance, vec![]);
    assert_eq!(found(&it.db, &instances).await.len(), 5);
    instances.within = Within::Series(study_uid(3), uid("1.2.3.2"));
    assert_eq!(found(&it.db, &instances).await, ["3.2.2"]);
    instances.within = Within::Series(study_uid(1), uid("1.2.3.2"));
    assert_eq!(found(&it.db, &instances).await, [""; 0]);
    instances.within = Within::Study(study_uid(3));
    instances.conditions =
        vec![column(Level::Instance, "instance_number", Test::Equals(text("1")))];
    assert_eq!(found(&it.db, &instances).await, ["3.1.1"]);
    instances.within = Within::Archive;
    instances.conditions = vec![
        column(Level::Study, "patient_id", Test::Equals(text("P3"))),
        column(Level::Series, "modality", Test::Equals(text("CT"))),
        column(Level::Instance, "sop_instance_uid", Test::Equals(text("1.2.3.2.2"))),
    ];
    assert_eq!(found(&it.db, &instances).await, ["3.2.2"]);

    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let lower = plan(Level::Study, vec![column(Level::Series, "modality", Test::Empty)]);
    assert!(tx.search_keys(&lower).await.is_err(), "a lower level's attribute does not match");
}

#[tokio::test]
async fn rows_say_what_was_asked_about_the_page() {
    let it = people().await;
    let everything = Include {
        study: true,
        series: true,
        study_facts: true,
        series_facts: true,
        sop_classes: true,
        transfer_syntaxes: true,
        metadata: true,
    };
    for level in [Level::Study, Level::Series, Level::Instance] {
        let mut plan = plan(level, vec![]);
        plan.within = Within::Study(study_uid(3));
        let rows = rows(&it.db, &scope("a"), &plan, everything).await;
        let last = rows.last().unwrap();
        assert_eq!(last.partition.as_str(), "a");
        assert_eq!(last.study, study_uid(3));
        assert_eq!(last.series.is_some(), level > Level::Study);
        assert_eq!(last.instance.is_some(), level > Level::Series);
        let filled = last.attributes.each_ref().map(Option::is_some);
        assert_eq!(filled, [true, level > Level::Study, level > Level::Series]);
        assert!(last.attributes[0].as_ref().unwrap().contains("P3"));
        assert_eq!(last.modalities, ["CT", "MR"]);
        assert_eq!((last.study_series, last.study_instances), (Some(2), Some(2)));
        assert_eq!(last.series_instances, (level > Level::Study).then_some(1));
        assert_eq!(last.sop_classes, ["1.2.840.10008.5.1.4.1.1.2"]);
        assert_eq!(last.transfer_syntaxes, ["1.2.840.10008.1.2.1"]);
        let metadata = (level > Level::Series).then(|| kept::compress(b"1.2.3.2.2").unwrap());
        assert_eq!(last.metadata, metadata);
    }
    let mut plan = plan(Level::Series, vec![]);
    plan.within = Within::Study(study_uid(3));
    let plain = &rows(&it.db, &scope("a"), &plan, Include::default()).await[0];
    assert_eq!(plain.attributes.each_ref().map(Option::is_some), [false, true, false]);
    assert_eq!((plain.study_series, plain.series_instances), (None, None));
}

#[tokio::test]
async fn pages_cover_every_partition_once_and_in_order() {
    let it = Database::new().await;
    let names = ["a", "b", "c", "d", "e"];
    // Uneven: `a` has most, `e` has none; some dates are shared, some missing.
    for (name, count) in names.iter().zip([40, 10, 2, 1, 0]) {
        let batch: Vec<Sample> = (1..=count)
            .map(|n| {
                let date =
                    if n % 7 == 0 { String::new() } else { format!("202401{:02}", n % 20 + 1) };
                Sample::new(n, n, n).key("study_date", &date)
            })
            .collect();
        store(&it.db, name, &batch).await;
    }
    let scope = several(&names);
    for level in [Level::Study, Level::Series, Level::Instance] {
        let all = plan(level, vec![]);
        let mut tx = it.db.begin(&scope).await.unwrap();
        let expected = tx.search_keys(&all).await.unwrap();
        assert_eq!(tx.search_count(&all, None, None).await.unwrap(), expected.len() as i64);
        assert_eq!(expected.len(), 53);
        for limit in [1, 3, 10, 60] {
            let mut paged = Vec::new();
            loop {
                let offset = paged.len() as i64;
                let page = SearchPlan { limit, offset, ..all.clone() };
                let page = tx.search_keys(&page).await.unwrap();
                if page.is_empty() {
                    break;
                }
                paged.extend(page);
            }
            assert_eq!(paged, expected, "{level:?} by {limit}");
        }
        let rows = tx.search_rows(level, &expected, Include::default(), &[]).await.unwrap();
        assert_eq!(rows.len(), 53);
        // One partition's rows come in the same order alone.
        let mut alone = it.db.begin(&crate::postgres::scope("a")).await.unwrap();
        let of_a = alone.search_keys(&all).await.unwrap();
        let a: Vec<_> = expected.iter().filter(|key| key.partition().as_str() == "a").collect();
        assert_eq!(of_a.iter().collect::<Vec<_>>(), a);
    }
}

#[tokio::test]
async fn a_search_sees_its_scope_alone() {
    let it = people().await;
    let smith = plan(Level::Study, vec![name(Test::Like(text("SMITH*")))]);
    for (scope, expected) in [
        (several(&["a", "b"]), 3),
        (several(&["b", "c"]), 1),
        (several(&["c", "d"]), 0),
        (several(&[]), 0),
        (several(&["b"]), 1),
    ] {
        assert_eq!(rows(&it.db, &scope, &smith, Include::default()).await.len(), expected);
    }
    // Keys of one scope are of no use in another.
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let keys = tx.search_keys(&smith).await.unwrap();
    let mut foreign = it.db.begin(&scope("b")).await.unwrap();
    let rows = foreign.search_rows(Level::Study, &keys, Include::default(), &[]).await.unwrap();
    assert!(rows.is_empty());
}
