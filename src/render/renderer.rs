//! From an instance's attributes and one of its frames to a picture.
//!
//! Owns the order of things (PS3.18 §8.3.5.1, PS3.4 §N.2): greys or colours, overlays, the part
//! that is shown, its size, colour management, texts. Holds: a renderer owns what it needs, can be
//! shared by threads, and costs one pass over a table for samples of up to 16 bits; the tables last
//! made are kept. Absent: how any of the steps is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Picture, RenderError, View, Window,
    annotation::Texts,
    colour,
    grey::{Monochrome, Transform},
    groups::Groups,
    header::Header,
    icc::{self, Profile},
    overlay::{self, Overlays},
    palette::Palette,
    samples::Bits,
    viewport::{self, Pixels},
};
use crate::{
    codec::{Photometric, Raster},
    dicom::{
        Tag,
        data_set::{Binary, Item},
    },
};

/// Draws the frames of one instance.
#[derive(Debug)]
pub struct Renderer {
    groups: Groups,
    monochrome: Monochrome,
    palette: Option<Palette>,
    /// Why there is no palette although one is announced.
    palette_error: Option<RenderError>,
    /// The palette colours part of a monochrome image (PS3.3 §C.7.6.19).
    supplemental: bool,
    overlays: Overlays,
    texts: Texts,
    profile: Profile,
    tables: Mutex<Vec<(Key, Table)>>,
}

/// What a table was made for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    Grey(Transform),
    Palette(Bits),
    Mixed(Transform),
}

/// A picture's pixels for all words that samples can be.
#[derive(Clone, Debug)]
enum Table {
    Grey(Arc<[u8]>),
    Colour(Arc<[[u8; 3]]>),
}

/// Tables that are kept: the largest takes 192 KiB.
const TABLES: usize = 4;

/// Sequences that hold tables, with the tags of what they hold.
const SEQUENCES: [(Tag, Tag); 3] = [
    (Tag(0x0028, 0x3000), Tag(0x0028, 0x3006)),
    (Tag(0x0028, 0x3010), Tag(0x0028, 0x3006)),
    (icc::OPTICAL_PATHS, icc::TAG),
];

impl Renderer {
    /// The paths of the bulk values that [`Renderer::new`] needs.
    pub fn wants(header: Item<'_>) -> Vec<String> {
        let palettes = (0x1201..=0x1203).chain(0x1221..=0x1223).map(|n| Tag(0x0028, n));
        let overlays = overlay::groups().map(|group| Tag(group, 0x3000));
        let own = palettes.chain(overlays).chain([icc::TAG]).map(|tag| (header, tag));
        let inner = SEQUENCES
            .iter()
            .filter_map(|(sequence, tag)| header.item(*sequence, 0).map(|item| (item, *tag)));
        let paths = own.chain(inner).filter_map(|(item, tag)| match item.binary(tag)? {
            Binary::Bulk(path) => Some(path.to_owned()),
            Binary::Inline(_) => None,
        });
        paths.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The frame that stands for all, where the instance says so: Representative Frame Number
    /// (0028,6010), from 1.
    pub fn representative_frame(header: Item<'_>) -> Option<u32> {
        let frames = header.integer(Tag(0x0028, 0x0008)).unwrap_or(1);
        let frame = header.integer(Tag(0x0028, 0x6010))?;
        u32::try_from(frame).ok().filter(|frame| (1..=frames).contains(&i64::from(*frame)))
    }

    /// Reads what the attributes say, once for all frames. A bulk value that was not given is taken
    /// for missing.
    ///
    /// # Errors
    /// [`RenderError`] where no frame could be drawn.
    pub fn new(header: Item<'_>, values: &BTreeMap<String, Vec<u8>>) -> Result<Self, RenderError> {
        let header = Header::new(header, values);
        let item = header.item;
        let groups = Groups::of(item);
        let signed = item.integer(Tag(0x0028, 0x0103)) == Some(1);
        let intercept = groups.at(1).rescale.map_or(0.0, |rescale| rescale.intercept);
        let palette = Palette::of(header, signed);
        let photometric = item.text(Tag(0x0028, 0x0004)).unwrap_or_default();
        if photometric.trim() == Photometric::Palette.term() {
            match &palette {
                Err(error) => return Err(*error),
                Ok(None) => return Err(RenderError::Damaged("PALETTE COLOR without a palette")),
                Ok(Some(_)) => {}
            }
        }
        let presentation = item.text(Tag(0x0008, 0x9205)).unwrap_or_default();
        let supplemental = ["COLOR", "MIXED"].contains(&presentation.trim());
        Ok(Self {
            monochrome: Monochrome::of(header, if signed { -1.0 } else { intercept }),
            groups,
            palette_error: palette.as_ref().err().copied(),
            palette: palette.unwrap_or_default(),
            supplemental,
            overlays: Overlays::of(header),
            texts: Texts::of(item),
            profile: Profile::of(header),
            tables: Mutex::default(),
        })
    }

    /// Draws a frame (from 1).
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn draw(&self, frame: u32, raster: &Raster, view: &View) -> Result<Picture, RenderError> {
        check(raster)?;
        let group = self.groups.at(frame);
        let (mut pixels, window) = self.pixels(frame, raster, view)?;
        if view.overlays {
            self.overlays.draw(frame, raster, pixels.colour, &mut pixels.data);
        }
        if let Some(viewport) = &view.viewport {
            pixels = viewport::fit(pixels, group.aspect, viewport)?;
        }
        viewport::check(pixels.width, pixels.height)?;
        let mut pixels = view.turn.apply(pixels);
        let icc = self.profile.apply(&mut pixels, view.icc);
        if view.annotations.patient || view.annotations.technique {
            self.texts.draw(&mut pixels, view.annotations, window);
        }
        let Pixels { width, height, colour, data } = pixels;
        Ok(Picture { width, height, colour, data, icc })
    }

    /// The window that [`Renderer::draw`] would choose by the values of this frame, where the
    /// instance does not say any. Who draws several frames gives it to all of them, so that they do
    /// not flicker.
    pub fn automatic_window(&self, frame: u32, raster: &Raster) -> Option<Window> {
        check(raster).ok()?;
        if !is_grey(raster.layout.photometric) {
            return None;
        }
        let transform = self.transform(frame, raster, None);
        Some(transform).filter(Transform::is_automatic)?.window()
    }

    fn transform(&self, frame: u32, raster: &Raster, window: Option<Window>) -> Transform {
        let below = self.coloured_from();
        self.monochrome.transform(raster, &self.groups.at(frame), window, below)
    }

    /// The first value that a supplemental palette colours.
    fn coloured_from(&self) -> Option<i64> {
        self.palette.as_ref().filter(|_| self.supplemental).map(Palette::first)
    }

    /// The whole frame in 8 bits, and the window it is shown with.
    fn pixels(
        &self,
        frame: u32,
        raster: &Raster,
        view: &View,
    ) -> Result<(Pixels, Option<Window>), RenderError> {
        let layout = &raster.layout;
        let mut window = None;
        let (colour, data) = match (layout.photometric, &self.palette) {
            (photometric, palette) if is_grey(photometric) => {
                let transform = self.transform(frame, raster, view.window);
                window = transform.window();
                let narrow = !layout.float && layout.bits_allocated <= 16;
                match palette.as_ref().filter(|_| self.supplemental && narrow) {
                    Some(palette) => (true, self.mixed(raster, transform, palette)),
                    None if narrow => (false, self.grey(raster, transform)),
                    None => (false, self.monochrome.wide(&transform, raster)),
                }
            }
            (Photometric::Palette, Some(palette)) => (true, self.palette(raster, palette)?),
            (Photometric::Palette, None) => {
                let missing = RenderError::Damaged("PALETTE COLOR without a palette");
                return Err(self.palette_error.unwrap_or(missing));
            }
            (_, palette) => (true, colour::to_rgb(raster, palette.as_ref())?),
        };
        let pixels = layout.pixels() * if colour { 3 } else { 1 };
        if data.len() != pixels {
            return Err(RenderError::Damaged("too few pixels"));
        }
        let (width, height) = (u32::from(layout.columns), u32::from(layout.rows));
        Ok((Pixels { width, height, colour, data }, window))
    }

    fn grey(&self, raster: &Raster, transform: Transform) -> Vec<u8> {
        let make = || {
            let greys = self.monochrome.greys(&transform);
            Table::Grey(transform.bits.spread(&greys).into())
        };
        let Table::Grey(table) = self.table(Key::Grey(transform), make) else { return Vec::new() };
        mapped(raster, &table)
    }

    fn mixed(&self, raster: &Raster, transform: Transform, palette: &Palette) -> Vec<u8> {
        let make = || {
            let greys = self.monochrome.greys(&transform);
            let (least, _) = transform.bits.range();
            let colours = (least..).zip(greys).map(|(value, grey)| {
                if value >= palette.first() { palette.at(value) } else { [grey; 3] }
            });
            let colours: Vec<_> = colours.collect();
            Table::Colour(transform.bits.spread(&colours).into())
        };
        let Table::Colour(table) = self.table(Key::Mixed(transform), make) else {
            return Vec::new();
        };
        mapped(raster, &table).into_flattened()
    }

    fn palette(&self, raster: &Raster, palette: &Palette) -> Result<Vec<u8>, RenderError> {
        let layout = &raster.layout;
        if layout.float || layout.bits_allocated > 16 {
            return Err(RenderError::Unsupported("palettes for more than 16 bits"));
        }
        let bits = Bits::of(layout);
        let make = || {
            let (least, greatest) = bits.range();
            let colours: Vec<_> = (least..=greatest).map(|value| palette.at(value)).collect();
            Table::Colour(bits.spread(&colours).into())
        };
        let Table::Colour(table) = self.table(Key::Palette(bits), make) else {
            return Ok(Vec::new());
        };
        Ok(mapped(raster, &table).into_flattened())
    }

    /// A table from those that are kept, or made.
    fn table(&self, key: Key, make: impl FnOnce() -> Table) -> Table {
        let tables = || self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = tables().iter().find(|(other, _)| *other == key) {
            return table.clone();
        }
        let table = make();
        let mut tables = tables();
        if tables.len() >= TABLES {
            tables.remove(0);
        }
        tables.push((key, table.clone()));
        table
    }
}

fn is_grey(photometric: Photometric) -> bool {
    matches!(photometric, Photometric::Monochrome1 | Photometric::Monochrome2)
}

/// A raster whose bytes are fewer than its layout says is not drawn.
fn check(raster: &Raster) -> Result<(), RenderError> {
    if raster.data.len() < raster.layout.frame_length() {
        return Err(RenderError::Damaged("too few bytes"));
    }
    // What is not shown in full may still be cut, so that only absurd sizes end here.
    if raster.layout.pixels() as u64 > super::MAX_PIXELS {
        return Err(RenderError::Unsupported("a frame of this size"));
    }
    Ok(())
}

/// Looks up every word of a frame of up to 16 bits.
fn mapped<T: Copy + Default>(raster: &Raster, table: &[T]) -> Vec<T> {
    let pixels = raster.layout.pixels();
    match raster.layout.bits_allocated {
        16 => {
            let words = raster.data.as_chunks().0.iter().take(pixels);
            // Of a fixed length no index has to be checked.
            let Some(table) = table.first_chunk::<65536>() else { return Vec::new() };
            words.map(|word| table[usize::from(u16::from_le_bytes(*word))]).collect()
        }
        8 => {
            let Some(table) = table.first_chunk::<256>() else { return Vec::new() };
            raster.data.iter().take(pixels).map(|byte| table[usize::from(*byte)]).collect()
        }
        _ => {
            let bits = raster.data.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
            let at = |bit: u8| table.get(usize::from(bit)).copied().unwrap_or_default();
            bits.take(pixels).map(at).collect()
        }
    }
}
