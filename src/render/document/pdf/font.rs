//! A font of a PDF: which characters it can show, how wide they are, and the part of it that is
//! embedded.

use std::{cell::RefCell, collections::BTreeMap, io::Write as _};

use pdf_writer::{
    Filter, Finish as _, Name, Pdf, Ref, Str,
    types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap},
    writers::FontDescriptor,
};
use subsetter::GlyphRemapper;
use ttf_parser::{Face, GlyphId};

use super::RenderError;

const BROKEN: RenderError = RenderError::Unsupported("documents: the font cannot be used");
const NOT_SHOWN: RenderError = RenderError::Unsupported(
    "a report in PDF that has characters beyond Latin, Greek and Cyrillic",
);

/// What the identifiers of glyphs are (ISO 32000-1 §9.7.3).
const SYSTEM: SystemInfo<'static> =
    SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

pub(super) struct Font {
    data: &'static [u8],
    face: Face<'static>,
    /// Glyphs of the whole font to those of the embedded part.
    used: RefCell<GlyphRemapper>,
    /// Glyphs of the embedded part, by theirs number: character, width in thousandths.
    shown: RefCell<BTreeMap<u16, (char, f32)>>,
}

impl Font {
    pub(super) fn new(data: &'static [u8]) -> Result<Self, RenderError> {
        let face = Face::parse(data, 0).map_err(|_| BROKEN)?;
        Ok(Self { data, face, used: RefCell::default(), shown: RefCell::default() })
    }

    fn glyph(&self, c: char) -> Result<GlyphId, RenderError> {
        // White space that the font has no glyph for is a space.
        let c = if c.is_whitespace() { ' ' } else { c };
        let glyph = self.face.glyph_index(c).filter(|_| stands_alone(c));
        glyph.ok_or(NOT_SHOWN)
    }

    /// Thousandths of the size of the font.
    fn advance(&self, glyph: GlyphId) -> f32 {
        let units = f32::from(self.face.units_per_em()).max(1.0);
        f32::from(self.face.glyph_hor_advance(glyph).unwrap_or(0)) * 1000.0 / units
    }

    /// The width of a text in points, without the spaces at its end and with them.
    pub(super) fn widths(&self, text: &str, size: f32) -> Result<(f32, f32), RenderError> {
        let (mut visible, mut whole) = (0.0, 0.0);
        for c in text.chars() {
            whole += self.advance(self.glyph(c)?) * size / 1000.0;
            if c != ' ' {
                visible = whole;
            }
        }
        Ok((visible, whole))
    }

    /// The glyphs of a text, as they are numbered in the embedded part.
    pub(super) fn glyphs(&self, text: &str) -> Result<Vec<u16>, RenderError> {
        let glyphs = text.chars().map(|c| {
            let glyph = self.glyph(c)?;
            let own = self.used.borrow_mut().remap(glyph.0);
            self.shown.borrow_mut().entry(own).or_insert_with(|| (c, self.advance(glyph)));
            Ok(own)
        });
        glyphs.collect()
    }

    /// Writes what of the font was used.
    pub(super) fn write(
        &self,
        pdf: &mut Pdf,
        mut id: impl FnMut() -> Ref,
    ) -> Result<Ref, RenderError> {
        let (font, cid, descriptor, cmap, file) = (id(), id(), id(), id(), id());
        let name = if self.face.is_bold() { "DejaVuSans-Bold" } else { "DejaVuSans" };
        let name = format!("COLLIM+{name}");
        let name = Name(name.as_bytes());
        let mut composite = pdf.type0_font(font);
        composite.base_font(name).encoding_predefined(Name(b"Identity-H"));
        composite.descendant_font(cid).to_unicode(cmap);
        composite.finish();

        let mut descendant = pdf.cid_font(cid);
        descendant.subtype(CidFontType::Type2).base_font(name).system_info(SYSTEM);
        descendant.font_descriptor(descriptor).default_width(0.0);
        descendant.cid_to_gid_map_predefined(Name(b"Identity"));
        let mut widths = descendant.widths();
        for (glyph, (_, width)) in self.shown.borrow().iter() {
            widths.consecutive(*glyph, [*width]);
        }
        widths.finish();
        descendant.finish();

        let writer = pdf.font_descriptor(descriptor);
        self.describe(writer, name, file);

        let mut characters = UnicodeCmap::new(Name(b"Collimator"), SYSTEM);
        for (glyph, (c, _)) in self.shown.borrow().iter() {
            characters.pair(*glyph, *c);
        }
        pdf.stream(cmap, &deflate(&characters.finish())).filter(Filter::FlateDecode);

        let part = subsetter::subset(self.data, 0, &self.used.borrow()).map_err(|_| BROKEN)?;
        pdf.stream(file, &deflate(&part)).filter(Filter::FlateDecode);
        Ok(font)
    }

    fn describe(&self, mut writer: FontDescriptor<'_>, name: Name<'_>, file: Ref) {
        let units = f32::from(self.face.units_per_em()).max(1.0);
        let scaled = |value: i16| f32::from(value) * 1000.0 / units;
        let bounds = self.face.global_bounding_box();
        writer.name(name).flags(FontFlags::NON_SYMBOLIC).italic_angle(0.0);
        writer.bbox(pdf_writer::Rect::new(
            scaled(bounds.x_min),
            scaled(bounds.y_min),
            scaled(bounds.x_max),
            scaled(bounds.y_max),
        ));
        writer.ascent(scaled(self.face.ascender())).descent(scaled(self.face.descender()));
        writer.cap_height(scaled(self.face.capital_height().unwrap_or(0)));
        writer.stem_v(if self.face.is_bold() { 140.0 } else { 80.0 }).font_file2(file);
    }
}

/// Whether a character is shown right by its glyph alone: of scripts whose letters neither join nor
/// stack nor run from right to left.
fn stands_alone(c: char) -> bool {
    matches!(c,
        ' '..='~' | '\u{A0}'..='\u{2FF}' | '\u{370}'..='\u{482}' | '\u{48A}'..='\u{58F}'
        | '\u{10A0}'..='\u{10FF}' | '\u{1D00}'..='\u{1DBF}' | '\u{1E00}'..='\u{1FFF}'
        | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205E}' | '\u{2070}'..='\u{20CF}'
        | '\u{2100}'..='\u{27BF}' | '\u{2C60}'..='\u{2C7F}' | '\u{FB00}'..='\u{FB06}' | '\u{FFFD}')
}

/// zlib (RFC 1950), as `FlateDecode` has it.
pub(super) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}
