//! Releases of the agent, and which agents are to update themselves to which.

use std::sync::Arc;

use kanade_model::{AuditAction, Caller, ConfigScope, HumanDuration, Version};
use kanade_ports::{ErrorKind, Program, Release, Releases as Port, StoreError};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{Audit, Documents, Error, Scope, error::Result};

/// Releases as operators see them. Cheap to clone.
#[derive(Clone)]
pub struct Releases {
    port: Option<Arc<dyn Port>>,
    documents: Documents,
    audit: Audit,
    /// Held while a release is published, so that of two with one version the second sees the first.
    publishing: Arc<Mutex<()>>,
    /// Held while agents are told to update to a release, or one goes, so that neither misses the other.
    aims: Arc<Mutex<()>>,
}

/// A program that is wholly here and can be stored.
pub struct Upload {
    /// Its bytes.
    pub size: u64,
    /// Its digest, as [`Release::digest`] has it.
    pub digest: String,
    /// The bytes themselves.
    pub program: Program,
}

/// What a rollout has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledOut {
    /// The key of the configuration that says so.
    pub key: String,
    /// The agents spread the update over this time.
    pub jitter: Option<HumanDuration>,
}

impl Releases {
    pub(crate) fn new(port: Option<Arc<dyn Port>>, documents: Documents, audit: Audit) -> Self {
        Self {
            port,
            documents,
            audit,
            publishing: Arc::default(),
            aims: Arc::default(),
        }
    }

    /// Every release, by version.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn list(&self) -> Result<Vec<Release>> {
        Ok(self.port("list releases")?.list().await?)
    }

    /// A release.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn find(&self, version: &Version) -> Result<Release> {
        let found = self.port("look for a release")?.find(version).await?;
        found.ok_or_else(|| not_found(version))
    }

    /// A release and its program.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, version: &Version) -> Result<(Release, Program)> {
        let found = self.port("read a release")?.get(version).await?;
        found.ok_or_else(|| not_found(version))
    }

    /// Stores a program under a version. Storing the same bytes once more changes nothing; other bytes replace those of
    /// the version, unless agents are to update themselves to it: some of them may have done so.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Targeted`].
    pub async fn publish(&self, version: &Version, upload: Upload, caller: &Caller) -> Result<Release> {
        version.check()?;
        let port = self.port("store a release")?;
        let _publishing = self.publishing.lock().await;
        let release = match port.find(version).await? {
            Some(same) if same.digest == upload.digest && same.size == upload.size => same,
            Some(_) => {
                let _held = self.aims.lock().await;
                let advice = "publish these under a version of their own";
                self.refuse_where_targeted(version, "replaced by other bytes", advice)
                    .await?;
                port.put(version, upload.program).await?
            }
            None => port.put(version, upload.program).await?,
        };
        let payload = json!({ "size": release.size, "digest": release.digest });
        self.audit
            .write(caller, AuditAction::ReleasePublish, version.to_string(), payload)
            .await?;
        Ok(release)
    }

    /// Deletes a release that no agent is to update itself to.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Targeted`].
    pub async fn delete(&self, version: &Version, caller: &Caller) -> Result<()> {
        let port = self.port("delete a release")?;
        let _held = self.aims.lock().await;
        if port.find(version).await?.is_none() {
            return Err(not_found(version));
        }
        self.refuse_where_targeted(version, "deleted", "roll out another version there first")
            .await?;
        match port.delete(version).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(not_found(version)),
            deleted => deleted?,
        }
        self.audit
            .write(
                caller,
                AuditAction::ReleaseDelete,
                version.to_string(),
                Value::Null,
            )
            .await
    }

    /// Tells the agents of a scope to update themselves to a release. Without a `jitter`, that of the scope stays as it
    /// is, as everything else of it does.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] when there is no such release, [`Error::Changed`] when others keep
    /// changing the configuration.
    pub async fn rollout(
        &self,
        version: &Version,
        scope: &Scope,
        jitter: Option<HumanDuration>,
        caller: &Caller,
    ) -> Result<RolledOut> {
        scope.check()?;
        let port = self.port("look for a release")?;
        let _held = self.aims.lock().await;
        if port.find(version).await?.is_none() {
            return Err(not_found(version));
        }
        let key = scope.key();
        let aimed = |config: ConfigScope| ConfigScope {
            target_version: Some(version.clone()),
            target_version_jitter: jitter.or(config.target_version_jitter),
            ..config
        };
        let config = self.documents.update(&key, aimed).await?;
        let rolled_out = RolledOut {
            key: key.to_string(),
            jitter: config.target_version_jitter,
        };
        let payload = json!({ "version": version, "jitter": rolled_out.jitter });
        self.audit
            .write(caller, AuditAction::Rollout, rolled_out.key.clone(), payload)
            .await?;
        Ok(rolled_out)
    }

    async fn refuse_where_targeted(
        &self,
        version: &Version,
        attempt: &'static str,
        advice: &'static str,
    ) -> Result<()> {
        for (key, config) in self.documents.read_all::<ConfigScope>().await? {
            if config.document.target_version.as_ref() == Some(version) {
                return Err(Error::Targeted {
                    version: version.clone(),
                    attempt,
                    scope: named(key.as_str()),
                    advice,
                });
            }
        }
        Ok(())
    }

    fn port(&self, doing: &str) -> Result<&Arc<dyn Port>> {
        let none =
            || StoreError::new(ErrorKind::Unsupported, doing).because("this deployment keeps no releases");
        Ok(self.port.as_ref().ok_or_else(none)?)
    }
}

fn not_found(version: &Version) -> Error {
    Error::NotFound {
        what: "release",
        id: version.to_string(),
    }
}

/// The configuration under a key, in words.
fn named(key: &str) -> String {
    match (key.strip_prefix("groups."), key.strip_prefix("pcs.")) {
        (Some(group), _) => format!("the configuration of group `{group}`"),
        (_, Some(pc)) => format!("the configuration of agent `{pc}`"),
        _ => "the global configuration".to_owned(),
    }
}
