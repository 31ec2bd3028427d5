//! A search request as its text says it (PS3.18 §8.3.4 and §10.6.1): path and parameters.

use super::{
    known::{self, Level},
    model::Tag,
    moments,
    rules::{self, How},
    search::{MODALITIES_IN_STUDY, QueryTag, SOP_CLASSES_IN_STUDY},
};

/// An attribute inside one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    Standard(Tag),
    Private { group: u16, creator: String, element: u8 },
}

/// A matching key.
#[derive(Clone, Debug)]
pub struct Key {
    /// As it was typed.
    pub name: String,
    /// Sequences, then the attribute.
    pub path: Vec<At>,
    pub value: String,
}

/// The text of a request. Values are not percent-encoded yet.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub parameters: Vec<(String, String)>,
}

/// What it asks.
#[derive(Debug)]
pub struct Request {
    pub level: Level,
    pub partitions: Vec<usize>,
    pub study: Option<String>,
    pub series: Option<String>,
    pub keys: Vec<Key>,
    pub include: Vec<Vec<At>>,
    pub all: bool,
    pub limit: Option<usize>,
    pub offset: usize,
    pub how: How,
    /// TimezoneOffsetFromUTC, in minutes.
    pub zone: Option<i128>,
    /// It is there, with a value or without.
    pub names_zone: bool,
    /// Parameters that mean nothing.
    pub unknown: Vec<String>,
}

impl Asked {
    /// The URL, from the base on.
    pub fn url(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.parameters);
        match self.parameters.is_empty() {
            true => self.path.clone(),
            false => format!("{}?{}", self.path, query.finish()),
        }
    }

    /// Reads the request; the error is the parameter that is refused.
    pub fn read(&self, partitions: &[&str], tags: &[QueryTag]) -> Result<Request, String> {
        let number = |name: &str| partitions.iter().position(|partition| *partition == name);
        let mut request = Request {
            level: Level::Study,
            partitions: (0..partitions.len()).collect(),
            study: None,
            series: None,
            keys: Vec::new(),
            include: Vec::new(),
            all: false,
            limit: None,
            offset: 0,
            how: How::default(),
            zone: None,
            names_zone: false,
            unknown: Vec::new(),
        };
        let mut segments = self.path.split('/').skip(1);
        while let Some(segment) = segments.next() {
            match segment {
                "partitions" => {
                    request.partitions = vec![number(segments.next().unwrap()).unwrap()]
                }
                "studies" => request.study = segments.next().map(str::to_owned),
                "series" => {
                    request.level = Level::Series;
                    request.series = segments.next().map(str::to_owned);
                }
                "instances" => request.level = Level::Instance,
                other => panic!("{other} in {}", self.path),
            }
        }
        for name in ["fuzzymatching", "emptyvaluematching", "multiplevaluematching"] {
            let is_on = self.parameters.contains(&(name.to_owned(), "true".to_owned()));
            match name {
                "fuzzymatching" => request.how.fuzzy = is_on,
                "emptyvaluematching" => request.how.empty = is_on,
                _ => request.how.multiple = is_on,
            }
        }
        let mut lent = Vec::new();
        if let Some((_, list)) = self.parameters.iter().find(|(n, _)| n == "microsoft.partitionId")
        {
            request.partitions = list.split(',').filter_map(number).collect();
        }
        let of = request.partitions.clone();
        let lend = |name: &str| self.attribute(name, tags, &of);
        for (name, value) in &self.parameters {
            match &**name {
                "fuzzymatching" | "emptyvaluematching" | "multiplevaluematching" => {}
                "limit" => request.limit = Some(value.parse().map_err(|_| name.clone())?),
                "offset" => request.offset = value.parse().map_err(|_| name.clone())?,
                "microsoft.partitionId" => {}
                "includefield" => {
                    for field in value.split(',') {
                        if field == "all" {
                            request.all = true;
                            continue;
                        }
                        let lent_path = lend(field).map_err(|_| name.clone())?;
                        let (path, creator) = lent_path.ok_or_else(|| name.clone())?;
                        lent.extend(creator);
                        request.include.push(path);
                    }
                }
                "TimezoneOffsetFromUTC" | "00080201" => {
                    request.names_zone = true;
                    if !rules::is_universal(value) {
                        request.zone =
                            Some(moments::offset(value.trim()).ok_or_else(|| name.clone())?);
                    }
                }
                _ if private(name).is_some_and(|tag| tag.1 <= 0xFF) => {}
                _ => match lend(name)? {
                    None => request.unknown.push(name.clone()),
                    Some((path, creator)) => {
                        lent.extend(creator);
                        request.key(name, path, value)?;
                    }
                },
            }
        }
        // A creator is a parameter that says something of others.
        for (name, _) in &self.parameters {
            if private(name).is_some_and(|tag| tag.1 <= 0xFF)
                && !lent.contains(&name.to_uppercase())
            {
                request.unknown.push(name.clone());
            }
        }
        Ok(request)
    }

    /// The path that a name says, and the name of the creator's parameter that it needs.
    fn attribute(
        &self,
        name: &str,
        tags: &[QueryTag],
        of: &[usize],
    ) -> Result<Option<Named>, String> {
        let mut path = Vec::new();
        let mut lent = None;
        for part in name.split('.') {
            if let Some(known) = known::named(part) {
                path.push(At::Standard(known.tag));
            } else if part == "ModalitiesInStudy" || part == known::hex(MODALITIES_IN_STUDY) {
                path.push(At::Standard(MODALITIES_IN_STUDY));
            } else if part == "SOPClassesInStudy" || part == known::hex(SOP_CLASSES_IN_STUDY) {
                path.push(At::Standard(SOP_CLASSES_IN_STUDY));
            } else if let Some((group, number)) = private(part) {
                let (block, element) = (number >> 8, (number & 0xFF) as u8);
                let parameter = known::hex((group, block));
                let given =
                    self.parameters.iter().find(|(name, _)| name.to_uppercase() == parameter);
                let creator = match given {
                    Some((_, creator)) => creator.trim().to_owned(),
                    None => {
                        let lent = lender(tags, of, group, element);
                        lent.ok_or_else(|| name.to_owned())?
                    }
                };
                lent = given.map(|_| parameter);
                path.push(At::Private { group, creator, element });
            } else {
                return Ok(None);
            }
        }
        Ok(Some((path, lent)))
    }
}

/// The path that a name says, and the name of the creator's parameter that it needs.
type Named = (Vec<At>, Option<String>);

/// The creator that an extended query tag lends.
fn lender(tags: &[QueryTag], of: &[usize], group: u16, element: u8) -> Option<String> {
    let mut seen = tags.iter().filter(|tag| tag.partition.is_none_or(|only| of == [only]));
    seen.find_map(|tag| match &tag.at {
        At::Private { group: g, creator, element: e } if (*g, *e) == (group, element) => {
            Some(creator.clone())
        }
        _ => None,
    })
}

/// A private tag.
fn private(name: &str) -> Option<Tag> {
    let number = (name.len() == 8).then(|| u32::from_str_radix(name, 16).ok())??;
    let tag = ((number >> 16) as u16, number as u16);
    (tag.0 % 2 == 1).then_some(tag)
}

impl Request {
    fn key(&mut self, name: &str, path: Vec<At>, value: &str) -> Result<(), String> {
        let listed = match path.as_slice() {
            [At::Standard(MODALITIES_IN_STUDY)] => Some("CS"),
            [At::Standard(SOP_CLASSES_IN_STUDY)] => Some("UI"),
            _ => None,
        };
        let vr = match (path.last(), listed) {
            (_, Some(vr)) => vr,
            (Some(At::Standard(tag)), _) => known::vr(*tag).unwrap_or("UN"),
            _ => "LO",
        };
        if vr != "SQ" && !rules::is_valid(vr, value, self.how) {
            return Err(name.to_owned());
        }
        // Lists of UIDs and modalities may be spread over several parameters.
        if let Some(key) = self.keys.iter_mut().find(|key| key.path == path) {
            if listed.is_none() && vr != "UI" {
                return Err(name.to_owned());
            }
            key.value = format!("{}\\{value}", key.value);
            return Ok(());
        }
        self.keys.push(Key { name: name.to_owned(), path, value: value.to_owned() });
        Ok(())
    }
}
