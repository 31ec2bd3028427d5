//! Metadata of whole studies and series: packs, and what they lack.
//!
//! A pack ([`crate::dicom::pack`]) is a copy of the metadata of instances that were stored together.
//! Holds: what lives is what the rows of instances say, at the moment at which the packs are read;
//! a pack adds nothing to it, and may be missing or lack any of them. A deletion takes the packs of
//! what it deletes along, so that nothing of it is left.

use std::{
    collections::{HashMap, VecDeque},
    io,
};

use sqlx::{Row, postgres::PgRow};

use super::{
    IndexError, NewInstance, PartitionTx, Target,
    located::uid,
    lookup::{one, series_key, series_uid_of_i, study_key},
    retrieve::{METADATA_BYTES, metadata},
    summary::version,
};
use crate::dicom::{
    Uid, kept,
    pack::{LONGEST, Packed, Packer},
};

/// The packs of page `l`, up to 4 MiB of them ([`METADATA_BYTES`]). The running sum goes by the
/// index, and of a pack that is too much no byte is read. Packs span less than 1,024 watermarks
/// ([`SPAN`](crate::dicom::pack::SPAN)).
macro_rules! packs {
    ($also:expr) => {
        concat!(
            "(SELECT array_agg(p.first_watermark) AS firsts, array_agg(p.pack) AS packs FROM (
        SELECT first_watermark, pack, sum(octet_length(pack)) OVER (ORDER BY study_key, first_watermark
            ROWS UNBOUNDED PRECEDING) AS bytes
        FROM (SELECT * FROM metadata_pack
            WHERE partition_id = $1 AND study_key >= ",
            study_key!(),
            " AND study_key <= ",
            study_key!(),
            "
                AND first_watermark > l.first - 1024 AND first_watermark <= l.last
                AND last_watermark >= l.first",
            $also,
            "
            ORDER BY study_key, first_watermark) k) p
        WHERE p.bytes <= 4194304)"
        )
    };
}

/// Which packs are looked at for series `$6` alone.
macro_rules! of_series {
    () => {
        concat!(" AND ", series_key!("$6"), " = ANY (series_keys)")
    };
}

/// The instances whose column `$key` is `$of`.
macro_rules! under {
    ($key:literal, $of:expr) => {
        concat!(
            "FROM instance WHERE partition_id = $1 AND ",
            $key,
            " >= ",
            $of,
            " AND ",
            $key,
            " <= ",
            $of,
            " AND watermark > $3 AND watermark <= $4
            ORDER BY ",
            $key,
            ", watermark"
        )
    };
}

/// A page of what lives, with its packs; `$whole` says what there is in all.
macro_rules! page {
    ($name:literal, $whole:expr, $key:literal, $of:expr, $also:expr) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT l.live, p.firsts, p.packs",
            $whole,
            "
    FROM (SELECT array_agg(watermark) AS live, min(watermark + 0) AS first,
            max(watermark + 0) AS last
        FROM (SELECT watermark ",
            under!($key, $of),
            " LIMIT $5) i) l
    CROSS JOIN LATERAL ",
            packs!($also),
            " p"
        )
    };
}

/// What there is in all, as [`Summary`](super::Summary) says it.
macro_rules! whole {
    ($key:literal, $of:expr) => {
        concat!(
            ", (SELECT array[max(watermark + 0)::text, count(*)::text, sum(watermark)::text]
        FROM (SELECT watermark ",
            under!($key, $of),
            ") w)"
        )
    };
}

const FIRST_OF_STUDY: &str = page!(
    "metadata_first_of_study",
    whole!("study_key", study_key!()),
    "study_key",
    study_key!(),
    ""
);
const FIRST_OF_SERIES: &str = page!(
    "metadata_first_of_series",
    whole!("series_key", series_key!("$6")),
    "series_key",
    series_key!("$6"),
    of_series!()
);
const MORE_OF_STUDY: &str = page!("metadata_more_of_study", "", "study_key", study_key!(), "");
const MORE_OF_SERIES: &str =
    page!("metadata_more_of_series", "", "series_key", series_key!("$6"), of_series!());

/// Metadata of instances one by one.
const EACH: &str = concat!(
    "-- metadata_of_each
    SELECT i.watermark, ",
    series_uid_of_i!(),
    ", i.sop_instance_uid, m.metadata
    FROM unnest($2::bigint[]) AS n(key) CROSS JOIN LATERAL ",
    one!("*", "instance", "watermark", "n.key"),
    " i",
    metadata!()
);

const CREATE: &str = "-- metadata_packs_create
    INSERT INTO metadata_pack (partition_id, study_key, first_watermark, last_watermark,
        series_keys, pack)
    SELECT $1, study_key, first, last, series_keys::bigint[], pack
    FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bytea[])
        AS n(study_key, first, last, series_keys, pack)
    RETURNING first_watermark";

/// Of study `$2` those that may hold something from watermark `$3` to `$4`.
const DELETE: &str = "-- delete_metadata_packs
    DELETE FROM metadata_pack t
    USING (SELECT ctid AS at FROM metadata_pack
        WHERE partition_id = $1 AND study_key >= $2 AND study_key <= $2
            AND first_watermark > $3 - 1024 AND first_watermark <= $4 AND last_watermark >= $3
        ORDER BY study_key, first_watermark) x
    WHERE t.partition_id = $1 AND t.ctid = x.at";

pub(super) const STATEMENTS: &[&str] =
    &[FIRST_OF_STUDY, FIRST_OF_SERIES, MORE_OF_STUDY, MORE_OF_SERIES, EACH, CREATE, DELETE];

/// Instances of one batch and study from which packs are made.
const COMPANY: usize = 2;

/// A page of what lives of a study or series.
#[derive(Clone, Debug, Default)]
pub struct PackedPage {
    /// Watermarks of the instances, ascending.
    pub live: VecDeque<i64>,
    /// Packs with metadata of some of them, and the first watermark of each, ascending; they may
    /// hold others.
    pub packs: VecDeque<(i64, Vec<u8>)>,
}

/// What an answer has to know of a study or series before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The newest watermark.
    pub newest: i64,
    /// Number of instances.
    pub count: i64,
    /// As that of [`Summary`](super::Summary).
    pub version: String,
}

impl Whole {
    /// An instance as a whole.
    pub fn of_one(watermark: i64) -> Self {
        Self { newest: watermark, count: 1, version: version(watermark, 1, &watermark.to_string()) }
    }
}

/// Metadata of one instance.
#[derive(Clone, Debug)]
pub struct OneMetadata {
    /// The instance.
    pub watermark: i64,
    /// Its Series Instance UID.
    pub series: Uid,
    /// Its SOP Instance UID.
    pub instance: Uid,
    /// Its DICOM JSON as it is kept.
    pub metadata: Vec<u8>,
}

impl PartitionTx {
    /// The first instances of a study or series, at most `limit`, with their packs, and what there
    /// is in all; `None` where that is nothing. All of one moment.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn packed_first(
        &mut self,
        target: &Target,
        limit: i64,
    ) -> Result<Option<(Whole, PackedPage)>, IndexError> {
        let row = self.packed([FIRST_OF_STUDY, FIRST_OF_SERIES], target, (0, i64::MAX), limit);
        let row = row.await?;
        let said: Vec<Option<String>> = row.try_get(3)?;
        let [Some(newest), Some(count), Some(sum)] = &said[..] else { return Ok(None) };
        let number = |text: &str| -> Result<i64, IndexError> {
            text.parse()
                .map_err(|_| IndexError::Inconsistent { table: "instance", column: "watermark" })
        };
        let (newest, count) = (number(newest)?, number(count)?);
        let whole = Whole { newest, count, version: version(newest, count, sum) };
        Ok(Some((whole, page(&row)?)))
    }

    /// The next instances of a study or series, with their packs: above `after`, up to `up_to`, at
    /// most `limit`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn packed_more(
        &mut self,
        target: &Target,
        after: i64,
        up_to: i64,
        limit: i64,
    ) -> Result<PackedPage, IndexError> {
        page(&self.packed([MORE_OF_STUDY, MORE_OF_SERIES], target, (after, up_to), limit).await?)
    }

    async fn packed(
        &mut self,
        [of_study, of_series]: [&'static str; 2],
        target: &Target,
        (after, up_to): (i64, i64),
        limit: i64,
    ) -> Result<PgRow, IndexError> {
        let sql = if target.series().is_some() { of_series } else { of_study };
        let (query, conn) = self.statement(sql);
        let mut query = query.bind(target.study().as_str()).bind(after).bind(up_to).bind(limit);
        if let Some(series) = target.series() {
            query = query.bind(series.as_str());
        }
        Ok(query.fetch_one(conn).await?)
    }

    /// Metadata of instances by their watermarks, in their order, without those that are gone. Ends
    /// early, but not before its first row, when it is some MiB.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn metadata_of_each(
        &mut self,
        watermarks: &[i64],
    ) -> Result<Vec<OneMetadata>, IndexError> {
        let (query, conn) = self.statement(EACH);
        let mut bytes = 0;
        let read = |row: &PgRow| {
            let metadata: Vec<u8> = row.try_get(3)?;
            bytes += metadata.len();
            let series = uid(row, 1, "series", "series_instance_uid")?;
            let instance = uid(row, 2, "instance", "sop_instance_uid")?;
            let one = OneMetadata { watermark: row.try_get(0)?, series, instance, metadata };
            Ok((one, bytes >= METADATA_BYTES))
        };
        super::retrieve::read_until(query.bind(watermarks).fetch(conn), read).await
    }

    /// Packs the metadata of instances that were stored together. `homes` says of each watermark
    /// the keys of its study and series. What cannot be packed is left out.
    pub(super) async fn packs_create(
        &mut self,
        stored: &[(i64, &NewInstance<'_>)],
        homes: &HashMap<i64, (i64, i64)>,
    ) -> Result<(), IndexError> {
        if stored.len() < COMPANY {
            return Ok(());
        }
        let mut members: Vec<_> = stored
            .iter()
            .filter_map(|(watermark, new)| {
                let (study, series) = homes.get(watermark)?;
                Some((*study, *watermark, *series, *new))
            })
            .collect();
        members.sort_unstable_by_key(|(study, watermark, ..)| (*study, *watermark));
        let (mut studies, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut series, mut packs): (Vec<String>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        for of_study in members.chunk_by(|(one, ..), (other, ..)| one == other) {
            // Packs spare work; that there is none harms nobody.
            let Ok(made) = pack(of_study).await else { continue };
            for packed in made {
                let (Some(first), Some(last)) =
                    (packed.watermarks.first(), packed.watermarks.last())
                else {
                    continue;
                };
                studies.extend(of_study.first().map(|(study, ..)| *study));
                firsts.push(*first);
                lasts.push(*last);
                let keys: Vec<String> = packed.series.iter().map(ToString::to_string).collect();
                series.push(format!("{{{}}}", keys.join(",")));
                packs.push(packed.bytes);
            }
        }
        if packs.is_empty() {
            return Ok(());
        }
        let (query, conn) = self.statement(CREATE);
        query.bind(studies).bind(firsts).bind(lasts).bind(series).bind(packs).execute(conn).await?;
        Ok(())
    }

    /// Removes the packs of a study that may hold something of `watermarks`.
    pub(super) async fn packs_delete(
        &mut self,
        study_key: i64,
        watermarks: &[i64],
    ) -> Result<(), IndexError> {
        let (Some(first), Some(last)) = (watermarks.iter().min(), watermarks.iter().max()) else {
            return Ok(());
        };
        let (query, conn) = self.statement(DELETE);
        query.bind(study_key).bind(first).bind(last).execute(conn).await?;
        Ok(())
    }
}

/// Makes packs of instances of one study, ascending by watermark; other tasks of the thread get their
/// turns meanwhile.
async fn pack(members: &[(i64, i64, i64, &NewInstance<'_>)]) -> io::Result<Vec<Packed>> {
    let (mut packer, mut packs) = (Packer::default(), Vec::new());
    for (_, watermark, series, new) in members {
        // Most of what is far too long for a pack is not worth a look into it.
        if new.metadata.len() > LONGEST {
            continue;
        }
        let json = kept::decompress(new.metadata)?;
        let home = (&new.indexed.series, *series);
        packs.extend(packer.add(*watermark, home, &new.indexed.instance, &json)?);
        tokio::task::consume_budget().await;
    }
    packs.extend(packer.take()?);
    Ok(packs)
}

fn page(row: &PgRow) -> Result<PackedPage, IndexError> {
    let mut live = row.try_get::<Option<Vec<i64>>, _>(0)?.unwrap_or_default();
    live.sort_unstable();
    let firsts = row.try_get::<Option<Vec<i64>>, _>(1)?.unwrap_or_default();
    let packs = row.try_get::<Option<Vec<Vec<u8>>>, _>(2)?.unwrap_or_default();
    let mut packs: Vec<_> = firsts.into_iter().zip(packs).collect();
    packs.sort_unstable_by_key(|(first, _)| *first);
    Ok(PackedPage { live: live.into(), packs: packs.into() })
}
