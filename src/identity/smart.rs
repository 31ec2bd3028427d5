//! Scopes of SMART on FHIR (SMART App Launch 2.2 §3, with the forms of version 1), which IHE IUA uses
//! as well: `system/ImagingStudy.rs`, `user/*.read`.
//!
//! A resource of FHIR stands for what is nearest to it here:
//!
//! | resource | read, search | create, update, delete |
//! | --- | --- | --- |
//! | `ImagingStudy` | retrieve; search; both: change feed, export | store; store; delete |
//! | `AuditEvent` | audit log | nothing |
//! | `Subscription` | see webhooks | change webhooks |
//! | `*` | all that reads | with all of `cruds`, everything |
//!
//! `patient/…` stands for nothing: there is no fence inside of a partition that would keep to one
//! patient. Nor do scopes with a query (`?modality=CT`), which narrow what cannot be narrowed.

use crate::tenancy::{Permission as P, Permissions, Role};

/// What a resource's scope lets be done: one bit for each letter of `cruds`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Letters(u8);

impl Letters {
    const ALL: &'static [u8] = b"cruds";

    /// Letters in their order (version 2), or a word (version 1).
    fn read(text: &str) -> Option<Self> {
        let text = match text {
            "read" => "rs",
            "write" => "cud",
            "*" => "cruds",
            letters => letters,
        };
        let mut bits = 0;
        let mut from = 0;
        for letter in text.bytes() {
            let at = from + Self::ALL.get(from..)?.iter().position(|one| *one == letter)?;
            bits |= 1 << at;
            from = at + 1;
        }
        (bits != 0).then_some(Self(bits))
    }

    fn has(self, letter: u8) -> bool {
        Self::ALL.iter().position(|one| *one == letter).is_some_and(|at| self.0 & (1 << at) != 0)
    }

    fn reads(self) -> bool {
        self.has(b'r') && self.has(b's')
    }
}

/// What a token is good for at the most by its scopes; `None` where none of them is one of SMART.
pub(super) fn limit(scopes: &[String]) -> Option<Permissions> {
    let mut smart = scopes.iter().filter_map(|scope| of(scope)).peekable();
    smart.peek()?;
    Some(smart.fold(Permissions::NONE, |all, (_, one)| all.or(one)))
}

/// What scopes of `system/` permit to a program: of what they stand for, what readers, writers and
/// deleters do.
pub(super) fn granted(scopes: &[String]) -> Permissions {
    let of_system = scopes.iter().filter_map(|scope| of(scope)).filter(|(is_system, _)| *is_system);
    let all = of_system.fold(Permissions::NONE, |all, (_, one)| all.or(one));
    let data = [Role::Reader, Role::Writer, Role::Deleter].map(Role::permits);
    all.and(data.into_iter().fold(Permissions::NONE, Permissions::or))
}

/// Whether a scope is a program's, and what it stands for; `None` where it is none of SMART.
fn of(scope: &str) -> Option<(bool, Permissions)> {
    let (context, rest) = scope.split_once('/')?;
    let is_system = match context {
        "system" => true,
        "user" => false,
        "patient" => return Some((false, Permissions::NONE)),
        _ => return None,
    };
    let read = || {
        let (resource, letters) = rest.split_once('.')?;
        Some(permissions(resource, Letters::read(letters)?))
    };
    // What is not understood permits nothing, and still says that the token is narrowed.
    Some((is_system, read().unwrap_or(Permissions::NONE)))
}

fn permissions(resource: &str, letters: Letters) -> Permissions {
    let when = |is: bool, these: &[P]| if is { Permissions::of(these) } else { Permissions::NONE };
    match resource {
        "ImagingStudy" => [
            when(letters.has(b'c') || letters.has(b'u'), &[P::Store, P::Commit]),
            when(letters.has(b'r'), &[P::Retrieve]),
            when(letters.has(b'd'), &[P::Delete, P::ReadOperations]),
            when(letters.has(b's'), &[P::Search, P::ReadTags]),
            when(letters.reads(), &[P::ReadChanges, P::Export, P::ReadOperations]),
            Permissions::of(&[P::ListPartitions]),
        ]
        .into_iter()
        .fold(Permissions::NONE, Permissions::or),
        "AuditEvent" => when(letters.reads(), &[P::ReadAudit]),
        "Subscription" => {
            let changes = [b'c', b'u', b'd'].iter().all(|letter| letters.has(*letter));
            when(letters.reads(), &[P::ReadWebhooks]).or(when(changes, &[P::ManageWebhooks]))
        }
        // What FHIR calls a workitem.
        "Task" => {
            let changes = letters.has(b'c') && letters.has(b'u');
            when(letters.reads(), &[P::ReadWorkitems]).or(when(changes, &[P::ManageWorkitems]))
        }
        "*" if letters == Letters(0b11111) => Permissions::ALL,
        "*" => {
            let reads = P::ALL.iter().copied().filter(|one| letters.reads() && !one.changes());
            let of_studies = permissions("ImagingStudy", letters);
            let of_webhooks = permissions("Subscription", letters);
            let of_workitems = permissions("Task", letters);
            reads.collect::<Permissions>().or(of_studies).or(of_webhooks).or(of_workitems)
        }
        _ => Permissions::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(scopes: &str) -> Option<Vec<&'static str>> {
        let scopes: Vec<String> = scopes.split(' ').map(str::to_owned).collect();
        Some(limit(&scopes)?.iter().map(P::as_str).collect())
    }

    #[test]
    fn both_versions_say_what_a_token_is_good_for() {
        let reading = names("system/ImagingStudy.rs").unwrap();
        assert!(reading.contains(&"studies.retrieve") && reading.contains(&"studies.search"));
        assert!(!reading.contains(&"studies.store") && !reading.contains(&"studies.delete"));
        assert_eq!(names("user/ImagingStudy.read").as_ref(), Some(&reading));
        assert_eq!(names("openid user/ImagingStudy.rs email").as_ref(), Some(&reading));
        let writing = names("system/ImagingStudy.write").unwrap();
        assert_eq!(
            writing,
            [
                "studies.store",
                "studies.delete",
                "studies.commit",
                "partitions.list",
                "operations.read",
            ]
        );
        assert_eq!(names("system/ImagingStudy.cud").as_ref(), Some(&writing));
        assert_eq!(
            names("system/ImagingStudy.c").unwrap(),
            ["studies.store", "studies.commit", "partitions.list"]
        );
        assert_eq!(names("system/*.cruds").unwrap().len(), P::ALL.len());
        assert_eq!(names("user/*.*").unwrap().len(), P::ALL.len());
        assert_eq!(names("system/AuditEvent.rs").unwrap(), ["audit.read"]);
        assert_eq!(names("system/Task.rs").unwrap(), ["workitems.read"]);
        assert_eq!(names("system/Task.cruds").unwrap(), ["workitems.read", "workitems.manage"]);
        assert_eq!(names("system/Task.u").unwrap(), Vec::<&str>::new());
        let all = names("user/*.rs").unwrap();
        assert!(all.contains(&"audit.read") && !all.contains(&"studies.store"));
        assert!(!all.contains(&"policy.manage"));
    }

    #[test]
    fn without_scopes_of_smart_nothing_is_limited() {
        assert_eq!(names("openid email dicom"), None);
        assert_eq!(names("launch/patient offline_access"), None);
        assert_eq!(names("https://www.example.org/auth/dicom"), None);
    }

    #[test]
    fn what_cannot_be_kept_to_permits_nothing() {
        for scopes in [
            "patient/ImagingStudy.rs",
            "patient/*.*",
            "system/ImagingStudy.rs?modality=CT",
            "system/ImagingStudy.sr",
            "system/ImagingStudy.rr",
            "system/ImagingStudy.",
            "system/ImagingStudy",
            "system/imagingstudy.rs",
            "system/Patient.rs",
            "system/",
        ] {
            assert_eq!(names(scopes), Some(vec![]), "{scopes}");
        }
    }

    #[test]
    fn programs_are_granted_data_and_nothing_else() {
        let of = |scope: &str| granted(&[scope.to_owned()]);
        assert!(of("system/ImagingStudy.rs").has(P::Search));
        for scope in ["user/*.*", "patient/*.*", "openid"] {
            assert_eq!(of(scope), Permissions::NONE);
        }
        let all = of("system/*.*");
        assert!(all.has(P::Store) && all.has(P::Delete));
        assert!(!all.has(P::ManagePolicy) && !all.has(P::Share) && !all.has(P::ReadAudit));
        assert!(!all.has(P::ManagePartitions));
    }
}
