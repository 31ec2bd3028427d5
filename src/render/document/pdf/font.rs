//! A font of a PDF: which characters it can show, how wide they are, and the part of it that is
//! embedded.

use std::{collections::HashMap, io::Write as _};

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

/// A character as it is shown.
#[derive(Clone, Copy)]
pub(super) struct Glyph {
    /// Its number in the embedded part.
    pub id: u16,
    /// How far it goes, in thousandths of the size of the font.
    pub advance: f32,
}

pub(super) struct Font {
    data: &'static [u8],
    face: Face<'static>,
    known: HashMap<char, Glyph>,
    /// Glyphs of the whole font to those of the embedded part.
    used: GlyphRemapper,
}

impl Font {
    pub(super) fn new(data: &'static [u8]) -> Result<Self, RenderError> {
        let face = Face::parse(data, 0).map_err(|_| BROKEN)?;
        Ok(Self { data, face, known: HashMap::new(), used: GlyphRemapper::new() })
    }

    /// The glyph of a character, which becomes part of what is embedded.
    pub(super) fn glyph(&mut self, c: char) -> Result<Glyph, RenderError> {
        // White space that the font has no glyph for is a space.
        let c = if c.is_whitespace() { ' ' } else { c };
        if let Some(glyph) = self.known.get(&c) {
            return Ok(*glyph);
        }
        let glyph = self.face.glyph_index(c).filter(|_| stands_alone(c)).ok_or(NOT_SHOWN)?;
        let glyph = Glyph { id: self.used.remap(glyph.0), advance: self.advance(glyph) };
        self.known.insert(c, glyph);
        Ok(glyph)
    }

    /// Thousandths of the size of the font.
    fn advance(&self, glyph: GlyphId) -> f32 {
        let units = f32::from(self.face.units_per_em()).max(1.0);
        f32::from(self.face.glyph_hor_advance(glyph).unwrap_or(0)) * 1000.0 / units
    }

    /// Writes what of the font was used.
    pub(super) fn write(
        &self,
        pdf: &mut Pdf,
        mut id: impl FnMut() -> Ref,
    ) -> Result<Ref, RenderError> {
        let mut shown: Vec<(char, Glyph)> = self.known.iter().map(|(c, g)| (*c, *g)).collect();
        // By number, so that the same report makes the same bytes. Two characters of one glyph
        // are told by the first.
        shown.sort_unstable_by_key(|(c, glyph)| (glyph.id, *c));
        shown.dedup_by_key(|(_, glyph)| glyph.id);
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
        for (_, glyph) in &shown {
            widths.consecutive(glyph.id, [glyph.advance]);
        }
        widths.finish();
        descendant.finish();

        let writer = pdf.font_descriptor(descriptor);
        self.describe(writer, name, file);

        let mut characters = UnicodeCmap::new(Name(b"Collimator"), SYSTEM);
        for (c, glyph) in &shown {
            characters.pair(glyph.id, *c);
        }
        pdf.stream(cmap, &deflate(&characters.finish())).filter(Filter::FlateDecode);

        let part = subsetter::subset(self.data, 0, &self.used).map_err(|_| BROKEN)?;
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
