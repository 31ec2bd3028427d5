//! The start's questions to the store: does it keep what the server relies on?
//!
//! Owns [`BlobStore::probe`] and [`BlobStore::claim`]. What each question protects:
//! - *What was put is read, and what was removed is gone*: everything.
//! - *A range is what it says*: a frame is one range read; a store that sends the whole object
//!   instead would cost a study per frame, or pass foreign bytes off as pixels.
//! - *An object is created once*: [`BlobStore::claim`] relies on it to keep two archives out of one
//!   store, where each one's sweeper would remove the other's blobs as orphans. Blobs themselves
//!   have unique ids and need no condition.
//! - *An upload in parts arrives whole*: instances beyond some MiB.
//! - *The store's clock is near ours*: the sweeper tells an orphan from a blob in flight by age.
//!
//! Each question is asked of a small object under a reserved room, which is removed again.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use uuid::Uuid;

use super::{BlobError, BlobKey, BlobStore};

/// How far the store's clock, or ours, may be off. The sweeper's grace is far above it.
const CLOCK_SKEW: Duration = Duration::from_secs(15 * 60);

/// What the probe's object holds: long enough for a range with something on either side of it.
const LENGTH: usize = 4096;

impl BlobStore {
    /// Asks the store whether it keeps what the server relies on. To be called at every start.
    ///
    /// # Errors
    /// [`BlobError::Unfit`] says what the store does wrong. [`BlobError::Denied`] and
    /// [`BlobError::Unavailable`]: no answer to judge by.
    pub async fn probe(&self) -> Result<(), BlobError> {
        // A store that is down or refuses us is told as such, not as one that lies.
        self.ready().await?;
        let (whole, parts) = (self.layout.probe(Uuid::new_v4()), self.layout.probe(Uuid::new_v4()));
        let asked = async {
            self.probe_object(&whole).await?;
            self.probe_upload(&parts).await
        };
        let answer = asked.await;
        if answer.is_err() {
            // Left tidy where possible; what the probe found is what matters.
            for key in [&whole, &parts] {
                if let Err(error) = self.remove(key).await {
                    tracing::debug!(%key, %error, "an object of the probe was left behind");
                }
            }
        }
        answer
    }

    /// Writes down that the store is the archive's called `owner`, or makes sure that it is.
    ///
    /// The marker is created with the store's conditional put: of two servers with different
    /// databases that start on one store at the same moment, one wins and the other is refused.
    ///
    /// # Errors
    /// [`BlobError::Unfit`] where the store is another archive's.
    pub async fn claim(&self, owner: Uuid) -> Result<(), BlobError> {
        let key = self.layout.owner();
        match self.create(&key, Bytes::from(owner.hyphenated().to_string())).await {
            Ok(()) => Ok(()),
            Err(BlobError::Exists { .. }) => {
                if self.owner().await? == Some(owner) {
                    return Ok(());
                }
                Err(BlobError::unfit(
                    "it belongs to another archive; give this one a bucket, a prefix or a folder \
                     of its own, or connect it to the database that the blobs belong to",
                ))
            }
            Err(error) => Err(error),
        }
    }

    /// The archive that has claimed the store; `None`: the marker says none.
    ///
    /// # Errors
    /// [`BlobError::Missing`] where nobody has; [`BlobError`].
    pub async fn owner(&self) -> Result<Option<Uuid>, BlobError> {
        let found = self.get(&self.layout.owner()).await?;
        Ok(std::str::from_utf8(&found).ok().and_then(|text| text.parse().ok()))
    }

    /// Whether some archive has claimed the store.
    pub async fn is_claimed(&self) -> Result<bool, BlobError> {
        let key = self.layout.owner();
        match self.objects.head(key.path()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(BlobError::of(&key, error)),
        }
    }

    async fn probe_object(&self, key: &BlobKey) -> Result<(), BlobError> {
        let first = pattern(1);
        match self.create(key, first.clone()).await {
            Ok(()) => {}
            Err(BlobError::Missing { .. }) => {
                return Err(BlobError::unfit("there is no such bucket or container"));
            }
            Err(BlobError::Unavailable(source)) => {
                return Err(BlobError::Unfit {
                    reason: "it did not take a small object created on condition that there is \
                             none (If-None-Match)",
                    source: Some(source),
                });
            }
            Err(error) => return Err(error),
        }
        match self.create(key, pattern(2)).await {
            Err(BlobError::Exists { .. }) => {}
            Ok(()) => {
                return Err(BlobError::unfit(
                    "it pretends to honour conditional puts: asked to create an object only if \
                     there is none, it overwrote the one there was",
                ));
            }
            Err(error) => return Err(error),
        }
        if self.get(key).await? != first {
            return Err(BlobError::unfit("it did not give back what was put"));
        }
        self.probe_range(key, &first).await?;
        self.probe_clock(key).await?;
        self.remove(key).await?;
        match self.get(key).await {
            Err(BlobError::Missing { .. }) => {}
            Ok(_) => return Err(BlobError::unfit("it still gave out an object after removal")),
            Err(error) => return Err(error),
        }
        // Again: removal must be repeatable, since a removal whose answer was lost is repeated.
        self.remove(key).await
    }

    async fn probe_range(&self, key: &BlobKey, whole: &Bytes) -> Result<(), BlobError> {
        const REASON: &str = "it does not answer a range read with that range";
        let (from, to) = (LENGTH / 4, LENGTH / 4 + 100);
        let range = from as u64..to as u64;
        let stream = self.read(key.clone(), vec![range]).await;
        let read: Result<Vec<Bytes>, BlobError> = match stream {
            Ok(stream) => stream.try_collect().await,
            Err(error) => Err(error),
        };
        match read {
            Ok(chunks) if chunks.concat() == whole.slice(from..to) => Ok(()),
            Ok(_) | Err(BlobError::Short { .. }) => Err(BlobError::unfit(REASON)),
            Err(BlobError::Unavailable(source)) => {
                Err(BlobError::Unfit { reason: REASON, source: Some(source) })
            }
            Err(error) => Err(error),
        }
    }

    async fn probe_clock(&self, key: &BlobKey) -> Result<(), BlobError> {
        let meta = self.objects.head(key.path()).await.map_err(|e| BlobError::of(key, e))?;
        let (theirs, ours) = (SystemTime::from(meta.last_modified), SystemTime::now());
        let apart = ours.duration_since(theirs).unwrap_or_else(|ahead| ahead.duration());
        if apart > CLOCK_SKEW {
            return Err(BlobError::unfit(
                "it dates a new object more than 15 minutes away from this machine's clock; the \
                 sweeper could not tell an orphan from a blob that is just being stored",
            ));
        }
        Ok(())
    }

    async fn probe_upload(&self, key: &BlobKey) -> Result<(), BlobError> {
        const REASON: &str = "an upload in parts did not arrive whole";
        let content = pattern(3);
        if self.folder.is_some() {
            let mut upload = self.upload(key.clone()).await?;
            upload.push(content.clone()).await?;
            upload.finish().await?;
        } else {
            // One small part, which is also the last: `Upload` would send it as a plain put.
            let begun = self.objects.put_multipart(key.path()).await;
            let mut upload = begun.map_err(|e| BlobError::of(key, e))?;
            upload.put_part(content.clone().into()).await.map_err(|e| BlobError::of(key, e))?;
            upload.complete().await.map_err(|e| BlobError::of(key, e))?;
        }
        match self.get(key).await {
            Ok(found) if found == content => self.remove(key).await,
            Ok(_) | Err(BlobError::Missing { .. }) => Err(BlobError::unfit(REASON)),
            Err(error) => Err(error),
        }
    }
}

/// Bytes in which any two ranges differ.
fn pattern(seed: u16) -> Bytes {
    let words = (0..LENGTH as u16 / 2).map(|i| i.wrapping_mul(0x9e37).wrapping_add(seed));
    words.flat_map(u16::to_be_bytes).collect()
}
