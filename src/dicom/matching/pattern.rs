//! Wildcard matching (PS3.4 §C.2.2.2.4) in time that grows with the text alone, whatever the pattern:
//! all places of the pattern that the text could be at are followed at once, as bits.

use std::collections::BTreeMap;

/// Places that one word of bits holds.
const BITS: usize = u64::BITS as usize;

/// Whether all of `text` matches `pattern`: `*` any characters, `?` any one.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut places = Places::of(pattern);
    for c in text.chars() {
        places.step(c);
        if places.at.iter().all(|word| *word == 0) {
            return false;
        }
    }
    places.ended()
}

/// The places of a pattern that a text can be at: before each character that is not a star, and
/// behind the last.
struct Places {
    /// Where the text is.
    at: Vec<u64>,
    /// Places with a star, where the text may stay whatever comes.
    stars: Vec<u64>,
    /// Places before a `?`.
    any: Vec<u64>,
    /// Places before each other character.
    before: BTreeMap<char, Vec<u64>>,
    /// The place behind the last.
    last: usize,
}

impl Places {
    fn of(pattern: &str) -> Self {
        let last = pattern.chars().filter(|c| *c != '*').count();
        let empty = vec![0; last / BITS + 1];
        let mut places = Self {
            at: empty.clone(),
            stars: empty.clone(),
            any: empty.clone(),
            before: BTreeMap::new(),
            last,
        };
        set(&mut places.at, 0);
        let mut place = 0;
        for c in pattern.chars() {
            match c {
                '*' => set(&mut places.stars, place),
                '?' => set(&mut places.any, place),
                c => set(places.before.entry(c).or_insert_with(|| empty.clone()), place),
            }
            place += usize::from(c != '*');
        }
        places
    }

    fn step(&mut self, c: char) {
        let before = self.before.get(&c);
        let mut carried = 0;
        for (n, at) in self.at.iter_mut().enumerate() {
            let word = |words: &[u64]| words.get(n).copied().unwrap_or(0);
            let takes = word(&self.any) | before.map_or(0, |words| word(words));
            let gone = *at & takes;
            *at = (gone << 1) | carried | (*at & word(&self.stars));
            carried = gone >> (BITS - 1);
        }
    }

    fn ended(&self) -> bool {
        self.at.get(self.last / BITS).is_some_and(|word| word >> (self.last % BITS) & 1 == 1)
    }
}

fn set(words: &mut [u64], place: usize) {
    if let Some(word) = words.get_mut(place / BITS) {
        *word |= 1 << (place % BITS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule, word for word.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            (['*', rest @ ..], text) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            (['?', rest @ ..], [_, text @ ..]) => naive(rest, text),
            ([c, rest @ ..], [d, text @ ..]) => c == d && naive(rest, text),
            (_, []) => false,
        }
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "", false),
            ("sm*th?", "smith", false),
            ("sm*th?", "smithé", true),
            ("*a*", "bab", true),
            ("a**", "a", true),
            ("*山?", "x山田", true),
            ("a*b", "ab\n", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        // More places than a word has bits; and what makes a matcher that tries again stand still.
        let long = "ab".repeat(200);
        assert!(matches(&long, &long));
        assert!(matches(&format!("{}*?", &long[..399]), &long));
        assert!(!matches(&format!("{long}?"), &long));
        assert!(!matches(&"a*".repeat(250), &"a".repeat(249)));
        assert!(!matches(&format!("{}b", "*a".repeat(120)), &"a".repeat(60_000)));
    }

    proptest! {
        #[test]
        fn as_the_naive_matcher(pattern in "[ab?*]{0,8}", text in "[abc]{0,12}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }
    }
}
