//! Whom a fire is for: the targets of an execution and what is owed to each.

use std::collections::{BTreeMap, BTreeSet};

use kanade_model::{ExecId, FanoutPlan, GroupName, Invalid, PcId, RequestId, SendId, Timestamp};
use kanade_ports::{Addressee, Agent, MAX_LIMIT, NewTarget, Send, SendState};

use super::Fires;
use crate::{aim, error::Result};

impl Fires {
    pub(super) async fn resolve(
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

    pub(super) async fn each_agent(&self, mut look: impl FnMut(Agent)) -> Result<()> {
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
