//! Messages of syslog (RFC 5424) as they go over TLS (RFC 5425): framed by counting their octets.

use time::OffsetDateTime;

use super::event::moment;

/// 10: security and authorisation (RFC 5424 §6.2.1, PS3.15 A.6.1).
const FACILITY: u8 = 10;
/// What PS3.15 A.6.1 has for the id of messages.
const MESSAGE_ID: &str = "DICOM+RFC3881";
/// Says that UTF-8 follows (RFC 5424 §6.4).
const MARK: &str = "\u{FEFF}";

/// How grave a message is (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something was refused or failed.
    Warning = 4,
    /// It happens every day.
    Notice = 5,
}

/// A frame: the length of the message in octets, a space, and the message.
pub fn frame(
    severity: Severity,
    at: OffsetDateTime,
    host: &str,
    process: u32,
    text: &str,
) -> Vec<u8> {
    let priority = FACILITY * 8 + severity as u8;
    let (at, host) = (moment::shown(at), name(host));
    let message =
        format!("<{priority}>1 {at} {host} collimator {process} {MESSAGE_ID} - {MARK}{text}");
    let mut frame = format!("{} ", message.len()).into_bytes();
    frame.extend_from_slice(message.as_bytes());
    frame
}

/// A name as a header can have it: printable ASCII without spaces, 255 at most; `-` for none.
fn name(text: &str) -> String {
    let shown: String = text.chars().filter(char::is_ascii_graphic).take(255).collect();
    if shown.is_empty() { "-".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_frame_counts_its_octets() {
        let at = datetime!(2026-01-02 3:04:05.000001 UTC);
        let frame = frame(Severity::Notice, at, "pacs 1", 42, "<ä/>");
        let text = String::from_utf8(frame).unwrap();
        let (count, message) = text.split_once(' ').unwrap();
        assert_eq!(count.parse::<usize>().unwrap(), message.len());
        let expected =
            "<85>1 2026-01-02T03:04:05.000001Z pacs1 collimator 42 DICOM+RFC3881 - \u{FEFF}<ä/>";
        assert_eq!(message, expected);
        let warned = super::frame(Severity::Warning, at, "", 1, "");
        assert!(
            String::from_utf8(warned).unwrap().contains(" <84>1 2026-01-02T03:04:05.000001Z - ")
        );
    }
}
