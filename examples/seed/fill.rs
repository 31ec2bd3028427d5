//! Writing a population into an index, as Store writes.

use std::{fs, path::Path, sync::Arc, time::Instant};

use anyhow::Context;
use collimator::{
    blob::BlobStore,
    config::{Config, Sources},
    dicom::{
        Limits,
        index::{Indexed, Indexer},
        kept,
        reader::Reader,
    },
    index::{Db, DbOptions, IndexError, NewBlob, NewInstance, migrate},
    postgres::Embedded,
    tenancy::{PartitionId, PartitionScope, Scope},
};
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::population::Population;

/// Instances of one transaction.
const BATCH: u64 = 2_000;

/// Indexes that no store needs are made at the end, in one go each: many times faster than a row at
/// a time. Until then their definitions are kept in a table, where a seeding that was interrupted
/// finds them again.
const WITHOUT_INDEXES: &str = "
    CREATE TABLE IF NOT EXISTS seed_index (name text PRIMARY KEY, definition text NOT NULL);
    INSERT INTO seed_index
        SELECT c.relname, pg_get_indexdef(c.oid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE c.relnamespace = 'public'::regnamespace AND NOT i.indisunique
        ON CONFLICT DO NOTHING;
    DO $$ DECLARE aside text; BEGIN
        FOR aside IN SELECT name FROM seed_index LOOP
            EXECUTE format('DROP INDEX IF EXISTS %I', aside);
        END LOOP;
    END $$";
const WITH_INDEXES: &str = "
    SET maintenance_work_mem = '1GB';
    DO $$ DECLARE made text; BEGIN
        FOR made IN SELECT definition FROM seed_index LOOP
            EXECUTE replace(made, 'CREATE INDEX', 'CREATE INDEX IF NOT EXISTS');
        END LOOP;
    END $$;
    DROP TABLE seed_index";

const LIMITS: Limits =
    Limits { element_depth: 8, header_bytes: 1 << 20, inflated_bytes: 1 << 20, frames: 1 };

/// Fills the data folder of a server with a private Postgres, which is then as the server leaves it.
pub fn folder(folder: &Path, population: Population) -> anyhow::Result<()> {
    fs::create_dir_all(folder).context("the data folder cannot be made")?;
    let embedded = Embedded::start(folder, None).context("the private Postgres did not start")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let filled = runtime.block_on(async {
        fill(embedded.owner_options(), population).await?;
        claim(folder, embedded.owner_options()).await
    });
    drop(runtime);
    embedded.stop();
    filled
}

/// Makes the blob folder beside the database its own, as the first start of a server does: beside
/// a database that holds instances no server does it.
async fn claim(folder: &Path, owner: PgConnectOptions) -> anyhow::Result<()> {
    let config = Config::load(&Sources::default())?;
    let blobs = BlobStore::open(&config.blob, folder)?;
    let login = migrate(owner.clone()).await?;
    let app = owner.username(&login.role).password(&login.password);
    let db = Db::open(app, DbOptions::default()).await?;
    let archive = db.registry().await?.archive_id().await?;
    blobs.claim(archive).await.context("the blob folder is another archive's")?;
    db.close().await;
    Ok(())
}

/// Fills the index of a database, given its owner, and leaves it vacuumed and analysed.
pub async fn fill(owner: PgConnectOptions, population: Population) -> anyhow::Result<()> {
    let login = migrate(owner.clone()).await.context("the database cannot be migrated")?;
    let mut conn = owner.connect().await?;
    sqlx::raw_sql(WITHOUT_INDEXES).execute(&mut conn).await.context("no indexes to put aside")?;
    let app = owner.clone().username(&login.role).password(&login.password);
    let options = DbOptions { max_connections: 4, ..DbOptions::default() };
    let db = Db::open(app, options).await.context("the database cannot be used")?;
    let begun = Instant::now();
    let bar = ProgressBar::new(population.studies).with_style(ProgressStyle::with_template(
        "{wide_bar} {human_pos}/{human_len} studies, {per_sec}, {eta} left",
    )?);
    let of_a_batch = (BATCH / (population.series * population.instances)).max(1);
    let population = Arc::new(population);
    let batches = (0..population.partitions).flat_map(|first| {
        let numbers = (first..population.studies).step_by(population.partitions as usize);
        let numbers: Vec<u64> = numbers.collect();
        let chunks: Vec<Vec<u64>> =
            numbers.chunks(of_a_batch as usize).map(<[u64]>::to_vec).collect();
        chunks
    });
    stream::iter(batches)
        .map(|numbers| {
            let (db, population, bar) = (db.clone(), population.clone(), bar.clone());
            async move {
                let studies = numbers.len() as u64;
                tokio::spawn(async move { store(&db, &population, &numbers).await }).await??;
                bar.inc(studies);
                anyhow::Ok(())
            }
        })
        .buffer_unordered(2)
        .try_collect::<()>()
        .await?;
    bar.finish();
    let instances = population.studies * population.series * population.instances;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{instances} instances in {seconds:.0} s, {:.0}/s", instances as f64 / seconds);
    db.close().await;
    let begun = Instant::now();
    sqlx::raw_sql(WITH_INDEXES).execute(&mut conn).await.context("the indexes cannot be made")?;
    eprintln!("indexes in {:.0} s", begun.elapsed().as_secs_f64());
    // What autovacuum would have done by the time that an archive has grown so large.
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(&mut conn).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&mut conn).await?;
    Ok(())
}

/// An instance as Store has it when it comes to the index.
pub struct Ready {
    indexed: Indexed,
    metadata: Vec<u8>,
    sha256: [u8; 32],
    length: u64,
}

/// Reads an instance as Store reads it.
pub fn read(file: &[u8]) -> anyhow::Result<Ready> {
    let mut reader = Reader::new(Indexer::new(LIMITS), LIMITS, 1 << 16);
    reader.push(file)?;
    let mut indexed = reader.finish()?.finish()?;
    let metadata = kept::compress(&std::mem::take(&mut indexed.metadata))?;
    let sha256 = Sha256::digest(file).into();
    Ok(Ready { indexed, metadata, sha256, length: file.len() as u64 })
}

/// The instances as one batch, end to end in one blob, and how long that is in bytes.
pub fn batch(ready: &[Ready]) -> (NewBlob, Vec<NewInstance<'_>>) {
    let id = Uuid::new_v4();
    let mut offset = 0;
    let news = ready
        .iter()
        .map(|ready| {
            let new = NewInstance {
                blob: id,
                indexed: &ready.indexed,
                metadata: &ready.metadata,
                offset,
                length: ready.length,
                sha256: ready.sha256,
                received: None,
                rejects: None,
            };
            offset += ready.length;
            new
        })
        .collect();
    (NewBlob { id, length: offset }, news)
}

/// Stores the studies of these numbers, which are of one partition, as one batch.
async fn store(db: &Db, population: &Population, numbers: &[u64]) -> anyhow::Result<()> {
    let Some(first) = numbers.first() else { return Ok(()) };
    let partition: PartitionId = population.partition(*first).parse()?;
    let mut registry = db.registry().await?;
    registry.partition_create(&partition).await?;
    registry.commit().await?;
    let mut ready = Vec::new();
    for number in numbers {
        let study = population.study(*number);
        for series in 0..population.series {
            for instance in 0..population.instances {
                ready.push(read(&population.file(&study, series, instance))?);
            }
        }
    }
    let (blob, news) = batch(&ready);
    #[expect(clippy::disallowed_methods, reason = "no request asks for this")]
    let scope: PartitionScope = Scope::for_maintenance(&partition);
    loop {
        let mut tx = db.begin_in(&scope).await?;
        match tx.store_batch(&[blob], &news).await {
            Ok(_) => return Ok(tx.commit().await?),
            Err(IndexError::Busy) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
