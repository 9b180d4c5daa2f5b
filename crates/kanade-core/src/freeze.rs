//! The freeze: one document that keeps every schedule of the server from firing for a while.

use std::sync::Arc;

use kanade_model::{AuditAction, Caller, Freeze, Timestamp};
use kanade_ports::{Clock, Key, Precondition};
use serde_json::{Value, json};

use crate::{Audit, Documents, Error, error::Result};

/// The freeze of the schedules. Cheap to clone.
#[derive(Clone)]
pub struct Freezes {
    pub(crate) documents: Documents,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Freezes {
    /// The freeze that holds or is to come; none once it is over.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn get(&self) -> Result<Option<Freeze>> {
        let stored = self.documents.peek::<Freeze>(&Key::freeze()).await?;
        let now = self.clock.now();
        Ok(stored
            .map(|stored| stored.document)
            .filter(|freeze| now < freeze.until))
    }

    /// The freeze that holds at a moment. The catalog itself is asked: a slot must not slip through.
    pub(crate) async fn at(&self, at: Timestamp) -> Result<Option<Freeze>> {
        let stored = self.documents.read::<Freeze>(&Key::freeze()).await?;
        Ok(stored
            .map(|stored| stored.document)
            .filter(|freeze| freeze.covers(at)))
    }

    /// Sets the freeze, in the place of the one before.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub async fn set(&self, freeze: Freeze, caller: &Caller) -> Result<Freeze> {
        let now = self.clock.now();
        freeze.check(now)?;
        let freeze = Freeze {
            from: freeze.from.or(Some(now)),
            by: Some(caller.name().to_owned()),
            ..freeze
        };
        self.documents
            .write(&Key::freeze(), &freeze, Precondition::Any)
            .await?;
        let payload = json!({ "reason": freeze.reason, "from": freeze.from, "until": freeze.until });
        self.audit
            .write(caller, AuditAction::FreezeSet, None, payload)
            .await?;
        Ok(freeze)
    }

    /// Ends the freeze; none being there is fine too.
    ///
    /// # Errors
    /// When the catalog takes no changes.
    pub async fn clear(&self, caller: &Caller) -> Result<()> {
        match self
            .documents
            .delete::<Freeze>(&Key::freeze(), Precondition::Any)
            .await
        {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.audit
            .write(caller, AuditAction::FreezeClear, None, Value::Null)
            .await
    }
}
