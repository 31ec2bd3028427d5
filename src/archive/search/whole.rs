//! All that a search finds, for who works at it and does not turn pages.
//!
//! Holds: all keys come from one statement, and so are those of one moment: nothing that is stored,
//! changed or deleted meanwhile can move what has not been read yet, so that nothing is missed or
//! found twice. Statements before it choose the way, and yield no key; one of them tells with which
//! first components a name may begin, so that a study to which a name with a new one is given between
//! the two is left out, as one that is stored after both. What is said of them is read in bites; what
//! was deleted by then is left out.

use tokio::time::Instant;

use super::{
    super::{Archive, ArchiveError},
    filter::{Filter, Passing},
};
use crate::{
    dicom::Uid,
    index::{Include, SearchPlan, SearchRow},
    tenancy::Scope,
};

/// Rows that are read in one transaction.
const BITE: usize = 500;

impl Archive {
    /// What a search finds, as UIDs joined by slashes; `None`: that is more than `most`.
    ///
    /// # Errors
    /// As [`Archive::search`].
    pub(in crate::archive) async fn search_whole(
        &self,
        scope: &Scope,
        plan: SearchPlan,
        filters: Vec<Filter>,
        most: usize,
    ) -> Result<Option<Vec<String>>, ArchiveError> {
        let level = plan.level;
        let passing = Passing::of(filters, level);
        let limit = match &passing {
            Some(_) => self.0.search.max_filtered as usize,
            None => most,
        };
        let asked = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let plan = SearchPlan { limit: asked, offset: 0, after: None, ..plan };
        let deadline = Instant::now() + self.0.search.timeout;
        let mut tx = self.0.db.begin(scope).await?;
        let plan = tx.search_told(plan).await?;
        let keys = tx.search_keys(&plan).await?;
        drop(tx);
        if keys.len() > limit {
            return match &passing {
                Some(passing) => Err(passing.too_broad(self.0.search.max_filtered)),
                None => Ok(None),
            };
        }
        let (include, bite) = match &passing {
            Some(passing) => (passing.include, passing.bite as usize),
            None => (Include::default(), BITE),
        };
        let mut found = Vec::new();
        for keys in keys.chunks(bite) {
            let mut tx = self.0.db.begin(scope).await?;
            let rows = tx.search_rows(level, keys, include, &[]).await?;
            drop(tx);
            let rows = match &passing {
                Some(_) if Instant::now() > deadline => return Err(ArchiveError::TooSlow),
                Some(passing) => self.passing(rows, passing).await?,
                None => rows,
            };
            found.extend(rows.iter().map(named));
            if found.len() > most {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }
}

fn named(row: &SearchRow) -> String {
    let parts = [Some(&row.study), row.series.as_ref(), row.instance.as_ref()];
    let parts: Vec<&str> = parts.into_iter().flatten().map(Uid::as_str).collect();
    parts.join("/")
}
