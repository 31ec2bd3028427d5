//! `Content-Type` values: a media type and its parameters (RFC 9110 §8.3, RFC 2046 §5.1).

/// Bytes of a value that are read.
const MAX_BYTES: usize = 4 << 10;
/// Parameters that are read.
const MAX_PARAMETERS: usize = 32;

/// A parsed `Content-Type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    essence: String,
    parameters: Vec<(String, String)>,
}

impl ContentType {
    /// Parses a value; `None` where it is none. Parameter values may be quoted or bare, and bare
    /// ones may hold `/`, which many clients send in `type=application/dicom`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (essence, mut rest) = match text.split_once(';') {
            Some((essence, rest)) => (essence, rest),
            None => (text, ""),
        };
        let essence = essence.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if kind.is_empty() || subtype.is_empty() || !kind.bytes().chain(subtype.bytes()).all(token)
        {
            return None;
        }
        let mut parameters = Vec::new();
        while parameters.len() < MAX_PARAMETERS {
            rest = rest.trim_start_matches([' ', '\t', ';']);
            let Some((name, after)) = rest.split_once('=') else { break };
            let (value, after) = value(after.trim_start_matches([' ', '\t']));
            parameters.push((name.trim().to_ascii_lowercase(), value));
            rest = after;
        }
        Some(Self { essence, parameters })
    }

    /// `type/subtype`, in lower case.
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// The first parameter of that name (in lower case).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The media type in the `type` parameter, in lower case and without parameters of its own.
    pub fn related_type(&self) -> Option<String> {
        let value = self.parameter("type")?;
        let essence = value.split(';').next().unwrap_or(value).trim();
        Some(essence.to_ascii_lowercase())
    }
}

/// Reads one value; gives it and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.trim().to_owned(), rest);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => {
                let rest = quoted.get(at + 1..).unwrap_or_default();
                // Whatever stands between the quote and the next semicolon is no one's.
                let next = rest.find(';').unwrap_or(rest.len());
                return (value, rest.get(next..).unwrap_or_default());
            }
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn related(text: &str) -> Option<(String, Option<String>, Option<String>)> {
        let parsed = ContentType::parse(text)?;
        let own = |name| parsed.parameter(name).map(str::to_owned);
        Some((parsed.essence().to_owned(), parsed.related_type(), own("boundary")))
    }

    #[test]
    fn parameters_quoted_or_bare_in_any_order() {
        let expected = Some((
            "multipart/related".to_owned(),
            Some("application/dicom".to_owned()),
            Some("b-1".to_owned()),
        ));
        for text in [
            r#"multipart/related; type="application/dicom"; boundary="b-1""#,
            r#"multipart/related;boundary=b-1;type=application/dicom"#,
            r#"Multipart/Related ; Boundary = b-1 ; TYPE = "Application/DICOM""#,
            r#"multipart/related; start="<a>"; type=application/dicom; boundary=b-1;"#,
            r#"multipart/related; type="application/dicom; transfer-syntax=1.2"; boundary=b-1"#,
            r#"multipart/related; boundary="b\-1"; type="application/dicom" junk; x="#,
        ] {
            assert_eq!(related(text), expected, "{text}");
        }
    }

    #[test]
    fn the_rest_is_nothing() {
        for text in ["", "multipart", "/", "a/", "a b/c", "\u{fc}/x", &"a/".repeat(4_000)] {
            assert_eq!(related(text), None, "{text}");
        }
        let bare = ContentType::parse("application/dicom").unwrap();
        assert_eq!((bare.parameter("boundary"), bare.related_type()), (None, None));
        let unclosed = ContentType::parse("a/b; c=\"d; e=f").unwrap();
        assert_eq!(unclosed.parameter("c"), Some("d; e=f"));
    }
}
