//! A claimed operation: signs of life while something takes long outside of the database, and its end
//! for others to go on with it.

use futures::future::{Either, select};
use uuid::Uuid;

use crate::{
    index::{Claim, Db, IndexError, LEASE, Progress},
    tenancy::PartitionScope,
};

/// Does `work`, renewing the lease of the operation meanwhile. `None`: the lease was lost, and the
/// work was broken off.
///
/// # Errors
/// Where the lease cannot be renewed before it runs out.
pub(super) async fn holding<T>(
    db: &Db,
    scope: &PartitionScope,
    (id, owner): (Uuid, Uuid),
    work: impl Future<Output = T>,
) -> Result<Option<T>, IndexError> {
    let renewing = async {
        loop {
            tokio::time::sleep(LEASE / 4).await;
            let renewed = tokio::time::timeout(LEASE / 2, renew(db, scope, id, owner)).await;
            match renewed {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(IndexError::TimedOut),
            }
        }
    };
    match select(Box::pin(work), Box::pin(renewing)).await {
        Either::Left((done, _)) => Ok(Some(done)),
        Either::Right((lost, _)) => lost,
    }
}

/// Lets others go on with an operation; after a failure not at once.
///
/// # Errors
/// [`IndexError`].
pub(super) async fn release<P: Progress>(
    db: &Db,
    scope: &PartitionScope,
    claim: &Claim<P>,
    owner: Uuid,
    has_failed: bool,
) -> Result<(), IndexError> {
    let mut tx = db.begin_in(scope).await?;
    tx.operation_release(claim, owner, has_failed).await?;
    tx.commit().await
}

async fn renew(db: &Db, scope: &PartitionScope, id: Uuid, owner: Uuid) -> Result<bool, IndexError> {
    let mut tx = db.begin_in(scope).await?;
    let holds = tx.operation_renew(id, owner).await?;
    tx.commit().await?;
    Ok(holds)
}
