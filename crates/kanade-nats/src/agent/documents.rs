//! The documents that an agent reads, under the rules of every transport: a document that is not for it is not there.

use std::{future::ready, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kanade_model::PcId;
use kanade_ports::{Bucket, CatalogEvent, CatalogReader, CatalogStream, Entry, ErrorKind, Key, StoreError};

use super::tail::{Scope, Tail};
use crate::{catalog::NatsCatalog, link::Link};

pub(super) struct AgentCatalog {
    link: Arc<Link>,
    catalog: NatsCatalog,
    pc: PcId,
}

impl AgentCatalog {
    pub(super) fn new(link: Arc<Link>, pc: PcId) -> Self {
        Self {
            catalog: NatsCatalog::new(Arc::clone(&link)),
            link,
            pc,
        }
    }

    fn scope(&self, bucket: Bucket) -> Scope {
        match bucket {
            Bucket::AgentGroups => Scope::One(bucket, Key::from(&self.pc)),
            bucket => Scope::All(bucket),
        }
    }
}

/// Whether a document is an agent's business.
fn is_for(pc: &PcId, bucket: Bucket, key: &Key) -> bool {
    match bucket {
        Bucket::AgentGroups => *key == Key::from(pc),
        // Every group's: an agent may join one at any time.
        Bucket::AgentConfig => *key == Key::pc_config(pc) || !key.as_str().starts_with("pcs."),
        Bucket::ScriptStatus | Bucket::ScriptCurrent | Bucket::Schedules | Bucket::Jobs => true,
        // The server's schedules are not theirs.
        Bucket::Freezes => false,
    }
}

#[async_trait]
impl CatalogReader for AgentCatalog {
    async fn get(&self, bucket: Bucket, key: &Key) -> Result<Option<Entry>, StoreError> {
        if !is_for(&self.pc, bucket, key) {
            return Ok(None);
        }
        let scope = self.scope(bucket);
        if let Scope::All(_) = scope {
            // From the stream's leader: a replica may not know yet what was written before a Command was sent.
            return self.catalog.get(bucket, key).await;
        }
        let newest = scope.newest(&self.link).await;
        newest.map_err(|fault| {
            StoreError::new(ErrorKind::Unavailable, format!("read `{key}` in {bucket}")).because(fault)
        })
    }

    async fn watch(&self, bucket: Bucket) -> Result<CatalogStream, StoreError> {
        let pc = self.pc.clone();
        let is_own = move |event: &CatalogEvent| match event {
            CatalogEvent::Put(entry) => is_for(&pc, bucket, &entry.key),
            CatalogEvent::Deleted(key) => is_for(&pc, bucket, key),
            CatalogEvent::Current => true,
        };
        let opened = Tail::open(Arc::clone(&self.link), self.scope(bucket)).await;
        let (tail, documents) = opened.map_err(|fault| {
            StoreError::new(ErrorKind::Unavailable, format!("watch {bucket}")).because(fault)
        })?;
        let standing = documents
            .into_values()
            .map(CatalogEvent::Put)
            .chain([CatalogEvent::Current]);
        let changes = stream::unfold(tail, |mut tail| async move {
            let change = tail.next().await?;
            Some((change, tail))
        });
        let events = stream::iter(standing).chain(changes);
        Ok(events.filter(move |event| ready(is_own(event))).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_sees_what_is_for_it() {
        let pc: PcId = "pc.1".parse().unwrap();
        for (bucket, key, wanted) in [
            (Bucket::AgentGroups, "pc.1", true),
            (Bucket::AgentGroups, "pc", false),
            (Bucket::AgentConfig, "global", true),
            (Bucket::AgentConfig, "groups.pcs.x", true),
            (Bucket::AgentConfig, "pcs.pc.1", true),
            (Bucket::AgentConfig, "pcs.pc.2", false),
            (Bucket::AgentConfig, "pcs.pc", false),
            (Bucket::ScriptStatus, "pcs.pc.2", true),
        ] {
            assert_eq!(
                is_for(&pc, bucket, &key.parse().unwrap()),
                wanted,
                "{key} in {bucket}"
            );
        }
    }
}
