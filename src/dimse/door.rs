//! Who may associate, and with what (the calling and the called AE title).
//!
//! Holds: who calls is decided before anything is said of what he calls; a partition that does not
//! exist and one that he does not reach are rejected alike, as are titles that mean none; limits of
//! a partition are told to those alone who reach it. Who may do what is decided again for each
//! message ([`Caller::scope`]).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use time::OffsetDateTime;

use super::Gateway;
use crate::{
    archive::{MayReject, Undecided},
    config::{DimseConfig, DimsePeer, is_ae_title},
    control::ControlError,
    identity::PeerCertificate,
    tenancy::{
        Circumstances, Deed, Known, Named, PartitionId, PartitionScope, Permission, Permissions,
        Principal, PrincipalKind, Refused,
    },
};

/// What principals that are known by an AE title are vouched for by.
const ISSUER: &str = "ae";

/// What a caller may want.
const WANTS: [Permission; 3] = [Permission::Store, Permission::Search, Permission::Retrieve];

/// Who calls, and which partition.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) who: Principal,
    pub(super) address: IpAddr,
    /// The calling AE title.
    pub(super) calling: Box<str>,
    /// The called one.
    pub(super) called: Box<str>,
    pub(super) partition: PartitionId,
    /// The association's id, as logs have it.
    pub(super) id: Box<str>,
    expires_at: Option<OffsetDateTime>,
}

/// Why nobody gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// Whoever calls is not known.
    Calling,
    /// There is no such partition for him.
    Called,
    /// It cannot be decided now.
    Unavailable,
}

/// Whose certificate it is, if it is somebody's.
fn certified(peer: Option<&PeerCertificate>) -> Option<(Principal, OffsetDateTime)> {
    let peer = peer?;
    Some((Principal::Known(peer.who.clone()?), peer.expires_at))
}

/// Whether somebody calls whom the configuration knows.
fn who(
    config: &DimseConfig,
    is_auth_on: bool,
    (calling, address): (&str, IpAddr),
    peer: Option<&PeerCertificate>,
) -> Option<(Principal, Option<OffsetDateTime>)> {
    let entry = config.peer(calling, address);
    if !is_auth_on {
        let may = config.peers.is_empty() || entry.is_some();
        return may.then_some((Principal::Anonymous, None));
    }
    if let Some((who, end)) = certified(peer) {
        return Some((who, Some(end)));
    }
    Some((Principal::Known(Arc::new(known(entry?))), None))
}

fn known(entry: &DimsePeer) -> Known {
    Known {
        kind: PrincipalKind::Service,
        issuer: ISSUER.into(),
        subject: entry.ae.clone(),
        name: None,
        reach: entry.reach.clone(),
        roles: entry.roles.clone(),
        permissions: Permissions::NONE,
        limit: Permissions::ALL,
        is_operator: false,
        session: None,
        token: None,
    }
}

impl Caller {
    /// Who calls, if he may.
    pub(super) async fn of(
        gateway: &Gateway,
        (calling, called): (&str, &str),
        address: IpAddr,
        peer: Option<&PeerCertificate>,
    ) -> Result<Self, Shut> {
        let config = &gateway.config;
        let address = address.to_canonical();
        let (calling, called) =
            (calling.trim_matches(['\0', ' ']), called.trim_matches(['\0', ' ']));
        if !is_ae_title(calling) {
            return Err(Shut::Calling);
        }
        let found = who(config, gateway.is_auth_on, (calling, address), peer);
        let (who, expires_at) = found.ok_or(Shut::Calling)?;
        let (partition, is_listed) =
            match (gateway.partitions.enabled(), config.ae_titles.get(called)) {
                _ if !is_ae_title(called) => return Err(Shut::Called),
                (false, _) => (PartitionId::default(), true),
                (true, Some(partition)) => (partition.clone(), true),
                (true, None) => (called.parse().map_err(|_| Shut::Called)?, false),
            };
        let entry = config.peer(calling, address);
        let reaches = entry.is_none_or(|entry| entry.reach.has(&partition));
        if gateway.partitions.enabled() && !gateway.is_auth_on && !reaches {
            return Err(Shut::Called);
        }
        let id = uuid::Uuid::new_v4().to_string().into();
        let (calling, called) = (calling.into(), called.into());
        let it = Self { who, address, calling, called, partition, id, expires_at };
        let mut may = false;
        for permission in WANTS {
            match it.decide(gateway, permission).await {
                Ok(_) => may = true,
                Err(ControlError::Index(_)) => return Err(Shut::Unavailable),
                // A title that is not listed means what exists: storing makes nothing of it.
                Err(ControlError::Refused(Refused::Hidden))
                    if !is_listed && permission != Permission::Store =>
                {
                    return Err(Shut::Called);
                }
                Err(ControlError::Refused(_)) => {}
            }
        }
        if may { Ok(it) } else { Err(Shut::Called) }
    }

    async fn decide(
        &self,
        gateway: &Gateway,
        permission: Permission,
    ) -> Result<PartitionScope, ControlError> {
        let now = OffsetDateTime::now_utc();
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(Refused::Hidden.into());
        }
        let around = Circumstances { address: self.address, now, issued_at: None, has_mfa: false };
        let named = Named::One(self.partition.clone());
        let scope = gateway.partitions.scope(&self.who, &around, &named, permission).await?;
        Ok(PartitionScope::try_from(scope)?)
    }

    /// What a message may touch, for what it does.
    ///
    /// # Errors
    /// The refusal; where it cannot be decided.
    pub(super) async fn scope(
        &self,
        gateway: &Gateway,
        deed: &Arc<Deed>,
    ) -> Result<PartitionScope, ControlError> {
        let scope = self.decide(gateway, deed.permission).await?;
        let scope = (*scope).clone().for_deed(deed.clone());
        Ok(PartitionScope::try_from(scope)?)
    }

    /// Whether he may also reject what the partition holds, as strong as deleting it.
    pub(super) fn may_reject(&self, gateway: &Gateway) -> MayReject {
        let (caller, gateway) = (self.clone(), gateway.clone());
        Box::pin(async move {
            match caller.decide(&gateway, Permission::Delete).await {
                Ok(_) => Ok(true),
                Err(ControlError::Refused(_)) => Ok(false),
                Err(ControlError::Index(_)) => Err(Undecided),
            }
        })
    }

    /// What a message does.
    pub(super) fn deed(
        &self,
        permission: Permission,
        message: &str,
        named: Vec<(Box<str>, Box<str>)>,
    ) -> Arc<Deed> {
        let by = ("DIMSE", message);
        Arc::new(Deed::new(self.who.clone(), self.address, &self.id, permission, by, named))
    }
}

/// What associations are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Of {
    All,
    Partition(PartitionId),
    Peer(Box<str>, IpAddr),
}

/// How many associations there are. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Arc<Mutex<HashMap<Of, usize>>>);

/// An association that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Counts,
    of: Vec<Of>,
}

impl Counts {
    /// Counts one more association; `None`: there are enough.
    pub(super) fn enter(&self, gateway: &Gateway, caller: &Caller) -> Option<Counted> {
        let config = &gateway.config;
        let mut bounds = vec![
            (Of::All, config.max_associations),
            (Of::Peer(caller.calling.clone(), caller.address), config.peer_associations),
        ];
        if gateway.partitions.enabled() {
            bounds.push((Of::Partition(caller.partition.clone()), config.partition_associations));
        }
        self.take(bounds)
    }

    fn take(&self, bounds: Vec<(Of, usize)>) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |of: &Of| counts.get(of).copied().unwrap_or_default();
        if bounds.iter().any(|(of, most)| count(of) >= *most) {
            return None;
        }
        let of: Vec<Of> = bounds.into_iter().map(|(of, _)| of).collect();
        for of in &of {
            *counts.entry(of.clone()).or_default() += 1;
        }
        Some(Counted { counts: self.clone(), of })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of in &self.of {
            if let Some(count) = counts.get_mut(of) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(of);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::Reach;

    fn config(peers: &[(&str, &str)]) -> DimseConfig {
        let peer = |(ae, network): &(&str, &str)| DimsePeer {
            ae: (*ae).into(),
            addresses: network.parse().ok().into_iter().collect(),
            reach: Reach::Every,
            roles: ["writer".into()].into(),
            destination: None,
            tls: false,
        };
        DimseConfig { peers: peers.iter().map(peer).collect(), ..DimseConfig::default() }
    }

    #[test]
    fn only_who_is_listed_is_somebody() {
        let (near, far): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [192, 0, 2, 1].into());
        let listed = config(&[("CT1", "10.0.0.0/8")]);
        for (config, is_auth_on, calling, address, expected) in [
            (config(&[]), false, "X", far, true),
            (config(&[]), true, "X", far, false),
            (listed.clone(), false, "CT1", near, true),
            (listed.clone(), false, "CT1", far, false),
            (listed.clone(), false, "ct1", near, false),
            (listed.clone(), true, "CT1", near, true),
            (listed, true, "CT1", far, false),
        ] {
            let found = who(&config, is_auth_on, (calling, address), None);
            assert_eq!(found.is_some(), expected, "{calling} {address} {is_auth_on}");
        }
    }

    #[test]
    fn a_certificate_goes_before_an_ae_title() {
        let mut somebody = known(&config(&[("CT1", "")]).peers[0]);
        somebody.subject = "CN=ct".into();
        let peer = PeerCertificate {
            who: Some(Arc::new(somebody)),
            expires_at: OffsetDateTime::UNIX_EPOCH,
        };
        let call = ("CT1", [10, 0, 0, 1].into());
        let (who, end) = who(&config(&[("CT1", "")]), true, call, Some(&peer)).unwrap();
        let Principal::Known(known) = who else { panic!("nobody") };
        assert_eq!((&*known.subject, end), ("CN=ct", Some(OffsetDateTime::UNIX_EPOCH)));
    }

    #[test]
    fn associations_count_while_they_last() {
        let counts = Counts::default();
        let bounds = || vec![(Of::All, 2), (Of::Peer("A".into(), [10, 0, 0, 1].into()), 1)];
        let one = counts.take(bounds()).unwrap();
        assert!(counts.take(bounds()).is_none());
        let other = counts.take(vec![(Of::All, 2)]).unwrap();
        assert!(counts.take(vec![(Of::All, 2)]).is_none());
        drop((one, other));
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
