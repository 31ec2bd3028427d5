//! `[tls]`: TLS of the listener, and who clients' certificates speak for.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use toml::Table;

use super::{issuer::is_role, reader::Reader};
use crate::tenancy::{PartitionId, Reach};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// The members that an entry of `tls.principals` can have.
const MEMBERS: &str = "match, partitions, roles, operator";

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked to.
    None,
    /// They may.
    Optional,
    /// Nobody gets in without one.
    Required,
}

/// What of a certificate says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The distinguished name of the subject, as RFC 4514 writes it.
    Subject,
    /// A DNS name among the alternative names (RFC 5280 §4.2.1.6).
    Dns,
    /// A URI among them, such as a SPIFFE id.
    Uri,
    /// An e-mail address among them.
    Email,
}

/// Whose certificate reaches what: an entry of `tls.principals`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePrincipal {
    /// The whole name, as the certificate has it.
    pub matches: Box<str>,
    /// Where it may be.
    pub reach: Reach,
    /// Names of its roles there.
    pub roles: BTreeSet<Box<str>>,
    /// Whether it keeps the platform.
    pub is_operator: bool,
}

/// `[tls]`: how connections are encrypted.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// `tls.certificate`: file of the chain; `None`: plain HTTP.
    pub certificate: Option<PathBuf>,
    /// `tls.key`: file of its private key; there exactly if the certificate is.
    pub key: Option<PathBuf>,
    /// `tls.client_ca`: file of the authorities of clients' certificates; there if these are asked
    /// for.
    pub client_ca: Option<PathBuf>,
    /// `tls.client_auth`: whether clients show certificates.
    pub client_auth: ClientAuth,
    /// `tls.principal`: what of one says who it is.
    pub principal: CertificateName,
    /// `tls.principals`: who is who. The first entry that matches counts.
    pub principals: Vec<CertificatePrincipal>,
    /// `tls.reload`: how often files are looked at; zero: never.
    pub reload: Duration,
    /// `tls.hsts`: how long browsers keep to HTTPS; zero: nothing is said.
    pub hsts: Duration,
}

impl TlsConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let auth = [
            ("none", ClientAuth::None),
            ("optional", ClientAuth::Optional),
            ("required", ClientAuth::Required),
        ];
        let names = [
            ("subject", CertificateName::Subject),
            ("dns", CertificateName::Dns),
            ("uri", CertificateName::Uri),
            ("email", CertificateName::Email),
        ];
        let config = Self {
            certificate: r.path("tls.certificate"),
            key: r.path("tls.key"),
            client_ca: r.path("tls.client_ca"),
            client_auth: r.choice("tls.client_auth", &auth),
            principal: r.choice("tls.principal", &names),
            principals: principals(r),
            reload: r.time("tls.reload", 0..=DAY),
            hsts: r.time("tls.hsts", 0..=3650 * DAY),
        };
        if config.certificate.is_some() != config.key.is_some() {
            r.conflict("tls.certificate and tls.key must be set together");
        }
        let asks = config.client_auth != ClientAuth::None;
        if asks && config.certificate.is_none() {
            r.conflict("tls.client_auth needs tls.certificate");
        }
        if asks != config.client_ca.is_some() {
            r.conflict("tls.client_ca and tls.client_auth other than \"none\" go together");
        }
        if !config.principals.is_empty() && !asks {
            r.conflict("tls.principals needs tls.client_auth other than \"none\"");
        }
        config
    }

    /// Whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        self.certificate.is_some()
    }
}

fn principals(r: &mut Reader) -> Vec<CertificatePrincipal> {
    const KEY: &str = "tls.principals";
    let mut read = Vec::new();
    for (at, table) in r.tables(KEY).unwrap_or_default().into_iter().enumerate() {
        match principal(table) {
            Ok(one) => read.push(one),
            Err(why) => r.refuse(KEY, format!("a list of tables: in entry {}, {why}", at + 1)),
        }
    }
    read
}

/// An entry, or what is wrong with it; no value is repeated.
fn principal(table: &Table) -> Result<CertificatePrincipal, String> {
    let known = |name: &String| MEMBERS.split(", ").any(|known| known == name);
    if !table.keys().all(known) {
        return Err(format!("the members are {MEMBERS}"));
    }
    let matches = table.get("match").and_then(|value| value.as_str()).unwrap_or_default();
    if matches.is_empty() {
        return Err("match has to be the name of a certificate".to_owned());
    }
    let texts = |name: &str| -> Result<Vec<&str>, String> {
        let Some(value) = table.get(name) else { return Ok(Vec::new()) };
        let items = value.as_array().into_iter().flatten().map(|item| item.as_str());
        let all: Option<Vec<_>> = items.collect();
        all.filter(|_| value.is_array()).ok_or_else(|| format!("{name} has to be a list of texts"))
    };
    let partitions = texts("partitions")?;
    let reach = if partitions == ["*"] {
        Reach::Every
    } else {
        let ids: Result<BTreeSet<PartitionId>, _> =
            partitions.iter().map(|id| id.parse()).collect();
        Reach::These(ids.map_err(|_| "partitions has to list ids of partitions, or \"*\" alone")?)
    };
    let roles: BTreeSet<Box<str>> = texts("roles")?.into_iter().map(Into::into).collect();
    if !roles.iter().all(|role| is_role(role)) {
        return Err("roles has to list names of roles: 1 to 64 of a-z, 0-9 and '-'".to_owned());
    }
    if roles.contains("operator") {
        return Err("an operator is made by operator = true, and by no role".to_owned());
    }
    let is_operator = match table.get("operator") {
        None => false,
        Some(value) => value.as_bool().ok_or("operator has to be true or false")?,
    };
    Ok(CertificatePrincipal { matches: matches.into(), reach, roles, is_operator })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CertificatePrincipal, String> {
        principal(&text.parse().unwrap())
    }

    #[test]
    fn an_entry_says_where_and_what_somebody_may() {
        let entry = "match = \"CN=ct\"\npartitions = [\"North\"]\nroles = [\"writer\"]";
        let one = read(entry).unwrap();
        assert!(one.reach.has(&"north".parse().unwrap()) && !one.is_operator);
        assert!(!one.reach.has(&"south".parse().unwrap()) && one.roles.contains("writer"));
        let all = read("match = \"x\"\npartitions = [\"*\"]\noperator = true").unwrap();
        assert_eq!((all.reach, all.is_operator), (Reach::Every, true));
        let nowhere = read("match = \"x\"").unwrap();
        assert_eq!(nowhere.reach, Reach::These(BTreeSet::new()));
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_said_without_its_values() {
        for (text, part) in [
            ("", "match"),
            ("match = 7", "match"),
            ("match = \"SECRET\"\nwho = 1", "the members are"),
            ("match = \"x\"\npartitions = \"SECRET\"", "partitions"),
            ("match = \"x\"\npartitions = [\"SE CRET\"]", "partitions"),
            ("match = \"x\"\npartitions = [\"*\", \"a\"]", "partitions"),
            ("match = \"x\"\nroles = [1]", "roles"),
            ("match = \"x\"\nroles = [\"operator\"]", "operator"),
            ("match = \"x\"\noperator = \"yes\"", "operator"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(part) && !why.contains("SECRET"), "{text}: {why}");
        }
    }
}
