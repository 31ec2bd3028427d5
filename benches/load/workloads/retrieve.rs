//! Retrievals: studies, instances, frames, metadata and pictures of what was stored before.
//!
//! Instances and frames are asked for in multipart answers, which every server knows. Their framing
//! is the server's own; so a length is what was stored and a little more.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::de::IgnoredAny;

use super::{Exchange, Look, Task, Workload, is};
use crate::{
    corpus::Id,
    http::{Answer, Connection, Keep},
    site::{JSON, Manner, Set, Site, mix},
};

pub const ALL: &[Workload] = &[
    Workload {
        name: "retrieve-study",
        about: "a study of CT",
        warm: Some(2),
        open: |site| {
            let set = ct(site)?;
            let length = set.template.length() * set.ids.len() as u64;
            instances(site, set.clone(), length, set.ids.len() as u64, |site, set, _| {
                let ids = set.ids.clone();
                (format!("/studies/{}", site.corpus.study_uid(ids[0])), ids)
            })
        },
    },
    Workload {
        name: "retrieve-instance",
        about: "one CT instance",
        warm: Some(10),
        open: |site| {
            let set = ct(site)?;
            instances(site, set.clone(), set.template.length(), 1, |site, set, number| {
                let id = set.draw(number);
                (site.corpus.path(id), vec![id])
            })
        },
    },
    Workload {
        name: "frame",
        about: "one frame of a multi-frame object",
        warm: Some(10),
        open: |site| frame(site, multi_frame),
    },
    Workload {
        name: "frame-large",
        about: "one frame of the large multi-frame object",
        warm: Some(1),
        open: |site| {
            frame(site, |site| site.set("large", &site.corpus.large, || site.corpus.ids(1, 1)))
        },
    },
    Workload {
        name: "metadata-study",
        about: "metadata of a study of many instances",
        warm: Some(3),
        open: |site| {
            let instances = site.corpus.sizes.metadata;
            let set = site.set("metadata", &site.corpus.small, || site.corpus.ids(1, instances));
            metadata(site, set?, instances)
        },
    },
    Workload {
        name: "metadata-cold",
        about: "the same, each time of a study whose metadata nobody has asked for",
        warm: Some(0),
        open: |site| {
            let (studies, instances) = (site.corpus.sizes.cold, site.corpus.sizes.metadata);
            // One more: for the thorough look before.
            let set = site.set("metadata-cold", &site.corpus.small, || {
                (0..=studies).flat_map(|_| site.corpus.ids(1, instances)).collect()
            });
            metadata(site, set?, instances)
        },
    },
    Workload {
        name: "rendered-jpeg",
        about: "a CT instance as JPEG",
        warm: Some(3),
        open: |site| rendered(site, "image/jpeg", false),
    },
    Workload {
        name: "rendered-png",
        about: "a CT instance as PNG",
        warm: Some(3),
        open: |site| rendered(site, "image/png", false),
    },
    Workload {
        name: "rendered-jpeg-frame",
        about: "a frame of a multi-frame object as JPEG",
        warm: Some(3),
        open: |site| rendered(site, "image/jpeg", true),
    },
    Workload {
        name: "rendered-png-frame",
        about: "a frame of a multi-frame object as PNG",
        warm: Some(3),
        open: |site| rendered(site, "image/png", true),
    },
];

const INSTANCES: &str = "multipart/related; type=\"application/dicom\"";
const FRAMES: &str = "multipart/related; type=\"application/octet-stream\"";
/// Most bytes of framing around a part.
const FRAMING: u64 = 1024;

fn ct(site: &Arc<Site>) -> anyhow::Result<Arc<Set>> {
    site.set("ct", &site.corpus.ct, || site.corpus.ids(1, site.corpus.sizes.study))
}

fn multi_frame(site: &Arc<Site>) -> anyhow::Result<Arc<Set>> {
    site.set("frames", &site.corpus.frames, || site.corpus.ids(1, 1))
}

/// Instances as they were stored: `what` says where, and which.
fn instances(
    site: &Arc<Site>,
    set: Arc<Set>,
    length: u64,
    parts: u64,
    what: fn(&Site, &Set, u64) -> (String, Vec<Id>),
) -> anyhow::Result<Option<Task>> {
    let site = site.clone();
    Ok(Some(Box::new(move |connection, number, look| {
        let (path, ids) = what(&site, &set, number);
        let answer = match &site.manner {
            Manner::Dicomweb => {
                let answer = get(&site, connection, &path, INSTANCES, look)?;
                framed(&answer, length, parts)?;
                answer
            }
            Manner::Files(_) => {
                // The last part of the path is the name of the file.
                let file = path.rsplit('/').next().unwrap_or_default();
                let answer = get(&site, connection, &format!("/{file}"), "*/*", look)?;
                ensure!(answer.length == length, "{} bytes in place of {length}", answer.length);
                answer
            }
        };
        if look == Look::Thorough {
            for id in ids {
                let mut file = Vec::new();
                site.corpus.write(&set.template, id, &mut file)?;
                holds(&answer, &file)?;
            }
        }
        Ok(Exchange::new(&answer, length, parts))
    })))
}

/// A frame, drawn by chance, of the one instance of a set.
fn frame(
    site: &Arc<Site>,
    set: fn(&Arc<Site>) -> anyhow::Result<Arc<Set>>,
) -> anyhow::Result<Option<Task>> {
    if matches!(site.manner, Manner::Files(_)) {
        return Ok(None);
    }
    let (set, site) = (set(site)?, site.clone());
    Ok(Some(Box::new(move |connection, number, look| {
        let frame = (mix(number) % u64::from(set.template.count)) as u32;
        let path = format!("{}/frames/{}", site.corpus.path(set.ids[0]), frame + 1);
        let answer = get(&site, connection, &path, FRAMES, look)?;
        let pixels = set.template.frame(frame);
        framed(&answer, pixels.len() as u64, 1)?;
        if look == Look::Thorough {
            holds(&answer, pixels)?;
        }
        Ok(Exchange::new(&answer, pixels.len() as u64, 1))
    })))
}

/// Metadata of the studies of a set, one after the other.
fn metadata(site: &Arc<Site>, set: Arc<Set>, instances: u64) -> anyhow::Result<Option<Task>> {
    if matches!(site.manner, Manner::Files(_)) {
        return Ok(None);
    }
    let site = site.clone();
    let studies: Vec<Id> = set.ids.iter().step_by(instances as usize).copied().collect();
    Ok(Some(Box::new(move |connection, number, look| {
        let id = studies[number as usize % studies.len()];
        let path = format!("/studies/{}/metadata", site.corpus.study_uid(id));
        let answer = get(&site, connection, &path, JSON, look)?;
        // Every instance has more than half of that, and the array an end.
        ensure!(answer.length > instances * 1024, "{} bytes of metadata", answer.length);
        ensure!(answer.body.trim_ascii_end().ends_with(b"]"), "the metadata has no end");
        if look == Look::Thorough {
            let data_sets: Vec<IgnoredAny> = serde_json::from_slice(&answer.body)?;
            ensure!(data_sets.len() as u64 == instances, "{} data sets", data_sets.len());
        }
        Ok(Exchange::new(&answer, answer.length, instances))
    })))
}

/// A picture of an instance, or of a frame.
fn rendered(site: &Arc<Site>, kind: &'static str, of_frames: bool) -> anyhow::Result<Option<Task>> {
    if matches!(site.manner, Manner::Files(_)) {
        return Ok(None);
    }
    let (set, site) = (if of_frames { multi_frame(site)? } else { ct(site)? }, site.clone());
    Ok(Some(Box::new(move |connection, number, _| {
        let mut path = site.corpus.path(set.draw(number));
        if of_frames {
            path += &format!("/frames/{}", 1 + mix(number) % u64::from(set.template.count));
        }
        path += "/rendered";
        let answer = get(&site, connection, &path, kind, Look::Thorough)?;
        ensure!(answer.content_type.starts_with(kind), "{} for {kind}", answer.content_type);
        let (start, end): (&[u8], &[u8]) = match kind {
            "image/jpeg" => (b"\xFF\xD8\xFF", b"\xFF\xD9"),
            _ => (b"\x89PNG\r\n", b"IEND\xAE\x42\x60\x82"),
        };
        let whole = answer.body.starts_with(start) && answer.body.ends_with(end);
        ensure!(whole && answer.length > 1024, "{} bytes are no picture", answer.length);
        Ok(Exchange::new(&answer, answer.length, 1))
    })))
}

fn get(
    site: &Site,
    connection: &mut Connection,
    path: &str,
    accept: &str,
    look: Look,
) -> anyhow::Result<Answer> {
    let keep = if look == Look::Thorough { Keep::All } else { Keep::Tail };
    let answer = connection.get(&site.path(path), accept, keep)?;
    is(&answer, 200).with_context(|| path.to_owned())?;
    Ok(answer)
}

/// That a multipart answer has that much content, and its end.
fn framed(answer: &Answer, length: u64, parts: u64) -> anyhow::Result<()> {
    let most = length + FRAMING * (parts + 1);
    ensure!(
        (length..=most).contains(&answer.length),
        "{} bytes in place of {length}",
        answer.length
    );
    let boundary = answer.content_type.split("boundary=").nth(1).context("no boundary")?;
    let boundary = boundary.split(';').next().unwrap_or_default().trim_matches('"');
    let end = format!("--{boundary}--");
    ensure!(answer.body.trim_ascii_end().ends_with(end.as_bytes()), "no closing delimiter");
    Ok(())
}

fn holds(answer: &Answer, bytes: &[u8]) -> anyhow::Result<()> {
    let found = memchr::memmem::find(&answer.body, bytes);
    found.map(|_| ()).context("the answer does not hold the bytes that were stored")
}
