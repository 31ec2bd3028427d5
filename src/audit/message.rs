//! DICOM audit messages (PS3.15 A.5): an event as XML of the schema of A.5.1, which follows RFC 3881.
//!
//! Holds: a message is well-formed whatever the event holds; what XML cannot have (control
//! characters) is replaced.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Event, Link, Outcome,
    codes::{
        self, ACCESSED, APPLICATION_ROLE, AUDIT_LOG_USED, AUTHENTICATION, BEGIN_TRANSFERRING,
        CLASS_UID, Code, DESTINATION_ROLE, QUERY, SOURCE_ROLE, STUDY_DELETED, STUDY_UID,
        TRANSFERRED,
    },
    event::moment,
};

/// Study Root Query/Retrieve Information Model - FIND, which QIDO-RS is the like of.
const STUDY_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";

/// The message of an event with its place in the chain, from a server of this name.
pub fn message(event: &Event, link: &Link, source: &str) -> String {
    let kind = codes::kind_of(event);
    let mut xml = Xml(String::with_capacity(2048));
    xml.0.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?><AuditMessage>");
    let (action, at) = (kind.action.to_string(), moment::shown(event.at));
    xml.open(
        "EventIdentification",
        &[
            ("EventActionCode", &action),
            ("EventDateTime", &at),
            ("EventOutcomeIndicator", outcome(event)),
        ],
    );
    xml.code("EventID", kind.id);
    if let Some(code) = kind.of {
        xml.code("EventTypeCode", code);
    }
    if let Some(reason) = &event.reason {
        xml.text("EventOutcomeDescription", reason);
    }
    xml.close("EventIdentification");
    participants(&mut xml, event, kind.id, source);
    let site = [("AuditEnterpriseSiteID", event.partition.as_str()), ("AuditSourceID", source)];
    xml.open("AuditSourceIdentification", &site);
    // 4: application server process (RFC 3881 §5.4.3).
    xml.empty("AuditSourceTypeCode", &[("csd-code", "4")]);
    xml.close("AuditSourceIdentification");
    objects(&mut xml, event, link, kind.id);
    xml.0.push_str("</AuditMessage>");
    xml.0
}

/// EventOutcomeIndicator (RFC 3881 §5.1.4): 0 success, 4 minor failure, 8 serious failure.
fn outcome(event: &Event) -> &'static str {
    match event.outcome {
        Outcome::Success => "0",
        Outcome::Refused => "8",
        Outcome::Failed => "4",
    }
}

/// Who asked, and this server.
fn participants(xml: &mut Xml, event: &Event, id: Code, source: &str) {
    let who = &event.who;
    // The same subject of two issuers is two users.
    let user = match (&who.subject, &who.issuer) {
        (Some(subject), Some(issuer)) => format!("{subject}@{issuer}"),
        (Some(subject), None) => subject.clone(),
        _ => who.kind.clone(),
    };
    let is_server = who.kind == "server";
    let mut attributes = vec![("UserID", user.as_str())];
    if let Some(name) = &who.name {
        attributes.push(("UserName", name));
    }
    attributes.push(("UserIsRequestor", "true"));
    if let Some(address) = &event.address {
        attributes.push(("NetworkAccessPointID", address));
        // 2: an address of IP.
        attributes.push(("NetworkAccessPointTypeCode", "2"));
    }
    let (caller, own) = match id {
        TRANSFERRED => (Some(SOURCE_ROLE), DESTINATION_ROLE),
        BEGIN_TRANSFERRING => (Some(DESTINATION_ROLE), SOURCE_ROLE),
        QUERY => (Some(SOURCE_ROLE), DESTINATION_ROLE),
        _ if is_server => (Some(APPLICATION_ROLE), APPLICATION_ROLE),
        _ => (None, APPLICATION_ROLE),
    };
    xml.open("ActiveParticipant", &attributes);
    if let Some(role) = caller {
        xml.code("RoleIDCode", role);
    }
    xml.close("ActiveParticipant");
    if !is_server {
        xml.open("ActiveParticipant", &[("UserID", source), ("UserIsRequestor", "false")]);
        xml.code("RoleIDCode", own);
        xml.close("ActiveParticipant");
    }
}

/// What it was about.
fn objects(xml: &mut Xml, event: &Event, link: &Link, id: Code) {
    let details = details(event, link);
    let place = |name: &'static str, value: &'static str| (name, value);
    let of_study = matches!(id, TRANSFERRED | BEGIN_TRANSFERRING | ACCESSED | STUDY_DELETED);
    if let (QUERY, Outcome::Success | Outcome::Failed) = (id, event.outcome) {
        // 2: system object; 3: report.
        let attributes = [
            ("ParticipantObjectID", STUDY_ROOT_FIND),
            place("ParticipantObjectTypeCode", "2"),
            place("ParticipantObjectTypeCodeRole", "3"),
        ];
        xml.open("ParticipantObjectIdentification", &attributes);
        xml.code("ParticipantObjectIDTypeCode", CLASS_UID);
        let query = event.detail.get("query").and_then(serde_json::Value::as_str);
        let asked = format!("{} {}?{}", event.method, event.route, query.unwrap_or_default());
        xml.text("ParticipantObjectQuery", &STANDARD.encode(asked));
        details.write(xml);
        xml.close("ParticipantObjectIdentification");
    } else if let Some(study) = event.study.as_deref().filter(|_| of_study) {
        let attributes = [
            ("ParticipantObjectID", study),
            place("ParticipantObjectTypeCode", "2"),
            place("ParticipantObjectTypeCodeRole", "3"),
        ];
        xml.open("ParticipantObjectIdentification", &attributes);
        xml.code("ParticipantObjectIDTypeCode", STUDY_UID);
        xml.text("ParticipantObjectName", study);
        details.write(xml);
        xml.close("ParticipantObjectIdentification");
    } else if id != AUTHENTICATION {
        // 2: system object; 13: security resource; 12 of RFC 3881: a URI.
        let uri = if event.route.is_empty() { &event.action } else { &event.route };
        let attributes = [
            ("ParticipantObjectID", uri.as_str()),
            place("ParticipantObjectTypeCode", "2"),
            place("ParticipantObjectTypeCodeRole", "13"),
        ];
        xml.open("ParticipantObjectIdentification", &attributes);
        let uri = [("csd-code", "12"), ("codeSystemName", "RFC-3881"), ("originalText", "URI")];
        xml.empty("ParticipantObjectIDTypeCode", &uri);
        let name = if id == AUDIT_LOG_USED { "Security Audit Log" } else { &event.action };
        xml.text("ParticipantObjectName", name);
        details.write(xml);
        xml.close("ParticipantObjectIdentification");
    }
}

/// What else there is to say, as details.
struct Details(Vec<(String, String)>);

fn details(event: &Event, link: &Link) -> Details {
    let mut all = Vec::new();
    for (name, value) in event.named.iter().chain(&event.detail) {
        if name == "query" {
            continue;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        all.push((name.clone(), text));
    }
    if !event.instances.is_empty() {
        all.push(("instances".to_owned(), event.instances.join("\\")));
    }
    if event.more > 0 {
        all.push(("moreInstances".to_owned(), event.more.to_string()));
    }
    if !event.request.is_empty() {
        all.push(("request".to_owned(), event.request.clone()));
    }
    if let Some(status) = event.status {
        all.push(("status".to_owned(), status.to_string()));
    }
    all.push(("event".to_owned(), event.id.to_string()));
    all.push(("number".to_owned(), link.number.to_string()));
    let hash = link.hash.iter().fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    });
    all.push(("hash".to_owned(), hash));
    Details(all)
}

impl Details {
    /// Their values are `xs:base64Binary`.
    fn write(&self, xml: &mut Xml) {
        for (name, value) in &self.0 {
            let value = STANDARD.encode(value);
            xml.empty("ParticipantObjectDetail", &[("type", name), ("value", &value)]);
        }
    }
}

/// XML under construction. Names are constants; values are escaped.
struct Xml(String);

impl Xml {
    fn begin(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.escaped(value);
            self.0.push('"');
        }
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.begin(name, attributes);
        self.0.push('>');
    }

    fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.begin(name, attributes);
        self.0.push_str("/>");
    }

    fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    fn text(&mut self, name: &str, text: &str) {
        self.open(name, &[]);
        self.escaped(text);
        self.close(name);
    }

    fn code(&mut self, name: &str, (code, meaning): Code) {
        let attributes = [("csd-code", code), ("codeSystemName", "DCM"), ("originalText", meaning)];
        self.empty(name, &attributes);
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // Not characters of XML 1.0; line ends would be changed by who reads attributes.
                '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => self.0.push('\u{FFFD}'),
                c => self.0.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Who, event::tests::event},
        tenancy::Permission,
    };

    const LINK: Link = Link { number: 7, hash: [0xAB; 32] };

    fn shown(event: &Event) -> String {
        let xml = message(event, &LINK, "archive");
        let mut reader = quick_xml::Reader::from_str(&xml);
        loop {
            if reader.read_event().unwrap() == quick_xml::events::Event::Eof {
                return xml;
            }
        }
    }

    #[track_caller]
    fn has(xml: &str, parts: &[&str]) {
        for part in parts {
            assert!(xml.contains(part), "{part} in {xml}");
        }
    }

    #[test]
    fn a_retrieve_is_told_with_who_where_and_which_study() {
        let xml = shown(&event(Permission::Retrieve, "/studies/{study}"));
        has(
            &xml,
            &[
                r#"<EventIdentification EventActionCode="E" EventDateTime="2026-01-02T02:04:05.123456Z" EventOutcomeIndicator="0"><EventID csd-code="110102" codeSystemName="DCM""#,
                r#"<ActiveParticipant UserID="u�-1@hospital" UserName="Dr. &lt;Ada&gt; &amp; &quot;Co&quot;" UserIsRequestor="true" NetworkAccessPointID="10.0.0.7" NetworkAccessPointTypeCode="2"><RoleIDCode csd-code="110152""#,
                r#"AuditEnterpriseSiteID="clinic1" AuditSourceID="archive""#,
                r#"ParticipantObjectID="1.2.3" ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="3"><ParticipantObjectIDTypeCode csd-code="110180""#,
                r#"type="number" value="Nw==""#,
            ],
        );
    }

    #[test]
    fn each_action_has_its_event() {
        for (permission, route, id, action) in [
            (Permission::Store, "/studies", "110104", "C"),
            (Permission::Retrieve, "/wado", "110102", "E"),
            (Permission::Retrieve, "/studies/{study}/metadata", "110103", "R"),
            (Permission::Delete, "/studies/{study}", "110105", "D"),
            (Permission::Delete, "/studies/{study}/series/{series}", "110103", "D"),
            (Permission::Delete, "/studies/{study}/$undelete", "110103", "C"),
            (Permission::Update, "/studies/$bulkUpdate", "110103", "U"),
            (Permission::Search, "/studies", "110112", "E"),
            (Permission::ReadAudit, "/audit", "110101", "R"),
            (Permission::ReadWorkitems, "/workitems", "110112", "E"),
            (Permission::ReadWorkitems, "/workitems/{workitem}", "110111", "R"),
            (Permission::ManageWorkitems, "/workitems", "110111", "C"),
            (Permission::ManageWorkitems, "/workitems/{workitem}/state", "110111", "U"),
            (Permission::ManageWebhooks, "/webhooks", "110113", "E"),
            (Permission::ManagePrincipals, "/principals", "110113", "E"),
        ] {
            let event = event(permission, route);
            let expected = format!("<EventID csd-code=\"{id}\"");
            has(&shown(&event), &[&expected, &format!("EventActionCode=\"{action}\"")]);
            // A refusal is an alert, a refused credential a log-in that failed.
            let refused = Event { outcome: Outcome::Refused, ..event };
            has(
                &shown(&refused),
                &["csd-code=\"110113\"", "csd-code=\"110132\"", "EventOutcomeIndicator=\"8\""],
            );
            let unknown = Event { who: Who::plain("unknown"), ..refused };
            has(&shown(&unknown), &["csd-code=\"110114\"", "csd-code=\"110122\""]);
        }
        for permission in Permission::ALL {
            shown(&event(*permission, "/x"));
        }
    }

    #[test]
    fn a_query_is_told_as_it_was_asked() {
        let mut event = event(Permission::Search, "/studies");
        event.detail.insert("query".to_owned(), "PatientName=Doe".into());
        let asked = STANDARD.encode("GET /studies?PatientName=Doe");
        has(&shown(&event), &[&format!("<ParticipantObjectQuery>{asked}<")]);
    }

    #[test]
    fn whatever_an_event_holds_is_escaped() {
        let mut event = event(Permission::Retrieve, "/studies/{study}");
        event.study = Some("]]>\u{1}\n\"'<!--".to_owned());
        event.reason = Some("<&>".to_owned());
        event.outcome = Outcome::Failed;
        has(&shown(&event), &["]]&gt;\u{FFFD}\u{FFFD}&quot;'&lt;!--", "&lt;&amp;&gt;"]);
    }
}
