//! Frames (PS3.18 §10.4.1.1.6): native, encapsulated, of one bit.

use serde_json::Value;

use super::UNUSED;
use crate::harness::{
    Dicom, Server,
    corpus::{BIG, DEFLATED, EXPLICIT, IMPLICIT, JPEG_BASELINE, RLE},
};

const FRAMES: &str = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/frames";
const OCTETS: &str = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";

fn frame(n: u16) -> Vec<u16> {
    (0..16).map(|p| 1000 * n + p).collect()
}

fn bytes(n: u16) -> Vec<u8> {
    frame(n).iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[tokio::test]
async fn native_frames_of_every_uncompressed_syntax() {
    for syntax in [EXPLICIT, IMPLICIT, BIG, DEFLATED] {
        let server = Server::start().await;
        let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
        ct.text(0x0028, 0x0008, "IS", "5").pixels((1..6).flat_map(frame).collect());
        server.store("/studies", &[ct.syntax(syntax).file()]).await.is(200);
        for (list, expected) in [
            ("1", vec![1]),
            ("5", vec![5]),
            ("1,2,3", vec![1, 2, 3]),
            ("4,1,1,5", vec![4, 1, 1, 5]),
        ] {
            let answer = server.get(&format!("{FRAMES}/{list}")).await.is(200);
            let parts = answer.parts();
            let bodies: Vec<_> = parts.iter().map(|part| part.body.clone()).collect();
            let wanted: Vec<_> = expected.iter().map(|n| bytes(*n)).collect();
            assert_eq!(bodies, wanted, "{syntax} {list}");
            for (part, number) in parts.iter().zip(expected) {
                assert_eq!(part.header("content-type"), OCTETS, "{syntax}");
                let location = format!("{}{FRAMES}/{number}", server.base);
                assert_eq!(part.header("content-location"), location);
            }
        }
        let one = server.get_as(&format!("{FRAMES}/3"), "application/octet-stream").await.is(200);
        assert_eq!(one.body, bytes(3), "{syntax}");
        // Beyond, none, and nonsense.
        for list in ["6", "1,6", "4294967295"] {
            server.get(&format!("{FRAMES}/{list}")).await.problem(404);
        }
        for list in ["0", "x", "1,", "1,,2", "-1", "+1", "4294967296", "1;2", "1.0"] {
            server.get(&format!("{FRAMES}/{list}")).await.problem(400);
        }
        let several = server.get_as(&format!("{FRAMES}/1,2"), "application/octet-stream").await;
        several.problem(406);
    }
}

#[tokio::test]
async fn ranges_of_a_frame() {
    let server = Server::start().await;
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").pixels(frame(1)).file();
    server.store("/studies", &[file]).await.is(200);
    let path = format!("{FRAMES}/1");
    let ask = |range: &'static str| {
        let headers = [("accept", "application/octet-stream"), ("range", range)];
        let (server, path) = (&server, &path);
        async move { server.get_with(path, &headers).await }
    };
    let whole = bytes(1);
    for (range, from, to) in
        [("bytes=0-3", 0, 4), ("bytes=4-", 4, 32), ("bytes=-5", 27, 32), ("bytes=30-99", 30, 32)]
    {
        let answer = ask(range).await.is(206);
        assert_eq!(answer.body, whole[from..to], "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {from}-{}/32", to - 1));
    }
    assert_eq!(ask("bytes=32-").await.is(416).header("content-range"), "bytes */32");
    // Other units and nonsense are ignored (RFC 9110 §14.2).
    for range in ["lines=1-2", "bytes=x", "bytes=5-1"] {
        assert_eq!(ask(range).await.is(200).body, whole, "{range}");
    }
}

#[tokio::test]
async fn encapsulated_frames_as_their_codestream() {
    let fragments = |n: u8| vec![vec![0xFF, 0xD8, n, 1], vec![2, 3], vec![0xFF, 0xD9]];
    for with_offsets in [true, false] {
        let server = Server::start().await;
        // Without offsets, only one fragment a frame says which is whose.
        let frames: Vec<Vec<Vec<u8>>> = (1..4)
            .map(|n| if with_offsets { fragments(n) } else { vec![fragments(n).concat()] })
            .collect();
        let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
        let file = ct.fragmented(JPEG_BASELINE, frames, with_offsets).file();
        server.store("/studies", &[file]).await.is(200);
        let jpeg = format!("image/jpeg; transfer-syntax={JPEG_BASELINE}");
        for accept in ["*/*", "multipart/related; type=\"image/jpeg\"; transfer-syntax=*"] {
            let answer = server.get_as(&format!("{FRAMES}/3,1"), accept).await.is(200);
            let parts = answer.parts();
            let bodies: Vec<_> = parts.iter().map(|part| part.body.clone()).collect();
            assert_eq!(bodies, [fragments(3).concat(), fragments(1).concat()]);
            assert!(parts.iter().all(|part| part.header("content-type") == jpeg));
        }
        let one = server.get_as(&format!("{FRAMES}/2"), "image/jpeg").await.is(200);
        assert_eq!((one.header("content-type"), &*one.body), (&*jpeg, &*fragments(2).concat()));
        let problem = server.get_as(&format!("{FRAMES}/1"), OCTETS).await.problem(406);
        assert!(problem["available"].as_array().unwrap().contains(&Value::from(jpeg)), "{problem}");
        server.get(&format!("{FRAMES}/4")).await.problem(404);
    }
    // All fragments are one frame where there is but one.
    let server = Server::start().await;
    let mut ct = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    let file = ct.fragmented(RLE, vec![fragments(7)], false).file();
    server.store("/studies", &[file]).await.is(200);
    let one = server.get_as(&format!("{FRAMES}/1"), "image/dicom-rle").await.is(200);
    assert_eq!(one.body, fragments(7).concat());
}

#[tokio::test]
async fn frames_of_one_bit_start_at_a_byte() {
    let server = Server::start().await;
    // Three frames of 3 × 3 bits, end to end without padding (PS3.5 §8.1.1).
    let bits: Vec<bool> = (0..27).map(|n| [0, 3, 4, 9, 10, 17, 18, 20, 26].contains(&n)).collect();
    let pack = |bits: &[bool]| {
        let byte = |b: &[bool]| b.iter().enumerate().map(|(n, bit)| u8::from(*bit) << n).sum();
        bits.chunks(8).map(byte).collect::<Vec<u8>>()
    };
    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1")
        .text(0x0028, 0x0008, "IS", "3")
        .short(0x0028, 0x0010, 3)
        .short(0x0028, 0x0011, 3)
        .short(0x0028, 0x0100, 1)
        .short(0x0028, 0x0101, 1)
        .short(0x0028, 0x0102, 0)
        .bytes(0x7FE0, 0x0010, "OB", &pack(&bits))
        .file();
    server.store("/studies", &[file]).await.is(200);
    let answer = server.get(&format!("{FRAMES}/1,2,3")).await.is(200);
    let bodies: Vec<_> = answer.parts().into_iter().map(|part| part.body).collect();
    let expected: Vec<_> = bits.chunks(9).map(pack).collect();
    assert_eq!(bodies, expected);
}

#[tokio::test]
async fn instances_without_frames() {
    let server = Server::start().await;
    let mut report = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    let file = report.remove(0x7FE0, 0x0010).text(0x0008, 0x0060, "CS", "SR").file();
    server.store("/studies", &[file]).await.is(200);
    server.get(&format!("{FRAMES}/1")).await.problem(404);
    let other = FRAMES.replace("1.2.1.1.1/", &format!("{UNUSED}/"));
    server.get(&format!("{other}/1")).await.problem(404);
}
