//! Whether the values of one attribute match the value of one key (PS3.4 §C.2.2.2), read from the
//! text of the query each time.

use super::{
    model::Content,
    moments::{self, Span},
    names,
};

/// What the request says about matching (PS3.18 §8.3.4.1.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    pub fuzzy: bool,
    pub empty: bool,
    pub multiple: bool,
}

/// Every value matches, also none.
pub fn is_universal(key: &str) -> bool {
    key.chars().all(|c| c == '*')
}

fn has_wildcards(vr: &str) -> bool {
    ["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"].contains(&vr)
}

/// VRs of which several values can be asked for at once.
fn takes_several(vr: &str) -> bool {
    ["AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC", "UI"].contains(&vr)
}

/// Whether a key has a value that its VR can be asked for.
pub fn is_valid(vr: &str, key: &str, how: How) -> bool {
    if is_universal(key) || (how.empty && key == "\"\"") {
        return true;
    }
    let one = |key: &str| match vr {
        "DA" => range_of("DA", key).is_some_and(forward),
        "TM" => range_of("TM", key).is_some(),
        "DT" => range_of("DT", key).is_some_and(forward),
        "UI" => is_uid(key.trim()),
        "AT" => hexadecimal(key.trim()).is_some(),
        "IS" | "SL" | "SS" | "SV" | "UL" | "US" | "UV" => integer(key.trim()).is_some(),
        "DS" | "FD" | "FL" => decimal(key.trim()).is_some(),
        _ => true,
    };
    match vr {
        "UI" => key.split([',', '\\']).all(one),
        _ if how.multiple && takes_several(vr) => key.split('\\').all(one),
        _ => one(key),
    }
}

fn forward((from, to): moments::Ends) -> bool {
    match (from, to) {
        (Some(from), Some(to)) => from <= to,
        _ => true,
    }
}

/// The range that a key of dates or times says.
pub fn range_of(vr: &str, key: &str) -> Option<moments::Ends> {
    let read: fn(&str) -> Option<Span> = match vr {
        "DA" => |text| moments::date(text).map(|first| (first, first + moments::DAY - 1)),
        "TM" => moments::time,
        _ => moments::date_time,
    };
    moments::ends(key, read)
}

/// Whether the attribute matches the key, which is valid.
pub fn passes(vr: &str, key: &str, content: Option<&Content>, how: How) -> bool {
    if is_universal(key) {
        return true;
    }
    if how.empty && key == "\"\"" {
        return content.is_none_or(Content::is_empty);
    }
    let Some(Content::Values(values)) = content else { return false };
    // LT, ST, UR and UT have one value, in which spaces around mean nothing to a search.
    let values: Vec<&str> = values.iter().map(|v| v.trim_matches(' ')).collect();
    let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|v| !v.is_empty() && test(v));
    if vr == "UI" {
        let mut wanted = key.split([',', '\\']).map(str::trim);
        let has = |uid: &str| any(&|value| value == uid);
        return if how.multiple { wanted.all(has) } else { wanted.any(has) };
    }
    if how.multiple && takes_several(vr) && key.contains('\\') {
        return key.split('\\').all(|one| any(&|value| is_one(vr, one.trim(), value, false)));
    }
    if vr == "PN" && how.fuzzy {
        return any(&|value| sounds(key, value));
    }
    any(&|value| is_one(vr, key.trim(), value, has_wildcards(vr)))
}

/// ModalitiesInStudy: of several values any, or each with `multiplevaluematching`.
pub fn passes_list(key: &str, content: Option<&Content>, how: How) -> bool {
    let Some(Content::Values(values)) = content else { return false };
    let mut wanted = key.split([',', '\\']).map(str::trim).filter(|one| !one.is_empty());
    let several = key.contains([',', '\\']);
    if how.empty && key == "\"\"" {
        return values.is_empty();
    }
    if how.multiple && several {
        return wanted.all(|one| values.iter().any(|value| value == one));
    }
    let mut wanted = wanted.peekable();
    wanted.peek().is_none()
        || wanted.any(|one| one == "*" || values.iter().any(|value| like(one, value, true)))
}

/// A name of nothing but wildcards and what divides names asks for none.
pub fn asks_no_name(key: &str, how: How) -> bool {
    match how.fuzzy {
        _ if how.empty && key == "\"\"" => false,
        true => names::words(&names::fold(key)).is_empty(),
        false => key.split('=').all(|group| is_universal(&names::fold(group))),
    }
}

/// Whether one value is meant by one key.
fn is_one(vr: &str, key: &str, value: &str, wildcards: bool) -> bool {
    match vr {
        "DA" | "TM" | "DT" => {
            let number = match vr {
                "DA" => moments::date(value),
                "TM" => moments::time(value).map(|span| span.0),
                _ => moments::date_time(value).map(|span| span.0),
            };
            let ends = range_of(vr, key).expect("a valid key");
            number.is_some_and(|number| moments::within(ends, number))
        }
        "IS" | "SL" | "SS" | "SV" | "UL" | "US" | "UV" => {
            integer(value).is_some() && integer(value) == integer(key)
        }
        "DS" | "FD" => decimal(value).is_some() && decimal(value) == decimal(key),
        // A value of 32 bits is what 32 bits hold of the key's.
        "FL" => {
            let [value, key] = [value, key].map(|text| decimal(text).map(|number| number as f32));
            value.is_some() && value == key
        }
        "AT" => hexadecimal(value).is_some() && hexadecimal(value) == hexadecimal(key),
        "PN" => {
            let groups = names::groups(value);
            let mut wanted = key.split('=').map(names::fold).filter(|group| !group.is_empty());
            wanted.all(|wanted| groups.iter().any(|group| like(&wanted, group, wildcards)))
        }
        _ => like(key, value, wildcards),
    }
}

/// `fuzzymatching`: each word of the key begins some word of the name, or sounds like one.
fn sounds(key: &str, name: &str) -> bool {
    let groups = names::groups(name);
    let words: Vec<&str> = groups.iter().flat_map(|group| names::words(group)).collect();
    let key = names::fold(&key.replace(['*', '?'], ""));
    names::words(&key).into_iter().all(|wanted| {
        let sound = names::sound(wanted);
        let same = |word: &str| sound.is_some() && names::sound(word) == sound;
        words.iter().any(|word| word.starts_with(wanted) || same(word))
    })
}

/// `*` is any text, `?` any character.
fn like(pattern: &str, text: &str, wildcards: bool) -> bool {
    if !wildcards {
        return pattern == text;
    }
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('*') => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| like(rest.as_str(), &text[at..], true))
        }
        Some(c) => {
            let mut text = text.chars();
            text.next().is_some_and(|t| c == '?' || c == t)
                && like(rest.as_str(), text.as_str(), true)
        }
    }
}

fn is_uid(text: &str) -> bool {
    let component = |c: &str| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 64 && text.split('.').all(component)
}

fn integer(text: &str) -> Option<i128> {
    let number = text.parse::<i128>().ok()?;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(number)
}

fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse::<f64>().ok().filter(|number| plain && number.is_finite())
}

fn hexadecimal(text: &str) -> Option<u32> {
    (text.len() == 8).then(|| u32::from_str_radix(text, 16).ok())?
}

#[test]
fn matches_by_hand() {
    let check = |vr, key: &str, values: &[&str], expected: bool| {
        let values = Content::Values(values.iter().map(|&v| v.to_owned()).collect());
        assert_eq!(
            passes(vr, key, Some(&values), How::default()),
            expected,
            "{vr} {key} {values:?}"
        );
    };
    check("LO", "SM*TH?", &["SMITHY"], true);
    check("LO", "SM*TH?", &["SMITH"], false);
    check("LO", "smith", &["SMITH"], false);
    check("CS", "B", &["A", "B"], true);
    check("PN", "muller^j*", &["Müller^Jörg=山田"], true);
    check("PN", "Müller^Jörg=山*", &["MULLER^JORG=山田"], true);
    check("PN", "Müller^Jörg=川*", &["MULLER^JORG=山田"], false);
    check("IS", "007", &[" +7"], true);
    check("DS", "1e2", &["100.0"], true);
    check("TM", "2230", &["223000"], true);
    check("TM", "22-", &["215959.9"], false);
    check("AT", "0010001f", &["0010001F"], true);
    check("AS", "04?Y", &["045Y"], false);
    assert!(passes("LO", "**", None, How::default()));
    assert!(!passes("LO", "?", None, How::default()));
    let empty = How { empty: true, ..How::default() };
    assert!(passes("LO", "\"\"", None, empty) && !passes("LO", "\"\"", None, How::default()));
    let several = How { multiple: true, ..How::default() };
    let content = Content::Values(vec!["A".into(), "B*".into()]);
    assert!(passes("CS", "B*\\A", Some(&content), several));
    assert!(!passes("CS", "B\\A", Some(&content), several));
}
