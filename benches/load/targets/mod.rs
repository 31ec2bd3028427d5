//! The command `targets`: ours, its peers and the yardsticks of the machine by turns, and each
//! target with what was reached.
//!
//! Sections: stores, retrievals, what is small, and the start; on servers of their own, so that no
//! more lies on the disk than one of them needs. Every workload goes round all servers, several
//! times.

mod table;
mod turns;

use std::{path::PathBuf, sync::Arc};

use self::turns::{Plan, Turns};
use crate::{
    disk,
    options::{Material, Measured},
    peers::{Peer, Programs},
    results::{HEAD, Results},
    site::Site,
    sizes::Sizes,
    start, workloads,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Fewer rounds, and smaller ones: within a quarter of an hour
    #[arg(long)]
    quick: bool,
    /// How often each is measured, by turns
    #[arg(long)]
    rounds: Option<usize>,
    /// Whom ours is compared with, besides nginx and the disk; the faster counts
    #[arg(long, value_delimiter = ',', default_values = ["orthanc-sqlite", "orthanc-postgresql"])]
    peers: Vec<String>,
    /// Only these sections
    #[arg(long, value_delimiter = ',', value_parser = SECTIONS)]
    sections: Vec<String>,
    /// Write the figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const SECTIONS: [&str; 4] = ["store", "retrieve", "small", "start"];

pub fn run(arguments: &Arguments, programs: &Programs, material: &Material) -> anyhow::Result<()> {
    let mut plan = if arguments.quick { Plan::QUICK } else { Plan::FULL };
    plan.rounds = arguments.rounds.unwrap_or(plan.rounds);
    let mut sizes = material.sizes();
    if arguments.quick {
        sizes.cold = sizes.cold.min(4);
        sizes.population = sizes.population.min(100);
    }
    let is_wanted = |section: &str| {
        arguments.sections.is_empty() || arguments.sections.iter().any(|one| one == section)
    };
    let mut turns = Turns::default();
    let mut rows = Vec::new();
    println!("{HEAD}");
    let servers = |also: &[&str]| -> anyhow::Result<Vec<Measured>> {
        let peers = arguments.peers.iter().map(String::as_str).chain(also.iter().copied());
        let names = std::iter::once(Peer::Collimator.name()).chain(peers);
        names.map(|name| Measured::started(name, programs, material.corpus_of(&sizes))).collect()
    };
    if is_wanted("store") {
        store(&mut turns, &servers, programs, &plan)?;
        rows.extend(table::store(&turns, &arguments.peers));
    }
    if is_wanted("retrieve") {
        retrieve(&mut turns, &servers(&[Peer::Nginx.name()])?, &plan)?;
        rows.extend(table::retrieve(&turns, &arguments.peers));
    }
    if is_wanted("small") {
        small(&mut turns, &servers(&[])?, &plan, &sizes)?;
        rows.extend(table::small(&turns, &sizes, &arguments.peers));
    }
    if is_wanted("start") {
        let starts = (0..plan.rounds).map(|_| start::measure(programs, material));
        rows.extend(table::start(&starts.collect::<anyhow::Result<Vec<_>>>()?));
    }
    println!("\n| what | ours | against | ratio | target | |");
    println!("| --- | ---: | ---: | ---: | ---: | --- |");
    rows.iter().for_each(|row| println!("{row}"));
    let met = rows.iter().filter(|row| row.is_met()).count();
    println!("\n{met} of {} met", rows.len());
    if sizes.study < Sizes::FULL.study {
        println!("The corpus is a small one (--tiny): nothing that the targets speak of.");
    }
    let failed = std::mem::take(&mut turns.failed);
    let results = Results { runs: turns.all() };
    results.finish(arguments.json.as_deref())?;
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join("; "));
    Ok(())
}

fn sites(servers: &[Measured]) -> Vec<Arc<Site>> {
    servers.iter().map(|server| server.site.clone()).collect()
}

/// Stores, with the disk taking its turns, on new servers for each kind.
fn store(
    turns: &mut Turns,
    servers: &dyn Fn(&[&str]) -> anyhow::Result<Vec<Measured>>,
    programs: &Programs,
    plan: &Plan,
) -> anyhow::Result<()> {
    for (name, connections, requests) in [
        ("store-study", 1, plan.studies),
        ("store-study", 8, plan.studies),
        ("store-single", 8, plan.singles),
        ("store-large", 1, 1),
    ] {
        let servers = servers(&[])?;
        let sites = sites(&servers);
        let corpus = &sites[0].corpus;
        let (template, instances) = match name {
            "store-study" => (&corpus.ct, corpus.sizes.study),
            "store-large" => (&corpus.large, 1),
            _ => (&corpus.ct, 1),
        };
        turns.go(plan.rounds, &sites, name, plan.pace(connections, requests), |pace| {
            disk::files(&programs.folder, corpus, template, instances, pace).map(Some)
        })?;
    }
    Ok(())
}

/// Retrievals; nginx is one of the servers.
fn retrieve(turns: &mut Turns, servers: &[Measured], plan: &Plan) -> anyhow::Result<()> {
    let sites = sites(servers);
    for connections in [1, 8] {
        for name in ["retrieve-study", "retrieve-instance", "frame"] {
            let pace = plan.pace(connections, u64::MAX);
            turns.go(plan.rounds, &sites, name, pace, |_| Ok(None))?;
        }
    }
    turns.go(plan.rounds, &sites, "frame-large", plan.pace(1, u64::MAX), |_| Ok(None))?;
    for workload in workloads::chosen(&["rendered*".to_owned()])? {
        turns.go(plan.rounds, &sites, workload.name, plan.pace(8, u64::MAX), |_| Ok(None))?;
    }
    Ok(())
}

/// Metadata, searches and the change feed: one connection, whose latency counts.
fn small(
    turns: &mut Turns,
    servers: &[Measured],
    plan: &Plan,
    sizes: &Sizes,
) -> anyhow::Result<()> {
    let sites = sites(servers);
    turns.go(1, &sites, "metadata-cold", plan.pace(1, sizes.cold), |_| Ok(None))?;
    for name in
        ["metadata-study", "search-patient", "search-instances", "search-studies", "change-feed"]
    {
        turns.go(plan.rounds, &sites, name, plan.pace(1, u64::MAX), |_| Ok(None))?;
    }
    Ok(())
}
