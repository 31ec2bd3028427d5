//! Results as the body of an answer: one array, or one document each, page by page as the client
//! takes them.

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::super::{ArchiveError, ByteStream, metadata::document};
use crate::dicom::xml;

/// Results that are read in pages.
pub(super) trait Pages: Send + Sized + 'static {
    /// Whether there are results that were not given.
    fn is_more(&self) -> bool;

    /// The next results as DICOM JSON objects; none at the end.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Vec<u8>>, ArchiveError>> + Send;

    /// One DICOM JSON array. Its pieces end between results.
    fn array(self) -> ByteStream {
        let chunks = stream::try_unfold(Some((self, true)), |state| async move {
            let Some((mut pages, mut first)) = state else { return Ok(None) };
            let mut out = Vec::with_capacity(16 * 1024);
            for json in pages.next().await? {
                out.push(if first { b'[' } else { b',' });
                out.extend_from_slice(&json);
                first = false;
            }
            if pages.is_more() {
                return Ok(Some((out.into(), Some((pages, first)))));
            }
            out.extend_from_slice(if first { b"[]" } else { b"]" });
            Ok(Some((Bytes::from(out), None)))
        });
        chunks.boxed()
    }

    /// One DICOM JSON object for each result.
    fn objects(self) -> BoxStream<'static, Result<Vec<u8>, ArchiveError>> {
        let pages = stream::try_unfold(self, |mut pages| async move {
            if !pages.is_more() {
                return Ok::<_, ArchiveError>(None);
            }
            let page = pages.next().await?;
            Ok(Some((stream::iter(page.into_iter().map(Ok)), pages)))
        });
        pages.try_flatten().boxed()
    }

    /// One document in the Native DICOM Model for each result.
    fn documents(self, encoding: xml::Encoding) -> BoxStream<'static, Result<Bytes, ArchiveError>> {
        let document = move |json: Vec<u8>| document(&json, encoding).map(Bytes::from);
        self.objects().map(move |json| json.and_then(document)).boxed()
    }
}
