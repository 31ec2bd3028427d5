//! Parameters of queries that may stand once: the same manners for all routes of our own.
//!
//! Holds: a parameter that is there twice, or is not what its rule says, is a 400 that names it; one
//! of another name is not ours to read.

use std::borrow::Cow;

use axum::http::Uri;

use super::problem::Problem;

/// What a flag has to be.
pub const FLAG: &str = "true or false, once";

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The parameters of a query.
pub fn pairs(uri: &Uri) -> impl Iterator<Item = Pair<'_>> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

/// Takes what was read of a parameter; `None`: it is not what the rule says.
///
/// # Errors
/// 400, also where the slot is full.
pub fn once<T>(
    slot: &mut Option<T>,
    value: Option<T>,
    name: &'static str,
    rule: &'static str,
) -> Result<(), Problem> {
    match value.filter(|_| slot.is_none()) {
        Some(value) => *slot = Some(value),
        None => return Err(Problem::invalid(name, rule)),
    }
    Ok(())
}

/// One parameter, where it is there.
///
/// # Errors
/// 400.
pub fn only<T>(
    uri: &Uri,
    name: &'static str,
    rule: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let mut found = None;
    for (_, value) in pairs(uri).filter(|(own, _)| own == name) {
        once(&mut found, read(&value), name, rule)?;
    }
    Ok(found)
}

/// A flag of a query, in so many words: `true` or `false`. Where it is not there, it is `false`.
///
/// # Errors
/// 400.
pub fn is_set(uri: &Uri, name: &'static str) -> Result<bool, Problem> {
    Ok(only(uri, name, FLAG, |text| text.parse().ok())?.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_said_once_and_in_so_many_words() {
        let asked = |query: &str| is_set(&format!("/x?{query}").parse().unwrap(), "now");
        for (query, expected) in
            [("", false), ("now=false", false), ("now=true", true), ("x=1&now=true&NOW=1", true)]
        {
            assert_eq!(asked(query).unwrap(), expected, "{query}");
        }
        for query in ["now", "now=1", "now=TRUE", "now=True", "now=true&now=true", "now=true&now="]
        {
            let problem = asked(query).unwrap_err();
            assert_eq!((problem.status().as_u16(), &*problem.errors()[0].field), (400, "now"));
        }
    }
}
