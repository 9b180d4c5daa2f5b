//! Secrets in the store: what a store keeps of them, and where the key is kept that seals them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use async_trait::async_trait;
use kanade_model::ParamText;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// Keeps the one key that seals secrets, away from what it seals.
#[async_trait]
pub trait KeyKeeper: Send + Sync + 'static {
    /// The key, if one is kept.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read now, `Corrupt` when what is kept is no key.
    async fn key(&self) -> Result<Option<SealingKey>, StoreError>;

    /// Keeps `fresh` for good unless a key is kept already; returns the one that is kept, durably.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    async fn keep(&self, fresh: SealingKey) -> Result<SealingKey, StoreError>;
}

/// A key of 256 bits. Its debug form does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey(pub [u8; 32]);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

/// The values that an execution gives to its script, as a store keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderParams {
    /// Those that may be seen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plain: BTreeMap<String, ParamText>,
    /// Those that may not, as texts that tell nothing without the key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sealed: BTreeMap<String, String>,
}

impl OrderParams {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.sealed.is_empty()
    }

    /// About how many bytes they take.
    pub(crate) fn weight(&self) -> usize {
        let plain: usize = self.plain.values().map(|text| text.0.len()).sum();
        plain + self.sealed.values().map(String::len).sum::<usize>()
    }

    /// Each value as people may see it: none for a secret.
    pub fn shown(&self) -> BTreeMap<String, Option<String>> {
        let names: BTreeSet<&String> = self.plain.keys().chain(self.sealed.keys()).collect();
        let shown = |name: &String| (name.clone(), self.plain.get(name).map(|text| text.0.clone()));
        names.into_iter().map(shown).collect()
    }
}
