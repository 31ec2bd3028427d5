//! Codes of DICOM audit messages (PS3.15 A.5, PS3.16 Annex D): what kind of event an action is.

use crate::tenancy::Permission;

use super::{Event, Outcome};

/// A code of DCM and its meaning.
pub(super) type Code = (&'static str, &'static str);

pub(super) const AUDIT_LOG_USED: Code = ("110101", "Audit Log Used");
pub(super) const BEGIN_TRANSFERRING: Code = ("110102", "Begin Transferring DICOM Instances");
pub(super) const ACCESSED: Code = ("110103", "DICOM Instances Accessed");
pub(super) const TRANSFERRED: Code = ("110104", "DICOM Instances Transferred");
pub(super) const STUDY_DELETED: Code = ("110105", "DICOM Study Deleted");
pub(super) const EXPORT: Code = ("110106", "Export");
pub(super) const PROCEDURE: Code = ("110111", "Procedure Record");
pub(super) const QUERY: Code = ("110112", "Query");
pub(super) const ALERT: Code = ("110113", "Security Alert");
pub(super) const AUTHENTICATION: Code = ("110114", "User Authentication");

pub(super) const LOGIN: Code = ("110122", "Login");
pub(super) const NETWORK: Code = ("110128", "Network Configuration");
pub(super) const SECURITY: Code = ("110129", "Security Configuration");
pub(super) const SOFTWARE: Code = ("110131", "Software Configuration");
pub(super) const RESTRICTED: Code = ("110132", "Use of Restricted Function");
pub(super) const USER_SECURITY: Code = ("110137", "User Security Attributes Changed");
pub(super) const STOPPED: Code = ("110133", "Audit Recording Stopped");

pub(super) const SOURCE_ROLE: Code = ("110153", "Source Role ID");
pub(super) const DESTINATION_ROLE: Code = ("110152", "Destination Role ID");
pub(super) const APPLICATION_ROLE: Code = ("110150", "Application");

pub(super) const STUDY_UID: Code = ("110180", "Study Instance UID");
pub(super) const CLASS_UID: Code = ("110181", "SOP Class UID");

/// What an event is to DICOM: EventID, EventActionCode, and EventTypeCode where it has one.
pub(super) struct Kind {
    pub id: Code,
    /// `C`reate, `R`ead, `U`pdate, `D`elete or `E`xecute.
    pub action: char,
    pub of: Option<Code>,
}

const fn kind(id: Code, action: char) -> Kind {
    Kind { id, action, of: None }
}

const fn alert(of: Code) -> Kind {
    Kind { id: ALERT, action: 'E', of: Some(of) }
}

/// The kind of an event. What was refused is an alert, whatever was asked for.
pub(super) fn kind_of(event: &Event) -> Kind {
    if event.who.kind == "unknown" {
        return Kind { id: AUTHENTICATION, action: 'E', of: Some(LOGIN) };
    }
    if event.outcome == Outcome::Refused {
        return alert(RESTRICTED);
    }
    match event.action.as_str() {
        "audit.forget" => return kind(AUDIT_LOG_USED, 'D'),
        "audit.lost" => return alert(STOPPED),
        _ => {}
    }
    match Permission::of(&event.action) {
        // Instances themselves are transferred to who asks; the rest is read of them.
        Some(Permission::Retrieve) if is_of_instances(&event.route) => {
            kind(BEGIN_TRANSFERRING, 'E')
        }
        Some(Permission::Retrieve) => kind(ACCESSED, 'R'),
        Some(Permission::Store) => kind(TRANSFERRED, 'C'),
        Some(Permission::Delete) if event.route.ends_with("$undelete") => kind(ACCESSED, 'C'),
        Some(Permission::Delete) if event.route.ends_with("/{study}") => kind(STUDY_DELETED, 'D'),
        Some(Permission::Delete) => kind(ACCESSED, 'D'),
        Some(Permission::Update) => kind(ACCESSED, 'U'),
        Some(Permission::Search | Permission::ReadChanges) => kind(QUERY, 'E'),
        Some(Permission::ReadWorkitems) if event.route.ends_with("/workitems") => kind(QUERY, 'E'),
        Some(Permission::ReadWorkitems) => kind(PROCEDURE, 'R'),
        Some(Permission::ManageWorkitems) if event.route.ends_with("/workitems") => {
            kind(PROCEDURE, 'C')
        }
        Some(Permission::ManageWorkitems) => kind(PROCEDURE, 'U'),
        Some(Permission::Export | Permission::ExportDeidentified) => kind(EXPORT, 'R'),
        Some(Permission::ReadAudit) => kind(AUDIT_LOG_USED, 'R'),
        Some(Permission::ManageWebhooks) => alert(NETWORK),
        Some(Permission::ManagePrincipals | Permission::Share) => alert(USER_SECURITY),
        Some(Permission::ManagePolicy | Permission::ReadPrincipals | Permission::ReadPolicy) => {
            alert(SECURITY)
        }
        _ => alert(SOFTWARE),
    }
}

/// Whether a route gives instances as they are stored.
fn is_of_instances(route: &str) -> bool {
    let ends = ["/{study}", "/{series}", "/{instance}", "/wado"];
    matches!(route, "C-GET" | "C-MOVE") || ends.iter().any(|end| route.ends_with(end))
}
