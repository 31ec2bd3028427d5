//! What is stored: instances of made-up studies, the same for the same seed and run.
//!
//! A run has a number that is in every UID, so that no store meets what an earlier run left. Within
//! a run, whoever needs studies takes the next numbers.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    http::{Body, Send},
    sizes::Sizes,
    template::{Shape, Template, Value},
};

const FAMILIES: [&str; 16] = [
    "Meyer", "Smith", "Garcia", "Rossi", "Novak", "Silva", "Tanaka", "Kim", "Olsen", "Dubois",
    "Kowalski", "Horvath", "Jansen", "Popescu", "Yilmaz", "Okafor",
];
const GIVEN: [&str; 8] = ["Anna", "Ben", "Chloe", "David", "Eva", "Finn", "Grace", "Hugo"];

/// One instance of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    pub study: u64,
    pub series: u64,
    pub instance: u64,
}

/// The templates, and the numbers of a run.
pub struct Corpus {
    seed: u64,
    run: u64,
    next: AtomicU64,
    pub sizes: Sizes,
    pub ct: Arc<Template>,
    pub small: Arc<Template>,
    /// A multi-frame object of some size.
    pub frames: Arc<Template>,
    /// The large one.
    pub large: Arc<Template>,
}

impl Corpus {
    pub fn new(seed: u64, run: u64, sizes: &Sizes) -> Self {
        let template = |shape: &Shape| Arc::new(Template::new(shape, seed));
        Self {
            seed,
            run,
            next: AtomicU64::new(1),
            sizes: sizes.clone(),
            ct: template(&Shape::CT),
            small: template(&Shape::SMALL),
            frames: template(&Shape::multi_frame(sizes.frames)),
            large: template(&Shape::multi_frame(sizes.large_frames)),
        }
    }

    /// Takes the next number of a study.
    pub fn study(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A study of so many series with so many instances each.
    pub fn ids(&self, series: u64, instances: u64) -> Vec<Id> {
        let study = self.study();
        let of = |series| (0..instances).map(move |instance| Id { study, series, instance });
        (0..series).flat_map(of).collect()
    }

    fn uid(&self, study: u64, series: u64, instance: u64) -> String {
        let (seed, run) = (self.seed % 100_000, self.run % 10_000_000_000);
        format!("2.25.1{seed:05}{run:010}{study:08}{series:03}{instance:06}")
    }

    pub fn study_uid(&self, id: Id) -> String {
        self.uid(id.study, 0, 0)
    }

    pub fn series_uid(&self, id: Id) -> String {
        self.uid(id.study, id.series + 1, 0)
    }

    pub fn instance_uid(&self, id: Id) -> String {
        self.uid(id.study, id.series + 1, id.instance + 1)
    }

    pub fn patient_id(&self, id: Id) -> String {
        format!("P{:09}{:08}", self.run % 1_000_000_000, id.study)
    }

    /// The path of an instance below the base URL.
    pub fn path(&self, id: Id) -> String {
        let (study, series) = (self.study_uid(id), self.series_uid(id));
        format!("/studies/{study}/series/{series}/instances/{}", self.instance_uid(id))
    }

    fn value(&self, id: Id, value: Value) -> String {
        match value {
            Value::Study => self.study_uid(id),
            Value::Series => self.series_uid(id),
            Value::Instance => self.instance_uid(id),
            Value::PatientId => self.patient_id(id),
            Value::PatientName => {
                let family = FAMILIES[id.study as usize % FAMILIES.len()];
                let given = GIVEN[id.study as usize / FAMILIES.len() % GIVEN.len()];
                format!("{:<20}", format!("{family}^{given}"))
            }
            Value::Accession => format!("A{:011}", id.study),
            Value::StudyDate => {
                let (year, month) = (2015 + id.study % 10, 1 + id.study / 10 % 12);
                format!("{year}{month:02}{:02}", 1 + id.study / 120 % 28)
            }
            Value::SeriesNumber => format!("{:<6}", id.series + 1),
            Value::InstanceNumber => format!("{:<6}", id.instance + 1),
            Value::Position => format!("-250.000\\-250.000\\{:08.3}", id.instance as f64),
            Value::Slice => format!("{:08.3}", id.instance as f64),
        }
    }

    /// The header of an instance's file, up to its pixels.
    pub fn head(&self, template: &Template, id: Id) -> Vec<u8> {
        template.head(|value| self.value(id, value))
    }

    /// Writes the file of an instance.
    pub fn write(&self, template: &Template, id: Id, to: &mut dyn Write) -> std::io::Result<()> {
        to.write_all(&self.head(template, id))?;
        (0..template.count).try_for_each(|frame| to.write_all(template.frame(frame)))
    }

    /// A multipart body of instances.
    pub fn upload<'a>(&'a self, template: &'a Template, ids: &'a [Id]) -> Upload<'a> {
        Upload { corpus: self, template, ids }
    }
}

/// The Content-Type of an [`Upload`].
pub const RELATED: &str = "multipart/related; type=\"application/dicom\"; boundary=frontier";
const BEFORE: &[u8] = b"--frontier\r\nContent-Type: application/dicom\r\n\r\n";
const BETWEEN: &[u8] = b"\r\n--frontier\r\nContent-Type: application/dicom\r\n\r\n";
const AFTER: &[u8] = b"\r\n--frontier--\r\n";

/// Instances on their way: made while they are sent, never whole in memory.
pub struct Upload<'a> {
    corpus: &'a Corpus,
    template: &'a Template,
    ids: &'a [Id],
}

impl Upload<'_> {
    /// Bytes of the files alone.
    pub fn payload(&self) -> u64 {
        self.ids.len() as u64 * self.template.length()
    }
}

impl Body for Upload<'_> {
    fn length(&self) -> u64 {
        let between = self.ids.len().saturating_sub(1) * BETWEEN.len();
        self.payload() + (BEFORE.len() + between + AFTER.len()) as u64
    }

    fn pieces(&self, send: Send<'_>) -> std::io::Result<()> {
        for (place, id) in self.ids.iter().enumerate() {
            let mut short = if place == 0 { BEFORE } else { BETWEEN }.to_vec();
            short.extend_from_slice(&self.corpus.head(self.template, *id));
            for frame in 0..self.template.count {
                send(&short, self.template.frame(frame))?;
                short.clear();
            }
        }
        send(AFTER, &[])
    }
}
