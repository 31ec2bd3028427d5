//! The parameters of a search, told apart: what pages, switches, includes, and what matches.
//!
//! Holds: a known parameter with a bad value is a 400 that names the parameter and the rule; an
//! unknown one is noted as ignored. Absent: what values ask of attributes ([`super::values`]).

use super::{
    names::{self, Creators},
    values::Ways,
};
use crate::{
    dicom::{Tag, VR, attributes, normalise},
    query::{Naming, QueryError},
};

/// Matching parameters that one request may have.
const MAX_KEYS: usize = 64;

/// Attributes that one request may include by name.
const MAX_FIELDS: usize = 1_000;

const TIMEZONE: Tag = Tag(0x0008, 0x0201);
const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);

/// The parameters of one search.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// What is matched.
    pub(super) keys: Vec<Matched>,
    /// The creators of private attributes.
    pub(super) creators: Creators,
    /// What is included, as typed and as tags.
    pub(super) fields: Vec<(String, Vec<Tag>)>,
    /// `includefield=all`.
    pub(super) all: bool,
    /// TimezoneOffsetFromUTC, in minutes.
    pub(super) zone: Option<i32>,
    /// Whether TimezoneOffsetFromUTC was there.
    pub(super) zone_named: bool,
    /// The ways of matching.
    pub(super) ways: Ways,
    /// `incompletetags=true`: extended query tags are used while they are being indexed.
    pub(super) incomplete: bool,
    /// Most results.
    pub(super) limit: Option<i64>,
    /// Results to leave out.
    pub(super) offset: Option<i64>,
    /// Parameters without meaning here.
    pub(super) ignored: Vec<String>,
}

/// A parameter that matches an attribute.
#[derive(Debug)]
pub(super) struct Matched {
    /// As typed.
    pub(super) name: String,
    /// The attribute.
    pub(super) path: Vec<Tag>,
    /// Its value; of lists, all that were given.
    pub(super) values: Vec<String>,
}

impl Parameters {
    pub(super) fn read(query: &str) -> Result<Self, QueryError> {
        let mut read = Self::default();
        let partitions = Naming::of(query);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            // What names partitions is read where the request is admitted.
            if !partitions.has(&name) {
                read.parameter(&name, &value, partitions)?;
            }
        }
        if read.all && !read.fields.is_empty() {
            return Err(QueryError::invalid(
                "includefield",
                "with `all` there can be no other includefield (PS3.18 §8.3.4.3)",
            ));
        }
        Ok(read)
    }

    fn parameter(&mut self, name: &str, value: &str, partitions: Naming) -> Result<(), QueryError> {
        match name {
            "limit" => set_count("limit", &mut self.limit, value),
            "offset" => set_count("offset", &mut self.offset, value),
            "includefield" => self.include(value, partitions),
            "fuzzymatching" => switch(name, &mut self.ways.fuzzy, value),
            "emptyvaluematching" => switch(name, &mut self.ways.empty, value),
            "multiplevaluematching" => switch(name, &mut self.ways.multiple, value),
            "incompletetags" => switch(name, &mut self.incomplete, value),
            // Read where the request is negotiated.
            "accept" | "charset" => Ok(()),
            _ => match names::path(name) {
                Some(path) => self.attribute(name, path, value),
                None => {
                    self.ignored.push(name.to_owned());
                    Ok(())
                }
            },
        }
    }

    fn include(&mut self, value: &str, partitions: Naming) -> Result<(), QueryError> {
        for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            if field == "all" {
                self.all = true;
                continue;
            }
            // In every result already, where partitions are on.
            if partitions.has(field) {
                continue;
            }
            let Some(path) = names::path(field) else {
                return Err(QueryError::invalid(
                    "includefield",
                    "attributes by keyword or 8 hexadecimal digits, with dots between those of a \
                     path, or `all` (PS3.18 §8.3.4.3)",
                ));
            };
            self.field(field.to_owned(), path)?;
        }
        Ok(())
    }

    /// Takes an attribute that is only returned.
    pub(super) fn field(&mut self, name: String, path: Vec<Tag>) -> Result<(), QueryError> {
        if self.fields.len() >= MAX_FIELDS {
            return Err(QueryError::invalid("includefield", "at most 1000 attributes"));
        }
        self.fields.push((name, path));
        Ok(())
    }

    /// Takes an attribute that is matched.
    pub(super) fn attribute(
        &mut self,
        name: &str,
        path: Vec<Tag>,
        value: &str,
    ) -> Result<(), QueryError> {
        let refuse = |rule: &'static str| Err(QueryError::invalid(name.to_owned(), rule));
        let once = "an attribute can be matched once (PS3.18 §8.3.4.1)";
        if path == [TIMEZONE] {
            if std::mem::replace(&mut self.zone_named, true) {
                return refuse(once);
            }
            return self.timezone(name, value);
        }
        if path.last().is_some_and(|tag| names::is_creator(*tag)) {
            let creator = normalise::text(value)
                .map_err(|invalid| QueryError::invalid(name.to_owned(), invalid.to_string()))?;
            return match creator.is_empty() || self.creators.add(name, path, creator) {
                true => Ok(()),
                false => refuse(once),
            };
        }
        if let Some(known) = self.keys.iter_mut().find(|key| key.path == path) {
            if !is_list(&path) {
                return refuse(once);
            }
            known.values.push(value.to_owned());
            return Ok(());
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(QueryError::bad_request("a search can match at most 64 attributes"));
        }
        let (name, values) = (name.to_owned(), vec![value.to_owned()]);
        self.keys.push(Matched { name, path, values });
        Ok(())
    }

    fn timezone(&mut self, name: &str, value: &str) -> Result<(), QueryError> {
        // A plus sign that was not escaped is a space in a query.
        let zone = value.strip_prefix(' ').map(|digits| format!("+{digits}"));
        let zone = zone.as_deref().unwrap_or(value).trim();
        if zone.chars().all(|c| c == '*') {
            return Ok(());
        }
        self.zone = normalise::offset(zone);
        match self.zone {
            Some(_) => Ok(()),
            None => Err(QueryError::invalid(
                name.to_owned(),
                "an offset from UTC, +HHMM or -HHMM, the plus sign written as %2B \
                 (PS3.3 §C.12.1.1.8)",
            )),
        }
    }
}

/// Whether an attribute is matched by a list, which may also be given one by one.
fn is_list(path: &[Tag]) -> bool {
    path == [MODALITIES_IN_STUDY]
        || path.last().is_some_and(|tag| attributes::vr_of(*tag) == Some(VR::UI))
}

fn switch(name: &str, slot: &mut bool, value: &str) -> Result<(), QueryError> {
    match value {
        "true" => *slot = true,
        "false" => *slot = false,
        _ => return Err(QueryError::invalid(name.to_owned(), "`true` or `false`")),
    }
    Ok(())
}

fn set_count(name: &'static str, slot: &mut Option<i64>, value: &str) -> Result<(), QueryError> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let count = if digits { Some(value.parse().unwrap_or(i64::MAX)) } else { None };
    match (count, slot.is_some()) {
        (Some(count), false) => {
            *slot = Some(count);
            Ok(())
        }
        (Some(_), true) => Err(QueryError::invalid(name, "can be given once")),
        (None, _) => Err(QueryError::invalid(name, "a whole number from 0")),
    }
}
