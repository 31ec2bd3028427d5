//! The attributes that the index knows: at which level each lives and how Search matches it.

use super::{Tag, VR};

/// A level of the Study Root hierarchy (PS3.4 §C.6.2); patient attributes count to the study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Patient and study attributes.
    Study = 0,
    /// Series attributes.
    Series = 1,
    /// Instance attributes.
    Instance = 2,
}

/// How a search key is matched (PS3.4 §C.2.2.2) and so how its column is typed and normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// UI: equality, lists.
    Uid,
    /// Case-sensitive text with wildcards.
    Text,
    /// PN: folded text (case, accents), with wildcards, by component group.
    PersonName,
    /// DA: single value and range. Column value `YYYYMMDD`.
    Date,
    /// TM: single value and range. Column value `HHMMSS.FFFFFF`, complete.
    Time,
    /// IS: equality by meaning. Column value: canonical decimal.
    Integer,
}

/// One attribute of the index.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// The attribute.
    pub tag: Tag,
    /// Its keyword (PS3.6).
    pub keyword: &'static str,
    /// Its value representation.
    pub vr: VR,
    /// The level that it belongs to.
    pub level: Level,
    /// Returned by Search without being asked for (PS3.18 Tables 10.6.3-3 to -5).
    pub default: bool,
    /// The column that holds its search key and how it matches; `None`: returned, not matched.
    pub column: Option<(&'static str, Matching)>,
}
