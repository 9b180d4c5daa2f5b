//! The audit trail: who did what, written with the change it tells of or right after it.

use std::sync::Arc;

use kanade_model::{AuditAction, AuditEvent, Caller};
use kanade_ports::{Change, ChangeSet, Clock, Ids};
use serde_json::Value;

use crate::{Committer, error::Result};

/// Writes the audit trail. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    committer: Committer,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Audit {
    /// A trail behind `committer`.
    pub fn new(committer: Committer, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self {
            committer,
            clock,
            ids,
        }
    }

    /// The entry of `caller` doing `action` to `target`, to be committed with what it tells of.
    pub fn entry(
        &self,
        caller: &Caller,
        action: AuditAction,
        target: Option<String>,
        payload: Value,
    ) -> Change {
        Change::Audit(AuditEvent::new(
            self.ids.next(),
            caller,
            action,
            target,
            payload,
            self.clock.now(),
        ))
    }

    /// Writes an entry about a change that is made elsewhere; a request whose entry cannot be written answers an error.
    ///
    /// # Errors
    /// When the store takes no changes.
    pub async fn write(
        &self,
        caller: &Caller,
        action: AuditAction,
        target: impl Into<Option<String>>,
        payload: Value,
    ) -> Result<()> {
        self.committer
            .commit(ChangeSet::of(self.entry(caller, action, target.into(), payload)))
            .await?;
        Ok(())
    }
}
