//! Fires a job: resolves the target, records execution, targets and sends in one commit, hands the sends on.

mod order;
mod recipients;
mod too_old;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kanade_model::{
    AuditAction, Caller, ExecId, FanoutPlan, Invalid, JobId, Manifest, PcId, ScriptStatus, SlotState,
    Version, api, param,
};
use kanade_ports::{
    Addressee, Change, ChangeSet, Clock, ErrorKind, ExecutionStore, IdempotencyKey, Ids, NewExecution,
    Outcome, Precondition, Send, SendState, SlotRecord,
};
use serde_json::json;

use crate::{
    Audit, Committer, Dispatcher, Documents, Error, Settings, documents::not_found, error::Result,
    secrets::Secrets,
};
use order::{in_short, limits, order, pace};
use too_old::refusals;

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
}
