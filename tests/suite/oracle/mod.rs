//! Search against an oracle: data sets and requests from a seed, and what the rules of PS3.4
//! §C.2.2.2 and PS3.18 §10.6, followed naively in memory, say of each.
//!
//! Holds: nothing here uses code of the server. Compared are the results and their order, the page,
//! what remains, what is warned of, and every attribute that is returned. `COLLIMATOR_ORACLE_SEED`
//! repeats a run, `COLLIMATOR_ORACLE_CASES` makes it longer.

mod data;
mod keys;
mod known;
mod model;
mod moments;
mod names;
mod queries;
mod random;
mod request;
mod returned;
mod rules;
mod search;
mod tags;
mod written;

use std::{collections::BTreeSet, env, ops::Range, time::SystemTime};

use futures::{StreamExt, stream};
use serde_json::Value;

use crate::harness::{Answer, Server};
use model::{Archive, Entity};
use random::Random;
use request::{Asked, Request};
use returned::Found;
use search::{QueryTag, Searched};

/// Requests in all, unless `COLLIMATOR_ORACLE_CASES` says otherwise.
const CASES: usize = 2_100;

/// Requests at a time.
const AT_ONCE: usize = 8;

/// Failures that are told.
const ENOUGH: usize = 12;

const PARTITIONS: [&str; 3] = ["alpha", "beta", "gamma"];

/// The largest pages, small enough to be met.
const LARGEST: [usize; 3] = [20, 25, 30];

/// Rows of a page whose attributes are compared.
const LOOKED_AT: usize = 8;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_what_the_rules_say() {
    let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("COLLIMATOR_ORACLE_SEED").unwrap_or(clock);
    let cases = number("COLLIMATOR_ORACLE_CASES").map_or(CASES, |cases| cases as usize);
    println!("COLLIMATOR_ORACLE_SEED={seed}");
    let mut random = Random(seed);
    let [studies, series, instances] = LARGEST.map(|largest| largest.to_string());
    let server = Server::with(&[
        ("features.enable_data_partition", "true"),
        ("search.max_studies", &studies),
        ("search.max_series", &series),
        ("search.max_instances", &instances),
    ])
    .await;
    let mut archive = Archive::default();
    let all = [0..60, 0..40, 0..20];
    fill(&server, &mut archive, &mut random, all).await;
    let mut tried = Tried::default();
    tried.round(&server, &archive, &[], &mut random, cases / 3).await;

    // Some of the data comes while what is stored is indexed.
    let tags = tags::chosen();
    let operations = tags::add(&server, &tags, &PARTITIONS).await;
    fill(&server, &mut archive, &mut random, [60..68, 40..48, 20..28]).await;
    tags::ended(&server, &operations).await;
    tried.round(&server, &archive, &tags, &mut random, cases / 3).await;

    delete(&server, &mut archive, &mut random).await;
    tried.round(&server, &archive, &tags, &mut random, cases - cases / 3 * 2).await;

    let Tried { found, none, failures, told } = tried;
    println!("{found} requests found something, {none} nothing");
    assert!(failures == 0, "COLLIMATOR_ORACLE_SEED={seed}: {failures} of {cases} differ{told}");
    // Otherwise the requests are aimed badly, and nothing was tried.
    assert!(found > none, "{found} requests found something, {none} nothing");
}

/// What became of the requests.
#[derive(Default)]
struct Tried {
    /// Answered as they must be, with results and without.
    found: usize,
    none: usize,
    /// Answered otherwise.
    failures: usize,
    told: String,
}

/// Stores what the seed says, request by request, the partitions in turns.
async fn fill(
    server: &Server,
    archive: &mut Archive,
    random: &mut Random,
    studies: [Range<usize>; 3],
) {
    let mut requests = Vec::new();
    for (partition, studies) in studies.into_iter().enumerate() {
        let of_one = data::requests(random, studies);
        requests.extend(of_one.into_iter().map(|request| (partition, request)));
    }
    random.shuffle(&mut requests);
    for (partition, request) in requests {
        let files: Vec<_> = request.iter().map(written::file).collect();
        let path = format!("/partitions/{}/studies", PARTITIONS[partition]);
        let answer = server.store(&path, &files).await;
        assert!([200, 202].contains(&answer.status), "{}", answer.text());
        assert!(answer.json().get("00081198").is_none(), "{}", answer.text());
        request.into_iter().for_each(|data| archive.store(partition, data));
    }
}

/// Deletes some studies, series and instances.
async fn delete(server: &Server, archive: &mut Archive, random: &mut Random) {
    for _ in 0..40 {
        let stored: Vec<usize> =
            (0..archive.instances.len()).filter(|n| archive.instances[*n].is_some()).collect();
        let chosen = *random.pick(&stored);
        let instance = archive.instances[chosen].as_ref().unwrap();
        let study = archive.studies[instance.study].as_ref().unwrap();
        let series = archive.series[instance.series].as_ref().unwrap();
        let mut path =
            format!("/partitions/{}/studies/{}", PARTITIONS[instance.partition], study.uid);
        let gone = match random.below(6) {
            0 => study.instances.clone(),
            1 => {
                path += &format!("/series/{}", series.uid);
                series.instances.clone()
            }
            _ => {
                path += &format!("/series/{}/instances/{}", series.uid, instance.uid);
                vec![chosen]
            }
        };
        server.delete(&path).await.is(204);
        archive.delete(&gone);
    }
}

impl Tried {
    /// Asks, and compares each answer.
    async fn round(
        &mut self,
        server: &Server,
        archive: &Archive,
        tags: &[QueryTag],
        random: &mut Random,
        cases: usize,
    ) {
        let searched = &Searched { archive, tags, partitions: &PARTITIONS, largest: LARGEST };
        let asked: Vec<Asked> = (0..cases)
            .map(|_| queries::ask(random, searched).expect("something is stored"))
            .collect();
        let mut outcomes = stream::iter(asked)
            .map(|asked| async move {
                let outcome = compare(server, searched, &asked).await;
                (asked, outcome)
            })
            .buffered(AT_ONCE);
        while let Some((asked, outcome)) = outcomes.next().await {
            match outcome {
                Ok(0) => self.none += 1,
                Ok(_) => self.found += 1,
                Err(_) if self.failures == ENOUGH => return,
                Err(_) => {
                    self.failures += 1;
                    let (asked, difference) = smallest(server, searched, asked).await;
                    self.told += &format!("\n{}. GET {}\n{difference}", self.failures, asked.url());
                }
            }
        }
    }
}

/// The same failure with as few parameters as show it.
async fn smallest(server: &Server, searched: &Searched<'_>, mut asked: Asked) -> (Asked, String) {
    let mut difference = String::new();
    let mut n = 0;
    while n < asked.parameters.len() {
        let mut less = asked.clone();
        less.parameters.remove(n);
        match compare(server, searched, &less).await {
            Ok(_) => n += 1,
            Err(_) => asked = less,
        }
    }
    if let Err(text) = compare(server, searched, &asked).await {
        difference = text;
    }
    (asked, difference)
}

/// How many results there are on the page, or how the answer differs.
async fn compare(server: &Server, searched: &Searched<'_>, asked: &Asked) -> Result<usize, String> {
    let answer = server.get(&asked.url()).await;
    let request = match asked.read(searched.partitions, searched.tags) {
        Ok(request) => request,
        Err(_) => return refused(&answer, &faults(searched, asked)),
    };
    let expected = searched.answer(&request);
    let status = if expected.page.is_empty() { 204 } else { 200 };
    if ![200, 204].contains(&answer.status) {
        return Err(format!("  {} {}", answer.status, answer.text()));
    }
    let results = match answer.status {
        200 => answer.json().as_array().unwrap().clone(),
        _ => Vec::new(),
    };
    let identity = |row: &Entity<'_>| {
        let series = row.series.map_or(&row.study.uid, |series| &series.uid);
        let uid = row.instance.map_or(series, |instance| &instance.uid);
        format!("{} {uid}", searched.partitions[row.study.partition])
    };
    let expected_rows: Vec<String> = expected.page.iter().map(identity).collect();
    let rows: Vec<String> = results.iter().map(|result| identity_of(&request, result)).collect();
    if rows != expected_rows || answer.status != status {
        let told = told_rows(&rows, &expected_rows, &expected);
        let differs = |row: &String| rows.contains(row) != expected_rows.contains(row);
        let all = searched.archive.entities(request.level);
        let named = all.iter().filter(|row| differs(&identity(row))).take(4);
        let values: String = named
            .map(|row| format!("  {} has {}\n", identity(row), searched.told(&request, row)))
            .collect();
        return Err(told + &values);
    }
    warned(&answer, searched, &request, expected.remaining)?;
    // Of a long page some rows, spread over it.
    let step = rows.len().div_ceil(LOOKED_AT).max(1);
    for (result, row) in results.iter().zip(&expected.page).step_by(step) {
        attributes(result, &searched.found(&request, row))?;
    }
    Ok(rows.len())
}

/// The parameters that are to be refused: of several, which one is named is nobody's rule.
fn faults(searched: &Searched<'_>, asked: &Asked) -> Vec<String> {
    let (mut left, mut faults) = (asked.clone(), Vec::new());
    while let Err(field) = left.read(searched.partitions, searched.tags) {
        left.parameters.retain(|(name, _)| *name != field);
        assert!(!faults.contains(&field), "{field} is refused, and no parameter");
        faults.push(field);
    }
    faults
}

fn refused(answer: &Answer, faults: &[String]) -> Result<usize, String> {
    if answer.status != 400 {
        return Err(format!("  {} instead of 400 for {faults:?}", answer.status));
    }
    let named = answer.json()["errors"][0]["field"].clone();
    let is_fault = faults.iter().any(|field| named == **field);
    if is_fault { Ok(0) } else { Err(format!("  400 for {named} instead of {faults:?}")) }
}

fn identity_of(request: &Request, result: &Value) -> String {
    let tag = ["0020000D", "0020000E", "00080018"][request.level as usize];
    let text = |tag: &str| result[tag]["Value"][0].as_str().unwrap_or("?").to_owned();
    format!("{} {}", text("00651001"), text(tag))
}

fn told_rows(rows: &[String], expected: &[String], answer: &search::Answer<'_>) -> String {
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (rows.iter().collect(), expected.iter().collect());
    let missing: Vec<_> = b.difference(&a).take(5).collect();
    let extra: Vec<_> = a.difference(&b).take(5).collect();
    let first = rows.iter().zip(expected).position(|(row, expected)| row != expected);
    format!(
        "  {} rows instead of {} (of {} matches); missing {missing:?}; too many {extra:?}; \
         the first that differs is {first:?}: {:?} instead of {:?}\n",
        rows.len(),
        expected.len(),
        answer.matches,
        first.map(|n| &rows[n]),
        first.map(|n| &expected[n]),
    )
}

/// The `Warning` says what remains and what was ignored, and nothing else.
fn warned(
    answer: &Answer,
    searched: &Searched<'_>,
    request: &Request,
    remaining: usize,
) -> Result<(), String> {
    const IGNORED: &str = "299 collimator: The following query parameters are not supported here \
                           and were ignored: ";
    let ignored = searched.ignored(request);
    let mut expects = Vec::new();
    if remaining > 0 {
        expects.push(format!(
            "299 collimator: There are {remaining} additional results that can be requested"
        ));
    }
    let warnings: Vec<&str> =
        answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    let (told, others): (Vec<&str>, Vec<&str>) =
        warnings.iter().partition(|warning| warning.starts_with(IGNORED));
    let names: BTreeSet<&str> = told.iter().flat_map(|t| t[IGNORED.len()..].split(", ")).collect();
    if others != expects || names != ignored.iter().map(String::as_str).collect() {
        return Err(format!(
            "  warned {warnings:?} instead of {expects:?} and ignored {ignored:?}"
        ));
    }
    Ok(())
}

/// Every attribute of a result is right, none is missing and none too many.
fn attributes(result: &Value, expected: &Found) -> Result<(), String> {
    let result = result.as_object().unwrap();
    let mut told = Vec::new();
    for (key, value) in &expected.attributes {
        match result.get(key) {
            None => told.push(format!("lacks {key} {value}")),
            Some(found) if written::same(found, value) => {}
            Some(found) => told.push(format!("{key}: {found} instead of {value}")),
        }
    }
    for (key, value) in result.iter().filter(|(key, _)| !expected.attributes.contains_key(*key)) {
        let optional = expected.optional.get(key);
        if key == "00081190" {
            let url = value["Value"][0].as_str().unwrap_or_default();
            let names = ["studies", "series", "instances"].iter().zip(&expected.uids);
            let path: String = names.map(|(name, uid)| format!("/{name}/{uid}")).collect();
            if !url.split('?').next().is_some_and(|url| url.ends_with(&path)) {
                told.push(format!("has the RetrieveURL {url}"));
            }
        } else if !optional.is_some_and(|optional| written::same(value, optional)) {
            told.push(format!("has {key} {value}"));
        }
    }
    if !result.contains_key("00081190") {
        told.push("lacks its URL".to_owned());
    }
    match told.is_empty() {
        true => Ok(()),
        false => Err(format!("  {}: {}\n", expected.uids.join("/"), told.join("\n    "))),
    }
}
