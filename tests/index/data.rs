//! Instances to store, as Store would have read them.

use collimator::{
    dicom::{
        Uid, VR,
        frames::FrameTable,
        index::{BulkEntry, Indexed, Keys},
    },
    index::{Db, NewBlob, NewInstance, PartitionTx, Stored, Target},
};
use uuid::Uuid;

use crate::postgres::scope;

pub fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// One instance; change what a test is about, then store it.
#[derive(Clone)]
pub struct Sample {
    pub indexed: Indexed,
    /// Stands for the file: its hash.
    pub sha256: [u8; 32],
    pub length: u64,
}

impl Sample {
    /// Instance `instance` of series `series` of study `study`: numbers that end its UIDs.
    pub fn new(study: u32, series: u32, instance: u32) -> Self {
        let number = instance.to_string();
        let keys = [
            ("study_date", format!("2024{:02}{:02}", study / 28 % 12 + 1, study % 28 + 1)),
            ("study_time", "120000.000000".to_owned()),
            ("patient_id", format!("P{study}")),
            ("patient_name", format!("NAME{study}^ANY")),
            ("accession_number", format!("A{study}")),
            ("study_id", study.to_string()),
            ("modality", if series.is_multiple_of(2) { "CT" } else { "MR" }.to_owned()),
            ("series_number", series.to_string()),
            ("instance_number", number.clone()),
        ];
        let json = |tag: &str, value: &str| {
            format!(r#"{{"{tag}":{{"vr":"LO","Value":["{value}"]}}}}"#).into_bytes()
        };
        let indexed = Indexed {
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
            sop_class: uid("1.2.840.10008.5.1.4.1.1.2"),
            study: study_uid(study),
            series: uid(&format!("1.2.{study}.{series}")),
            instance: uid(&format!("1.2.{study}.{series}.{instance}")),
            data_set_offset: 300,
            has_preamble: true,
            metadata: Vec::new(),
            bulk: vec![BulkEntry {
                path: "7FE00010".to_owned(),
                vr: VR::OW,
                offset: 1000,
                length: 524_288,
            }],
            level_attributes: [
                json("00100020", &format!("P{study}")),
                format!(
                    r#"{{"00200011":{{"vr":"IS","Value":["{series}"]}},"00400275":{{"vr":"SQ","Value":[
                        {{"00400009":{{"vr":"SH","Value":["STEP{series}"]}},
                        "00401001":{{"vr":"SH","Value":["PROC{study}"]}}}}]}}}}"#
                )
                .into_bytes(),
                json("00200013", &number),
            ],
            keys: Keys(keys.into_iter().collect()),
            frames: Some(FrameTable::Native {
                offset: 1000,
                length: 524_288,
                frame_bits: 524_288 * 8,
                frames: 1,
            }),
            rejection: None,
            warnings: Vec::new(),
        };
        let mut sha256 = [0; 32];
        for (part, number) in sha256.chunks_mut(4).zip([study, series, instance]) {
            part.copy_from_slice(&number.to_be_bytes());
        }
        Self { indexed, sha256, length: 525_312 }
    }

    pub fn key(mut self, column: &'static str, value: &str) -> Self {
        self.indexed.keys.0.retain(|(name, _)| *name != column);
        if !value.is_empty() {
            self.indexed.keys.0.push((column, value.to_owned()));
        }
        self
    }

    pub fn other_bytes(mut self) -> Self {
        self.sha256[31] ^= 1;
        self
    }

    pub fn study_attributes(mut self, json: &str) -> Self {
        self.indexed.level_attributes[0] = json.as_bytes().to_vec();
        self
    }

    /// With this DICOM JSON as its metadata.
    pub fn json(mut self, json: &str) -> Self {
        self.indexed.metadata = json.as_bytes().to_vec();
        self
    }

    /// The metadata as it is kept; without any, something that tells it from others.
    pub fn metadata(&self) -> Vec<u8> {
        let json = match &*self.indexed.metadata {
            [] => self.indexed.instance.as_str().as_bytes(),
            json => json,
        };
        collimator::dicom::kept::compress(json).unwrap()
    }

    pub fn frames(mut self, frames: FrameTable) -> Self {
        self.indexed.frames = Some(frames);
        self
    }

    pub fn target(&self) -> Target {
        Target::Instance {
            study: self.indexed.study.clone(),
            series: self.indexed.series.clone(),
            instance: self.indexed.instance.clone(),
        }
    }
}

pub fn study_uid(study: u32) -> Uid {
    uid(&format!("1.2.{study}"))
}

pub fn study(study: u32) -> Target {
    Target::Study { study: study_uid(study) }
}

pub fn series(study: u32, series: u32) -> Target {
    Target::Series { study: study_uid(study), series: uid(&format!("1.2.{study}.{series}")) }
}

pub fn new_blob() -> NewBlob {
    NewBlob { id: Uuid::new_v4(), length: 1 << 20 }
}

/// Stores samples in an open transaction, as one batch in a blob of its own.
pub async fn store_in(
    tx: &mut PartitionTx,
    blob: &NewBlob,
    samples: &[Sample],
) -> Result<Vec<Stored>, collimator::index::IndexError> {
    let mut offset = 0;
    let metadata: Vec<Vec<u8>> = samples.iter().map(Sample::metadata).collect();
    let news: Vec<NewInstance<'_>> = samples
        .iter()
        .zip(&metadata)
        .map(|(sample, metadata)| {
            offset += sample.length;
            NewInstance {
                blob: blob.id,
                indexed: &sample.indexed,
                metadata,
                offset: offset - sample.length,
                length: sample.length,
                sha256: sample.sha256,
                received: None,
                rejects: None,
            }
        })
        .collect();
    tx.store_batch(std::slice::from_ref(blob), &news).await
}

/// Stores samples as one batch and commits.
pub async fn store(db: &Db, partition: &str, samples: &[Sample]) -> Vec<Stored> {
    let mut tx = db.begin_in(&scope(partition)).await.unwrap();
    let stored = store_in(&mut tx, &new_blob(), samples).await.unwrap();
    tx.commit().await.unwrap();
    stored
}

pub fn is_new(stored: &Stored) -> bool {
    matches!(stored, Stored::New { .. })
}
