//! Which instances of a study or series can be shown, and which one stands for it.
//!
//! Holds: who stands for a study is found by the index, one row for each series, whatever the
//! number of instances; the same content is always represented by the same instance. Absent: what
//! makes an instance a picture (the caller judges by class, syntax and frames).

use sqlx::{Row, postgres::PgRow};

use super::{
    IndexError, Located, PartitionTx, Target,
    located::{LOCATED_COLUMNS, located_columns, uid},
    lookup::{from_instance, one, series_key, series_uid_of_i, study_key, study_uid_of_i},
    retrieve::{page, page_of_one},
};
use crate::dicom::Uid;

/// The number of frames of instance `i`, as `f`; nothing where it has no pixel data.
macro_rules! frames {
    () => {
        concat!(
            " LEFT JOIN LATERAL ",
            one!("number_of_frames", "frame_table", "watermark", "i.watermark"),
            " f ON true"
        )
    };
}

/// The instance in the middle of series `s`, by arrival, as `i`.
macro_rules! middle {
    () => {
        " CROSS JOIN LATERAL (SELECT * FROM instance
        WHERE partition_id = $1 AND series_key >= s.series_key AND series_key <= s.series_key
        ORDER BY series_key, watermark
        OFFSET (SELECT count(*) / 2 FROM (SELECT FROM instance WHERE partition_id = $1
            AND series_key >= s.series_key AND series_key <= s.series_key
            ORDER BY series_key, watermark) n)
        LIMIT 1) i"
    };
}

/// `$columns` of the instances in the middle of the series `$from`.
macro_rules! representatives {
    ($name:literal, $from:expr) => {
        concat!(
            "-- ",
            $name,
            "
    SELECT ",
            located_columns!(),
            ", f.number_of_frames, s.series_instance_uid, s.series_number FROM ",
            $from,
            " s",
            middle!(),
            frames!()
        )
    };
}

const PICTURES_OF_STUDY: &str = page!(
    "pictures_of_study",
    concat!(", f.number_of_frames, ", series_uid_of_i!()),
    frames!(),
    "study_key",
    study_key!()
);
const PICTURES_OF_SERIES: &str =
    page!("pictures_of_series", ", f.number_of_frames", frames!(), "series_key", series_key!("$6"));
const PICTURES_OF_INSTANCE: &str =
    page_of_one!("pictures_of_instance", ", f.number_of_frames", frames!());

const REPRESENTATIVES_OF_STUDY: &str = representatives!(
    "representatives_of_study",
    concat!(
        "(SELECT * FROM series WHERE partition_id = $1 AND study_key >= ",
        study_key!(),
        " AND study_key <= ",
        study_key!(),
        " ORDER BY study_key, series_instance_uid)"
    )
);
const REPRESENTATIVES_OF_SERIES: &str = representatives!(
    "representatives_of_series",
    concat!(
        "(SELECT * FROM series WHERE partition_id = $1 AND series_key >= ",
        series_key!("$3"),
        " AND series_key <= ",
        series_key!("$3"),
        " ORDER BY series_key)"
    )
);

pub(super) const STATEMENTS: &[&str] = &[
    PICTURES_OF_STUDY,
    PICTURES_OF_SERIES,
    PICTURES_OF_INSTANCE,
    REPRESENTATIVES_OF_STUDY,
    REPRESENTATIVES_OF_SERIES,
];

/// An instance, and whether there are frames in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureRow {
    /// The instance.
    pub located: Located,
    /// How many frames it has; `None` without pixel data.
    pub frames: Option<u32>,
}

impl PartitionTx {
    /// Instances of `target` with a watermark above `after` and up to `up_to`, ascending by
    /// watermark, at most `limit`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn pictures_page(
        &mut self,
        target: &Target,
        after: Option<i64>,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<PictureRow>, IndexError> {
        let sql = [PICTURES_OF_STUDY, PICTURES_OF_SERIES, PICTURES_OF_INSTANCE];
        let rows = self.page(sql, target, after, up_to, limit, |_| Ok(false)).await?;
        let read = |row: &PgRow| {
            let series: Uid = match target.series() {
                Some(series) => series.clone(),
                None => uid(row, LOCATED_COLUMNS + 1, "series", "series_instance_uid")?,
            };
            picture(row, target, series)
        };
        rows.iter().map(read).collect()
    }

    /// The instance in the middle of each series of a study (or of the one series), those of the
    /// lowest series number first; series without a number last.
    ///
    /// # Errors
    /// [`IndexError`].
    pub async fn representatives(
        &mut self,
        target: &Target,
    ) -> Result<Vec<PictureRow>, IndexError> {
        let rows = match target {
            Target::Study { study } => {
                let (query, conn) = self.statement(REPRESENTATIVES_OF_STUDY);
                query.bind(study.as_str()).fetch_all(conn).await?
            }
            Target::Series { study, series } => {
                let (query, conn) = self.statement(REPRESENTATIVES_OF_SERIES);
                query.bind(study.as_str()).bind(series.as_str()).fetch_all(conn).await?
            }
            Target::Instance { .. } => return self.pictures_page(target, None, i64::MAX, 1).await,
        };
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let series: Uid = uid(row, LOCATED_COLUMNS + 1, "series", "series_instance_uid")?;
            let number: Option<&str> = row.try_get(LOCATED_COLUMNS + 2)?;
            let number = number.and_then(|text| text.parse::<i64>().ok()).unwrap_or(i64::MAX);
            found.push((number, picture(row, target, series)?));
        }
        // The statement gives them by UID, which decides between equal numbers.
        found.sort_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, row)| row).collect())
    }
}

fn picture(row: &PgRow, target: &Target, series: Uid) -> Result<PictureRow, IndexError> {
    let frames: Option<i32> = row.try_get(LOCATED_COLUMNS)?;
    let (table, column) = ("frame_table", "number_of_frames");
    let frames = frames.map(|frames| {
        u32::try_from(frames).map_err(|_| IndexError::Inconsistent { table, column })
    });
    let located = Located::read(row, target.study().clone(), series)?;
    Ok(PictureRow { located, frames: frames.transpose()? })
}
