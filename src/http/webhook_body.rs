//! What may be said of a webhook, by who adds or changes one.
//!
//! Holds: all that is wrong is told at once, by member, and no value is repeated. Absent: whether
//! the URL may be called (`outbound`).

use serde_json::{Map, Value};

use super::{json_body::members, problem::Problem};
use crate::archive::{FeedAction, WebhookSettings, WebhookStart};

/// Longest description, in characters.
const LONGEST: usize = 256;

/// What somebody wants a webhook to be; members that were not sent are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The URL, as it was written.
    pub url: Option<String>,
    description: Option<String>,
    actions: Option<Vec<FeedAction>>,
    is_enabled: Option<bool>,
    start: Option<WebhookStart>,
}

impl Change {
    /// Reads the body of a request to add a webhook.
    ///
    /// # Errors
    /// 400 with everything that is wrong.
    pub fn adding(body: Value) -> Result<Self, Problem> {
        let change = Self::read(body, &["url", "description", "actions", "from"])?;
        if change.url.is_none() {
            return Err(Problem::invalid("url", "has to be there"));
        }
        Ok(change)
    }

    /// Reads the body of a request to change one.
    ///
    /// # Errors
    /// As [`Change::adding`].
    pub fn changing(body: Value) -> Result<Self, Problem> {
        Self::read(body, &["url", "description", "actions", "state"])
    }

    fn read(body: Value, known: &[&'static str]) -> Result<Self, Problem> {
        let Value::Object(object) = body else {
            return Err(Problem::bad_request("the body is not an object"));
        };
        let object = members(object);
        if object.keys().any(|name| !known.contains(&name.as_str())) {
            let known = known.join(", ");
            return Err(Problem::bad_request(format!("the members are: {known}")));
        }
        let mut wrong = Vec::new();
        let change = Self {
            url: of(&object, "url", "a text", text, &mut wrong),
            description: of(
                &object,
                "description",
                "a text of up to 256 characters without control characters",
                |value| text(value).filter(|text| is_plain(text)),
                &mut wrong,
            ),
            actions: of(
                &object,
                "actions",
                "a list of \"create\", \"update\" and \"delete\", each once at most, not empty",
                actions,
                &mut wrong,
            ),
            is_enabled: of(&object, "state", "\"enabled\" or \"disabled\"", state, &mut wrong),
            start: of(
                &object,
                "from",
                "\"now\", \"beginning\", or the last sequence that the receiver knows",
                start,
                &mut wrong,
            ),
        };
        if wrong.is_empty() {
            return Ok(change);
        }
        let problem = Problem::bad_request("parts of the request are not valid");
        let add = |problem: Problem, (name, rule)| problem.with_error(name, rule);
        Err(wrong.into_iter().fold(problem, add))
    }

    /// From where on it is to be told.
    pub fn start(&self) -> WebhookStart {
        self.start.unwrap_or(WebhookStart::Now)
    }

    /// A new webhook that is so, at a URL that may be called.
    pub fn settings(self, url: String) -> WebhookSettings {
        WebhookSettings {
            url,
            description: self.description.unwrap_or_default(),
            actions: self.actions.unwrap_or_else(|| FeedAction::ALL.to_vec()),
            is_enabled: self.is_enabled.unwrap_or(true),
        }
    }

    /// Changes what is said of a webhook.
    pub fn apply(self, settings: &mut WebhookSettings) {
        if let Some(url) = self.url {
            settings.url = url;
        }
        if let Some(description) = self.description {
            settings.description = description;
        }
        if let Some(actions) = self.actions {
            settings.actions = actions;
        }
        if let Some(is_enabled) = self.is_enabled {
            settings.is_enabled = is_enabled;
        }
    }
}

/// A member, where it is there and as the rule says.
fn of<T>(
    object: &Map<String, Value>,
    name: &'static str,
    rule: &'static str,
    read: impl FnOnce(&Value) -> Option<T>,
    wrong: &mut Vec<(&'static str, &'static str)>,
) -> Option<T> {
    let value = object.get(name)?;
    let found = read(value);
    if found.is_none() {
        wrong.push((name, rule));
    }
    found
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn is_plain(text: &str) -> bool {
    text.chars().count() <= LONGEST && !text.chars().any(char::is_control)
}

fn actions(value: &Value) -> Option<Vec<FeedAction>> {
    let listed = value.as_array()?;
    let mut found = Vec::new();
    for word in listed.iter().take(FeedAction::ALL.len() + 1) {
        let action = FeedAction::of(&word.as_str()?.to_ascii_lowercase())?;
        if found.contains(&action) {
            return None;
        }
        found.push(action);
    }
    Some(found).filter(|found| !found.is_empty())
}

fn state(value: &Value) -> Option<bool> {
    match value.as_str()?.to_ascii_lowercase().as_str() {
        "enabled" => Some(true),
        "disabled" => Some(false),
        _ => None,
    }
}

fn start(value: &Value) -> Option<WebhookStart> {
    match value {
        Value::Number(number) => {
            number.as_i64().filter(|sequence| *sequence >= 0).map(WebhookStart::After)
        }
        Value::String(word) if word.eq_ignore_ascii_case("now") => Some(WebhookStart::Now),
        Value::String(word) if word.eq_ignore_ascii_case("beginning") => {
            Some(WebhookStart::After(0))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_is_read() {
        let body = json!({"URL": "https://a.example/", "actions": ["delete", "Create"], "from": 7});
        let change = Change::adding(body).unwrap();
        assert_eq!(change.start(), WebhookStart::After(7));
        let settings = change.settings("https://a.example/".to_owned());
        assert_eq!(settings.actions, [FeedAction::Delete, FeedAction::Create]);
        assert!(settings.is_enabled && settings.description.is_empty());
        let plain = Change::adding(json!({"url": "x"})).unwrap();
        assert_eq!(plain.start(), WebhookStart::Now);
        assert_eq!(plain.settings(String::new()).actions.len(), 3);
        for (word, start) in [("now", WebhookStart::Now), ("beginning", WebhookStart::After(0))] {
            let change = Change::adding(json!({"url": "x", "from": word})).unwrap();
            assert_eq!(change.start(), start);
        }
        let mut changed = settings.clone();
        Change::changing(json!({})).unwrap().apply(&mut changed);
        assert_eq!(changed, settings);
        let body = json!({"state": "disabled", "description": "d", "actions": ["update"]});
        Change::changing(body).unwrap().apply(&mut changed);
        assert_eq!((changed.is_enabled, &*changed.description), (false, "d"));
        assert_eq!(changed.actions, [FeedAction::Update]);
        assert_eq!(changed.url, settings.url);
    }

    #[test]
    fn what_is_wrong_is_told_by_member_without_the_value() {
        for (body, fields) in [
            (json!([]), &[][..]),
            (json!("SECRET"), &[]),
            (json!({}), &["url"]),
            (json!({"url": "x", "SECRET": 1}), &[]),
            (json!({"url": "x", "state": "enabled"}), &[]),
            (json!({"url": 7, "from": "SECRET", "actions": []}), &["url", "actions", "from"]),
            (json!({"url": "x", "from": -1}), &["from"]),
            (json!({"url": "x", "from": 1.5}), &["from"]),
            (json!({"url": "x", "actions": ["create", "create"]}), &["actions"]),
            (json!({"url": "x", "actions": ["SECRET"]}), &["actions"]),
            (json!({"url": "x", "actions": "create"}), &["actions"]),
            (json!({"url": "x", "description": "SECRET\u{0}"}), &["description"]),
            (json!({"url": "x", "description": "x".repeat(257)}), &["description"]),
        ] {
            let problem = Change::adding(body.clone()).unwrap_err();
            assert_eq!(problem.status(), 400, "{body}");
            let told: Vec<&str> = problem.errors().iter().map(|error| &*error.field).collect();
            assert_eq!(told, fields, "{body}");
            let text = format!("{} {:?}", problem.detail(), problem.errors());
            assert!(!text.contains("SECRET"), "{text}");
        }
        for body in [json!({"from": "now"}), json!({"state": true}), json!({"state": "on"})] {
            assert_eq!(Change::changing(body).unwrap_err().status(), 400);
        }
    }
}
