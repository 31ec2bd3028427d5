//! Texts as pixels of a bitmap font.
//!
//! Owns the way from any text to glyphs in the order they stand on paper: normalised, joined,
//! right-to-left where it is, marks over their letters. The font is GNU Unifont: every character of
//! Unicode's Basic Multilingual Plane in cells of 8 or 16 by 16 pixels; what lies beyond is shown as
//! a replacement sign. (It is compiled in, some 2 MB, under the SIL Open Font License 1.1.) Indic and
//! other scripts that need more shaping appear letter by letter.
//! Absent: what is written where.

use unicode_bidi::BidiInfo;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unifont::Glyph;

use super::arabic;

/// Rows of every glyph.
pub(super) const HEIGHT: u32 = 16;

/// Width of a narrow glyph; wide ones have twice as much.
pub(super) const WIDTH: u32 = 8;

/// A character and the marks over and under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub base: char,
    pub marks: Vec<char>,
}

/// Marks of one letter that are drawn: more would be made to annoy.
const MAX_MARKS: usize = 4;

/// The characters of a text as they are read. What controls or cannot be seen is a space or left
/// out.
pub(super) fn clusters(text: &str) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for c in text.nfc() {
        if is_combining_mark(c)
            && let Some(last) = clusters.last_mut()
        {
            if last.marks.len() < MAX_MARKS {
                last.marks.push(c);
            }
        } else if c.is_whitespace() || c.is_control() {
            clusters.push(Cluster { base: ' ', marks: Vec::new() });
        } else if !is_invisible(c) {
            clusters.push(Cluster { base: c, marks: Vec::new() });
        }
    }
    clusters
}

/// Marks of direction and joining.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

/// Breaks a text into lines of at most `columns` narrow glyphs, at spaces where that leaves no line
/// too short, each in the order of writing. At most `most` lines; where a text is longer the last
/// one ends with three dots.
pub(super) fn lines(text: &str, columns: usize, most: usize) -> Vec<Vec<Cluster>> {
    let mut rest = clusters(text);
    arabic::shape(&mut rest);
    let mut lines = Vec::new();
    while !rest.is_empty() && lines.len() < most {
        let mut end = fitting(&rest, columns);
        if end == 0 {
            break;
        }
        if end < rest.len() && lines.len() + 1 == most {
            let mut line: Vec<_> = rest.into_iter().take(fitting_before(end, columns)).collect();
            line.push(Cluster { base: '…', marks: Vec::new() });
            lines.push(visual(line));
            return lines;
        }
        if end < rest.len() {
            let space = rest.iter().take(end + 1).rposition(|cluster| cluster.base == ' ');
            end = space.filter(|at| 2 * at >= end && *at > 0).unwrap_or(end);
        }
        let after = rest.split_off(end);
        lines.push(visual(rest));
        rest = after.into_iter().skip_while(|cluster| cluster.base == ' ').collect();
    }
    lines
}

/// How many clusters fit into a line.
fn fitting(clusters: &[Cluster], columns: usize) -> usize {
    let mut used = 0;
    let fits = |cluster: &&Cluster| {
        used += cells(cluster.base);
        used <= columns
    };
    clusters.iter().take_while(fits).count()
}

/// Room for three dots, which are as wide as a wide glyph at most.
fn fitting_before(end: usize, columns: usize) -> usize {
    if columns < 4 { 0 } else { end.saturating_sub(2) }
}

/// Puts a line into the order of writing (Unicode's bidirectional algorithm).
fn visual(line: Vec<Cluster>) -> Vec<Cluster> {
    let text: String = line.iter().map(|cluster| cluster.base).collect();
    if text.is_ascii() {
        return line;
    }
    let info = BidiInfo::new(&text, None);
    let Some(paragraph) = info.paragraphs.first() else { return line };
    let (levels, runs) = info.visual_runs(paragraph, paragraph.range.clone());
    let starts: Vec<usize> = text.char_indices().map(|(start, _)| start).collect();
    let mut ordered = Vec::with_capacity(line.len());
    for run in runs {
        let from = starts.partition_point(|start| *start < run.start);
        let to = starts.partition_point(|start| *start < run.end);
        let clusters = line.get(from..to).unwrap_or_default();
        if levels.get(run.start).is_some_and(|level| level.is_rtl()) {
            let mirrored = |cluster: &Cluster| Cluster {
                base: mirror(cluster.base),
                marks: cluster.marks.clone(),
            };
            ordered.extend(clusters.iter().rev().map(mirrored));
        } else {
            ordered.extend_from_slice(clusters);
        }
    }
    ordered
}

fn mirror(c: char) -> char {
    match c {
        '(' => ')',
        ')' => '(',
        '[' => ']',
        ']' => '[',
        '<' => '>',
        '>' => '<',
        '{' => '}',
        '}' => '{',
        other => other,
    }
}

fn glyph(c: char) -> Option<&'static Glyph> {
    unifont::get_glyph(c).or_else(|| unifont::get_glyph('\u{FFFD}'))
}

/// Cells of a character: 1 or 2.
pub(super) fn cells(c: char) -> usize {
    if glyph(c).is_some_and(Glyph::is_fullwidth) { 2 } else { 1 }
}

/// Names every pixel of a line, from its left top.
pub(super) fn pixels(line: &[Cluster], mut set: impl FnMut(u32, u32)) {
    let mut left = 0;
    for cluster in line {
        let cells = cells(cluster.base) as u32;
        for c in [cluster.base].iter().chain(&cluster.marks) {
            let Some(glyph) = glyph(*c) else { continue };
            // A mark stands in the middle of its letter.
            let width = glyph.get_width() as u32;
            let shift = (WIDTH * cells).saturating_sub(width) / 2;
            for y in 0..HEIGHT {
                for x in 0..width.min(WIDTH * cells) {
                    if glyph.get_pixel(x as usize, y as usize) {
                        set(left + shift + x, y);
                    }
                }
            }
        }
        left += WIDTH * cells;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, columns: usize, most: usize) -> Vec<String> {
        let lines = lines(text, columns, most);
        lines.iter().map(|line| line.iter().map(|cluster| cluster.base).collect()).collect()
    }

    #[test]
    fn every_script_of_names_has_glyphs() {
        let names = "Müller 山田太郎 ヤマダ やまだ 김희중 王小东 Иванов Διονύσιος Łukasz çğışİ ת א ไทย Đỗ ﺒ";
        let missing = unifont::get_glyph('\u{FFFD}').unwrap();
        for c in names.nfc().filter(|c| *c != ' ') {
            let glyph = unifont::get_glyph(c).unwrap();
            assert!(glyph != missing, "{c}");
        }
        assert_eq!((cells('山'), cells('A')), (2, 1));
        assert!(glyph('\u{20BB7}') == Some(missing));
    }

    #[test]
    fn right_to_left_is_turned_and_numbers_are_not() {
        assert_eq!(shown("שלום 12", 40, 1), ["12 םולש"]);
        assert_eq!(shown("ID (אב)", 40, 1), ["ID (בא)"]);
        assert_eq!(shown("علي", 40, 1), ["\u{FEF2}\u{FEE0}\u{FECB}"]);
    }

    #[test]
    fn marks_stay_with_their_letter() {
        let line = &lines("e\u{301}x\u{331}\u{302} שָ", 40, 1)[0];
        assert_eq!(line[0], Cluster { base: 'é', marks: vec![] });
        assert_eq!(line[1].marks, ['\u{331}', '\u{302}']);
        assert_eq!(line[3].marks, ['\u{5B8}']);
        assert!(clusters(&format!("a{}", "\u{331}".repeat(100)))[0].marks.len() <= MAX_MARKS);
    }

    #[test]
    fn long_texts_are_broken_and_cut() {
        assert_eq!(shown("one two three", 8, 9), ["one two", "three"]);
        assert_eq!(shown("abcdefghij", 4, 9), ["abcd", "efgh", "ij"]);
        assert_eq!(shown("abcdefghij", 4, 2), ["abcd", "ef…"]);
        assert_eq!(shown("山田太郎", 4, 9), ["山田", "太郎"]);
        assert_eq!(shown("山田", 1, 9), Vec::<String>::new());
        assert_eq!(shown("a\tb\u{0}c\u{202E}d", 9, 1), ["a b cd"]);
    }

    #[test]
    fn pixels_stay_in_their_cells() {
        let line = &lines("W山x\u{331}", 40, 1)[0];
        let mut right = 0;
        pixels(line, |x, y| {
            assert!(y < HEIGHT);
            right = right.max(x);
        });
        assert!((25..32).contains(&right));
    }
}
