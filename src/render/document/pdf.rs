//! Documents as PDF: A4, text that can be selected, DejaVu Sans embedded as far as it is used.
//!
//! Holds: a character is shown as itself or the document is refused. Letters that join, stack or
//! run from right to left need more than a font, and the font has no Chinese, Japanese or Korean:
//! of such reports HTML and text can be had. The same report makes the same bytes.

mod font;

use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str, TextStr};
use unicode_normalization::UnicodeNormalization as _;

use super::{
    RenderError,
    report::{Report, Role},
    text,
};
use font::{Font, Glyph};

/// A4, in points.
const PAGE: (f32, f32) = (595.0, 842.0);
const MARGIN: f32 = 56.0;

/// Points for each level, and levels that are told apart.
const INDENT: f32 = 14.0;
const INDENTS: usize = 10;

/// Where the values of facts begin, in points from the margin.
const VALUES: f32 = 130.0;

/// Height of a line for one point of the font's size.
const LEADING: f32 = 1.35;

const REGULAR: usize = 0;
const BOLD: usize = 1;

/// A piece of text in its place: glyphs of one font, and the baseline from the lower left.
struct Piece {
    font: usize,
    size: f32,
    x: f32,
    y: f32,
    glyphs: Vec<u16>,
}

struct Layout {
    fonts: [Font; 2],
    pages: Vec<Vec<Piece>>,
    /// The top of what comes next.
    y: f32,
}

/// A structured report.
pub(super) fn report(report: &Report) -> Result<Vec<u8>, RenderError> {
    let fonts = [Font::new(dejavu::sans::regular())?, Font::new(dejavu::sans::bold())?];
    let mut layout = Layout { fonts, pages: vec![Vec::new()], y: PAGE.1 - MARGIN };
    layout.paragraph(&report.title, BOLD, 17.0, 0.0)?;
    layout.space(8.0);
    for (name, value) in &report.facts {
        // Side by side: names are short.
        layout.keep(9.0 * LEADING);
        let y = layout.y;
        layout.paragraph(name, BOLD, 9.0, 0.0)?;
        layout.y = y;
        layout.paragraph(value, REGULAR, 9.0, VALUES)?;
    }
    layout.space(8.0);
    for entry in &report.entries {
        let indent = entry.depth.min(INDENTS) as f32 * INDENT;
        if entry.role == Role::Heading {
            let size = if entry.depth == 0 { 13.0 } else { 11.0 };
            layout.space(7.0);
            layout.keep(4.0 * size * LEADING);
            layout.paragraph(&entry.name, BOLD, size, indent)?;
            layout.space(2.0);
            continue;
        }
        let value: String = entry.value.iter().map(|run| run.text()).collect();
        let size = if entry.role == Role::Context { 8.5 } else { 10.0 };
        let name = match (entry.name.is_empty(), value.is_empty()) {
            (true, _) => String::new(),
            (false, true) => entry.name.clone(),
            (false, false) => format!("{}: ", entry.name),
        };
        layout.runs(&[(&name, BOLD), (&value, REGULAR)], size, indent)?;
        layout.space(2.0);
    }
    layout.footers()?;
    layout.finish(report)
}

impl Layout {
    fn space(&mut self, points: f32) {
        self.y -= points;
    }

    /// Begins a page unless there is room for so many points.
    fn keep(&mut self, points: f32) {
        if self.y - points < MARGIN {
            self.pages.push(Vec::new());
            self.y = PAGE.1 - MARGIN;
        }
    }

    fn paragraph(
        &mut self,
        text: &str,
        font: usize,
        size: f32,
        indent: f32,
    ) -> Result<(), RenderError> {
        self.runs(&[(text, font)], size, indent)
    }

    /// Text in lines, broken between words, and in words that are longer than a line.
    fn runs(&mut self, runs: &[(&str, usize)], size: f32, indent: f32) -> Result<(), RenderError> {
        let width = PAGE.0 - 2.0 * MARGIN - indent;
        let points = |advance: f32| advance * size / 1000.0;
        let mut line: Vec<Piece> = Vec::new();
        let mut x = 0.0;
        for (text, font) in runs {
            for (at, own_line) in text::lines(text).iter().enumerate() {
                if at > 0 {
                    self.line(&mut line, size, indent);
                    x = 0.0;
                }
                for word in own_line.split_inclusive(' ') {
                    let glyphs = word.nfc().map(|c| self.fonts[*font].glyph(c));
                    let glyphs = glyphs.collect::<Result<Vec<Glyph>, _>>()?;
                    // The space at its end may hang over.
                    let spaces = word.chars().rev().take_while(|c| *c == ' ').count();
                    let visible = glyphs.iter().rev().skip(spaces);
                    let visible = points(visible.map(|glyph| glyph.advance).sum());
                    if x > 0.0 && x + visible > width {
                        self.line(&mut line, size, indent);
                        x = 0.0;
                    }
                    for glyph in glyphs {
                        let advance = points(glyph.advance);
                        if visible > width && x + advance > width {
                            self.line(&mut line, size, indent);
                            x = 0.0;
                        }
                        match line.last_mut().filter(|last| last.font == *font) {
                            Some(last) => last.glyphs.push(glyph.id),
                            None => {
                                let glyphs = vec![glyph.id];
                                line.push(Piece { font: *font, size, x, y: 0.0, glyphs });
                            }
                        }
                        x += advance;
                    }
                }
            }
        }
        if !line.is_empty() {
            self.line(&mut line, size, indent);
        }
        Ok(())
    }

    /// Puts a line, which may be empty, onto the page.
    fn line(&mut self, line: &mut Vec<Piece>, size: f32, indent: f32) {
        self.keep(size * LEADING);
        let y = self.y - size;
        self.y -= size * LEADING;
        if let Some(page) = self.pages.last_mut() {
            page.extend(line.drain(..).map(|piece| Piece {
                x: piece.x + MARGIN + indent,
                y,
                ..piece
            }));
        }
    }

    fn footers(&mut self) -> Result<(), RenderError> {
        let count = self.pages.len();
        for (at, page) in self.pages.iter_mut().enumerate() {
            let text = format!("{} / {count}", at + 1);
            let glyphs = text.chars().map(|c| Ok(self.fonts[REGULAR].glyph(c)?.id));
            let glyphs = glyphs.collect::<Result<_, RenderError>>()?;
            page.push(Piece { font: REGULAR, size: 8.0, x: MARGIN, y: MARGIN / 2.0, glyphs });
        }
        Ok(())
    }

    fn finish(self, report: &Report) -> Result<Vec<u8>, RenderError> {
        const NAMES: [Name<'static>; 2] = [Name(b"F0"), Name(b"F1")];
        let mut pdf = Pdf::new();
        let mut next = 1;
        let mut id = || {
            next += 1;
            Ref::new(next)
        };
        let (catalog, tree, info) = (id(), id(), id());
        let fonts: Vec<Ref> = self
            .fonts
            .iter()
            .map(|font| font.write(&mut pdf, &mut id))
            .collect::<Result<_, _>>()?;
        let mut kids = Vec::new();
        for pieces in &self.pages {
            let (page, contents) = (id(), id());
            kids.push(page);
            let mut writer = pdf.page(page);
            writer.parent(tree).contents(contents);
            writer.media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1));
            let mut resources = writer.resources();
            let mut named = resources.fonts();
            for (name, font) in NAMES.iter().zip(&fonts) {
                named.pair(*name, *font);
            }
            named.finish();
            resources.finish();
            writer.finish();
            let mut content = Content::new();
            content.begin_text();
            for piece in pieces {
                content.set_font(NAMES[piece.font], piece.size);
                content.set_text_matrix([1.0, 0.0, 0.0, 1.0, piece.x, piece.y]);
                let bytes: Vec<u8> = piece.glyphs.iter().flat_map(|g| g.to_be_bytes()).collect();
                content.show(Str(&bytes));
            }
            content.end_text();
            let deflated = font::deflate(&content.finish());
            pdf.stream(contents, &deflated).filter(pdf_writer::Filter::FlateDecode);
        }
        pdf.pages(tree).count(kids.len() as i32).kids(kids);
        let mut root = pdf.catalog(catalog);
        root.pages(tree);
        root.lang(TextStr(report.language.as_deref().unwrap_or("en")));
        root.viewer_preferences().display_doc_title(true);
        root.finish();
        pdf.document_info(info).title(TextStr(&report.title));
        Ok(pdf.finish())
    }
}
