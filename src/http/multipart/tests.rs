//! Reader against the syntax, its edges and its limits; writer against reader.

use std::time::Duration;

use axum::{
    BoxError,
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures::{FutureExt as _, stream};
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::*;
use crate::config::LimitsConfig;

const DICOM: &[&str] = &["application/dicom", "application/json"];
const TYPE: &str = r#"multipart/related; type="application/dicom"; boundary=b"#;

fn headers(content_type: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap())])
}

fn body_of(chunks: Vec<Bytes>) -> Body {
    Body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, BoxError>)))
}

fn limits() -> LimitsConfig {
    LimitsConfig {
        instance_bytes: 1 << 20,
        request_bytes: 1 << 21,
        parts: 8,
        ..LimitsConfig::default()
    }
}

type Parts = Vec<(Option<String>, Vec<u8>)>;

/// All parts, up to the error if there is one.
async fn drain(reader: &mut PartReader) -> (Parts, Option<MultipartError>) {
    let mut parts = Vec::new();
    loop {
        let mut part = match reader.next_part().await {
            Ok(Some(part)) => part,
            Ok(None) => return (parts, None),
            Err(error) => return (parts, Some(error)),
        };
        let media_type = part.head.content_type.as_ref().map(|own| own.essence().to_owned());
        let mut content = Vec::new();
        loop {
            match part.chunk().await {
                Ok(Some(chunk)) => content.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return (parts, Some(error)),
            }
        }
        parts.push((media_type, content));
    }
}

async fn read(content_type: &str, chunks: Vec<Bytes>) -> (Parts, Option<MultipartError>) {
    match PartReader::open(&headers(content_type), body_of(chunks), &limits(), DICOM) {
        Ok(mut reader) => drain(&mut reader).await,
        Err(error) => (Vec::new(), Some(error)),
    }
}

fn split(text: &[u8], size: usize) -> Vec<Bytes> {
    text.chunks(size.max(1)).map(Bytes::copy_from_slice).collect()
}

/// The contents of a body's parts, however it is cut.
async fn contents(body: &str) -> Result<Vec<String>, MultipartError> {
    let mut seen = None;
    for size in (1..=body.len().max(1)).rev() {
        let (parts, error) = read(TYPE, split(body.as_bytes(), size)).await;
        let parts: Vec<String> =
            parts.into_iter().map(|(_, content)| String::from_utf8(content).unwrap()).collect();
        let result = match error {
            None => Ok(parts),
            Some(error) => Err(error),
        };
        let first = seen.get_or_insert_with(|| result.clone());
        assert_eq!(*first, result, "chunks of {size}");
    }
    seen.unwrap()
}

#[tokio::test]
async fn parts_come_out_however_the_body_is_cut() {
    let h = "Content-Type: application/dicom\r\n\r\n";
    for (body, expected) in [
        (format!("--b\r\n{h}one\r\n--b\r\n{h}two\r\n--b--\r\n"), vec!["one", "two"]),
        // dcm4che starts with an empty line; closing delimiters without line end are usual.
        (format!("\r\n--b\r\n{h}one\r\n--b--"), vec!["one"]),
        (format!("preamble --b\r\nx--b\r\n\r\n--b\r\n{h}one\r\n--b--\r\nepilogue"), vec!["one"]),
        (format!("--b  \t\r\n{h}one\r\n--b \r\n{h}two\r\n--b-- "), vec!["one", "two"]),
        ("--b--".to_owned(), vec![]),
        ("--b\r\n\r\none\r\n--b--".to_owned(), vec!["one"]),
        // Without content, with and without an empty line of its own.
        (format!("--b\r\n{h}\r\n--b--"), vec![""]),
        (format!("--b\r\n{h}--b\r\n{h}x\r\n--b--"), vec!["", "x"]),
        (format!("--b\r\n{h}--b--"), vec![""]),
        // Almost delimiters are content.
        (
            format!("--b\r\n{h}\r\n--bc\r\n--b x\r\n-\r\n--\r\n--b-x\r\n--a\n--b\n\r\r\n--b--"),
            vec!["\r\n--bc\r\n--b x\r\n-\r\n--\r\n--b-x\r\n--a\n--b\n\r"],
        ),
        (format!("--b\r\n{h}--bc\r\n--b--"), vec!["--bc"]),
        // A sender that ends every line with LF alone.
        (
            "--b\nContent-Type: a/b\n\none\r\n--b\n\n\ntwo\n--b--\n".to_owned(),
            vec!["one\r", "\ntwo"],
        ),
    ] {
        let expected = expected.into_iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(contents(&body).await, Ok(expected), "{body:?}");
    }
}

#[tokio::test]
async fn broken_bodies_are_named() {
    let h = "Content-Type: application/dicom\r\n\r\n";
    for body in [
        "".to_owned(),
        "no delimiter at all".to_owned(),
        "--b".to_owned(),
        "--b\r\n".to_owned(),
        "--b\r\nContent-Type: x".to_owned(),
        format!("--b\r\n{h}"),
        format!("--b\r\n{h}one"),
        format!("--b\r\n{h}one\r\n--b"),
        format!("--b\r\n{h}one\r\n--b-"),
        format!("--b\r\n{h}one\r\n--b\r\n"),
    ] {
        assert_eq!(contents(&body).await, Err(MultipartError::Truncated), "{body:?}");
    }
    for body in ["--b\r\nno colon\r\n\r\n", "--b\r\n folded: x\r\n\r\n", "--b\r\na: \x01\r\n\r\n"] {
        assert_eq!(contents(body).await, Err(MultipartError::Header), "{body:?}");
    }
    let fields = format!("--b\r\n{}\r\nx\r\n--b--", "a: b\r\n".repeat(65));
    assert_eq!(contents(&fields).await, Err(MultipartError::Header));
}

#[tokio::test]
async fn limits_hold() {
    let (_, error) =
        read(TYPE, split(format!("--b\r\na: {}\r\n", "x".repeat(20_000)).as_bytes(), 999)).await;
    assert_eq!(error, Some(MultipartError::HeaderTooLarge { limit: 16 << 10 }));

    let (parts, error) = read(TYPE, vec![Bytes::from("--b\r\n\r\nx\r\n".repeat(9))]).await;
    assert_eq!((parts.len(), error), (8, Some(MultipartError::TooManyParts { limit: 8 })));

    let large = Bytes::from(vec![b'x'; (1 << 20) - 100]);
    let frames = vec![Bytes::from("--b\r\n\r\n"), large.clone(), large.clone(), large];
    let mut reader = PartReader::open(&headers(TYPE), body_of(frames), &limits(), DICOM).unwrap();
    let mut part = reader.next_part().await.unwrap().unwrap();
    assert!(part.chunk().await.unwrap().is_some());
    assert_eq!(part.chunk().await, Err(MultipartError::PartTooLarge { limit: 1 << 20 }));
    assert_eq!(part.chunk().await, Ok(None));
    let error = reader.next_part().await.err();
    assert_eq!(error, Some(MultipartError::RequestTooLarge { limit: 1 << 21 }));
    assert!(reader.next_part().await.unwrap().is_none());
}

#[tokio::test]
async fn a_part_that_is_too_long_fails_alone() {
    let frames = vec![
        Bytes::from("--b\r\n\r\n"),
        Bytes::from(vec![b'x'; (1 << 20) + 1]),
        Bytes::from("\r\n--b\r\n\r\nnext\r\n--b--"),
    ];
    let mut reader = PartReader::open(&headers(TYPE), body_of(frames), &limits(), DICOM).unwrap();
    let mut part = reader.next_part().await.unwrap().unwrap();
    assert!(matches!(part.chunk().await, Err(MultipartError::PartTooLarge { .. })));
    let next = reader.next_part().await.unwrap().unwrap();
    assert_eq!(next.collect(4).await.unwrap(), "next");
    assert!(reader.next_part().await.unwrap().is_none());
}

#[tokio::test]
async fn a_small_part_is_collected_and_a_large_one_is_not() {
    let body = || vec![Bytes::from("--b\r\n\r\n12345\r\n--b\r\n\r\nx\r\n--b--")];
    let open = || PartReader::open(&headers(TYPE), body_of(body()), &limits(), DICOM).unwrap();
    let mut reader = open();
    assert_eq!(reader.next_part().await.unwrap().unwrap().collect(5).await.unwrap(), "12345");
    let mut reader = open();
    let error = reader.next_part().await.unwrap().unwrap().collect(4).await;
    assert_eq!(error, Err(MultipartError::NotSmall { limit: 4 }));
    assert_eq!(reader.next_part().await.unwrap().unwrap().collect(4).await.unwrap(), "x");
}

#[tokio::test]
async fn a_read_that_is_given_up_loses_nothing() {
    let body = b"--b\r\n\r\none\r\n--almost\r\n--b--";
    let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(1);
    let chunks = stream::unfold(receive, async |mut receive| {
        Some((Ok::<_, BoxError>(receive.recv().await?), receive))
    });
    let mut reader =
        PartReader::open(&headers(TYPE), Body::from_stream(chunks), &limits(), DICOM).unwrap();
    let (mut send, mut bytes) = (Some(send), body.iter());
    let mut content = Vec::new();
    let mut is_open = false;
    // Each call is polled once and dropped unless it is done; then one more byte arrives.
    loop {
        if !is_open {
            is_open = reader.next_head().now_or_never().is_some_and(|head| head.is_ok());
        } else if let Some(chunk) = reader.chunk().now_or_never() {
            match chunk.unwrap() {
                Some(chunk) => content.extend_from_slice(&chunk),
                None => break,
            }
            continue;
        }
        match bytes.next() {
            Some(byte) => {
                let send = send.as_ref().unwrap();
                send.send(Bytes::copy_from_slice(&[*byte])).await.unwrap();
            }
            None => send = None,
        }
    }
    assert_eq!(content, b"one\r\n--almost");
}

#[tokio::test]
async fn a_bare_body_is_one_part() {
    let chunks = || vec![Bytes::from("ab"), Bytes::from("c")];
    let (parts, error) = read("application/dicom; x=y", chunks()).await;
    assert_eq!(error, None);
    assert_eq!(parts, [(Some("application/dicom".into()), b"abc".to_vec())]);
    // Without a byte it is none.
    let (parts, error) = read("application/dicom", vec![]).await;
    assert_eq!((parts.len(), error), (0, None));
}

#[tokio::test]
async fn what_is_not_taken_is_refused_at_the_door() {
    for content_type in [
        "text/plain",
        "multipart/form-data; boundary=b",
        "multipart/related; type=text/html; boundary=b",
        "x",
    ] {
        let (_, error) = read(content_type, vec![]).await;
        assert!(matches!(error, Some(MultipartError::Unsupported { .. })), "{content_type}");
    }
    let long = format!("multipart/related; boundary={}", "b".repeat(71));
    for content_type in ["multipart/related", "multipart/related; boundary=\"\"", &long] {
        let (_, error) = read(content_type, vec![]).await;
        assert_eq!(error, Some(MultipartError::Boundary), "{content_type}");
    }
    let mut coded = headers("application/dicom");
    coded.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let error = PartReader::open(&coded, Body::empty(), &limits(), DICOM).err();
    assert!(matches!(error, Some(MultipartError::Unsupported { .. })));
}

#[tokio::test]
async fn an_announced_length_beyond_the_limit_is_refused_before_it_is_sent() {
    for (length, refused) in [("2097152", false), ("2097153", true), ("x", false)] {
        let mut announced = headers(TYPE);
        announced.insert(header::CONTENT_LENGTH, HeaderValue::from_static(length));
        let opened = PartReader::open(&announced, Body::empty(), &limits(), DICOM);
        let too_large = matches!(opened, Err(MultipartError::RequestTooLarge { .. }));
        assert_eq!(too_large, refused, "{length}");
    }
}

#[tokio::test]
async fn a_refused_body_is_read_to_its_end_but_not_for_ever() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let endless = stream::repeat_with(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, BoxError>(Bytes::from_static(&[0; 4096]))
    });
    let limits = LimitsConfig { request_bytes: u64::MAX, ..limits() };
    let reader =
        PartReader::open(&headers(TYPE), Body::from_stream(endless), &limits, DICOM).unwrap();
    reader.discard().await;
    assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), (16 << 20) / 4096);
}

#[tokio::test]
async fn a_silent_client_and_a_lost_one_are_told_apart() {
    let limits = LimitsConfig { body_idle: Duration::from_millis(1), ..limits() };
    let silent = Body::from_stream(stream::pending::<Result<Bytes, BoxError>>());
    let mut reader = PartReader::open(&headers(TYPE), silent, &limits, DICOM).unwrap();
    assert_eq!(drain(&mut reader).await.1, Some(MultipartError::Idle));
    let lost = Body::from_stream(stream::iter([Ok(Bytes::from("--b\r\n\r\nx")), Err("lost")]));
    let mut reader = PartReader::open(&headers(TYPE), lost, &limits, DICOM).unwrap();
    assert_eq!(drain(&mut reader).await.1, Some(MultipartError::Truncated));
}

#[tokio::test]
async fn content_is_not_copied() {
    let frame = Bytes::from([b"--b\r\n\r\n", vec![7; 100_000].as_slice()].concat());
    let inside = frame.as_ptr_range();
    let chunks = vec![frame.clone(), Bytes::from("\r\n--b--")];
    let mut reader = PartReader::open(&headers(TYPE), body_of(chunks), &limits(), DICOM).unwrap();
    let mut part = reader.next_part().await.unwrap().unwrap();
    let chunk = part.chunk().await.unwrap().unwrap();
    assert_eq!(chunk.len(), 100_000);
    assert!(inside.contains(&chunk.as_ptr()));
}

async fn sent(response: Response) -> (HeaderMap, Result<Bytes, axum::Error>) {
    let (head, body) = response.into_parts();
    (head.headers, body.collect().await.map(http_body_util::Collected::to_bytes))
}

fn frame_part(content: &'static str) -> OutPart {
    let uid = "1.2.840.10008.1.2.1".parse().unwrap();
    let media_type = media_type_with("application/octet-stream", &uid);
    OutPart::whole(media_type, Bytes::from(content)).with_location("http://h/frames/1")
}

fn related() -> Related {
    Related::new("application/octet-stream", Boundary::of(&[b"/frames/1", b"7"]))
}

#[tokio::test]
async fn an_answer_is_what_viewers_parse() {
    let none = HeaderMap::new();
    let parts = vec![frame_part("one"), frame_part("two")];
    let (headers, body) = sent(related().known(parts, &none, None).unwrap()).await;
    let body = String::from_utf8(body.unwrap().to_vec()).unwrap();
    let boundary = Boundary::of(&[b"/frames/1", b"7"]);
    let boundary = boundary.as_str();
    let content_type =
        format!(r#"multipart/related; type="application/octet-stream"; boundary="{boundary}""#);
    assert_eq!(headers[header::CONTENT_TYPE], content_type);
    let head = "Content-Type: application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1\r\n\
                Content-Location: http://h/frames/1\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(
        body,
        format!("--{boundary}\r\n{head}one\r\n--{boundary}\r\n{head}two\r\n--{boundary}--\r\n")
    );
    assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
}

#[tokio::test]
async fn ranges_of_two_answers_fit_together() {
    let none = HeaderMap::new();
    let parts = || vec![frame_part("one"), frame_part("two")];
    let whole = sent(related().known(parts(), &none, None).unwrap()).await.1.unwrap();
    let mut pieces = Vec::new();
    for range in ["bytes=0-99", "bytes=100-"] {
        let asked = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(range))]);
        let response = related().known(parts(), &asked, None).unwrap();
        assert_eq!(response.status(), 206);
        pieces.push(sent(response).await.1.unwrap());
    }
    assert_eq!(pieces.concat(), whole);
}

#[tokio::test]
async fn an_error_or_a_wrong_length_breaks_the_answer_off() {
    let broken: PartStream =
        Box::pin(stream::iter([Ok(Bytes::from("x")), Err(BoxError::from("disk"))]));
    let parts = stream::iter([Ok(OutPart::new("a/b", broken)), Ok(frame_part("never"))]);
    assert!(sent(related().streamed(parts)).await.1.is_err());
    for length in [2, 4] {
        let part = Ok(OutPart::whole("a/b", Bytes::from("123")).with_length(length));
        assert!(sent(related().streamed(stream::iter([part]))).await.1.is_err());
    }
    let lost = stream::iter([Ok(frame_part("x")), Err(BoxError::from("index"))]);
    assert!(sent(related().streamed(lost)).await.1.is_err());
}

#[tokio::test]
async fn an_error_before_the_first_part_can_still_be_answered() {
    let lost = stream::iter([Err(BoxError::from("index")), Ok(frame_part("x"))]);
    assert_eq!(related().begun(lost).await.unwrap_err().to_string(), "index");
    let parts = || stream::iter([Ok(frame_part("one")), Ok(frame_part("two"))]);
    let begun = sent(related().begun(parts()).await.unwrap()).await.1.unwrap();
    assert_eq!(begun, sent(related().streamed(parts())).await.1.unwrap());
}

#[tokio::test]
async fn an_answer_without_parts_is_closed_and_no_header_can_be_forged() {
    let none = HeaderMap::new();
    let (headers, body) = sent(related().known(vec![], &none, None).unwrap()).await;
    assert!(body.unwrap().ends_with(b"--\r\n"));
    assert!(headers.contains_key(header::CONTENT_LENGTH));
    let part = OutPart::whole("a/b\r\nX: y", Bytes::new()).with_location("u\r\nX: y");
    let body = sent(related().known(vec![part], &none, None).unwrap()).await.1.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(!text.contains("X: y"), "{text}");
}

#[test]
fn boundaries_follow_from_their_pieces() {
    assert_eq!(Boundary::of(&[b"a", b"b"]), Boundary::of(&[b"a", b"b"]));
    assert_ne!(Boundary::of(&[b"a", b"b"]), Boundary::of(&[b"ab"]));
    assert_eq!(Boundary::of(&[]).as_str().len(), 32);
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.unwrap().block_on(future)
}

/// Bytes among which parts of delimiters are frequent.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let pieces = ["\r", "\n", "-", "--", "--b", "\r\n--", "\r\n--b", "b", "x", "\0", " "];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..20)
        .prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn written_parts_are_read_back_from_any_cut(
        parts in prop::collection::vec(content(), 0..5),
        cuts in prop::collection::vec(1_usize..40, 1..60),
    ) {
        let out: Vec<OutPart> = parts
            .iter()
            .map(|part| OutPart::whole("application/dicom", Bytes::copy_from_slice(part)))
            .collect();
        let related = Related::new("application/dicom", Boundary::of(&[b"x"]));
        let none = HeaderMap::new();
        let (headers, body) = block(sent(related.known(out, &none, None).unwrap()));
        let mut rest = body.unwrap();
        let mut chunks = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            chunks.push(rest.split_to((*cut).min(rest.len())));
        }
        let content_type = headers[header::CONTENT_TYPE].to_str().unwrap();
        let (read, error) = block(read(content_type, chunks));
        prop_assert_eq!(error, None);
        let read: Vec<Vec<u8>> = read.into_iter().map(|(_, content)| content).collect();
        prop_assert_eq!(read, parts);
    }

    #[test]
    fn any_bytes_give_the_same_from_any_cut_and_never_panic(
        start in prop::sample::select(vec!["", "--b\r\n", "--b\r\n\r\n", "--b\n\n"]),
        content in content(),
        size in 1_usize..20,
    ) {
        let body = [start.as_bytes(), &content].concat();
        let whole = block(read(TYPE, vec![Bytes::from(body.clone())]));
        let cut = block(read(TYPE, split(&body, size)));
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        start in prop::sample::select(vec!["", "--b\r\n", "--b\r\na: b\r\n", "--b\r\n\r\n"]),
        size in 1_usize..50,
    ) {
        let body = [start.as_bytes(), &body].concat();
        let whole = block(read(TYPE, vec![Bytes::from(body.clone())]));
        prop_assert_eq!(whole, block(read(TYPE, split(&body, size))));
    }

    #[test]
    fn arbitrary_content_types_never_panic(text in "\\PC{0,80}") {
        ContentType::parse(&text);
        ContentType::parse(&format!("a/b; {text}"));
    }
}
