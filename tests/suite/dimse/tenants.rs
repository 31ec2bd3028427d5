//! Partitions and principals: who reaches what by which AE title.

use dicom_ul::pdu::{AssociationRJ, AssociationRJServiceUserReason as Reason, AssociationRJSource};

use super::{
    keys,
    peer::{CT, EXPLICIT, Peer, STUDY_FIND, STUDY_GET, STUDY_MOVE, VERIFICATION, request},
};
use crate::harness::{Dicom, PARTITIONS, Server};

const STUDY: [(u16, u16, &str, &str); 2] =
    [(0x0008, 0x0052, "CS", "STUDY"), (0x0020, 0x000D, "UI", "1.2.1")];

/// A server with partitions, and peers of whom each may call its own.
async fn fenced(auth: bool) -> Server {
    let file = r#"
[[dimse.peers]]
ae = "NORTH_CT"
partitions = ["north"]
roles = ["writer", "reader"]
addresses = ["127.0.0.0/8"]

[[dimse.peers]]
ae = "SOUTH_WS"
partitions = ["south"]
roles = ["reader"]
addresses = ["127.0.0.0/8"]
destination = "127.0.0.1:1"

[[dimse.peers]]
ae = "FAR"
partitions = ["*"]
roles = ["writer"]
addresses = ["192.0.2.1"]
"#;
    let auth = if auth { "true" } else { "false" };
    let mut settings = PARTITIONS.to_vec();
    settings.extend_from_slice(&[
        ("dimse.listen", "127.0.0.1:0"),
        ("dimse.ae_titles", "NORTH_PACS=north"),
        ("audit.reads", "always"),
    ]);
    let server = Server::with_file(file, &settings).await;
    for partition in ["north", "south"] {
        let file = Dicom::ct("1.2.1", "1.2.1.1", &format!("1.2.1.1.{}", partition.len())).file();
        server.store(&format!("/partitions/{partition}/studies"), &[file]).await.is(200);
    }
    settings.push(("auth.enabled", auth));
    server.restart(&settings).await
}

async fn ask(server: &Server, calling: &str, called: &str) -> Result<Peer, AssociationRJ> {
    let syntaxes: &[&str] = &[EXPLICIT];
    let classes = [VERIFICATION, CT, STUDY_FIND, STUDY_GET, STUDY_MOVE];
    let contexts = classes.map(|class| (class, syntaxes));
    Peer::with(server, request(calling, called, &contexts, &[])).await
}

fn reason(rejected: &AssociationRJ) -> Reason {
    match &rejected.source {
        AssociationRJSource::ServiceUser(reason) => reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_called_title_names_the_partition_and_what_is_foreign_is_as_absent() {
    for auth in [false, true] {
        let server = fenced(auth).await;
        for called in ["NORTH_PACS", "NORTH", "north", "North"] {
            let mut peer = ask(&server, "NORTH_CT", called).await.unwrap();
            assert_eq!(peer.echo().await.status, 0);
            let answers = peer.find(&keys(&STUDY)).await;
            assert_eq!((answers.len(), answers[0].status), (2, 0xFF00), "{called}");
            assert_eq!(answers[0].text(0x0008, 0x0054), called);
        }
        // Somebody else's, and nobody's.
        let foreign = ask(&server, "NORTH_CT", "SOUTH").await.err().unwrap();
        assert_eq!(reason(&foreign), Reason::CalledAETitleNotRecognized);
        for absent in ["EAST", "SOUTH_PACS", "not*an*id", "_platform"] {
            assert_eq!(
                ask(&server, "NORTH_CT", absent).await.err(),
                Some(foreign.clone()),
                "{absent}"
            );
        }
        // Who is not known is told nothing of what he calls.
        for calling in ["NOBODY", "FAR", "north_ct"] {
            for called in ["NORTH", "EAST"] {
                let rejected = ask(&server, calling, called).await.err().unwrap();
                assert_eq!(reason(&rejected), Reason::CallingAETitleNotRecognized, "{calling}");
            }
        }
    }
}

#[tokio::test]
async fn a_title_that_is_not_listed_makes_no_partition() {
    let server = fenced(false).await;
    let before = server.search("/partitions").await;
    assert!(ask(&server, "NORTH_CT", "WEST").await.is_err());
    assert_eq!(server.search("/partitions").await, before);
}

#[tokio::test]
async fn nothing_of_another_partition_is_found_given_or_stored_over() {
    let server = fenced(false).await;
    let mut peer = ask(&server, "SOUTH_WS", "SOUTH").await.unwrap();
    let image = [
        (0x0008, 0x0018, "UI", ""),
        (0x0008, 0x0052, "CS", "IMAGE"),
        (0x0020, 0x000D, "UI", "1.2.1"),
        (0x0020, 0x000E, "UI", "1.2.1.1"),
    ];
    let answers = peer.find(&keys(&image)).await;
    // Both partitions have that study; each its own instance. (Their names are as long.)
    assert_eq!(answers.len(), 2);
    let mut north = ask(&server, "NORTH_CT", "NORTH").await.unwrap();
    let mut dicom = Dicom::ct("1.2.7", "1.2.7.1", "1.2.7.1.1");
    dicom.text(0x0010, 0x0020, "LO", "NORTHERN");
    assert_eq!(north.store("1.2.7.1.1", &dicom.data_set()).await.status, 0);
    let patient = [(0x0008, 0x0052, "CS", "STUDY"), (0x0010, 0x0020, "LO", "NORTHERN")];
    assert_eq!(north.find(&keys(&patient)).await.len(), 2);
    assert_eq!(peer.find(&keys(&patient)).await.len(), 1);
    dicom.text(0x0010, 0x0020, "LO", "SOUTHERN");
    assert_eq!(peer.store("1.2.7.1.1", &dicom.data_set()).await.status, 0, "no conflict");
    // The destination is south's: for north it is as one that nobody knows.
    for destination in ["SOUTH_WS", "NOWHERE"] {
        north.ask(STUDY_MOVE, 0x0021, &keys(&STUDY), Some(destination)).await;
        let answer = north.answer().await;
        assert_eq!((answer.status, &*answer.comment), (0xA801, "the destination is not known"));
    }
    peer.ask(STUDY_MOVE, 0x0021, &keys(&STUDY), Some("SOUTH_WS")).await;
    assert_eq!(peer.answers().await.last().unwrap().status, 0xA702);
}

#[tokio::test]
async fn a_role_permits_what_it_permits() {
    let server = fenced(true).await;
    let mut reader = ask(&server, "SOUTH_WS", "SOUTH").await.unwrap();
    let dicom = Dicom::ct("1.2.8", "1.2.8.1", "1.2.8.1.1").data_set();
    let answer = reader.store("1.2.8.1.1", &dicom).await;
    assert_eq!((answer.status, &*answer.comment), (0x0124, "not permitted"));
    assert_eq!(reader.find(&keys(&STUDY)).await.len(), 2);
    let mut writer = ask(&server, "NORTH_CT", "NORTH").await.unwrap();
    assert_eq!(writer.store("1.2.8.1.1", &dicom).await.status, 0);
    // All of it is on the record.
    for (partition, action, outcome) in [
        ("north", "studies.store", "success"),
        ("south", "studies.store", "refused"),
        ("south", "studies.search", "success"),
    ] {
        crate::harness::until("it is on the record", async || {
            let mut superuser = server.superuser().await;
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM audit_event WHERE partition_id = $1 AND outcome = $2 \
                 AND record::jsonb ->> 'method' = 'DIMSE' AND action LIKE '%' || $3",
            )
            .bind(partition)
            .bind(outcome)
            .bind(action)
            .fetch_one(&mut superuser)
            .await
            .unwrap();
            count > 0
        })
        .await;
    }
}
