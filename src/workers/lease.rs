//! Signs of life of a claimed operation while something takes long outside of the database.

use futures::future::{Either, select};
use uuid::Uuid;

use crate::{
    index::{Db, IndexError, LEASE},
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

async fn renew(db: &Db, scope: &PartitionScope, id: Uuid, owner: Uuid) -> Result<bool, IndexError> {
    let mut tx = db.begin_in(scope).await?;
    let holds = tx.operation_renew(id, owner).await?;
    tx.commit().await?;
    Ok(holds)
}
