//! What is asked of a site: each kind of request by its name, what must lie there first, and what
//! the answer must be.

mod retrieve;
mod search;
mod store;

use std::{sync::Arc, time::Instant};

use crate::{
    http::{Answer, Connection},
    site::Site,
};

/// One request and its answer, which was as expected.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub first: Instant,
    pub done: Instant,
    /// Bytes of instances, frames, pictures or JSON that were moved.
    pub bytes: u64,
    /// Instances, frames or results.
    pub items: u64,
}

/// How closely an answer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its status, length and end: what costs nothing beside the request.
    Quick,
    /// Its bytes against those that were stored.
    Thorough,
}

/// Sends the request of a number.
pub type Task = Box<dyn Fn(&mut Connection, u64, Look) -> anyhow::Result<Exchange> + Send + Sync>;

/// One kind of request.
pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    /// Requests before those that are measured, for each connection; none: not even a first one.
    pub warm: Option<u64>,
    /// Stores what must be there. Nothing, where the site does not offer this.
    pub open: fn(&Arc<Site>) -> anyhow::Result<Option<Task>>,
}

/// All workloads, in the order in which they are run: each finds in the page cache what a busy
/// server would have there.
pub fn all() -> impl Iterator<Item = &'static Workload> {
    store::ALL.iter().chain(retrieve::ALL).chain(search::ALL)
}

/// The workloads of these names, or parts of names followed by `*`; all, for none.
pub fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Workload>> {
    let is = |workload: &Workload, name: &str| match name.strip_suffix('*') {
        Some(start) => workload.name.starts_with(start),
        None => workload.name == name,
    };
    for name in only {
        let known = || all().map(|workload| workload.name).collect::<Vec<_>>().join(", ");
        anyhow::ensure!(
            all().any(|one| is(one, name)),
            "no workload {name}; there are {}",
            known()
        );
    }
    let wanted = |one: &&Workload| only.is_empty() || only.iter().any(|name| is(one, name));
    Ok(all().filter(wanted).collect())
}

impl Exchange {
    fn new(answer: &Answer, bytes: u64, items: u64) -> Self {
        Self { first: answer.first, done: answer.done, bytes, items }
    }
}

/// That an answer has a status, with the beginning of what it says instead.
fn is(answer: &Answer, status: u16) -> anyhow::Result<()> {
    let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
    anyhow::ensure!(answer.status == status, "status {}: {said}", answer.status);
    Ok(())
}
