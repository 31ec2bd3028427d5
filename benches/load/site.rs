//! Whom load is sent to: a base URL, what of the corpus lies there, and the processes behind it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    corpus::{Corpus, Id, RELATED},
    http::{Answer, Base, Connection, Keep},
    processes::Group,
    template::Template,
};

/// Bytes of a request that prepares.
const REQUEST: u64 = 64 << 20;
pub const JSON: &str = "application/dicom+json";

/// How a site is spoken to.
#[derive(Clone, Debug)]
pub enum Manner {
    Dicomweb,
    /// Files below a folder, served as they are.
    Files(PathBuf),
}

/// A server under one name, and what was stored there.
pub struct Site {
    pub name: String,
    pub base: Base,
    pub manner: Manner,
    pub groups: Vec<Group>,
    pub corpus: Corpus,
    sets: Mutex<BTreeMap<&'static str, Arc<Set>>>,
}

/// Instances that lie at a site.
pub struct Set {
    pub template: Arc<Template>,
    pub ids: Vec<Id>,
}

impl Set {
    /// A draw of its instances.
    pub fn draw(&self, number: u64) -> Id {
        self.ids[(mix(number) % self.ids.len() as u64) as usize]
    }
}

impl Site {
    pub fn new(name: &str, base: Base, manner: Manner, groups: Vec<Group>, corpus: Corpus) -> Self {
        Self { name: name.to_owned(), base, manner, groups, corpus, sets: Mutex::default() }
    }

    pub fn connection(&self) -> Connection {
        Connection::new(&self.base)
    }

    /// A path below the base.
    pub fn path(&self, below: &str) -> String {
        format!("{}{below}", self.base.path)
    }

    /// A set of instances, stored the first time that it is asked for.
    pub fn set(
        &self,
        name: &'static str,
        template: &Arc<Template>,
        ids: impl FnOnce() -> Vec<Id>,
    ) -> anyhow::Result<Arc<Set>> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(name) {
            return Ok(set.clone());
        }
        let set = Arc::new(Set { template: template.clone(), ids: ids() });
        self.fill(&set).with_context(|| format!("{}: {name} cannot be stored", self.name))?;
        sets.insert(name, set.clone());
        Ok(set)
    }

    fn fill(&self, set: &Set) -> anyhow::Result<()> {
        if let Manner::Files(folder) = &self.manner {
            return self.write(folder, set);
        }
        let mut connection = self.connection();
        let at_once = (REQUEST / set.template.length()).clamp(1, 100) as usize;
        set.ids
            .chunks(at_once)
            .try_for_each(|ids| self.store(&mut connection, &set.template, ids).map(|_| ()))
    }

    /// Writes a file for each instance, and one with all of a study.
    fn write(&self, folder: &std::path::Path, set: &Set) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        for id in &set.ids {
            let mut file = std::fs::File::create(folder.join(self.corpus.instance_uid(*id)))?;
            self.corpus.write(&set.template, *id, &mut file)?;
            let study = folder.join(self.corpus.study_uid(*id));
            let mut study = std::fs::File::options().append(true).create(true).open(study)?;
            self.corpus.write(&set.template, *id, &mut study)?;
        }
        Ok(())
    }

    /// Stores instances in one request, all of which must be taken.
    pub fn store(
        &self,
        connection: &mut Connection,
        template: &Template,
        ids: &[Id],
    ) -> anyhow::Result<(Answer, u64)> {
        let upload = self.corpus.upload(template, ids);
        let answer = connection.post(&self.path("/studies"), RELATED, JSON, &upload)?;
        stored(&answer, ids.len())?;
        Ok((answer, upload.payload()))
    }

    /// Whether it has a change feed as ours.
    pub fn has_feed(&self) -> bool {
        let answer =
            self.connection().get(&self.path("/changefeed/latest"), "application/json", Keep::Tail);
        answer.is_ok_and(|answer| [200, 204].contains(&answer.status))
    }
}

/// The response data set of a Store (PS3.18 §10.5.3).
#[derive(Deserialize)]
struct Response {
    #[serde(rename = "00081199")]
    referenced: Option<Sequence>,
    #[serde(rename = "00081198")]
    failed: Option<Sequence>,
}

#[derive(Deserialize)]
struct Sequence {
    #[serde(rename = "Value", default)]
    items: Vec<IgnoredAny>,
}

/// That a Store took everything.
fn stored(answer: &Answer, instances: usize) -> anyhow::Result<()> {
    let said = || String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]).into_owned();
    ensure!(answer.status == 200, "{} to a store: {}", answer.status, said());
    let response: Response =
        serde_json::from_slice(&answer.body).with_context(|| format!("no data set: {}", said()))?;
    let count = |sequence: Option<Sequence>| sequence.map_or(0, |sequence| sequence.items.len());
    let (referenced, failed) = (count(response.referenced), count(response.failed));
    ensure!(failed == 0, "{failed} of {instances} instances failed: {}", said());
    ensure!(referenced == instances, "{referenced} of {instances} instances were stored");
    Ok(())
}

/// A number that looks like chance.
pub fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
