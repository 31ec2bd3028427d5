//! Peers that break rules, say nothing, or come in great number.

use dicom_ul::pdu::{
    AbortRQSource, AssociationRJResult, AssociationRJServiceProviderPresentationReason,
    AssociationRJSource, PDataValueType, Pdu,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    keys,
    peer::{CT, EXPLICIT, Peer, STUDY_FIND, VERIFICATION, address, request},
    server,
};
use crate::harness::{Dicom, PARTITIONS, Server, until};

/// What is answered to bytes on a new connection, until it is closed.
async fn answered(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address(server)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn what_is_no_request_for_an_association_is_aborted() {
    let server = server(&[]).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x01\0\xFF\xFF\xFF\xFF",
        b"\x01\0\0\0\0\x04\0\x01\0\0",
        b"\x04\0\0\0\0\x06\0\0\0\x02\x01\x03",
        b"\x05\0\0\0\0\x04\0\0\0\0",
        b"\xFF\0\0\0\0\0",
    ] {
        let answer = answered(&server, bytes).await;
        assert_eq!(answer.first(), Some(&0x07), "{bytes:?}: {answer:?}");
    }
    // Cut and bent at every place: none of it is taken, none of it does harm.
    let mut whole = Vec::new();
    let good = request("A", "SERVER", &[(VERIFICATION, &[EXPLICIT])], &[CT]);
    dicom_ul::pdu::write_pdu(&mut whole, &good.into()).unwrap();
    for at in (0..whole.len()).step_by(3) {
        let mut bent = whole.clone();
        bent[at] ^= 0xFF;
        let mut stream = TcpStream::connect(address(&server)).await.unwrap();
        stream.write_all(&bent).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.first().is_none_or(|kind| [2, 3, 7].contains(kind)), "{at}: {answer:?}");
    }
    let mut peer = Peer::new(&server, "A", "SERVER", &[VERIFICATION]).await;
    assert_eq!(peer.echo().await.status, 0);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_association() {
    let server = server(&[("dimse.max_pdu", "4KiB")]).await;
    let open = || Peer::new(&server, "A", "SERVER", &[CT, STUDY_FIND]);
    let is_aborted = async |mut peer: Peer| matches!(peer.read().await, Pdu::AbortRQ { .. });
    // A PDU beyond what was agreed on, by its header alone.
    let mut peer = open().await;
    peer.raw(b"\x04\0\x7F\xFF\xFF\xFF").await;
    assert!(is_aborted(peer).await);
    // A data set without a command, a context that was not accepted, a command that is none, one
    // that does not end, an answer to nothing.
    let answer = [&[0, 0, 0, 1, 2, 0, 0, 0][..], &0x8001_u16.to_le_bytes()].concat();
    for (context, kind, is_last, bytes) in [
        (1, PDataValueType::Data, true, &b"abc"[..]),
        (99, PDataValueType::Command, true, &answer),
        (1, PDataValueType::Command, true, b"nonsense"),
        (1, PDataValueType::Command, true, &answer),
    ] {
        let mut peer = open().await;
        peer.value(context, kind, is_last, bytes).await;
        assert!(is_aborted(peer).await, "{context} {bytes:?}");
    }
    let mut peer = open().await;
    for _ in 0..8 {
        peer.value(1, PDataValueType::Command, false, &[0; 3000]).await;
    }
    assert!(is_aborted(peer).await);
    // A second request.
    let mut peer = open().await;
    peer.send(&request("A", "SERVER", &[(CT, &[EXPLICIT])], &[]).into()).await;
    assert!(is_aborted(peer).await);
    // An instance that breaks off leaves nothing.
    let mut peer = open().await;
    let data_set = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").data_set();
    let command: [(u16, &[u8]); 4] = [
        (0x0002, CT.as_bytes()),
        (0x0100, &1_u16.to_le_bytes()),
        (0x0110, &1_u16.to_le_bytes()),
        (0x1000, b"1.2.1.1.1"),
    ];
    peer.hold_back();
    peer.message(1, &command, Some(&data_set)).await;
    peer.let_go().await;
    assert_eq!(peer.answer().await.status, 0);
    peer.value(1, PDataValueType::Command, true, b"").await;
    assert!(is_aborted(peer).await);
    assert_eq!(server.search("/instances").await.len(), 1);
}

#[tokio::test]
async fn unreadable_and_endless_identifiers_are_answered() {
    let server = server(&[]).await;
    let mut peer = Peer::new(&server, "A", "SERVER", &[STUDY_FIND]).await;
    for (bytes, status) in [
        (b"nonsense".to_vec(), 0xC000),
        (vec![0; 2 << 20], 0xA700),
        (keys(&[(0x0008, 0x0052, "CS", "GALAXY")]), 0xA900),
    ] {
        let answers = peer.find(&bytes).await;
        assert_eq!(answers.last().unwrap().status, status);
    }
    // What is not offered by this class, and what is no message at all.
    for (field, status) in [(0x0001_u16, 0x0122), (0x0021, 0x0122), (0x0100, 0x0211)] {
        let command: [(u16, &[u8]); 3] = [
            (0x0002, STUDY_FIND.as_bytes()),
            (0x0100, &field.to_le_bytes()),
            (0x0110, &7_u16.to_le_bytes()),
        ];
        peer.message(1, &command, Some(b"some data set")).await;
        assert_eq!(peer.answer().await.status, status, "{field:04X}");
    }
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let server = server(&[("dimse.artim", "1s"), ("dimse.idle", "1s")]).await;
    for bytes in [&b""[..], b"\x01\0\0\0\x01\0abc"] {
        assert!(answered(&server, bytes).await.is_empty());
    }
    let mut peer = Peer::new(&server, "A", "SERVER", &[CT]).await;
    assert_eq!(peer.read().await, Pdu::AbortRQ { source: AbortRQSource::ServiceUser });
    let mut peer = Peer::new(&server, "A", "SERVER", &[CT]).await;
    peer.raw(b"\x04\0\0\0\x10\0\0\0").await;
    assert_eq!(peer.read().await, Pdu::AbortRQ { source: AbortRQSource::ServiceUser });
}

#[tokio::test]
async fn there_are_so_many_associations_and_no_more() {
    let settings = [("dimse.max_associations", "3"), ("dimse.peer_associations", "2")];
    let server = server(&settings).await;
    let ask = |ae: &'static str| {
        let contexts = [(VERIFICATION, &[EXPLICIT][..])];
        Peer::with(&server, request(ae, "SERVER", &contexts, &[]))
    };
    let one = ask("A").await.unwrap();
    let _two = ask("A").await.unwrap();
    let rejected = ask("A").await.err().unwrap();
    assert_eq!(rejected.result, AssociationRJResult::Transient);
    let _three = ask("B").await.unwrap();
    assert!(ask("C").await.is_err());
    one.release().await;
    until("a place is free", async || ask("C").await.is_ok()).await;
}

#[tokio::test]
async fn a_partition_has_so_many_and_the_others_have_theirs() {
    let peers = r#"
[[dimse.peers]]
ae = "NORTHERN"
partitions = ["north"]

[[dimse.peers]]
ae = "SOUTHERN"
partitions = ["south"]

[[dimse.peers]]
ae = "BOTH"
partitions = ["north", "south"]
"#;
    let mut settings = PARTITIONS.to_vec();
    settings.extend_from_slice(&[
        ("dimse.listen", "127.0.0.1:0"),
        ("dimse.max_associations", "5"),
        ("dimse.partition_associations", "2"),
    ]);
    let server = Server::with_file(peers, &settings).await;
    for partition in ["north", "south"] {
        let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").file();
        server.store(&format!("/partitions/{partition}/studies"), &[file]).await.is(200);
    }
    let ask = |calling: &'static str, called: &'static str| {
        let contexts = [(VERIFICATION, &[EXPLICIT][..])];
        Peer::with(&server, request(calling, called, &contexts, &[]))
    };
    let first = ask("NORTHERN", "NORTH").await.unwrap();
    let _second = ask("BOTH", "north").await.unwrap();
    // By whatever title and whoever calls.
    for calling in ["NORTHERN", "BOTH"] {
        let rejected = ask(calling, "NORTH").await.err().unwrap();
        assert_eq!(rejected.result, AssociationRJResult::Transient);
        let limit = AssociationRJServiceProviderPresentationReason::LocalLimitExceeded;
        assert_eq!(rejected.source, AssociationRJSource::ServiceProviderPresentation(limit));
    }
    // Who does not reach it is not told that it is full.
    let foreign = ask("SOUTHERN", "NORTH").await.err().unwrap();
    assert_eq!(Some(foreign), ask("SOUTHERN", "EAST").await.err());
    let mut south = ask("SOUTHERN", "SOUTH").await.unwrap();
    assert_eq!(south.echo().await.status, 0);
    first.release().await;
    until("a place is free", async || ask("NORTHERN", "NORTH").await.is_ok()).await;
}

#[tokio::test]
async fn the_end_of_the_server_ends_associations_that_wait() {
    let server = server(&[]).await;
    let mut peer = Peer::new(&server, "A", "SERVER", &[CT]).await;
    let stopped = tokio::spawn(server.stop());
    assert_eq!(peer.read().await, Pdu::AbortRQ { source: AbortRQSource::ServiceUser });
    drop(peer);
    stopped.await.unwrap();
}
