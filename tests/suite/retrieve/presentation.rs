//! What presentation states show (PS3.18 §8.3.5.1.6, PS3.4 §N.2).

use super::{
    UNUSED,
    pictures::{Read, greys, multi_frame, png, without_pixels},
};
use crate::harness::{Dicom, Server};

const GREYS: &str = "1.2.840.10008.5.1.4.1.1.11.1";
const BLENDING: &str = "1.2.840.10008.5.1.4.1.1.11.4";
const STATE: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.90/rendered";

/// A reference to an instance, or to some of its frames.
fn image(instance: &str, frames: &str) -> Dicom {
    let mut image = Dicom::item();
    image
        .text(0x0008, 0x1150, "UI", "1.2.840.10008.5.1.4.1.1.2")
        .text(0x0008, 0x1155, "UI", instance);
    if !frames.is_empty() {
        image.text(0x0008, 0x1160, "IS", frames);
    }
    image
}

/// A state of images in the usual series, which shows them as their windows say: 17 times the
/// value.
fn state(images: Vec<Dicom>) -> Dicom {
    let mut series = Dicom::item();
    series.text(0x0020, 0x000E, "UI", "1.2.1.1").sequence(0x0008, 0x1140, images);
    let mut state = without_pixels("1.2.1.1.90", GREYS, "PR");
    state
        .sequence(0x0008, 0x1115, vec![series])
        .sequence(0x0028, 0x3110, vec![window("8", vec![])])
        .text(0x2050, 0x0020, "CS", "IDENTITY");
    state
}

fn window(center: &str, images: Vec<Dicom>) -> Dicom {
    let mut voi = Dicom::item();
    voi.text(0x0028, 0x1050, "DS", center).text(0x0028, 0x1051, "DS", "16");
    if !images.is_empty() {
        voi.sequence(0x0008, 0x1140, images);
    }
    voi
}

fn area(from: &str, to: &str, mode: &str) -> Dicom {
    let mut area = Dicom::item();
    area.bytes(0x0070, 0x0052, "SL", &corner(from))
        .bytes(0x0070, 0x0053, "SL", &corner(to))
        .text(0x0070, 0x0100, "CS", mode);
    area
}

fn corner(text: &str) -> Vec<u8> {
    text.split(',').flat_map(|n| n.parse::<i32>().unwrap().to_le_bytes()).collect()
}

/// An image that says the opposite of every state here.
fn contrary() -> Dicom {
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    ct.text(0x0028, 0x0004, "CS", "MONOCHROME1")
        .text(0x0028, 0x1050, "DS", "1000")
        .text(0x0028, 0x1051, "DS", "1")
        .text(0x0028, 0x1052, "DS", "-500")
        .text(0x0028, 0x1053, "DS", "3");
    ct
}

/// The picture of the only image of a state.
async fn shown(state: &Dicom, query: &str) -> Read {
    let server = Server::start().await;
    server.store("/studies", &[contrary().file(), state.file()]).await.is(200);
    let answer = server.get_as(&format!("{STATE}{query}"), "image/png").await.is(200);
    assert_eq!(answer.header("content-location"), format!("{}{STATE}", server.base));
    let tag = answer.header("etag").to_owned();
    let known = [("accept", "image/png"), ("if-none-match", tag.as_str())];
    server.get_with(&format!("{STATE}{query}"), &known).await.is(304);
    png(&answer.body)
}

fn one() -> Dicom {
    state(vec![image("1.2.1.1.1", "")])
}

#[tokio::test]
async fn window_polarity_and_modality_are_those_of_the_state() {
    assert_eq!(shown(&one(), "").await, Read { width: 4, height: 4, pixels: greys() });
    let mut inverse = one();
    inverse.text(0x2050, 0x0020, "CS", "INVERSE");
    let dark: Vec<u8> = greys().iter().map(|grey| 255 - grey).collect();
    assert_eq!(shown(&inverse, "").await.pixels, dark);
    let mut rescaled = one();
    rescaled.text(0x0028, 0x1052, "DS", "8").text(0x0028, 0x1053, "DS", "1");
    let brighter: Vec<u8> = (0..16_u8).map(|value| value.saturating_add(8).min(15) * 17).collect();
    assert_eq!(shown(&rescaled, "").await.pixels, brighter);
    // Without a window all that can be stored: of 16 bits the first 16 values are black.
    let mut whole = one();
    whole.remove(0x0028, 0x3110);
    assert_eq!(shown(&whole, "").await.pixels, [0; 16]);
}

#[tokio::test]
async fn areas_turns_and_sizes() {
    let mut turned = one();
    turned.short(0x0070, 0x0042, 90);
    let picture = shown(&turned, "").await;
    assert_eq!(picture.pixels[..4], [204, 136, 68, 0], "the left column is above");
    turned.text(0x0070, 0x0041, "CS", "Y");
    assert_eq!(shown(&turned, "").await.pixels[..4], [0, 68, 136, 204]);
    let mut corner = one();
    corner.sequence(0x0070, 0x005A, vec![area("3,3", "4,4", "SCALE TO FIT")]);
    let picture = shown(&corner, "").await;
    assert_eq!(picture, Read { width: 2, height: 2, pixels: vec![170, 187, 238, 255] });
    let size = |read: Read| (read.width, read.height);
    assert_eq!(size(shown(&corner, "?viewport=8,100").await), (8, 8));
    let mut large = one();
    let mut magnified = area("1,1", "4,2", "MAGNIFY");
    magnified.bytes(0x0070, 0x0103, "FL", &3_f32.to_le_bytes());
    large.sequence(0x0070, 0x005A, vec![magnified]).short(0x0070, 0x0042, 270);
    assert_eq!(size(shown(&large, "").await), (6, 12));
}

#[tokio::test]
async fn frames_come_in_the_order_of_the_references_each_in_its_window() {
    let server = Server::start().await;
    let mut pair =
        state(vec![image("1.2.1.1.2", "3\\1"), image("1.2.1.1.9", ""), image("1.2.1.1.1", "")]);
    let dark = window("108", vec![image("1.2.1.1.2", "1")]);
    pair.sequence(0x0028, 0x3110, vec![dark, window("8", vec![])]);
    let files = [contrary().file(), multi_frame("1.2.1.1.2", 3).file(), pair.file()];
    server.store("/studies", &files).await.is(200);
    let several = "multipart/related; type=\"image/png\"";
    let answer = server.get_as(STATE, several).await.is(200);
    let first: Vec<u8> = answer.parts().iter().map(|part| png(&part.body).pixels[1]).collect();
    assert_eq!(first, [51, 0, 17]);
    server.get_as(STATE, "image/png").await.problem(406);
    for (query, field) in [("window=1,2,linear", "window"), ("viewport=4,4,1", "viewport")] {
        let problem = server.get(&format!("{STATE}?{query}")).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    // In a study a state has no part of its own.
    let study = server.get("/studies/1.2.1/rendered").await.is(206);
    assert_eq!(study.parts().len(), 4);
}

#[tokio::test]
async fn what_cannot_be_drawn_whole_is_refused() {
    let mut graphic = one();
    graphic.sequence(0x0070, 0x0001, vec![Dicom::item()]);
    let mut shutter = one();
    shutter.text(0x0018, 0x1600, "CS", "CIRCULAR");
    let mut overlay = one();
    overlay.words(0x6000, 0x3000, "OW", vec![1]);
    let mut blending = one();
    blending.text(0x0008, 0x0016, "UI", BLENDING);
    let elsewhere = state(vec![image(UNUSED, "")]);
    for (n, state) in [graphic, shutter, overlay, blending, elsewhere].iter().enumerate() {
        let server = Server::start().await;
        server.store("/studies", &[contrary().file(), state.file()]).await.is(200);
        server.get(STATE).await.problem(406);
        let thumbnail = server.get(&STATE.replace("rendered", "thumbnail")).await;
        assert_eq!(thumbnail.status, 200, "{n}");
    }
}

#[tokio::test]
async fn wado_uri_shows_an_image_by_a_state() {
    let server = Server::start().await;
    let files = [contrary().file(), multi_frame("1.2.1.1.2", 2).file(), one().file()];
    server.store("/studies", &files).await.is(200);
    let wado = |instance: &str, state: &str| {
        format!(
            "/wado?requestType=WADO&studyUID=1.2.1&seriesUID=1.2.1.1&objectUID={instance}\
             &contentType=image/png&presentationSeriesUID=1.2.1.1&presentationUID={state}"
        )
    };
    let answer = server.get(&wado("1.2.1.1.1", "1.2.1.1.90")).await.is(200);
    assert_eq!(png(&answer.body).pixels, greys());
    let sized = format!("{}&rows=8&columns=8", wado("1.2.1.1.1", "1.2.1.1.90"));
    assert_eq!(png(&server.get(&sized).await.is(200).body).width, 8);
    // No such state, no state at all, and a state of other images.
    for (instance, state) in
        [("1.2.1.1.1", UNUSED), ("1.2.1.1.1", "1.2.1.1.2"), ("1.2.1.1.2", "1.2.1.1.90")]
    {
        let problem = server.get(&wado(instance, state)).await.problem(400);
        assert_eq!(problem["errors"][0]["field"], "presentationUID", "{instance} {state}");
    }
}
