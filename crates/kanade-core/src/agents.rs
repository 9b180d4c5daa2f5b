//! Agents: their groups and configuration, and what can be asked of them directly.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use kanade_model::{
    AgentGroups, AuditAction, Caller, Command, ConfigScope, EffectiveConfig, ExecResult, GroupName,
    Heartbeat, Invalid, LogsRequest, PcId, RequestId, RunAs, Shell, Staleness, Subject, api,
    effective_config,
};
use kanade_ports::{Bus, BusErrorKind, Clock, ExecutionStore, Ids, Key, Precondition, Revision};
use serde_json::{Value, json};

use crate::{Audit, Documents, Error, Stored, error::Result};

const LOGS_WAIT: Duration = Duration::from_secs(10);
const RUN_GRACE: Duration = Duration::from_secs(10);
/// An ad-hoc run is not started later than this; long enough for clocks that differ.
const START_WITHIN: Duration = Duration::from_secs(300);
const RUN_TIMEOUT_SECS: u64 = 60;
/// What an ad-hoc run may take at most, as it keeps a request open.
const LONGEST_RUN_SECS: u64 = 24 * 3600;
/// Ad-hoc runs name no job; agents' readers want one.
pub(crate) const AD_HOC: &str = "adhoc";

/// Whose configuration a scope is.
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
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Global => Key::global_config(),
            Self::Group(group) => Key::group_config(group),
            Self::Pc(pc) => Key::pc_config(pc),
        }
    }

    /// Whether it is one we would write.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Global => Ok(()),
            Self::Group(group) => group.check(),
            Self::Pc(pc) => pc.check(),
        }
    }
}

/// Agents as operators see them. Cheap to clone.
#[derive(Clone)]
pub struct Agents {
    pub(crate) documents: Documents,
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) audit: Audit,
}

impl Agents {
    /// The groups of an agent; none for one that has no entry.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn groups(&self, pc: &PcId) -> Result<AgentGroups> {
        Ok(self
            .documents
            .peek(&pc.into())
            .await?
            .map(|stored: Stored<AgentGroups>| stored.document)
            .unwrap_or_default())
    }

    /// Sets the groups of an agent.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub async fn set_groups(&self, pc: &PcId, groups: AgentGroups, caller: &Caller) -> Result<AgentGroups> {
        pc.check()?;
        for group in &groups.groups {
            group.check()?;
        }
        let groups = groups.normalised();
        self.documents
            .write(&pc.into(), &groups, Precondition::Any)
            .await?;
        let payload = json!({ "groups": groups.groups });
        self.audit
            .write(caller, AuditAction::GroupsSet, pc.to_string(), payload)
            .await?;
        Ok(groups)
    }

    /// Puts an agent into a group.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub async fn join(&self, pc: &PcId, group: &GroupName, caller: &Caller) -> Result<AgentGroups> {
        pc.check()?;
        group.check()?;
        let joined = |mut groups: AgentGroups| {
            groups.groups.push(group.clone());
            groups.normalised()
        };
        let groups = self.documents.update(&pc.into(), joined).await?;
        self.audit
            .write(
                caller,
                AuditAction::GroupAdd,
                pc.to_string(),
                json!({ "group": group }),
            )
            .await?;
        Ok(groups)
    }

    /// Takes an agent out of a group.
    ///
    /// # Errors
    /// When the catalog cannot be changed.
    pub async fn leave(&self, pc: &PcId, group: &GroupName, caller: &Caller) -> Result<AgentGroups> {
        let left = |mut groups: AgentGroups| {
            groups.groups.retain(|member| member != group);
            groups.normalised()
        };
        let groups = self.documents.update(&pc.into(), left).await?;
        self.audit
            .write(
                caller,
                AuditAction::GroupRemove,
                pc.to_string(),
                json!({ "group": group }),
            )
            .await?;
        Ok(groups)
    }

    /// The configuration of a scope; an empty one where nothing is set.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn config(&self, scope: &Scope) -> Result<ConfigScope> {
        let stored: Option<Stored<ConfigScope>> = self.documents.peek(&scope.key()).await?;
        Ok(stored.map(|stored| stored.document).unwrap_or_default())
    }

    /// The configuration of a scope as the catalog itself has it, with its revision; none where nothing is set.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn stored_config(&self, scope: &Scope) -> Result<Option<Stored<ConfigScope>>> {
        self.documents.read(&scope.key()).await
    }

    /// Sets the configuration of a scope.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub async fn set_config(&self, scope: &Scope, config: &ConfigScope, caller: &Caller) -> Result<()> {
        self.set_config_when(scope, config, Precondition::Any, caller)
            .await
            .map(drop)
    }

    /// Sets the configuration of a scope, if it stands as the caller expects.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Changed`].
    pub async fn set_config_when(
        &self,
        scope: &Scope,
        config: &ConfigScope,
        when: Precondition,
        caller: &Caller,
    ) -> Result<Revision> {
        scope.check()?;
        config.check()?;
        let key = scope.key();
        let revision = self.documents.write(&key, config, when).await?;
        self.audit
            .write(
                caller,
                AuditAction::ConfigSet,
                key.to_string(),
                json!({ "config": config }),
            )
            .await?;
        Ok(revision)
    }

    /// Removes the configuration of a scope; removing what is not there is fine.
    ///
    /// # Errors
    /// When the catalog cannot be changed.
    pub async fn delete_config(&self, scope: &Scope, caller: &Caller) -> Result<()> {
        let key = scope.key();
        match self
            .documents
            .delete::<ConfigScope>(&key, Precondition::Any)
            .await
        {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.audit
            .write(caller, AuditAction::ConfigDelete, key.to_string(), Value::Null)
            .await
    }

    /// What holds for an agent, and a warning for each field that two of its groups set.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn effective_config(&self, pc: &PcId) -> Result<(EffectiveConfig, Vec<String>)> {
        let mut groups = Vec::new();
        for group in self.groups(pc).await?.groups {
            let scope = self.config(&Scope::Group(group.clone())).await?;
            groups.push((group, scope));
        }
        let global = self.config(&Scope::Global).await?;
        let own = self.config(&Scope::Pc(pc.clone())).await?;
        Ok(effective_config(Some(&global), &groups, Some(&own)))
    }

    /// Asks an agent for a sign of life; one that does not know the question is waited for.
    ///
    /// # Errors
    /// [`Error::TimedOut`].
    pub async fn ping(&self, pc: &PcId, wait: Duration, caller: &Caller) -> Result<Heartbeat> {
        let mut heartbeats = self.bus.subscribe(&Subject::heartbeat(pc).into()).await?;
        self.audit
            .write(caller, AuditAction::Ping, pc.to_string(), Value::Null)
            .await?;
        self.bus.publish(&Subject::ping(pc), bytes::Bytes::new()).await?;
        let heard = async {
            while let Some(message) = heartbeats.next().await {
                if let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&message.payload)
                    && heartbeat.pc_id == *pc
                {
                    return Some(heartbeat);
                }
            }
            None
        };
        let silent = || {
            Error::TimedOut(format!(
                "agent `{pc}` gave no sign of life within {}s",
                wait.as_secs()
            ))
        };
        tokio::select! {
            heartbeat = heard => heartbeat.ok_or_else(silent),
            () = self.clock.sleep(wait) => Err(silent()),
        }
    }

    /// The end of an agent's log.
    ///
    /// # Errors
    /// [`Error::NobodyListens`], [`Error::TimedOut`].
    pub async fn logs(&self, pc: &PcId, tail_lines: u32) -> Result<String> {
        let request =
            serde_json::to_vec(&LogsRequest { tail_lines }).expect("a request has string keys only");
        match self
            .bus
            .request(&Subject::logs_fetch(pc), request.into(), LOGS_WAIT)
            .await
        {
            Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(error) => Err(match error.kind() {
                BusErrorKind::NoResponders => Error::NobodyListens(format!("agent `{pc}` is not connected")),
                BusErrorKind::TimedOut => Error::TimedOut(format!(
                    "agent `{pc}` did not send its log within {}s",
                    LOGS_WAIT.as_secs()
                )),
                _ => error.into(),
            }),
        }
    }

    /// Runs a script once on one agent and waits for its end.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TimedOut`] (the run may still end; its result is recorded).
    pub async fn run(&self, request: &api::RunRequest, caller: &Caller) -> Result<ExecResult> {
        let shell = shell(request.shell.as_deref())?;
        let timeout_secs = request.timeout_secs.unwrap_or(RUN_TIMEOUT_SECS);
        if timeout_secs == 0 || timeout_secs > LONGEST_RUN_SECS {
            let allowed = format!("1 to {LONGEST_RUN_SECS} seconds");
            return Err(Invalid::new("timeout_secs", timeout_secs.to_string(), allowed).into());
        }
        if let Some(jitter) = request.jitter_secs
            && jitter > LONGEST_RUN_SECS
        {
            let allowed = format!("{LONGEST_RUN_SECS} seconds at most");
            return Err(Invalid::new("jitter_secs", jitter.to_string(), allowed).into());
        }
        if let Some(exec_id) = &request.exec_id
            && self.store.execution(exec_id).await?.is_some()
        {
            let allowed = "an id that no execution has; its outcome would be mixed up with this run's";
            return Err(Invalid::new("exec_id", exec_id.as_str(), allowed).into());
        }
        let jitter = Duration::from_secs(request.jitter_secs.unwrap_or(0));
        if request.script.len() > kanade_model::Manifest::LONGEST_SCRIPT {
            return Err(Invalid::new("script", &request.script, "512 KiB at most").into());
        }
        let agent = self.store.agent(&request.pc_id).await?;
        if let Some(why) = agent.and_then(|agent| shell.unknown_to(agent.agent_version.as_deref()?)) {
            let why = format!("`{}` cannot run it: {why}", request.pc_id);
            return Err(Invalid::new("shell", shell.as_str(), why).into());
        }
        let request_id = RequestId(self.ids.next());
        let command = Command {
            id: AD_HOC.parse().expect("a valid job id"),
            version: "0".parse().expect("a valid version"),
            request_id,
            exec_id: request.exec_id.clone(),
            shell,
            script: request.script.clone(),
            timeout_secs,
            jitter_secs: request.jitter_secs,
            run_as: RunAs::System,
            cwd: None,
            // Nobody waits for a run that starts later.
            deadline_at: Some(self.clock.now().plus(jitter + START_WITHIN)),
            staleness: Staleness::Unchecked,
            params: BTreeMap::new(),
            secrets: BTreeMap::new(),
        };
        let mut results = self.bus.subscribe(&Subject::result(request_id).into()).await?;
        let payload = json!({ "request_id": request_id, "exec_id": request.exec_id, "shell": shell });
        self.audit
            .write(caller, AuditAction::Run, request.pc_id.to_string(), payload)
            .await?;
        let encoded = serde_json::to_vec(&command).expect("a command has string keys only");
        self.bus
            .publish(&Subject::commands_pc(&request.pc_id), encoded.into())
            .await?;
        self.bus.flush().await?;
        let ended = async {
            while let Some(message) = results.next().await {
                if let Ok(result) = serde_json::from_slice::<ExecResult>(&message.payload)
                    && result.pc_id == request.pc_id
                {
                    return Some(result);
                }
            }
            None
        };
        let wait = Duration::from_secs(timeout_secs) + jitter + RUN_GRACE;
        let pc = &request.pc_id;
        let silent = || Error::TimedOut(format!("agent `{pc}` sent no result within {}s", wait.as_secs()));
        tokio::select! {
            result = ended => result.ok_or_else(silent),
            () = self.clock.sleep(wait) => Err(silent()),
        }
    }
}

fn shell(name: Option<&str>) -> Result<Shell, Invalid> {
    match name {
        // What existing clients mean by all of these is Windows PowerShell.
        None | Some("powershell" | "ps" | "pwsh") => Ok(Shell::Powershell),
        Some("cmd") => Ok(Shell::Cmd),
        Some("sh") => Ok(Shell::Sh),
        Some("bash") => Ok(Shell::Bash),
        Some(other) => Err(Invalid::new(
            "shell",
            other,
            "`powershell`, `cmd`, `sh` or `bash`",
        )),
    }
}
