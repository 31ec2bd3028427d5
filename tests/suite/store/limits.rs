//! Limits (`[limits]`): each holds, and says which it was.

use super::{failed, others, stored};
use crate::harness::{
    Dicom, Server,
    corpus::{DEFLATED, RELATED, multipart},
};

fn ct(n: u32) -> Dicom {
    Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{n}"))
}

#[tokio::test]
async fn a_part_beyond_a_limit_fails_alone() {
    let server = Server::with(&[
        ("limits.instance_bytes", "64KiB"),
        ("limits.request_bytes", "1MiB"),
        ("limits.element_depth", "3"),
        ("limits.header_bytes", "8KiB"),
        ("limits.inflated_bytes", "32KiB"),
        ("limits.frames", "10"),
    ])
    .await;
    let mut nested = Dicom::item();
    for _ in 0..4 {
        let inner = nested.clone();
        nested = Dicom::item();
        nested.sequence(0x0040, 0xA730, vec![inner]);
    }
    let deep = {
        let mut dicom = ct(2);
        dicom.sequence(0x0040, 0xA730, vec![nested]);
        dicom
    };
    let too_long = ct(1).pixels(vec![7; 40_000]).file();
    let header = ct(3).text(0x0010, 0x4000, "UT", &"x".repeat(10_000)).file();
    // 60 KB of zeros: some hundred bytes when deflated.
    let bomb = ct(4).pixels(vec![0; 30_000]).syntax(DEFLATED).file();
    assert!(bomb.len() < 2_000);
    let frames = ct(5).encapsulated("1.2.840.10008.1.2.4.50", vec![vec![1, 2]; 11]).file();
    let fine = ct(6).file();
    let files = [too_long, deep.file(), header, bomb, frames, fine];
    let answer = server.post("/studies", RELATED, multipart(&files)).await.is(202);
    assert_eq!(stored(&answer), ["1.2.1.1.6"]);
    let refused: Vec<u64> = failed(&answer).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!([refused, others(&answer)].concat(), [0xA700; 5], "{}", answer.text());
    for key in ["instance_bytes", "element_depth", "header_bytes", "inflated_bytes", "frames"] {
        assert!(answer.text().contains(&format!("limits.{key}")), "{key}: {}", answer.text());
    }
    assert_eq!(server.search("/instances").await.len(), 1);
}

#[tokio::test]
async fn a_request_beyond_a_limit_is_refused() {
    let server = Server::with(&[
        ("limits.instance_bytes", "64KiB"),
        ("limits.request_bytes", "64KiB"),
        ("limits.parts", "3"),
    ])
    .await;
    let files: Vec<Vec<u8>> = (1..5).map(|n| ct(n).file()).collect();
    // What came before the limit is stored and told.
    let answer = server.store("/studies", &files).await.is(202);
    assert_eq!(stored(&answer).len(), 3);
    assert!(answer.text().contains("limits.parts"), "{}", answer.text());

    // Announced: nothing is read. Not announced: nothing of it is kept.
    let large = vec![ct(9).pixels(vec![0; 40_000]).file()];
    let problem = server.store("/studies", &large).await.problem(413);
    assert_eq!(problem["errors"][0]["field"], "limits.request_bytes");
    let pieces: Vec<Result<bytes::Bytes, std::io::Error>> =
        multipart(&large).chunks(8192).map(|c| Ok(bytes::Bytes::copy_from_slice(c))).collect();
    let request = server.request(reqwest::Method::POST, "/studies").header("content-type", RELATED);
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let answer = crate::harness::send(request.body(body)).await;
    assert_eq!(answer.problem(413)["errors"][0]["field"], "limits.request_bytes");
    assert_eq!(server.search("/instances").await.len(), 3);
}

#[tokio::test]
async fn a_large_instance_with_a_broken_tail_leaves_nothing() {
    let server = Server::with(&[("store.own_blob_bytes", "1MiB")]).await;
    let good = ct(1).pixels((0..2_000_000).map(|n| n as u16).collect()).file();
    let mut broken = ct(2).pixels((0..2_000_000).map(|n| n as u16).collect()).file();
    broken.truncate(broken.len() - 1_000);
    let answer = server.store("/studies", &[broken.clone()]).await.is(409);
    assert_eq!(failed(&answer), [("1.2.1.1.2".to_owned(), 0xC000)]);
    assert!(
        server.blobs("microsoft.default").is_empty(),
        "{:?}",
        server.blobs("microsoft.default")
    );
    // The same with the connection's body cut in the middle of the instance.
    let whole = multipart(&[good.clone()]);
    let cut = whole[..whole.len() - 100_000].to_vec();
    server.post("/studies", RELATED, cut).await.problem(400);
    assert!(server.blobs("microsoft.default").is_empty());
    assert_eq!(server.count("SELECT count(*) FROM instance").await, 0);
    // And whole it goes in, byte for byte, beside a broken one.
    server.store("/studies", &[broken, good.clone()]).await.is(202);
    assert_eq!(server.get("/studies/1.2.1").await.is(200).bodies(), [good]);
    assert_eq!(server.blobs("microsoft.default").len(), 1);
}
