//! Remembers every statement that was made, so that none escapes the test of the plans.

use std::{collections::BTreeSet, sync::Mutex};

static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub(crate) fn note(text: &str) {
    SEEN.lock().unwrap().insert(text.to_owned());
}

pub(crate) fn seen() -> Vec<String> {
    SEEN.lock().unwrap().iter().cloned().collect()
}
