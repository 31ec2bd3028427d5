//! Extended query tags, as who manages them asks for them.
//!
//! A tag of the root holds for all partitions, those to come included; one of a partition for that
//! one alone. Holds: an attribute is in a view once, in whatever spelling; while it is being deleted
//! it is there still. Adding and deleting take the lock that stores share (`index::tag_lock`), so
//! that no instance slips through.

use futures::{StreamExt, stream};
use serde_json::Value;
use uuid::Uuid;

use super::{Archive, ArchiveError, repeated::repeated};
use crate::{
    audit::Event,
    dicom::{Tag, json::name},
    index::{IndexError, KnownTag, NewTag, QueryTag, TagError, TagStatus},
    tenancy::{PartitionId, PartitionScope, Scope},
};

/// Partitions that are changed at the same time for one request.
const AT_ONCE: usize = 4;

/// Where a request speaks of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagScope {
    /// Of those of all partitions; states and errors are those of the scope.
    Root(Scope),
    /// Of those of all partitions, which are one: partitions are off. Tags that it got as its own
    /// before are seen as well.
    Alone(PartitionScope),
    /// In one partition, which sees those of the root and its own.
    Partition(PartitionScope),
}

impl TagScope {
    fn scope(&self) -> &Scope {
        match self {
            Self::Root(scope) => scope,
            Self::Alone(scope) | Self::Partition(scope) => scope,
        }
    }

    /// In whose audit log changes of the root's tags stand.
    fn log(&self) -> PartitionId {
        match self {
            Self::Alone(scope) => scope.partition().clone(),
            Self::Root(_) | Self::Partition(_) => PartitionId::platform(),
        }
    }

    /// Whether tags of partitions are seen too.
    fn sees_own(&self) -> bool {
        !matches!(self, Self::Root(_))
    }
}

/// Why tags were not changed.
#[derive(Debug, thiserror::Error)]
pub enum TagRefusal {
    /// The view holds some of them already: their places in the request.
    #[error("the tag exists")]
    Exists(Vec<usize>),
    /// The view would hold more than `extended_query_tags.max_count`.
    #[error("too many tags")]
    TooMany {
        /// How many it may hold.
        limit: u64,
    },
    /// It is the root's, and the request is about one partition.
    #[error("the tag is the root's")]
    OfRoot,
    /// The archive failed, or there is no such tag.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl From<IndexError> for TagRefusal {
    fn from(error: IndexError) -> Self {
        Self::Archive(error.into())
    }
}

/// What is changed in each partition of a scope.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// Lets a tag be searched by, or not.
    Query { id: i64, enabled: bool },
    /// Cancels an operation.
    Cancel(Uuid),
    /// Has what could not be removed tried again.
    RetryRemovals,
}

impl Archive {
    /// Adds tags. What is stored is indexed in the background: the answer is the operation.
    ///
    /// # Errors
    /// [`TagRefusal`]; then none is added.
    pub async fn add_tags(&self, at: &TagScope, tags: &[NewTag]) -> Result<Uuid, TagRefusal> {
        let operation = Uuid::new_v4();
        match at {
            TagScope::Root(_) | TagScope::Alone(_) => {
                repeated!(self.add_to_root(at, tags, operation))??;
            }
            TagScope::Partition(scope) => repeated!(self.add_to_one(scope, tags, operation))??,
        }
        tracing::info!(%operation, tags = tags.len(), "extended query tags added");
        self.0.wake_operations.notify_one();
        Ok(operation)
    }

    async fn add_to_root(
        &self,
        at: &TagScope,
        tags: &[NewTag],
        operation: Uuid,
    ) -> Result<Result<(), TagRefusal>, IndexError> {
        let scope = at.scope();
        // Opened first: who holds the lock must not wait for a connection behind those who wait
        // for the lock.
        let mut partitions = self.0.db.begin(scope).await?;
        let mut root = self.0.db.begin_root_tags().await?;
        let known = root.root_tags().await?;
        let own = partitions.own_tags().await?;
        if let Err(refusal) = admit(&known, &own, tags, self.0.query_tags.max_count) {
            return Ok(Err(refusal));
        }
        root.root_tags_create(tags, operation).await?;
        let tell = |event: &mut Event| {
            event.detail.insert("tags".to_owned(), paths(tags));
            event.detail.insert("operation".to_owned(), operation.simple().to_string().into());
        };
        root.commit_for(scope.deed(), &at.log(), tell).await?;
        Ok(Ok(()))
    }

    async fn add_to_one(
        &self,
        scope: &PartitionScope,
        tags: &[NewTag],
        operation: Uuid,
    ) -> Result<Result<(), TagRefusal>, IndexError> {
        let mut tx = self.0.db.begin_tags(scope).await?;
        let known = tx.tags_known().await?;
        if let Err(refusal) = admit(&known, &[], tags, self.0.query_tags.max_count) {
            return Ok(Err(refusal));
        }
        tx.tags_create(tags, operation).await?;
        tx.audit_note("tags", paths(tags));
        tx.audit_note("operation", operation.simple().to_string());
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// A page of tags.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn tags(
        &self,
        at: &TagScope,
        page: (i64, i64),
    ) -> Result<Vec<QueryTag>, ArchiveError> {
        Ok(self.0.db.begin(at.scope()).await?.query_tags(at.sees_own(), None, page).await?)
    }

    /// One tag.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn tag(&self, at: &TagScope, path: Tag) -> Result<QueryTag, ArchiveError> {
        let mut tx = self.0.db.begin(at.scope()).await?;
        let found = tx.query_tags(at.sees_own(), Some(path), (1, 0)).await?;
        found.into_iter().next().ok_or(ArchiveError::NotFound)
    }

    /// A page of the errors of a tag.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn tag_errors(
        &self,
        at: &TagScope,
        path: Tag,
        page: (i64, i64),
    ) -> Result<Vec<TagError>, ArchiveError> {
        let tag = self.tag(at, path).await?;
        Ok(self.0.db.begin(at.scope()).await?.query_tag_errors(tag.id, page).await?)
    }

    /// Lets a tag be searched by, or not: at the root in all partitions.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`].
    pub async fn set_tag_query(
        &self,
        at: &TagScope,
        path: Tag,
        enabled: bool,
    ) -> Result<QueryTag, ArchiveError> {
        let tag = self.tag(at, path).await?;
        if tag.is_root && !matches!(at, TagScope::Partition(_)) {
            // First what partitions begin with that meet the tag meanwhile.
            let mut root = self.0.db.registry().await?;
            root.root_tag_query(tag.id, enabled).await?;
            let tell = |event: &mut Event| {
                event.detail.insert("enabled".to_owned(), enabled.into());
            };
            root.commit_for(at.scope().deed(), &at.log(), tell).await?;
        }
        self.in_each(at.scope(), Change::Query { id: tag.id, enabled }).await?;
        self.tag(at, path).await
    }

    /// Deletes a tag. Its values are removed in the background; until then it is there as
    /// `deleting`.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`]; [`TagRefusal::OfRoot`].
    pub async fn delete_tag(&self, at: &TagScope, path: Tag) -> Result<(), TagRefusal> {
        let tag = self.tag(at, path).await?;
        match at {
            TagScope::Partition(_) if tag.is_root => return Err(TagRefusal::OfRoot),
            _ if tag.status == TagStatus::Deleting => {}
            _ if tag.is_root => repeated!(self.delete_of_root(at, tag.id))?,
            TagScope::Root(_) => {}
            TagScope::Alone(scope) | TagScope::Partition(scope) => {
                repeated!(self.delete_of_one(scope, tag.id))?;
            }
        }
        self.0.wake_operations.notify_one();
        Ok(())
    }

    async fn delete_of_root(&self, at: &TagScope, id: i64) -> Result<(), IndexError> {
        let mut root = self.0.db.begin_root_tags().await?;
        root.root_tag_delete(id).await?;
        root.commit_for(at.scope().deed(), &at.log(), |_| ()).await
    }

    async fn delete_of_one(&self, scope: &PartitionScope, id: i64) -> Result<(), IndexError> {
        let mut tx = self.0.db.begin_tags(scope).await?;
        tx.tag_delete(id).await?;
        tx.commit().await
    }

    /// Changes something in each partition of a scope, in a transaction of its own.
    pub(super) async fn in_each(&self, scope: &Scope, change: Change) -> Result<(), ArchiveError> {
        let each = scope.each().map(|scope| self.clone().in_one(scope, change));
        let mut all = stream::iter(each.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
        while let Some(changed) = all.next().await {
            changed?;
        }
        Ok(())
    }

    async fn in_one(self, scope: PartitionScope, change: Change) -> Result<(), IndexError> {
        repeated!(self.try_in_one(&scope, change))
    }

    async fn try_in_one(&self, scope: &PartitionScope, change: Change) -> Result<(), IndexError> {
        let mut tx = self.0.db.begin_store(scope).await?;
        // So that nothing is left out that the partition has not looked at yet.
        tx.tags_meet().await?;
        let has_changed = match change {
            Change::Query { id, enabled } => {
                tx.audit_note("enabled", enabled);
                tx.tag_query(id, enabled).await?
            }
            Change::Cancel(id) => tx.operation_cancel(id).await?,
            Change::RetryRemovals => {
                tx.removals_retry().await?;
                true
            }
        };
        if !has_changed {
            // The logs of other partitions have it, or the layer that tells of what changed nothing.
            tx.audit_nothing();
        }
        tx.commit().await
    }
}

/// Paths of tags, as the audit log lists them.
fn paths(tags: &[NewTag]) -> Value {
    tags.iter().map(|tag| name(tag.path)).collect()
}

/// Whether tags may be added beside those known; `own` are known in some partition.
fn admit(
    known: &[KnownTag],
    own: &[KnownTag],
    tags: &[NewTag],
    limit: usize,
) -> Result<(), TagRefusal> {
    let is_known = |tag: &NewTag| {
        let mut all = known.iter().chain(own);
        all.any(|known| known.tag.path == tag.path || known.tag.element() == tag.element())
    };
    let exist: Vec<usize> =
        (0..).zip(tags).filter(|(_, tag)| is_known(tag)).map(|(n, _)| n).collect();
    if !exist.is_empty() {
        return Err(TagRefusal::Exists(exist));
    }
    if known.len() + tags.len() > limit {
        return Err(TagRefusal::TooMany { limit: limit as u64 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::{VR, attributes::Level};

    fn tag(path: Tag, creator: Option<&str>) -> NewTag {
        let creator = creator.map(str::to_owned);
        NewTag { path, creator, vr: VR::LO, level: Level::Study }
    }

    fn known(tag: NewTag, status: TagStatus) -> KnownTag {
        KnownTag { id: 1, tag, operation: Uuid::nil(), is_root: true, status, is_met: true }
    }

    #[test]
    fn an_attribute_is_in_a_view_once_also_while_it_is_deleted() {
        let private = |block: u16, creator| tag(Tag(0x0023, block << 8 | 1), Some(creator));
        let all = [
            known(tag(Tag(0x0010, 0x1010), None), TagStatus::Deleting),
            known(private(0x10, "A"), TagStatus::Ready),
        ];
        for (new, expected) in [
            (vec![tag(Tag(0x0010, 0x1010), None)], Some(vec![0])),
            (vec![tag(Tag(0x0010, 0x1020), None), private(0x20, "A")], Some(vec![1])),
            (vec![private(0x10, "B")], Some(vec![0])),
            (vec![private(0x20, "B"), tag(Tag(0x0010, 0x1020), None)], None),
        ] {
            let refused = match admit(&all, &[], &new, 4) {
                Err(TagRefusal::Exists(places)) => Some(places),
                other => other.map(|()| None).expect("room"),
            };
            assert_eq!(refused, expected, "{new:?}");
        }
        let new = [tag(Tag(0x0010, 0x1020), None)];
        assert!(matches!(admit(&all, &[], &new, 2), Err(TagRefusal::TooMany { limit: 2 })));
        assert!(matches!(admit(&[], &all, &[private(0x10, "A")], 2), Err(TagRefusal::Exists(_))));
    }
}
