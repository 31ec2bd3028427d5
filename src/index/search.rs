//! What can be searched for.
//!
//! The words of a search; `driver` chooses how it is answered, `filter` and `candidates` say it in
//! SQL.

use super::RowKey;
use crate::dicom::{
    Uid, VR,
    attributes::{Attribute, Level, Matching},
    matching::{Element, Test},
};

/// What to search for.
#[derive(Clone, Debug)]
pub struct SearchPlan {
    /// What the rows are.
    pub level: Level,
    /// Under which study or series, where the path names one.
    pub within: Within,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Most rows to answer.
    pub limit: i64,
    /// Rows to skip.
    pub offset: i64,
    /// Where an earlier page ended: rows up to and including this one are left out, and `offset`
    /// counts from there.
    pub after: Option<RowKey>,
}

/// The part of the archive that the path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    /// All of it.
    Archive,
    /// One study.
    Study(Uid),
    /// One series of a study.
    Series(Uid, Uid),
}

/// One condition. Values are normalised as the columns are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A search column passes the test.
    Column {
        /// Whose column.
        level: Level,
        /// Its name.
        column: &'static str,
        /// The test.
        test: Test,
    },
    /// Any group of a person name passes the test.
    Name {
        /// Whose column.
        level: Level,
        /// The column of the alphabetic group; the others are named after it.
        column: &'static str,
        /// The test.
        test: Test,
    },
    /// A date and a time column, read as one moment, lie between two moments (PS3.18 §8.3.4.1.1).
    /// Rows without a date do not match; rows without a time match where the date alone decides.
    Moment {
        /// Whose columns.
        level: Level,
        /// The column of the date.
        date: &'static str,
        /// The column of the time.
        time: &'static str,
        /// Date and time of the first moment; none: from the beginning.
        from: Option<(String, String)>,
        /// Date and time of the last moment; none: to the end.
        to: Option<(String, String)>,
        /// Offset of both from UTC, in minutes, where the client said one
        /// (TimezoneOffsetFromUTC): rows that say theirs are compared in UTC.
        offset: Option<i32>,
    },
    /// The study has a series whose modality passes one of the tests.
    ModalitiesInStudy(Vec<Test>),
    /// The study has an instance of one of the SOP classes.
    SopClassesInStudy(Vec<Uid>),
    /// The study has one of these terms: what is made of the beginning of a name (`first_names`).
    Terms(Vec<String>),
    /// One item of the series' Request Attributes Sequence passes all tests.
    Request(Vec<(RequestKey, Test)>),
    /// A value of an extended query tag passes the test.
    Tag {
        /// The tag's id.
        tag: i64,
        /// Its level.
        level: Level,
        /// The test.
        test: Test,
    },
    /// Nothing matches.
    Never,
}

/// A key of (0040,0275) Request Attributes Sequence that Search must match (PS3.18 Table 10.6.1-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKey {
    /// (0040,0009).
    ScheduledProcedureStepId,
    /// (0040,1001).
    RequestedProcedureId,
}

/// An extended query tag as Search sees it in its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchTag {
    /// Its id.
    pub id: i64,
    /// The attribute.
    pub at: Element,
    /// Its value representation.
    pub vr: VR,
    /// The level that its values belong to.
    pub level: Level,
    /// Whether its values can be searched.
    pub state: TagState,
    /// Whether values of some instances could not be indexed.
    pub erroneous: bool,
}

/// Whether the values of an extended query tag can be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagState {
    /// All that is stored has been indexed.
    Ready,
    /// What was stored before the tag is still being indexed.
    Adding,
    /// Switched off by `queryStatus`.
    Disabled,
}

impl Condition {
    /// The conditions that the attribute's column passes `test`; none where it has no column. Words
    /// of a name are one each, whichever words of it they are found in.
    pub fn on(attribute: &'static Attribute, test: Test) -> Vec<Self> {
        let level = attribute.level;
        match (attribute.column, test) {
            (None, _) => Vec::new(),
            (Some((_, Matching::PersonName)), Test::All(tests)) if tests.iter().all(of_words) => {
                tests.into_iter().flat_map(|test| Self::on(attribute, test)).collect()
            }
            (Some((column, Matching::PersonName)), test) => {
                vec![Self::Name { level, column, test }]
            }
            (Some((column, _)), test) => vec![Self::Column { level, column, test }],
        }
    }

    /// The level whose columns it names, where it names any.
    pub(super) fn level(&self) -> Level {
        match self {
            Self::Column { level, .. } | Self::Name { level, .. } | Self::Moment { level, .. } => {
                *level
            }
            Self::Tag { level, .. } => *level,
            Self::Request(_) => Level::Series,
            Self::ModalitiesInStudy(_) | Self::SopClassesInStudy(_) => Level::Study,
            Self::Terms(_) | Self::Never => Level::Study,
        }
    }
}

/// Whether a test of a name asks for words that it must all have.
fn of_words(test: &Test) -> bool {
    match test {
        Test::Fuzzy(_) => true,
        Test::All(tests) => tests.iter().all(of_words),
        _ => false,
    }
}
