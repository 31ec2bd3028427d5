//! What the claims of a verified token say: for whom and until when it is good (RFC 7519 §4.1,
//! RFC 9068 §2.2), who somebody is, where he may be, and as what.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{authenticator::Identified, flaw::Flaw, smart};
use crate::{
    config::{ClaimPath, IssuerConfig, PartitionRule, SmartScopes},
    tenancy::{Known, PartitionId, Permissions, Principal, PrincipalKind, Reach},
};

type Claims = Map<String, Value>;

/// Most partitions that a token may name.
const MOST_PARTITIONS: usize = 1024;
/// Longest subject, session and token id, in bytes.
const LONGEST_ID: usize = 255;
/// Longest name for people that is kept, in characters.
const LONGEST_NAME: usize = 255;

/// Who a token speaks for. Its signature was verified.
///
/// # Errors
/// [`Flaw`], where it is not for here, not for now, or not what it has to be.
pub(super) fn read(
    config: &IssuerConfig,
    claims: &Claims,
    now: OffsetDateTime,
    skew: Duration,
) -> Result<Identified, Flaw> {
    let expires_at = later(moment(claims, "exp")?.ok_or(Flaw::Expired)?, skew);
    if expires_at <= now {
        return Err(Flaw::Expired);
    }
    let (not_before, issued) = (moment(claims, "nbf")?, moment(claims, "iat")?);
    let soon = later(now, skew);
    if [not_before, issued].into_iter().flatten().any(|moment| moment > soon) {
        return Err(Flaw::NotYet);
    }
    let is_for = |audience: &String| config.audience.contains(audience);
    if !texts(claims.get("aud")).iter().any(is_for) {
        return Err(Flaw::Audience);
    }
    let parties = &config.authorized_parties;
    let is_let_in = || client(claims).is_some_and(|client| parties.iter().any(|one| one == client));
    if !parties.is_empty() && !is_let_in() {
        return Err(Flaw::Party);
    }
    // RFC 9449 §7.2, RFC 8705 §3: who only heard it must not be able to use it.
    if claims.contains_key("cnf") {
        return Err(Flaw::Bound);
    }
    if !is_for_access(claims) {
        return Err(Flaw::Purpose);
    }
    // Whoever logged in a while ago and only had his token renewed is not new for it.
    let logged_in = moment(claims, "auth_time")?;
    let issued_at = [logged_in, issued].into_iter().flatten().min();
    let who = Principal::Known(known(config, claims)?.into());
    let has_mfa = config
        .mfa_claims
        .iter()
        .any(|path| texts(at(claims, path)).iter().any(|value| config.mfa_values.contains(value)));
    Ok(Identified { who, issued_at, expires_at: Some(expires_at), has_mfa })
}

fn known(config: &IssuerConfig, claims: &Claims) -> Result<Known, Flaw> {
    let subject = at(claims, &config.subject_claim).and_then(Value::as_str);
    let subject = subject.filter(|subject| is_id(subject)).ok_or(Flaw::Claim)?;
    let kind = if is_program(claims) { PrincipalKind::Service } else { PrincipalKind::User };
    let theirs = texts(config.roles_claim.as_ref().and_then(|path| at(claims, path)));
    let is_operator = theirs.iter().any(|role| config.operator_roles.contains(role));
    let limit = match config.smart_scopes {
        SmartScopes::Ignore => None,
        SmartScopes::Limit | SmartScopes::Grant => smart::limit(&scopes(claims)),
    };
    let grants = config.smart_scopes == SmartScopes::Grant && kind == PrincipalKind::Service;
    let granted = if grants { smart::granted(&scopes(claims)) } else { Permissions::NONE };
    let name = at(claims, &config.name_claim).and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty());
    let mut known = Known {
        kind,
        issuer: config.name.as_str().into(),
        subject: subject.into(),
        name: name.map(|name| name.chars().take(LONGEST_NAME).collect()),
        reach: reach(config, claims)?,
        roles: roles(config, &theirs),
        permissions: granted,
        limit: limit.unwrap_or(Permissions::ALL),
        is_operator,
        session: id(claims, "sid")?,
        token: id(claims, "jti")?,
    };
    if is_operator {
        // Who keeps all partitions is nobody inside of them: he would have his roles in each.
        known.reach = Reach::Every;
        known.roles = BTreeSet::new();
        known.permissions = Permissions::NONE;
    }
    Ok(known)
}

fn reach(config: &IssuerConfig, claims: &Claims) -> Result<Reach, Flaw> {
    let (path, before, after) = match &config.partitions {
        PartitionRule::Every => return Ok(Reach::Every),
        PartitionRule::Fixed(these) => return Ok(Reach::These(these.clone())),
        PartitionRule::Claim { path, before, after } => (path, before, after),
    };
    let mut these = BTreeSet::new();
    for value in texts(at(claims, path)) {
        let value = format!("{before}{value}{after}");
        match &config.partition_map {
            Some(map) => these.extend(map.get(&value).into_iter().flatten().cloned()),
            // What is no id of a partition is none: it gives nothing.
            None => these.extend(value.parse::<PartitionId>().ok()),
        }
        if these.len() > MOST_PARTITIONS {
            return Err(Flaw::Claim);
        }
    }
    Ok(Reach::These(these))
}

fn roles(config: &IssuerConfig, theirs: &[String]) -> BTreeSet<Box<str>> {
    let roles: BTreeSet<Box<str>> = match &config.role_map {
        Some(map) => {
            let ours = theirs.iter().filter_map(|role| map.get(role)).flatten();
            ours.map(|role| role.as_str().into()).collect()
        }
        None => {
            let theirs = theirs.iter().filter(|role| !config.operator_roles.contains(*role));
            theirs.filter(|role| is_id(role)).map(|role| role.as_str().into()).collect()
        }
    };
    if roles.is_empty() {
        return config.default_roles.iter().map(|role| role.as_str().into()).collect();
    }
    roles
}

/// Whether a token was got by a program for itself. There is no claim that says so everywhere, so
/// that what is known of real issuers counts: the subject is the client (RFC 9068 §2.2), and what
/// Entra ID (`idtyp`), Auth0 (`gty`) and Keycloak (the user that it makes for a client, who never
/// has a session) say. People have to show more than one factor where policies ask for it, so
/// nothing that they can choose themselves may count.
fn is_program(claims: &Claims) -> bool {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let client = client(claims);
    let of_keycloak = || {
        let client = text("preferred_username")?.strip_prefix("service-account-")?;
        Some(text("client_id")?.eq_ignore_ascii_case(client) && !claims.contains_key("sid"))
    };
    (client.is_some() && text("sub") == client)
        || text("idtyp") == Some("app")
        || text("gty") == Some("client-credentials")
        || of_keycloak() == Some(true)
}

/// The client that a token was made for: `azp`, or what others call it.
fn client(claims: &Claims) -> Option<&str> {
    ["azp", "client_id", "appid", "cid"].iter().find_map(|name| claims.get(*name)?.as_str())
}

/// Whether a token is not one of those that are signed by the same keys for other ends: ID tokens
/// (OpenID Connect Core §3.1.3.6) and what Keycloak says of all of its own.
fn is_for_access(claims: &Claims) -> bool {
    let others = ["ID", "Refresh", "Offline", "Logout"];
    let says_other = claims.get("typ").is_some_and(|kind| others.iter().any(|other| kind == other));
    !says_other && !claims.contains_key("at_hash") && !claims.contains_key("c_hash")
}

/// Scopes: a text of words (RFC 8693 §4.2), or a list; `scp` in Entra ID and Okta.
fn scopes(claims: &Claims) -> Vec<String> {
    let listed = texts(claims.get("scope").or_else(|| claims.get("scp")));
    listed.iter().flat_map(|text| text.split_ascii_whitespace()).map(str::to_owned).collect()
}

/// The claim at a path.
fn at<'a>(claims: &'a Claims, path: &ClaimPath) -> Option<&'a Value> {
    if let Some(found) = path.whole.as_ref().and_then(|whole| claims.get(whole)) {
        return Some(found);
    }
    let (first, rest) = path.names.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
}

/// The texts of a claim: itself, those in its list, or the names in its table.
fn texts(value: Option<&Value>) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(one).collect(),
        Some(Value::Object(entries)) => entries.keys().cloned().collect(),
        Some(other) => one(other).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A moment in seconds since 1970 (RFC 7519 §2, NumericDate).
fn moment(claims: &Claims, name: &str) -> Result<Option<OffsetDateTime>, Flaw> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_i64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| seconds.abs() < 1e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of a second, and in range")]
        Some(seconds.floor() as i64)
    });
    let moment = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.map(Some).ok_or(Flaw::Claim)
}

/// A session or token by its name at the issuer, to be revoked by: what cannot be kept is refused,
/// since it could not be revoked.
fn id(claims: &Claims, name: &str) -> Result<Option<Box<str>>, Flaw> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if is_id(id) => Ok(Some(id.as_str().into())),
        Some(_) => Err(Flaw::Claim),
    }
}

fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A moment, later by some time.
fn later(moment: OffsetDateTime, by: Duration) -> OffsetDateTime {
    moment.saturating_add(by.try_into().unwrap_or(time::Duration::MAX))
}
