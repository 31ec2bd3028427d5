//! What is searched for.

use crate::population::{Population, Study, mix};

/// One kind of search.
pub struct Workload {
    pub name: &'static str,
    /// Whether it asks one partition.
    pub of_one: bool,
    /// The path and query of a request, by its number and a draw.
    pub path: fn(&Population, u64, u64) -> String,
}

/// All searches of one partition, then those of all partitions where there are several.
pub fn all(partitions: u64) -> impl Iterator<Item = Workload> {
    let of =
        |of_one| move |(name, path): &(&'static str, Path)| Workload { name, of_one, path: *path };
    let several = ALL.iter().filter(move |_| partitions > 1);
    ONE.iter().map(of(true)).chain(several.map(of(false)))
}

/// The root of the partition that a drawn study is in, and the study.
fn drawn(all: &Population, draw: u64) -> (String, Study) {
    let number = draw % all.studies;
    (format!("/partitions/{}", all.partition(number)), all.study(number))
}

type Path = fn(&Population, u64, u64) -> String;

const ONE: &[(&str, Path)] = &[
    ("first page", |all, _, draw| format!("{}/studies?limit=100", drawn(all, draw).0)),
    ("PatientID", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&PatientID={}", study.patient_id)
    }),
    ("AccessionNumber", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&AccessionNumber={}", study.accession)
    }),
    ("StudyInstanceUID", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&StudyInstanceUID={}", study.uid)
    }),
    ("PatientName, whole", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&PatientName={}%5E{}", study.family, study.given)
    }),
    ("PatientName=abc*", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&PatientName={}*", first(&study.family, 3))
    }),
    ("PatientName=family*", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&PatientName={}*", study.family)
    }),
    ("PatientName=*abc*", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&PatientName=*{}*", first(&study.family, 3))
    }),
    ("PatientName fuzzy, 3 letters", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        let name = first(if draw >> 60 == 0 { &study.given } else { &study.family }, 3);
        format!("{root}/studies?limit=100&fuzzymatching=true&PatientName={name}")
    }),
    ("PatientName fuzzy, two words", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        let (family, given) = (&study.family, first(&study.given, 3));
        format!("{root}/studies?limit=100&fuzzymatching=true&PatientName={given}%20{family}")
    }),
    ("PatientBirthDate", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&PatientBirthDate={}", study.birth_date)
    }),
    ("StudyDate, a day", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&StudyDate={}", study.date)
    }),
    ("StudyDate, a year", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        let (year, rest) = study.date.split_at(4);
        let next = year.parse::<u32>().unwrap_or(2020) + 1;
        // The calendar may lack the 29th of February.
        let rest = if rest == "0229" { "0228" } else { rest };
        format!("{root}/studies?limit=100&StudyDate={year}{rest}-{next}{rest}")
    }),
    ("StudyDate and StudyTime", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        let time = &study.time;
        format!("{root}/studies?limit=100&StudyDate={}-&StudyTime={time}-", study.date)
    }),
    ("ReferringPhysicianName", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&ReferringPhysicianName={}", study.referring)
    }),
    ("StudyID", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&StudyID={}", study.study_id)
    }),
    ("StudyDescription", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&StudyDescription={}", study.description)
    }),
    ("PatientSex", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies?limit=100&PatientSex={}", study.sex)
    }),
    ("ModalitiesInStudy, common", |all, _, draw| {
        format!("{}/studies?limit=100&ModalitiesInStudy=CT", drawn(all, draw).0)
    }),
    ("ModalitiesInStudy, rare", |all, _, draw| {
        format!("{}/studies?limit=100&ModalitiesInStudy=XA", drawn(all, draw).0)
    }),
    ("ModalitiesInStudy, two", |all, _, draw| {
        format!("{}/studies?limit=100&ModalitiesInStudy=PT,NM", drawn(all, draw).0)
    }),
    ("modality, a month, abc*", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        let month = first(&study.date, 6);
        format!(
            "{root}/studies?limit=100&ModalitiesInStudy={}&StudyDate={month}01-{month}28\
             &PatientName={}*",
            study.modality,
            first(&study.family, 1)
        )
    }),
    ("OHIF's list", |all, _, draw| {
        let root = drawn(all, draw).0;
        format!(
            "{root}/studies?limit=101&offset=0&fuzzymatching=false\
             &includefield=00081030%2C00080060%2C00080090%2C00100030"
        )
    }),
    ("page after page", |all, number, _| {
        // Through the first hundred pages, one after the other.
        let offset = number * 100 % 10_000;
        format!("/partitions/{}/studies?limit=100&offset={offset}", all.partition(0))
    }),
    ("offset in the middle", |all, _, draw| {
        let within = all.studies / all.partitions;
        let offset = within / 2 + draw % (within / 4).max(1);
        format!("{}/studies?limit=100&offset={offset}", drawn(all, draw).0)
    }),
    ("series of a study", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies/{}/series", study.uid)
    }),
    ("series by Modality", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/series?limit=100&Modality={}", study.modality)
    }),
    ("series by UID", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/series?limit=100&SeriesInstanceUID={}.1", study.uid)
    }),
    ("series by ScheduledProcedureStepID", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!(
            "{root}/series?limit=100&RequestAttributesSequence.ScheduledProcedureStepID=SPS{}",
            study.number
        )
    }),
    ("series by PerformedProcedureStepStartDate", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/series?limit=100&PerformedProcedureStepStartDate={}", study.date)
    }),
    ("series by PatientID", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/series?limit=100&PatientID={}", study.patient_id)
    }),
    ("instances of a study", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/studies/{}/instances", study.uid)
    }),
    ("instances by SOPClassUID", |all, _, draw| {
        let root = drawn(all, draw).0;
        format!("{root}/instances?limit=100&SOPClassUID=1.2.840.10008.5.1.4.1.1.4")
    }),
    ("instances by UID", |all, _, draw| {
        let (root, study) = drawn(all, draw);
        format!("{root}/instances?limit=100&SOPInstanceUID={}.1.1", study.uid)
    }),
];

const ALL: &[(&str, Path)] = &[
    ("all partitions, first page", |_, _, _| "/studies?limit=100".to_owned()),
    ("all partitions, PatientID", |all, _, draw| {
        format!("/studies?limit=100&PatientID={}", drawn(all, draw).1.patient_id)
    }),
    ("all partitions, PatientName=abc*", |all, _, draw| {
        format!("/studies?limit=100&PatientName={}*", first(&drawn(all, draw).1.family, 3))
    }),
    ("all partitions, a day", |all, _, draw| {
        format!("/studies?limit=100&StudyDate={}", drawn(all, draw).1.date)
    }),
    ("all partitions, ModalitiesInStudy", |_, _, _| {
        "/studies?limit=100&ModalitiesInStudy=MR".to_owned()
    }),
    ("ten partitions, first page", |all, _, draw| {
        let step = (all.partitions / 10).max(1);
        let start = mix(draw, 1) % step;
        let ids: Vec<String> =
            (0..10.min(all.partitions)).map(|n| all.partition(start + n * step)).collect();
        format!("/studies?limit=100&microsoft.partitionId={}", ids.join(","))
    }),
];

fn first(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
