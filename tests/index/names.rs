//! Names are found as an oracle finds them, which knows no index: patterns and words, of patients
//! and of physicians, whichever way the search takes.

use std::collections::BTreeSet;

use collimator::{
    dicom::{
        attributes::{self, Level},
        matching::{Test, Word},
        names,
    },
    index::{Condition, SearchPlan, migrate},
};

use crate::{
    data::{Sample, store, study},
    postgres::{Database, owner, scope},
    search::{column, found, plan},
};

const COLUMNS: [[&str; 3]; 2] = [
    ["patient_name", "patient_name_ideographic", "patient_name_phonetic"],
    [
        "referring_physician_name",
        "referring_physician_name_ideographic",
        "referring_physician_name_phonetic",
    ],
];

/// A small generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const FAMILIES: [&str; 12] = [
    "smith",
    "smyth",
    "smithson",
    "schmidt",
    "li",
    "lee",
    "o'neil",
    "van der berg",
    "anna",
    "m",
    "50%_x",
    "",
];
const GIVEN: [&str; 8] = ["john", "jonh", "jo", "anna maria", "ann", "", "j.", "smith"];
const OTHERS: [&str; 5] = ["", "", "山田^太郎", "иванова^анна", "やまだ^たろう"];

fn name(dice: &mut Dice) -> [String; 3] {
    let alphabetic = format!("{}^{}", dice.one(&FAMILIES), dice.one(&GIVEN));
    let alphabetic = alphabetic.trim_end_matches('^').to_owned();
    [alphabetic, dice.one(&OTHERS).to_owned(), dice.one(&OTHERS).to_owned()]
}

/// Whether a pattern matches a text.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
        Some((c, rest)) => text
            .split_first()
            .is_some_and(|(first, text)| (*c == '?' || c == first) && matches(rest, text)),
    }
}

/// Whether a name passes a test.
fn passes(name: &[String; 3], test: &Test) -> bool {
    let mut groups = name.iter().filter(|group| !group.is_empty());
    match test {
        Test::Equals(value) => groups.any(|group| group == value),
        Test::Like(pattern) => {
            let pattern: Vec<char> = pattern.chars().collect();
            groups.any(|group| matches(&pattern, &group.chars().collect::<Vec<_>>()))
        }
        Test::Fuzzy(word) => groups.flat_map(|group| names::words(group)).any(|found| {
            found.starts_with(&word.text)
                || (word.sound.is_some() && names::sound(found) == word.sound)
        }),
        Test::Empty => groups.next().is_none(),
        Test::All(tests) => tests.iter().all(|test| passes(name, test)),
        Test::Any(tests) => tests.iter().any(|test| passes(name, test)),
        _ => unreachable!(),
    }
}

fn fuzzy(text: &str) -> Test {
    Test::Fuzzy(Word { text: text.to_owned(), sound: names::sound(text) })
}

/// A pattern out of a name that is there, and of one that is not.
fn pattern(dice: &mut Dice, name: &str) -> String {
    let mut text: Vec<char> = name.chars().collect();
    for _ in 0..dice.below(3) {
        if text.is_empty() {
            break;
        }
        let at = dice.below(text.len());
        match dice.below(3) {
            0 => text[at] = '?',
            1 => {
                let end = at + dice.below(text.len() - at) + 1;
                text.splice(at..end, ['*']);
            }
            _ => text[at] = 'x',
        }
    }
    if dice.below(2) == 0 {
        text.truncate(dice.below(text.len() + 1));
        text.push('*');
    }
    if dice.below(3) == 0 {
        text.insert(0, '*');
    }
    text.into_iter().collect()
}

fn test(dice: &mut Dice, name: &[String; 3]) -> Test {
    let group = name[dice.below(3)].clone();
    match dice.below(9) {
        0 => Test::Equals(group),
        1..=3 => Test::Like(pattern(dice, &group)),
        4 => {
            Test::All(vec![Test::Like(pattern(dice, &group)), Test::Like(pattern(dice, &name[0]))])
        }
        8 => {
            let length = 4 + dice.below(4);
            Test::Like(group.chars().take(length).chain(['*']).collect())
        }
        5 => Test::Any(vec![Test::Like(pattern(dice, &group)), Test::Equals(name[1].clone())]),
        _ => {
            let words = names::words(&group).chain(names::words(&name[0]));
            let words: Vec<&str> = words.take(1 + dice.below(3)).collect();
            let mut cut = |word: &str| {
                let length = 1 + dice.below(word.chars().count());
                word.chars().take(length).collect::<String>()
            };
            Test::All(words.into_iter().map(|word| fuzzy(&cut(word))).collect())
        }
    }
}

#[tokio::test]
async fn names_are_found_as_an_oracle_finds_them() {
    let seed = 20_261_126;
    let mut dice = Dice(seed);
    let it = Database::new().await;
    let people: Vec<[[String; 3]; 2]> =
        (0..150).map(|_| [name(&mut dice), name(&mut dice)]).collect();
    let batch: Vec<Sample> = (1..)
        .zip(&people)
        .map(|(n, person)| {
            let columns = COLUMNS.iter().flatten().zip(person.iter().flatten());
            columns.fold(Sample::new(n, 1, 1), |sample, (column, value)| sample.key(column, value))
        })
        .collect();
    store(&it.db, "a", &batch).await;
    // Others' names are nobody's business.
    store(&it.db, "b", &batch[..20]).await;
    let (mut some, mut lists) = (0, 0);
    for round in 0..300 {
        let which = dice.below(2);
        let from = &people[dice.below(people.len())][which];
        let test = test(&mut dice, from);
        if test == Test::Equals(String::new()) {
            continue;
        }
        let expected: BTreeSet<String> = (1..)
            .zip(&people)
            .filter(|(_, person)| passes(&person[which], &test))
            .map(|(n, _): (u32, _)| n.to_string())
            .collect();
        let keyword = ["PatientName", "ReferringPhysicianName"][which];
        let conditions = Condition::on(attributes::by_keyword(keyword).unwrap(), test);
        let what = format!("seed {seed}, round {round}: {conditions:?}");
        let plain = plan(Level::Study, conditions.clone());
        let told =
            it.db.begin(&scope("a")).await.unwrap().search_told(plain.clone()).await.unwrap();
        lists += usize::from(told.conditions != plain.conditions);
        for plan in [plain, told] {
            let studies = found(&it.db, &plan).await;
            let unique: BTreeSet<String> = studies.iter().cloned().collect();
            assert_eq!(unique.len(), studies.len(), "{what}: a study comes twice");
            assert_eq!(unique, expected, "{what}");
        }
        // The same as a filter beside a key that goes before, and of what is below.
        let id = crate::search::column(Level::Study, "study_id", Test::Like("*".to_owned()));
        let conditions = [conditions, vec![id]].concat();
        let series = found(&it.db, &plan(Level::Series, conditions)).await;
        assert_eq!(series.len(), expected.len(), "{what}: series");
        some += usize::from(!expected.is_empty());
    }
    assert!(some > 100, "{some} of the searches find something");
    assert!(lists > 5, "{lists} of the searches are for first components");
}

#[tokio::test]
async fn terms_follow_what_a_study_says() {
    let it = Database::new().await;
    let word = |text: &str| Condition::Name {
        level: Level::Study,
        column: "patient_name",
        test: fuzzy(text),
    };
    let search =
        async |condition: Condition| found(&it.db, &plan(Level::Study, vec![condition])).await;
    let modality = |value: &str| Condition::ModalitiesInStudy(vec![Test::Equals(value.to_owned())]);
    // The first instance says neither name nor date.
    let bare =
        Sample::new(1, 1, 1).key("patient_name", "").key("study_date", "").key("modality", "");
    store(&it.db, "a", &[bare, Sample::new(2, 1, 1)]).await;
    assert_eq!(search(word("smith")).await, [""; 0]);
    assert_eq!(search(modality("US")).await, [""; 0]);
    store(
        &it.db,
        "a",
        &[Sample::new(1, 1, 2)
            .key("patient_name", "smith^john")
            .key("study_date", "20300101")
            .key("modality", "US")],
    )
    .await;
    assert_eq!(search(word("smith")).await, ["1"]);
    assert_eq!(search(modality("US")).await, ["1"]);
    // With its date it comes before the other one, under each of its terms.
    let class = |class: &str| Condition::SopClassesInStudy(vec![class.parse().unwrap()]);
    assert_eq!(search(class("1.2.840.10008.5.1.4.1.1.2")).await, ["1", "2"]);
    let day = column(Level::Study, "study_date", Test::Equals("20300101".to_owned()));
    let both = found(&it.db, &plan(Level::Study, vec![day, modality("US"), word("jo")])).await;
    assert_eq!(both, ["1"]);

    store(&it.db, "a", &[Sample::new(1, 2, 3)]).await;
    assert_eq!(search(modality("CT")).await, ["1"]);
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.delete(&crate::data::series(1, 2), std::time::Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(search(modality("CT")).await, [""; 0]);
    assert_eq!(search(modality("US")).await, ["1"]);
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.delete(&study(1), std::time::Duration::ZERO).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(search(word("smith")).await, [""; 0]);
    assert_eq!(search(modality("US")).await, [""; 0]);
    let left =
        sqlx::query("SELECT FROM study_term WHERE study_key NOT IN (SELECT study_key FROM study)")
            .fetch_all(&mut it.superuser().await)
            .await
            .unwrap();
    assert!(left.is_empty());
}

/// A name that begins alike in two component groups is one name, also where there are too many to be
/// put in order.
#[tokio::test]
async fn names_with_several_groups_are_counted_once() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    let load = "
        INSERT INTO partition (partition_id) VALUES ('a');
        INSERT INTO study (partition_id, study_instance_uid, attributes, patient_name,
                patient_name_ideographic)
            SELECT 'a', '1.2.' || n, '{}',
                CASE WHEN n <= 2600 THEN 'longname' ELSE 'othername' END || n,
                CASE WHEN n <= 2600 AND n % 10 = 0 THEN 'longname' || n END
            FROM generate_series(1, 5200) n;
        UPDATE archive SET filled = 0";
    sqlx::raw_sql(load).execute(&mut conn).await.unwrap();
    migrate(owner(&it.name)).await.unwrap();
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    for start in ["longname*", "othername*"] {
        let test = Test::Like(start.to_owned());
        let name = Condition::Name { level: Level::Study, column: "patient_name", test };
        let page = SearchPlan { limit: 50, ..plan(Level::Study, vec![name]) };
        let found = tx.search_page(&page).await.unwrap();
        assert_eq!((found.keys.len(), found.behind), (50, None), "{start}");
        for most in [1, 100, 2_549, 2_550, 2_551, 10_000] {
            let behind = SearchPlan { after: found.keys.last().cloned(), ..page.clone() };
            for way in [Some(&found), None] {
                let count = tx.search_count(&behind, Some(most), way).await.unwrap();
                assert_eq!(count, most.min(2_550), "{start}");
            }
        }
        assert_eq!(tx.search_count(&page, None, Some(&found)).await.unwrap(), 2_600, "{start}");
    }
}

/// Studies that an earlier rule gave no terms of two words, though this one does, are found beside those
/// that have them, and once where they have both.
#[tokio::test]
async fn names_with_and_without_terms_of_two_words_are_found_together() {
    let it = Database::new().await;
    let named = |n: u32, groups: [&str; 3]| {
        let columns = COLUMNS[0].iter().zip(groups);
        columns.fold(Sample::new(n, 1, 1), |sample, (column, value)| sample.key(column, value))
    };
    let three = ["yamada^tarou", "山田^太郎", "やまだ^たろう"];
    let mut batch: Vec<Sample> = (1..=3).map(|n| named(n, three)).collect();
    batch.push(named(4, ["yamada^tarou^anna^bert^carl", "", ""]));
    batch.push(named(5, ["yamada^hanako", "山田^花子", "やまだ^はなこ"]));
    store(&it.db, "a", &batch).await;
    let mut conn = it.superuser().await;
    // The first one has what the earlier rule gave it, and the second one both.
    let load = "
        DELETE FROM study_term WHERE term LIKE 'p:%'
            AND study_key IN (SELECT study_key FROM study WHERE study_id = '1');
        INSERT INTO study_term (partition_id, study_key, term, study_order)
            SELECT partition_id, study_key, 'p:', study_order FROM study
            WHERE study_id IN ('1', '2')";
    sqlx::raw_sql(load).execute(&mut conn).await.unwrap();
    let unpaired = async |conn: &mut sqlx::PgConnection| {
        let sql = "SELECT study_id FROM study JOIN study_term USING (partition_id, study_key)
            WHERE term = 'p:' ORDER BY study_id";
        sqlx::query_scalar::<_, String>(sql).fetch_all(conn).await.unwrap()
    };
    assert_eq!(unpaired(&mut conn).await, ["1", "2", "4"]);
    for filled in [false, true] {
        if filled {
            let sql = "UPDATE archive SET filled = 0";
            sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
            migrate(owner(&it.name)).await.unwrap();
        }
        for (words, expected) in [
            (["yamada", "tarou"], &["1", "2", "3", "4"][..]),
            (["yam", "tar"], &["1", "2", "3", "4"]),
            (["iamada", "tarou"], &["1", "2", "3", "4"]),
            (["iamada", "taru"], &["1", "2", "3", "4"]),
            (["yamada", "たろう"], &["1", "2", "3"]),
            (["やまだ", "たろう"], &["1", "2", "3"]),
            (["やまだ", "はなこ"], &["5"]),
            (["やまだ", "anna"], &[]),
        ] {
            let test = Test::All(words.map(fuzzy).to_vec());
            let name = attributes::by_keyword("PatientName").unwrap();
            let mut studies = found(&it.db, &plan(Level::Study, Condition::on(name, test))).await;
            studies.sort();
            assert_eq!(studies, expected, "{words:?}, filled in anew: {filled}");
        }
    }
}
