//! Words of person names.

/// The words of a folded name.
pub fn words(folded: &str) -> impl Iterator<Item = &str> {
    folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// How a word sounds.
pub fn sound(_word: &str) -> Option<String> {
    None
}
