//! PDUs and command sets that were bent at random: read or refused, and what is answered is sound.

use std::time::Duration;

use dicom_ul::pdu::{
    AssociationRQ, PDataValue, PDataValueType, Pdu, PresentationContextProposed, RequestorRoles,
    UserVariableItem, read_pdu, write_pdu,
};
use proptest::{prelude::*, sample::Index, test_runner::RngSeed};

use super::{
    command::{Command, element, field, status},
    link::Link,
    negotiate::{APPLICATION_CONTEXT, MOST_CONTEXTS, agree},
    wire::Wire,
};

const LONGEST: u32 = 4096;
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

fn request() -> Pdu {
    let classes = [FIND, CT, "1.2.840.10008.1.1", "1.2.3.4"];
    let contexts = classes.iter().zip((1..).step_by(2)).map(|(class, id)| {
        let transfer_syntaxes =
            ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"].map(str::to_owned).to_vec();
        PresentationContextProposed { id, abstract_syntax: (*class).into(), transfer_syntaxes }
    });
    let roles = RequestorRoles { scu: true, scp: true };
    Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: "CT1".into(),
        called_ae_title: "NORTH".into(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: contexts.collect(),
        user_variables: vec![
            UserVariableItem::MaxLength(16384),
            UserVariableItem::ImplementationClassUID("1.2.3".into()),
            UserVariableItem::ScuScpRoleSelectionSubItem(CT.into(), roles),
        ],
    })
}

fn command() -> Vec<u8> {
    let class = FIND.parse().unwrap();
    let command = Command::request(field::FIND, 7, &class).with(element::PRIORITY, 0);
    command.with_text(element::DESTINATION, "WS").with_data_set().write()
}

fn data(value_type: PDataValueType, data: Vec<u8>) -> Pdu {
    let value = PDataValue { presentation_context_id: 1, value_type, is_last: true, data };
    Pdu::PData { data: vec![value] }
}

/// A short association, as it is sent.
fn association() -> Vec<u8> {
    let identifier = b"\x08\0\x52\0CS\x06\0STUDY ".to_vec();
    let mut bytes = Vec::new();
    for pdu in [
        request(),
        data(PDataValueType::Command, command()),
        data(PDataValueType::Data, identifier),
        Pdu::ReleaseRQ,
    ] {
        write_pdu(&mut bytes, &pdu).unwrap();
    }
    bytes
}

#[derive(Clone, Debug)]
enum Bend {
    Flip(Index, u8),
    Edge(Index, u8),
    Cut(Index, usize),
    Insert(Index, Vec<u8>),
}

fn bends() -> impl Strategy<Value = Vec<Bend>> {
    let at = any::<Index>;
    let bend = prop_oneof![
        4 => (at(), 1..=255_u8).prop_map(|(at, bits)| Bend::Flip(at, bits)),
        2 => (at(), prop_oneof![Just(0_u8), Just(0xFF)]).prop_map(|(at, of)| Bend::Edge(at, of)),
        1 => (at(), 1..16_usize).prop_map(|(at, count)| Bend::Cut(at, count)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(a, n)| Bend::Insert(a, n)),
    ];
    prop::collection::vec(bend, 1..5)
}

fn bent(mut bytes: Vec<u8>, bends: &[Bend]) -> Vec<u8> {
    for bend in bends {
        let length = bytes.len();
        if length == 0 {
            break;
        }
        let span =
            |at: &Index, count: usize| at.index(length)..(at.index(length) + count).min(length);
        match bend {
            Bend::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            // A length of four bytes.
            Bend::Edge(at, byte) => bytes[span(at, 4)].fill(*byte),
            Bend::Cut(at, count) => drop(bytes.drain(span(at, *count))),
            Bend::Insert(at, new) => {
                let at = at.index(length);
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
    bytes
}

/// What was agreed on is sound, and can be told.
fn check(request: &AssociationRQ) {
    let Ok(agreed) = agree(request, LONGEST) else { return };
    assert!(agreed.contexts.len() <= MOST_CONTEXTS);
    let ids: std::collections::BTreeSet<u8> = agreed.contexts.iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), agreed.contexts.len());
    assert!(ids.iter().all(|id| id % 2 == 1));
    let mut bytes = Vec::new();
    // Titles that were bent may be none that can be written.
    if write_pdu(&mut bytes, &Pdu::AssociationAC(agreed.answer)).is_ok() {
        let read = read_pdu(&*bytes, 1 << 20, false).unwrap();
        assert!(matches!(read, Some(Pdu::AssociationAC(_))));
    }
}

/// Reads what a peer sends, as far as it can be read.
async fn read(bytes: Vec<u8>) {
    let (mut peer, own) = tokio::io::duplex(bytes.len() + 1);
    tokio::io::AsyncWriteExt::write_all(&mut peer, &bytes).await.unwrap();
    drop(peer);
    let mut wire = Wire::new(Box::new(own), LONGEST, Duration::from_secs(60));
    let Ok(Pdu::AssociationRQ(request)) = wire.read().await else { return };
    check(&request);
    let mut link = Link::new(wire, 0);
    while let Ok((context, command)) = link.command().await {
        let answer = command.answer(status::CANNOT_UNDERSTAND).with_comment("what it is not");
        let again = Command::read(&answer.write()).unwrap();
        assert_eq!(again.u16(element::RESPONDED), Some(command.message()));
        if command.has_data_set() && link.pass(context, &command).await.is_err() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn associations_that_were_bent_are_read_or_refused(bends in bends()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(read(bent(association(), &bends)));
    }

    #[test]
    fn command_sets_that_were_bent_are_read_or_refused(bends in bends()) {
        if let Some(read) = Command::read(&bent(command(), &bends)) {
            let _ = (read.uid(element::AFFECTED_CLASS), read.text(element::DESTINATION));
            let again = Command::read(&read.answer(status::SUCCESS).write()).unwrap();
            prop_assert_eq!(again.field(), read.field() | field::RESPONSE);
        }
    }
}

#[tokio::test]
async fn the_seed_is_read_to_its_end() {
    let (mut peer, own) = tokio::io::duplex(1 << 16);
    tokio::io::AsyncWriteExt::write_all(&mut peer, &association()).await.unwrap();
    let mut wire = Wire::new(Box::new(own), LONGEST, Duration::from_secs(60));
    let Pdu::AssociationRQ(request) = wire.read().await.unwrap() else { panic!("a request") };
    assert_eq!(agree(&request, LONGEST).unwrap().contexts.len(), 4);
    let mut link = Link::new(wire, 0);
    let (context, command) = link.command().await.unwrap();
    assert_eq!((context, command.field()), (1, field::FIND));
    link.pass(context, &command).await.unwrap();
    assert!(link.command().await.is_err(), "it is released");
}
