//! Documents as plain text: UTF-8, lines of at most 80 characters where words allow.

use super::report::{Report, Role};

/// Characters of a line.
const WIDTH: usize = 80;

/// Spaces for each level, and levels that are told apart.
const INDENT: usize = 2;
const INDENTS: usize = 12;

/// Characters that the names of facts take, about.
const NAMES: usize = 22;

/// A structured report.
pub(super) fn report(report: &Report) -> Vec<u8> {
    let mut out = String::with_capacity(16 * 1024);
    paragraph(&mut out, &report.title, 0, 0);
    rule(&mut out, &report.title, 0, '=');
    out.push('\n');
    for (name, value) in &report.facts {
        let line = format!("{:<NAMES$}{value}", format!("{name}:"));
        paragraph(&mut out, &line, 0, NAMES);
    }
    out.push('\n');
    for (at, entry) in report.entries.iter().enumerate() {
        let indent = entry.depth.min(INDENTS) * INDENT;
        if entry.role == Role::Heading {
            if at > 0 {
                out.push('\n');
            }
            paragraph(&mut out, &entry.name, indent, indent);
            rule(&mut out, &entry.name, indent, '-');
            continue;
        }
        let value: String = entry.value.iter().map(|run| run.text()).collect();
        let line = match (entry.name.is_empty(), value.is_empty()) {
            (true, _) => value,
            (false, true) => entry.name.clone(),
            (false, false) => format!("{}: {value}", entry.name),
        };
        let line = if entry.role == Role::Context { format!("[{line}]") } else { line };
        paragraph(&mut out, &line, indent, indent + INDENT);
    }
    out.into_bytes()
}

/// A line under a heading.
fn rule(out: &mut String, heading: &str, indent: usize, c: char) {
    out.extend(std::iter::repeat_n(' ', indent));
    let length = heading.chars().count().min(WIDTH.saturating_sub(indent));
    out.extend(std::iter::repeat_n(c, length));
    out.push('\n');
}

/// Text in lines: the first begins at one column, the others at another. Its own ends of lines
/// stay.
fn paragraph(out: &mut String, text: &str, first: usize, rest: usize) {
    let mut indent = first;
    for line in lines(text) {
        let mut column = indent;
        out.extend(std::iter::repeat_n(' ', indent));
        for (at, word) in line.split(' ').enumerate() {
            let length = word.chars().count();
            if at > 0 && column + 1 + length > WIDTH && column > rest {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', rest));
                column = rest;
            } else if at > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
        indent = rest;
    }
}

/// The lines of a text, without characters that control something.
pub(super) fn lines(text: &str) -> Vec<String> {
    let plain = |line: &str| -> String {
        line.chars()
            .map(|c| if c == '\t' { ' ' } else { c })
            .filter(|c| !c.is_control() && !is_directional(*c))
            .collect()
    };
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    unified.split('\n').map(plain).collect()
}

/// Controls of direction, with which a text can be made to look like another.
fn is_directional(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wrap_and_lines_stay() {
        let mut out = String::new();
        let long = "word ".repeat(30);
        paragraph(&mut out, &format!("a  b\r\nsecond\r{long}"), 0, 4);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..2], ["a  b", "    second"]);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH && !line.ends_with(' ')));
        assert_eq!(lines.len(), 4);
        assert!(lines[2..].iter().all(|line| line.starts_with("    word")));

        let mut out = String::new();
        paragraph(&mut out, &"x".repeat(200), 2, 2);
        assert_eq!(out, format!("  {}\n", "x".repeat(200)), "a word is not cut");
        assert_eq!(lines_of("a\tb\u{1}\u{202E}c"), ["a bc"]);
    }

    fn lines_of(text: &str) -> Vec<String> {
        lines(text)
    }
}
