//! Every permission, role, state and circumstance, against a table that was written by hand.

use std::{collections::BTreeSet, sync::Arc};

use super::*;
use crate::tenancy::Reach;

/// Each permission, whether it changes something, and who has it: `r`eader, `w`riter, `d`eleter,
/// e`x`porter, `a`uditor, `p`artition-admin, `o`perator.
const TABLE: &str = "
    studies.retrieve   looks    r  x p
    studies.store      changes  w p
    studies.delete     changes  d p
    studies.update     changes  p
    studies.search     looks    r x p
    studies.commit     looks    w p
    studies.export     changes  x p
    studies.export-deidentified  changes  x p
    partitions.list    looks    r w d x a p o
    partitions.manage  changes  o
    changes.read       looks    r p
    tags.read          looks    r p o
    tags.manage        changes  p o
    operations.read    looks    d x p o
    operations.manage  changes  p o
    webhooks.read      looks    p
    webhooks.manage    changes  p
    principals.read    looks    p
    principals.manage  changes  p
    policy.read        looks    p o
    policy.manage      changes  p o
    audit.read         looks    a p
    links.create       changes  p
    workitems.read     looks    r p
    workitems.manage   changes  w p
    metrics.read       looks    o";

const LETTERS: [(char, Role); 7] = [
    ('r', Role::Reader),
    ('w', Role::Writer),
    ('d', Role::Deleter),
    ('x', Role::Exporter),
    ('a', Role::Auditor),
    ('p', Role::PartitionAdmin),
    ('o', Role::Operator),
];

/// A permission, whether it changes something, and the roles that have it.
fn table() -> Vec<(Permission, bool, Vec<Role>)> {
    let lines = TABLE.lines().map(str::trim).filter(|line| !line.is_empty());
    let rows = lines.map(|line| {
        let mut words = line.split_whitespace();
        let permission = Permission::of(words.next().unwrap()).unwrap();
        let changes = words.next().unwrap() == "changes";
        let role = |word: &str| {
            let of = |(letter, _): &&(char, Role)| word == letter.to_string();
            LETTERS.iter().find(of).unwrap().1
        };
        (permission, changes, words.map(role).collect())
    });
    rows.collect()
}

fn somebody(kind: PrincipalKind, role: Option<Role>) -> Known {
    let is_operator = role == Some(Role::Operator);
    let roles = role.filter(|_| !is_operator).map(|role| role.as_str().into());
    Known {
        kind,
        issuer: "issuer".into(),
        subject: "subject".into(),
        name: None,
        reach: Reach::Every,
        roles: roles.into_iter().collect(),
        permissions: Permissions::NONE,
        limit: Permissions::ALL,
        is_operator,
        session: None,
        token: None,
    }
}

fn known(known: Known) -> Principal {
    Principal::Known(Arc::new(known))
}

#[test]
fn the_table_has_each_permission_once_and_says_what_roles_say() {
    let rows = table();
    let named: BTreeSet<Permission> = rows.iter().map(|(permission, ..)| *permission).collect();
    assert_eq!((rows.len(), named.len()), (Permission::ALL.len(), Permission::ALL.len()));
    for (permission, changes, roles) in rows {
        assert_eq!(permission.changes(), changes, "{permission}");
        for role in Role::ALL {
            assert_eq!(
                role.permits().has(permission),
                roles.contains(&role),
                "{permission} {role:?}"
            );
        }
    }
}

/// Where a request comes from, how it said who asks, and when the token was issued.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: PrincipalKind,
    state: PartitionState,
    is_suspended: bool,
    is_revoked: bool,
    is_inside: bool,
    needs_mfa: bool,
    has_mfa: bool,
    /// Seconds since the token was issued.
    age: Option<u64>,
    bounds_age: bool,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let flags = [false, true];
    for kind in PrincipalKind::ALL {
        for state in PartitionState::ALL {
            for bits in 0..64_u32 {
                let flag = |at: u32| flags[(bits >> at & 1) as usize];
                for age in [None, Some(0), Some(60), Some(61)] {
                    cases.push(Case {
                        kind,
                        state,
                        is_suspended: flag(0),
                        is_revoked: flag(1),
                        is_inside: flag(2),
                        needs_mfa: flag(3),
                        has_mfa: flag(4),
                        age,
                        bounds_age: flag(5),
                    });
                }
            }
        }
    }
    cases
}

/// The word for what is answered, or "" for yes; in other words than those of the code.
fn expected(case: Case, row: &(Permission, bool, Vec<Role>), role: Option<Role>) -> &'static str {
    let (permission, changes, roles) = row;
    let is_operator = role == Some(Role::Operator);
    let is_human = case.kind.as_str() == "user";
    let has_token = is_human || case.kind.as_str() == "service";
    let is_of_policy = permission.as_str().starts_with("policy.");
    let is_of_keepers = is_of_policy || permission.as_str() == "principals.manage";
    let too_old = match case.age {
        None => true,
        Some(seconds) => seconds > 60,
    };
    let reasons = [
        (case.is_suspended, "principal-suspended"),
        (case.is_revoked, "revoked"),
        (!case.is_inside && !is_operator, "address"),
        (case.needs_mfa && is_human && !case.has_mfa, "mfa"),
        (case.bounds_age && has_token && too_old, "token-age"),
        (role.is_none_or(|role| !roles.contains(&role)), "permission"),
        (case.state.as_str() == "suspended" && !is_of_policy, "partition-suspended"),
        (case.state.as_str() == "read-only" && *changes && !is_of_keepers, "read-only"),
    ];
    reasons.into_iter().find(|(holds, _)| *holds).map_or("", |(_, word)| word)
}

#[test]
fn every_permission_role_state_and_circumstance_is_decided_as_the_table_says() {
    let roles: Vec<Option<Role>> = Role::ALL.map(Some).into_iter().chain([None]).collect();
    let (rows, now) = (table(), OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    let mut decided = 0;
    for case in cases() {
        let policy = Policy {
            state: case.state,
            allowed_addresses: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            needs_mfa: case.needs_mfa,
            max_token_age: case.bounds_age.then_some(Duration::from_secs(60)),
            default_roles: Vec::new(),
        };
        let membership = Membership {
            policy,
            is_suspended: case.is_suspended,
            is_revoked: case.is_revoked,
            ..Membership::default()
        };
        let around = Circumstances {
            // An address of IPv4 that came by a socket of IPv6 is the same.
            address: if case.is_inside { "::ffff:10.1.2.3" } else { "192.0.2.1" }.parse().unwrap(),
            now,
            issued_at: case.age.map(|age| now - Duration::from_secs(age)),
            has_mfa: case.has_mfa,
        };
        for role in &roles {
            let who = known(somebody(case.kind, *role));
            for row in &rows {
                let verdict = check(&who, &membership, &around, row.0);
                let word = verdict.err().map_or("", Denied::as_str);
                assert_eq!(word, expected(case, row, *role), "{} {role:?} {case:?}", row.0);
                decided += 1;
            }
        }
    }
    assert!(decided > 600_000, "{decided}");
}

#[test]
fn nobody_in_particular_is_bound_by_the_state_alone() {
    for (permission, changes, _) in table() {
        for state in PartitionState::ALL {
            let policy = Policy {
                state,
                allowed_addresses: vec!["10.0.0.0/8".parse().unwrap()],
                needs_mfa: true,
                max_token_age: Some(Duration::from_secs(1)),
                default_roles: Vec::new(),
            };
            let membership = Membership { policy, ..Membership::default() };
            let around = Circumstances::default();
            let verdict = check(&Principal::Anonymous, &membership, &around, permission);
            let is_of_policy = permission.as_str().starts_with("policy.");
            let expected = match state.as_str() {
                "suspended" if !is_of_policy => Err(Denied::Partition),
                "read-only"
                    if changes && !is_of_policy && permission != Permission::ManagePrincipals =>
                {
                    Err(Denied::ReadOnly)
                }
                _ => Ok(()),
            };
            assert_eq!(verdict, expected, "{permission} {state:?}");
        }
    }
}

/// What somebody may do with roles by the credential and by the partition, and one by default.
fn sum(of_token: &[&str], given: &[&str], default: &[&str]) -> Permissions {
    let boxed = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Vec<_>>();
    let mut who = somebody(PrincipalKind::User, None);
    who.roles = boxed(of_token).into_iter().collect();
    let own = [
        (Box::from("night"), Permissions::of(&[Permission::Search])),
        (Box::from("greedy"), Permissions::ALL),
    ];
    let policy = Policy { default_roles: boxed(default), ..Policy::default() };
    let roles = BTreeMap::from(own);
    let membership = Membership { policy, roles, given: boxed(given), ..Membership::default() };
    permissions(&known(who), &membership)
}

#[test]
fn roles_add_up_and_defaults_are_for_who_has_none() {
    let (reader, writer) = (Role::Reader.permits(), Role::Writer.permits());
    assert_eq!(sum(&["reader"], &["writer"], &["deleter"]), reader.or(writer));
    assert_eq!(sum(&[], &["reader"], &["deleter"]), reader);
    assert_eq!(sum(&[], &[], &["deleter"]), Role::Deleter.permits());
    assert_eq!(sum(&[], &[], &[]), Permissions::NONE);
    // A name that the partition does not know gives nothing, and is a role nevertheless.
    assert_eq!(sum(&["nothing"], &[], &["reader"]), Permissions::NONE);
    assert_eq!(sum(&["night"], &[], &[]), Permissions::of(&[Permission::Search]));
    // What is of the platform is nobody's in a partition.
    assert_eq!(sum(&["greedy"], &[], &[]), Role::PartitionAdmin.permits());
    for way in [sum(&["operator"], &[], &[]), sum(&[], &["operator"], &[])] {
        assert_eq!(way, Permissions::NONE);
    }
    assert_eq!(role_permits(&BTreeMap::new(), "operator"), None);
    assert_eq!(role_permits(&BTreeMap::new(), "night"), None);
}

#[test]
fn a_credential_is_good_for_its_limit_at_the_most() {
    let mut who = somebody(PrincipalKind::Service, Some(Role::PartitionAdmin));
    who.limit = Permissions::of(&[Permission::Retrieve, Permission::ReadMetrics]);
    let may = permissions(&known(who.clone()), &Membership::default());
    assert_eq!(may, Permissions::of(&[Permission::Retrieve]));
    who.is_operator = true;
    let may = permissions(&known(who.clone()), &Membership::default());
    assert_eq!(may, who.limit);
    // What it gives besides roles counts as well, and keeps defaults away.
    let mut key = somebody(PrincipalKind::ApiKey, None);
    key.permissions = Permissions::of(&[Permission::Store]);
    let policy = Policy { default_roles: vec!["reader".into()], ..Policy::default() };
    let membership = Membership { policy, ..Membership::default() };
    assert_eq!(permissions(&known(key), &membership), Permissions::of(&[Permission::Store]));
}
