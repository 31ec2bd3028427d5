//! C-GET and C-MOVE.

use tokio::net::TcpListener;

use super::{
    keys,
    peer::{Answer, CT, EXPLICIT, IMPLICIT, Peer, STUDY_GET, STUDY_MOVE, data_set, request},
    server,
};
use crate::harness::{
    Dicom, Server,
    corpus::{JPEG_BASELINE, MR},
};

const STUDY: (u16, u16, &str, &str) = (0x0020, 0x000D, "UI", "1.2.1");

/// Three CT instances of two series.
async fn filled(server: &Server) -> Vec<Dicom> {
    let dicoms = vec![
        Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1"),
        Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.2"),
        Dicom::ct("1.2.1", "1.2.1.2", "1.2.1.2.1"),
    ];
    let files: Vec<_> = dicoms.iter().map(Dicom::file).collect();
    server.store("/studies", &files).await.is(200);
    dicoms
}

async fn getter(server: &Server, syntaxes: &[&str]) -> Peer {
    let contexts = [(STUDY_GET, &[EXPLICIT][..]), (CT, syntaxes)];
    Peer::with(server, request("WS", "SERVER", &contexts, &[CT])).await.unwrap()
}

/// Takes instances, answering each with a status, until the last answer.
async fn taken(peer: &mut Peer, status: u16) -> (Vec<Answer>, Answer) {
    let mut instances = Vec::new();
    loop {
        let came = peer.answer().await;
        match came.field {
            0x0001 => {
                peer.stored(&came, status).await;
                instances.push(came);
            }
            _ if came.status == 0xFF00 => {}
            _ => return (instances, came),
        }
    }
}

#[tokio::test]
async fn a_study_a_series_and_instances_come_as_they_are_stored() {
    let server = server(&[]).await;
    let dicoms = filled(&server).await;
    let mut peer = getter(&server, &[EXPLICIT]).await;
    let series = (0x0020, 0x000E, "UI", "1.2.1.1");
    let level = |level| (0x0008, 0x0052, "CS", level);
    let one = (0x0008, 0x0018, "UI", "1.2.1.1.2");
    let two = (0x0008, 0x0018, "UI", "1.2.1.1.2\\1.2.1.1.1");
    for (asked, expected) in [
        (vec![level("STUDY"), STUDY], vec![0, 1, 2]),
        (vec![level("SERIES"), STUDY, series], vec![0, 1]),
        (vec![level("IMAGE"), STUDY, series, one], vec![1]),
        (vec![level("IMAGE"), STUDY, series, two], vec![0, 1]),
        (vec![level("STUDY"), (0x0020, 0x000D, "UI", "1.2.9")], vec![]),
    ] {
        peer.ask(STUDY_GET, 0x0010, &keys(&asked), None).await;
        let (mut instances, last) = taken(&mut peer, 0).await;
        instances.sort_by(|a, b| a.instance.cmp(&b.instance));
        assert_eq!(last.status, 0, "{asked:?}");
        assert_eq!(last.counts, [None, Some(expected.len() as u16), Some(0), Some(0)]);
        let found: Vec<&[u8]> = instances.iter().map(|came| &*came.bytes).collect();
        let stored: Vec<Vec<u8>> = expected.iter().map(|at| dicoms[*at].data_set()).collect();
        assert_eq!(found, stored);
    }
    // One that is not there is told by its UID.
    let other = (0x0008, 0x0018, "UI", "1.2.1.1.2\\1.2.1.1.9");
    peer.ask(STUDY_GET, 0x0010, &keys(&[level("IMAGE"), STUDY, series, other]), None).await;
    let (_, last) = taken(&mut peer, 0).await;
    assert_eq!((last.status, last.counts), (0xB000, [None, Some(1), Some(1), Some(0)]));
    assert_eq!(last.text(0x0008, 0x0058), "1.2.1.1.9");
    // Several studies are counted before the first instance goes.
    server.store("/studies", &[Dicom::ct("1.2.2", "1.2.2.1", "1.2.2.1.1").file()]).await.is(200);
    let both = (0x0020, 0x000D, "UI", "1.2.1\\1.2.2\\1.2.9");
    let all = (0x0020, 0x000E, "UI", "1.2.1.1\\1.2.1.2\\1.2.1.9");
    for (asked, expected) in
        [(vec![level("STUDY"), both], 4), (vec![level("SERIES"), STUDY, all], 3)]
    {
        peer.ask(STUDY_GET, 0x0010, &keys(&asked), None).await;
        let first = peer.answer().await;
        peer.stored(&first, 0).await;
        assert_eq!(peer.answer().await.counts, [Some(expected - 1), Some(1), Some(0), Some(0)]);
        assert_eq!(taken(&mut peer, 0).await.1.counts[1], Some(expected));
    }
    for wrong in [vec![level("SERIES"), series], vec![level("STUDY")], vec![STUDY]] {
        peer.ask(STUDY_GET, 0x0010, &keys(&wrong), None).await;
        assert_eq!(peer.answer().await.status, 0xA900);
    }
    // There is no A700H for who retrieves (PS3.4 Table C.4-3).
    let long = "1".repeat(1 << 20);
    let endless = [level("STUDY"), (0x0020, 0x000D, "UT", &*long)];
    peer.ask(STUDY_GET, 0x0010, &keys(&endless), None).await;
    assert_eq!(peer.answer().await.status, 0xA701);
}

#[tokio::test]
async fn instances_come_in_what_was_accepted_or_fail() {
    let server = server(&[]).await;
    let dicoms = filled(&server).await;
    let mut mr = Dicom::ct("1.2.1", "1.2.1.3", "1.2.1.3.1");
    mr.text(0x0008, 0x0016, "UI", MR);
    server.store("/studies", &[mr.file()]).await.is(200);
    let study = keys(&[(0x0008, 0x0052, "CS", "STUDY"), STUDY]);
    let mut peer = getter(&server, &[IMPLICIT]).await;
    peer.ask(STUDY_GET, 0x0010, &study, None).await;
    let (mut instances, last) = taken(&mut peer, 0).await;
    // There is no context for MR.
    assert_eq!((last.status, last.counts[1], last.counts[2]), (0xB000, Some(3), Some(1)));
    assert_eq!(last.text(0x0008, 0x0058), "1.2.1.3.1");
    instances.sort_by(|a, b| a.instance.cmp(&b.instance));
    let implicit = dicoms[0].clone().syntax(IMPLICIT).data_set();
    assert_eq!(instances[0].bytes, implicit);
    // Nothing makes JPEG of 16 bits, so there is nothing to send.
    let mut peer = getter(&server, &[JPEG_BASELINE]).await;
    peer.ask(STUDY_GET, 0x0010, &study, None).await;
    let (instances, last) = taken(&mut peer, 0).await;
    assert_eq!((instances.len(), last.status, last.counts[2]), (0, 0xA702, Some(4)));
    // What the peer does not take is counted.
    let mut peer = getter(&server, &[EXPLICIT]).await;
    peer.ask(STUDY_GET, 0x0010, &study, None).await;
    let (_, last) = taken(&mut peer, 0xA700).await;
    assert_eq!((last.status, last.counts[2]), (0xA702, Some(4)));
    peer.ask(STUDY_GET, 0x0010, &study, None).await;
    let (_, last) = taken(&mut peer, 0xB000).await;
    assert_eq!((last.status, last.counts[3]), (0xB000, Some(3)));
}

#[tokio::test]
async fn a_get_ends_when_it_is_canceled() {
    let server = server(&[]).await;
    filled(&server).await;
    let mut peer = getter(&server, &[EXPLICIT]).await;
    let study = keys(&[(0x0008, 0x0052, "CS", "STUDY"), STUDY]);
    let message = peer.ask(STUDY_GET, 0x0010, &study, None).await;
    let first = peer.answer().await;
    assert_eq!(first.field, 0x0001);
    peer.cancel(message).await;
    peer.stored(&first, 0).await;
    let (instances, last) = taken(&mut peer, 0).await;
    assert!(instances.is_empty());
    assert_eq!((last.status, last.counts), (0xFE00, [Some(2), Some(1), Some(0), Some(0)]));
}

#[tokio::test]
async fn a_move_goes_to_a_destination_that_is_known_and_to_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let peers = format!(
        "[{{ ae = \"WS\", partitions = \"*\" }}, {{ ae = \"DEST\", partitions = \"*\", \
         destination = \"127.0.0.1:{port}\" }}, {{ ae = \"DEAD\", partitions = \"*\", \
         destination = \"127.0.0.1:1\" }}]"
    );
    let server = server(&[("dimse.peers", &peers)]).await;
    let dicoms = filled(&server).await;
    let study = keys(&[(0x0008, 0x0052, "CS", "STUDY"), STUDY]);
    let mut peer = Peer::new(&server, "WS", "SERVER", &[STUDY_MOVE]).await;
    for unknown in ["NOBODY", "WS", "dest", ""] {
        peer.ask(STUDY_MOVE, 0x0021, &study, Some(unknown)).await;
        assert_eq!(peer.answer().await.status, 0xA801, "{unknown}");
    }
    peer.ask(STUDY_MOVE, 0x0021, &study, Some("DEAD")).await;
    let answers = peer.answers().await;
    let last = answers.last().unwrap();
    assert_eq!((last.status, last.counts[2]), (0xA702, Some(3)));
    // All by one association, which is released in the end.
    let destination = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut own, request) =
            Peer::accept(Box::new(stream), |_, syntax| syntax == EXPLICIT).await;
        assert_eq!((&*request.calling_ae_title, &*request.called_ae_title), ("SERVER", "DEST"));
        let mut instances = Vec::new();
        for _ in 0..3 {
            let came = own.answer().await;
            own.stored(&came, 0).await;
            instances.push(came);
        }
        assert_eq!(own.read().await, dicom_ul::pdu::Pdu::ReleaseRQ);
        own.send(&dicom_ul::pdu::Pdu::ReleaseRP).await;
        instances
    });
    peer.ask(STUDY_MOVE, 0x0021, &study, Some("DEST")).await;
    let answers = peer.answers().await;
    assert_eq!(answers.len(), 4, "one for each, and the last");
    assert_eq!(answers[0].counts, [Some(2), Some(1), Some(0), Some(0)]);
    assert_eq!(answers[3].status, 0);
    let mut instances = destination.await.unwrap();
    instances.sort_by(|a, b| a.instance.cmp(&b.instance));
    for (came, dicom) in instances.iter().zip(&dicoms) {
        assert_eq!(came.bytes, data_set(&dicom.file()));
    }
}
