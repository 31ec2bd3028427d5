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
            let results = pages.next().await?;
            let is_last = !pages.is_more();
            let piece = piece_of_array(&results, first, is_last);
            first &= results.is_empty();
            Ok::<_, ArchiveError>(Some((piece, (!is_last).then_some((pages, first)))))
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

/// A piece of a DICOM JSON array: that of all results, where it is the first and the last.
pub(super) fn piece_of_array(results: &[Vec<u8>], mut is_first: bool, is_last: bool) -> Bytes {
    let length: usize = results.iter().map(|json| json.len() + 1).sum();
    let mut out = Vec::with_capacity(length + "[]".len());
    for json in results {
        out.push(if is_first { b'[' } else { b',' });
        out.extend_from_slice(json);
        is_first = false;
    }
    if is_last {
        out.extend_from_slice(if is_first { b"[]" } else { b"]" });
    }
    out.into()
}
