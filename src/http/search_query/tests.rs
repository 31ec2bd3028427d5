//! What parameters of Search mean.

use super::*;

const CONFIG: SearchConfig =
    SearchConfig { max_studies: 5_000, max_series: 5_000, max_instances: 50_000, no_match: 204 };

fn studies(query: &str) -> Result<SearchQuery, Problem> {
    let resource = Resource { level: Level::Study, study: None, series: None };
    read(&resource, query, &CONFIG)
}

#[test]
fn values_become_tests() {
    let range = |from: &str, to: &str| Test::Range {
        from: (!from.is_empty()).then(|| from.to_owned()),
        to: (!to.is_empty()).then(|| to.to_owned()),
    };
    for (query, keyword, expected) in [
        ("PatientID=12%2034", "PatientID", Test::Equals("12 34".into())),
        ("00100020=a*", "PatientID", Test::Like("a*".into())),
        ("PatientName=DOE%5EJ*", "PatientName", Test::Like("doe^j*".into())),
        ("StudyDate=20200101", "StudyDate", Test::Equals("20200101".into())),
        ("StudyDate=20200101-", "StudyDate", range("20200101", "")),
        ("StudyDate=-20200101", "StudyDate", range("", "20200101")),
        ("StudyDate=20200101-20200102", "StudyDate", range("20200101", "20200102")),
        ("StudyTime=10-1130", "StudyTime", range("100000.000000", "113059.999999")),
        ("StudyTime=10", "StudyTime", range("100000.000000", "105959.999999")),
        (
            "StudyInstanceUID=1.2%5C%5C1.3",
            "StudyInstanceUID",
            Test::AnyOf(vec!["1.2".into(), "1.3".into()]),
        ),
    ] {
        let query = studies(query).unwrap();
        let row = attributes::by_keyword(keyword).unwrap();
        assert_eq!(query.plan.conditions, [Condition::on(row, expected).unwrap()]);
        assert!(query.warnings.is_empty());
    }
}

#[test]
fn what_matches_everything_is_no_condition_but_is_returned() {
    for query in ["PatientID=", "PatientID=*", "PatientID=**", "StudyDate=*&PatientID="] {
        let query = studies(query).unwrap();
        assert!(query.plan.conditions.is_empty());
        assert!(query.returned.tags.contains(&Tag(0x0010, 0x0020)));
    }
}

#[test]
fn a_date_range_and_its_time_range_are_one() {
    let query = studies("StudyDate=20200101-20200103&StudyTime=10-12").unwrap();
    match query.plan.conditions.as_slice() {
        [Condition::Moment { from: Some(from), to: Some(to), .. }] => {
            assert_eq!(from, &("20200101".to_owned(), "100000.000000".to_owned()));
            assert_eq!(to, &("20200103".to_owned(), "125959.999999".to_owned()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_single_time_beside_a_date_range_is_a_condition_of_its_own() {
    for time in ["10", "1030", "103015", "103015.000001"] {
        let query = studies(&format!("StudyDate=20200101-20200103&StudyTime={time}")).unwrap();
        assert!(
            matches!(
                query.plan.conditions[..],
                [
                    Condition::Column { column: "study_date", .. },
                    Condition::Column { column: "study_time", .. }
                ]
            ),
            "{time}: {:?}",
            query.plan.conditions
        );
    }
}

#[test]
fn bad_values_name_their_parameter() {
    for (query, field) in [
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("offset=a", "offset"),
        ("limit=1&limit=1", "limit"),
        ("fuzzymatching=yes", "fuzzymatching"),
        ("StudyDate=2020-01-01", "StudyDate"),
        ("StudyDate=20200230", "StudyDate"),
        ("StudyDate=20200102-20200101", "StudyDate"),
        ("StudyDate=-", "StudyDate"),
        ("StudyTime=25", "StudyTime"),
        ("StudyInstanceUID=abc", "StudyInstanceUID"),
        ("PatientID=1&00100020=1", "00100020"),
        ("includefield=Nothing", "includefield"),
        ("includefield=all&includefield=PatientID", "includefield"),
    ] {
        let problem = studies(query).expect_err(query);
        assert_eq!(problem.status(), 400, "{query}");
        assert_eq!(problem.errors()[0].field, field, "{query}");
    }
}

#[test]
fn what_is_ignored_is_told() {
    let query = studies("limit=10&SeriesNumber=1&foo=bar&bad%0D%0Aname=1").unwrap();
    let words = "not supported here and were ignored: SeriesNumber, foo";
    assert!(query.warnings[0].ends_with(words), "{:?}", query.warnings);
    let query = studies("fuzzymatching=true").unwrap();
    assert_eq!(
        query.warnings,
        ["The fuzzymatching parameter is not supported. Only literal matching has been \
          performed."]
    );
    assert!(studies("fuzzymatching=false&microsoft.partitionId=a").unwrap().warnings.is_empty());
}

#[test]
fn limits_are_clamped_not_refused() {
    for (query, limit, offset) in [
        ("", 5_000, 0),
        ("limit=7&offset=3", 7, 3),
        ("limit=99999999999999999999", 5_000, 0),
        ("limit=0", 0, 0),
    ] {
        let plan = studies(query).unwrap().plan;
        assert_eq!((plan.limit, plan.offset), (limit, offset), "{query}");
    }
}

#[test]
fn the_partition_can_be_included_by_its_keyword() {
    let query = studies("includefield=microsoft.partitionId,PatientID").unwrap();
    assert!(query.returned.tags.contains(&Tag(0x0010, 0x0020)));
    assert!(query.warnings.is_empty());
}
