//! Multipart uploads that nobody will finish: a server killed in the middle of one leaves its parts
//! in S3, unlisted and paid for.
//!
//! Owns [`Unfinished`]. `object_store` can abort an upload but not list them, so the one request
//! for that is signed and read here. Only uploads of keys that are ours are touched. A server that
//! does not offer the listing is left alone, and so are Azure, which forgets parts after a week,
//! and Google Cloud Storage, where the bucket needs a lifecycle rule for it. Folders have none: what a crash leaves there is an orphan like any other.

use std::time::{Duration, SystemTime};

use object_store::{
    ClientOptions,
    aws::AmazonS3,
    client::{HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector},
    multipart::MultipartStore,
    path::Path,
    signer::{SignedUrlOptions, Signer},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{BlobError, key::Layout};

/// How long a signed request may take to be sent.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Pages of one listing, of up to 1,000 uploads each: a bound, not a number anybody should reach.
const PAGES: usize = 1_000;

/// Finds and aborts unfinished uploads.
#[derive(Debug)]
pub(super) struct Unfinished {
    s3: AmazonS3,
    http: HttpClient,
}

/// One upload as listed.
#[derive(Debug, PartialEq, Eq)]
struct Begun {
    key: String,
    id: String,
    at: OffsetDateTime,
}

impl Unfinished {
    pub(super) fn new(s3: AmazonS3, options: &ClientOptions) -> object_store::Result<Self> {
        Ok(Self { s3, http: ReqwestConnector::default().connect(options)? })
    }

    /// Aborts our uploads that were begun before `old`; says how many.
    pub(super) async fn remove(&self, layout: &Layout, old: SystemTime) -> Result<u64, BlobError> {
        let (mut from, mut aborted) = (None, 0);
        for _ in 0..PAGES {
            let Some(page) = self.page(layout.rooms(), from.take()).await? else { break };
            for begun in uploads(&page).filter(|begun| begun.at < OffsetDateTime::from(old)) {
                let Ok(path) = Path::parse(&begun.key) else { continue };
                if layout.is_blob(&path) {
                    let abort = self.s3.abort_multipart(&path, &begun.id).await;
                    match abort {
                        Ok(()) => aborted += 1,
                        // Finished or aborted meanwhile.
                        Err(object_store::Error::NotFound { .. }) => {}
                        Err(error) => return Err(BlobError::of_store(error)),
                    }
                }
            }
            let next = |tag| within(&page, tag).map(|(text, _)| unescaped(text));
            from = next("NextKeyMarker").zip(next("NextUploadIdMarker"));
            let more = within(&page, "IsTruncated").is_some_and(|(text, _)| text == "true");
            if !more || from.is_none() {
                break;
            }
        }
        Ok(aborted)
    }

    /// One page of the listing; `None` where the server does not offer it.
    async fn page(
        &self,
        prefix: &Path,
        from: Option<(String, String)>,
    ) -> Result<Option<String>, BlobError> {
        let mut query = vec![("uploads".to_owned(), String::new())];
        if !prefix.as_ref().is_empty() {
            query.push(("prefix".to_owned(), format!("{prefix}/")));
        }
        if let Some((key, id)) = from {
            query.push(("key-marker".to_owned(), key));
            query.push(("upload-id-marker".to_owned(), id));
        }
        let options = SignedUrlOptions::default().with_query(query);
        let get = http::Method::GET;
        let url = self.s3.signed_url_opts(get, &Path::default(), SIGNED_FOR, &options).await;
        let url = url.map_err(BlobError::of_store)?;
        let request = http::Request::get(url.as_str()).body(HttpRequestBody::empty());
        let request = request.map_err(|e| BlobError::Unavailable(Box::new(e)))?;
        let answer = self.http.execute(request).await;
        let answer = answer.map_err(|e| BlobError::Unavailable(Box::new(e)))?;
        if answer.status() != http::StatusCode::OK {
            tracing::debug!(status = %answer.status(), "the store lists no unfinished uploads");
            return Ok(None);
        }
        let body = answer.into_body().bytes().await;
        let body = body.map_err(|e| BlobError::Unavailable(Box::new(e)))?;
        Ok(Some(String::from_utf8_lossy(&body).into_owned()))
    }
}

/// The uploads that an answer lists. What cannot be read is passed over.
fn uploads(page: &str) -> impl Iterator<Item = Begun> + '_ {
    let mut rest = page;
    std::iter::from_fn(move || {
        let (upload, after) = within(rest, "Upload")?;
        rest = after;
        Some(upload)
    })
    .filter_map(|upload| {
        let text = |tag| within(upload, tag).map(|(text, _)| unescaped(text));
        let at = OffsetDateTime::parse(&text("Initiated")?, &Rfc3339).ok()?;
        Some(Begun { key: text("Key")?, id: text("UploadId")?, at })
    })
}

/// What stands in the first element of that name, and what follows it. The answer has no
/// attributes, comments or nested elements of one name.
fn within<'a>(xml: &'a str, tag: &str) -> Option<(&'a str, &'a str)> {
    let (_, inside) = xml.split_once(&format!("<{tag}>"))?;
    inside.split_once(&format!("</{tag}>"))
}

fn unescaped(text: &str) -> String {
    // The ampersand last, so that nothing is unescaped twice.
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'")]
        .into_iter()
        .chain([("&#39;", "'"), ("&amp;", "&")])
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn reads_a_listing_and_passes_over_what_it_cannot_read() {
        let page = "<?xml version=\"1.0\"?><ListMultipartUploadsResult xmlns=\"x\">\
            <UploadIdMarker></UploadIdMarker><NextKeyMarker>k</NextKeyMarker>\
            <Upload><Key>a/b</Key><UploadId>1&amp;2</UploadId><Initiator><ID>i</ID></Initiator>\
            <Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>\
            <Upload><Key>bad</Key><UploadId>3</UploadId><Initiated>soon</Initiated></Upload>\
            <Upload><UploadId>4</UploadId></Upload>\
            <Upload><Key>c</Key><UploadId>5</UploadId><Initiated>2026-01-02T03:04:05Z</Initiated>\
            </Upload><Upload><Key>cut";
        let begun = |key: &str, id: &str| Begun {
            key: key.into(),
            id: id.into(),
            at: datetime!(2026-01-02 03:04:05 UTC),
        };
        let found: Vec<Begun> = uploads(page).collect();
        assert_eq!(found, [begun("a/b", "1&2"), begun("c", "5")]);
        assert_eq!(uploads("").count(), 0);
    }
}
