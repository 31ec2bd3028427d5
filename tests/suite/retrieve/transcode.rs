//! Transcoding of instances and frames: from whatever is stored to whatever can be encoded.

use collimator::{
    codec::{self, Layout, Photometric},
    dicom::{Tag, transfer_syntax::TransferSyntax},
};
use reqwest::Method;

use super::pixels::{INSTANCE, joined, lossless, lossy, native, picture, read, stored, uid};
use crate::harness::{
    Dicom, Server,
    corpus::{EXPLICIT, JPEG_BASELINE, RLE},
    send,
};

fn dicom_in(syntax: &str) -> String {
    format!("application/dicom; transfer-syntax={syntax}")
}

#[tokio::test]
async fn lossless_there_and_back_is_bit_exact() {
    for (bits, samples, frames) in [(16, 1, 3), (8, 3, 2), (8, 1, 1)] {
        let picture = picture(bits, samples, frames);
        let sources = native().into_iter().chain(lossless());
        let (mut given, mut refused) = (0, Vec::new());
        let server = Server::start().await;
        for (n, source) in sources.enumerate() {
            let Some(mut dicom) = stored(&picture, source) else { continue };
            let instance = format!("1.2.1.1.{n}");
            let path = INSTANCE.replace("1.2.1.1.1", &instance);
            dicom.text(0x0008, 0x0018, "UI", &instance);
            server.store("/studies", &[dicom.file()]).await.is(200);
            for wanted in std::iter::once(EXPLICIT).chain(lossless()) {
                let what = format!("{bits} bits, {samples} samples: {source} as {wanted}");
                let answer = server.get_as(&path, &dicom_in(wanted)).await;
                if answer.status == 406 {
                    assert!(stored(&picture, wanted).is_none(), "{what}: {}", answer.text());
                    refused.push(wanted);
                    continue;
                }
                let answer = answer.is(200);
                assert_eq!(answer.header("content-type"), dicom_in(wanted), "{what}");
                let read = read(&answer.body);
                assert_eq!(read.syntax, wanted, "{what}");
                assert_eq!(read.indexed.instance.as_str(), instance, "{what}");
                assert_eq!(read.decoded(), picture.frames, "{what}");
                assert_eq!(read.text(0x0010, 0x0010), "Doe^Jane", "{what}");
                assert!(!read.header.root().has(Tag(0x0028, 0x2110)), "{what}");
                assert_eq!(read.text(0x0028, 0x0008), frames.to_string(), "{what}");
                given += 1;
                // A frame of it, in the media type of the syntax.
                let entry = TransferSyntax::of(&uid(wanted));
                let accept = format!("{}; transfer-syntax={wanted}", entry.media_type);
                let frame = format!("{path}/frames/{frames}");
                let frame = server.get_as(&frame, &accept).await.is(200);
                assert_eq!(frame.header("content-type"), accept, "{what}");
                assert_eq!(frame.header("content-length"), frame.body.len().to_string());
                let layout = Layout::of(read.header.root()).unwrap();
                let decoded = codec::decode(&uid(wanted), &layout, &frame.body).unwrap();
                assert_eq!(decoded.data, *picture.frames.last().unwrap(), "{what}");
            }
        }
        assert!(given > 12, "{bits} {samples}: {given} given, {refused:?} refused");
    }
}

#[tokio::test]
async fn by_default_instances_and_frames_are_native() {
    let picture = picture(16, 1, 3);
    let server = Server::start().await;
    let file = stored(&picture, RLE).unwrap().file();
    server.store("/studies", &[file.clone()]).await.is(200);
    for accept in ["application/dicom", "*/*", "multipart/related; type=\"application/dicom\""] {
        let answer = server.get_as(INSTANCE, accept).await.is(200);
        let body = match answer.header("content-type").starts_with("multipart") {
            true => answer.bodies().remove(0),
            false => answer.body.to_vec(),
        };
        let read = read(&body);
        assert_eq!((&*read.syntax, read.frames()), (EXPLICIT, picture.frames.clone()), "{accept}");
    }
    let answer = server.get(&format!("{INSTANCE}/frames/3,1")).await.is(200);
    let parts = answer.parts();
    let octets = format!("application/octet-stream; transfer-syntax={EXPLICIT}");
    assert!(parts.iter().all(|part| part.header("content-type") == octets));
    let bodies: Vec<_> = parts.iter().map(|part| &part.body).collect();
    assert_eq!(bodies, [&picture.frames[2], &picture.frames[0]]);
    // Its length is known beforehand, so that it can be had in pieces.
    let whole = answer.body.clone();
    assert_eq!(answer.header("content-length"), whole.len().to_string());
    let from = whole.len() - 300;
    let range = format!("bytes={from}-");
    let path = format!("{INSTANCE}/frames/3,1");
    let piece = server.get_with(&path, &[("accept", "*/*"), ("range", &range)]).await.is(206);
    assert_eq!(piece.body, whole[from..]);
    // As it is stored, on demand; and nothing is decoded for that.
    let stored = server.get_as(INSTANCE, &dicom_in("*")).await.is(200);
    assert_eq!(stored.body, file);
}

#[tokio::test]
async fn single_bits_are_joined_without_gaps() {
    let picture = picture(1, 1, 3);
    let mut tried = 0;
    for source in lossless() {
        let Some(dicom) = stored(&picture, source) else { continue };
        tried += 1;
        let server = Server::start().await;
        server.store("/studies", &[dicom.file()]).await.is(200);
        let answer = server.get_as(INSTANCE, &dicom_in(EXPLICIT)).await.is(200);
        let mut expected = joined(&picture);
        expected.resize(expected.len().next_multiple_of(2), 0);
        assert!(answer.body.ends_with(&expected), "{source}");
        let path = format!("{INSTANCE}/frames/2");
        let frame = server.get_as(&path, "application/octet-stream").await.is(200);
        assert_eq!(frame.body, picture.frames[1], "{source}");
    }
    assert!(tried > 0);
}

#[tokio::test]
async fn what_loses_something_is_another_instance() {
    let picture = picture(8, 3, 2);
    let server = Server::start().await;
    let mut dicom = stored(&picture, EXPLICIT).unwrap();
    dicom.text(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY");
    server.store("/studies", &[dicom.file()]).await.is(200);
    let mut uids = Vec::new();
    let mut tried = 0;
    for wanted in lossy() {
        let answer = server.get_as(INSTANCE, &dicom_in(wanted)).await;
        if answer.status == 406 {
            continue;
        }
        tried += 1;
        let read = read(&answer.is(200).body);
        assert_eq!(read.syntax, wanted);
        let instance = read.text(0x0008, 0x0018);
        assert!(instance.starts_with("2.25."), "{wanted}: {instance}");
        assert_eq!(read.indexed.warnings, [], "{wanted}: the File Meta Information agrees");
        assert_eq!(read.texts(0x0008, 0x0008), ["DERIVED", "PRIMARY"], "{wanted}");
        assert_eq!(read.text(0x0028, 0x2110), "01", "{wanted}");
        assert!(read.text(0x0028, 0x2112).parse::<f64>().unwrap() > 0.0, "{wanted}");
        assert!(read.text(0x0028, 0x2114).starts_with("ISO_"), "{wanted}");
        let root = read.header.root();
        let source = root.item(Tag(0x0008, 0x2112), 0).unwrap();
        assert_eq!(source.text(Tag(0x0008, 0x1155)).as_deref(), Some("1.2.1.1.1"));
        assert_eq!(read.frames().len(), 2, "{wanted}");
        // The same request makes the same instance.
        let again = server.get_as(INSTANCE, &dicom_in(wanted)).await.is(200);
        assert_eq!(super::pixels::read(&again.body).text(0x0008, 0x0018), instance);
        uids.push(instance);
    }
    assert!(tried > 0);
    uids.dedup();
    assert_eq!(uids.len(), tried, "each has its own UID");
    // Nobody gets a lossy form without asking for it.
    let frame = server.get_as(&format!("{INSTANCE}/frames/1"), "image/jpeg").await.is(200);
    assert!(frame.header("content-type").ends_with("1.2.840.10008.1.2.4.70"));
}

#[tokio::test]
async fn lossy_pixels_stay_lossy_and_say_so() {
    let picture = picture(8, 3, 1);
    let server = Server::start().await;
    let dicom = stored(&picture, JPEG_BASELINE).unwrap();
    server.store("/studies", &[dicom.file()]).await.is(200);
    let read = read(&server.get_as(INSTANCE, &dicom_in(EXPLICIT)).await.is(200).body);
    assert_eq!(read.text(0x0028, 0x2110), "01");
    assert_eq!(read.text(0x0028, 0x0004), Photometric::Rgb.term());
    assert_eq!(read.text(0x0008, 0x0018), "1.2.1.1.1");
    // To whom everything is welcome, what is stored is given (PS3.18 §8.7.3.5.2).
    assert_eq!(server.get(INSTANCE).await.is(200).bodies(), [dicom.file()]);
    let jpeg = format!("image/jpeg; transfer-syntax={JPEG_BASELINE}");
    for accept in ["image/jpeg", "image/jpeg; transfer-syntax=*"] {
        let frame = server.get_as(&format!("{INSTANCE}/frames/1"), accept).await.is(200);
        assert_eq!(frame.header("content-type"), jpeg);
    }
    let lossless = format!("image/jpeg; transfer-syntax={}", "1.2.840.10008.1.2.4.70");
    server.get_as(&format!("{INSTANCE}/frames/1"), &lossless).await.is(200);
}

#[tokio::test]
async fn the_rest_of_the_data_set_stays() {
    let picture = picture(16, 1, 2);
    let mut dicom = stored(&picture, RLE).unwrap();
    let mut icon = Dicom::item();
    icon.short(0x0028, 0x0010, 2).bytes(0x7FE0, 0x0010, "OB", &[1, 2, 3, 4]);
    let mut nested = Dicom::item();
    nested.text(0x0008, 0x0100, "SH", "T-1").short(0x0028, 0x0010, 7);
    dicom
        .sequence(0x0040, 0xA730, vec![nested])
        .sequence(0x0088, 0x0200, vec![icon])
        .bytes(0x0009, 0x1001, "OB", &(0..=255).cycle().take(9000).collect::<Vec<u8>>())
        .text(0xFFFC, 0xFFFC, "OB", "trailing padding");
    let server = Server::start().await;
    server.store("/studies", &[dicom.file()]).await.is(200);
    let mut expected = read(&dicom.file());
    for wanted in [EXPLICIT, "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70"] {
        let answer = server.get_as(INSTANCE, &dicom_in(wanted)).await.is(200);
        let got = read(&answer.body);
        assert_eq!(got.decoded(), picture.frames, "{wanted}");
        let tags = |read: &super::pixels::Read| {
            read.header.root().attributes().map(|(tag, _)| tag).collect::<Vec<_>>()
        };
        assert_eq!(tags(&got), tags(&expected), "{wanted}");
        for (tag, _) in expected.header.root().attributes() {
            let changes = tag == Tag(0x7FE0, 0x0010);
            let (was, is) = (expected.header.root().raw(tag), got.header.root().raw(tag));
            assert!(changes || was == is, "{wanted}: {tag}: {was:?} {is:?}");
        }
    }
    // An icon in fragments belongs to the old transfer syntax.
    let mut icon = Dicom::item();
    icon.short(0x0028, 0x0010, 2).encapsulated(RLE, vec![vec![1, 2, 3, 4]]);
    dicom.sequence(0x0088, 0x0200, vec![icon]);
    expected = read(&dicom.file());
    assert!(expected.header.root().has(Tag(0x0088, 0x0200)));
    let server = Server::start().await;
    server.store("/studies", &[dicom.file()]).await.is(200);
    let got = read(&server.get_as(INSTANCE, &dicom_in(EXPLICIT)).await.is(200).body);
    assert!(!got.header.root().has(Tag(0x0088, 0x0200)));
    assert_eq!(got.decoded(), picture.frames);
    assert!(got.header.root().has(Tag(0xFFFC, 0xFFFC)));
}

#[tokio::test]
async fn damaged_pixels_are_told_before_the_answer_and_given_as_they_are() {
    let picture = picture(16, 1, 2);
    let server = Server::start().await;
    let mut dicom = stored(&picture, RLE).unwrap();
    let file = dicom.encapsulated(RLE, vec![vec![0xEE; 100], vec![0xEE; 100]]).file();
    server.store("/studies", &[file.clone()]).await.is(200);
    for path in [INSTANCE.to_owned(), format!("{INSTANCE}/frames/1")] {
        let octets = "application/octet-stream, application/dicom";
        let problem = server.get_as(&path, octets).await.problem(406);
        assert_eq!(problem["type"], "urn:collimator:problem:undecodable");
        assert!(!problem["available"].as_array().unwrap().is_empty(), "{problem}");
    }
    assert_eq!(server.get_as(INSTANCE, &dicom_in("*")).await.is(200).body, file);
    assert_eq!(server.get(INSTANCE).await.is(200).bodies(), [file.clone()], "anything will do");
    let frame = server.get_as(&format!("{INSTANCE}/frames/1"), "image/dicom-rle").await.is(200);
    assert_eq!(frame.body, vec![0xEE; 100]);
    let second_choice = format!("{}, {}; q=0.5", dicom_in(EXPLICIT), dicom_in("*"));
    assert_eq!(server.get_as(INSTANCE, &second_choice).await.is(200).body, file);
    // In a study the rest is given, and the answer says that it is not all.
    let mut other = stored(&picture, RLE).unwrap();
    other.text(0x0008, 0x0018, "UI", "1.2.1.1.2");
    server.store("/studies", &[other.file()]).await.is(200);
    let wanted =
        format!("multipart/related; type=\"application/dicom\"; transfer-syntax={EXPLICIT}");
    let answer = server.get_as("/studies/1.2.1", &wanted).await.is(206);
    assert_eq!(answer.parts().len(), 1);
    // One that turns out to be damaged when the answer is on its way is given as it is stored.
    let mut third = stored(&picture, RLE).unwrap();
    let third = third
        .text(0x0008, 0x0018, "UI", "1.2.1.1.4")
        .encapsulated(RLE, vec![vec![0xEE; 100]])
        .file();
    server.store("/studies", &[third.clone()]).await.is(200);
    let answer = server.get_as("/studies/1.2.1", &wanted).await.is(206);
    let parts = answer.parts();
    assert_eq!((parts.len(), &parts[1].body), (2, &third));
    assert_eq!(parts[1].header("content-type"), dicom_in(RLE));
    // A later frame that is damaged breaks the connection off.
    let mut frames = vec![vec![0xEE; 100]; 2];
    frames[0] = read(&stored(&picture, RLE).unwrap().file()).frames()[0].clone();
    let mut late = stored(&picture, RLE).unwrap();
    late.text(0x0008, 0x0018, "UI", "1.2.1.1.3").encapsulated(RLE, frames);
    server.store("/studies", &[late.file()]).await.is(200);
    let path = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.3";
    let request = server.request(Method::GET, path).header("accept", dicom_in(EXPLICIT));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "half a picture is no answer");
}

#[tokio::test]
async fn a_frame_larger_than_the_memory_for_frames_is_refused() {
    let picture = picture(16, 1, 1);
    let server = Server::with(&[("retrieve.codec_bytes", "1MiB")]).await;
    let mut dicom = stored(&picture, RLE).unwrap();
    dicom.short(0x0028, 0x0010, 5000).short(0x0028, 0x0011, 5000);
    let file = dicom.file();
    server.store("/studies", &[file.clone()]).await.is(200);
    for path in [INSTANCE.to_owned(), format!("{INSTANCE}/frames/1")] {
        let accept = "application/octet-stream, application/dicom";
        server.get_as(&path, accept).await.problem(413);
    }
    assert_eq!(server.get_as(INSTANCE, &dicom_in("*")).await.is(200).body, file);
}

#[tokio::test]
async fn head_answers_without_a_body() {
    let picture = picture(16, 1, 2);
    let server = Server::start().await;
    server.store("/studies", &[stored(&picture, RLE).unwrap().file()]).await.is(200);
    let path = format!("{INSTANCE}/frames/1,2");
    let head = send(server.request(Method::HEAD, &path)).await.is(200);
    let whole = server.get(&path).await.is(200);
    assert!(head.body.is_empty());
    for name in ["content-type", "content-length", "etag", "cache-control"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
    let tag = whole.header("etag").to_owned();
    let same = server.get_with(&path, &[("accept", "*/*"), ("if-none-match", &tag)]).await;
    assert!(same.is(304).body.is_empty());
}
