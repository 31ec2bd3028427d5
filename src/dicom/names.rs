//! Words and sounds of person names, and the terms under which an index finds them.
//!
//! Owns the rule of [`sound`], and which [`terms`] a name has. Holds: what a search names is told by
//! the same functions as what a name is found under, so that a name that matches has the term that
//! the search looks under. Names are folded ([`super::person_name::fold`]) before they come here.
//! Absent: matching itself.

use std::collections::BTreeSet;

/// Longest beginning of a name or of a word that is a term, and length of the pieces, in characters.
pub const PIECE: usize = 3;

/// The term of a name with too many words for terms of each two. It may stand beside such terms, where
/// a study was told of a longer name, or of the same one under a stricter rule.
pub const UNPAIRED: &str = "p:";

/// Most terms of two words that a name has: those of four words in Latin letters, of three and as many
/// in each of two other scripts, are fewer, and those of five are more.
const MAX_PAIRS: usize = 40;

/// Most words of which it is worth trying.
const MAX_PAIRED: usize = 8;

/// The words of a folded component group: runs of letters and digits of any script.
pub fn words(folded: &str) -> impl Iterator<Item = &str> {
    folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// How a folded word sounds; words that people confuse sound the same. `None`: it has fewer than two
/// letters, or a character that is not one of `a` to `z`.
///
/// The sound is what the letters stand for, read from left to right, the first line that fits:
///
/// | where | letters | stand for |
/// | --- | --- | --- |
/// | at the start | `kn`, `gn`, `pn` | `N` |
/// | at the start | `ps` | `S` |
/// | at the start | `wr` | `R` |
/// | at the start | `a`, `e`, `i`, `o`, `u`, `y` | `A` |
/// | at the start | `h` | `H` |
/// | at the start | `w` | `F` |
/// | anywhere | `sch` | `S` |
/// | anywhere | `tz` | `S` |
/// | anywhere | `dt` | `T` |
/// | anywhere | `ph` | `F` |
/// | not at the start | `gh` | nothing |
/// | anywhere | `c` before `e`, `i`, `y` | `S` |
/// | anywhere | `c`, `q` | `K` |
/// | anywhere | `v` | `F` |
/// | anywhere | `x` | `KS` |
/// | anywhere | `z` | `S` |
/// | not at the start | `a`, `e`, `i`, `o`, `u`, `y`, `h`, `w` | nothing |
/// | anywhere | any other letter | itself, in upper case |
///
/// Of equal ones that follow each other only the first counts, unless letters that stand for nothing
/// lie between them. So `smith`, `smyth`, `smtih` and `schmidt` are all `SMT`, `anna` is `AN` and
/// `nana` is `NN`.
pub fn sound(word: &str) -> Option<String> {
    const AT_START: [(&str, &str); 13] = [
        ("kn", "N"),
        ("gn", "N"),
        ("pn", "N"),
        ("ps", "S"),
        ("wr", "R"),
        ("a", "A"),
        ("e", "A"),
        ("i", "A"),
        ("o", "A"),
        ("u", "A"),
        ("y", "A"),
        ("h", "H"),
        ("w", "F"),
    ];
    const ANYWHERE: [(&str, &str); 4] = [("sch", "S"), ("tz", "S"), ("dt", "T"), ("ph", "F")];
    if word.len() < 2 || !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let mut sound = String::with_capacity(word.len());
    let mut beside = None;
    let mut rest = word;
    while let Some(letter) = rest.chars().next() {
        let at_start = rest.len() == word.len();
        let starts = |(letters, _): &&(&str, &str)| rest.starts_with(*letters);
        let found = AT_START.iter().filter(|_| at_start).find(starts);
        let single = letter.to_ascii_uppercase();
        let mut own = [0; 4];
        let (taken, codes) = match (found.or_else(|| ANYWHERE.iter().find(starts)), letter) {
            (Some((letters, codes)), _) => (letters.len(), *codes),
            (None, 'g') if !at_start && rest.starts_with("gh") => (2, ""),
            (None, 'c') if rest.get(1..).is_some_and(|next| next.starts_with(['e', 'i', 'y'])) => {
                (1, "S")
            }
            (None, 'c' | 'q') => (1, "K"),
            (None, 'v') => (1, "F"),
            (None, 'x') => (1, "KS"),
            (None, 'z') => (1, "S"),
            (None, 'a' | 'e' | 'i' | 'o' | 'u' | 'y' | 'h' | 'w') => (1, ""),
            (None, _) => (1, &*single.encode_utf8(&mut own)),
        };
        for code in codes.chars() {
            if beside != Some(code) {
                sound.push(code);
            }
            beside = Some(code);
        }
        if codes.is_empty() {
            beside = None;
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    Some(sound)
}

/// The terms of a patient's name, of its folded component groups:
///
/// * `n:` and the first one, two and three characters of a group,
/// * `f:` and the first component of a group, all of it,
/// * `w:` and the first one, two and three characters of a word, and all of it,
/// * `t:` and each three characters of a group that follow each other,
/// * `s:` and the sound of a word,
/// * `p:` and each two of its words: [`beginning_beside`], [`sound_beside`].
pub fn terms(groups: [&str; 3]) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    terms.extend(pairs(groups));
    for group in groups {
        let first = group.split('^').next().filter(|first| !first.is_empty());
        terms.extend(first.map(|first| format!("f:{first}")));
        terms.extend(beginnings(group).map(|piece| format!("n:{piece}")));
        terms.extend(pieces(group).map(|piece| format!("t:{piece}")));
        for word in words(group) {
            terms.extend(beginnings(word).chain([word]).map(|piece| format!("w:{piece}")));
            terms.extend(sound(word).map(|sound| format!("s:{sound}")));
        }
    }
    terms
}

/// Terms of each two words of a name, which are the longer the more they tell: of a word and another
/// one, `p:`, the [`beginning`] of the first one, the second one, and all of the first one; of a word
/// and any, itself too, `p:`, the sound of the first one and the second one; of two words, `p:` and
/// the sounds of both, in their order. [`UNPAIRED`] alone where these would be too many.
fn pairs(groups: [&str; 3]) -> BTreeSet<String> {
    let unpaired = || BTreeSet::from([UNPAIRED.to_owned()]);
    let words: BTreeSet<&str> = groups.into_iter().flat_map(words).collect();
    if words.len() > MAX_PAIRED {
        return unpaired();
    }
    let mut pairs = BTreeSet::new();
    for one in &words {
        let sound_of_one = sound(one);
        for other in &words {
            if one != other && one.chars().count() >= PIECE {
                pairs.insert(format!("{} {one}", beginning_beside(one, other)));
            }
            let Some(of_one) = &sound_of_one else { continue };
            pairs.insert(sound_beside(of_one, other));
            if let Some(of_other) = sound(other).filter(|of_other| of_one < of_other) {
                pairs.insert(sound_beside(of_one, &of_other));
            }
        }
    }
    if pairs.len() > MAX_PAIRS { unpaired() } else { pairs }
}

/// How the terms of two words begin whose first one begins so; all of it comes last.
pub fn beginning_beside(start: &str, other: &str) -> String {
    format!("{UNPAIRED}{} {other}", beginning(start))
}

/// How the terms of two words begin whose first one sounds so.
pub fn sound_beside(sound: &str, other: &str) -> String {
    format!("{UNPAIRED}{sound} {other}")
}

/// The terms of a physician's name, who is asked for less often: `rw:` and the first three
/// characters of a word, and all of it; `rs:` and its sound.
pub fn physician_terms(groups: [&str; 3]) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    for word in groups.into_iter().flat_map(words) {
        terms.extend([beginning(word), word].map(|piece| format!("rw:{piece}")));
        terms.extend(sound(word).map(|sound| format!("rs:{sound}")));
    }
    terms
}

/// The first [`PIECE`] characters of a text, or all of a shorter one.
pub fn beginning(text: &str) -> &str {
    beginnings(text).last().unwrap_or_default()
}

/// The pieces of a text: each [`PIECE`] characters of it that follow each other.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.char_indices().map(|(at, _)| at);
    let ends = starts.clone().chain([text.len()]).skip(PIECE);
    starts.zip(ends).filter_map(|(start, end)| text.get(start..end))
}

/// The beginnings of a text of one to [`PIECE`] characters.
fn beginnings(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().take(PIECE).filter_map(|(at, c)| text.get(..at + c.len_utf8()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_where_no_letter_or_digit_is() {
        let check = |text, expect: &[&str]| {
            assert_eq!(words(text).collect::<Vec<_>>(), expect, "{text}");
        };
        check("", &[]);
        check("doe^john q^^dr.", &["doe", "john", "q", "dr"]);
        check("o'neil-smith 3rd", &["o", "neil", "smith", "3rd"]);
        check("山田^太郎", &["山田", "太郎"]);
    }

    #[test]
    fn what_people_confuse_sounds_the_same() {
        for (sounds, confused) in [
            ("SMT", &["smith", "smyth", "smtih", "schmidt", "schmitt", "smithe"][..]),
            ("MR", &["meier", "mayer", "maier", "meyer", "mair"]),
            ("KTRN", &["catherine", "katherine", "kathrin", "katrin", "catharina"]),
            ("MKL", &["michael", "micheal", "mikael"]),
            ("FLP", &["philip", "filip", "phillip", "philippe"]),
            ("JN", &["john", "jonh", "jon", "jane"]),
            ("STFN", &["stephen", "steven", "stefan", "stephan"]),
            ("MLR", &["muller", "mueller", "miller"]),
            ("SLS", &["schulz", "schultz", "schulze"]),
            ("NT", &["knight", "night"]),
            ("RT", &["wright", "write", "right"]),
            ("FKTR", &["viktor", "wiktor", "victor"]),
            ("KRSTN", &["kristina", "christina", "cristina"]),
            ("ALKSNTR", &["alexantra", "aleksantra"]),
            ("AFN", &["yvonne", "ivonne", "evan"]),
            ("HN", &["hannah", "hanna"]),
            ("AN", &["anna", "anne", "ana"]),
            ("NN", &["nana"]),
            ("SS", &["cici", "susi", "zizzi"]),
            ("GSN", &["ghassan"]),
            ("HS", &["hughes"]),
            ("N", &["gnu", "pneu"]),
            ("SKLG", &["psycholoog", "sycolog"]),
        ] {
            for word in confused {
                assert_eq!(sound(word).as_deref(), Some(sounds), "{word}");
            }
        }
        for silent in ["", "a", "j", "Smith", "o'neil", "3rd", "müller", "山田"] {
            assert_eq!(sound(silent), None, "{silent}");
        }
    }

    #[test]
    fn names_have_the_terms_that_searches_look_under() {
        let found: Vec<String> = terms(["li^jose", "李", ""]).into_iter().collect();
        let expect = [
            "f:li",
            "f:李",
            "n:l",
            "n:li",
            "n:li^",
            "n:李",
            "p:JS L",
            "p:JS jose",
            "p:JS li",
            "p:JS 李",
            "p:L jose",
            "p:L li",
            "p:L 李",
            "p:jos li jose",
            "p:jos 李 jose",
            "s:JS",
            "s:L",
            "t:^jo",
            "t:i^j",
            "t:jos",
            "t:li^",
            "t:ose",
            "w:j",
            "w:jo",
            "w:jos",
            "w:jose",
            "w:l",
            "w:li",
            "w:李",
        ];
        assert_eq!(found, expect);
        let found: Vec<String> = physician_terms(["house^gregory", "", "x"]).into_iter().collect();
        assert_eq!(
            found,
            ["rs:GRGR", "rs:HS", "rw:gre", "rw:gregory", "rw:hou", "rw:house", "rw:x",]
        );
        assert_eq!(beginning("ab"), "ab");
        assert_eq!(beginning("äöüß"), "äöü");
        assert_eq!(pieces("ab").count(), 0);
        assert!(terms(["", "", ""]).is_empty());
    }

    #[test]
    fn names_in_three_scripts_have_terms_of_two_words_and_very_long_names_have_not() {
        let pairs = |groups| {
            let terms = terms(groups);
            Vec::from_iter(terms.into_iter().filter(|term| term.starts_with(UNPAIRED)))
        };
        assert_eq!(pairs(["anna^bert^carl^dora", "", ""]).len(), 12 + 16 + 6);
        assert_eq!(pairs(["anna^bert^carl^dora^emil", "", ""]), [UNPAIRED]);
        let japanese = pairs(["yamada^tarou", "山田^太郎", "やまだ^たろう"]);
        assert_eq!(japanese.len(), 4 * 5 + 2 * 6 + 1);
        for term in ["p:yam 太郎 yamada", "p:やまだ tarou やまだ", "p:AMD たろう", "p:AMD TR"]
        {
            assert!(japanese.iter().any(|known| known == term), "{term}: {japanese:?}");
        }
        assert_eq!(pairs(["hong^gildong", "洪^吉洞", "홍^길동"]).len(), 2 * 5 + 2 * 6 + 1);
        // Words that are too short to begin a term have none, however many they are.
        assert_eq!(pairs(["a^b^c^d^e^f^g^h", "", ""]), [""; 0]);
        assert_eq!(pairs(["a^b^c^d^e^f^g^h^i", "", ""]), [UNPAIRED]);
    }

    proptest! {
        #[test]
        fn what_begins_a_word_or_a_name_or_lies_in_it_is_a_term(name in "[a-zé山^ '-]{0,12}") {
            let terms = terms([&name, "", ""]);
            for piece in pieces(&name) {
                prop_assert!(terms.contains(&["t:", piece].concat()));
            }
            if !name.is_empty() {
                prop_assert!(terms.contains(&["n:", beginning(&name)].concat()));
            }
            let several = words(&name).collect::<BTreeSet<_>>();
            for (one, other) in several.iter().flat_map(|one| several.iter().map(move |o| (one, o))) {
                let [of_one, of_other] = [one, other].map(|word| sound(word));
                let has = |start: String| terms.iter().any(|term| term.starts_with(&start));
                let is_paired = one == other || one.chars().count() < PIECE
                    || has(beginning_beside(one, other));
                let is_heard = of_one.as_ref().is_none_or(|of_one| has(sound_beside(of_one, other)));
                let both = of_one.zip(of_other).filter(|(one, other)| one < other);
                let are_heard = both.is_none_or(|(one, other)| has(sound_beside(&one, &other)));
                let all = is_paired && is_heard && are_heard;
                prop_assert!(all || terms.contains(UNPAIRED) && several.len() > 4);
            }
            for word in words(&name) {
                for (at, c) in word.char_indices() {
                    let start = beginning(&word[..at + c.len_utf8()]);
                    prop_assert!(terms.contains(&["w:", start].concat()));
                }
            }
        }

        #[test]
        fn sounds_are_short_and_never_empty(word in "[a-z]{2,20}") {
            let sound = sound(&word).unwrap();
            prop_assert!(!sound.is_empty() && sound.len() <= 2 * word.len());
            prop_assert!(sound.bytes().all(|b| b.is_ascii_uppercase()));
        }
    }
}
