//! New versions that share bytes with the first ones: every way to read gives them as one file, and
//! what they share stays for as long as somebody may ask for it.

use std::{collections::BTreeSet, fs, path::PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use super::{ORIGINAL, STORED, STUDY, change, ct, files, is_clean, metadata, sorted, update};
use crate::{
    harness::{
        Answer, Dicom, PARTITIONS, Server, corpus, postgres,
        process::{Process, run, signal_to},
        send, until,
    },
    rejection::{SAFETY, note},
    verify::{findings, sql, verified},
};

/// What is larger shares its bytes.
const OWN: (&str, &str) = ("store.own_blob_bytes", "64KiB");
const FRAMES: usize = 10;
const FRAME: usize = 20_000;

/// An instance of 200 KB, in frames that differ.
fn large(study: u32, n: u32) -> Dicom {
    let mut ct = ct(study, n);
    ct.text(0x0028, 0x0008, "IS", &FRAMES.to_string());
    ct.short(0x0028, 0x0010, 100).short(0x0028, 0x0011, 100);
    ct.pixels((0..FRAMES * FRAME / 2).map(|at| (at / 7 + n as usize) as u16).collect());
    ct
}

fn path(n: u32) -> String {
    format!("{STUDY}/series/1.2.1.{}/instances/1.2.1.{}.{n}", n % 2, n % 2)
}

fn patient(id: &str) -> Value {
    json!({ "00100020": { "vr": "LO", "Value": [id] } })
}

/// Bytes of some blobs.
fn bytes(blobs: &BTreeSet<PathBuf>) -> u64 {
    blobs.iter().map(|blob| fs::metadata(blob).map_or(0, |it| it.len())).sum()
}

/// Whether a file has another header and goes on as the one that was stored.
fn is_of(file: &[u8], stored: &[u8]) -> bool {
    let tail = &stored[stored.len() - FRAMES * FRAME..];
    file != stored && file.ends_with(tail) && file.len() > stored.len()
}

async fn composed(server: &Server) -> i64 {
    server.count("SELECT count(*) FROM composed_blob").await
}

/// Brings back what was deleted, if something was.
async fn undelete(server: &Server, path: &str) -> Value {
    let answer = send(server.request(Method::POST, &format!("{path}/$undelete"))).await;
    assert!([200, 409].contains(&answer.status), "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn the_header_alone_is_written_and_each_way_to_read_gives_the_file() {
    let server = Server::with(&[OWN]).await;
    let stored: Vec<Vec<u8>> = (1..=3).map(|n| large(1, n).file()).collect();
    // With small ones among them, which are written anew.
    let small: Vec<Vec<u8>> = (4..=5).map(|n| ct(1, n).file()).collect();
    server.store("/studies", &[stored.clone(), small.clone()].concat()).await.is(200);
    let one = path(2);
    let octets = "multipart/related; type=\"application/octet-stream\"";
    let reads = async || {
        let get = async |path: &str, accept: &str| {
            let answer: Answer = server.get_as(&format!("{one}{path}"), accept).await.is(200);
            if accept.starts_with("multipart") {
                answer.bodies()
            } else {
                vec![answer.body.to_vec()]
            }
        };
        vec![
            get("/frames/1", octets).await,
            get("/frames/10,3,7", octets).await,
            get("/bulkdata/7FE00010", octets).await,
            get("/bulkdata/7FE00010", "application/octet-stream").await,
            get("/pixeldata", octets).await,
            get("/rendered", "image/png").await,
            get("/frames/4/rendered", "image/jpeg").await,
            get("/thumbnail", "image/jpeg").await,
            get("/frames/9", "multipart/related; type=\"image/jls\"").await,
        ]
    };
    let before = (reads().await, server.blobs("microsoft.default"));
    update(&server, "", &["1.2.1"], &change()).await;

    let fresh: BTreeSet<PathBuf> =
        server.blobs("microsoft.default").difference(&before.1).cloned().collect();
    assert_eq!((fresh.len(), composed(&server).await), (4, 3));
    assert!(bytes(&fresh) < 3 * (30 << 10), "{} bytes were written", bytes(&fresh));
    let now = files(&server, STUDY, &[]).await;
    assert_eq!(now.len(), 5);
    for file in &stored {
        assert_eq!(now.iter().filter(|now| is_of(now, file)).count(), 1);
    }
    let alone = files(&server, &one, &[]).await.remove(0);
    assert!(now.contains(&alone) && is_of(&alone, &stored[1]));
    assert_eq!(reads().await, before.0);
    // A range over the place where the two parts meet, and some of one part.
    let value = &before.0[3][0];
    for (range, wanted) in [("bytes=0-9", &value[..10]), ("bytes=199990-", &value[199_990..])] {
        let path = format!("{one}/bulkdata/7FE00010");
        let headers = [("range", range), ("accept", "application/octet-stream")];
        assert_eq!(server.get_with(&path, &headers).await.is(206).body, wanted);
    }
    // In other forms.
    for syntax in [corpus::EXPLICIT, corpus::RLE, corpus::IN_FRAGMENTS] {
        let accept = format!("application/dicom; transfer-syntax={syntax}");
        let file = server.get_as(&one, &accept).await.is(200).body;
        let has = |text: &[u8]| file.windows(text.len()).any(|it| it == text);
        assert!(has(b"NEW-ID") && has(syntax.as_bytes()), "{syntax}");
        match syntax {
            corpus::EXPLICIT => assert_eq!(file, alone),
            corpus::IN_FRAGMENTS => assert!(stored[1].rchunks(FRAME).take(FRAMES).all(has)),
            _ => assert!(file.len() > 1000),
        }
    }
    let named = "/wado?requestType=WADO&studyUID=1.2.1&seriesUID=1.2.1.0&objectUID=1.2.1.0.2";
    let wado = format!("{named}&contentType=application/dicom");
    assert_eq!(server.get(&wado).await.is(200).body, alone);
    let hidden = server.get(&format!("{wado}&anonymize=yes")).await.is(200).body;
    assert!(!hidden.windows(6).any(|it| it == b"NEW-ID") && hidden.len() > FRAMES * FRAME);
    for (_, one) in metadata(&server, STUDY, &[]).await {
        assert_eq!(one["00100020"]["Value"][0], "NEW-ID");
    }
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, sorted([stored, small].concat()));
    server.store("/studies", &[large(1, 1).file()]).await.is(200);
    // And after a restart, when nothing is remembered.
    let server = server.restart(&[OWN]).await;
    assert_eq!(files(&server, &path(2), &[]).await, [alone]);
    is_clean(&server).await;
}

#[tokio::test]
async fn every_transfer_syntax_is_shared_or_written_anew() {
    let server = Server::with(&[OWN]).await;
    let mut expected = Vec::new();
    let syntaxes = [
        corpus::IMPLICIT,
        corpus::EXPLICIT,
        corpus::BIG,
        corpus::DEFLATED,
        corpus::RLE,
        corpus::JPEG_BASELINE,
    ];
    for (n, syntax) in syntaxes.into_iter().enumerate() {
        let mut ct = large(1, n as u32);
        match syntax {
            corpus::RLE | corpus::JPEG_BASELINE => {
                ct.encapsulated(syntax, (1..=4).map(|at| vec![at; 50_000]).collect());
            }
            corpus::DEFLATED => {
                let noise = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 9) as u16);
                ct.syntax(syntax).pixels(noise.collect());
            }
            _ => _ = ct.syntax(syntax),
        }
        server.store("/studies", &[ct.file()]).await.is(200);
        expected.push(ct.file());
    }
    // What stands before the place of what was changed is written anew, however large it is.
    let mut document = ct(1, 7);
    document.remove(0x7FE0, 0x0010).bytes(0x0042, 0x0011, "OB", &vec![7; 2 << 20]);
    // What stands behind is shared, whatever it is.
    let mut waveform = ct(1, 8);
    waveform.bytes(0x5600, 0x0020, "OF", &vec![0; 100_000]);
    for file in [document.file(), waveform.file()] {
        server.store("/studies", std::slice::from_ref(&file)).await.is(200);
        expected.push(file);
    }
    let frames = async || {
        let mut frames = Vec::new();
        for n in 0..syntaxes.len() as u32 {
            let any = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*";
            let path = format!("{}/frames/1,4,2", path(n));
            frames.push(server.get_as(&path, any).await.is(200).bodies());
        }
        frames
    };
    let before = frames().await;
    for (n, id) in ["A", "BB", "CCC"].into_iter().enumerate() {
        let ended = update(&server, "", &["1.2.1"], &patient(id)).await;
        assert_eq!(ended["results"]["instanceUpdated"], 8, "{ended}");
        assert_eq!(frames().await, before);
        let shared =
            server.count("SELECT count(*) FROM instance i JOIN composed_blob c USING (blob_id)");
        assert_eq!(shared.await, 6, "all but the deflated one and the document, change {n}");
        is_clean(&server).await;
    }
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, sorted(expected));
}

#[tokio::test]
async fn further_versions_share_with_the_first_one_and_those_between_go() {
    let settings = [OWN, ("compaction.linger", "0s"), ("sweep.interval", "1s")];
    let server = Server::with(&settings).await;
    let stored = large(1, 2).file();
    server.store("/studies", std::slice::from_ref(&stored)).await.is(200);
    for n in 0..4 {
        update(&server, "", &["1.2.1"], &patient(&format!("P{n}"))).await;
        let now = files(&server, STUDY, &[]).await.remove(0);
        assert!(is_of(&now, &stored));
        let chained = server.count(
            "SELECT count(*) FROM composed_blob c JOIN original_instance o
                ON o.watermark = c.original WHERE o.blob_id IN (SELECT blob_id FROM composed_blob)",
        );
        assert_eq!(chained.await, 0);
    }
    until("the versions between are gone", async || {
        composed(&server).await == 1 && server.blobs("microsoft.default").len() == 2
    })
    .await;
    let items = metadata(&server, STUDY, &[]).await["1.2.1.0.2"]["04000561"].clone();
    assert_eq!(items["Value"].as_array().unwrap().len(), 4);
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, [stored]);
    is_clean(&server).await;
}

#[tokio::test]
async fn what_is_deleted_comes_back_whole_or_goes_whole() {
    let settings = [OWN, ("compaction.linger", "0s"), ("sweep.interval", "1s")];
    let server = Server::with(&settings).await;
    let stored: Vec<Vec<u8>> = (1..=3).map(|n| large(1, n).file()).collect();
    server.store("/studies", &stored).await.is(200);
    update(&server, "", &["1.2.1"], &change()).await;
    let changed = files(&server, STUDY, &[]).await;
    for round in 0..3 {
        let (gone, left) = if round == 1 { (path(2), 1) } else { (STUDY.to_owned(), 3) };
        server.delete(&gone).await.is(204);
        assert_eq!(undelete(&server, STUDY).await["restored"], left);
        assert_eq!(files(&server, STUDY, &[]).await, changed);
        assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, sorted(stored.clone()));
        is_clean(&server).await;
    }
    // It can be changed again, and shares still.
    update(&server, "", &["1.2.1"], &patient("AGAIN")).await;
    assert!(
        files(&server, STUDY, &[]).await.iter().all(|now| stored.iter().any(|it| is_of(now, it)))
    );
    is_clean(&server).await;
    // Deleted for good: every byte and row of all versions.
    let soon = [&settings[..], &[("delete.grace_period", "0s")]].concat();
    let server = server.restart(&soon).await;
    server.delete(STUDY).await.is(204);
    until("no blob is left", async || server.blobs("microsoft.default").is_empty()).await;
    until("no row is left", async || composed(&server).await == 0).await;
    assert_eq!(server.count("SELECT count(*) FROM blob").await, 0);
    server.get(STUDY).await.problem(410);
    is_clean(&server).await;
}

#[tokio::test]
async fn what_a_note_hides_comes_back_with_what_it_shares() {
    let server = Server::with(&[OWN, ("compaction.linger", "0s"), ("sweep.interval", "1s")]).await;
    let stored: Vec<Vec<u8>> = (1..=3).map(|n| large(1, n).file()).collect();
    server.store("/studies", &stored).await.is(200);
    update(&server, "", &["1.2.1"], &patient("AAAAAAAA")).await;
    let changed = files(&server, STUDY, &[]).await;
    let evidence: &[(&str, &str, &[&str])] = &[("1.2.1", "1.2.1.0", &["1.2.1.0.2"])];
    let note = note("1.2.1.9.1", SAFETY, evidence);
    server.store("/studies", &[note.file()]).await.is(200);
    server.get(&path(2)).await.problem(410);
    // What is left is changed again, and what is hidden is not.
    update(&server, "", &["1.2.1"], &patient("BBBBBBBB")).await;
    is_clean(&server).await;
    server.delete(&format!("{STUDY}/series/1.2.1.9/instances/1.2.1.9.1")).await.is(204);
    let back = files(&server, &path(2), &[]).await.remove(0);
    assert!(changed.contains(&back) && is_of(&back, &stored[1]));
    assert_eq!(files(&server, &path(2), &[ORIGINAL]).await, [stored[1].clone()]);
    is_clean(&server).await;
}

#[tokio::test]
async fn an_erasure_leaves_no_byte_of_a_file_in_two_places() {
    let server = Server::with(&[("compaction.linger", "0s"), ("sweep.interval", "1s")]).await;
    // In one blob with a study that stays.
    server.store("/studies", &[large(1, 1).file(), large(2, 1).file()]).await.is(200);
    let server =
        server.restart(&[OWN, ("compaction.linger", "0s"), ("sweep.interval", "1s")]).await;
    for id in ["AAAAAAAA", "BBBBBBBB"] {
        update(&server, "", &["1.2.1", "1.2.2"], &patient(id)).await;
    }
    let other = files(&server, "/studies/1.2.2", &[]).await;
    // Some of it was deleted and came back before.
    server.delete(STUDY).await.is(204);
    assert_eq!(undelete(&server, STUDY).await["restored"], 1);
    let answer = server.delete(&format!("{STUDY}?erase=true")).await.is(202);
    let href = answer.header("location").to_owned();
    until("the erasure ends", async || server.get(&href).await.status == 200).await;
    assert_eq!(server.get(&href).await.json()["status"], "succeeded");
    let has = |needle: &[u8]| {
        server.blobs("microsoft.default").iter().any(|blob| {
            let bytes = fs::read(blob).unwrap_or_default();
            bytes.windows(needle.len()).any(|window| window == needle)
        })
    };
    assert!(!has(b"1.2.1.1.1"), "nothing but the other study");
    assert!(has(b"1.2.2.1.1"));
    assert_eq!(composed(&server).await, 1);
    assert_eq!(files(&server, "/studies/1.2.2", &[]).await, other);
    assert_eq!(files(&server, "/studies/1.2.2", &[ORIGINAL]).await, [large(2, 1).file()]);
    is_clean(&server).await;
}

#[tokio::test]
async fn what_is_shared_may_be_moved_and_a_blob_that_shares_be_rewritten() {
    let rules = [
        ("delete.grace_period", "0s"),
        ("compaction.linger", "0s"),
        ("compaction.min_bytes", "1B"),
        ("compaction.dead_share", "0.1"),
        ("sweep.interval", "1s"),
    ];
    let server = Server::with(&rules).await;
    let all: Vec<Vec<u8>> = (1..=3).map(|study| large(study, 1).file()).collect();
    server.store("/studies", &all).await.is(200);
    let packed = server.blobs("microsoft.default");
    assert_eq!(packed.len(), 1);
    let server = server.restart(&[&rules[..], &[OWN]].concat()).await;
    update(&server, "", &["1.2.1"], &change()).await;
    let changed = files(&server, STUDY, &[]).await;
    assert!(is_of(&changed[0], &all[0]));
    for gone in ["/studies/1.2.2", "/studies/1.2.3"] {
        server.delete(gone).await.is(204);
        let before = server.blobs("microsoft.default");
        until("what is shared moves", async || {
            server.count("SELECT count(*) FROM blob_compaction").await == 0
                && server.count("SELECT count(*) FROM blob_removal").await == 0
                && server.blobs("microsoft.default") != before
        })
        .await;
        // By who remembers where it was, too.
        assert_eq!(files(&server, STUDY, &[]).await, changed);
        assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, [all[0].clone()]);
        is_clean(&server).await;
    }
    assert!(server.blobs("microsoft.default").is_disjoint(&packed));
    // What shares is never mostly dead; where it has to be rewritten all the same, it becomes whole.
    sql(
        &server,
        "INSERT INTO blob_compaction (blob_id, due_at, is_wanted)
            SELECT blob_id, now(), true FROM composed_blob",
    )
    .await;
    until("it is whole", async || composed(&server).await == 0).await;
    assert_eq!(files(&server, STUDY, &[]).await, changed);
    is_clean(&server).await;
    // Another change of it is written as a whole: what it has in common is not known any more.
    update(&server, "", &["1.2.1"], &patient("WHOLE")).await;
    assert_eq!(composed(&server).await, 0);
    assert!(is_of(&files(&server, STUDY, &[]).await[0], &all[0]));
    is_clean(&server).await;
}

#[tokio::test]
async fn what_is_deleted_moves_with_what_it_shares() {
    let rules = [("compaction.linger", "0s"), ("sweep.interval", "1s")];
    let server = Server::with(&rules).await;
    server.store("/studies", &[large(1, 1).file(), large(2, 1).file()]).await.is(200);
    let server = server.restart(&[&rules[..], &[OWN]].concat()).await;
    update(&server, "", &["1.2.1"], &change()).await;
    let changed = files(&server, STUDY, &[]).await;
    let before = server.blobs("microsoft.default");
    server.delete(STUDY).await.is(204);
    // The erasure of its neighbour rewrites the blob that both lie in.
    let answer = server.delete("/studies/1.2.2?erase=true").await.is(202);
    let href = answer.header("location").to_owned();
    until("the erasure ends", async || server.get(&href).await.status == 200).await;
    assert_ne!(server.blobs("microsoft.default"), before);
    assert_eq!(undelete(&server, STUDY).await["restored"], 1);
    assert_eq!(files(&server, STUDY, &[]).await, changed);
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, [large(1, 1).file()]);
    is_clean(&server).await;
}

#[tokio::test]
async fn damage_is_found_in_either_place_and_nothing_is_made_of_it() {
    let settings = [OWN, PARTITIONS[0]];
    let server = Server::with(&settings).await;
    let places = ["shared", "head", "nohead", "norest", "norow", "clean"];
    for name in places {
        let within = format!("/partitions/{name}");
        server.store(&format!("{within}/studies"), &[large(1, 1).file()]).await.is(200);
        let first = server.blobs(name);
        update(&server, &within, &["1.2.1"], &change()).await;
        let head = server.blobs(name).difference(&first).next().unwrap().clone();
        let first = first.first().unwrap().clone();
        let bend = |path: &PathBuf, at: usize| {
            let mut bytes = fs::read(path).unwrap();
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
        };
        match name {
            "shared" => bend(&first, 150_000),
            "head" => bend(&head, 400),
            "nohead" => fs::remove_file(&head).unwrap(),
            "norest" => fs::remove_file(&first).unwrap(),
            "norow" => {
                sql(&server, "DELETE FROM composed_blob WHERE partition_id = 'norow'").await;
            }
            _ => {}
        }
    }
    let (db, blobs) = server.parts().await;
    let lines = verified(&db, &blobs, &[], true).await;
    let found = |name: &str| -> Vec<String> { findings(&lines, name).into_iter().collect() };
    assert_eq!(found("clean"), [""; 0]);
    assert_eq!(found("shared"), ["bytes_differ 1.2.1.1.1"], "of both versions");
    assert_eq!(found("head"), ["bytes_differ 1.2.1.1.1"]);
    assert_eq!(found("nohead"), ["blob_missing null", "bytes_missing 1.2.1.1.1"]);
    assert_eq!(found("norest"), ["blob_missing null", "bytes_missing 1.2.1.1.1"]);
    assert_eq!(found("norow"), ["bytes_missing 1.2.1.1.1", "outside_blob 1.2.1.1.1"]);
    let shared = lines.iter().filter(|it| it["type"] == "finding" && it["partition"] == "shared");
    assert_eq!(shared.count(), 2);
    let quick = verified(&db, &blobs, &[], false).await;
    assert!(findings(&quick, "clean").is_empty() && findings(&quick, "shared").is_empty());
    assert!(findings(&quick, "norest").contains("blob_missing null"));
    // What is asked to be committed is read in both places.
    for (name, is_safe) in [("clean", true), ("shared", false), ("head", false), ("norest", false)]
    {
        let reference = json!({
            "00081150": { "vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"] },
            "00081155": { "vr": "UI", "Value": ["1.2.1.1.1"] },
        });
        let body = json!({ "00081199": { "vr": "SQ", "Value": [reference] } }).to_string();
        let path = format!("/partitions/{name}/commitment-requests/1.9.1");
        server.post(&path, "application/dicom+json", body.into()).await;
        until("it is checked", async || server.get(&path).await.status == 200).await;
        let told = server.get(&path).await.json();
        assert_eq!(told.get("00081198").is_none(), is_safe, "{name}: {told}");
    }
    // And nothing is made of a file that is not what was stored.
    for name in ["shared", "head"] {
        let before = server.blobs(name);
        let within = format!("/partitions/{name}");
        let ended = update(&server, &within, &["1.2.1"], &patient("NEXT")).await;
        assert_eq!(ended["results"]["studyFailed"], 1, "{ended}");
        assert_eq!(server.blobs(name), before, "nothing was written");
    }
}

#[tokio::test]
async fn instances_that_move_share_as_well_and_partitions_share_nothing() {
    let server = Server::with(&[OWN, PARTITIONS[0]]).await;
    let mut other = large(1, 1);
    other.pixels((0..FRAMES * FRAME / 2).map(|at| (at / 3) as u16).collect());
    server.store("/partitions/north/studies", &[large(1, 1).file(), ct(2, 1).file()]).await.is(200);
    server.store("/partitions/south/studies", &[other.file()]).await.is(200);
    update(&server, "/partitions/south", &["1.2.1"], &change()).await;
    let north = server.blobs("north");
    let body = json!({ "studyInstanceUid": "1.2.2" }).to_string();
    let asked = "/partitions/north/studies/1.2.1/$move";
    let answer = server.post(asked, "application/json", body.into()).await.is(202);
    let href = answer.header("location").to_owned();
    until("the move ends", async || server.get(&href).await.status == 200).await;
    let fresh: BTreeSet<PathBuf> = server.blobs("north").difference(&north).cloned().collect();
    assert!(bytes(&fresh) < 60 << 10);
    let (of_north, of_south) =
        ("/partitions/north/studies/1.2.2", "/partitions/south/studies/1.2.1");
    let moved = files(&server, &format!("{of_north}/series/1.2.1.1"), &[]).await;
    assert!(is_of(&moved[0], &large(1, 1).file()));
    assert!(is_of(&files(&server, of_south, &[]).await[0], &other.file()));
    // One is erased; the other is as it was.
    let erased = server.delete(&format!("{of_south}?erase=true")).await.is(202);
    let href = erased.header("location").to_owned();
    until("the erasure ends", async || server.get(&href).await.status == 200).await;
    assert!(server.blobs("south").is_empty());
    assert_eq!(files(&server, &format!("{of_north}/series/1.2.1.1"), &[]).await, moved);
    is_clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_deletions_undeletes_and_updates_at_once_lose_no_byte() {
    let settings = [
        OWN,
        ("compaction.linger", "5s"),
        ("compaction.min_bytes", "1B"),
        ("compaction.dead_share", "0.1"),
        ("sweep.interval", "1s"),
    ];
    let server = Server::with(&settings).await;
    let all: Vec<Vec<u8>> = (0..8).map(|n| large(1, n).file()).collect();
    server.store("/studies", &all[..4]).await.is(200);
    let updates = async {
        for n in 0..6 {
            update(&server, "", &["1.2.1"], &patient(&format!("U{n}"))).await;
        }
    };
    let changes = async {
        for n in 4..8_u32 {
            server.store("/studies", &[all[n as usize].clone()]).await.is(200);
            let gone = path(n - 4);
            let answer = server.delete(&gone).await;
            assert!([204, 404, 410].contains(&answer.status), "{}", answer.text());
            undelete(&server, STUDY).await;
        }
    };
    let looks = async {
        let (mut looks, mut seen) = (0, 0);
        while looks < 30 || seen == 0 {
            looks += 1;
            // A whole file or a break, and no other bytes.
            let request = server.request(Method::GET, STUDY).header("accept", STORED.1);
            let Ok(answer) = request.send().await else { continue };
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let Ok(body) = answer.bytes().await else { continue };
            if status != 200 {
                assert!([404, 410, 503].contains(&status), "{status}");
                continue;
            }
            seen += 1;
            for file in (Answer { status, headers, body }).bodies() {
                let is_whole = |stored: &Vec<u8>| file == *stored || is_of(&file, stored);
                assert!(all.iter().any(is_whole), "a file of {} bytes", file.len());
            }
        }
    };
    tokio::join!(updates, changes, looks);
    undelete(&server, STUDY).await;
    let now = files(&server, STUDY, &[]).await;
    assert_eq!(now.len(), 8);
    assert_eq!(files(&server, STUDY, &[ORIGINAL]).await, sorted(all.clone()));
    for stored in &all {
        let tail = &stored[stored.len() - FRAMES * FRAME..];
        assert_eq!(now.iter().filter(|now| now.ends_with(tail)).count(), 1);
    }
    is_clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_keeps_every_byte() {
    let data = postgres::tempdir();
    let settings =
        [OWN, ("compaction.linger", "0s"), ("sweep.interval", "1s"), ("sweep.orphan_grace", "60s")];
    let mut process = Process::serve(data.path(), &settings);
    let studies: Vec<String> = (1..=6).map(|study| format!("1.2.{study}")).collect();
    let stored = |study: u32| (0..4).map(move |n| large(study, n).file());
    for study in 1..=6 {
        let files: Vec<Vec<u8>> = stored(study).collect();
        process.client.store("/studies", &files).await.is(200);
    }
    let mut operation = String::new();
    for round in 0..4_u64 {
        let client = process.client.clone();
        let is_ended = async |operation: &str| {
            operation.is_empty() || client.get(operation).await.status == 200
        };
        if is_ended(&operation).await {
            let body = json!({ "studyInstanceUids": studies, "changeDataset": patient(&format!("R{round}")) });
            let body = body.to_string().into_bytes();
            let answer =
                client.post("/studies/$bulkUpdate", "application/json", body).await.is(202);
            operation = format!("/operations/{}", answer.json()["id"].as_str().unwrap());
        }
        // Sooner or later in its course.
        let before = client.get(&operation).await.json()["processed"].as_u64();
        if round % 2 == 0 {
            until("a part is changed", async || {
                let now = client.get(&operation).await;
                now.status == 200 || now.json()["processed"].as_u64() > before
            })
            .await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(7 * round)).await;
        signal_to(process.id(), libc::SIGKILL);
        drop(process);
        process = Process::serve(data.path(), &settings);
        for study in 1..=6 {
            let path = format!("/studies/1.2.{study}");
            let given = process.client.get_with(&path, &[STORED]).await.is(200).bodies();
            assert_eq!(given.len(), 4);
            for file in stored(study) {
                let tail = &file[file.len() - FRAMES * FRAME..];
                assert_eq!(given.iter().filter(|given| given.ends_with(tail)).count(), 1);
            }
            let first = process.client.get_with(&path, &[STORED, ORIGINAL]).await.is(200).bodies();
            assert_eq!(sorted(first), sorted(stored(study).collect()));
            let all = process.client.get(&format!("{path}/metadata")).await.is(200).json();
            let all = all.as_array().unwrap();
            let ids: BTreeSet<String> = all.iter().map(|one| one["00100020"].to_string()).collect();
            assert_eq!(ids.len(), 1, "{path} is of one patient: {ids:?}");
        }
    }
    until("it ends", async || process.client.get(&operation).await.status == 200).await;
    assert_eq!(process.client.get(&operation).await.json()["status"], "succeeded");
    process.kill();
    let verified = run(&["verify", "--data-dir", data.path().to_str().unwrap()], &settings);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}
