//! Whose certificate a client showed. That it is genuine was found out by the handshake.
//!
//! Holds: names are compared whole. A distinguished name is written by the rules of RFC 4514, which
//! leave no two names that look alike: a comma inside of a value is escaped.

use std::{fmt::Write as _, sync::Arc};

use time::OffsetDateTime;
use x509_parser::asn1_rs::ToDer as _;
use x509_parser::prelude::{
    AttributeTypeAndValue, FromDer as _, GeneralName, X509Certificate, X509Name,
};

use crate::{
    config::{CertificateName, CertificatePrincipal, TlsConfig},
    tenancy::{Known, Permissions, PrincipalKind},
};

/// What principals of this kind are vouched for by.
const ISSUER: &str = "certificate";

/// Names of attribute types that RFC 4514 §3 lists; others are written as numbers.
const TYPES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The certificate of a connection, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is; `None` where no entry of `tls.principals` matches.
    pub who: Option<Arc<Known>>,
    /// When it ends to be good.
    pub expires_at: OffsetDateTime,
}

/// Knows whose certificates are whose. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificates {
    name: CertificateName,
    principals: Arc<[CertificatePrincipal]>,
}

impl Certificates {
    /// By configuration.
    pub fn new(config: &TlsConfig) -> Self {
        Self { name: config.principal, principals: config.principals.clone().into() }
    }

    /// Reads a certificate (DER) that was verified; `None` for what is none.
    pub fn read(&self, der: &[u8]) -> Option<PeerCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = distinguished_name(certificate.subject());
        let names = match self.name {
            CertificateName::Subject => vec![subject.clone()],
            kind => alternative_names(&certificate, kind),
        };
        let matches = |entry: &&CertificatePrincipal| {
            names.iter().any(|name| match self.name {
                CertificateName::Dns => name.eq_ignore_ascii_case(&entry.matches),
                _ => **name == *entry.matches,
            })
        };
        let end = certificate.validity().not_after.timestamp();
        Some(PeerCertificate {
            who: self.principals.iter().find(matches).map(|entry| Arc::new(known(entry, &subject))),
            expires_at: OffsetDateTime::from_unix_timestamp(end).ok()?,
        })
    }
}

fn known(entry: &CertificatePrincipal, subject: &str) -> Known {
    Known {
        kind: PrincipalKind::Certificate,
        issuer: ISSUER.into(),
        subject: entry.matches.clone(),
        name: Some(subject.into()),
        reach: entry.reach.clone(),
        roles: entry.roles.clone(),
        permissions: Permissions::NONE,
        limit: Permissions::ALL,
        is_operator: entry.is_operator,
        session: None,
        token: None,
    }
}

fn alternative_names(certificate: &X509Certificate<'_>, kind: CertificateName) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match (kind, name) {
        (CertificateName::Dns, GeneralName::DNSName(name))
        | (CertificateName::Uri, GeneralName::URI(name))
        | (CertificateName::Email, GeneralName::RFC822Name(name)) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect()
}

/// A name as RFC 4514 §2 writes it: the last part first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|part| {
        let values: Vec<String> = part.iter().map(attribute).collect();
        values.join("+")
    });
    let mut parts: Vec<String> = parts.collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    let known = TYPES.iter().find(|(known, _)| *known == number);
    match (known, attribute.as_str()) {
        (Some((_, name)), Ok(value)) => format!("{name}={}", escaped(value)),
        // Of other types the value is written as it is encoded (§2.4).
        (_, _) => {
            let mut text = format!("{number}=#");
            let encoded = attribute.attr_value().to_der_vec();
            for byte in encoded.unwrap_or_else(|_| attribute.as_slice().to_vec()) {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

/// RFC 4514 §2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (at, c) in value.chars().enumerate() {
        let is_special = "\"+,;<>\\".contains(c)
            || (at == 0 && (c == '#' || c == ' '))
            || (at == last && c == ' ');
        if c.is_control() {
            for byte in c.to_string().bytes() {
                let _ = write!(text, "\\{byte:02X}");
            }
            continue;
        }
        if is_special {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;
    use crate::tenancy::Reach;

    fn certificate(names: &[(DnType, &str)], alternatives: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = alternatives;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn of(name: CertificateName, matches: &[&str]) -> Certificates {
        let entry = |matches: &&str| CertificatePrincipal {
            matches: (*matches).into(),
            reach: Reach::Every,
            roles: ["writer".into()].into(),
            is_operator: false,
        };
        let principals = matches.iter().map(entry).collect();
        Certificates::new(&TlsConfig { principal: name, principals, ..TlsConfig::default() })
    }

    fn who(certificates: &Certificates, der: &[u8]) -> Option<String> {
        certificates.read(der).unwrap().who.map(|known| known.subject.to_string())
    }

    #[test]
    fn a_subject_is_compared_whole_and_no_value_can_look_like_two() {
        let plain = certificate(
            &[(DnType::OrganizationName, "Hospital"), (DnType::CommonName, "ct")],
            vec![],
        );
        let forged = certificate(&[(DnType::CommonName, "ct,O=Hospital")], vec![]);
        let known = of(CertificateName::Subject, &["CN=ct,O=Hospital"]);
        assert_eq!(who(&known, &plain).as_deref(), Some("CN=ct,O=Hospital"));
        assert_eq!(who(&known, &forged), None);
        let escaped = of(CertificateName::Subject, &["CN=ct\\,O=Hospital"]);
        assert!(who(&escaped, &forged).is_some() && who(&escaped, &plain).is_none());
        for part in ["CN=ct", "O=Hospital,CN=ct", "cn=ct,o=hospital", ""] {
            assert_eq!(who(&of(CertificateName::Subject, &[part]), &plain), None, "{part}");
        }
        let read = known.read(&plain).unwrap();
        let one = read.who.unwrap();
        assert_eq!((one.kind, &*one.issuer), (PrincipalKind::Certificate, "certificate"));
        assert!(one.roles.contains("writer") && read.expires_at > OffsetDateTime::UNIX_EPOCH);
    }

    #[test]
    fn alternative_names_count_by_their_kind() {
        let text = |text: &str| text.try_into().unwrap();
        let der = certificate(
            &[(DnType::CommonName, "x")],
            vec![
                SanType::DnsName(text("a.test")),
                SanType::DnsName(text("b.test")),
                SanType::URI(text("spiffe://h/ct")),
                SanType::Rfc822Name(text("ct@h.test")),
            ],
        );
        for (kind, matches, found) in [
            (CertificateName::Dns, "B.Test", true),
            (CertificateName::Dns, "ct@h.test", false),
            (CertificateName::Dns, "*.test", false),
            (CertificateName::Uri, "spiffe://h/ct", true),
            (CertificateName::Uri, "spiffe://h/CT", false),
            (CertificateName::Uri, "spiffe://h", false),
            (CertificateName::Email, "ct@h.test", true),
            (CertificateName::Email, "b.test", false),
            (CertificateName::Subject, "a.test", false),
        ] {
            assert_eq!(who(&of(kind, &[matches]), &der).is_some(), found, "{kind:?} {matches}");
        }
        assert_eq!(of(CertificateName::Dns, &[]).read(b"nonsense"), None);
    }

    #[test]
    fn what_means_something_is_escaped() {
        for (value, written) in [
            ("a b", "a b"),
            (" a ", "\\ a\\ "),
            ("#1", "\\#1"),
            ("a#", "a#"),
            ("a+b=\"c\"", "a\\+b=\\\"c\\\""),
            ("a\nb", "a\\0Ab"),
            ("", ""),
        ] {
            assert_eq!(escaped(value), written);
        }
    }
}
