//! What is agreed on when an association begins (PS3.8 §7.1.1, PS3.7 Annex D): presentation
//! contexts, roles, the length of PDUs.
//!
//! Holds: no context is accepted that cannot be served. A context by which instances are sent to the
//! requestor (C-GET) is one for which it asked to be the SCP. Extended negotiation is declined by
//! not being answered. Pure.

use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason as Result_, RequestorRoles, UserVariableItem,
};

use super::link::SHORTEST;
use crate::dicom::{
    Uid,
    explicit::{IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION},
    non_patient::CATEGORIES,
    transfer_syntax::{EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, TransferSyntax},
};

/// DICOM Application Context Name (PS3.7 §A.2.1).
pub(super) const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
/// Most presentation contexts: their ids are the odd numbers of a byte.
pub(super) const MOST_CONTEXTS: usize = 128;

const VERIFICATION: &str = "1.2.840.10008.1.1";
/// What UIDs of DICOM begin with, and those of its storage SOP classes.
const DICOM: &str = "1.2.840.10008.";
const STORAGE: [&str; 2] = ["1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34.7"];

/// An information model of Query/Retrieve (PS3.4 §C.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Patient,
    Study,
}

/// What a SOP class is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Verification,
    Storage,
    Find(Root),
    Move(Root),
    Get(Root),
}

impl Service {
    /// That of a SOP class; `None`: it is not served.
    pub(super) fn of(class: &str) -> Option<Self> {
        Some(match class {
            VERIFICATION => Self::Verification,
            "1.2.840.10008.5.1.4.1.2.1.1" => Self::Find(Root::Patient),
            "1.2.840.10008.5.1.4.1.2.1.2" => Self::Move(Root::Patient),
            "1.2.840.10008.5.1.4.1.2.1.3" => Self::Get(Root::Patient),
            "1.2.840.10008.5.1.4.1.2.2.1" => Self::Find(Root::Study),
            "1.2.840.10008.5.1.4.1.2.2.2" => Self::Move(Root::Study),
            "1.2.840.10008.5.1.4.1.2.2.3" => Self::Get(Root::Study),
            // Of no study: these are stored by the web service alone.
            _ if CATEGORIES.iter().any(|category| category.sop_classes.contains(&class)) => {
                return None;
            }
            _ if STORAGE.iter().any(|start| class.starts_with(start)) => Self::Storage,
            _ if class.starts_with(DICOM) => return None,
            _ => Self::Storage,
        })
    }
}

/// A presentation context that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) id: u8,
    pub(super) class: Uid,
    pub(super) service: Service,
    pub(super) syntax: Uid,
    /// The requestor asks by it.
    pub(super) asks: bool,
    /// The requestor takes instances by it.
    pub(super) takes: bool,
}

/// Why there is nothing to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Another version of the protocol.
    Version,
    /// Another application context.
    Application,
    /// PDUs that are too short to be of use.
    Length,
    /// Numbers of contexts that are none, or that are there twice.
    Contexts,
}

/// What was agreed on.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) contexts: Vec<Context>,
    /// Longest PDU that the requestor takes; 0: any.
    pub(super) longest: u32,
    pub(super) answer: AssociationAC,
}

/// Reads a request, and makes the answer that accepts it.
///
/// # Errors
/// [`Unfit`].
pub(super) fn agree(request: &AssociationRQ, max_pdu: u32) -> Result<Agreed, Unfit> {
    if request.protocol_version & 1 == 0 {
        return Err(Unfit::Version);
    }
    if request.application_context_name.trim_matches(['\0', ' ']) != APPLICATION_CONTEXT {
        return Err(Unfit::Application);
    }
    let (mut longest, mut roles) = (0, Vec::new());
    for item in &request.user_variables {
        match item {
            UserVariableItem::MaxLength(length) => longest = *length,
            UserVariableItem::ScuScpRoleSelectionSubItem(class, asked) => {
                roles.push((class.trim_matches(['\0', ' ']), *asked));
            }
            _ => {}
        }
    }
    if longest != 0 && longest < SHORTEST {
        return Err(Unfit::Length);
    }
    let (mut contexts, mut results) = (Vec::<Context>::new(), Vec::new());
    let mut seen = [false; 256];
    for proposed in &request.presentation_contexts {
        let is_new = !std::mem::replace(&mut seen[usize::from(proposed.id)], true);
        if !is_new || proposed.id % 2 == 0 || results.len() >= MOST_CONTEXTS {
            return Err(Unfit::Contexts);
        }
        let class = proposed.abstract_syntax.trim_matches(['\0', ' ']);
        let asked = roles.iter().find(|(of, _)| *of == class).map(|(_, asked)| *asked);
        let (reason, syntax) = match context(proposed, class, asked) {
            Ok(context) => {
                let syntax = context.syntax.to_string();
                contexts.push(context);
                (Result_::Acceptance, syntax)
            }
            Err(reason) => (reason, IMPLICIT_LITTLE.to_owned()),
        };
        results.push(PresentationContextResult {
            id: proposed.id,
            reason,
            transfer_syntax: syntax,
        });
    }
    let mut user_variables = vec![
        UserVariableItem::MaxLength(max_pdu),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION.to_owned()),
    ];
    for (class, asked) in roles {
        let Some(context) = contexts.iter().find(|context| context.class.as_str() == class) else {
            continue;
        };
        let takes = asked.scp && context.service == Service::Storage;
        let given = RequestorRoles { scu: asked.scu, scp: takes };
        user_variables.push(UserVariableItem::ScuScpRoleSelectionSubItem(class.to_owned(), given));
    }
    let answer = AssociationAC {
        protocol_version: 1,
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        called_ae_title: request.called_ae_title.clone(),
        calling_ae_title: request.calling_ae_title.clone(),
        presentation_contexts: results,
        user_variables,
    };
    Ok(Agreed { contexts, longest, answer })
}

/// A context as it is accepted, or why it is not.
fn context(
    proposed: &PresentationContextProposed,
    class: &str,
    asked: Option<RequestorRoles>,
) -> Result<Context, Result_> {
    let service = Service::of(class).ok_or(Result_::AbstractSyntaxNotSupported)?;
    let class: Uid = class.parse().map_err(|_| Result_::AbstractSyntaxNotSupported)?;
    // Who says nothing is the SCU (PS3.7 §D.3.3.4).
    let (asks, takes) = match asked {
        Some(roles) => (roles.scu, roles.scp && service == Service::Storage),
        None => (true, false),
    };
    if !asks && !takes {
        return Err(Result_::UserRejection);
    }
    let offered = proposed.transfer_syntaxes.iter().map(|uid| uid.trim_matches(['\0', ' ']));
    let plain = |uid: &&str| *uid == EXPLICIT_LITTLE || *uid == IMPLICIT_LITTLE;
    let chosen = match service {
        // By what is wanted where it takes: what is native is made of whatever is stored.
        Service::Storage if takes => {
            let has = |uid: &str| offered.clone().find(|offered| *offered == uid);
            let made = |uid: &&str| *uid != EXPLICIT_BIG && TransferSyntax::lookup(uid).is_some();
            has(EXPLICIT_LITTLE)
                .or_else(|| has(IMPLICIT_LITTLE))
                .or_else(|| offered.clone().find(made))
        }
        Service::Storage => offered.clone().find(|uid| TransferSyntax::lookup(uid).is_some()),
        _ => offered.clone().find(plain),
    };
    let syntax = chosen.and_then(|uid| uid.parse().ok());
    let syntax = syntax.ok_or(Result_::TransferSyntaxesNotSupported)?;
    Ok(Context { id: proposed.id, class, service, syntax, asks, takes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const JPEG: &str = "1.2.840.10008.1.2.4.70";

    fn request(contexts: &[(u8, &str, &[&str])], roles: &[(&str, bool, bool)]) -> AssociationRQ {
        let proposed = contexts.iter().map(|(id, class, syntaxes)| PresentationContextProposed {
            id: *id,
            abstract_syntax: (*class).to_owned(),
            transfer_syntaxes: syntaxes.iter().map(|uid| (*uid).to_owned()).collect(),
        });
        let roles = roles.iter().map(|(class, scu, scp)| {
            let roles = RequestorRoles { scu: *scu, scp: *scp };
            UserVariableItem::ScuScpRoleSelectionSubItem((*class).to_owned(), roles)
        });
        AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "A".to_owned(),
            called_ae_title: "B".to_owned(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: proposed.collect(),
            user_variables: roles.collect(),
        }
    }

    #[test]
    fn what_is_served_is_accepted_in_what_is_known() {
        let agreed = agree(
            &request(
                &[
                    (1, VERIFICATION, &[JPEG, IMPLICIT_LITTLE]),
                    (3, CT, &["1.2.3", JPEG, EXPLICIT_LITTLE]),
                    (5, CT, &["1.2.3"]),
                    (7, "1.2.840.10008.5.1.1.9", &[IMPLICIT_LITTLE]),
                    (9, "1.2.840.10008.5.1.4.39.1", &[IMPLICIT_LITTLE]),
                    (11, "1.2.3.4", &[EXPLICIT_LITTLE]),
                    (13, VERIFICATION, &[JPEG]),
                ],
                &[],
            ),
            4096,
        )
        .unwrap();
        let accepted: Vec<_> =
            agreed.contexts.iter().map(|context| (context.id, context.syntax.as_str())).collect();
        assert_eq!(accepted, [(1, IMPLICIT_LITTLE), (3, JPEG), (11, EXPLICIT_LITTLE)]);
        assert!(agreed.contexts.iter().all(|context| context.asks && !context.takes));
        let reasons: Vec<_> = agreed
            .answer
            .presentation_contexts
            .iter()
            .map(|result| result.reason.clone())
            .collect();
        assert_eq!(reasons[2], Result_::TransferSyntaxesNotSupported);
        assert_eq!(reasons[3..5], [const { Result_::AbstractSyntaxNotSupported }; 2]);
    }

    #[test]
    fn who_takes_instances_has_asked_for_that_role() {
        let get = "1.2.840.10008.5.1.4.1.2.2.3";
        let contexts: [(u8, &str, &[&str]); 3] =
            [(1, get, &[IMPLICIT_LITTLE]), (3, CT, &[JPEG, IMPLICIT_LITTLE]), (5, CT, &[JPEG])];
        let roles = [(CT, false, true), (get, true, true), ("1.2.3", true, true)];
        let agreed = agree(&request(&contexts, &roles), 4096).unwrap();
        let of = |at: usize| (agreed.contexts[at].asks, agreed.contexts[at].takes);
        assert_eq!((of(0), of(1), of(2)), ((true, false), (false, true), (false, true)));
        assert_eq!(agreed.contexts[1].syntax.as_str(), IMPLICIT_LITTLE);
        assert_eq!(agreed.contexts[2].syntax.as_str(), JPEG);
        let given = |class: &str| {
            agreed.answer.user_variables.iter().find_map(|item| match item {
                UserVariableItem::ScuScpRoleSelectionSubItem(of, roles) if of == class => {
                    Some((roles.scu, roles.scp))
                }
                _ => None,
            })
        };
        assert_eq!((given(CT), given(get)), (Some((false, true)), Some((true, false))));
        assert_eq!(given("1.2.3"), None);
    }

    #[test]
    fn what_cannot_be_is_no_request() {
        let plain: &[&str] = &[IMPLICIT_LITTLE];
        for ids in [[1, 1], [1, 2], [0, 1]] {
            let contexts = ids.map(|id| (id, VERIFICATION, plain));
            assert_eq!(agree(&request(&contexts, &[]), 4096).unwrap_err(), Unfit::Contexts);
        }
        let good = request(&[(1, VERIFICATION, plain)], &[]);
        let other = AssociationRQ { application_context_name: "1.2".to_owned(), ..good.clone() };
        assert_eq!(agree(&other, 4096).unwrap_err(), Unfit::Application);
        let other = AssociationRQ { protocol_version: 2, ..good.clone() };
        assert_eq!(agree(&other, 4096).unwrap_err(), Unfit::Version);
        let short = vec![UserVariableItem::MaxLength(12)];
        let other = AssociationRQ { user_variables: short, ..good };
        assert_eq!(agree(&other, 4096).unwrap_err(), Unfit::Length);
    }
}
