//! Rows among each other: instances with what hangs on them, series, studies, and what belongs to
//! none of them any more.

use std::collections::HashMap;

use serde::Deserialize;
use uuid::Uuid;

use super::{Checker, Cursor, Finding, Kind, VerifyError};
use crate::{
    dicom::transfer_syntax::{Encoding, TransferSyntax},
    index::{Belonging, VerifyFrames, VerifyInstance, is_composed},
};

/// Rows of a page.
const PAGE: i64 = 1_000;
/// Series or studies of a page: all instances of each are counted.
const COUNTED: i64 = 100;
/// Metadata read at once, in bytes as it is kept, unless one instance has more.
const METADATA_BYTES: usize = 4 << 20;
/// Bytes of a SHA-256.
const HASH_BYTES: i32 = 32;
/// Bytes of an entry that says where a fragment is, and of one that says where a frame begins.
const FRAGMENT_BYTES: i64 = 12;
const START_BYTES: i64 = 4;

/// What is wrong with the metadata of an instance.
enum Unfit {
    Unreadable,
    Differs,
}

impl Checker {
    pub(super) async fn instances(&mut self, after: i64) -> Result<Cursor, VerifyError> {
        let mut tx = self.db.begin_verify(&self.scope).await?;
        let mut rows = tx.verify_instances(after, PAGE).await?;
        let composed: Vec<Uuid> =
            rows.iter().map(|row| row.blob).filter(|blob| is_composed(*blob)).collect();
        let composed = match composed.is_empty() {
            true => HashMap::new(),
            false => tx.composed(&composed).await?,
        };
        for row in &mut rows {
            if is_composed(row.blob) {
                // That its object is as long as its own row says is looked at with the store.
                let whole = composed.get(&row.blob).map(|it| it.length());
                row.blob_length = row.blob_length.and(whole).and_then(|it| i64::try_from(it).ok());
            }
            self.instance(row);
        }
        // In the same moment, so that nothing was deleted in between.
        let sized: Vec<(i64, usize)> = rows
            .iter()
            .filter_map(|row| Some((row.watermark, usize::try_from(row.metadata_bytes?).ok()?)))
            .collect();
        let mut rest = sized.as_slice();
        while !rest.is_empty() {
            let (bite, after) = rest.split_at(bite(rest));
            rest = after;
            let watermarks: Vec<i64> = bite.iter().map(|(watermark, _)| *watermark).collect();
            let metadata = tx.verify_metadata(&watermarks).await?;
            let named = metadata.into_iter().filter_map(|(watermark, frame)| {
                let at = rows.binary_search_by_key(&watermark, |row| row.watermark).ok()?;
                Some((at, rows[at].instance.clone(), frame))
            });
            let named: Vec<(usize, String, Vec<u8>)> = named.collect();
            let unfit = tokio::task::spawn_blocking(move || {
                let unfit = named.into_iter().filter_map(|(at, instance, frame)| {
                    examine(&frame, &instance).err().map(|unfit| (at, unfit))
                });
                unfit.collect::<Vec<_>>()
            });
            for (at, unfit) in unfit.await.map_err(|_| VerifyError::Lost)? {
                let kind = match unfit {
                    Unfit::Unreadable => Kind::MetadataUnreadable,
                    Unfit::Differs => Kind::MetadataDiffers,
                };
                self.found(about(kind, &rows[at]));
            }
        }
        self.tally.instances += rows.len() as u64;
        Ok(match rows.last() {
            Some(last) if rows.len() as i64 == PAGE => Cursor::Instances { after: last.watermark },
            _ => Cursor::Series { after: 0 },
        })
    }

    fn instance(&mut self, row: &VerifyInstance) {
        if row.study.is_none() {
            self.found(about(Kind::StudyMissing, row));
        }
        if row.series.is_none() {
            self.found(about(Kind::SeriesMissing, row));
        } else if row.parents_agree == Some(false) {
            self.found(about(Kind::ParentsDisagree, row));
        }
        match row.blob_length {
            None => {
                let told = "its blob, or what that is made of, has no row";
                self.found(about(Kind::OutsideBlob, row).detail(told));
            }
            Some(length) => {
                let end = row.offset.checked_add(row.length);
                let inside = row.offset >= 0 && row.length > 0 && end.is_some_and(|e| e <= length);
                if !inside {
                    let told = format!(
                        "{} bytes from {} on, of a blob of {length}",
                        row.length, row.offset
                    );
                    self.found(about(Kind::OutsideBlob, row).detail(told));
                }
            }
        }
        if row.hash_bytes != HASH_BYTES {
            self.found(about(Kind::BytesDiffer, row).detail("its row holds no SHA-256"));
        }
        if row.metadata_bytes.is_none() {
            self.found(about(Kind::MetadataMissing, row));
        }
        if let Some(frames) = &row.frames
            && let Some(reason) = implausible(frames, row)
        {
            self.found(about(Kind::FramesWrong, row).detail(reason));
        }
        if row.study.is_some() && !row.has_class_term {
            self.found(about(Kind::TermMissing, row).detail("its SOP class"));
        }
    }

    pub(super) async fn series(&mut self, after: i64) -> Result<Cursor, VerifyError> {
        let mut tx = self.db.begin_verify(&self.scope).await?;
        let rows = tx.verify_series(after, COUNTED).await?;
        for row in &rows {
            let about =
                |kind| Finding::new(kind).study(row.study.as_deref()).series(Some(&row.series));
            if row.study.is_none() {
                self.found(about(Kind::StudyMissing));
            } else if !row.has_modality_term {
                self.found(about(Kind::TermMissing).detail("its modality"));
            }
            if row.instances == 0 {
                self.found(about(Kind::SeriesEmpty));
            }
            if row.study.is_some() && row.told != Some(row.instances) {
                self.found(about(Kind::CountsDiffer));
            }
        }
        self.tally.series += rows.len() as u64;
        Ok(match rows.last() {
            Some(last) if rows.len() as i64 == COUNTED => Cursor::Series { after: last.key },
            _ => Cursor::Studies { after: 0 },
        })
    }

    pub(super) async fn studies(&mut self, after: i64) -> Result<Cursor, VerifyError> {
        let mut tx = self.db.begin_verify(&self.scope).await?;
        let rows = tx.verify_studies(after, COUNTED).await?;
        for row in &rows {
            let about = |kind| Finding::new(kind).study(Some(&row.study));
            let (series, instances) = row.counts;
            if series == 0 {
                self.found(about(Kind::StudyEmpty));
            }
            if row.told != Some(row.counts) {
                let (told_series, told) = row.told.unwrap_or_default();
                let detail = format!(
                    "Search tells {told_series} series and {told} instances; along its series \
                     there are {series} and {instances}"
                );
                self.found(about(Kind::CountsDiffer).detail(detail));
            }
            if row.terms_astray > 0 {
                self.found(about(Kind::TermAstray).detail(format!("{} terms", row.terms_astray)));
            }
        }
        self.tally.studies += rows.len() as u64;
        Ok(match rows.last() {
            Some(last) if rows.len() as i64 == COUNTED => Cursor::Studies { after: last.key },
            _ => Cursor::Belonging { table: 0, after: 0 },
        })
    }

    pub(super) async fn belonging(
        &mut self,
        table: usize,
        after: i64,
    ) -> Result<Cursor, VerifyError> {
        let Some(which) = Belonging::ALL.get(table).copied() else {
            return Ok(Cursor::Blobs { after: uuid::Uuid::nil() });
        };
        let mut tx = self.db.begin_verify(&self.scope).await?;
        let rows = tx.verify_belonging(which, after, PAGE).await?;
        let mut left: Vec<i64> =
            rows.iter().filter(|(_, belongs)| !belongs).map(|(key, _)| *key).collect();
        left.dedup();
        for key in left {
            let finding = Finding::new(Kind::RowsLeft);
            self.found(if which.is_of_instances() {
                finding.watermark(key).detail(which.table())
            } else {
                finding.detail(format!("{} of key {key}", which.table()))
            });
        }
        Ok(match rows.last() {
            Some((last, _)) if rows.len() as i64 == PAGE => {
                Cursor::Belonging { table, after: *last }
            }
            _ => Cursor::Belonging { table: table + 1, after: 0 },
        })
    }
}

fn about(kind: Kind, row: &VerifyInstance) -> Finding {
    Finding::new(kind)
        .study(row.study.as_deref())
        .series(row.series.as_deref())
        .instance(&row.instance, row.watermark)
        .blob(row.blob)
}

/// How many of the instances, whose sizes are told, are read at once.
fn bite(sized: &[(i64, usize)]) -> usize {
    let mut bytes = 0;
    let fitting = sized.iter().take_while(|(_, size)| {
        bytes += size;
        bytes <= METADATA_BYTES
    });
    fitting.count().max(1)
}

/// Reads metadata to its end, in bounded memory. Blocking.
fn examine(frame: &[u8], instance: &str) -> Result<(), Unfit> {
    /// What is looked for; everything else is read over.
    #[derive(Deserialize)]
    struct Said {
        #[serde(rename = "00080018")]
        instance: Option<Attribute>,
    }
    #[derive(Deserialize)]
    struct Attribute {
        #[serde(rename = "Value", default)]
        value: Vec<String>,
    }
    let decoder = zstd::stream::Decoder::with_buffer(frame).map_err(|_| Unfit::Unreadable)?;
    let read = serde_json::from_reader::<_, Said>(std::io::BufReader::new(decoder));
    let said = read.map_err(|_| Unfit::Unreadable)?;
    let values = said.instance.map(|attribute| attribute.value).unwrap_or_default();
    let same = |value: &String| value.trim_end_matches(['\0', ' ']) == instance;
    if values.first().is_some_and(same) { Ok(()) } else { Err(Unfit::Differs) }
}

/// Why a frame table cannot be that of the file; `None`: it can.
fn implausible(table: &VerifyFrames, row: &VerifyInstance) -> Option<&'static str> {
    // Where the data set is deflated, places are those of the inflated stream.
    let deflated = TransferSyntax::lookup(&row.transfer_syntax)
        .is_some_and(|syntax| syntax.encoding == Encoding::Deflated);
    let outside = |offset: i128, length: i128| {
        offset < i128::from(row.data_set_offset) * i128::from(!deflated)
            || (!deflated && offset + length > i128::from(row.length))
    };
    if table.frames < 0 {
        return Some("a negative number of frames");
    }
    if let Some((offset, length)) = table.native {
        let leaves = length < 0 || outside(offset.into(), length.into());
        return leaves.then_some("pixel data outside of the file");
    }
    let fragments = i64::from(table.fragment_bytes.unwrap_or(0));
    let count = match table.start_bytes.map(i64::from) {
        None => fragments,
        // Each frame, and the end of the last.
        Some(bytes) if bytes == (i64::from(table.frames) + 1) * START_BYTES => fragments,
        Some(_) => return Some("not as many frames as it says"),
    };
    if count % FRAGMENT_BYTES != 0 {
        return Some("a part of a fragment");
    }
    let each_has_one = table.start_bytes.is_none();
    if each_has_one && count / FRAGMENT_BYTES != i64::from(table.frames) {
        return Some("not as many fragments as frames");
    }
    let mut ends = table.ends.into_iter().flatten();
    let leaves = ends.any(|(offset, length)| outside(offset.into(), length.into()));
    leaves.then_some("a fragment outside of the file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(json: &str) -> &'static str {
        match examine(&zstd::bulk::compress(json.as_bytes(), 1).unwrap(), "1.2.3") {
            Ok(()) => "fine",
            Err(Unfit::Unreadable) => "unreadable",
            Err(Unfit::Differs) => "differs",
        }
    }

    #[test]
    fn metadata_is_read_to_its_end_however_deep_it_is() {
        let uid = r#""00080018":{"vr":"UI","Value":["1.2.3"]}"#;
        assert_eq!(verdict(&format!("{{{uid}}}")), "fine");
        let (open, close) = (r#"{"00081115":{"vr":"SQ","Value":["#.repeat(100), "]}}".repeat(100));
        let deep = format!(r#"{{{uid},"00081115":{{"vr":"SQ","Value":[{open}{close}]}}}}"#);
        assert_eq!(verdict(&deep), "fine");
        assert_eq!(verdict(&deep[..deep.len() - 1]), "unreadable");
        assert_eq!(verdict(r#"{"00080018":{"vr":"UI","Value":["1.2.4"]}}"#), "differs");
        assert_eq!(verdict("{}"), "differs");
        assert!(matches!(examine(b"no frame", "1.2.3"), Err(Unfit::Unreadable)));
    }

    #[test]
    fn tables_that_lead_out_of_the_file_are_told() {
        let row = VerifyInstance {
            watermark: 1,
            instance: "1.2.3".into(),
            transfer_syntax: "1.2.840.10008.1.2.1".into(),
            blob: uuid::Uuid::nil(),
            offset: 0,
            length: 1000,
            data_set_offset: 300,
            hash_bytes: 32,
            study: None,
            series: None,
            parents_agree: None,
            blob_length: None,
            metadata_bytes: None,
            frames: None,
            has_class_term: true,
        };
        let native = |offset, length| VerifyFrames {
            frames: 1,
            native: Some((offset, length)),
            fragment_bytes: None,
            start_bytes: None,
            ends: [None, None],
        };
        assert_eq!(implausible(&native(500, 500), &row), None);
        assert!(implausible(&native(500, 501), &row).is_some());
        assert!(implausible(&native(200, 100), &row).is_some());
        let deflated =
            VerifyInstance { transfer_syntax: "1.2.840.10008.1.2.1.99".into(), ..row.clone() };
        assert_eq!(implausible(&native(500, 5000), &deflated), None);
        let pieces = |frames, fragments, starts, last| VerifyFrames {
            frames,
            native: None,
            fragment_bytes: Some(fragments),
            start_bytes: starts,
            ends: [Some((400, 8)), Some(last)],
        };
        assert_eq!(implausible(&pieces(2, 24, None, (900, 100)), &row), None);
        assert!(implausible(&pieces(2, 24, None, (900, 101)), &row).is_some());
        assert!(implausible(&pieces(2, 25, None, (900, 100)), &row).is_some());
        assert!(implausible(&pieces(2, 36, None, (900, 100)), &row).is_some());
        assert_eq!(implausible(&pieces(2, 36, Some(12), (900, 100)), &row), None);
        assert!(implausible(&pieces(2, 36, Some(8), (900, 100)), &row).is_some());
    }
}
