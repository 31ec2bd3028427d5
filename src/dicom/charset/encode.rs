//! Text into the bytes of a character set, for values that are written into a data set which has
//! one already.
//!
//! Holds: what is encoded decodes to the same text, in the state that a value begins in; no escape
//! sequences are written, so that a set which needs them holds what stands in value 1 alone.

use super::{
    Charset, Kind, Text,
    sets::{G0, G1},
};

impl Charset {
    /// The bytes of `text`, where the character set can hold it.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let bytes = match self.0 {
            Kind::Utf8 => text.as_bytes().to_vec(),
            // What GBK can hold is the same in both, and the name of both is read as one.
            Kind::Gb18030 => {
                let (bytes, _, is_lossy) = encoding_rs::GBK.encode(text);
                (!is_lossy).then(|| bytes.into_owned())?
            }
            Kind::Extended { g0: G0::Ascii, g1: None } => {
                text.is_ascii().then(|| text.as_bytes().to_vec())?
            }
            Kind::Extended { g0: G0::Ascii, g1: Some(G1::Single(set)) } => text
                .chars()
                .map(|character| match u8::try_from(character) {
                    Ok(byte @ 0..=0x7F) => Some(byte),
                    _ => (0xA0..=0xFF).find(|byte| set.character(*byte) == character),
                })
                .collect::<Option<Vec<u8>>>()?,
            Kind::Extended { .. } => text
                .chars()
                .all(|character| character.is_ascii() && !matches!(character, '\\' | '~'))
                .then(|| text.as_bytes().to_vec())?,
        };
        // An escape character would mean something else.
        let is_same = |kind| self.decode(&bytes, kind) == text;
        (!bytes.contains(&super::ESC) && is_same(Text::Plain) && is_same(Text::PersonName))
            .then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn charset(term: &str) -> Charset {
        Charset::from_value(term.as_bytes()).0
    }

    #[test]
    fn text_is_written_as_its_set_has_it() {
        let check = |term: &str, text: &str, expected: Option<&[u8]>| {
            assert_eq!(charset(term).encode(text).as_deref(), expected, "{term} {text}");
        };
        check("", "Doe^Jane", Some(b"Doe^Jane"));
        check("", "M\u{FC}ller", None);
        check("ISO_IR 100", "M\u{FC}ller^\u{C5}sa", Some(b"M\xFCller^\xC5sa"));
        check("ISO_IR 100", "\u{141}ukasz", None);
        check("ISO_IR 101", "\u{141}ukasz", Some(b"\xA3ukasz"));
        check("ISO_IR 192", "\u{141}ukasz", Some("\u{141}ukasz".as_bytes()));
        check("ISO_IR 144", "\u{418}\u{432}\u{430}\u{43D}", Some(b"\xB8\xD2\xD0\xDD"));
        check("GB18030", "\u{738B}^\u{5C0F}\u{4E1C}", Some(b"\xCD\xF5^\xD0\xA1\xB6\xAB"));
        check("ISO_IR 13", "Yamada^Tarou", Some(b"Yamada^Tarou"));
        check("ISO_IR 13", "a\\b", None);
        check("ISO_IR 192", "a\u{1B}b", None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(
            term in prop::sample::select(vec![
                "", "ISO_IR 100", "ISO_IR 101", "ISO_IR 127", "ISO_IR 144", "ISO_IR 166", "ISO_IR 13",
                "ISO_IR 192", "GB18030", "GBK", "\\ISO 2022 IR 87", "ISO 2022 IR 149",
            ]),
            text in "[ -~\u{A0}-\u{FF}\u{100}-\u{17F}\u{410}-\u{44F}\u{E01}-\u{E30}\u{4E00}-\u{4EFF}]{0,12}",
        ) {
            let charset = charset(term);
            if let Some(bytes) = charset.encode(&text) {
                prop_assert_eq!(charset.decode(&bytes, Text::Plain), text);
            }
        }
    }
}
