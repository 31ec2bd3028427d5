//! `[dimse]`: the gateway for DICOM's own protocol (PS3.8), who may call it, and whom it calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use super::{fields::Fields, issuer::is_role, reader::Reader};
use crate::tenancy::{PartitionId, Reach};

const KIB: u64 = 1 << 10;
const HOUR: u64 = 3600;

/// A peer: who may call, and whom instances may be moved to. An entry of `dimse.peers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimsePeer {
    /// Its AE title.
    pub ae: Box<str>,
    /// Where it calls from; empty: from anywhere.
    pub addresses: Vec<IpNet>,
    /// The partitions that it may call, and that may move instances to it.
    pub reach: Reach,
    /// Names of its roles there.
    pub roles: BTreeSet<Box<str>>,
    /// Host and port where it takes instances; `None`: it is no destination.
    pub destination: Option<(Box<str>, u16)>,
    /// Whether it is called by TLS.
    pub tls: bool,
}

/// `[dimse]`: the DIMSE gateway.
#[derive(Clone, Debug)]
pub struct DimseConfig {
    /// `dimse.listen`: address and port to listen on; `None`: there is no gateway.
    pub listen: Option<SocketAddr>,
    /// `dimse.tls`: whether connections are encrypted, as `[tls]` says.
    pub tls: bool,
    /// `dimse.ca`: file of the authorities of destinations' certificates.
    pub ca: Option<PathBuf>,
    /// `dimse.ae_titles`: called AE titles and their partitions.
    pub ae_titles: BTreeMap<Box<str>, PartitionId>,
    /// `dimse.peers`: who may call.
    pub peers: Vec<DimsePeer>,
    /// `dimse.max_associations`: associations served at once.
    pub max_associations: usize,
    /// `dimse.partition_associations`: most of them to one partition.
    pub partition_associations: usize,
    /// `dimse.peer_associations`: most of them from one AE title and address.
    pub peer_associations: usize,
    /// `dimse.artim`: time for the request for an association, and for handshakes.
    pub artim: Duration,
    /// `dimse.idle`: longest wait for a peer within an association.
    pub idle: Duration,
    /// `dimse.max_pdu`: longest P-DATA-TF PDU that peers may send.
    pub max_pdu: u32,
}

impl DimseConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let listen = r.optional("dimse.listen").and_then(|text| {
            let address = text.parse().ok();
            if address.is_none() {
                r.refuse("dimse.listen", "an IP address and a port, such as 127.0.0.1:11112");
            }
            address
        });
        Self {
            listen,
            tls: r.flag("dimse.tls"),
            ca: r.path("dimse.ca"),
            ae_titles: ae_titles(r),
            peers: peers(r),
            max_associations: r.count("dimse.max_associations", 1..=100_000),
            partition_associations: r.count("dimse.partition_associations", 1..=100_000),
            peer_associations: r.count("dimse.peer_associations", 1..=100_000),
            artim: r.time("dimse.artim", 1..=HOUR),
            idle: r.time("dimse.idle", 1..=24 * HOUR),
            max_pdu: r.size("dimse.max_pdu", 4 * KIB..=16 * KIB * KIB) as u32,
        }
    }

    /// What must hold together with other sections. `has_tls`: `tls.certificate` is there;
    /// `asks_certificates`: nobody gets in without a certificate.
    pub(super) fn check(&self, r: &mut Reader, is_auth_on: bool, tls: (bool, bool)) {
        let (has_tls, asks_certificates) = tls;
        if self.tls && !has_tls {
            r.conflict("dimse.tls needs tls.certificate");
        }
        let is_vouched = self.tls && asks_certificates;
        // An AE title is no secret: by itself it says nothing of who calls.
        if is_auth_on && !is_vouched && self.peers.iter().any(|peer| peer.addresses.is_empty()) {
            r.conflict(
                "with auth.enabled each of dimse.peers needs addresses, unless dimse.tls and \
                 tls.client_auth = \"required\" ask for certificates",
            );
        }
        if self.ca.is_none() && self.peers.iter().any(|peer| peer.tls) {
            r.conflict("an entry of dimse.peers with tls needs dimse.ca");
        }
    }

    /// The peer of an AE title that calls from an address.
    pub fn peer(&self, ae: &str, address: IpAddr) -> Option<&DimsePeer> {
        let address = address.to_canonical();
        self.peers.iter().find(|peer| {
            let from = peer.addresses.is_empty()
                || peer.addresses.iter().any(|net| net.contains(&address));
            *peer.ae == *ae && from
        })
    }
}

/// Whether a text can be an AE title (PS3.5 §6.2): up to 16 characters, none of them a control
/// character or a backslash, no spaces at the ends.
pub fn is_ae_title(text: &str) -> bool {
    let fits = (1..=16).contains(&text.len()) && text.trim() == text;
    fits && text.bytes().all(|b| (0x20..0x7F).contains(&b) && b != b'\\')
}

fn ae_titles(r: &mut Reader) -> BTreeMap<Box<str>, PartitionId> {
    let entry = |text: &String| {
        let (ae, partition) = text.rsplit_once('=')?;
        let ae = ae.trim();
        let partition = partition.trim().parse().ok()?;
        is_ae_title(ae).then(|| (ae.into(), partition))
    };
    let listed = r.list("dimse.ae_titles");
    let read: Option<BTreeMap<_, _>> = listed.iter().map(entry).collect();
    if read.is_none() {
        r.refuse("dimse.ae_titles", "a list of texts such as \"NORTH_PACS=north\"");
    }
    read.unwrap_or_default()
}

fn peers(r: &mut Reader) -> Vec<DimsePeer> {
    const KEY: &str = "dimse.peers";
    let mut read = Vec::new();
    for (at, table) in r.tables(KEY).unwrap_or_default().into_iter().enumerate() {
        let mut fields = Fields::new(format!("{KEY}: entry {}", at + 1), table);
        let one = peer(&mut fields);
        let wrong = fields.finish();
        match one {
            Some(one) if wrong.is_empty() => read.push(one),
            _ => wrong.into_iter().for_each(|what| r.conflict(what)),
        }
    }
    read
}

fn peer(fields: &mut Fields<'_>) -> Option<DimsePeer> {
    let title = "an AE title: 1 to 16 characters";
    let ae = fields
        .parsed("ae", title, |value| value.as_str().filter(|ae| is_ae_title(ae)).map(Box::from));
    let partitions = fields.texts("partitions").unwrap_or_default();
    let reach = match partitions.as_slice() {
        [all] if all == "*" => Reach::Every,
        listed => Reach::These(
            fields
                .read_each("partitions", listed, "ids of partitions, or \"*\" alone")
                .into_iter()
                .collect(),
        ),
    };
    let roles: BTreeSet<Box<str>> =
        fields.texts("roles").unwrap_or_default().into_iter().map(Into::into).collect();
    if !roles.iter().all(|role| is_role(role)) || roles.contains("operator") {
        fields.refuse("roles", "names of roles of partitions: 1 to 64 of a-z, 0-9 and '-'");
    }
    let listed = fields.texts("addresses").unwrap_or_default();
    let network = |text: &String| match text.parse::<IpNet>() {
        Ok(network) => Some(network),
        Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    let addresses: Option<Vec<IpNet>> = listed.iter().map(network).collect();
    if addresses.is_none() {
        fields.refuse("addresses", "addresses such as 10.0.0.7 and networks such as 10.1.0.0/16");
    }
    let host = "a host and a port, such as \"ct1.example.org:11112\"";
    let destination = fields.parsed("destination", host, |value| {
        let (host, port) = value.as_str()?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| (host.into(), port))
    });
    let tls = fields.flag("tls");
    if ae.is_none() {
        fields.conflict("it needs ae");
    }
    if partitions.is_empty() {
        fields.conflict("it needs partitions");
    }
    Some(DimsePeer { ae: ae?, addresses: addresses?, reach, roles, destination, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DimsePeer, Vec<String>> {
        let table: toml::Table = text.parse().unwrap();
        let mut fields = Fields::new("entry".to_owned(), &table);
        let one = peer(&mut fields);
        let wrong = fields.finish();
        match one {
            Some(one) if wrong.is_empty() => Ok(one),
            _ => Err(wrong),
        }
    }

    #[test]
    fn a_peer_says_who_calls_from_where_and_where_it_takes_instances() {
        let peer = read(
            "ae = \"CT 1\"\npartitions = [\"North\"]\nroles = [\"writer\"]\n\
             addresses = [\"10.1.0.0/16\", \"192.0.2.7\"]\ndestination = \"[::1]:104\"\ntls = true",
        )
        .unwrap();
        assert!(peer.reach.has(&"north".parse().unwrap()) && peer.tls);
        assert_eq!(peer.destination, Some(("::1".into(), 104)));
        assert_eq!(peer.addresses.len(), 2);
        assert_eq!(read("ae = \"A\"\npartitions = \"*\"").unwrap().reach, Reach::Every);
    }

    #[test]
    fn what_is_wrong_with_a_peer_is_said_without_its_values() {
        for (text, part) in [
            ("partitions = \"*\"", "needs ae"),
            ("ae = \"A\"", "needs partitions"),
            ("ae = \"SECRET\\\\\"\npartitions = \"*\"", "ae must be"),
            ("ae = \"SEVENTEEN LETTERS\"\npartitions = \"*\"", "ae must be"),
            ("ae = \"A\"\npartitions = [\"SE CRET\"]", "partitions"),
            ("ae = \"A\"\npartitions = \"*\"\naddresses = \"SECRET\"", "addresses"),
            ("ae = \"A\"\npartitions = \"*\"\ndestination = \"SECRET\"", "destination"),
            ("ae = \"A\"\npartitions = \"*\"\nroles = \"operator\"", "roles"),
            ("ae = \"A\"\npartitions = \"*\"\nrole = \"SECRET\"", "did you mean roles"),
        ] {
            let why = read(text).unwrap_err().join("; ");
            assert!(why.contains(part) && !why.contains("SECRET"), "{text}: {why}");
        }
    }
}
