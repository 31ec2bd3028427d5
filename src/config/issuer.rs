//! `[[auth.issuers]]`: whose access tokens are taken, and what their claims mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use toml::Value;
use url::{Host, Url};

use super::{fields::Fields, reader::Reader};
use crate::tenancy::PartitionId;

/// Longest name of a role, in bytes.
const ROLE_NAME: usize = 64;
/// Names that principals without an issuer have.
const RESERVED: [&str; 5] = ["ae", "anonymous", "api-key", "certificate", "link"];

/// Algorithms of signatures (RFC 7518 §3.1, RFC 8037 §3.1). There is no `none` and no HMAC: with
/// neither, whoever knows a public key could sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name in the header of a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl FromStr for Algorithm {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(())
    }
}

/// Where a claim is. A text is tried as the name of a claim first, then as names joined by dots; a
/// list is the names, one for each level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    /// The names, from the outside in.
    pub names: Vec<String>,
    /// The whole text, where it was one.
    pub whole: Option<String>,
}

impl ClaimPath {
    /// A path by its text.
    pub fn of(text: &str) -> Self {
        let names = text.split('.').map(str::to_owned).collect();
        Self { names, whole: Some(text.to_owned()) }
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) if !text.is_empty() => Some(Self::of(text)),
            Value::Array(items) if !items.is_empty() => {
                let names: Option<Vec<String>> =
                    items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                Some(Self { names: names?, whole: None })
            }
            _ => None,
        }
    }
}

/// What says which partitions a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionRule {
    /// The token has no say: these.
    Fixed(BTreeSet<PartitionId>),
    /// The token has no say: every one.
    Every,
    /// The values of a claim, each put between two texts; both are empty where there is no template.
    Claim {
        /// Where the values are.
        path: ClaimPath,
        /// What comes before a value.
        before: String,
        /// What comes after it.
        after: String,
    },
}

/// What scopes of SMART on FHIR do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmartScopes {
    /// They say what a token is good for at the most.
    Limit,
    /// And those of `system/` permit it to programs, who need no role then.
    Grant,
    /// Nothing.
    Ignore,
}

/// One issuer of access tokens.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// `name`: what it is called here, and in everything that is kept of its principals.
    pub name: String,
    /// `issuer`: the `iss` of its tokens, to the letter.
    pub issuer: String,
    /// `issuer` as a URL.
    pub url: Url,
    /// `audience`: a token must be meant for one of these; not empty.
    pub audience: Vec<String>,
    /// `authorized_parties`: clients whose tokens are taken (`azp`, `client_id`); empty: any.
    pub authorized_parties: Vec<String>,
    /// `jwks_url`: where its keys are; `None`: where discovery says.
    pub jwks_url: Option<Url>,
    /// `algorithms`: those that it signs with; not empty.
    pub algorithms: BTreeSet<Algorithm>,
    /// `allow_http`: whether it may be reached over plain HTTP.
    pub allow_http: bool,
    /// `subject_claim`: who somebody is.
    pub subject_claim: ClaimPath,
    /// `name_claim`: what people call him.
    pub name_claim: ClaimPath,
    /// `partitions`, `partition_claim` and `partition_template`.
    pub partitions: PartitionRule,
    /// `partition_map`: partitions by values of the claim; where there is one, no others count.
    pub partition_map: Option<BTreeMap<String, BTreeSet<PartitionId>>>,
    /// `roles_claim`: roles as the issuer names them.
    pub roles_claim: Option<ClaimPath>,
    /// `role_map`: our roles by its; where there is one, no others count.
    pub role_map: Option<BTreeMap<String, Vec<String>>>,
    /// `operator_roles`: its roles that make an operator of the platform.
    pub operator_roles: BTreeSet<String>,
    /// `default_roles`: our roles of those who would have none.
    pub default_roles: Vec<String>,
    /// `mfa_claims`: where it says how somebody logged in.
    pub mfa_claims: Vec<ClaimPath>,
    /// `mfa_values`: values of these that stand for more than one factor.
    pub mfa_values: BTreeSet<String>,
    /// `smart_scopes`: what scopes of SMART on FHIR do.
    pub smart_scopes: SmartScopes,
}

impl IssuerConfig {
    /// Reads the whole list. What is wrong with an issuer is told by its name and the key.
    pub(super) fn read_all(r: &mut Reader, key: &'static str) -> Vec<Self> {
        let mut issuers: Vec<Self> = Vec::new();
        let Some(tables) = r.tables(key) else { return issuers };
        for (at, table) in tables.into_iter().enumerate() {
            let name = table.get("name").and_then(Value::as_str).filter(|name| is_name(name));
            let called =
                name.map_or_else(|| format!("{key}[{at}]"), |name| format!("{key}.{name}"));
            let mut fields = Fields::new(called, table);
            let issuer = Self::read(&mut fields);
            if let Some(issuer) = &issuer {
                if issuers.iter().any(|other| other.name == issuer.name) {
                    fields.conflict("another issuer has the same name");
                }
                if issuers.iter().any(|other| other.issuer == issuer.issuer) {
                    fields.conflict("another one has the same issuer");
                }
            }
            fields.finish().into_iter().for_each(|what| r.conflict(what));
            issuers.extend(issuer);
        }
        issuers
    }

    /// Reads one. `None` and a text in `f` where something without a default is missing or wrong.
    fn read(f: &mut Fields) -> Option<Self> {
        let name = f.parsed(
            "name",
            "1 to 32 characters of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
            |value| value.as_str().filter(|name| is_name(name)).map(str::to_owned),
        );
        if name.as_deref().is_some_and(|name| RESERVED.contains(&name)) {
            f.refuse("name", "another one: this is what principals of other kinds are called");
        }
        let allow_http = f.flag("allow_http");
        let issuer = f.url("issuer");
        let jwks_url = f.url("jwks_url");
        for (key, given) in [("issuer", &issuer), ("jwks_url", &jwks_url)] {
            if given.as_ref().is_some_and(|(_, url)| !allow_http && !is_protected(url)) {
                f.refuse(key, "https:// unless it is on this machine or allow_http is true");
            }
        }
        let audience = f.texts("audience").filter(|listed| !listed.is_empty());
        let algorithms = f.texts("algorithms");
        let algorithms = match algorithms {
            None => Algorithm::ALL.into(),
            Some(listed) => {
                let expected = "a list of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 \
                                and EdDSA";
                let read: Vec<Algorithm> = f.read_each("algorithms", &listed, expected);
                if listed.is_empty() {
                    f.refuse("algorithms", expected);
                }
                BTreeSet::from_iter(read)
            }
        };
        let read = Self {
            name: name.unwrap_or_default(),
            issuer: issuer.as_ref().map(|(text, _)| text.clone()).unwrap_or_default(),
            url: issuer.as_ref().map(|(_, url)| url.clone()).or_else(placeholder)?,
            audience: audience.clone().unwrap_or_default(),
            authorized_parties: f.texts("authorized_parties").unwrap_or_default(),
            jwks_url: jwks_url.map(|(_, url)| url),
            algorithms,
            allow_http,
            subject_claim: path(f, "subject_claim").unwrap_or_else(|| ClaimPath::of("sub")),
            name_claim: path(f, "name_claim").unwrap_or_else(|| ClaimPath::of("name")),
            partitions: partitions(f),
            partition_map: partition_map(f),
            roles_claim: path(f, "roles_claim"),
            role_map: f.map("role_map").map(BTreeMap::from_iter),
            operator_roles: f.texts("operator_roles").unwrap_or_default().into_iter().collect(),
            default_roles: f.texts("default_roles").unwrap_or_default(),
            mfa_claims: mfa_claims(f),
            mfa_values: match f.texts("mfa_values") {
                Some(values) => values.into_iter().collect(),
                None => BTreeSet::from(["mfa".to_owned()]),
            },
            smart_scopes: smart_scopes(f),
        };
        let ours = read.role_map.iter().flat_map(BTreeMap::values).flatten();
        for (key, roles) in [
            ("role_map", ours.collect::<Vec<_>>()),
            ("default_roles", read.default_roles.iter().collect()),
        ] {
            if roles.iter().any(|role| !is_role(role) || *role == "operator") {
                f.refuse(
                    key,
                    "names of roles: 1 to 64 of a-z, 0-9 and '-'; operators are made by \
                     operator_roles alone",
                );
            }
        }
        if read.roles_claim.is_none()
            && (read.role_map.is_some() || !read.operator_roles.is_empty())
        {
            f.conflict("role_map and operator_roles need roles_claim, which says where roles are");
        }
        let takes_claim = matches!(read.partitions, PartitionRule::Claim { .. });
        if read.partition_map.is_some() && !takes_claim {
            f.conflict("partition_map needs partition_claim or partition_template");
        }
        let missing = [
            ("name", "set"),
            ("issuer", "set"),
            ("audience", "a list of at least one audience that its tokens are meant for"),
        ];
        let have = [!read.name.is_empty(), !read.issuer.is_empty(), !read.audience.is_empty()];
        let mut is_whole = true;
        for ((key, expected), is_there) in missing.into_iter().zip(have) {
            // What is there and wrong was told already.
            if !is_there && (f.value(key).is_none() || key == "audience" && audience.is_none()) {
                f.refuse(key, expected);
            }
            is_whole &= is_there;
        }
        is_whole.then_some(read)
    }
}

/// What stands for an issuer's URL until its absence is told.
fn placeholder() -> Option<Url> {
    Url::parse("https://issuer.invalid").ok()
}

fn is_name(text: &str) -> bool {
    text.parse::<PartitionId>().is_ok_and(|name| name.as_str() == text)
}

/// Whether a text can be the name of a role.
pub(super) fn is_role(text: &str) -> bool {
    let inner = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    inner && (1..=ROLE_NAME).contains(&text.len())
}

/// Whether nobody on the way can change what such a URL answers.
fn is_protected(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

/// Whether a URL leads to this machine by its own word: an address, or `localhost`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn path(f: &mut Fields, key: &'static str) -> Option<ClaimPath> {
    f.parsed(key, "the name of a claim, names joined by dots, or a list of names", ClaimPath::read)
}

fn partitions(f: &mut Fields) -> PartitionRule {
    let fixed = f.texts("partitions").map(|listed| match &*listed {
        [only] if only == "*" => PartitionRule::Every,
        _ => {
            let expected = "\"*\" or a list of partition ids";
            PartitionRule::Fixed(f.read_each("partitions", &listed, expected).into_iter().collect())
        }
    });
    let claim = path(f, "partition_claim").map(|path| PartitionRule::Claim {
        path,
        before: String::new(),
        after: String::new(),
    });
    let expected = "a text with one claim in braces, such as clinic-{tenant_id}";
    let template = f.parsed("partition_template", expected, |value| {
        let (before, rest) = value.as_str()?.split_once('{')?;
        let (path, after) = rest.split_once('}')?;
        let is_plain = !path.is_empty() && !path.contains('{') && !after.contains(['{', '}']);
        let (before, after) = (before.to_owned(), after.to_owned());
        is_plain.then(|| PartitionRule::Claim { path: ClaimPath::of(path), before, after })
    });
    let mut rules = [fixed, claim, template].into_iter().flatten();
    let rule = rules.next();
    if rule.is_none() || rules.next().is_some() {
        f.conflict("exactly one of partitions, partition_claim and partition_template is needed");
    }
    rule.unwrap_or(PartitionRule::Fixed(BTreeSet::new()))
}

fn partition_map(f: &mut Fields) -> Option<BTreeMap<String, BTreeSet<PartitionId>>> {
    let listed = f.map("partition_map")?;
    let read = |(value, ids): (String, Vec<String>)| {
        let expected = "a table of partition ids, or lists of them";
        (value, f.read_each("partition_map", &ids, expected).into_iter().collect())
    };
    Some(listed.into_iter().map(read).collect())
}

fn mfa_claims(f: &mut Fields) -> Vec<ClaimPath> {
    let named = f.texts("mfa_claims").unwrap_or_else(|| vec!["amr".to_owned(), "acr".to_owned()]);
    named.iter().map(|text| ClaimPath::of(text)).collect()
}

fn smart_scopes(f: &mut Fields) -> SmartScopes {
    let read = f.parsed("smart_scopes", "one of \"limit\", \"grant\", \"ignore\"", |value| {
        match value.as_str()? {
            "limit" => Some(SmartScopes::Limit),
            "grant" => Some(SmartScopes::Grant),
            "ignore" => Some(SmartScopes::Ignore),
            _ => None,
        }
    });
    read.unwrap_or(SmartScopes::Limit)
}
