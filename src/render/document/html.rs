//! Documents as HTML: one page that loads nothing, runs nothing, and stands by itself.
//!
//! Holds: every text goes through one function that escapes it; links are made here or in
//! [`super::value`], of UIDs that were checked.

use super::{
    report::{Entry, Report, Role},
    text::lines,
    value::Run,
};
use crate::dicom::xml;

/// What a browser may do with the page: show it.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    object-src 'self'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "body{font:16px/1.45 system-ui,sans-serif;max-width:52rem;margin:2rem auto;\
padding:0 1rem;color:#1a1a1a;background:#fff}h1{font-size:1.6rem}h2{font-size:1.3rem}\
h3{font-size:1.15rem}h4,h5,h6{font-size:1rem}table{border-collapse:collapse;margin:1rem 0}\
th,td{text-align:left;vertical-align:top;padding:.15rem 1rem .15rem 0}th{font-weight:600;\
white-space:nowrap}section{margin-left:0}section section{margin-left:1rem}\
p,td,h1,h2,h3,h4,h5,h6{unicode-bidi:plaintext}p{margin:.35rem 0;white-space:pre-wrap;overflow-wrap:anywhere}p.c{color:#555;font-size:.9rem}\
.i1{margin-left:1.25rem}.i2{margin-left:2.5rem}.i3{margin-left:3.75rem}.i4{margin-left:5rem}\
object{width:100%;height:80vh;border:1px solid #ccc}:target{background:#fff3c4}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}p.c{color:#aaa}\
a{color:#8ab4f8}:target{background:#4a3f00}}";

/// Indentations within a section that look different.
const INDENTS: usize = 4;

/// A structured report.
pub(super) fn report(report: &Report) -> Vec<u8> {
    let mut page = Page::begin(report);
    // Depths of the sections that are open.
    let mut open: Vec<usize> = Vec::new();
    for entry in &report.entries {
        while open.last().is_some_and(|depth| *depth >= entry.depth) {
            open.pop();
            page.raw("</section>\n");
        }
        if entry.role == Role::Heading {
            let level = (open.len() + 2).min(6);
            page.raw("<section id=\"item-");
            page.text(&entry.place);
            page.raw(&format!("\"><h{level}>"));
            page.text(&entry.name);
            page.raw(&format!("</h{level}>\n"));
            open.push(entry.depth);
        } else {
            let inside = open.last().map_or(entry.depth, |depth| entry.depth - depth - 1);
            page.item(entry, inside);
        }
    }
    for _ in open {
        page.raw("</section>\n");
    }
    page.end()
}

/// A page about an encapsulated document, which is at `own` as `media_type`.
pub(super) fn cover(report: &Report, own: &str, media_type: &str) -> Vec<u8> {
    let mut page = Page::begin(report);
    let href = format!("{own}{}accept={media_type}", if own.contains('?') { "&" } else { "?" });
    page.raw("<p><a href=\"");
    page.text(&href);
    page.raw("\">Open the document</a> (");
    page.text(media_type);
    page.raw(")</p>\n");
    if media_type == "application/pdf" {
        page.raw("<object type=\"application/pdf\" data=\"");
        page.text(&href);
        page.raw("\"></object>\n");
    }
    page.end()
}

struct Page(Vec<u8>);

impl Page {
    /// The page up to the facts about the document.
    fn begin(report: &Report) -> Self {
        let mut page = Self(Vec::with_capacity(16 * 1024));
        page.raw("<!DOCTYPE html>\n<html lang=\"");
        page.text(report.language.as_deref().unwrap_or("en"));
        page.raw("\"><head><meta charset=\"utf-8\">");
        page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"");
        page.raw(POLICY);
        page.raw("\"><meta name=\"referrer\" content=\"no-referrer\">");
        page.raw("<meta name=\"viewport\" content=\"width=device-width\"><title>");
        page.text(&report.title);
        page.raw("</title><style>");
        page.raw(STYLE);
        page.raw("</style></head>\n<body><main id=\"item-1\"><h1>");
        page.text(&report.title);
        page.raw("</h1>\n<table>\n");
        for (name, value) in &report.facts {
            page.raw("<tr><th scope=\"row\">");
            page.text(name);
            page.raw("</th><td>");
            page.text(value);
            page.raw("</td></tr>\n");
        }
        page.raw("</table>\n");
        page
    }

    fn end(mut self) -> Vec<u8> {
        self.raw("</main></body></html>\n");
        self.0
    }

    fn item(&mut self, entry: &Entry, inside: usize) {
        self.raw("<p id=\"item-");
        self.text(&entry.place);
        let kind = if entry.role == Role::Context { "c" } else { "v" };
        self.raw(&format!("\" class=\"{kind} i{}\">", inside.min(INDENTS)));
        if !entry.name.is_empty() {
            self.raw("<b>");
            self.text(&entry.name);
            self.raw(if entry.value.is_empty() { "</b>" } else { ":</b> " });
        }
        for run in &entry.value {
            match run {
                Run::Text(text) => self.text(text),
                Run::Link { text, href } => {
                    self.raw("<a href=\"");
                    self.text(href);
                    self.raw("\">");
                    self.text(text);
                    self.raw("</a>");
                }
            }
        }
        self.raw("</p>\n");
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Any text, in lines as it has them.
    fn text(&mut self, text: &str) {
        for (at, line) in lines(text).iter().enumerate() {
            if at > 0 {
                self.raw("\n");
            }
            xml::escape(&mut self.0, line, false);
        }
    }
}
