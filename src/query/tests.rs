//! What parameters of Search mean, and where each is answered.

use super::*;
use crate::{
    archive::{Condition, RequestKey, Source, TagState},
    dicom::matching::{KeyTest, Test},
};

const CONFIG: SearchConfig = SearchConfig {
    max_studies: 5_000,
    max_series: 5_000,
    max_instances: 50_000,
    timeout: std::time::Duration::from_secs(10),
    max_counted: 10_000,
    max_filtered: 10_000,
    no_match: 204,
};

fn at(level: Level, query: &str, tags: &[SearchTag]) -> Result<SearchQuery, QueryError> {
    read(&Resource { level, study: None, series: None }, query, &CONFIG, tags)
}

fn studies(query: &str) -> Result<SearchQuery, QueryError> {
    at(Level::Study, query, &[])
}

fn instances(query: &str) -> Result<SearchQuery, QueryError> {
    at(Level::Instance, query, &[])
}

fn equals(value: &str) -> Test {
    Test::Equals(value.into())
}

fn key(day: &str, clock: &str) -> Option<(String, String)> {
    Some((day.to_owned(), clock.to_owned()))
}

#[test]
fn keys_with_columns_are_conditions() {
    for (query, keyword, expected) in [
        ("PatientID=12%2034", "PatientID", equals("12 34")),
        ("00100020=a*", "PatientID", Test::Like("a*".into())),
        ("PatientName=DOE%5EJ*", "PatientName", Test::Like("doe^j*".into())),
        ("StudyDate=20200101", "StudyDate", equals("20200101")),
        ("StudyInstanceUID=1.2", "StudyInstanceUID", Test::AnyOf(vec!["1.2".into()])),
        (
            "StudyInstanceUID=1.2&0020000D=1.3%5C%5C1.4",
            "StudyInstanceUID",
            Test::AnyOf(vec!["1.2".into(), "1.3".into(), "1.4".into()]),
        ),
        ("PatientSex=%22%22&emptyvaluematching=true", "PatientSex", Test::Empty),
        // Two quotes and nothing else; with more it is text like any other.
        ("AccessionNumber=%20%22%22&emptyvaluematching=true", "AccessionNumber", equals("\"\"")),
        ("PatientID=a%5Cb", "PatientID", equals("a\\b")),
        (
            "PatientID=a%5Cb&multiplevaluematching=true",
            "PatientID",
            Test::All(vec![equals("a"), equals("b")]),
        ),
    ] {
        let read = studies(query).unwrap();
        let row = attributes::by_keyword(keyword).unwrap();
        assert_eq!(read.plan.conditions, Condition::on(row, expected), "{query}");
        assert!(read.warnings.is_empty() && read.filters.is_empty());
        assert!(read.returned.tags.contains(&row.tag));
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
fn dates_and_times_are_one_where_both_are_ranges() {
    let moment = |date, time, level, from, to, offset| {
        vec![Condition::Moment { level, date, time, from, to, offset }]
    };
    let study = |from, to, zone| moment("study_date", "study_time", Level::Study, from, to, zone);
    for (query, expected) in [
        (
            "StudyDate=20200101-20200103&StudyTime=10-12",
            study(key("20200101", "100000.000000"), key("20200103", "125959.999999"), None),
        ),
        (
            "StudyTime=12-10&StudyDate=20200101-20200103",
            study(key("20200101", "120000.000000"), key("20200103", "105959.999999"), None),
        ),
        ("StudyDate=20200101-&StudyTime=10-", study(key("20200101", "100000.000000"), None, None)),
        (
            "StudyDate=20200101-20200101&StudyTime=10-11",
            study(key("20200101", "100000.000000"), key("20200101", "115959.999999"), None),
        ),
        (
            "StudyDate=20200101&TimezoneOffsetFromUTC=-0530",
            study(key("20200101", "000000.000000"), key("20200101", "235959.999999"), Some(-330)),
        ),
        (
            "StudyDate=20200101&StudyTime=10&00080201=%2B0100",
            study(key("20200101", "100000.000000"), key("20200101", "105959.999999"), Some(60)),
        ),
        (
            "StudyDate=20200101-20200103&StudyTime=10-12&TimezoneOffsetFromUTC=+0100",
            study(key("20200101", "100000.000000"), key("20200103", "125959.999999"), Some(60)),
        ),
    ] {
        assert_eq!(studies(query).unwrap().plan.conditions, expected, "{query}");
    }
    // A single one stays a condition of its own; so does a time alone, whatever the zone.
    for query in [
        "StudyDate=20200101-20200103&StudyTime=10",
        "StudyDate=20200101-20200103&StudyTime=103015.000001",
        "StudyDate=20200101&StudyTime=10-11",
        "StudyTime=10-11&StudyDate=&TimezoneOffsetFromUTC=%2B0100",
        "StudyTime=10-11&PatientBirthDate=20000101-20010101&TimezoneOffsetFromUTC=%2B0100",
    ] {
        let read = studies(query).unwrap();
        let columns = |c: &Condition| matches!(c, Condition::Column { .. });
        assert!(read.plan.conditions.iter().all(columns), "{query}: {:?}", read.plan.conditions);
    }
    let zoned = studies("StudyDate=20200101-20200103&StudyTime=10&TimezoneOffsetFromUTC=%2B0100");
    let conditions = zoned.unwrap().plan.conditions;
    assert!(matches!(
        conditions[..],
        [
            Condition::Moment { offset: Some(60), .. },
            Condition::Column { column: "study_time", .. }
        ]
    ));
}

#[test]
fn a_pair_without_columns_is_a_filter_that_its_date_narrows() {
    let query = "PatientBirthDate=20000101-20010101&PatientBirthTime=10-12";
    let read = studies(query).unwrap();
    let test = Test::Range { from: Some("20000101".into()), to: Some("20010101".into()) };
    let row = attributes::by_keyword("PatientBirthDate").unwrap();
    assert_eq!(read.plan.conditions, Condition::on(row, test));
    let [filter] = read.filters.as_slice() else { panic!("{:?}", read.filters) };
    assert_eq!((filter.level, filter.from), (Level::Study, Source::Attributes));
    assert!(matches!(&filter.test, KeyTest::Moment { from: Some(from), .. }
        if *from == ("20000101".to_owned(), "100000.000000".to_owned())));
    // Within one item as well.
    let query = "ReferencedStudySequence.StudyDate=20200101-&ReferencedStudySequence.StudyTime=10-";
    let read = studies(query).unwrap();
    let KeyTest::Item { tests, .. } = &read.filters[0].test else { panic!("{:?}", read.filters) };
    assert!(matches!(tests.as_slice(), [KeyTest::Moment { .. }]), "{tests:?}");
}

#[test]
fn modalities_and_classes_are_of_the_study() {
    let modalities = |tests: &[Test]| Condition::ModalitiesInStudy(tests.to_vec());
    let (ct, mr) = (equals("CT"), equals("MR"));
    let both = || vec![modalities(&[ct.clone(), mr.clone()])];
    for (query, expected) in [
        ("ModalitiesInStudy=CT", vec![modalities(std::slice::from_ref(&ct))]),
        ("ModalitiesInStudy=CT,MR", both()),
        ("ModalitiesInStudy=CT%5CMR", both()),
        ("ModalitiesInStudy=CT&00080061=MR", both()),
        ("ModalitiesInStudy=C*", vec![modalities(&[Test::Like("C*".into())])]),
        ("ModalitiesInStudy=CT,*", vec![]),
        (
            "ModalitiesInStudy=CT%5CMR&multiplevaluematching=true",
            vec![modalities(std::slice::from_ref(&ct)), modalities(std::slice::from_ref(&mr))],
        ),
        ("ModalitiesInStudy=%22%22&emptyvaluematching=true", vec![modalities(&[Test::Empty])]),
        (
            "SOPClassesInStudy=1.2,1.3",
            vec![Condition::SopClassesInStudy(vec![
                "1.2".parse().unwrap(),
                "1.3".parse().unwrap(),
            ])],
        ),
        (
            "SOPClassesInStudy=1.2&SOPClassesInStudy=1.3&multiplevaluematching=true",
            vec![
                Condition::SopClassesInStudy(vec!["1.2".parse().unwrap()]),
                Condition::SopClassesInStudy(vec!["1.3".parse().unwrap()]),
            ],
        ),
        ("SOPClassesInStudy=%22%22&emptyvaluematching=true", vec![Condition::Never]),
        ("InstanceAvailability=ONLINE", vec![]),
        ("InstanceAvailability=O*", vec![]),
        ("InstanceAvailability=NEARLINE", vec![Condition::Never]),
        ("InstanceAvailability=%22%22&emptyvaluematching=true", vec![Condition::Never]),
    ] {
        assert_eq!(studies(query).unwrap().plan.conditions, expected, "{query}");
    }
    let read = instances("AvailableTransferSyntaxUID=1.2.840.10008.1.2.1").unwrap();
    assert!(matches!(
        read.plan.conditions[..],
        [Condition::Column { column: "transfer_syntax_uid", .. }]
    ));
    let read = studies("AvailableTransferSyntaxUID=1.2&NumberOfStudyRelatedSeries=3").unwrap();
    assert!(read.warnings[0].ends_with("AvailableTransferSyntaxUID, NumberOfStudyRelatedSeries"));
}

#[test]
fn what_no_index_answers_is_a_filter_at_its_level() {
    for (level, query, from) in [
        (Level::Study, "PatientComments=*x*", Source::Attributes),
        (Level::Series, "PatientComments=*x*", Source::Attributes),
        (Level::Series, "ProtocolName=x", Source::Attributes),
        (Level::Instance, "Rows=512", Source::Attributes),
        (Level::Instance, "SliceThickness=1.5", Source::Metadata),
        (Level::Instance, "00181FFF=x", Source::Metadata),
        (Level::Instance, "00231001=x&00230010=ACME", Source::Metadata),
        (Level::Study, "OtherPatientIDsSequence.PatientID=x", Source::Attributes),
        (Level::Instance, "AcquisitionContextSequence.0040A30A=1.5", Source::Metadata),
    ] {
        let read = at(level, query, &[]).unwrap();
        assert!(read.plan.conditions.is_empty() && read.warnings.is_empty(), "{query}");
        let [filter] = read.filters.as_slice() else { panic!("{query}: {:?}", read.filters) };
        assert_eq!(filter.from, from, "{query}");
        assert_eq!(filter.name, query.split(['=', '&']).next().unwrap());
    }
    // Lower attributes do not match at a higher level, and neither does what is nowhere.
    for (query, ignored) in [
        ("Modality=CT", "Modality"),
        ("Rows=512&SliceThickness=1", "Rows, SliceThickness"),
        ("00231001=x&00230010=ACME", "00231001"),
        ("RequestAttributesSequence.00400009=x", "RequestAttributesSequence.00400009"),
        ("00230010=ACME", "00230010"),
        ("00020010=1.2&00100000=1&PixelData=x", "00020010, 00100000, PixelData"),
    ] {
        let read = studies(query).unwrap();
        assert!(read.plan.conditions.is_empty() && read.filters.is_empty(), "{query}");
        let words = format!("not supported here and were ignored: {ignored}");
        assert!(read.warnings[0].ends_with(&words), "{query}: {:?}", read.warnings);
    }
}

#[test]
fn keys_of_one_sequence_are_of_one_item() {
    let both = "RequestAttributesSequence.ScheduledProcedureStepID=S1&\
                00400275.RequestedProcedureID=P*";
    let request = Condition::Request(vec![
        (RequestKey::ScheduledProcedureStepId, equals("S1")),
        (RequestKey::RequestedProcedureId, Test::Like("P*".into())),
    ]);
    let read = at(Level::Series, both, &[]).unwrap();
    assert_eq!(read.plan.conditions, [request]);
    assert!(read.returned.tags.contains(&Tag(0x0040, 0x0275)));
    // With another key the index does not say whether it is the same item.
    let more = format!("{both}&RequestAttributesSequence.AccessionNumber=A");
    let read = at(Level::Series, &more, &[]).unwrap();
    assert!(read.plan.conditions.is_empty());
    let KeyTest::Item { tests, .. } = &read.filters[0].test else { panic!("{:?}", read.filters) };
    assert_eq!((read.filters.len(), tests.len()), (1, 3));
    // Deeper sequences stay inside their item.
    let deep = "ProcedureCodeSequence.CodeValue=a&\
                ProcedureCodeSequence.EquivalentCodeSequence.CodeValue=b&\
                ProcedureCodeSequence.EquivalentCodeSequence.CodingSchemeDesignator=";
    let read = studies(deep).unwrap();
    let KeyTest::Item { tests, .. } = &read.filters[0].test else { panic!("{:?}", read.filters) };
    assert!(matches!(tests.as_slice(), [KeyTest::Value { .. }, KeyTest::Item { tests, .. }]
        if tests.len() == 1));
    // Only the sequence itself can be empty.
    let read = studies("ProcedureCodeSequence=%22%22&emptyvaluematching=true").unwrap();
    assert!(matches!(read.filters[0].test, KeyTest::Value { test: Test::Empty, .. }));
    assert!(studies("ProcedureCodeSequence.CodeValue=").unwrap().filters.is_empty());
}

fn tag(id: i64, at: Element, vr: VR, level: Level, state: TagState) -> SearchTag {
    SearchTag { id, at, vr, level, state, erroneous: id == 9 }
}

#[test]
fn extended_query_tags_answer_at_their_level() {
    use TagState::{Adding, Disabled, Ready};
    let thickness = Element::Standard(Tag(0x0018, 0x0050));
    let comments = Element::Standard(Tag(0x0010, 0x4000));
    let private = Element::Private { group: 0x0023, creator: "ACME".into(), element: 1 };
    let on = |id, level, test| vec![Condition::Tag { tag: id, level, test }];
    let one = |at: &Element, level, state| [tag(7, at.clone(), VR::DS, level, state)];

    let study = Level::Study;
    let read = at(study, "SliceThickness=1.50", &one(&thickness, study, Ready)).unwrap();
    assert_eq!(read.plan.conditions, on(7, study, equals("1.5")));
    assert!(read.filters.is_empty() && read.erroneous.is_empty());
    // Of a lower level than the results it does not match.
    let read = at(study, "SliceThickness=1", &one(&thickness, Level::Series, Ready)).unwrap();
    assert!(read.warnings[0].ends_with("SliceThickness"));
    // A private one lends its creator and its VR.
    let tags = [tag(9, private, VR::IS, Level::Instance, Ready)];
    let read = at(Level::Instance, "00231001=007", &tags).unwrap();
    assert_eq!(read.plan.conditions, on(9, Level::Instance, equals("7")));
    assert_eq!(read.erroneous, ["00231001"]);
    let read = at(Level::Instance, "includefield=00231001", &tags).unwrap();
    assert_eq!(read.returned.paths, [vec![tags[0].at.clone()]]);

    // While it is being indexed, what is stored is looked at, if that says the same.
    let adding = |query, tagged: Level, level| at(level, query, &one(&thickness, tagged, Adding));
    let read = adding("SliceThickness=1", Level::Instance, Level::Instance).unwrap();
    assert_eq!(read.filters.len(), 1);
    for (tagged, level) in [(study, study), (study, Level::Instance)] {
        let problem = adding("SliceThickness=1", tagged, level).unwrap_err();
        assert!(problem.reason.contains("incompletetags=true"));
        let read = adding("SliceThickness=1&incompletetags=true", tagged, level).unwrap();
        assert_eq!(read.plan.conditions, on(7, tagged, equals("1")));
        assert_eq!(
            read.warnings,
            ["Results may be incomplete, since these attributes are still \
            being indexed: SliceThickness"]
        );
    }
    let comments = [tag(7, comments, VR::LT, study, Adding)];
    assert_eq!(at(study, "PatientComments=x", &comments).unwrap().filters.len(), 1);
    let problem = at(study, "00180050=1", &one(&thickness, study, Disabled)).unwrap_err();
    assert_eq!(problem.field, "00180050");
    assert_eq!(problem.reason, "Query is disabled on specified attribute");
    // Only to be returned it may be whatever it is.
    assert!(at(study, "00180050=", &one(&thickness, study, Disabled)).is_ok());
}

#[test]
fn private_attributes_go_by_their_creator() {
    let private =
        |creator: &str| Element::Private { group: 0x0023, creator: creator.into(), element: 1 };
    let read = instances("00230011=B%20C%20&00231101=x").unwrap();
    assert_eq!(*read.filters[0].test.at(), private("B C"));
    assert_eq!(read.returned.paths, [vec![private("B C")]]);
    // In items: the one of the same path goes before that of the data set.
    let query = "00101002.00231001=x&00230010=OUTER&00101002.00230010=INNER";
    let read = instances(query).unwrap();
    let KeyTest::Item { tests, .. } = &read.filters[0].test else { panic!("{:?}", read.filters) };
    assert_eq!(*tests[0].at(), private("INNER"));
    assert!(read.warnings[0].ends_with("00230010"), "{:?}", read.warnings);
    for (query, field) in [
        ("00231001=x", "00231001"),
        ("00231001=x&00230011=ACME", "00231001"),
        ("00230100=x", "00230100"),
        ("00231001=x&00230010=", "00231001"),
        ("00230010=A&00230010=B", "00230010"),
        ("includefield=00231001", "includefield"),
    ] {
        let problem = instances(query).expect_err(query);
        assert_eq!(problem.field, field, "{query}");
    }
    let problem = instances("00231001=x").unwrap_err();
    assert!(problem.reason.contains("add the parameter 00230010"));
}

#[test]
fn fields_are_keywords_tags_and_paths() {
    let read = studies("includefield=PatientComments,00081030&includefield=00081032.00080100");
    let returned = read.unwrap().returned;
    assert_eq!(
        returned.tags.into_iter().collect::<Vec<_>>(),
        [Tag(0x0008, 0x1030), Tag(0x0010, 0x4000)]
    );
    let path = [Tag(0x0008, 0x1032), Tag(0x0008, 0x0100)].map(Element::Standard);
    assert_eq!(returned.paths, [path.to_vec()]);
    assert!(studies("includefield=all").unwrap().returned.all);
    let read = studies("includefield=microsoft.partitionId,PatientID,00651001").unwrap();
    assert!(read.returned.tags.contains(&Tag(0x0010, 0x0020)) && read.returned.paths.is_empty());
    assert!(read.warnings.is_empty());
}

#[test]
fn the_zone_of_a_query_is_returned_and_does_not_match_by_itself() {
    for query in ["TimezoneOffsetFromUTC=%2B0100", "TimezoneOffsetFromUTC=", "00080201=*"] {
        let read = studies(query).unwrap();
        assert!(read.plan.conditions.is_empty() && read.filters.is_empty());
        assert!(read.returned.tags.contains(&TIMEZONE));
        assert!(read.warnings.is_empty());
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
        ("emptyvaluematching=", "emptyvaluematching"),
        ("multiplevaluematching=1", "multiplevaluematching"),
        ("incompletetags=TRUE", "incompletetags"),
        ("StudyDate=2020-01-01", "StudyDate"),
        ("StudyDate=20200230", "StudyDate"),
        ("StudyDate=20200102-20200101", "StudyDate"),
        ("StudyDate=-", "StudyDate"),
        ("StudyTime=25", "StudyTime"),
        ("StudyTime=11-10", "StudyTime"),
        ("StudyDate=20200101&StudyTime=11-10", "StudyTime"),
        ("StudyDate=20200101-20200101&StudyTime=11-10", "StudyTime"),
        ("StudyDate=20200101&StudyTime=11-10&TimezoneOffsetFromUTC=-0100", "StudyTime"),
        ("StudyInstanceUID=abc", "StudyInstanceUID"),
        ("SOPClassesInStudy=abc", "SOPClassesInStudy"),
        ("ModalitiesInStudy=%01", "ModalitiesInStudy"),
        ("PatientID=1&00100020=1", "00100020"),
        ("TimezoneOffsetFromUTC=0100", "TimezoneOffsetFromUTC"),
        ("TimezoneOffsetFromUTC=-0100&00080201=-0100", "00080201"),
        ("ProcedureCodeSequence=x", "ProcedureCodeSequence"),
        ("PatientID.PatientID=x", "PatientID.PatientID"),
        ("PatientSize=x", "PatientSize"),
        ("includefield=Nothing", "includefield"),
        ("includefield=all&includefield=PatientID", "includefield"),
    ] {
        let problem = studies(query).expect_err(query);
        assert_eq!(problem.field, field, "{query}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("0018{:04X}=1", 0x1000 + n)).collect();
    assert!(studies(&many.join("&")).is_err());
    let fields = vec!["PatientID"; 1_001].join(",");
    assert!(studies(&format!("includefield={fields}")).is_err());
}

#[test]
fn what_is_ignored_is_told() {
    let query = studies("limit=10&SeriesNumber=1&foo=bar&bad%0D%0Aname=1&a.b=1").unwrap();
    let words = "not supported here and were ignored: SeriesNumber, foo, a.b";
    assert!(query.warnings[0].ends_with(words), "{:?}", query.warnings);
    for switch in ["fuzzymatching", "emptyvaluematching", "multiplevaluematching"] {
        for value in ["true", "false"] {
            assert!(studies(&format!("{switch}={value}")).unwrap().warnings.is_empty());
        }
    }
    assert!(studies("microsoft.partitionId=a&00651001=a&accept=x").unwrap().warnings.is_empty());
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

/// What viewers send.
#[test]
fn queries_of_clients_are_understood_without_complaint() {
    let ohif = "limit=101&offset=0&fuzzymatching=true&\
        includefield=00081030%2C00080060%2C00080090%2C00100030&PatientName=*MÜL*&00100020=*1*&\
        AccessionNumber=*A*&StudyDescription=*head*&ModalitiesInStudy=CT%2CMR&\
        StudyDate=20200101-20201231";
    let read = studies(ohif).unwrap();
    assert_eq!((read.plan.conditions.len(), read.plan.limit), (6, 101));
    assert!(read.filters.is_empty() && read.warnings.is_empty(), "{read:?}");
    let uids = studies("StudyInstanceUID=1.2%5C%5C1.3").unwrap();
    let Condition::Column { test: Test::AnyOf(list), .. } = &uids.plan.conditions[0] else {
        panic!("{uids:?}")
    };
    assert_eq!(list.len(), 2);
    let weasis = "00100020=P1&includefield=00080020,00080030,00080050,00080061,00080090,00081030,\
        00100010,00100020,00100021,00100030,00100040,0020000D,00200010";
    assert!(studies(weasis).unwrap().warnings.is_empty());
    let monai = at(Level::Series, "SeriesInstanceUID=1.2&Modality=CT", &[]).unwrap();
    assert_eq!(monai.plan.conditions.len(), 2);
}
