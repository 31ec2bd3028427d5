//! What the disk gives by itself: the yardsticks of stores.
//!
//! One file written from start to end and synced once, as a batch of instances could be at best; and
//! files of one instance each, by several writers, each synced. The bytes are those of the corpus.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    corpus::Corpus,
    drive::{Pace, Sample},
    options::{Material, Measuring},
    peers::Programs,
    results::{HEAD, Results, Run},
    template::Template,
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    measuring: Measuring,
}

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    let corpus = material.corpus();
    let mut results = Results::default();
    println!("{HEAD}");
    for pace in arguments.measuring.paces() {
        let mut keep = |run: Run| {
            println!("{}", run.row());
            results.runs.push(run);
        };
        keep(files(&programs.folder, &corpus, &corpus.ct, 1, pace)?);
        keep(files(&programs.folder, &corpus, &corpus.ct, corpus.sizes.study, pace)?);
        // Of the large ones several at once would only be more of the same.
        if pace.connections == 1 {
            keep(files(&programs.folder, &corpus, &corpus.large, 1, pace)?);
        }
    }
    results.finish(arguments.measuring.json.as_deref())
}

/// Writes files with so many instances each, and syncs each, by as many writers as there are
/// connections.
pub fn files(
    within: &Path,
    corpus: &Corpus,
    template: &Template,
    instances: u64,
    pace: Pace,
) -> anyhow::Result<Run> {
    fs::create_dir_all(within)?;
    let folder = tempfile::Builder::new().prefix("load-disk-").tempdir_in(within)?;
    let samples = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    let (begun, most) = (Instant::now(), pace.requests.unwrap_or(u64::MAX));
    let writer = || {
        while begun.elapsed().as_secs_f64() < pace.seconds {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= most {
                break;
            }
            let at = begun.elapsed();
            let written =
                file(&folder.path().join(number.to_string()), corpus, template, instances);
            let latency = begun.elapsed() - at;
            match written {
                Ok(bytes) => {
                    let sample = Sample { latency, first: Duration::ZERO, bytes, items: instances };
                    samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                }
                Err(error) => {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..pace.connections {
            scope.spawn(writer);
        }
    });
    let elapsed = begun.elapsed();
    let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let name = format!("{instances} × {} bytes", template.length());
    Ok(Run::new("disk", &name, pace, elapsed, &samples, failed, BTreeMap::new()))
}

fn file(path: &Path, corpus: &Corpus, template: &Template, instances: u64) -> std::io::Result<u64> {
    let mut file = File::create_new(path)?;
    for id in corpus.ids(1, instances) {
        corpus.write(template, id, &mut file)?;
    }
    file.flush()?;
    file.sync_data()?;
    Ok(instances * template.length())
}
