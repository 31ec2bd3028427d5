//! Thumbnails (PS3.18 §10.4.1.1.4): one small picture, whatever there is.

use serde_json::json;

use super::{
    UNUSED,
    pictures::{RAW, damaged, gif, jpeg, multi_frame, png, report, without_pixels},
};
use crate::harness::{Dicom, PARTITIONS, Server};

const STUDY: &str = "/studies/1.2.1";
const SERIES: &str = "/studies/1.2.1/series/1.2.1.1";

/// A CT whose 4 × 4 pixels are dark above and bright below, in a window of its own.
fn halves(series: &str, instance: &str, number: &str) -> Dicom {
    let mut ct = Dicom::ct("1.2.1", series, instance);
    ct.text(0x0020, 0x0011, "IS", number)
        .text(0x0028, 0x1050, "DS", "8")
        .text(0x0028, 0x1051, "DS", "16")
        .pixels([[0; 8], [15; 8]].concat());
    ct
}

/// A CT whose pixels all have one value of sixteen.
fn flat(series: &str, instance: &str, number: &str, value: u16) -> Vec<u8> {
    let mut ct = halves(series, instance, number);
    ct.pixels(vec![value; 16]).file()
}

async fn server(files: &[Vec<u8>]) -> Server {
    let server = Server::start().await;
    server.store("/studies", files).await.is(200);
    server
}

async fn grey(server: &Server, path: &str) -> u8 {
    let answer = server.get_as(&format!("{path}/thumbnail"), "image/png").await.is(200);
    png(&answer.body).pixels[0]
}

#[tokio::test]
async fn at_all_levels_one_picture() {
    let server = server(&[halves("1.2.1.1", "1.2.1.1.1", "1").file()]).await;
    let instance = format!("{SERIES}/instances/1.2.1.1.1");
    let frame = format!("{instance}/frames/1");
    for path in [STUDY, SERIES, &instance, &frame] {
        let path = format!("{path}/thumbnail");
        let answer = server.get(&path).await.is(200);
        assert_eq!(answer.header("content-type"), "image/jpeg", "{path}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert_eq!(answer.header("content-location"), format!("{}{path}", server.base));
        let read = jpeg(&answer.body);
        assert_eq!((read.width, read.height), (128, 128), "{path}");
        assert!(read.pixels[0] < 40 && read.pixels[128 * 128 - 1] > 215, "{path}");
        let small = format!("{path}?viewport=32%2C16");
        let read = png(&server.get_as(&small, "image/png").await.is(200).body);
        assert_eq!((read.width, read.height), (16, 16), "{path}");
        let by_query = server.get(&format!("{path}?accept=image/gif")).await.is(200);
        assert_eq!(gif(&by_query.body).len(), 1);
        for query in
            ["viewport=32", "viewport=32,0", "viewport=32,32,1", "viewport=1,1&viewport=1,1"]
        {
            let problem = server.get(&format!("{path}?{query}")).await.problem(400);
            assert_eq!(problem["errors"][0]["field"], "viewport", "{query}");
        }
        let problem = server.get_as(&path, "text/html").await.problem(406);
        assert!(problem["available"].as_array().unwrap().contains(&json!("image/jpeg")));
        let only = server.get_as(&path, "multipart/related; type=\"image/jpeg\"").await.is(200);
        assert_eq!(only.parts().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_picture_from_the_middle_of_the_first_series_stands_for_the_study() {
    let mut files: Vec<Vec<u8>> =
        (1..=5).map(|n| flat("1.2.1.20", &format!("1.2.1.20.{n}"), "20", n)).collect();
    files.extend((1..=3).map(|n| flat("1.2.1.9", &format!("1.2.1.9.{n}"), "9", 5 + n)));
    // A report of the lowest number has no picture.
    let mut text = report("1.2.1.1.5");
    files.push(text.text(0x0020, 0x0011, "IS", "1").file());
    let server = server(&files).await;
    assert_eq!(grey(&server, STUDY).await, 7 * 17);
    assert_eq!(grey(&server, "/studies/1.2.1/series/1.2.1.20").await, 3 * 17);
    assert_eq!(grey(&server, "/studies/1.2.1/series/1.2.1.9/instances/1.2.1.9.3").await, 8 * 17);
    // It changes with the study, and its tag with it.
    let path = format!("{STUDY}/thumbnail");
    let tag = server.get(&path).await.is(200).header("etag").to_owned();
    server.get_with(&path, &[("if-none-match", &tag)]).await.is(304);
    server.delete("/studies/1.2.1/series/1.2.1.9").await.is(204);
    server.get_with(&path, &[("if-none-match", &tag)]).await.is(200);
    assert_eq!(grey(&server, STUDY).await, 3 * 17);
}

#[tokio::test]
async fn frames_have_their_own_and_the_middle_stands_for_all() {
    let mut film = multi_frame("1.2.1.1.1", 5);
    film.text(0x0028, 0x1050, "DS", "8").text(0x0028, 0x1051, "DS", "16");
    let server = server(&[film.file()]).await;
    let instance = format!("{SERIES}/instances/1.2.1.1.1");
    assert_eq!(grey(&server, &instance).await, 3 * 17);
    assert_eq!(grey(&server, &format!("{instance}/frames/5")).await, 5 * 17);
    assert_eq!(grey(&server, &format!("{instance}/frames/4,1")).await, 4 * 17);
    for (list, status) in [("6", 404), ("1,6", 404), ("0", 400), ("x", 400)] {
        server.get(&format!("{instance}/frames/{list}/thumbnail")).await.problem(status);
    }
}

#[tokio::test]
async fn what_has_no_pictures_is_shown_by_its_kind() {
    let files = [report("1.2.1.1.5"), without_pixels("1.2.1.1.6", RAW, "OT"), damaged("1.2.1.1.7")];
    let server = server(&files.map(|file| file.file())).await;
    let mut seen = Vec::new();
    for n in 5..=7 {
        let path = format!("{SERIES}/instances/1.2.1.1.{n}/thumbnail");
        let answer = server.get_as(&path, "image/png").await.is(200);
        let read = png(&answer.body);
        assert_eq!((read.width, read.height), (128, 128));
        assert!(read.pixels.iter().any(|p| *p != read.pixels[0]), "something is written: {n}");
        assert!(!seen.contains(&read), "{n}");
        seen.push(read);
    }
    // Nothing of the object is in it.
    let mut named = report("1.2.1.1.8");
    named.text(0x0010, 0x0010, "PN", "Somebody^Else").text(0x0008, 0x0060, "CS", "XX");
    server.store("/studies", &[named.file()]).await.is(200);
    let path = format!("{SERIES}/instances/1.2.1.1.8/thumbnail");
    let answer = server.get_as(&path, "image/png").await.is(200);
    assert_eq!(png(&answer.body), seen[0]);
}

#[tokio::test]
async fn overlays_and_legible_text_stay_out() {
    let mut plain = halves("1.2.1.1", "1.2.1.1.1", "1");
    plain.pixels(vec![0; 16]);
    let mut marked = plain.clone();
    marked
        .text(0x0008, 0x0018, "UI", "1.2.1.1.2")
        .short(0x6000, 0x0010, 4)
        .short(0x6000, 0x0011, 4)
        .text(0x6000, 0x0040, "CS", "G")
        .words(0x6000, 0x0050, "SS", vec![1, 1])
        .short(0x6000, 0x0100, 1)
        .short(0x6000, 0x0102, 0)
        .words(0x6000, 0x3000, "OW", vec![0xFFFF]);
    let mut burned = plain.clone();
    burned.text(0x0008, 0x0018, "UI", "1.2.1.1.3").text(0x0028, 0x0301, "CS", "YES");
    let server = server(&[plain.file(), marked.file(), burned.file()]).await;
    let at = |n: u32| format!("{SERIES}/instances/1.2.1.1.{n}");
    assert_eq!(grey(&server, &at(1)).await, 0);
    assert_eq!(grey(&server, &at(2)).await, 0);
    let rendered = server.get_as(&format!("{}/rendered", at(2)), "image/png").await.is(200);
    assert_eq!(png(&rendered.body).pixels[0], 255, "the rendering has the overlay");
    for (n, side) in [(1, 600), (3, 128)] {
        let path = format!("{}/thumbnail?viewport=600,600", at(n));
        let read = png(&server.get_as(&path, "image/png").await.is(200).body);
        assert_eq!((read.width, read.height), (side, side), "{n}");
    }
}

#[tokio::test]
async fn nothing_crosses_partitions_or_outlives_its_instance() {
    let server = Server::with(&PARTITIONS).await;
    let path = |partition: &str| format!("/partitions/{partition}{STUDY}");
    for (partition, value) in [("north", 3), ("south", 9)] {
        let file = flat("1.2.1.1", "1.2.1.1.1", "1", value);
        server.store(&format!("/partitions/{partition}/studies"), &[file]).await.is(200);
    }
    for _ in 0..2 {
        assert_eq!(grey(&server, &path("north")).await, 3 * 17);
        assert_eq!(grey(&server, &path("south")).await, 9 * 17);
    }
    server.delete(&path("north")).await.is(204);
    server.get(&format!("{}/thumbnail", path("north"))).await.problem(410);
    assert_eq!(grey(&server, &path("south")).await, 9 * 17);
    let file = flat("1.2.1.1", "1.2.1.1.1", "1", 5);
    server.store("/partitions/north/studies", &[file]).await.is(200);
    assert_eq!(grey(&server, &path("north")).await, 5 * 17);
}

#[tokio::test]
async fn what_is_not_there_has_none() {
    let server = server(&[halves("1.2.1.1", "1.2.1.1.1", "1").file()]).await;
    for path in [
        format!("/studies/{UNUSED}"),
        format!("{STUDY}/series/{UNUSED}"),
        format!("{SERIES}/instances/{UNUSED}"),
        format!("{SERIES}/instances/{UNUSED}/frames/1"),
    ] {
        for accept in ["*/*", "text/html"] {
            server.get_as(&format!("{path}/thumbnail"), accept).await.problem(404);
        }
    }
}
