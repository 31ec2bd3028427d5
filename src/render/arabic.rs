//! Arabic letters in the forms that joined writing gives them.
//!
//! Owns shaping for a font that has the forms as characters of their own (Unicode's Arabic
//! Presentation Forms), for Arabic, Persian, Urdu and their neighbours, with lam-alef. Absent:
//! order of writing ([`super::font`]).

use std::{collections::HashMap, sync::OnceLock};

use unicode_normalization::UnicodeNormalization;

use super::font::Cluster;

/// Isolated, final, initial and medial form; a letter that joins only to the right has two.
type Forms = Vec<char>;

struct Table {
    letters: HashMap<char, Forms>,
    /// Lam and an alef: isolated and final form.
    pairs: HashMap<(char, char), Forms>,
}

const TATWEEL: char = '\u{640}';

/// The forms stand side by side in Unicode, each normalising to its letter.
fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let blocks = [
            '\u{FB50}'..='\u{FBB1}',
            '\u{FBD3}'..='\u{FBE7}',
            '\u{FBFC}'..='\u{FBFF}',
            '\u{FE80}'..='\u{FEFC}',
        ];
        let mut table = Table { letters: HashMap::new(), pairs: HashMap::new() };
        for form in blocks.into_iter().flatten() {
            let letters: Vec<char> = form.nfkc().collect();
            match *letters {
                [letter] if letter != form => table.letters.entry(letter).or_default().push(form),
                [lam, alef] => table.pairs.entry((lam, alef)).or_default().push(form),
                _ => {}
            }
        }
        table
    })
}

/// Replaces letters, in the order they are read, by their forms.
pub(super) fn shape(clusters: &mut Vec<Cluster>) {
    if !clusters.iter().any(|cluster| ('\u{621}'..='\u{6D3}').contains(&cluster.base)) {
        return;
    }
    let table = table();
    let forms = |letter: char| table.letters.get(&letter);
    let joins_on = |letter: char| letter == TATWEEL || forms(letter).is_some_and(|f| f.len() == 4);
    let joins_back =
        |letter: char| letter == TATWEEL || forms(letter).is_some_and(|f| f.len() >= 2);
    let mut shaped: Vec<Cluster> = Vec::with_capacity(clusters.len());
    let mut before = false;
    let mut rest = clusters.drain(..).peekable();
    while let Some(mut cluster) = rest.next() {
        let letter = cluster.base;
        let next = rest.peek().map(|next| next.base);
        let joined = usize::from(before);
        if let Some(pair) = next.and_then(|next| table.pairs.get(&(letter, next))) {
            cluster.base = pair.get(joined).copied().unwrap_or(letter);
            cluster.marks.extend(rest.next().map(|alef| alef.marks).unwrap_or_default());
            before = false;
        } else {
            let on = joins_on(letter) && next.is_some_and(joins_back);
            let joined = if joins_back(letter) { joined } else { 0 };
            let form = 2 * usize::from(on) + joined;
            if let Some(form) = forms(letter).and_then(|forms| forms.get(form)) {
                cluster.base = *form;
            }
            before = joins_on(letter);
        }
        shaped.push(cluster);
    }
    drop(rest);
    *clusters = shaped;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::font::clusters;

    fn shaped(text: &str) -> String {
        let mut clusters = clusters(text);
        shape(&mut clusters);
        clusters.iter().map(|cluster| cluster.base).collect()
    }

    #[test]
    fn letters_join_as_they_are_written() {
        assert_eq!(shaped("محمد"), "\u{FEE3}\u{FEA4}\u{FEE4}\u{FEAA}");
        assert_eq!(shaped("أبجد"), "\u{FE83}\u{FE91}\u{FEA0}\u{FEAA}");
        assert_eq!(shaped("علي"), "\u{FECB}\u{FEE0}\u{FEF2}");
        assert_eq!(shaped("ب ب"), "\u{FE8F} \u{FE8F}");
        assert_eq!(shaped("پگ"), "\u{FB58}\u{FB93}", "Persian letters");
    }

    #[test]
    fn lam_and_alef_are_one_sign() {
        assert_eq!(shaped("لا"), "\u{FEFB}");
        assert_eq!(shaped("سلام"), "\u{FEB3}\u{FEFC}\u{FEE1}");
        assert_eq!(shaped("Latin"), "Latin");
        assert_eq!(shaped("لَا"), "\u{FEFB}", "marks do not part them");
    }
}
