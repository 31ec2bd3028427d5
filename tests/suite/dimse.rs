//! The DIMSE gateway, by a peer that says exactly what a test wants. (DCMTK and pynetdicom are its
//! peers in tests/clients.)

mod get;
mod hostile;
pub mod peer;
mod rejected;
mod tenants;
mod tls;

use serde_json::json;

use crate::harness::{Dicom, Server};
use peer::{Answer, CT, Peer, STUDY_FIND, VERIFICATION, data_set};

/// A server with a gateway.
async fn server(settings: &[(&str, &str)]) -> Server {
    let mut all = vec![("dimse.listen", "127.0.0.1:0")];
    all.extend_from_slice(settings);
    Server::with(&all).await
}

/// A data set of Explicit VR Little Endian out of text elements.
fn keys(elements: &[(u16, u16, &'static str, &str)]) -> Vec<u8> {
    let mut item = Dicom::item();
    for (group, element, vr, value) in elements {
        item.text(*group, *element, vr, value);
    }
    item.data_set()
}

#[tokio::test]
async fn an_association_echoes_and_ends() {
    let server = server(&[]).await;
    let mut peer = Peer::new(&server, "ANY", "SERVER", &[VERIFICATION]).await;
    for _ in 0..3 {
        assert_eq!(peer.echo().await.status, 0);
    }
    peer.release().await;
}

#[tokio::test]
async fn what_is_stored_is_found_by_the_web_services_and_answered_as_there() {
    let server = server(&[]).await;
    let mut peer = Peer::new(&server, "CT1", "SERVER", &[CT]).await;
    let dicom = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    let stored = peer.store("1.2.1.1.1", &dicom.data_set()).await;
    assert_eq!((stored.status, stored.comment.as_str()), (0, ""));
    // Gateways send again.
    assert_eq!(peer.store("1.2.1.1.1", &dicom.data_set()).await.status, 0);
    let found = server.search("/instances").await;
    assert_eq!(found[0]["00080018"]["Value"], json!(["1.2.1.1.1"]));
    let answer = server.get("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1").await.is(200);
    let file = answer.bodies().remove(0);
    assert_eq!(data_set(&file), dicom.data_set());
    // Other bytes under its UID.
    let mut other = dicom.clone();
    other.text(0x0010, 0x0020, "LO", "OTHER");
    assert_eq!(peer.store("1.2.1.1.1", &other.data_set()).await.status, 0x0111);
    // Not the instance that the command names; and no data set at all.
    let next = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.2").data_set();
    assert_eq!(peer.store("1.2.1.1.3", &next).await.status, 0xA900);
    assert_eq!(peer.store("1.2.1.1.2", &next[..next.len() - 7]).await.status, 0xC000);
    let mut nameless = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.5");
    nameless.remove(0x0020, 0x000D);
    assert_eq!(peer.store("1.2.1.1.5", &nameless.data_set()).await.status, 0xA900);
    assert_eq!(peer.store("1.2.1.1.2", &next).await.status, 0);
    peer.release().await;
    assert_eq!(server.search("/instances").await.len(), 2);
}

/// C-STORE sends data sets: the File Meta Information is that of whoever receives them.
#[tokio::test]
async fn a_data_set_is_the_same_instance_whichever_way_it_comes() {
    let server = server(&[("store.own_blob_bytes", "64KiB")]).await;
    let mut peer = Peer::new(&server, "CT1", "SERVER", &[CT]).await;
    for (uid, pixels) in [("1.2.1.1.1", 64), ("1.2.1.1.2", 200_000)] {
        let mut dicom = Dicom::ct("1.2.1", "1.2.1.1", uid);
        dicom.pixels(vec![7; pixels]);
        server.store("/studies", &[dicom.file()]).await.is(200);
        assert_eq!(peer.store(uid, &dicom.data_set()).await.status, 0, "{pixels}");
        let mut other = dicom.clone();
        other.pixels([vec![7; pixels - 2], vec![8; 2]].concat());
        assert_eq!(peer.store(uid, &other.data_set()).await.status, 0x0111, "{pixels}");
        // What was there first is given out.
        let path = format!("/studies/1.2.1/series/1.2.1.1/instances/{uid}");
        assert_eq!(server.get(&path).await.is(200).bodies(), [dicom.file()]);
        // The other way round.
        let uid = format!("{uid}.1");
        let mut dicom = Dicom::ct("1.2.1", "1.2.1.1", &uid);
        dicom.pixels(vec![7; pixels]);
        assert_eq!(peer.store(&uid, &dicom.data_set()).await.status, 0);
        server.store("/studies", &[dicom.file()]).await.is(200);
        let mut longer = dicom.clone();
        longer.pixels(vec![7; pixels + 2]);
        server.store("/studies", &[longer.file()]).await.is(409);
    }
    assert_eq!(server.search("/instances").await.len(), 4);
}

#[tokio::test]
async fn a_large_instance_flows_through_and_one_that_is_too_large_does_not() {
    let settings = [("store.own_blob_bytes", "64KiB"), ("limits.instance_bytes", "1MiB")];
    let server = server(&settings).await;
    let mut peer = Peer::new(&server, "CT1", "SERVER", &[CT]).await;
    let mut large = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1");
    large.pixels(vec![7; 200_000]);
    assert_eq!(peer.store("1.2.1.1.1", &large.data_set()).await.status, 0);
    let mut larger = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.2");
    larger.pixels(vec![7; 1_000_000]);
    assert_eq!(peer.store("1.2.1.1.2", &larger.data_set()).await.status, 0xA700);
    // The association goes on.
    let small = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.3");
    assert_eq!(peer.store("1.2.1.1.3", &small.data_set()).await.status, 0);
}

#[tokio::test]
async fn searches_match_and_return_what_they_are_asked_for() {
    let server = server(&[]).await;
    let mut files = Vec::new();
    for (at, name) in ["M\u{fc}ller^Anna", "Doe^Jane", "Doe^John"].iter().enumerate() {
        for instance in 0..2 {
            let (study, series) = (format!("1.2.{at}"), format!("1.2.{at}.1"));
            let mut dicom = Dicom::ct(&study, &series, &format!("{series}.{instance}"));
            dicom
                .text(0x0008, 0x0005, "CS", "ISO_IR 192")
                .text(0x0010, 0x0010, "PN", name)
                .text(0x0010, 0x0020, "LO", &format!("P{}", at.min(1)))
                .text(0x0008, 0x0020, "DA", &format!("2024010{}", at + 1));
            files.push(dicom.file());
        }
    }
    server.store("/studies", &files).await.is(200);
    let mut peer = Peer::new(&server, "WS", "SERVER", &[STUDY_FIND]).await;
    let mut find = async |elements: &[(u16, u16, &'static str, &str)]| {
        let answers = peer.find(&keys(elements)).await;
        let last = answers.last().unwrap().clone();
        let matches: Vec<Answer> = answers[..answers.len() - 1].to_vec();
        assert!(matches.iter().all(|one| [0xFF00, 0xFF01].contains(&one.status)));
        (last.status, matches)
    };
    let level = |level| (0x0008, 0x0052, "CS", level);
    let (status, found) = find(&[
        level("STUDY"),
        (0x0010, 0x0010, "PN", "doe*"),
        (0x0010, 0x0020, "LO", ""),
        (0x0020, 0x000D, "UI", ""),
        (0x0020, 0x1208, "IS", ""),
        (0x0032, 0x4000, "LT", ""),
    ])
    .await;
    assert_eq!((status, found.len()), (0, 2));
    assert_eq!(found[0].text(0x0010, 0x0020), "P1");
    assert_eq!(found[0].text(0x0020, 0x1208), "2");
    assert_eq!((found[0].text(0x0008, 0x0052), found[0].text(0x0008, 0x0054)), ("STUDY", "SERVER"));
    assert!(found[0].has(0x0032, 0x4000) && !found[0].has(0x0008, 0x0020));
    let (_, found) =
        find(&[level("STUDY"), (0x0008, 0x0020, "DA", "20240102-"), (0x0010, 0x0010, "PN", "")])
            .await;
    assert_eq!(found.len(), 2);
    let (_, found) = find(&[level("STUDY"), (0x0010, 0x0010, "PN", "M*")]).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].text(0x0008, 0x0005), "ISO_IR 192");
    assert_eq!(found[0].text(0x0010, 0x0010), "M\u{fc}ller^Anna");
    let (_, found) = find(&[level("STUDY"), (0x0020, 0x000D, "UI", "1.2.0\\1.2.2")]).await;
    assert_eq!(found.len(), 2);
    let series = [level("SERIES"), (0x0020, 0x000D, "UI", "1.2.0"), (0x0020, 0x000E, "UI", "")];
    let (status, found) = find(&series).await;
    assert_eq!((status, found.len(), found[0].text(0x0020, 0x000E)), (0, 1, "1.2.0.1"));
    let image = [
        level("IMAGE"),
        (0x0020, 0x000D, "UI", "1.2.0"),
        (0x0020, 0x000E, "UI", "1.2.0.1"),
        (0x0008, 0x0018, "UI", ""),
        (0x0028, 0x0010, "US", ""),
    ];
    let (status, found) = find(&image).await;
    assert_eq!((status, found.len()), (0, 2));
    assert!(found[0].text(0x0008, 0x0018).starts_with("1.2.0.1."));
    // Without the keys above the level, of another model's level, and with a value that is none.
    for wrong in [
        &[level("SERIES"), (0x0020, 0x000E, "UI", "")][..],
        &[level("PATIENT"), (0x0010, 0x0020, "LO", "")],
        &[level("STUDY"), (0x0008, 0x0020, "DA", "2024-99")],
        &[(0x0010, 0x0020, "LO", "")],
    ] {
        let (status, found) = find(wrong).await;
        assert_eq!((status, found.len()), (0xA900, 0), "{wrong:?}");
    }
    let mut peer = Peer::new(&server, "WS", "SERVER", &[peer::PATIENT_FIND]).await;
    let patients =
        keys(&[level("PATIENT"), (0x0010, 0x0020, "LO", ""), (0x0010, 0x0010, "PN", "")]);
    let answers = peer.find(&patients).await;
    // Two patients of three studies, and the end.
    assert_eq!(answers.len(), 3);
}

#[tokio::test]
async fn a_search_ends_when_it_is_canceled_and_says_when_there_is_more() {
    let server = server(&[("search.max_instances", "150")]).await;
    let file = |at: usize| Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{at}")).file();
    server.store("/studies", &(0..200).map(file).collect::<Vec<_>>()).await.is(200);
    let mut peer = Peer::new(&server, "WS", "SERVER", &[STUDY_FIND]).await;
    let all = keys(&[
        (0x0008, 0x0018, "UI", ""),
        (0x0008, 0x0052, "CS", "IMAGE"),
        (0x0020, 0x000D, "UI", "1.2.1"),
        (0x0020, 0x000E, "UI", "1.2.1.1"),
    ]);
    let answers = peer.find(&all).await;
    assert_eq!((answers.len(), answers[150].status), (151, 0xA700));
    // Canceled before it is read: not one match is told.
    peer.hold_back();
    let message = peer.begin_find(&all).await;
    peer.cancel(message).await;
    peer.let_go().await;
    let answers = peer.answers().await;
    assert_eq!((answers.len(), answers[0].status), (1, 0xFE00));
    // What has ended cannot be canceled, and nothing is disturbed.
    peer.cancel(message).await;
    assert_eq!(peer.find(&all).await.len(), 151);
}
