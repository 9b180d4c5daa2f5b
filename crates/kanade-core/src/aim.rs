//! Whom a target or a group means, for those who look before they fire.

use std::collections::{BTreeMap, BTreeSet};

use kanade_model::{AgentGroups, FanoutPlan, GroupName, PcId, api};
use kanade_ports::MAX_LIMIT;

use crate::{Agents, Documents, error::Result, fleet::ACTIVE_WITHIN};

/// How many agents that have never reported are named.
const UNKNOWN_NAMED: usize = 100;

impl Agents {
    /// Every group that has a member, by name.
    pub fn all_groups(&self) -> Vec<api::Group> {
        let mut members = BTreeMap::<GroupName, u64>::new();
        for (_, stored) in self.documents.list::<AgentGroups>() {
            for name in stored.document.groups {
                *members.entry(name).or_default() += 1;
            }
        }
        members
            .into_iter()
            .map(|(name, members)| api::Group { name, members })
            .collect()
    }

    /// The agents that are in one of these groups, known or not.
    pub fn members(&self, groups: &[GroupName]) -> BTreeSet<PcId> {
        members(&self.documents, groups)
    }

    /// At whom a fire with this plan would be aimed now. Looks at every agent once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn aim(&self, plan: &FanoutPlan) -> Result<api::Aim> {
        let (all, mut meant) = match &plan.rollout {
            Some(rollout) => {
                let groups: Vec<GroupName> = rollout.waves.iter().map(|wave| wave.group.clone()).collect();
                (false, self.members(&groups))
            }
            None if plan.target.all => (true, BTreeSet::new()),
            None => (false, self.members(&plan.target.groups)),
        };
        if plan.rollout.is_none() {
            meant.extend(plan.target.pcs.iter().cloned());
        }
        let now = self.clock.now();
        let (mut count, mut alive, mut after) = (0, 0, None);
        loop {
            let page = self.store.agents(after.as_ref(), MAX_LIMIT).await?;
            for agent in &page.items {
                // What is left at the end has never reported.
                if meant.remove(&agent.pc_id) || all {
                    count += 1;
                    alive += u64::from(now.since(agent.updated_at) <= ACTIVE_WITHIN);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(api::Aim {
            count: count + meant.len() as u64,
            alive,
            unknown: meant.into_iter().take(UNKNOWN_NAMED).collect(),
        })
    }
}

/// The agents that are in one of these groups, known or not.
pub(crate) fn members(documents: &Documents, groups: &[GroupName]) -> BTreeSet<PcId> {
    let is_member = |agent: &AgentGroups| agent.groups.iter().any(|group| groups.contains(group));
    documents
        .list::<AgentGroups>()
        .into_iter()
        .filter(|(_, stored)| is_member(&stored.document))
        .filter_map(|(key, _)| key.as_str().parse().ok())
        .collect()
}
