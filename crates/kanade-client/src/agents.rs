//! Agents: their groups and configuration, and what can be asked of them directly.

use std::time::Duration;

use kanade_model::{GroupName, PcId, api};
use reqwest::Method;

use crate::{Client, Error, Items, Precondition, Tagged};

/// What the server waits for an agent's log.
const LOGS_WAIT: Duration = Duration::from_secs(10);

/// Whose configuration is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every agent's.
    Global,
    /// That of a group's members.
    Group(GroupName),
    /// One agent's.
    Pc(PcId),
}

impl Scope {
    fn segments(&self) -> Vec<&str> {
        match self {
            Self::Global => vec!["api", "config"],
            Self::Group(group) => vec!["api", "groups", group.as_str(), "config"],
            Self::Pc(pc) => vec!["api", "pcs", pc.as_str(), "config"],
        }
    }
}

impl Client {
    /// Every agent that was ever heard of, by id.
    pub fn agents(&self) -> Items<api::Agent> {
        self.list(&["api", "agents"], Vec::new())
    }

    /// One agent.
    ///
    /// # Errors
    /// Not found, and what every request may meet.
    pub async fn agent(&self, pc: &PcId) -> Result<api::Agent, Error> {
        self.call(Method::GET, &["api", "agents", pc.as_str()])?
            .read()
            .await
    }

    /// Waits for a sign of life of an agent.
    ///
    /// # Errors
    /// A request timeout when none comes.
    pub async fn ping(&self, pc: &PcId, wait: Duration) -> Result<api::Ping, Error> {
        let call = self.call(Method::POST, &["api", "agents", pc.as_str(), "ping"])?;
        call.query(&[("wait_secs", wait.as_secs().to_string())])
            .patient(wait)
            .read()
            .await
    }

    /// The last `lines` lines of an agent's log.
    ///
    /// # Errors
    /// A bad gateway when the agent is not connected, a gateway timeout when it does not answer.
    pub async fn logs(&self, pc: &PcId, lines: u32) -> Result<String, Error> {
        let call = self.call(Method::GET, &["api", "agents", pc.as_str(), "logs"])?;
        call.query(&[("tail", lines.to_string())])
            .patient(LOGS_WAIT)
            .send()
            .await?
            .text()
            .await
    }

    /// The groups of an agent.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn groups(&self, pc: &PcId) -> Result<api::Groups, Error> {
        self.call(Method::GET, &["api", "agents", pc.as_str(), "groups"])?
            .read()
            .await
    }

    /// Sets the groups of an agent and returns them as stored.
    ///
    /// # Errors
    /// Names that may not be written.
    pub async fn set_groups(&self, pc: &PcId, groups: &api::Groups) -> Result<api::Groups, Error> {
        self.call(Method::PUT, &["api", "agents", pc.as_str(), "groups"])?
            .json(groups)
            .read()
            .await
    }

    /// Puts an agent into a group and returns its groups.
    ///
    /// # Errors
    /// Names that may not be written.
    pub async fn join_group(&self, pc: &PcId, group: GroupName) -> Result<api::Groups, Error> {
        let call = self.call(Method::POST, &["api", "agents", pc.as_str(), "groups"])?;
        call.json(&api::GroupJoin { group }).read().await
    }

    /// Takes an agent out of a group and returns its groups.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn leave_group(&self, pc: &PcId, group: &GroupName) -> Result<api::Groups, Error> {
        self.call(
            Method::DELETE,
            &["api", "agents", pc.as_str(), "groups", group.as_str()],
        )?
        .read()
        .await
    }

    /// What holds for an agent once all scopes are laid over each other.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn effective_config(&self, pc: &PcId) -> Result<api::AgentConfig, Error> {
        self.call(Method::GET, &["api", "agents", pc.as_str(), "effective_config"])?
            .read()
            .await
    }

    /// The configuration of a scope; an empty one where nothing is set.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn config(&self, scope: &Scope) -> Result<Tagged<api::Config>, Error> {
        self.call(Method::GET, &scope.segments())?.read_tagged().await
    }

    /// Sets the configuration of a scope.
    ///
    /// # Errors
    /// Values that may not be set, a precondition that does not hold.
    pub async fn set_config(
        &self,
        scope: &Scope,
        config: &api::Config,
        when: &Precondition,
    ) -> Result<api::Config, Error> {
        self.call(Method::PUT, &scope.segments())?
            .when(when)
            .json(config)
            .read()
            .await
    }

    /// Removes the configuration of a scope. The global one cannot be removed, only emptied.
    ///
    /// # Errors
    /// What every request may meet: see [`Error`].
    pub async fn delete_config(&self, scope: &Scope) -> Result<(), Error> {
        match scope {
            Scope::Global => self
                .set_config(scope, &api::Config::default(), &Precondition::Any)
                .await
                .map(drop),
            Scope::Group(_) | Scope::Pc(_) => self.call(Method::DELETE, &scope.segments())?.done().await,
        }
    }
}
