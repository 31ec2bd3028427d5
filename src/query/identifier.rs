//! The keys of a C-FIND identifier (PS3.4 §C.2.2.2), as what a query of a search asks.
//!
//! Holds: a key without a value, or with `*` alone, is only returned; all else means what the same
//! value of a parameter means.

use super::{
    QueryError, Resource, SearchQuery, names::is_creator, names_tags, parameters::Parameters,
    understand,
};
use crate::{
    archive::SearchTag,
    config::SearchConfig,
    dicom::{Tag, json},
};

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The attribute, behind the sequences that it is in.
    pub path: Vec<Tag>,
    /// What it has to match; values are separated by backslashes.
    pub value: String,
}

impl Key {
    fn is_universal(&self) -> bool {
        let unpadded = self.value.trim_matches([' ', '\0']);
        unpadded.chars().all(|c| c == '*') && !self.path.last().is_some_and(|tag| is_creator(*tag))
    }

    fn name(&self) -> String {
        self.path.iter().map(|tag| json::name(*tag)).collect::<Vec<_>>().join(".")
    }
}

/// All keys of an identifier.
#[derive(Debug)]
pub struct Asks(Parameters);

impl Asks {
    /// Reads them.
    ///
    /// # Errors
    /// The key that breaks a rule, by its tag.
    pub fn of(keys: &[Key]) -> Result<Self, QueryError> {
        let mut parameters = Parameters::default();
        for key in keys {
            match key.is_universal() {
                true => parameters.field(key.name(), key.path.clone())?,
                false => parameters.attribute(&key.name(), key.path.clone(), &key.value)?,
            }
        }
        Ok(Self(parameters))
    }

    /// Whether they may name extended query tags.
    pub fn may_name_tags(&self) -> bool {
        names_tags(&self.0)
    }

    /// What they ask at a resource. `tags`: the extended query tags of the scope.
    ///
    /// # Errors
    /// As [`Asks::of`].
    pub fn understand(
        &self,
        resource: &Resource,
        config: &SearchConfig,
        tags: &[SearchTag],
    ) -> Result<SearchQuery, QueryError> {
        understand(resource, &self.0, config, tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        archive::Condition,
        dicom::{attributes::Level, matching::Test},
    };

    fn key(path: &[(u16, u16)], value: &str) -> Key {
        Key { path: path.iter().map(|(g, e)| Tag(*g, *e)).collect(), value: value.to_owned() }
    }

    fn understood(keys: &[Key]) -> Result<SearchQuery, QueryError> {
        let resource = Resource { level: Level::Study, study: None, series: None };
        Asks::of(keys)?.understand(&resource, &SearchConfig::default(), &[])
    }

    #[test]
    fn keys_without_a_value_are_returned_and_others_match() {
        let query = understood(&[
            key(&[(0x0010, 0x0020)], "P1"),
            key(&[(0x0008, 0x0020)], ""),
            key(&[(0x0008, 0x1030)], "*"),
            key(&[(0x0008, 0x0061)], "CT\\MR"),
        ])
        .unwrap();
        assert_eq!(query.plan.conditions.len(), 2);
        assert!(query.plan.conditions.iter().any(|condition| matches!(
            condition,
            Condition::ModalitiesInStudy(tests) if tests.len() == 2
        )));
        assert!(query.plan.conditions.iter().any(|condition| matches!(
            condition,
            Condition::Column { column: "patient_id", test: Test::Equals(id), .. } if id == "P1"
        )));
        for tag in [Tag(0x0008, 0x0020), Tag(0x0008, 0x1030), Tag(0x0010, 0x0020)] {
            assert!(query.returned.tags.contains(&tag), "{tag}");
        }
    }

    #[test]
    fn a_value_that_is_none_is_named_by_its_tag() {
        let error = understood(&[key(&[(0x0008, 0x0020)], "2024-13")]).unwrap_err();
        assert_eq!(error.field, "00080020");
        let error = understood(&[key(&[(0x0010, 0x0020), (0x0010, 0x0020)], "1")]).unwrap_err();
        assert_eq!(error.field, "00100020.00100020");
    }
}
