//! Texts of every character set, by the examples of PS3.5.

use proptest::prelude::*;

use super::*;

fn decode(term: &str, bytes: &[u8], text: Text) -> String {
    Charset::from_value(term.as_bytes()).0.decode(bytes, text).into_owned()
}

#[test]
fn terms() {
    use CharsetProblem::*;
    let check = |value: &str, same_as: &str, problem: Option<CharsetProblem>| {
        let (charset, found) = Charset::from_value(value.as_bytes());
        assert_eq!(charset, Charset::from_value(same_as.as_bytes()).0, "{value:?}");
        assert_eq!(found, problem, "{value:?}");
    };
    for right in [
        "",
        "ISO_IR 6",
        "ISO_IR 100",
        "ISO_IR 101",
        "ISO_IR 109",
        "ISO_IR 110",
        "ISO_IR 144",
        "ISO_IR 127",
        "ISO_IR 126",
        "ISO_IR 138",
        "ISO_IR 148",
        "ISO_IR 203",
        "ISO_IR 13",
        "ISO_IR 166",
        "ISO_IR 192",
        "GB18030",
        "GBK",
        "ISO 2022 IR 6",
        "ISO 2022 IR 100",
        "ISO 2022 IR 101",
        "ISO 2022 IR 109",
        "ISO 2022 IR 110",
        "ISO 2022 IR 144",
        "ISO 2022 IR 127",
        "ISO 2022 IR 126",
        "ISO 2022 IR 138",
        "ISO 2022 IR 148",
        "ISO 2022 IR 203",
        "ISO 2022 IR 13",
        "ISO 2022 IR 166",
        "ISO 2022 IR 87",
        "ISO 2022 IR 159",
        "ISO 2022 IR 149",
        "ISO 2022 IR 58",
        "\\ISO 2022 IR 87",
        "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159",
        "ISO_IR 100 ",
        "ISO_IR 192\0",
    ] {
        check(right, right, None);
    }
    check("ISO 2022 IR 100", "ISO_IR 100", None);
    check("ISO IR 100", "ISO_IR 100", Some(Misspelt));
    check("ISO-IR 192", "ISO_IR 192", Some(Misspelt));
    check("ISO_IR_100", "ISO_IR 100", Some(Misspelt));
    check("ISO_IR 58", "ISO 2022 IR 58", Some(Misspelt));
    check("ISO 2022 58", "ISO 2022 IR 58", Some(Misspelt));
    check("ISO 2022 GBK", "GBK", Some(Misspelt));
    check("iso_ir 144", "ISO_IR 144", Some(Misspelt));
    check("ISO2022-IR-87", "", Some(Misspelt));
    check("UTF-8", "ISO_IR 192", Some(Misspelt));
    check("ISO 8859-1", "ISO_IR 100", Some(Misspelt));
    check("ISO_IR 999", "", Some(Unknown));
    check("ISO_IR 192 and much more", "", Some(Unknown));
    check("ISO_IR 192\\ISO 2022 IR 87", "ISO_IR 192", Some(StandAlone));
    check("ISO_IR 100\\GB18030", "ISO_IR 100", Some(StandAlone));
    check("ISO_IR 100\\nonsense", "ISO_IR 100", Some(Unknown));
    check(&"\\ISO 2022 IR 87".repeat(100), "", Some(Unknown));
}

#[test]
fn single_byte_sets() {
    let check = |term: &str, bytes: &[u8], expect: &str| {
        assert_eq!(decode(term, bytes, Text::Plain), expect, "{term}");
    };
    check("", b"Buc^J\xe9r\xf4me", "Buc^Jérôme");
    check("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme");
    check("ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa");
    check("ISO_IR 109", b"\xa9\xb9 \xb5", "İı µ");
    check("ISO_IR 110", b"J\xe3nis K\xf2rkl\xbf", "Jãnis Kōrklŋ");
    check("ISO_IR 144", b"\xbb\xee\xda", "Люк");
    check("ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea", "قباني");
    check("ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος");
    check("ISO_IR 138", b"\xf9\xf8\xe5\xef", "שרון");
    check("ISO_IR 148", b"\xc7avu\xfeo\xf0lu", "Çavuşoğlu");
    check("ISO_IR 203", b"\xa4 \xbd", "€ œ");
    check("ISO_IR 166", b"\xb9\xd2\xc2", "นาย");
    // C1 control characters are no Windows code page's letters.
    check("ISO_IR 100", b"\x80\x9f", "\u{80}\u{9f}");
    check("ISO_IR 148", b"\x80\x9f", "\u{80}\u{9f}");
    check("ISO_IR 166", b"\x80\x85", "\u{80}\u{85}");
    // Nothing is assigned there.
    check("ISO_IR 109", b"a\xa5b", "a\u{fffd}b");
    check("ISO_IR 192", b"a\xffb", "a\u{fffd}b");
    check("ISO_IR 192", "Wang^XiaoDong=王^小東".as_bytes(), "Wang^XiaoDong=王^小東");
    check("GB18030", b"Wang=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang=王^小东");
    check("GBK", b"\xcd\xf5\\\x81\x5c", "王\\乗");
}

#[test]
fn japanese() {
    let name = |term: &str, bytes: &[u8], expect: &str| {
        assert_eq!(decode(term, bytes, Text::PersonName), expect, "{term}");
    };
    // PS3.5 Annex H.3.1 and H.3.2.
    name(
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    );
    name(
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    );
    // JIS X 0212.
    name("\\ISO 2022 IR 159", b"\x1b$(D\x30\x21\x1b(B", "丂");
    // Shift JIS under the name of its subset.
    name("ISO_IR 13", b"\x8eR\x93c", "山田");
    // Signs of JIS X 0208 that differ from Microsoft's.
    name("ISO 2022 IR 87", b"\x1b$B!A!B!]!q!r\"L\x1b(B", "〜‖−¢£¬");
    // ISO-IR 14 has a yen sign and an overline.
    assert_eq!(decode("ISO_IR 13", b"\\100~", Text::Plain), "¥100‾");
    assert_eq!(decode("", b"\x1b(J\\100~", Text::Plain), "¥100~");
    // A delimiter ends a kanji run that was not ended by an escape sequence.
    assert_eq!(decode("ISO 2022 IR 87", b"\x1b$B;3\r\nab", Text::Plain), "山\r\nab");
    // Half a character, and one that does not exist.
    assert_eq!(decode("ISO 2022 IR 87", b"\x1b$B;\x1b(Ba", Text::Plain), "\u{fffd}a");
    assert_eq!(decode("ISO 2022 IR 87", b"\x1b$B\x7e\x7e\x1b(Ba", Text::Plain), "\u{fffd}a");
}

#[test]
fn korean_and_chinese() {
    let name = |term: &str, bytes: &[u8], expect: &str| {
        assert_eq!(decode(term, bytes, Text::PersonName), expect, "{term}");
    };
    // PS3.5 Annex I.2.
    name(
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    );
    // The escape sequence left out after the delimiter, or everywhere.
    name("\\ISO 2022 IR 149", b"\x1b$)C\xc8\xab^\xb1\xe6\xb5\xbf", "홍^길동");
    name("ISO 2022 IR 149", b"\xc8\xab^\xb1\xe6\xb5\xbf", "홍^길동");
    // PS3.5 Annex K.2.
    name("\\ISO 2022 IR 58", b"Zhang=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang=张^小东");
    name("\\ISO 2022 IR 149", b"\x1b$)C\xc8\x80a", "\u{fffd}\u{fffd}a");
}

#[test]
fn delimiters_reset_to_the_first_value() {
    let greek = b"\xe4\x1b-F\xc4\xe9\xef\xed";
    let check = |delimiter: &str, text, resets| {
        let mut bytes = greek.to_vec();
        bytes.extend_from_slice(delimiter.as_bytes());
        bytes.push(0xE4);
        let end = if resets { "ä" } else { "δ" };
        let expect = format!("äΔιον{delimiter}{end}");
        let terms = "ISO 2022 IR 100\\ISO 2022 IR 126";
        assert_eq!(decode(terms, &bytes, text), expect, "{delimiter:?}");
    };
    for delimiter in ["\\", "\r", "\n", "\u{c}", "\t", "\u{b}"] {
        check(delimiter, Text::Plain, true);
        check(delimiter, Text::PersonName, true);
    }
    for delimiter in ["^", "="] {
        check(delimiter, Text::Plain, false);
        check(delimiter, Text::PersonName, true);
    }
    check(" ", Text::PersonName, false);
}

#[test]
fn unknown_escape_sequences_stay() {
    assert_eq!(decode("ISO_IR 100", b"a\x1b%Gb\x1b", Text::Plain), "a\u{1b}%Gb\u{1b}");
    assert_eq!(decode("ISO_IR 192", b"a\x1b(Bb", Text::Plain), "a\u{1b}(Bb");
}

#[test]
fn values_split_outside_characters_only() {
    let check = |term: &str, bytes: &[u8], expect: &[&str]| {
        let (charset, _) = Charset::from_value(term.as_bytes());
        let values: Vec<_> =
            charset.values(bytes).map(|v| charset.decode(v, Text::Plain)).collect();
        assert_eq!(values, expect, "{term} {bytes:x?}");
    };
    check("", b"", &[""]);
    check("", b"a", &["a"]);
    check("", b"a\\b\\", &["a", "b", ""]);
    check("", b"\\\\", &["", "", ""]);
    check("ISO_IR 192", "é\\ü".as_bytes(), &["é", "ü"]);
    check("GBK", b"\x81\x5c\\\xcd\xf5", &["乗", "王"]);
    check("GB18030", b"\x81\x30\x81\x30\\a", &["\u{80}", "a"]);
    check("ISO_IR 13", b"\xd4\\\xcf\\\x83\\", &["ﾔ", "ﾏ", "ソ"]);
    // The second byte of the first character, and the first of the second, are 0x5C.
    check("\\ISO 2022 IR 87", b"\x1b$BN\\\\N\x1b(B\\b", &["瑠槊", "b"]);
    // Half a character hides no escape sequence.
    check("\\ISO 2022 IR 87", b"\x1b$BN\x1b(B\\b", &["\u{fffd}", "b"]);
    check("\\ISO 2022 IR 149", b"\x1b$)C\xc8\xab\\\x1b$)C\xb1\xe6", &["홍", "길"]);
}

proptest! {
    #[test]
    fn any_bytes_decode(
        term in prop::sample::select(vec![
            "", "ISO_IR 100", "ISO_IR 13", "ISO_IR 192", "GB18030", "ISO_IR 166",
            "ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 149", "ISO 2022 IR 58",
        ]),
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    &b"\x1b$B"[..], b"\x1b(J", b"\x1b)I", b"\x1b$)C", b"\x1b$(D", b"\x1b-F", b"\\",
                    b"\x1b", b"^", b"\r\n",
                ]).prop_map(<[u8]>::to_vec),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..12,
        ),
    ) {
        let bytes = pieces.concat();
        let (charset, _) = Charset::from_value(term.as_bytes());
        let mut length = 0;
        for value in charset.values(&bytes) {
            charset.decode(value, Text::PersonName);
            length += value.len() + 1;
        }
        prop_assert_eq!(length, bytes.len() + 1);
        charset.decode(&bytes, Text::Plain);
    }

    #[test]
    fn ascii_is_ascii(text in "[ -~]{0,40}") {
        for term in ["", "ISO_IR 100", "ISO_IR 192", "GBK", "\\ISO 2022 IR 87", "ISO 2022 IR 149"] {
            prop_assert_eq!(&decode(term, text.as_bytes(), Text::Plain), &text);
        }
    }

    #[test]
    fn any_term_parses(value in prop::collection::vec(any::<u8>(), 0..40)) {
        Charset::from_value(&value);
    }
}
