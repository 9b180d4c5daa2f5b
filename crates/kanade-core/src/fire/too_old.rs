//! Agents that are too old for what a job needs: told when it is fired, not when it fails.

use std::collections::{BTreeMap, BTreeSet};

use kanade_model::{EventSkipped, ExecId, Execute, Manifest, PcId, SkipReason, Timestamp, params_unknown_to};
use kanade_ports::{Agent, Change, NewTarget};

use super::Fires;
use crate::error::Result;

/// Up to so many agents are looked up each by itself.
const ASKED_ONE_BY_ONE: usize = 16;

impl Fires {
    /// The targets whose agents are known to be too old for this job, and why. They would drop its Commands, or say that
    /// they had run what they had not.
    pub(super) async fn too_old(
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
pub(super) fn refusals(
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
