//! What came of the files of an import, in numbers.

use super::{Line, Status};
use crate::index::Imported;

/// Reasons that are counted each for itself.
const REASONS: usize = 40;
/// What further reasons are counted as.
const OTHERS: &str = "other reasons";

/// Adds what became of a file.
fn note(results: &mut Imported, line: &Line) {
    match line.status {
        Status::Stored => results.stored += 1,
        Status::Identical => results.identical += 1,
        Status::Skipped => results.skipped += 1,
        Status::Failed => results.failed += 1,
    }
    match line.status {
        Status::Stored | Status::Identical => results.bytes += line.bytes,
        Status::Skipped | Status::Failed => {
            let reason = line.reason.as_deref().unwrap_or_default();
            let is_known = results.reasons.contains_key(reason);
            let reason = if is_known || results.reasons.len() < REASONS { reason } else { OTHERS };
            *results.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
}

/// Adds what became of several.
pub fn add<'a>(results: &mut Imported, lines: impl IntoIterator<Item = &'a Line>) {
    lines.into_iter().for_each(|line| note(results, line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let mut results = Imported::default();
        for n in 0..1000 {
            let status = if n % 2 == 0 { Status::Failed } else { Status::Skipped };
            let reason = Some(format!("reason {n}"));
            note(
                &mut results,
                &Line { path: n.to_string(), status, instance: None, reason, bytes: 7 },
            );
        }
        assert_eq!((results.failed, results.skipped, results.bytes), (500, 500, 0));
        assert_eq!(results.reasons.len(), REASONS + 1);
        assert_eq!(results.reasons.values().sum::<u64>(), 1000);
    }
}
