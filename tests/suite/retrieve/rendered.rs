//! Rendered resources (PS3.18 §10.4.1.1.3): instances, frames, series and studies as pictures and
//! texts.

use reqwest::Method;
use serde_json::json;

use super::{
    UNUSED,
    pictures::{
        MPEG4, RAW, Read, WINDOW, damaged, gif, greys, jpeg, multi_frame, png, report,
        without_pixels,
    },
};
use crate::harness::{Answer, Dicom, Server, send};

const STUDY: &str = "/studies/1.2.1";
const SERIES: &str = "/studies/1.2.1/series/1.2.1.1";
const INSTANCE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1";

/// Several pictures of a kind.
fn several(media_type: &str) -> String {
    format!("multipart/related; type=\"{media_type}\"")
}

async fn server(files: &[Vec<u8>]) -> Server {
    let server = Server::start().await;
    server.store("/studies", files).await.is(200);
    server
}

fn ct() -> Vec<u8> {
    Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file()
}

/// The last UID of each part's location, with what stands behind it.
fn places(answer: &Answer) -> Vec<String> {
    let parts = answer.parts();
    let place = |location: &str| location.split("/instances/").nth(1).unwrap().to_owned();
    parts.iter().map(|part| place(part.header("content-location"))).collect()
}

#[tokio::test]
async fn an_instance_has_the_greys_of_its_window() {
    let server = server(&[ct()]).await;
    let path = format!("{INSTANCE}/rendered?{WINDOW}");
    let answer = server.get_as(&path, "image/png").await.is(200);
    assert_eq!(answer.header("content-type"), "image/png");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("content-location"), format!("{}{INSTANCE}/rendered", server.base));
    assert!(answer.header("cache-control").starts_with("private"));
    assert_eq!(png(&answer.body), Read { width: 4, height: 4, pixels: greys() });
    // Lossy, but near.
    let answer = server.get_as(&format!("{path}&quality=100"), "image/jpeg").await.is(200);
    assert_eq!(answer.header("content-type"), "image/jpeg");
    let near = jpeg(&answer.body);
    assert_eq!((near.width, near.height), (4, 4));
    for (got, wanted) in near.pixels.iter().zip(greys()) {
        assert!(got.abs_diff(wanted) <= 3, "{near:?}");
    }
    let worse = server.get_as(&format!("{path}&quality=1"), "image/jpeg").await.is(200);
    assert_ne!(worse.body, answer.body);
    let answer = server.get_as(&path, "image/gif").await.is(200);
    let [(read, _)] = &gif(&answer.body)[..] else { panic!("one frame") };
    assert_eq!(read.pixels, greys());
}

#[tokio::test]
async fn what_a_client_accepts_decides_the_format() {
    let server = server(&[ct()]).await;
    let path = format!("{INSTANCE}/rendered");
    for (accept, expected) in [
        ("*/*", "image/jpeg"),
        ("image/*", "image/jpeg"),
        ("image/png", "image/png"),
        ("image/gif", "image/gif"),
        ("image/webp,image/png;q=0.5,image/jpeg;q=0.4", "image/png"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/jpeg"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "image/jpeg"),
    ] {
        let answer = server.get_as(&path, accept).await.is(200);
        assert_eq!(answer.header("content-type"), expected, "{accept}");
    }
    let by_query = server.get_as(&format!("{path}?accept=image/png"), "image/*").await.is(200);
    assert_eq!(by_query.header("content-type"), "image/png");
    let answer = server.get_as(&path, &several("image/png")).await.is(200);
    assert!(answer.header("content-type").starts_with("multipart/related; type=\"image/png\""));
    let [part] = &answer.parts()[..] else { panic!("one part") };
    assert_eq!(part.header("content-type"), "image/png");
    assert_eq!(part.header("content-location"), format!("{}{path}", server.base));
    for accept in ["application/dicom", "text/html", "video/mp4", "image/webp"] {
        let problem = server.get_as(&path, accept).await.problem(406);
        let available = problem["available"].as_array().unwrap();
        assert!(available.contains(&json!("image/jpeg")), "{accept}: {available:?}");
    }
}

#[tokio::test]
async fn a_picture_is_fitted_cropped_and_mirrored() {
    let server = server(&[ct()]).await;
    let get = async |query: &str| {
        let path = format!("{INSTANCE}/rendered?{WINDOW}&viewport={query}");
        png(&server.get_as(&path, "image/png").await.is(200).body)
    };
    let size = |read: Read| (read.width, read.height);
    assert_eq!(size(get("8,8").await), (8, 8));
    assert_eq!(size(get("8,100").await), (8, 8));
    assert_eq!(size(get("2,1000").await), (2, 2));
    let corner = get("2,2,2,2,2,2").await;
    assert_eq!(corner, Read { width: 2, height: 2, pixels: vec![170, 187, 238, 255] });
    let mirrored = get("4,4,,,-4").await;
    assert_eq!(&mirrored.pixels[..4], [51, 34, 17, 0]);
    let turned = get("4,4,,,,-4").await;
    assert_eq!(turned.pixels[0], greys()[12]);
    for query in ["4", "0,1", "4,4,4", "4,4,,"] {
        let path = format!("{INSTANCE}/rendered?viewport={query}");
        let problem = server.get(&path).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], "viewport", "{query}");
    }
}

#[tokio::test]
async fn parameters_are_checked_and_unknown_annotations_told() {
    let server = server(&[ct()]).await;
    for (query, field) in [
        ("window=1,2", "window"),
        ("quality=0", "quality"),
        ("annotation=", "annotation"),
        ("iccprofile=cmyk", "iccprofile"),
        ("iccprofile=srgb&accept=image/gif", "iccprofile"),
        ("quality=5&quality=6", "quality"),
    ] {
        let problem = server.get(&format!("{INSTANCE}/rendered?{query}")).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    let path = format!("{INSTANCE}/rendered?annotation=patient,dose,laterality");
    let answer = server.get(&path).await.is(200);
    assert_eq!(
        answer.header("warning"),
        "299 collimator: The following annotation values are not supported: dose, laterality"
    );
    // 4 × 4 pixels have no room for texts, 512 × 512 have.
    let large = format!("{INSTANCE}/rendered?{WINDOW}&viewport=512,512");
    let plain = png(&server.get_as(&large, "image/png").await.is(200).body);
    let texts = format!("{large}&annotation=patient");
    let burned = server.get_as(&texts, "image/png").await.is(200);
    assert_eq!(burned.header("warning"), "");
    assert_ne!(png(&burned.body), plain);
}

#[tokio::test]
async fn a_picture_that_is_known_is_not_sent_again() {
    let server = server(&[ct()]).await;
    let path = format!("{INSTANCE}/rendered?{WINDOW}");
    let png = [("accept", "image/png")];
    let whole = server.get_with(&path, &png).await.is(200);
    let tag = whole.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 10, "{tag}");
    let same = server.get_with(&path, &[png[0], ("if-none-match", &tag)]).await.is(304);
    assert!(same.body.is_empty());
    assert_eq!(same.header("etag"), tag);
    // Another view, format or version is another picture.
    for (path, accept) in [
        (path.clone(), "image/jpeg"),
        (format!("{INSTANCE}/rendered?window=8,17,linear"), "image/png"),
        (format!("{path}&viewport=2,2"), "image/png"),
        (format!("{INSTANCE}/frames/1/rendered?{WINDOW}"), "image/png"),
    ] {
        let other = [("accept", accept), ("if-none-match", tag.as_str())];
        server.get_with(&path, &other).await.is(200);
    }
    let part = server.get_with(&path, &[png[0], ("range", "bytes=1-3")]).await.is(206);
    assert_eq!(&part.body[..], b"PNG");
    assert_eq!(part.header("content-range"), format!("bytes 1-3/{}", whole.body.len()));
    server.get_with(&path, &[png[0], ("range", "bytes=99999-")]).await.problem(416);
    let head = send(server.request(Method::HEAD, &path).header("accept", "image/png")).await;
    let head = head.is(200);
    assert!(head.body.is_empty());
    for name in ["content-type", "content-length", "etag", "content-location"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
}

#[tokio::test]
async fn frames_come_in_the_order_of_the_list() {
    let server = server(&[multi_frame("1.2.1.1.1", 5).file()]).await;
    let path = |list: &str| format!("{INSTANCE}/frames/{list}/rendered?{WINDOW}");
    let answer = server.get_as(&path("3,1,5"), &several("image/png")).await.is(200);
    assert_eq!(places(&answer), ["3", "1", "5"].map(|n| format!("1.2.1.1.1/frames/{n}/rendered")));
    let greys: Vec<u8> = answer.parts().iter().map(|part| png(&part.body).pixels[0]).collect();
    assert_eq!(greys, [51, 17, 85]);
    let one = server.get_as(&path("4"), "image/png").await.is(200);
    assert_eq!(png(&one.body).pixels, [68; 16]);
    assert!(one.header("content-location").ends_with("/frames/4/rendered"));
    let default = server.get(&path("1,2")).await.is(200);
    assert!(default.header("content-type").starts_with("multipart/related; type=\"image/jpeg\""));
    server.get_as(&path("1,2"), "image/png").await.problem(406);
    for list in ["6", "1,6", "4294967295"] {
        server.get(&path(list)).await.problem(404);
    }
    for list in ["0", "a", "1,,2"] {
        server.get(&path(list)).await.problem(400);
    }
}

#[tokio::test]
async fn an_instance_of_many_frames_is_one_picture_a_film_or_all() {
    let mut film = multi_frame("1.2.1.1.1", 3);
    film.text(0x0018, 0x1063, "DS", "250").short(0x0028, 0x6010, 2);
    let plain = multi_frame("1.2.1.1.2", 3);
    let server = server(&[film.file(), plain.file()]).await;
    let path = format!("{INSTANCE}/rendered?{WINDOW}");
    let one = server.get_as(&path, "image/png").await.is(200);
    assert_eq!(png(&one.body).pixels, [34; 16], "its representative frame");
    assert!(one.header("content-location").ends_with("/frames/2/rendered"));
    let other = format!("{SERIES}/instances/1.2.1.1.2/rendered?{WINDOW}");
    let first = server.get_as(&other, "image/png").await.is(200);
    assert_eq!(png(&first.body).pixels, [17; 16], "the first frame");
    let all = server.get_as(&path, &several("image/png")).await.is(200);
    assert_eq!(places(&all), ["1", "2", "3"].map(|n| format!("1.2.1.1.1/frames/{n}/rendered")));
    let moving = server.get_as(&path, "image/gif").await.is(200);
    let frames = gif(&moving.body);
    assert_eq!(frames.iter().map(|(read, _)| read.pixels[5]).collect::<Vec<_>>(), [17, 34, 51]);
    assert!(frames.iter().all(|(_, delay)| *delay == 25), "{frames:?}");
    let moving = server.get_as(&path, &several("image/gif")).await.is(200);
    let [part] = &moving.parts()[..] else { panic!("one film") };
    assert_eq!(gif(&part.body).len(), 3);
}

#[tokio::test]
async fn a_study_comes_as_a_part_for_each_picture() {
    let other = Dicom::ct("1.2.1", "1.2.1.2", "1.2.1.2.1").file();
    let server = server(&[ct(), multi_frame("1.2.1.1.2", 2).file(), other]).await;
    let study = format!("{STUDY}/rendered?{WINDOW}");
    let answer = server.get_as(&study, &several("image/png")).await.is(200);
    assert_eq!(
        places(&answer),
        [
            "1.2.1.1.1/rendered",
            "1.2.1.1.2/frames/1/rendered",
            "1.2.1.1.2/frames/2/rendered",
            "1.2.1.2.1/rendered"
        ]
    );
    let parts = answer.parts();
    assert_eq!(png(&parts[0].body).pixels, greys());
    assert_eq!(png(&parts[2].body).pixels, [34; 16]);
    let tag = answer.header("etag").to_owned();
    let known = [("accept", several("image/png")), ("if-none-match", tag)];
    let known: Vec<(&str, &str)> = known.iter().map(|(name, value)| (*name, &**value)).collect();
    server.get_with(&study, &known).await.is(304);
    let series = server.get(&format!("{SERIES}/rendered")).await.is(200);
    assert!(series.header("content-type").starts_with("multipart/related; type=\"image/jpeg\""));
    assert_eq!(series.parts().len(), 3);
    let films = server.get_as(&study, &several("image/gif")).await.is(200);
    assert_eq!(
        films.parts().iter().map(|part| gif(&part.body).len()).collect::<Vec<_>>(),
        [1, 2, 1]
    );
    // One picture is no answer to a resource of several (PS3.18 §10.4.4).
    let problem = server.get_as(&study, "image/png").await.problem(406);
    let available = problem["available"].as_array().unwrap();
    assert!(available.contains(&json!(several("image/png"))), "{available:?}");
    // What is known is known no more when the study has changed.
    let more = Dicom::ct("1.2.1", "1.2.1.2", "1.2.1.2.2").file();
    server.store("/studies", &[more]).await.is(200);
    let answer = server.get_with(&study, &known).await.is(200);
    assert_eq!(answer.parts().len(), 5);
}

#[tokio::test]
async fn what_cannot_be_shown_is_left_out() {
    let raw = without_pixels("1.2.1.1.7", RAW, "OT").file();
    let server = server(&[raw]).await;
    server.get(&format!("{STUDY}/rendered")).await.problem(406);
    let problem = server.get(&format!("{SERIES}/instances/1.2.1.1.7/rendered")).await.problem(406);
    assert_eq!(problem["type"], "urn:collimator:problem:not-renderable");
    server.store("/studies", &[damaged("1.2.1.1.8").file(), ct()]).await.is(200);
    let answer = server.get(&format!("{STUDY}/rendered")).await.is(206);
    assert_eq!(places(&answer), ["1.2.1.1.1/rendered"]);
    let broken = format!("{SERIES}/instances/1.2.1.1.8");
    for path in ["rendered", "frames/1/rendered"] {
        let problem = server.get(&format!("{broken}/{path}")).await.problem(406);
        assert_eq!(problem["type"], "urn:collimator:problem:undecodable", "{path}");
    }
    server.get(&format!("{SERIES}/instances/1.2.1.1.7/frames/1/rendered")).await.problem(404);
}

#[tokio::test]
async fn texts_and_pictures_are_chosen_part_by_part() {
    let server = server(&[ct(), report("1.2.1.1.5").file()]).await;
    let document = format!("{SERIES}/instances/1.2.1.1.5/rendered");
    for (accept, expected) in [
        ("*/*", "text/html; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/xml", "text/xml; charset=utf-8"),
        ("text/plain;q=0.5, text/html", "text/html; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
    ] {
        let answer = server.get_as(&document, accept).await.is(200);
        assert_eq!(answer.header("content-type"), expected, "{accept}");
        assert!(answer.text().contains("unusual"), "{accept}: {}", answer.text());
        assert!(answer.header("content-security-policy").contains("default-src 'none'"));
        let tag = answer.header("etag").to_owned();
        server.get_with(&document, &[("accept", accept), ("if-none-match", &tag)]).await.is(304);
    }
    let html = server.get_as(&document, "text/html").await;
    assert!(html.text().contains("&lt;unusual&gt;"), "{}", html.text());
    server.get_as(&document, "image/jpeg").await.problem(406);
    let both = format!("{}, {}", several("text/plain"), several("image/png"));
    let answer = server.get_as(&format!("{STUDY}/rendered"), &both).await.is(200);
    let types: Vec<String> =
        answer.parts().iter().map(|part| part.header("content-type").to_owned()).collect();
    assert_eq!(types, ["image/png", "text/plain; charset=utf-8"]);
    let answer = server.get_as(&format!("{STUDY}/rendered"), &several("text/html")).await.is(206);
    assert_eq!(places(&answer), ["1.2.1.1.5/rendered"]);
    let answer = server.get(&format!("{STUDY}/rendered")).await.is(200);
    assert_eq!(answer.parts().len(), 2);
}

#[tokio::test]
async fn a_video_is_passed_on() {
    let mut video = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    video.text(0x0028, 0x0008, "IS", "30").short(0x0028, 0x0100, 8).short(0x0028, 0x0101, 8);
    video.short(0x0028, 0x0102, 7);
    let stream = b"moving pictures ".to_vec();
    video.encapsulated(MPEG4, vec![stream.clone()]);
    let server = server(&[video.file()]).await;
    let path = format!("{INSTANCE}/rendered");
    for accept in ["video/mp4", "*/*", "video/*"] {
        let answer = server.get_as(&path, accept).await.is(200);
        assert_eq!(answer.header("content-type"), "video/mp4");
        assert_eq!(answer.header("content-length"), stream.len().to_string());
        assert_eq!(&answer.body[..], stream);
    }
    let part = server.get_with(&path, &[("range", "bytes=7-14")]).await.is(206);
    assert_eq!(&part.body[..], b"pictures");
    let answer = server.get_as(&path, &several("video/mp4")).await.is(200);
    assert_eq!(answer.bodies(), [stream.clone()]);
    let answer = server.get(&format!("{STUDY}/rendered")).await.is(200);
    assert_eq!(answer.bodies(), [stream]);
    server.get_as(&path, "image/jpeg").await.problem(406);
}

#[tokio::test]
async fn absent_and_deleted_come_first() {
    let server = server(&[ct()]).await;
    let unused = format!("{SERIES}/instances/{UNUSED}");
    for path in [format!("/studies/{UNUSED}"), format!("{STUDY}/series/{UNUSED}"), unused.clone()] {
        for accept in ["*/*", "application/dicom"] {
            server.get_as(&format!("{path}/rendered"), accept).await.problem(404);
        }
    }
    server.get(&format!("{unused}/frames/1/rendered")).await.problem(404);
    server.delete(STUDY).await.is(204);
    for path in [STUDY, SERIES, INSTANCE] {
        server.get_as(&format!("{path}/rendered"), "application/dicom").await.problem(410);
    }
    server.get(&format!("{INSTANCE}/frames/1/rendered")).await.problem(410);
}
