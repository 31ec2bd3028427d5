//! What the resources of who may do what have in common: bodies, paths, refusals.
//!
//! Holds: all that is wrong with a body is told at once, by member, and no value is repeated.

use std::borrow::Cow;

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{
    admit::{Admitted, Asks},
    json_body, place,
    problem::Problem,
    query,
};
use crate::{
    archive::ArchiveError,
    control::{AccessRefusal, By},
    tenancy::{PartitionScope, Permission, Permissions, Role},
};

/// Most roles of one principal, key or policy.
const MOST_ROLES: usize = 32;

/// What a list of roles has to be.
pub const ROLES: &str = "a list of up to 32 names of roles that the partition has, each once";
/// What a list of permissions has to be.
pub const PERMISSIONS: &str = "a list of permissions of partitions, such as \"studies.retrieve\"";
/// What an issuer has to be.
pub const ISSUER: &str =
    "the name that an issuer has in the server's configuration, or certificate";
/// What a moment has to be.
pub const MOMENT: &str = "a date and time to come with its zone, such as 2031-01-31T12:00:00Z";

/// A body, member by member.
pub struct Fields {
    object: Map<String, Value>,
    wrong: Vec<(&'static str, Cow<'static, str>)>,
}

impl Fields {
    /// The members of an object, which may be these alone.
    ///
    /// # Errors
    /// 400.
    pub fn of(body: Value, known: &[&'static str]) -> Result<Self, Problem> {
        let Value::Object(object) = body else {
            return Err(Problem::bad_request("the body is not an object"));
        };
        let object = json_body::members(object);
        let is_known = |name: &String| known.iter().any(|known| known.eq_ignore_ascii_case(name));
        if !object.keys().all(is_known) {
            let known = known.join(", ");
            return Err(Problem::bad_request(format!("the members are: {known}")));
        }
        Ok(Self { object, wrong: Vec::new() })
    }

    /// A member, where it is there and as the rule says.
    pub fn take<T>(
        &mut self,
        name: &'static str,
        rule: impl Into<Cow<'static, str>>,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.object.get(&name.to_ascii_lowercase())?;
        let found = read(value);
        if found.is_none() {
            self.wrong.push((name, rule.into()));
        }
        found
    }

    /// A member that has to be there; a placeholder where it is not, which [`Fields::end`] refuses.
    pub fn need<T: Default>(
        &mut self,
        name: &'static str,
        rule: impl Into<Cow<'static, str>>,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> T {
        if !self.object.contains_key(&name.to_ascii_lowercase()) {
            self.wrong.push((name, "has to be there".into()));
        }
        self.take(name, rule, read).unwrap_or_default()
    }

    /// Tells everything that is wrong.
    ///
    /// # Errors
    /// 400.
    pub fn end(self) -> Result<(), Problem> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        let problem = Problem::bad_request("parts of the request are not valid");
        let add = |problem: Problem, (name, rule)| problem.with_error(name, rule);
        Err(self.wrong.into_iter().fold(problem, add))
    }
}

/// A text of so many characters at the most, none of them a control character.
pub fn text(longest: usize) -> impl Fn(&Value) -> Option<String> {
    move |value| {
        let text = value.as_str()?;
        let is_plain = text.chars().count() <= longest && !text.chars().any(char::is_control);
        is_plain.then(|| text.to_owned())
    }
}

/// As [`text`], and not empty.
pub fn name(longest: usize) -> impl Fn(&Value) -> Option<String> {
    let text = text(longest);
    move |value| text(value).filter(|text| !text.trim().is_empty())
}

/// Names of roles.
pub fn roles(value: &Value) -> Option<Vec<Box<str>>> {
    let listed = value.as_array().filter(|listed| listed.len() <= MOST_ROLES)?;
    let mut found: Vec<Box<str>> = Vec::new();
    for one in listed {
        let name =
            one.as_str().filter(|name| is_role(name) && !found.iter().any(|f| **f == **name))?;
        found.push(name.into());
    }
    Some(found)
}

/// Names of permissions that partitions have.
pub fn permissions(value: &Value) -> Option<Permissions> {
    let listed = value.as_array().filter(|listed| listed.len() <= Permission::ALL.len())?;
    let read = |one: &Value| Permission::of(one.as_str()?);
    let all: Permissions = listed.iter().map(read).collect::<Option<_>>()?;
    all.is_within(Role::PartitionAdmin.permits()).then_some(all)
}

/// A moment to come, or none where it is `null`.
pub fn moment_to_come(value: &Value) -> Option<Option<OffsetDateTime>> {
    if value.is_null() {
        return Some(None);
    }
    let at = OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()?;
    (at > OffsetDateTime::now_utc() && at.year() <= 9998).then_some(Some(at))
}

/// Whether a text can be the name of a role.
pub fn is_role(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len())
        && name.bytes().all(inner)
        && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
}

/// `?force=true`.
///
/// # Errors
/// 400.
pub fn insists(uri: &Uri) -> Result<bool, Problem> {
    query::is_set(uri, "force")
}

/// Who changes something, and where.
pub fn by<A: Asks<Scope = PartitionScope>>(caller: &Admitted<A>, insists: bool) -> By<'_> {
    let (who, around) = (&caller.caller.who, &caller.caller.around);
    By { scope: &caller.scope, who, around, insists, name: None }
}

/// A segment of a path that is an id.
///
/// # Errors
/// 400.
pub async fn id<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &'static str,
) -> Result<Uuid, Problem> {
    let text = place::segment(parts, state, name).await?;
    let rule = "a UUID, with or without dashes";
    Uuid::parse_str(&text).map_err(|_| Problem::invalid(name, rule))
}

/// Defines the id that a path has under a name.
macro_rules! id_of {
    ($(#[$doc:meta])* $type:ident, $name:literal) => {
        $(#[$doc])*
        pub struct $type(uuid::Uuid);

        impl<S: Send + Sync> axum::extract::FromRequestParts<S> for $type {
            type Rejection = $crate::http::problem::Problem;

            async fn from_request_parts(
                parts: &mut axum::http::request::Parts,
                state: &S,
            ) -> Result<Self, Self::Rejection> {
                $crate::http::managing::id(parts, state, $name).await.map(Self)
            }
        }
    };
}
pub(super) use id_of;

/// `{role}` of a path: the name of a role.
pub struct RoleName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for RoleName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = place::segment(parts, state, "role").await?;
        let rule = "up to 64 characters of a-z, 0-9 and '-', beginning with a letter";
        if is_role(&text) { Ok(Self(text)) } else { Err(Problem::invalid("role", rule)) }
    }
}

/// What `force` means.
const FORCE: &str = "true says that it is meant so";

impl From<AccessRefusal> for Problem {
    fn from(refusal: AccessRefusal) -> Self {
        let said = refusal.to_string();
        match refusal {
            AccessRefusal::NotFound => Self::not_found(),
            AccessRefusal::UnknownRole => Self::invalid("roles", ROLES),
            AccessRefusal::Empty => Self::invalid("roles", said),
            AccessRefusal::Beyond => Self::forbidden(said),
            AccessRefusal::LastKeeper | AccessRefusal::LocksOut => {
                Self::conflict(said).with_error("force", FORCE)
            }
            AccessRefusal::Exists
            | AccessRefusal::BuiltIn
            | AccessRefusal::InUse
            | AccessRefusal::NoSessions => Self::conflict(said),
            AccessRefusal::TooMany { limit } => {
                Self::bad_request(format!("a partition has at most {limit} of these"))
            }
            AccessRefusal::Index(error) => ArchiveError::from(error).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_member_without_the_value() {
        let body = json!({"NAME": "SECRET\u{0}", "roles": ["SECRET"]});
        let mut fields = Fields::of(body, &["name", "roles", "issuer"]).unwrap();
        let name: Option<String> = fields.take("name", "a text", text(8));
        assert_eq!(name, None);
        assert_eq!(fields.take("roles", ROLES, roles), None);
        assert_eq!(fields.need("issuer", "a text", text(8)), "");
        let problem = fields.end().unwrap_err();
        let told: Vec<&str> = problem.errors().iter().map(|error| &*error.field).collect();
        assert_eq!(told, ["name", "roles", "issuer"]);
        let text = format!("{} {:?}", problem.detail(), problem.errors());
        assert!(!text.contains("SECRET"), "{text}");
        assert!(Fields::of(json!({"SECRET": 1}), &["name"]).is_err());
        assert!(Fields::of(json!([]), &["name"]).is_err());
    }

    #[test]
    fn lists_are_of_what_partitions_have() {
        assert_eq!(roles(&json!(["reader", "x-1"])).unwrap().len(), 2);
        let many: Vec<String> = (0..33).map(|n| format!("r{n}")).collect();
        for wrong in [
            json!("reader"),
            json!(["reader", "reader"]),
            json!(["Reader"]),
            json!([1]),
            json!(many),
        ] {
            assert_eq!(roles(&wrong), None, "{wrong}");
        }
        let all = permissions(&json!(["studies.retrieve", "audit.read"])).unwrap();
        assert_eq!(all, Permissions::of(&[Permission::Retrieve, Permission::ReadAudit]));
        for wrong in
            [json!(["partitions.manage"]), json!(["metrics.read"]), json!(["x"]), json!({})]
        {
            assert_eq!(permissions(&wrong), None, "{wrong}");
        }
        assert_eq!(moment_to_come(&json!(null)), Some(None));
        assert!(moment_to_come(&json!("2999-01-01T00:00:00Z")).is_some());
        for wrong in [json!("1999-01-01T00:00:00Z"), json!("2999-01-01"), json!(7)] {
            assert_eq!(moment_to_come(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn force_is_said_once() {
        let asked = |query: &str| insists(&format!("/x{query}").parse().unwrap());
        assert!(!asked("").unwrap() && asked("?force=true").unwrap());
        assert!(!asked("?force=false&limit=7").unwrap());
        for wrong in ["?force", "?force=1", "?force=true&force=true"] {
            assert_eq!(asked(wrong).unwrap_err().status(), 400, "{wrong}");
        }
    }
}
