//! What PS3.18 lets each kind of resource be answered with (Tables 8.7.3-2 to -5, 8.7.4-1,
//! 10.4.4-1, 10.5.4-1, 10.6.4-1), as offers: the default first, and marked where the standard
//! names one.

use super::{Offer, Syntaxes};

/// Media types of frames, without the experimental names that [`super::parse`] knows too. Octets
/// come first: every image can be had so.
const PIXELS: [&str; 11] = [
    "application/octet-stream",
    "image/jpeg",
    "image/jls",
    "image/jp2",
    "image/jpx",
    "image/jphc",
    "image/jxl",
    "image/dicom-rle",
    "video/mp4",
    "video/mpeg",
    "video/H265",
];

const JSON: Offer = Offer::plain("application/dicom+json").by_default();
const PLAIN_JSON: Offer = Offer::plain("application/json");
const XML: Offer = Offer::plain("application/dicom+xml");
const XML_PARTS: Offer = Offer::multipart("application/dicom+xml", Syntaxes::None);
const DICOM_PARTS: Offer = Offer::multipart("application/dicom", Syntaxes::Any).by_default();

/// Instances of a study or series: several items, whatever it holds just now. Octets are their bulk
/// values.
pub const INSTANCES: [Offer; 2] = [DICOM_PARTS, Offer::multipart(PIXELS[0], Syntaxes::Any)];

/// One instance.
pub const INSTANCE: [Offer; 3] =
    [DICOM_PARTS, Offer::single("application/dicom", Syntaxes::Any), INSTANCES[1]];

/// Frames, bulk values and pixel data: as parts, and as one part where it is one item. The
/// standard names no default: what fits of the acceptable is given.
pub const FRAMES: [Offer; 22] = {
    let mut offers = [Offer::multipart(PIXELS[0], Syntaxes::Any); 22];
    let mut at = 0;
    while at < PIXELS.len() {
        offers[2 * at] = Offer::multipart(PIXELS[at], Syntaxes::Any);
        offers[2 * at + 1] = Offer::single(PIXELS[at], Syntaxes::Any);
        at += 1;
    }
    offers
};

/// Values of several items (`/bulkdata` and `/pixeldata` of a study or series): parts only.
pub const COLLECTION: [Offer; 11] = {
    let mut offers = [Offer::multipart(PIXELS[0], Syntaxes::Any); 11];
    let mut at = 0;
    while at < PIXELS.len() {
        offers[at] = Offer::multipart(PIXELS[at], Syntaxes::Any);
        at += 1;
    }
    offers
};

/// Metadata: one JSON array, or a Native DICOM Model for each instance.
pub const METADATA: [Offer; 3] = [JSON, PLAIN_JSON, XML_PARTS];

/// Metadata of one instance: also a single document.
pub const METADATA_ONE: [Offer; 4] = [JSON, PLAIN_JSON, XML_PARTS, XML];

/// Results of a search.
pub const SEARCH: [Offer; 3] = METADATA;

/// The answer to a Store: one object or one document.
pub const STORED: [Offer; 3] = [JSON, PLAIN_JSON, XML];

/// What came of storage commitment: one data set, alone or as the only part.
pub const COMMITTED: [Offer; 5] =
    [JSON, PLAIN_JSON, XML, Offer::multipart(JSON.media_type, Syntaxes::None), XML_PARTS];

/// A Non-Patient Instance: what is said of it, and itself.
pub const NON_PATIENT: [Offer; 6] = [
    JSON,
    PLAIN_JSON,
    Offer::single("application/dicom", Syntaxes::Any),
    Offer::multipart("application/dicom", Syntaxes::Any),
    XML_PARTS,
    XML,
];

/// A bulk value of a Non-Patient Instance.
pub const NON_PATIENT_BULK: [Offer; 2] =
    [Offer::multipart(PIXELS[0], Syntaxes::None), Offer::plain(PIXELS[0])];

/// Pictures of one frame (Table 8.7.4-1).
pub const RENDERED_FRAME: [Offer; 4] = [
    Offer::plain("image/jpeg").by_default(),
    Offer::plain("image/png"),
    Offer::plain("image/gif"),
    Offer::plain("image/jxl"),
];

/// One object of text: a structured report, an encapsulated document.
pub const RENDERED_TEXT: [Offer; 4] = [
    Offer::plain("text/html").by_default(),
    Offer::plain("text/plain"),
    Offer::plain("text/xml"),
    Offer::plain("application/pdf"),
];

/// A stream of moving pictures, as it is stored.
pub const RENDERED_VIDEO: [Offer; 3] =
    [Offer::plain("video/mp4"), Offer::plain("video/mpeg"), Offer::plain("video/H265")];

/// What an instance can be shown as: pictures, text and video, alone and as parts. Which of them
/// depends on the instance.
pub const RENDERED: [Offer; 22] = {
    let mut offers = [RENDERED_PARTS[0]; 22];
    let mut at = 0;
    while at < RENDERED_PARTS.len() {
        offers[at] = Offer::plain(RENDERED_PARTS[at].media_type);
        offers[at + 11] = Offer { default: false, ..RENDERED_PARTS[at] };
        at += 1;
    }
    offers[0] = offers[0].by_default();
    offers
};

/// Pictures of several items.
pub const RENDERED_PARTS: [Offer; 11] = [
    Offer::multipart("image/jpeg", Syntaxes::None).by_default(),
    Offer::multipart("image/png", Syntaxes::None),
    Offer::multipart("image/gif", Syntaxes::None),
    Offer::multipart("image/jxl", Syntaxes::None),
    Offer::multipart("text/html", Syntaxes::None),
    Offer::multipart("text/plain", Syntaxes::None),
    Offer::multipart("text/xml", Syntaxes::None),
    Offer::multipart("application/pdf", Syntaxes::None),
    Offer::multipart("video/mp4", Syntaxes::None),
    Offer::multipart("video/mpeg", Syntaxes::None),
    Offer::multipart("video/H265", Syntaxes::None),
];

/// Pictures of frames, alone and as parts.
pub const RENDERED_FRAMES: [Offer; 8] = [
    RENDERED_FRAME[0],
    RENDERED_FRAME[1],
    RENDERED_FRAME[2],
    RENDERED_FRAME[3],
    Offer { default: false, ..RENDERED_PARTS[0] },
    RENDERED_PARTS[1],
    RENDERED_PARTS[2],
    RENDERED_PARTS[3],
];

/// A thumbnail: always one picture, which some clients ask for as the only part.
pub const THUMBNAIL: [Offer; 8] = RENDERED_FRAMES;

/// WADO-URI: a picture or text, or the instance itself.
pub const WADO_URI: [Offer; 12] = {
    let mut offers = [Offer::plain("application/dicom"); 12];
    let mut at = 0;
    while at < RENDERED_PARTS.len() {
        offers[at] = RENDERED[at];
        at += 1;
    }
    offers
};

/// Capabilities (§8.9, Annex G).
pub const CAPABILITIES: [Offer; 3] = [
    Offer::plain("application/vnd.sun.wadl+xml").by_default(),
    Offer::plain("application/json"),
    Offer::plain("application/xml"),
];

/// Plain JSON of our own resources.
pub const OWN_JSON: [Offer; 1] = [PLAIN_JSON];

/// The change feed: a page, or events as they come.
pub const CHANGES: [Offer; 2] = [PLAIN_JSON, Offer::plain("text/event-stream")];

/// The audit log: a page, or all of it by lines.
pub const AUDIT: [Offer; 2] = [PLAIN_JSON.by_default(), Offer::plain("application/x-ndjson")];

/// What Prometheus reads.
pub const METRICS: [Offer; 1] = [Offer::plain("text/plain")];

/// A page for readers.
pub const PAGE: [Offer; 1] = [Offer::plain("text/html")];
