//! [`KeyTest`]s applied to DICOM JSON: the rules of PS3.4 §C.2.2.2, one data set at a time.
//!
//! Holds: what is not as PS3.18 Annex F has it, or not of the kind of its test, does not match, and
//! nothing panics; the work for one value grows with its length.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Element, KeyTest, Object, Test, Word, pattern};
use crate::dicom::{
    VR,
    attributes::Matching,
    names,
    normalise::{self, FIRST_INSTANT, LAST_INSTANT},
    person_name,
};

/// Longest value of unknown VR that is taken for text, in characters of base64.
const MAX_UNKNOWN: usize = 1024;

impl KeyTest {
    /// Whether a data set, or an item of a sequence, passes.
    pub fn matches(&self, object: &Object<'_>) -> bool {
        match self {
            Self::Value { at, kind, test } => {
                let Some(attribute) = Attribute::find(at, object) else {
                    return test.passes(&[], true);
                };
                test.passes_several(&attribute.values(*kind), attribute.is_empty())
            }
            Self::Untyped { at, tests } => {
                let attribute = Attribute::find(at, object);
                let empty = attribute.as_ref().is_none_or(Attribute::is_empty);
                let kind = attribute.as_ref().and_then(Attribute::kind);
                let values = match (&attribute, kind) {
                    (Some(attribute), Some(kind)) => attribute.values(kind),
                    _ => Vec::new(),
                };
                let is_meant = |of: &Matching| empty || kind == Some(*of);
                tests.iter().any(|(of, test)| is_meant(of) && test.passes_several(&values, empty))
            }
            Self::Moment { date, time, from, to } => {
                let values = |at, kind| {
                    Attribute::find(at, object)
                        .map_or(Vec::new(), |found| found.values(kind).concat())
                };
                let (dates, times) = (values(date, Matching::Date), values(time, Matching::Time));
                // Of several dates, each goes with the time at its place.
                dates.iter().enumerate().any(|(place, date)| {
                    let time = times.get(place).map(String::as_str);
                    after(from.as_ref(), date, time) && before(to.as_ref(), date, time)
                })
            }
            Self::Item { at, tests } => {
                let Some(attribute) = Attribute::find(at, object) else { return false };
                let items = attribute.value.iter().flatten();
                let mut items = items.filter_map(|item| serde_json::from_str(item.get()).ok());
                items.any(|item: Object<'_>| tests.iter().all(|test| test.matches(&item)))
            }
        }
    }

    /// The attribute that it is about: of a pair, the date.
    pub fn at(&self) -> &Element {
        match self {
            Self::Value { at, .. } | Self::Untyped { at, .. } | Self::Item { at, .. } => at,
            Self::Moment { date, .. } => date,
        }
    }
}

fn after(first: Option<&(String, String)>, date: &str, time: Option<&str>) -> bool {
    first.is_none_or(|(day, clock)| {
        // At the first or last instant of its day, an end is about the date alone.
        let is_whole = clock == FIRST_INSTANT;
        date > day.as_str()
            || (date == day && (is_whole || time.is_some_and(|time| clock.as_str() <= time)))
    })
}

fn before(last: Option<&(String, String)>, date: &str, time: Option<&str>) -> bool {
    last.is_none_or(|(day, clock)| {
        let is_whole = clock == LAST_INSTANT;
        date < day.as_str()
            || (date == day && (is_whole || time.is_some_and(|time| clock.as_str() >= time)))
    })
}

impl Test {
    /// Whether the values of an attribute pass, each given by the texts that stand for it: one, or
    /// the component groups of a name. What an [`Test::All`] asks is passed by whichever value; but
    /// what one inside it asks, by one and the same.
    fn passes_several(&self, values: &[Vec<String>], empty: bool) -> bool {
        let by_one = |test: &Self| match values {
            [] => test.passes(&[], empty),
            values => values.iter().any(|value| test.passes(value, empty)),
        };
        match self {
            Self::All(tests) => tests.iter().all(by_one),
            test => by_one(test),
        }
    }

    /// Whether values pass, normalised as the test is. `empty`: there is no value at all, rather
    /// than none that could be normalised.
    pub fn passes(&self, values: &[String], empty: bool) -> bool {
        let any = |passes: &dyn Fn(&str) -> bool| values.iter().any(|value| passes(value));
        match self {
            Self::Empty => empty,
            Self::All(tests) => tests.iter().all(|test| test.passes(values, empty)),
            Self::Any(tests) => tests.iter().any(|test| test.passes(values, empty)),
            Self::Equals(wanted) => any(&|value| value == wanted),
            Self::AnyOf(wanted) => any(&|value| wanted.iter().any(|wanted| wanted == value)),
            Self::Like(pattern) => any(&|value| pattern::matches(pattern, value)),
            Self::Range { from, to } => any(&|value| {
                from.as_deref().is_none_or(|from| from <= value)
                    && to.as_deref().is_none_or(|to| value <= to)
            }),
            Self::Fuzzy(word) => any(&|value| names::words(value).any(|of| word.is(of))),
        }
    }
}

impl Word {
    /// Whether a word of a name begins with it, or sounds the same.
    fn is(&self, word: &str) -> bool {
        let sounds = || self.sound.is_some() && names::sound(word) == self.sound;
        word.starts_with(&self.text) || sounds()
    }
}

/// An attribute of the DICOM JSON Model (PS3.18 §F.2.2), its values not looked into yet.
#[derive(Deserialize)]
struct Attribute<'a> {
    vr: Option<&'a str>,
    #[serde(rename = "Value", borrow)]
    value: Option<Vec<&'a RawValue>>,
    #[serde(rename = "InlineBinary")]
    inline: Option<&'a str>,
    #[serde(rename = "BulkDataURI", borrow)]
    bulk: Option<&'a RawValue>,
}

impl<'a> Attribute<'a> {
    fn find(at: &Element, object: &Object<'a>) -> Option<Self> {
        /// Not empty, and without values that could match.
        const BROKEN: Attribute<'_> =
            Attribute { vr: None, value: None, inline: Some("broken"), bulk: None };
        let (_, attribute) = at.find(object)?;
        Some(serde_json::from_str(attribute.get()).unwrap_or(BROKEN))
    }

    fn is_empty(&self) -> bool {
        let none = self.value.iter().flatten().all(|value| value.get() == "null");
        none && self.inline.is_none_or(str::is_empty) && self.bulk.is_none()
    }

    /// How the attribute is matched by what its data set says of it. What came without a VR is
    /// taken for text, which most private attributes are.
    fn kind(&self) -> Option<Matching> {
        match self.vr?.parse().ok()? {
            VR::UN => Some(Matching::Text),
            vr => Matching::of(vr),
        }
    }

    /// Its values as keys of a kind, a name as those of its groups; those that are none are left
    /// out.
    fn values(&self, kind: Matching) -> Vec<Vec<String>> {
        let one = |key: Option<String>| key.map(|key| vec![key]);
        let mut keys = Vec::new();
        if let Some(text) = self.unknown() {
            keys.extend(text.split('\\').filter_map(|value| one(key(kind, value))));
        }
        for value in self.value.iter().flatten() {
            match kind {
                Matching::PersonName => keys.push(groups(value.get())),
                Matching::Integer | Matching::Decimal => {
                    // A number; or text, where a DS or IS is none that JSON could say.
                    let text = string(value.get()).unwrap_or(Cow::Borrowed(value.get()));
                    keys.extend(one(kind.normalise(&text).ok()));
                }
                _ => keys.extend(string(value.get()).and_then(|text| one(key(kind, &text)))),
            }
        }
        keys.retain(|key| !key.is_empty());
        keys
    }

    /// The text of a short value that came without a VR.
    fn unknown(&self) -> Option<String> {
        let inline = self.inline.filter(|_| self.vr == Some("UN"))?;
        if inline.len() > MAX_UNKNOWN {
            return None;
        }
        String::from_utf8(STANDARD.decode(inline).ok()?).ok()
    }
}

/// A text as a key. Unlike in the index, it may be long and have several lines (LT, ST, UT).
fn key(kind: Matching, text: &str) -> Option<String> {
    let key = match kind {
        Matching::Text => normalise::unpadded(text).to_owned(),
        kind => kind.normalise(text).ok()?,
    };
    (!key.is_empty()).then_some(key)
}

/// The text of a JSON string.
fn string(json: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    if !json.starts_with('"') {
        return None;
    }
    serde_json::from_str(json).ok().map(|Text(text)| text)
}

/// The component groups of a person name, folded.
fn groups(json: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Name<'a> {
        #[serde(rename = "Alphabetic", borrow)]
        alphabetic: Option<Cow<'a, str>>,
        #[serde(rename = "Ideographic", borrow)]
        ideographic: Option<Cow<'a, str>>,
        #[serde(rename = "Phonetic", borrow)]
        phonetic: Option<Cow<'a, str>>,
    }
    let Ok(name) = serde_json::from_str::<Name<'_>>(json) else { return Vec::new() };
    let groups = [name.alphabetic, name.ideographic, name.phonetic].into_iter().flatten();
    groups.map(|group| person_name::fold(&group)).filter(|group| !group.is_empty()).collect()
}

#[cfg(test)]
mod tests;
