//! DICOM patterns (PS3.4 §C.2.2.2.4) in SQL.
//!
//! A prefix becomes a range, which row-level security lets an index answer; `LIKE` is not leakproof
//! and only filters what is left.

use super::filter::Sql;

/// Postgres refuses NUL in text, and no column holds one: a character that none holds either.
pub(super) fn without_nul(value: &str) -> String {
    value.replace('\0', "\u{fffe}")
}

/// What stands before the first wildcard of a pattern.
pub(super) fn prefix(pattern: &str) -> &str {
    literal_runs(pattern).next().filter(|run| pattern.starts_with(run)).unwrap_or_default()
}

/// What stands between the wildcards of a pattern, where it is something.
pub(super) fn literal_runs(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split(['*', '?']).filter(|run| !run.is_empty())
}

/// A DICOM pattern: the prefix as a range, the rest as `LIKE`.
pub(super) fn push_like(sql: &mut Sql, name: impl Fn(&mut Sql), pattern: &str) {
    let prefix = prefix(pattern);
    let rest = &pattern[prefix.len()..];
    if rest.is_empty() {
        name(sql);
        sql.push(" = ").push_bind(prefix.to_owned());
        return;
    }
    sql.push("(");
    name(sql);
    sql.push(" IS NOT NULL");
    if !prefix.is_empty() {
        sql.push(" AND ");
        name(sql);
        sql.push(" >= ").push_bind(prefix.to_owned());
        if let Some(end) = after_prefix(prefix) {
            sql.push(" AND ");
            name(sql);
            sql.push(" < ").push_bind(end);
        }
    }
    if rest.contains(|c| c != '*') {
        sql.push(" AND ");
        name(sql);
        sql.push(" LIKE ").push_bind(like(pattern));
    }
    sql.push(")");
}

/// The smallest text that is greater than every text that begins with `prefix`, in the order of
/// code points, which is that of collation "C" in UTF-8. `None`: there is none.
pub(super) fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Surrogates are no characters: behind U+D7FF comes U+E000.
        let next =
            if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// A DICOM pattern as a `LIKE` pattern.
pub(super) fn like(pattern: &str) -> String {
    let mut like = String::with_capacity(pattern.len() + 8);
    for c in pattern.chars() {
        match c {
            '*' => {
                // Runs of stars mean one star, and cost LIKE dearly.
                if !like.ends_with('%') || like.ends_with("\\%") {
                    like.push('%');
                }
            }
            '?' => like.push('_'),
            '%' | '_' | '\\' => {
                like.push('\\');
                like.push(c);
            }
            _ => like.push(c),
        }
    }
    like
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_escaped() {
        for (dicom, expected) in [
            ("SM*TH?", "SM%TH_"),
            ("100%_\\*", "100\\%\\_\\\\%"),
            ("a**b***", "a%b%"),
            ("%*", "\\%%"),
            ("%**", "\\%%"),
        ] {
            assert_eq!(like(dicom), expected, "{dicom}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_follows_code_points() {
        for (prefix, end) in [
            ("SMITH", Some("SMITI")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("\u{ff}", Some("\u{100}")),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), end, "{prefix}");
            if let Some(end) = end {
                assert!(format!("{prefix}\u{10ffff}").as_str() < end);
            }
        }
    }
}
