//! A structured report (PS3.3 §C.17.3) as what is to be shown of it: facts about the document, and
//! its content items in their order.
//!
//! Holds: the tree of content is walked once, as it nests; relationships by reference are shown as
//! links between items and never followed, so that there are no cycles. Nothing is left out in
//! silence: a report that is too long is an error.

use super::{
    CONTENT, Links, RenderError, SOP_CLASS,
    value::{self, Places, Run},
};
use crate::dicom::{Tag, data_set::Item, uid};

const CONCEPT: Tag = Tag(0x0040, 0xA043);
const CONCEPT_CODE: Tag = Tag(0x0040, 0xA168);
const RELATIONSHIP: Tag = Tag(0x0040, 0xA010);
const VALUE_TYPE: Tag = Tag(0x0040, 0xA040);
const REFERENCED_ITEM: Tag = Tag(0x0040, 0xDB73);

/// Content items of a report.
const MAX_ENTRIES: usize = 100_000;

/// Bytes of all texts of a report.
const MAX_TEXT: usize = 8 << 20;

/// Characters of a name that is repeated where something refers to its item.
const MAX_NAME: usize = 80;

/// Levels of content. JSON that nests deeper is not read.
const MAX_DEPTH: usize = 64;

const TOO_LONG: RenderError = RenderError::Unsupported("a report of this size");

/// What is shown of a document.
pub(super) struct Report {
    pub title: String,
    /// A language tag, if the report says in which language it is (RFC 5646).
    pub language: Option<String>,
    /// Facts about the document: what, and its value.
    pub facts: Vec<(&'static str, String)>,
    pub entries: Vec<Entry>,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A container with a name: what follows deeper is under it.
    Heading,
    /// A content item.
    Item,
    /// What says more about the item above, or in which context it was observed.
    Context,
}

/// A content item.
pub(super) struct Entry {
    /// Levels from the root: 0 for its children.
    pub depth: usize,
    pub role: Role,
    /// Its place in the tree: `1.2.3` for the third child of the second child of the root.
    pub place: String,
    pub name: String,
    pub value: Vec<Run>,
}

impl Report {
    /// The report in a data set.
    pub(super) fn of(header: Item<'_>, links: &Links) -> Result<Self, RenderError> {
        let mut report = Self::cover(header);
        let places = Places::of(header, links);
        let mut walk = Walk { links, places, entries: Vec::new(), bytes: 0, language: None };
        walk.children(header, 0, "1")?;
        let Walk { entries, language, .. } = walk;
        report.entries = entries;
        report.language = language;
        report.resolve(header);
        Ok(report)
    }

    /// Title and facts alone.
    pub(super) fn cover(header: Item<'_>) -> Self {
        let class = value::plain(header, SOP_CLASS).unwrap_or_default();
        let kind = uid::name_of(&class).map(|name| name.trim_end_matches(" Storage").to_owned());
        let title = value::code(header, CONCEPT)
            .or_else(|| value::plain(header, Tag(0x0042, 0x0010)))
            .or_else(|| kind.clone())
            .unwrap_or_else(|| "Document".into());
        Self { title, language: None, facts: facts(header, kind), entries: Vec::new() }
    }

    /// Gives links to other items the names of those.
    fn resolve(&mut self, header: Item<'_>) {
        for entry in &mut self.entries {
            for run in &mut entry.value {
                if let Run::Link { text, href } = run
                    && let Some(place) = href.strip_prefix("#item-")
                    && let Some(name) = name_at(header, place)
                {
                    *text = format!("{name} ({place})");
                }
            }
        }
    }
}

/// The name of the content item at a place.
fn name_at(root: Item<'_>, place: &str) -> Option<String> {
    let mut item = root;
    for number in place.split('.').skip(1) {
        let index = number.parse::<usize>().ok()?.checked_sub(1)?;
        item = item.item(CONTENT, index)?;
    }
    // Short: any number of items may refer to one whose name is long.
    value::code(item, CONCEPT).map(|name| name.chars().take(MAX_NAME).collect())
}

/// Facts about the document, in the order in which people look for them.
fn facts(header: Item<'_>, kind: Option<String>) -> Vec<(&'static str, String)> {
    let text = |group, element| value::plain(header, Tag(group, element));
    let names = |group, element| value::names(header, Tag(group, element));
    let date = |group, element| text(group, element).map(|text| value::date(&text));
    let moment = |day: Tag, clock: Tag| {
        let clock = value::plain(header, clock).map(|text| value::time(&text));
        value::plain(header, day)
            .map(|day| [value::date(&day), clock.unwrap_or_default()].join(" ").trim().to_owned())
    };
    let facts = [
        ("Patient", names(0x0010, 0x0010)),
        ("Patient ID", text(0x0010, 0x0020)),
        ("Birth date", date(0x0010, 0x0030)),
        ("Sex", text(0x0010, 0x0040)),
        ("Study", text(0x0008, 0x1030)),
        ("Study date", moment(Tag(0x0008, 0x0020), Tag(0x0008, 0x0030))),
        ("Accession number", text(0x0008, 0x0050)),
        ("Referring physician", names(0x0008, 0x0090)),
        ("Series", text(0x0008, 0x103E)),
        ("Institution", text(0x0008, 0x0080)),
        ("Manufacturer", text(0x0008, 0x0070)),
        ("Document", kind),
        ("Content date", moment(Tag(0x0008, 0x0023), Tag(0x0008, 0x0033))),
        ("Observed", text(0x0040, 0xA032).map(|text| value::date_time(&text))),
        ("Completion", completion(header)),
        ("Preliminary or final", text(0x0040, 0xA496)),
        ("Verification", text(0x0040, 0xA493)),
        ("Verified by", people(header, Tag(0x0040, 0xA073), Tag(0x0040, 0xA075))),
        ("Author", people(header, Tag(0x0040, 0xA078), Tag(0x0040, 0xA123))),
        ("Replaces", predecessors(header)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn completion(header: Item<'_>) -> Option<String> {
    let flag = value::plain(header, Tag(0x0040, 0xA491))?;
    Some(match value::plain(header, Tag(0x0040, 0xA492)) {
        Some(description) => format!("{flag}: {description}"),
        None => flag,
    })
}

/// Those who verified or wrote the document: name, organization, when.
fn people(header: Item<'_>, sequence: Tag, name: Tag) -> Option<String> {
    let person = |item: Item<'_>| {
        let organization = value::plain(item, Tag(0x0040, 0xA027));
        let organization = organization.or_else(|| value::plain(item, Tag(0x0008, 0x0080)));
        let when = value::plain(item, Tag(0x0040, 0xA030)).map(|when| value::date_time(&when));
        let parts = [value::names(item, name), organization, when];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let all: Vec<String> =
        header.items(sequence).map(person).filter(|text| !text.is_empty()).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn predecessors(header: Item<'_>) -> Option<String> {
    let mut uids = Vec::new();
    for study in header.items(Tag(0x0040, 0xA360)) {
        for series in study.items(Tag(0x0008, 0x1115)) {
            let instances = series.items(Tag(0x0008, 0x1199));
            uids.extend(instances.filter_map(|i| value::plain(i, Tag(0x0008, 0x1155))));
        }
    }
    (!uids.is_empty()).then(|| uids.join("; "))
}

struct Walk<'a> {
    links: &'a Links,
    places: Places,
    entries: Vec<Entry>,
    /// Bytes of texts so far.
    bytes: usize,
    language: Option<String>,
}

impl Walk<'_> {
    fn children(&mut self, of: Item<'_>, depth: usize, place: &str) -> Result<(), RenderError> {
        for (at, item) in of.items(CONTENT).enumerate() {
            let place = format!("{place}.{}", at + 1);
            let shown = self.entry(item, depth, &place)?;
            let is_deepest = depth + 1 >= MAX_DEPTH && item.has(CONTENT);
            if is_deepest {
                return Err(RenderError::Unsupported("a report that nests as deep"));
            }
            self.children(item, if shown { depth + 1 } else { depth }, &place)?;
        }
        Ok(())
    }

    /// Adds an item; `false` where it has nothing to show but what it holds.
    fn entry(&mut self, item: Item<'_>, depth: usize, place: &str) -> Result<bool, RenderError> {
        let value_type = value::plain(item, VALUE_TYPE).unwrap_or_default();
        let relation = value::plain(item, RELATIONSHIP).unwrap_or_default();
        let named = value::code(item, CONCEPT);
        if depth == 0 && value::is_code(item, CONCEPT, "121049", "DCM") {
            self.language = value::code_value(item, CONCEPT_CODE).filter(|tag| is_language(tag));
        }
        let role = match (&*value_type, &*relation) {
            ("CONTAINER", _) if named.is_some() => Role::Heading,
            (_, "HAS CONCEPT MOD" | "HAS OBS CONTEXT" | "HAS ACQ CONTEXT") => Role::Context,
            _ => Role::Item,
        };
        let value = self.value(item, &value_type);
        let name = named.or_else(|| label(&relation).map(str::to_owned)).unwrap_or_default();
        if name.is_empty() && value.is_empty() {
            return Ok(false);
        }
        self.bytes += place.len() + name.len();
        self.bytes += value.iter().map(|run| run.text().len()).sum::<usize>();
        if self.entries.len() >= MAX_ENTRIES || self.bytes > MAX_TEXT {
            return Err(TOO_LONG);
        }
        self.entries.push(Entry { depth, role, place: place.to_owned(), name, value });
        Ok(true)
    }

    /// The value of a content item (PS3.3 Table C.17.3-7).
    fn value(&self, item: Item<'_>, value_type: &str) -> Vec<Run> {
        let text = |element| value::plain(item, Tag(0x0040, element));
        let of = |text: Option<String>| text.into_iter().map(Run::Text).collect();
        match value_type {
            "TEXT" => of(text(0xA160)),
            "CODE" => of(value::coded(item, CONCEPT_CODE)),
            "NUM" => of(Some(value::measurement(item))),
            "DATETIME" => of(text(0xA120).map(|text| value::date_time(&text))),
            "DATE" => of(text(0xA121).map(|text| value::date(&text))),
            "TIME" => of(text(0xA122).map(|text| value::time(&text))),
            "UIDREF" => of(text(0xA124)),
            "PNAME" => of(value::names(item, Tag(0x0040, 0xA123))),
            "SCOORD" => of(Some(value::graphic(item, 2))),
            "SCOORD3D" => of(Some(value::graphic(item, 3))),
            "TCOORD" => of(Some(value::temporal(item))),
            "COMPOSITE" | "IMAGE" | "WAVEFORM" => {
                let mut runs = Vec::new();
                let shown = value_type != "WAVEFORM";
                value::references(item, shown, &self.places, self.links, &mut runs);
                runs
            }
            "CONTAINER" => Vec::new(),
            "TABLE" => of(Some("a table".into())),
            "" if item.has(REFERENCED_ITEM) => {
                let numbers: Vec<_> = item.texts(REFERENCED_ITEM).collect();
                let place = numbers.join(".");
                let is_place = place.bytes().all(|b| b.is_ascii_digit() || b == b'.');
                let href = format!("#item-{place}");
                vec![if is_place {
                    Run::Link { text: place, href }
                } else {
                    Run::Text("another item".into())
                }]
            }
            _ => of(Some("a value of a kind that is not shown".into())),
        }
    }
}

/// What a relationship means where the item has no name (PS3.3 §C.17.3.2.4).
fn label(relation: &str) -> Option<&'static str> {
    Some(match relation {
        "SELECTED FROM" => "Selected from",
        "INFERRED FROM" => "Inferred from",
        "HAS PROPERTIES" => "Property",
        "HAS OBS CONTEXT" => "Observation context",
        "HAS ACQ CONTEXT" => "Acquisition context",
        "HAS CONCEPT MOD" => "Modifier",
        _ => return None,
    })
}

/// Whether a text could be a language tag: what it says ends up in `lang`.
fn is_language(tag: &str) -> bool {
    (2..=35).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
