//! Why a query is not understood.

use std::borrow::Cow;

/// A part of a query that breaks a rule. No value of the query is repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct QueryError {
    /// The parameter, as it was written; empty where it is the query as such.
    pub field: Cow<'static, str>,
    /// The rule.
    pub reason: Cow<'static, str>,
}

impl QueryError {
    /// One parameter breaks a rule.
    pub fn invalid(
        field: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// The query as such does.
    pub fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid("", reason)
    }
}
