//! Texts burned into a picture (PS3.18 §8.3.5.1.1): `patient` at the top, `technique` at the
//! bottom, both at the left.
//!
//! Owns what is written and how it is made readable: white with a black rim, about 1/32 of the
//! picture high, broken into lines that fit. Holds: nothing is drawn outside of the picture; a
//! picture too small for a line of three letters gets none. Absent: shaping of texts
//! ([`super::font`]).

use super::{
    font,
    view::{Annotations, Window},
    viewport::Pixels,
};
use crate::dicom::{Tag, data_set::Item};

/// The texts of an instance, by keyword.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    patient: Vec<String>,
    technique: Vec<String>,
}

/// Characters of one attribute that are read: longer values are not names.
const LONGEST: usize = 256;

impl Texts {
    /// Reads the texts of a data set.
    pub fn of(root: Item<'_>) -> Self {
        Self { patient: patient(root), technique: technique(root) }
    }

    /// Burns texts in. `window`: what the picture is shown with.
    pub fn draw(&self, pixels: &mut Pixels, wanted: Annotations, window: Option<Window>) {
        let factor = (pixels.width.min(pixels.height) / 512).clamp(1, 16);
        let (margin, line_height) = (2 * factor, (font::HEIGHT + 1) * factor);
        let columns = pixels.width.saturating_sub(2 * margin) / (font::WIDTH * factor);
        let rows = pixels.height.saturating_sub(2 * margin) / line_height;
        if columns < 3 || rows < 1 {
            return;
        }
        let (columns, rows) = (columns as usize, rows as usize);
        let mut used = 0;
        if wanted.patient {
            let most = if wanted.technique { rows.div_ceil(2) } else { rows };
            let lines = broken(&self.patient, columns, most);
            used = lines.len();
            burn(pixels, &lines, factor, margin, margin);
        }
        if wanted.technique {
            let mut texts = self.technique.clone();
            texts.extend(
                window
                    .map(|window| format!("C {} W {}", short(window.center), short(window.width))),
            );
            let lines = broken(&texts, columns, rows.saturating_sub(used));
            let height = lines.len() as u32 * line_height + margin;
            let top = pixels.height.saturating_sub(height);
            burn(pixels, &lines, factor, margin, top);
        }
    }
}

fn broken(texts: &[String], columns: usize, most: usize) -> Vec<Vec<font::Cluster>> {
    let mut lines = Vec::new();
    for text in texts {
        lines.extend(font::lines(text, columns, most.saturating_sub(lines.len())));
    }
    lines
}

/// Draws lines with their left top at (`left`, `top`), every pixel of the font as a square of
/// `factor`.
fn burn(pixels: &mut Pixels, lines: &[Vec<font::Cluster>], factor: u32, left: u32, top: u32) {
    let rim = factor.div_ceil(2);
    for pass in [(rim, 0_u8), (0, 255)] {
        let (grow, value) = pass;
        for (line, y) in lines.iter().zip((0..).map(|n| top + n * (font::HEIGHT + 1) * factor)) {
            font::pixels(line, |column, row| {
                let (x, y) = (left + column * factor, y + row * factor);
                let (from_x, from_y) = (x.saturating_sub(grow), y.saturating_sub(grow));
                fill(pixels, from_x, from_y, x + factor + grow, y + factor + grow, value);
            });
        }
    }
}

fn fill(pixels: &mut Pixels, left: u32, top: u32, right: u32, bottom: u32, value: u8) {
    let channels = if pixels.colour { 3 } else { 1 };
    let row = pixels.width as usize * channels;
    let (right, bottom) = (right.min(pixels.width), bottom.min(pixels.height));
    for y in top..bottom {
        let start = y as usize * row;
        let range = start + left as usize * channels..start + right as usize * channels;
        if let Some(pixels) = pixels.data.get_mut(range) {
            pixels.fill(value);
        }
    }
}

fn text(item: Item<'_>, tag: Tag) -> Option<String> {
    let text: String = item.text(tag)?.trim().chars().take(LONGEST).collect();
    Some(text).filter(|text| !text.is_empty())
}

fn patient(root: Item<'_>) -> Vec<String> {
    let date = text(root, Tag(0x0010, 0x0030)).map(|date| dashed(&date));
    let born = [date, text(root, Tag(0x0010, 0x0040))];
    let born = born.into_iter().flatten().collect::<Vec<_>>().join("  ");
    let id = text(root, Tag(0x0010, 0x0020)).map(|id| format!("ID {id}"));
    let lines = names(root).into_iter().chain(id).chain([born]);
    lines.filter(|line| !line.is_empty()).collect()
}

/// The patient's name: alphabetic and ideographic, or whatever there is.
fn names(root: Item<'_>) -> Vec<String> {
    let tag = Tag(0x0010, 0x0010);
    let value = root.raw(tag).and_then(|attribute| attribute.get("Value")?.get(0)?.as_object());
    let group = |name: &str| {
        let group = value?.get(name)?.as_str()?;
        let parts = group.split('^').map(str::trim).filter(|part| !part.is_empty());
        let parts = parts.collect::<Vec<_>>().join(" ");
        Some(parts.chars().take(LONGEST).collect::<String>()).filter(|name| !name.is_empty())
    };
    let names: Vec<_> = ["Alphabetic", "Ideographic"].into_iter().filter_map(group).collect();
    if names.is_empty() { group("Phonetic").into_iter().collect() } else { names }
}

/// `20240131` as `2024-01-31`; anything else as it is.
fn dashed(date: &str) -> String {
    match (date.get(..4), date.get(4..6), date.get(6..)) {
        (Some(year), Some(month), Some(day)) if day.len() == 2 => format!("{year}-{month}-{day}"),
        _ => date.to_owned(),
    }
}

/// Numbers of the technique: label, tags in the order of preference, factor, unit.
const NUMBERS: [(&str, &[Tag], f64, &str); 12] = [
    ("", &[Tag(0x0018, 0x0060)], 1.0, "kV"),
    ("", &[Tag(0x0018, 0x9330), Tag(0x0018, 0x8151), Tag(0x0018, 0x1151)], 1.0, "mA"),
    ("", &[Tag(0x0018, 0x9328), Tag(0x0018, 0x1150)], 1.0, "ms"),
    ("", &[Tag(0x0018, 0x9332), Tag(0x0018, 0x1152)], 1.0, "mAs"),
    ("TR", &[Tag(0x0018, 0x0080)], 1.0, "ms"),
    ("TE", &[Tag(0x0018, 0x9082), Tag(0x0018, 0x0081)], 1.0, "ms"),
    ("TI", &[Tag(0x0018, 0x0082)], 1.0, "ms"),
    ("FA", &[Tag(0x0018, 0x1314)], 1.0, "°"),
    ("B", &[Tag(0x0018, 0x0087)], 1.0, "T"),
    ("SL", &[Tag(0x0018, 0x0050)], 1.0, "mm"),
    ("LOC", &[Tag(0x0020, 0x1041)], 1.0, "mm"),
    ("", &[Tag(0x0018, 0x6030)], 0.001, "MHz"),
];

fn technique(root: Item<'_>) -> Vec<String> {
    let first = [
        text(root, Tag(0x0008, 0x0060)),
        text(root, Tag(0x0018, 0x0015)),
        text(root, Tag(0x0020, 0x0062)),
        text(root, Tag(0x0018, 0x5101)),
    ];
    let date = [Tag(0x0008, 0x0022), Tag(0x0008, 0x0023), Tag(0x0008, 0x0021), Tag(0x0008, 0x0020)];
    let date = date.into_iter().find_map(|tag| text(root, tag)).map(|date| dashed(&date));
    let first = first.into_iter().chain([date]).flatten().collect::<Vec<_>>().join("  ");
    let numbers = NUMBERS.iter().filter_map(|(label, tags, factor, unit)| {
        let number = tags.iter().find_map(|tag| find(root, *tag))? * factor;
        let gap = if label.is_empty() { "" } else { " " };
        Some(format!("{label}{gap}{} {unit}", short(number)))
    });
    let numbers = numbers.collect::<Vec<_>>().join("  ");
    let series = text(root, Tag(0x0008, 0x103E)).or_else(|| text(root, Tag(0x0018, 0x1030)));
    let lines = [Some(first), series, Some(numbers)];
    lines.into_iter().flatten().filter(|line| !line.is_empty()).collect()
}

/// A number of the data set, or of the functional groups that all frames share, or of the first
/// frame's.
fn find(root: Item<'_>, tag: Tag) -> Option<f64> {
    root.number(tag).or_else(|| {
        [Tag(0x5200, 0x9229), Tag(0x5200, 0x9230)].into_iter().find_map(|groups| {
            let group = root.item(groups, 0)?;
            group.attributes().find_map(|(sequence, _)| group.item(sequence, 0)?.number(tag))
        })
    })
}

/// A number with at most three digits behind the point, without zeros at the end.
fn short(number: f64) -> String {
    if number.abs() >= 1e9 || (number != 0.0 && number.abs() < 1e-3) {
        return format!("{number:.3e}");
    }
    let text = format!("{number:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dicom::data_set::DataSet, render::view::Function};

    const JSON: &str = r#"{
        "00080060":{"vr":"CS","Value":["CT"]},"0008103E":{"vr":"LO","Value":["Thorax nativ"]},
        "00080022":{"vr":"DA","Value":["20240131"]},
        "00100010":{"vr":"PN","Value":[{"Alphabetic":"Yamada^Tarou^^Dr","Ideographic":"山田^太郎","Phonetic":"やまだ^たろう"}]},
        "00100020":{"vr":"LO","Value":["X-1"]},"00100030":{"vr":"DA","Value":["19700102"]},
        "00100040":{"vr":"CS","Value":["M"]},
        "00180060":{"vr":"DS","Value":["120"]},"00180050":{"vr":"DS","Value":["1.250"]},
        "52009229":{"vr":"SQ","Value":[{"00189321":{"vr":"SQ","Value":[{"00189332":{"vr":"FD","Value":[55.5]}}]}}]}}"#;

    fn texts() -> Texts {
        Texts::of(DataSet::parse(JSON.as_bytes()).unwrap().root())
    }

    #[test]
    fn who_and_how() {
        let texts = texts();
        assert_eq!(texts.patient, ["Yamada Tarou Dr", "山田 太郎", "ID X-1", "1970-01-02  M"]);
        let technique = ["CT  2024-01-31", "Thorax nativ", "120 kV  55.5 mAs  SL 1.25 mm"];
        assert_eq!(texts.technique, technique);
        assert_eq!(Texts::of(DataSet::default().root()), Texts::default());
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [40.0, -1024.5, 0.25, 1e12, 1e-5, -0.0, 1.0 / 3.0].map(short);
        assert_eq!(numbers, ["40", "-1024.5", "0.25", "1.000e12", "1.000e-5", "0", "0.333"]);
    }

    fn burned(width: u32, height: u32, colour: bool, background: u8) -> Pixels {
        let length = (width * height) as usize * if colour { 3 } else { 1 };
        let mut pixels = Pixels { width, height, colour, data: vec![background; length] };
        let window = Window { center: 40.0, width: 400.0, function: Function::Linear };
        let wanted = Annotations { patient: true, technique: true };
        texts().draw(&mut pixels, wanted, Some(window));
        assert_eq!(pixels.data.len(), length);
        pixels
    }

    #[test]
    fn texts_are_seen_on_any_ground() {
        for background in [0, 128, 255] {
            for colour in [false, true] {
                let pixels = burned(300, 200, colour, background);
                let count = |value| pixels.data.iter().filter(|pixel| **pixel == value).count();
                assert!(count(255) > 1000 && count(0) > 1000);
                // Every white pixel of a letter has black beside it, or white of the same letter.
                assert!(pixels.data.iter().all(|pixel| [0, background, 255].contains(pixel)));
            }
        }
    }

    #[test]
    fn small_and_narrow_pictures_stay_whole() {
        for (width, height) in [(1, 1), (8, 8), (28, 21), (30, 40), (64, 64), (16_000, 1), (1, 999)]
        {
            burned(width, height, true, 7);
        }
        assert!(burned(8, 8, false, 7).data.iter().all(|pixel| *pixel == 7));
        assert!(burned(64, 64, false, 7).data.contains(&255));
    }
}
