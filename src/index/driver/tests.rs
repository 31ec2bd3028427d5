//! What is chosen, and for which places.

use super::*;
use crate::dicom::{matching::Word, names};

fn column(column: &'static str, test: Test) -> Condition {
    Condition::Column { level: Level::Study, column, test }
}

fn name(test: Test) -> Condition {
    Condition::Name { level: Level::Study, column: "patient_name", test }
}

fn physician(test: Test) -> Condition {
    Condition::Name { level: Level::Study, column: "referring_physician_name", test }
}

fn like(pattern: &str) -> Test {
    Test::Like(pattern.to_owned())
}

fn is(value: &str) -> Test {
    Test::Equals(value.to_owned())
}

fn fuzzy(text: &str) -> Test {
    Test::Fuzzy(Word { text: text.to_owned(), sound: names::sound(text) })
}

fn plan(level: Level, conditions: Vec<Condition>) -> SearchPlan {
    SearchPlan { level, within: Within::Archive, conditions, limit: 100, offset: 0, after: None }
}

/// Lanes and sets of a choice, in short; `!` stands before those whose condition is still tested.
fn chosen(plan: &SearchPlan) -> (Vec<String>, Vec<String>) {
    let access = choose(plan).unwrap();
    let test = |meet: &[usize]| if meet.is_empty() { "!" } else { "" };
    let lanes = access.lanes.iter().map(|lane| {
        let text = match lane {
            Lane::Term(term) => term.clone(),
            Lane::Is(column, value) => format!("{column}={value}"),
            Lane::Null(column) => format!("{column}=NULL"),
            Lane::Request(key, value) => {
                format!("{}={value}", crate::index::filter::request_column(*key))
            }
            Lane::Study(study) => format!("in {}", study.as_str()),
            Lane::Series(_, series) => format!("in {}", series.as_str()),
        };
        format!("{}{text}", test(&access.lanes_meet))
    });
    let sets = access.sets.iter().map(|set| {
        let text = match set {
            Set::Column(column, _) => (*column).to_owned(),
            Set::Terms(start) => format!("{start}*"),
            Set::Term(term) => term.clone(),
            Set::TermsOf(start, end) => format!("{start}* {end}*"),
            Set::Words(term, words) => format!("{term} and {} words", words.len()),
            Set::Uids(uids) => uids.join(","),
            Set::Tag(tag, _) => format!("tag {tag}"),
            Set::Under(plan) => format!("under {:?}", plan.level),
        };
        format!("{}{text}", test(&access.sets_meet))
    });
    (lanes.collect(), sets.collect())
}

#[test]
fn one_condition_is_answered_by_its_index() {
    let modalities = |tests: Vec<Test>| Condition::ModalitiesInStudy(tests);
    for (condition, lanes, sets) in [
        (column("patient_id", is("P1")), &["patient_id=P1"][..], &[][..]),
        (column("patient_id", like("P1")), &["patient_id=P1"], &[]),
        (column("patient_id", like("P1*")), &[], &["patient_id"]),
        (column("patient_id", like("*")), &[], &[]),
        (column("study_description", like("*X*")), &[], &["study_description"]),
        (column("patient_sex", Test::Empty), &["patient_sex=NULL"], &[]),
        (column("study_date", is("20240101")), &[], &[]),
        (column("study_instance_uid", is("1.2")), &[], &["1.2"]),
        (
            name(is("a^b")),
            &["patient_name=a^b", "patient_name_ideographic=a^b", "patient_name_phonetic=a^b"],
            &[],
        ),
        (name(like("smi*")), &["n:smi"], &[]),
        (name(like("s*")), &["n:s"], &[]),
        (name(like("smi?")), &["!n:smi"], &[]),
        (
            name(like("smith*")),
            &["!n:smi"],
            &["patient_name", "patient_name_ideographic", "patient_name_phonetic"],
        ),
        (name(like("*x^jo*")), &["!t:x^j"], &[]),
        (name(like("*^jo")), &["!t:^jo"], &[]),
        (name(like("*^j*")), &["!w:j"], &[]),
        (name(like("**son*")), &["t:son"], &[]),
        (name(like("*son")), &["!t:son"], &[]),
        (
            name(like("*a*")),
            &[],
            &["patient_name", "patient_name_ideographic", "patient_name_phonetic"],
        ),
        (name(like("?*")), &[], &[]),
        (name(fuzzy("smi")), &["w:smi", "s:SM"], &[]),
        (name(fuzzy("smith")), &["!w:smi", "!s:SMT"], &["w:smith*", "s:SMT"]),
        (name(fuzzy("山田")), &["w:山田"], &[]),
        (name(Test::All(vec![fuzzy("jo"), fuzzy("smi")])), &["!w:smi", "!s:SM"], &[]),
        (physician(fuzzy("ho")), &[], &["rw:ho*", "rs:H"]),
        (physician(fuzzy("hou")), &["rw:hou", "rs:H"], &[]),
        (
            physician(like("hou*")),
            &["!rw:hou"],
            &[
                "referring_physician_name",
                "referring_physician_name_ideographic",
                "referring_physician_name_phonetic",
            ],
        ),
        (physician(like("*^gre*")), &["!rw:gre"], &[]),
        (
            physician(like("*^gr*")),
            &[],
            &[
                "referring_physician_name",
                "referring_physician_name_ideographic",
                "referring_physician_name_phonetic",
            ],
        ),
        (modalities(vec![is("CT"), is("MR")]), &["m:CT", "m:MR"], &[]),
        (modalities(vec![Test::All(vec![is("CT"), is("MR")])]), &["!m:CT"], &[]),
        (modalities(vec![like("C*")]), &[], &[]),
        (Condition::SopClassesInStudy(vec!["1.2".parse().unwrap()]), &["c:1.2"], &[]),
    ] {
        let (found_lanes, found_sets) = chosen(&plan(Level::Study, vec![condition.clone()]));
        assert_eq!((&*found_lanes, &*found_sets), (&*owned(lanes), &*owned(sets)), "{condition:?}");
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn of_several_conditions_the_most_telling_one_is_taken() {
    let sex = column("patient_sex", is("F"));
    let id = column("accession_number", is("A1"));
    let ct = Condition::ModalitiesInStudy(vec![is("CT")]);
    for (conditions, lanes) in [
        (vec![sex.clone(), ct.clone()], "m:CT"),
        (vec![ct.clone(), name(like("smi*")), sex.clone()], "n:smi"),
        (vec![sex, ct, name(like("smith*")), id], "accession_number=A1"),
        (
            vec![
                name(like("smi*")),
                Condition::Terms(vec!["f:smith".to_owned()]),
                name(like("s*")),
            ],
            "f:smith",
        ),
    ] {
        assert_eq!(chosen(&plan(Level::Study, conditions)).0, [lanes]);
    }
}

#[test]
fn two_words_of_a_patient_are_found_under_both() {
    let word = |text| name(fuzzy(text));
    let id = column("accession_number", is("A1"));
    for (conditions, sets, meet) in [
        (
            vec![word("jos"), word("an"), word("smith")],
            &["p:jos smith* jos*", "p:SMT jos*", "p:JS smith*", "p:JS SMT", "p: and 2 words"][..],
            vec![2, 0],
        ),
        (
            vec![word("jos"), word("jos")],
            &["p:jos jos* jos*", "p:JS jos*", "p:JS jos*", "s:JS", "w:jos*", "p: and 2 words"],
            vec![0, 1],
        ),
        (
            vec![word("山田太郎"), word("山田太")],
            &["p:山田太 山田太郎* 山田太*", "w:山田太郎*", "p: and 2 words"],
            vec![0, 1],
        ),
        (vec![word("jos"), word("an")], &[], vec![]),
        (vec![word("jos"), word("smith"), id], &[], vec![]),
        (vec![physician(fuzzy("gre")), physician(fuzzy("hou"))], &[], vec![]),
    ] {
        let what = format!("{conditions:?}");
        let plan = plan(Level::Study, conditions);
        let found = chosen(&plan).1;
        assert_eq!((&*found, choose(&plan).unwrap().sets_meet), (&*owned(sets), meet), "{what}");
    }
}

#[test]
fn what_many_rows_pass_is_read_side_by_side() {
    let ct = || Condition::ModalitiesInStudy(vec![is("CT")]);
    let term = |term: &str| vec![Lane::Term(term.to_owned())];
    let sex = Lane::Is("patient_sex", "F".to_owned());
    for (conditions, lists, meet) in [
        (vec![ct()], vec![], vec![]),
        (vec![ct(), name(like("s?*"))], vec![term("m:CT"), term("n:s")], vec![0]),
        (vec![ct(), column("patient_sex", is("F"))], vec![term("m:CT"), vec![sex]], vec![0, 1]),
        (
            vec![Condition::ModalitiesInStudy(vec![Test::All(vec![is("CT"), is("MR")])])],
            vec![term("m:CT"), term("m:MR")],
            vec![0],
        ),
        (
            vec![name(Test::All(vec![fuzzy("john"), fuzzy("sm")]))],
            vec![[term("w:joh"), term("s:JN")].concat(), [term("w:sm"), term("s:SM")].concat()],
            vec![],
        ),
        (vec![name(like("*xyz^a*"))], vec![term("t:xyz"), term("t:yz^"), term("t:z^a")], vec![]),
        (vec![ct(), column("patient_id", Test::Empty)], vec![], vec![]),
        (vec![ct(), column("patient_id", like("P1*"))], vec![], vec![]),
    ] {
        let what = format!("{conditions:?}");
        let access = choose(&plan(Level::Study, conditions)).unwrap();
        assert_eq!((access.lists, access.lists_meet), (lists, meet), "{what}");
    }
}

#[test]
fn lower_levels_go_by_their_own_columns_or_by_their_parents() {
    let modality = Condition::Column { level: Level::Series, column: "modality", test: is("CT") };
    let id = column("patient_id", is("P1"));
    let step = Condition::Request(vec![
        (RequestKey::ScheduledProcedureStepId, is("S")),
        (RequestKey::RequestedProcedureId, like("R*")),
    ]);
    let (none, under_study, under_series) =
        (Vec::<String>::new(), owned(&["under Study"]), owned(&["under Series"]));
    let at = |level, conditions: Vec<&Condition>| {
        chosen(&plan(level, conditions.into_iter().cloned().collect()))
    };
    assert_eq!(at(Level::Series, vec![&modality]), (owned(&["modality=CT"]), none.clone()));
    assert_eq!(at(Level::Series, vec![&modality, &id]), (none.clone(), under_study.clone()));
    assert_eq!(
        at(Level::Series, vec![&step]),
        (owned(&["!scheduled_procedure_step_id=S"]), none.clone())
    );
    assert_eq!(at(Level::Instance, vec![&id]), (none.clone(), under_study.clone()));
    assert_eq!(at(Level::Instance, vec![&step, &id]), (none.clone(), under_series));
    let mut within = plan(Level::Series, vec![modality]);
    within.within = Within::Study("1.2".parse().unwrap());
    assert_eq!(chosen(&within), (none.clone(), owned(&["!under Study"])));
    let mut within = plan(Level::Instance, vec![]);
    within.within = Within::Series("1.2".parse().unwrap(), "1.2.3".parse().unwrap());
    assert_eq!(chosen(&within), (owned(&["!in 1.2.3"]), none));
}

#[test]
fn values_of_extended_query_tags_are_sets() {
    for (level, own, test, expected) in [
        (Level::Study, Level::Study, is("A"), &["!tag 7"][..]),
        (Level::Instance, Level::Instance, is("A"), &["tag 7"]),
        (Level::Instance, Level::Study, is("A"), &["under Study"]),
        (Level::Study, Level::Study, fuzzy("smith"), &["!tag 7"]),
        (Level::Study, Level::Study, Test::All(vec![fuzzy("smith"), is("A")]), &["!tag 7"]),
        (Level::Instance, Level::Instance, like("A*"), &["tag 7"]),
        (Level::Study, Level::Study, Test::Empty, &[]),
        (Level::Study, Level::Study, Test::Any(vec![is("A"), Test::Empty]), &[]),
        (Level::Study, Level::Study, like("*"), &[]),
    ] {
        let condition = Condition::Tag { tag: 7, level: own, test };
        let what = format!("{level:?} {condition:?}");
        let sets: Vec<String> = expected.iter().map(|set| (*set).to_owned()).collect();
        assert_eq!(chosen(&plan(level, vec![condition])), (vec![], sets), "{what}");
    }
}
