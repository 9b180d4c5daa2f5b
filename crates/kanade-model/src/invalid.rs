//! What is wrong with a value somebody wrote: the field, the value, and what would be right.

/// A value that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: `{}` is not valid: {allowed}", shortened(.value))]
pub struct Invalid {
    /// Where the value stands, as a dotted path (`execute.timeout`).
    pub field: String,
    /// The value as it was written.
    pub value: String,
    /// What is allowed there, as a phrase.
    pub allowed: String,
}

impl Invalid {
    /// An error about `value` in `field`; `allowed` says what would be accepted.
    pub fn new(field: impl Into<String>, value: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            value: value.into(),
            allowed: allowed.into(),
        }
    }

    /// The same error, seen from the document that holds the field.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

fn shortened(value: &str) -> String {
    const SHOWN: usize = 80;
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}
