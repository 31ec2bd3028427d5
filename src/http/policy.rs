//! The policy of a partition: whether it serves, and what it asks of everybody.

use axum::{
    Json,
    extract::{Request, State},
};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    App,
    admit::{Admitted, ManagePolicy, ReadPolicy},
    json_body,
    managing::{Fields, ROLES, by, insists, roles},
    problem::Problem,
    shown::put_moment,
};
use crate::{
    archive::ArchiveError,
    control::{AccessRefusal, PolicyRow},
    tenancy::{PartitionState, Policy},
};

/// Most networks of a policy.
const MOST_NETWORKS: usize = 256;

const STATE: &str = "\"active\", \"read-only\" or \"suspended\"";
const ADDRESSES: &str =
    "a list of up to 256 addresses and networks, such as \"192.0.2.7\" and \"2001:db8::/32\"";
const AGE: &str = "a time such as \"15m\", from 1s to 365days, or null";

/// `GET /policy`
pub async fn get(
    State(app): State<App>,
    caller: Admitted<ReadPolicy>,
) -> Result<Json<Value>, Problem> {
    let row = app.members.policy(&caller.scope).await.map_err(ArchiveError::from)?;
    Ok(Json(match row {
        Some(row) => with_author(&row),
        None => shown(&Policy::default()),
    }))
}

/// `PUT /policy`: what is not said is as if no policy was set.
pub async fn put(
    State(app): State<App>,
    caller: Admitted<ManagePolicy>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let insists = insists(&parts.uri)?;
    let policy = read(json_body::read(&parts.headers, body, &app.limits).await?)?;
    let set = app.members.put_policy(&by(&caller, insists), &policy).await;
    let set = set.map_err(|refusal| match refusal {
        AccessRefusal::UnknownRole => Problem::invalid("defaultRoles", ROLES),
        other => other.into(),
    });
    Ok(Json(with_author(&set?)))
}

fn read(body: Value) -> Result<Policy, Problem> {
    // What is shown can be sent back.
    let known = [
        "state",
        "allowedAddresses",
        "needsMfa",
        "maxTokenAge",
        "defaultRoles",
        "lastUpdatedTime",
        "lastUpdatedBy",
    ];
    let mut fields = Fields::of(body, &known)?;
    let policy = Policy {
        state: fields
            .take("state", STATE, |value| PartitionState::of(value.as_str()?))
            .unwrap_or_default(),
        allowed_addresses: fields.take("allowedAddresses", ADDRESSES, networks).unwrap_or_default(),
        needs_mfa: fields.take("needsMfa", "true or false", Value::as_bool).unwrap_or_default(),
        max_token_age: fields.take("maxTokenAge", AGE, age).flatten(),
        default_roles: fields.take("defaultRoles", ROLES, roles).unwrap_or_default(),
    };
    fields.end()?;
    Ok(policy)
}

fn networks(value: &Value) -> Option<Vec<IpNet>> {
    let listed = value.as_array().filter(|listed| listed.len() <= MOST_NETWORKS)?;
    listed.iter().map(|one| network(one.as_str()?)).collect()
}

/// A network, or an address; those of IPv4 that are written as IPv6 are what requests come from.
fn network(text: &str) -> Option<IpNet> {
    if let Ok(net) = text.parse::<IpNet>() {
        return Some(net.trunc());
    }
    text.parse::<std::net::IpAddr>().ok().map(|address| address.to_canonical().into())
}

fn age(value: &Value) -> Option<Option<std::time::Duration>> {
    if value.is_null() {
        return Some(None);
    }
    let age = humantime::parse_duration(value.as_str()?).ok()?;
    (1..=365 * 24 * 3600).contains(&age.as_secs()).then_some(Some(age))
}

fn shown(policy: &Policy) -> Value {
    let age = policy.max_token_age.map(|age| humantime::format_duration(age).to_string());
    json!({
        "state": policy.state.as_str(),
        "allowedAddresses": policy.allowed_addresses.iter().map(IpNet::to_string).collect::<Vec<_>>(),
        "needsMfa": policy.needs_mfa,
        "maxTokenAge": age,
        "defaultRoles": policy.default_roles,
    })
}

fn with_author(row: &PolicyRow) -> Value {
    let mut shown = shown(&row.policy);
    put_moment(&mut shown, "lastUpdatedTime", Some(row.updated_at));
    shown["lastUpdatedBy"] = json!(row.updated_by);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let body = json!({
            "state": "read-only",
            "allowedAddresses": ["192.0.2.7", "10.1.2.3/8", "2001:db8::/32", "::ffff:10.0.0.1"],
            "needsMfa": true,
            "maxTokenAge": "15m",
            "defaultRoles": ["reader"],
        });
        let policy = read(body).unwrap();
        let addresses = ["192.0.2.7/32", "10.0.0.0/8", "2001:db8::/32", "10.0.0.1/32"];
        assert_eq!(shown(&policy)["allowedAddresses"], json!(addresses));
        assert_eq!(read(shown(&policy)).unwrap(), policy);
        assert_eq!(read(json!({})).unwrap(), Policy::default());
        assert_eq!(read(shown(&Policy::default())).unwrap(), Policy::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, field) in [
            (json!({"state": "off"}), "state"),
            (json!({"allowedAddresses": ["10.0.0.0/33"]}), "allowedAddresses"),
            (json!({"allowedAddresses": "10.0.0.0/8"}), "allowedAddresses"),
            (json!({"needsMfa": "yes"}), "needsMfa"),
            (json!({"maxTokenAge": "0s"}), "maxTokenAge"),
            (json!({"maxTokenAge": 60}), "maxTokenAge"),
            (json!({"defaultRoles": ["A"]}), "defaultRoles"),
        ] {
            let problem = read(body).unwrap_err();
            assert_eq!((problem.status().as_u16(), &*problem.errors()[0].field), (400, field));
        }
    }
}
