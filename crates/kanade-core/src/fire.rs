//! Fires a job: resolves the target, records execution, targets and sends in one commit, hands the sends on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kanade_model::{
    AuditAction, Caller, EventSkipped, ExecId, Execute, FanoutPlan, GroupName, HumanDuration, Invalid, JobId,
    Manifest, PcId, RequestId, Retry, ScriptStatus, SendId, SkipReason, SlotState, Timestamp, Version, api,
    param, params_unknown_to,
};
use kanade_ports::{
    Addressee, Agent, Change, ChangeSet, Clock, ErrorKind, ExecutionStore, IdempotencyKey, Ids, Limits,
    MAX_LIMIT, NewExecution, NewTarget, Order, OrderParams, Outcome, Pace, Precondition, Retrying, Send,
    SendState, SlotRecord,
};
use serde_json::{Value, json};

use crate::{
    Audit, Committer, Dispatcher, Documents, Error, Settings, aim, documents::not_found, error::Result,
    secrets::Secrets,
};

/// Up to so many agents are looked up each by itself.
const ASKED_ONE_BY_ONE: usize = 16;
/// A send that is still owed so long after its time has been forgotten.
const OVERDUE: Duration = Duration::from_secs(5);

/// Fires jobs. Cheap to clone.
#[derive(Clone)]
pub struct Fires {
    pub(crate) documents: Documents,
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) committer: Committer,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) secrets: Secrets,
}

/// A caller's key that makes its fire repeatable, and the digest of what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeatable {
    /// The key, unique among callers.
    pub key: String,
    /// The digest of the request.
    pub fingerprint: String,
}

/// What a request to fire led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// The execution.
    pub fired: api::Fired,
    /// Whether an earlier request with the same key had fired it.
    pub repeated: bool,
}

/// A slot that is to fire its job.
pub(crate) struct SlotFiring<'a> {
    /// Its record, but for what firing fills in.
    pub(crate) slot: SlotRecord,
    pub(crate) job: &'a JobId,
    pub(crate) plan: &'a FanoutPlan,
    pub(crate) only: Option<&'a BTreeSet<PcId>>,
    pub(crate) caller: &'a Caller,
    /// What is committed with it.
    pub(crate) then: Vec<Change>,
}

/// A firing that is ready to be committed.
struct Prepared {
    new: NewExecution,
    /// What is recorded of targets that cannot run it.
    refused: Vec<Change>,
    audit: Change,
    fired: api::Fired,
}

impl Fires {
    /// As [`firing`](Self::firing), for who does not mind whether it is a repetition.
    ///
    /// # Errors
    /// As [`firing`](Self::firing).
    pub async fn fire(
        &self,
        job: &JobId,
        plan: &FanoutPlan,
        caller: &Caller,
        repeatable: Option<Repeatable>,
    ) -> Result<api::Fired> {
        Ok(self.firing(job, plan, caller, repeatable).await?.fired)
    }

    /// Fires a job. With `repeatable`, a repetition answers what the first request led to.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Revoked`], [`Error::Invalid`] for a plan that aims at nobody and for
    /// parameters that do not fit, [`Error::KeyReused`]. After an `Indeterminate` error the execution may exist; a key tells.
    pub async fn firing(
        &self,
        job: &JobId,
        plan: &FanoutPlan,
        caller: &Caller,
        repeatable: Option<Repeatable>,
    ) -> Result<Firing> {
        let again = |fired| Firing {
            fired,
            repeated: true,
        };
        let repeatable = self.secrets.keyed(repeatable, plan).await?;
        if let Some(repeatable) = &repeatable
            && let Some(fired) = self.fired_before(repeatable).await?
        {
            return Ok(again(fired));
        }
        let exec_id = ExecId::from(self.ids.next());
        let prepared = self.prepare(job, plan, caller, exec_id, None).await?;
        let key = repeatable.as_ref().map(|repeatable| IdempotencyKey {
            key: repeatable.key.clone(),
            fingerprint: repeatable.fingerprint.clone(),
            at: prepared.new.initiated_at,
        });
        let Prepared {
            new,
            refused,
            audit,
            fired,
        } = prepared;
        let sends = new.sends.clone();
        let set = ChangeSet {
            lead: Change::Fire(Box::new(new)),
            then: refused.into_iter().chain([audit]).collect(),
            key,
        };
        let committed = self.commit(set).await?;
        match (committed, repeatable) {
            (Outcome::Duplicate, Some(repeatable)) => {
                let fired = self.fired_before(&repeatable).await?;
                return fired.map(again).ok_or(Error::NotFound {
                    what: "execution of idempotency key",
                    id: repeatable.key,
                });
            }
            _ => self.enqueue(sends),
        }
        Ok(Firing {
            fired,
            repeated: false,
        })
    }

    /// Fires a job for a slot of a schedule, at `only` these agents where that is said. Says what became of the slot's
    /// record: when it is not applied, the slot had been settled before and nothing is fired.
    ///
    /// # Errors
    /// As [`firing`](Self::firing). It can be tried again: the execution of a slot has always the same id.
    pub(crate) async fn slot(&self, firing: SlotFiring<'_>) -> Result<Outcome> {
        let SlotFiring {
            slot,
            job,
            plan,
            only,
            caller,
            then,
        } = firing;
        let exec_id = ExecId::of_slot(&slot.schedule_id, slot.slot);
        let prepared = self.prepare(job, plan, caller, exec_id.clone(), only).await?;
        let sends = prepared.new.sends.clone();
        let set = ChangeSet {
            lead: Change::Slot(SlotRecord {
                state: SlotState::Fired,
                exec_id: Some(exec_id),
                ..slot
            }),
            then: [Change::Fire(Box::new(prepared.new))]
                .into_iter()
                .chain(prepared.refused)
                .chain([prepared.audit])
                .chain(then)
                .collect(),
            key: None,
        };
        let outcome = self.commit(set).await?;
        if outcome == Outcome::Applied {
            self.enqueue(sends);
        }
        Ok(outcome)
    }

    /// Hands on what is due; what a gate holds comes when that lets it out.
    fn enqueue(&self, mut sends: Vec<Send>) {
        sends.retain(|send| send.state == SendState::Due);
        self.dispatcher.enqueue(sends);
    }

    async fn commit(&self, set: ChangeSet) -> Result<Outcome> {
        let committed = self.committer.commit(set).await.inspect_err(|error| {
            if error.kind() == ErrorKind::Indeterminate {
                self.dispatcher.look_in_store();
            }
        });
        Ok(committed?)
    }

    /// Resolves a plan and pins the job's version, so that all is ready to be committed.
    async fn prepare(
        &self,
        job: &JobId,
        plan: &FanoutPlan,
        caller: &Caller,
        exec_id: ExecId,
        only: Option<&BTreeSet<PcId>>,
    ) -> Result<Prepared> {
        plan.check()?;
        let manifest = self
            .documents
            .read::<Manifest>(&job.into())
            .await?
            .ok_or_else(|| not_found::<Manifest>(job))?;
        let manifest = manifest.document;
        let status = self.documents.read::<ScriptStatus>(&job.into()).await?;
        if status.is_some_and(|stored| stored.document == ScriptStatus::Revoked) {
            return Err(Error::Revoked(job.clone()));
        }
        let values = param::resolve(&manifest.params, &plan.params)?;
        self.secrets.check(&values)?;
        let has_params = !values.is_empty();
        let now = self.clock.now();
        let params = self.secrets.seal(&exec_id, values).await?;
        let each = has_params || manifest.execute.max_parallel.is_some();
        let (targets, mut sends) = self.resolve(&exec_id, plan, only, now, each).await?;
        let too_old = self.too_old(&manifest, has_params, &targets).await?;
        if let Some((pc, why)) = too_old.first_key_value()
            && too_old.len() == targets.len()
        {
            let why = format!("every agent it is aimed at is too old for it: of `{pc}`, {why}; update it");
            return Err(Invalid::new("execute", job.as_str(), why).into());
        }
        sends.retain(|send| match &send.to {
            Addressee::Pc(pc) => !too_old.contains_key(pc),
            Addressee::All => true,
        });
        if manifest.execute.max_parallel.is_some() {
            // Steering lets out as many as there is room for.
            sends.iter_mut().for_each(|send| send.state = SendState::Parked);
        }
        let subjects = sends
            .iter()
            .map(|send| send.to.subject().as_str().to_owned())
            .collect();
        let target_count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let refused = refusals(&exec_id, &manifest, &targets, &too_old, now);
        let shown = in_short(&params);
        let new = NewExecution {
            exec_id: exec_id.clone(),
            initiated_by: caller.name().to_owned(),
            initiated_at: now,
            limits: limits(&manifest, plan, &self.settings),
            order: order(&manifest, plan, params),
            targets,
            sends,
            pace: pace(&manifest, plan),
        };
        self.pin(job, &manifest.version).await?;
        let mut payload =
            json!({ "exec_id": exec_id, "version": manifest.version, "target_count": target_count });
        if has_params {
            payload["params"] = shown;
        }
        let audit = self
            .audit
            .entry(caller, AuditAction::Exec, Some(job.to_string()), payload);
        let fired = api::Fired {
            exec_id,
            job_id: job.clone(),
            version: manifest.version,
            target_count,
            subjects,
        };
        Ok(Prepared {
            new,
            refused,
            audit,
            fired,
        })
    }

    /// Says which version agents may start, before the first Command of it leaves.
    async fn pin(&self, job: &JobId, version: &Version) -> Result<()> {
        let pinned = self.documents.read::<Version>(&job.into()).await?;
        if pinned.is_none_or(|stored| stored.document != *version) {
            self.documents
                .write(&job.into(), version, Precondition::Any)
                .await?;
        }
        Ok(())
    }

    async fn fired_before(&self, repeatable: &Repeatable) -> Result<Option<api::Fired>> {
        let Some(record) = self.store.key(&repeatable.key).await? else {
            return Ok(None);
        };
        if record.fingerprint != repeatable.fingerprint {
            return Err(Error::KeyReused(repeatable.key.clone()));
        }
        let Some(execution) = self.store.execution(&record.exec_id).await? else {
            return Ok(None);
        };
        let sends = self.store.sends(&record.exec_id).await?;
        let overdue = self.clock.now().minus(OVERDUE);
        if sends
            .iter()
            .any(|send| send.state == SendState::Due && send.due_at < overdue)
        {
            // The first request ended without knowing that it was recorded, so nobody handed them over.
            self.dispatcher.look_in_store();
        }
        Ok(Some(api::Fired {
            exec_id: execution.exec_id,
            job_id: execution.job_id,
            version: execution.version,
            target_count: execution.counts.total(),
            subjects: sends
                .into_iter()
                .map(|send| send.to.subject().as_str().to_owned())
                .collect(),
        }))
    }

    async fn resolve(
        &self,
        exec_id: &ExecId,
        plan: &FanoutPlan,
        only: Option<&BTreeSet<PcId>>,
        now: Timestamp,
        each: bool,
    ) -> Result<(Vec<NewTarget>, Vec<Send>)> {
        let mut recipients = Recipients {
            fires: self,
            exec_id,
            only,
            targets: BTreeMap::new(),
            sends: Vec::new(),
            state: SendState::Due,
        };
        if let Some(rollout) = &plan.rollout {
            for (number, wave) in rollout.waves.iter().enumerate() {
                let members = self.members(std::slice::from_ref(&wave.group));
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                recipients.send_each(members, number, now.plus(wave.delay.0));
                if wave.proceed_if.is_some() {
                    // Its gate lets later waves out, not their delay alone.
                    recipients.state = SendState::Held;
                }
            }
        } else if let (true, Some(only)) = (plan.target.all, only) {
            recipients.send_each(only.clone(), 0, now);
        } else if plan.target.all {
            let mut pcs = self.known_agents().await?;
            pcs.extend(plan.target.pcs.iter().cloned());
            if each {
                // Heard by all, it would be run without parameters by agents that know none, and by all at once.
                recipients.send_each(pcs, 0, now);
            } else {
                recipients.send_all(pcs, now);
            }
        } else {
            let mut pcs = self.members(&plan.target.groups);
            pcs.extend(plan.target.pcs.iter().cloned());
            recipients.send_each(pcs, 0, now);
        }
        if recipients.targets.is_empty() {
            return Err(nobody(plan).into());
        }
        Ok((recipients.targets.into_values().collect(), recipients.sends))
    }

    async fn known_agents(&self) -> Result<BTreeSet<PcId>> {
        let mut pcs = BTreeSet::new();
        self.each_agent(|agent| {
            pcs.insert(agent.pc_id);
        })
        .await?;
        Ok(pcs)
    }

    async fn each_agent(&self, mut look: impl FnMut(Agent)) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.store.agents(after.as_ref(), MAX_LIMIT).await?;
            page.items.into_iter().for_each(&mut look);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The targets whose agents are known to be too old for this job, and why. They would drop its Commands, or say that
    /// they had run what they had not.
    async fn too_old(
        &self,
        manifest: &Manifest,
        has_params: bool,
        targets: &[NewTarget],
    ) -> Result<BTreeMap<PcId, String>> {
        let mut too_old = BTreeMap::new();
        let execute = &manifest.execute;
        if execute.shell.known_since().is_none() && execute.run_as.is_default() && !has_params {
            return Ok(too_old);
        }
        let mut judge = |agent: Agent| {
            if let Some(why) = cannot_run(&agent, execute, has_params) {
                too_old.insert(agent.pc_id, why);
            }
        };
        if targets.len() <= ASKED_ONE_BY_ONE {
            for target in targets {
                if let Some(agent) = self.store.agent(&target.pc_id).await? {
                    judge(agent);
                }
            }
        } else {
            self.each_agent(judge).await?;
            let aimed_at: BTreeSet<&PcId> = targets.iter().map(|target| &target.pc_id).collect();
            too_old.retain(|pc, _| aimed_at.contains(pc));
        }
        Ok(too_old)
    }

    fn members(&self, groups: &[GroupName]) -> BTreeSet<PcId> {
        aim::members(&self.documents, groups)
    }
}

/// Collects targets and sends; an agent that is meant more than once is sent to once, in its first wave.
struct Recipients<'a> {
    fires: &'a Fires,
    exec_id: &'a ExecId,
    /// Nobody else is sent to, where it is said.
    only: Option<&'a BTreeSet<PcId>>,
    targets: BTreeMap<PcId, NewTarget>,
    sends: Vec<Send>,
    /// Of the sends that follow.
    state: SendState,
}

impl Recipients<'_> {
    fn send_each(&mut self, pcs: BTreeSet<PcId>, wave: u32, due_at: Timestamp) {
        for pc in pcs {
            if !self.targets.contains_key(&pc) && self.only.is_none_or(|only| only.contains(&pc)) {
                let send = self.send(Addressee::Pc(pc.clone()), wave, due_at);
                self.reach(pc, &send);
                self.sends.push(send);
            }
        }
    }

    fn send_all(&mut self, pcs: BTreeSet<PcId>, due_at: Timestamp) {
        let send = self.send(Addressee::All, 0, due_at);
        for pc in pcs {
            self.reach(pc, &send);
        }
        self.sends.push(send);
    }

    fn send(&self, to: Addressee, wave: u32, due_at: Timestamp) -> Send {
        Send {
            send_id: SendId(self.fires.ids.next()),
            exec_id: self.exec_id.clone(),
            to,
            request_id: RequestId(self.fires.ids.next()),
            wave,
            due_at,
            state: self.state,
        }
    }

    fn reach(&mut self, pc: PcId, send: &Send) {
        let target = NewTarget {
            pc_id: pc.clone(),
            send_id: send.send_id,
            request_id: send.request_id,
            wave: send.wave,
            due_at: send.due_at,
        };
        self.targets.insert(pc, target);
    }
}

/// Why this agent is too old for it, if it is.
fn cannot_run(agent: &Agent, execute: &Execute, has_params: bool) -> Option<String> {
    let version = agent.agent_version.as_deref()?;
    let windows = agent
        .os_family
        .as_deref()
        .is_none_or(|family| family.eq_ignore_ascii_case("windows"));
    execute
        .shell
        .unknown_to(version)
        .or_else(|| execute.run_as.pretended_by(version, windows))
        .or_else(|| has_params.then(|| params_unknown_to(version)).flatten())
}

/// What is recorded of the targets that cannot run it, with the fire.
fn refusals(
    exec_id: &ExecId,
    manifest: &Manifest,
    targets: &[NewTarget],
    too_old: &BTreeMap<PcId, String>,
    at: Timestamp,
) -> Vec<Change> {
    let refused = |target: &NewTarget| {
        let detail = too_old.get(&target.pc_id)?.clone();
        Some(Change::RunSkipped(EventSkipped {
            request_id: target.request_id,
            exec_id: exec_id.clone(),
            pc_id: target.pc_id.clone(),
            at,
            manifest_id: manifest.id.clone(),
            version: manifest.version.clone(),
            reason: SkipReason::Unsupported,
            detail,
        }))
    };
    targets.iter().filter_map(refused).collect()
}

fn nobody(plan: &FanoutPlan) -> Invalid {
    let names = |groups: Vec<&str>| groups.join(", ");
    match &plan.rollout {
        Some(rollout) => Invalid::new(
            "rollout.waves",
            names(rollout.waves.iter().map(|wave| wave.group.as_str()).collect()),
            "none of these groups has a member; `kanade group add` puts agents into one",
        ),
        None if plan.target.all => {
            Invalid::new("target.all", "true", "no agent has reported to this server yet")
        }
        None => Invalid::new(
            "target.groups",
            names(plan.target.groups.iter().map(GroupName::as_str).collect()),
            "none of these groups has a member; `kanade group add` puts agents into one",
        ),
    }
}

fn order(manifest: &Manifest, plan: &FanoutPlan, params: OrderParams) -> Order {
    Order {
        job_id: manifest.id.clone(),
        version: manifest.version.clone(),
        shell: manifest.execute.shell,
        script: manifest.execute.script.clone(),
        timeout_secs: manifest.execute.timeout.as_secs_ceil(),
        jitter_secs: plan.jitter.map(HumanDuration::as_secs_ceil),
        run_as: manifest.execute.run_as,
        cwd: manifest.execute.cwd.clone(),
        deadline_at: plan.deadline_at,
        staleness: manifest.staleness,
        inventory: manifest.inventory.clone(),
        description: manifest.description.clone(),
        plan: FanoutPlan {
            params: BTreeMap::new(),
            ..plan.clone()
        },
        params,
    }
}

/// The parameters for the audit trail: null for what is secret, and the beginning of what is long.
fn in_short(params: &OrderParams) -> Value {
    const SHOWN: usize = 200;
    let cut = |text: String| match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    params
        .shown()
        .into_iter()
        .map(|(name, text)| (name, Value::from(text.map(cut))))
        .collect()
}

fn pace(manifest: &Manifest, plan: &FanoutPlan) -> Pace {
    let retrying = |rule: &Retry| Retrying {
        rule: rule.clone(),
        until: plan.deadline_at,
    };
    Pace {
        max_parallel: manifest.execute.max_parallel,
        retry: manifest.execute.retry.as_ref().map(retrying),
    }
}

fn limits(manifest: &Manifest, plan: &FanoutPlan, settings: &Settings) -> Limits {
    let jitter = plan.jitter.unwrap_or_default();
    Limits {
        start_within_secs: settings.command_ttl.as_secs(),
        run_within_secs: manifest.execute.timeout.as_secs_ceil()
            + jitter.as_secs_ceil()
            + settings.lost_grace.as_secs(),
    }
}
