//! What processes cost: processor time and memory of a server and its children, from `/proc`.
//!
//! A group is the tree below one or more processes, without the trees that are groups of their own:
//! the server without its database. Processor time of children that ended is in their parents'
//! account, so that nothing is lost where Postgres forks. Memory that several processes share is
//! counted once: the sum of what each has for itself, and the largest share of files and of shared
//! memory.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context;

/// The group of who measures.
pub const CLIENT: &str = "client";
/// Time between two looks at the memory.
const TICK: Duration = Duration::from_millis(50);

/// Processes whose costs are told together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub roots: Vec<u32>,
    /// Without what they started: of who measures, that is the servers.
    pub alone: bool,
}

impl Group {
    pub fn tree(name: &str, root: u32) -> Self {
        Self { name: name.to_owned(), roots: vec![root], alone: false }
    }

    /// This process: what the measuring itself costs.
    pub fn ourselves() -> Self {
        Self { alone: true, ..Self::tree(CLIENT, std::process::id()) }
    }
}

impl std::str::FromStr for Group {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, pid) = text.split_once('=').context("not NAME=PID")?;
        let roots = pid.split('+').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), roots, alone: false })
    }
}

/// What a group has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    pub cpu: Duration,
    /// Bytes resident.
    pub memory: u64,
}

/// What a group cost over a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub cpu: Duration,
    /// Bytes resident at the start.
    pub before: u64,
    /// Most bytes resident.
    pub peak: u64,
}

/// Looks at groups until it is asked what they cost.
pub struct Watch {
    groups: Vec<Group>,
    before: Vec<Used>,
    peaks: Arc<Mutex<Vec<u64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn start(groups: &[Group]) -> Self {
        let groups = groups.to_vec();
        let before = used(&groups);
        let peaks = Arc::new(Mutex::new(before.iter().map(|used| used.memory).collect()));
        let stop = Arc::new(AtomicBool::new(false));
        let watched = (!groups.is_empty()).then(|| (groups.clone(), peaks.clone(), stop.clone()));
        let thread = watched.map(|(groups, peaks, stop)| {
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    raise(&peaks, &used(&groups));
                }
            })
        });
        Self { groups, before, peaks, stop, thread }
    }

    /// What each group cost since the start, by name.
    pub fn stop(mut self) -> BTreeMap<String, Cost> {
        let after = used(&self.groups);
        self.end();
        raise(&self.peaks, &after);
        let peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        let costs = self.before.iter().zip(&after).zip(&*peaks).map(|((before, after), peak)| {
            Cost { cpu: after.cpu.saturating_sub(before.cpu), before: before.memory, peak: *peak }
        });
        self.groups.iter().map(|group| group.name.clone()).zip(costs).collect()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn raise(peaks: &Mutex<Vec<u64>>, now: &[Used]) {
    let mut peaks = peaks.lock().unwrap_or_else(PoisonError::into_inner);
    for (peak, now) in peaks.iter_mut().zip(now) {
        *peak = (*peak).max(now.memory);
    }
}

/// What each group has used until now.
pub fn used(groups: &[Group]) -> Vec<Used> {
    let roots: Vec<u32> = groups.iter().flat_map(|group| group.roots.clone()).collect();
    groups
        .iter()
        .map(|group| {
            let mut tree = Vec::new();
            for root in &group.roots {
                if group.alone {
                    tree.push(*root);
                } else {
                    descend(*root, &roots, &mut tree);
                }
            }
            let cpu = tree.iter().filter_map(|pid| cpu(*pid, !group.alone)).sum();
            Used { cpu, memory: memory(&tree) }
        })
        .collect()
}

/// A process and what it started, as far as it is not the root of another group.
fn descend(pid: u32, roots: &[u32], tree: &mut Vec<u32>) {
    if tree.contains(&pid) {
        return;
    }
    tree.push(pid);
    // Children belong to the thread that made them.
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            if !roots.contains(&child) {
                descend(child, roots, tree);
            }
        }
    }
}

/// Processor time of a process and, if wanted, of its children that ended.
fn cpu(pid: u32, with_children: bool) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets; what follows is counted from its end.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let counted = if with_children { 11..15 } else { 11..13 };
    let ticks: u64 =
        fields.get(counted)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: sysconf has no preconditions.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(Duration::from_secs_f64(ticks as f64 / a_second.max(1) as f64))
}

fn memory(tree: &[u32]) -> u64 {
    let (mut own, mut files, mut shared) = (0, 0, 0);
    for pid in tree {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or(0) << 10
        };
        own += kilobytes("RssAnon");
        files = files.max(kilobytes("RssFile"));
        shared = shared.max(kilobytes("RssShmem"));
    }
    own + files + shared
}
