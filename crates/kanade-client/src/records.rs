//! What the server keeps for reading: inventory facts, the audit trail, dead letters; and how the server itself is.

use futures::TryStreamExt;
use kanade_model::{JobId, PcId, Timestamp, api};
use reqwest::Method;

use crate::{Client, Error, Items, executions::pairs};

/// Which audit entries are wanted. `action`, `target` and `payload` are unanchored regular expressions.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// By this actor.
    pub actor: Option<String>,
    /// Actions like this.
    pub action: Option<String>,
    /// On targets like this.
    pub target: Option<String>,
    /// With details like this.
    pub payload: Option<String>,
    /// At or after this.
    pub since: Option<Timestamp>,
    /// How many to fetch at once, 1 to 1,000; the server's choice when missing.
    pub page_size: Option<usize>,
}

impl Client {
    /// Whether the server can do its work; also when it cannot.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn ready(&self) -> Result<api::Ready, Error> {
        self.call(Method::GET, &["readyz"])?.read_any().await
    }

    /// The jobs that collect facts.
    pub fn inventory_jobs(&self) -> Items<api::InventoryJob> {
        self.list(&["api", "inventory", "jobs"], Vec::new())
    }

    /// What one job found out about all agents.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn inventory_of_job(&self, job: &JobId) -> Result<api::InventoryTable, Error> {
        let mut pages =
            self.pages::<api::InventoryTable>(&["api", "inventory", "by-job", job.as_str()], Vec::new());
        let mut whole: Option<api::InventoryTable> = None;
        while let Some(page) = pages.try_next().await? {
            match &mut whole {
                Some(whole) => whole.rows.extend(page.rows),
                None => whole = Some(page),
            }
        }
        Ok(whole.expect("a list has a first page or an error"))
    }

    /// What all jobs found out about one agent.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn inventory_of_pc(&self, pc: &PcId) -> Result<Vec<api::InventoryFacts>, Error> {
        self.call(Method::GET, &["api", "inventory", pc.as_str()])?
            .read()
            .await
    }

    /// The audit trail, newest first.
    pub fn audit(&self, query: &AuditQuery) -> Items<api::AuditEntry> {
        let pairs = pairs([
            ("actor", query.actor.clone()),
            ("action", query.action.clone()),
            ("target", query.target.clone()),
            ("payload", query.payload.clone()),
            ("since", query.since.map(|since| since.to_string())),
            ("limit", query.page_size.map(|size| size.to_string())),
        ]);
        self.list(&["api", "audit"], pairs)
    }

    /// Messages that could not be understood, newest first.
    pub fn dead_letters(&self, page_size: Option<usize>) -> Items<api::DeadLetter> {
        let pairs = pairs([("limit", page_size.map(|size| size.to_string()))]);
        self.list(&["api", "dead_letters"], pairs)
    }
}
