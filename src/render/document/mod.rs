//! Documents: structured reports and encapsulated documents as HTML, text, XML and PDF (PS3.18
//! §8.7.4, category Text).
//!
//! Owns what can be given of which object ([`formats`]) and the way there ([`render`]). Holds: what
//! an object says is text, never markup: nothing of it runs or loads anything; nesting and size
//! are bounded; what a report refers to is named and linked, never followed; a report that cannot
//! be shown whole, and a character that cannot be shown right, is an error. Absent: pictures,
//! fetching what is referred to, HTTP.

mod encapsulated;
mod html;
mod pdf;
mod report;
mod text;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::RenderError;
use crate::dicom::{Tag, data_set::Item, json, xml};
use report::Report;

const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const CONTENT: Tag = Tag(0x0040, 0xA730);
const ENCAPSULATED: Tag = Tag(0x0042, 0x0011);
const MIME_TYPE: Tag = Tag(0x0042, 0x0012);

/// Structured reports begin with this.
const REPORTS: &str = "1.2.840.10008.5.1.4.1.1.88.";
const PDF_CLASS: &str = "1.2.840.10008.5.1.4.1.1.104.1";
const CDA_CLASS: &str = "1.2.840.10008.5.1.4.1.1.104.2";

/// A form in which a document is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentFormat {
    /// A page in UTF-8 that stands by itself.
    Html,
    /// Text in UTF-8, in lines.
    Text,
    /// Of a report the Native DICOM Model in UTF-8; of an encapsulated CDA the CDA.
    Xml,
    /// PDF.
    Pdf,
}

impl DocumentFormat {
    /// The media type, without `charset`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Html => "text/html",
            Self::Text => "text/plain",
            Self::Xml => "text/xml",
            Self::Pdf => "application/pdf",
        }
    }

    /// The `Content-Security-Policy` with which a browser may show it. Stored XML and PDF come
    /// from outside: XML can be a page with scripts.
    pub fn content_security_policy(self) -> &'static str {
        match self {
            Self::Html => html::POLICY,
            Self::Text | Self::Xml => "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            // Browsers refuse to show PDF in a sandbox.
            Self::Pdf => "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'",
        }
    }
}

/// Where links to other instances of the partition lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// What stands before the study's UID; ends with a slash.
    pub studies: String,
    /// What stands at the end of each URL: empty, or `?` and a query.
    pub query: String,
}

impl Default for Links {
    /// Relative to `…/studies/{}/series/{}/instances/{}/rendered`.
    fn default() -> Self {
        Self { studies: "../../../../../".into(), query: String::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Report,
    Pdf,
    Cda,
}

fn kind(header: Item<'_>) -> Option<Kind> {
    let class = header.text(SOP_CLASS).unwrap_or_default();
    if header.has(ENCAPSULATED) {
        let mime_type = header.text(MIME_TYPE).unwrap_or_default().to_ascii_lowercase();
        return match (mime_type.trim(), &*class) {
            ("application/pdf", _) | ("", PDF_CLASS) => Some(Kind::Pdf),
            ("text/xml" | "application/xml", CDA_CLASS) | ("", CDA_CLASS) => Some(Kind::Cda),
            _ => None,
        };
    }
    let has_pixels = [0x0008, 0x0009, 0x0010].iter().any(|e| header.has(Tag(0x7FE0, *e)));
    let is_report = !has_pixels && (header.has(CONTENT) || class.starts_with(REPORTS));
    is_report.then_some(Kind::Report)
}

/// Whether the object is a document.
pub fn is_document(header: Item<'_>) -> bool {
    kind(header).is_some()
}

/// What can be given of the object, the default first; nothing where it is no document.
pub fn formats(header: Item<'_>) -> &'static [DocumentFormat] {
    use DocumentFormat::{Html, Pdf, Text, Xml};
    match kind(header) {
        Some(Kind::Report) => &[Html, Text, Xml, Pdf],
        Some(Kind::Pdf) => &[Html, Pdf],
        Some(Kind::Cda) => &[Html, Xml],
        None => &[],
    }
}

/// The paths of the bulk values that [`render`] needs for a format.
pub fn wants(header: Item<'_>, format: DocumentFormat) -> Vec<String> {
    match (kind(header), format) {
        (Some(Kind::Pdf), DocumentFormat::Pdf) | (Some(Kind::Cda), DocumentFormat::Xml) => {
            encapsulated::wants(header)
        }
        _ => Vec::new(),
    }
}

/// Makes the document in one of its [`formats`], with links for an answer at its own URL.
/// `values` are those that it [`wants`], by path.
///
/// # Errors
/// As [`render_linked`].
pub fn render(
    header: Item<'_>,
    values: &BTreeMap<String, Vec<u8>>,
    format: DocumentFormat,
) -> Result<Vec<u8>, RenderError> {
    render_linked(header, values, format, &Links::default())
}

/// Makes the document in one of its [`formats`]. `values` are those that it [`wants`], by path.
///
/// # Errors
/// [`RenderError::Unsupported`] for another format, for a report that is too long, and for one
/// that holds characters that PDF cannot show here. [`RenderError::Damaged`] for an encapsulated
/// document that is none.
pub fn render_linked(
    header: Item<'_>,
    values: &BTreeMap<String, Vec<u8>>,
    format: DocumentFormat,
    links: &Links,
) -> Result<Vec<u8>, RenderError> {
    let unsupported = Err(RenderError::Unsupported("this object in this format"));
    match (kind(header), format) {
        (Some(Kind::Report), DocumentFormat::Html) => Ok(html::report(&Report::of(header, links)?)),
        (Some(Kind::Report), DocumentFormat::Text) => Ok(text::report(&Report::of(header, links)?)),
        (Some(Kind::Report), DocumentFormat::Pdf) => pdf::report(&Report::of(header, links)?),
        (Some(Kind::Report), DocumentFormat::Xml) => native(header, links),
        (Some(Kind::Pdf), DocumentFormat::Pdf) => encapsulated::pdf(header, values),
        (Some(Kind::Cda), DocumentFormat::Xml) => encapsulated::cda(header, values),
        (Some(kind @ (Kind::Pdf | Kind::Cda)), DocumentFormat::Html) => {
            let report = Report::cover(header);
            let own = value::own_url(header, links);
            let as_stored = match kind {
                Kind::Pdf => DocumentFormat::Pdf,
                Kind::Report | Kind::Cda => DocumentFormat::Xml,
            };
            Ok(html::cover(&report, &own, as_stored.media_type()))
        }
        _ => unsupported,
    }
}

/// The data set in the Native DICOM Model.
fn native(header: Item<'_>, links: &Links) -> Result<Vec<u8>, RenderError> {
    let damaged = RenderError::Damaged("the attributes");
    let base = value::own_place(header, links);
    let base = base.map_or("bulkdata".into(), |place| format!("{place}/bulkdata"));
    let (mut json, mut out) = (Vec::new(), Vec::new());
    json::resolve_bulk(&mut json, &header.to_json(), &base, &links.query);
    xml::write(&mut out, &json, xml::Encoding::Utf8).map_err(|_| damaged)?;
    Ok(out)
}
