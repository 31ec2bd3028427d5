//! Fuzzy matching of person names, and names in other scripts (PS3.18 §8.3.4.2, PS3.5 §6.2.1).

use super::found;
use crate::harness::{Dicom, Server};

async fn named(names: &[(&str, &str)]) -> Server {
    let server = Server::start().await;
    let files: Vec<_> = (1..)
        .zip(names)
        .map(|(n, (patient, physician))| {
            let study = format!("1.2.{n}");
            Dicom::ct(&study, &format!("{study}.1"), &format!("{study}.1.1"))
                .text(0x0008, 0x0005, "CS", "ISO_IR 192")
                .text(0x0010, 0x0010, "PN", patient)
                .text(0x0008, 0x0090, "PN", physician)
                .text(0x0008, 0x1048, "PN", physician)
                .text(0x0010, 0x0020, "LO", patient.split('=').next().unwrap())
                .file()
        })
        .collect();
    server.store("/studies", &files).await.is(200);
    server
}

async fn check(server: &Server, cases: &[(&str, &[u32])]) {
    for (query, expected) in cases {
        let expected: Vec<String> = expected.iter().map(|n| format!("1.2.{n}")).collect();
        assert_eq!(found(server, &format!("/studies?{query}")).await, expected, "{query}");
    }
}

#[tokio::test]
async fn words_in_any_order_by_their_beginning_or_sound() {
    let server = named(&[
        ("Schmidt^Anna-Maria", "House^Gregory"),
        ("Smith^John^Quincy", "Hauser^Georg"),
        ("Van der Meer^Jan", ""),
        ("Müller^Jörg=山田^太郎=やまだ^たろう", "House^G"),
    ])
    .await;
    let fuzzy = "fuzzymatching=true";
    for (query, expected) in [
        ("smi", &[2][..]),
        ("SMYTH", &[1, 2]),
        ("john smith", &[2]),
        ("qui*^SMI*", &[2]),
        ("mar anna", &[1]),
        ("meer van", &[3]),
        ("muller", &[4]),
        ("MÜLLER JÖ", &[4]),
        ("山", &[4]),
        ("太郎 müller", &[4]),
        ("smith anna", &[1]),
        ("eer", &[]),
        ("*", &[1, 2, 3, 4]),
        ("^-", &[1, 2, 3, 4]),
    ] {
        check(&server, &[(&format!("PatientName={query}&{fuzzy}"), expected)]).await;
    }
    // Each name of its own; other attributes as ever, also with filters.
    check(
        &server,
        &[
            (&format!("PatientName=john&ReferringPhysicianName=hau&{fuzzy}"), &[2]),
            (&format!("ReferringPhysicianName=gregory%20house&{fuzzy}"), &[1]),
            (&format!("PhysiciansOfRecord=gregory%20house&{fuzzy}"), &[1]),
            (&format!("PhysiciansOfRecord=g%20house&{fuzzy}"), &[1, 4]),
            (&format!("PatientName=s&PatientID=Smith*&{fuzzy}"), &[2]),
            (&format!("PatientID=smith&{fuzzy}"), &[]),
            ("PatientName=smi&fuzzymatching=false", &[]),
            ("PatientName=smith&fuzzymatching=false", &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn component_groups_match_each_by_itself() {
    let server = named(&[
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ""),
        ("Yamada^Hanako=山田^花子", ""),
        ("Dionysios=Διονυσιος", ""),
        ("Люкceмбypг", ""),
        ("קבנט^אב", ""),
        ("قباني^لنزار", ""),
        ("Hong^Gildong=洪^吉洞=홍^길동", ""),
        ("Buc^Jérôme", ""),
    ])
    .await;
    check(
        &server,
        &[
            ("PatientName=YAMADA*", &[1, 2]),
            ("PatientName=Yamada*=山田^太郎", &[1]),
            ("PatientName=*=山田*", &[1, 2]),
            ("PatientName==山田^花子", &[2]),
            ("PatientName===やまだ^たろう", &[1]),
            ("PatientName=Yamada*=洪*", &[]),
            ("PatientName=διονυσιοσ", &[3]),
            ("PatientName=Люкс*", &[]),
            ("PatientName=люк*", &[4]),
            ("PatientName=קבנט*", &[5]),
            ("PatientName=قباني^لنزار", &[6]),
            ("PatientName=*길동", &[7]),
            ("PatientName=?uc^JEROME", &[8]),
            ("PatientName=buc^je%CC%81ro%CC%82me", &[8]),
        ],
    )
    .await;
}
