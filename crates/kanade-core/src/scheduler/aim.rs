//! At whom a slot fires: the policy of the schedule's mode, over what is known of the agents.

use std::collections::BTreeSet;

use kanade_model::{GroupName, HumanDuration, Mode, PcId, Schedule, TargetState, Timestamp};
use kanade_ports::{ExecutionStore, MAX_LIMIT, TargetQuery};

use crate::{Documents, aim::members, error::Result, fleet::ACTIVE_WITHIN};

/// At whom a slot fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Aim {
    /// At the whole target.
    Whole,
    /// At these of it.
    Only(BTreeSet<PcId>),
    /// At nobody.
    Nobody {
        why: &'static str,
        /// Nothing is left to do, for good if there is no cooldown.
        done: bool,
    },
}

/// What is known of the agents that a schedule is aimed at.
#[derive(Debug, Default)]
struct Known {
    /// Those that it is expected to reach: the ones it names, and of groups and everybody those that are alive.
    expected: BTreeSet<PcId>,
    /// All of them, alive or not.
    members: BTreeSet<PcId>,
    /// Those on which the job has succeeded, within the cooldown if there is one.
    succeeded: BTreeSet<PcId>,
    /// Those that the job is on its way to, or running on.
    busy: BTreeSet<PcId>,
}

/// At whom a slot of `schedule` fires at `now`.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn aim(
    schedule: &Schedule,
    now: Timestamp,
    documents: &Documents,
    store: &dyn ExecutionStore,
) -> Result<Aim> {
    if schedule.mode == Mode::EveryTick {
        return Ok(Aim::Whole);
    }
    let mut known = Known::default();
    look_for_agents(&mut known, schedule, now, documents, store).await?;
    let since = schedule
        .cooldown
        .map(|HumanDuration(cooldown)| now.minus(cooldown));
    let mut after = None;
    loop {
        let page = store
            .successes(&schedule.job_id, after.as_ref(), MAX_LIMIT)
            .await?;
        let counts = page
            .items
            .into_iter()
            .filter(|success| since.is_none_or(|since| success.at > since));
        known.succeeded.extend(counts.map(|success| success.pc_id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    for exec_id in store.in_flight(&schedule.job_id).await? {
        for state in [TargetState::Waiting, TargetState::Running] {
            let mut query = TargetQuery {
                exec_id: exec_id.clone(),
                state: Some(state),
                limit: MAX_LIMIT,
                after: None,
            };
            loop {
                let page = store.targets(&query).await?;
                known
                    .busy
                    .extend(page.items.into_iter().map(|target| target.pc_id));
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
        }
    }
    Ok(decide(schedule.mode, &known))
}

async fn look_for_agents(
    known: &mut Known,
    schedule: &Schedule,
    now: Timestamp,
    documents: &Documents,
    store: &dyn ExecutionStore,
) -> Result<()> {
    // The waves of a rollout say whom it reaches; its target is only a label then.
    let (all, groups, pcs): (bool, Vec<GroupName>, &[PcId]) = match &schedule.rollout {
        Some(rollout) => (
            false,
            rollout.waves.iter().map(|wave| wave.group.clone()).collect(),
            &[],
        ),
        None => (
            schedule.target.all,
            schedule.target.groups.clone(),
            &schedule.target.pcs,
        ),
    };
    known.expected.extend(pcs.iter().cloned());
    known.members.extend(pcs.iter().cloned());
    if !groups.is_empty() {
        known.members.extend(members(documents, &groups));
    }
    if !all && groups.is_empty() {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = store.agents(after.as_ref(), MAX_LIMIT).await?;
        for agent in page.items {
            let alive = now.since(agent.updated_at) <= ACTIVE_WITHIN;
            if alive && (all || known.members.contains(&agent.pc_id)) {
                known.expected.insert(agent.pc_id.clone());
            }
            if all {
                known.members.insert(agent.pc_id);
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

fn decide(mode: Mode, known: &Known) -> Aim {
    let nobody = |why, done| Aim::Nobody { why, done };
    let left: BTreeSet<&PcId> = match mode {
        Mode::EveryTick => return Aim::Whole,
        Mode::OncePerTarget if !known.members.is_disjoint(&known.succeeded) => {
            return nobody("the job has succeeded on one of the agents it is aimed at", true);
        }
        Mode::OncePerTarget => known.expected.iter().collect(),
        Mode::OncePerPc => known.expected.difference(&known.succeeded).collect(),
    };
    if known.expected.is_empty() {
        return nobody("none of the agents it is aimed at shows life", false);
    }
    if left.is_empty() {
        return nobody("the job has succeeded on every agent it is aimed at", true);
    }
    let eligible: BTreeSet<PcId> = left
        .into_iter()
        .filter(|pc| !known.busy.contains(*pc))
        .cloned()
        .collect();
    if eligible.is_empty() {
        return nobody("the job is still under way on every agent that is left", false);
    }
    Aim::Only(eligible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcs(names: &str) -> BTreeSet<PcId> {
        names
            .split_whitespace()
            .map(|name| name.parse().unwrap())
            .collect()
    }

    #[test]
    fn who_is_fired_at() {
        use Mode::{EveryTick, OncePerPc, OncePerTarget};
        for (mode, expected, members, succeeded, busy, aim) in [
            (EveryTick, "a b", "a b c", "a", "b", "whole"),
            (OncePerPc, "a b", "a b c", "", "", "a b"),
            (OncePerPc, "a b", "a b c", "a", "", "b"),
            (OncePerPc, "a b", "a b c", "a", "b", "busy"),
            (OncePerPc, "a b", "a b c", "a b", "", "done"),
            (OncePerPc, "a b", "a b c", "c", "", "a b"),
            // Nobody is there: that is not done.
            (OncePerPc, "", "c", "c", "", "nobody"),
            (OncePerPc, "", "", "", "", "nobody"),
            (OncePerTarget, "a b", "a b c", "", "", "a b"),
            (OncePerTarget, "a b", "a b c", "", "a", "b"),
            // Any member counts, also one that is away.
            (OncePerTarget, "a b", "a b c", "c", "", "done"),
            (OncePerTarget, "a b", "a b c", "d", "", "a b"),
            (OncePerTarget, "", "c", "", "", "nobody"),
        ] {
            let known = Known {
                expected: pcs(expected),
                members: pcs(members),
                succeeded: pcs(succeeded),
                busy: pcs(busy),
            };
            let decided = decide(mode, &known);
            let right = match (aim, &decided) {
                ("whole", Aim::Whole) | ("done", Aim::Nobody { done: true, .. }) => true,
                ("nobody", Aim::Nobody { why, done: false }) => why.contains("shows life"),
                ("busy", Aim::Nobody { why, done: false }) => why.contains("under way"),
                (names, Aim::Only(only)) => *only == pcs(names),
                _ => false,
            };
            assert!(
                right,
                "{mode:?} {expected} | {members} | {succeeded} | {busy}: {decided:?}"
            );
        }
    }
}
