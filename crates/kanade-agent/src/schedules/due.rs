//! Which slots an agent fires, and what: decided from documents and the time alone.

use std::{collections::BTreeMap, time::Duration};

use kanade_model::{
    Command, Cron, ExecId, GroupName, Manifest, Mode, Overlap, ParamText, PcId, RequestId, RunsOn, Schedule,
    Timestamp,
};
use uuid::Uuid;

/// A slot that is noticed later than this after its time, because the machine slept, is missed.
const LATE: Duration = Duration::from_secs(60);

/// A schedule that this agent ticks.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) schedule: Schedule,
    cron: Cron,
    /// How long after the slot it is this agent's turn.
    delay: Duration,
}

impl Own {
    /// `None` where the agent has nothing to do with it.
    pub(super) fn of(schedule: Schedule, pc: &PcId, groups: &[GroupName]) -> Option<Self> {
        if !schedule.enabled || schedule.runs_on != RunsOn::Agent {
            return None;
        }
        let delay = turn(&schedule, pc, groups)?;
        match schedule.timing() {
            Ok(cron) => Some(Self {
                schedule,
                cron,
                delay,
            }),
            Err(error) => {
                tracing::warn!(schedule = %schedule.id, %error, "a schedule cannot be understood and is never due");
                None
            }
        }
    }

    /// When it is next due after `now`.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let slot = self.cron.next_after(now.minus(self.delay))?;
        Some(slot.plus(self.delay))
    }

    /// The slots that became due after `since`, up to and with `now`. What is long past is missed.
    pub(super) fn slots(&self, since: Timestamp, now: Timestamp) -> Vec<Timestamp> {
        let since = since.max(now.minus(LATE));
        self.cron
            .between(since.minus(self.delay), now.minus(self.delay))
            .collect()
    }

    /// The Command of a slot: whoever makes it, and how often, it is the same one.
    pub(super) fn command(
        &self,
        job: &Manifest,
        slot: Timestamp,
        pc: &PcId,
        params: BTreeMap<String, ParamText>,
    ) -> Command {
        let Schedule {
            id,
            jitter,
            deadline_at,
            starting_deadline,
            ..
        } = &self.schedule;
        let exec_id = ExecId::of_slot(id, slot);
        let name = format!("kanade-slot:{exec_id}:{pc}");
        let starting_deadline = starting_deadline.map(|within| slot.plus(within.0));
        Command {
            id: job.id.clone(),
            version: job.version.clone(),
            request_id: RequestId(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())),
            exec_id: Some(exec_id),
            shell: job.execute.shell,
            script: job.execute.script.clone(),
            timeout_secs: seconds(job.execute.timeout.0),
            jitter_secs: jitter.map(|jitter| seconds(jitter.0)),
            run_as: job.execute.run_as,
            cwd: job.execute.cwd.clone(),
            deadline_at: [*deadline_at, starting_deadline].into_iter().flatten().min(),
            staleness: job.staleness,
            params,
            // No default is secret.
            secrets: BTreeMap::new(),
        }
    }
}

/// What a slot comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fire,
    /// What runs of it is killed first.
    Replace,
    /// There is nothing to do; why.
    Skip(&'static str),
}

/// Decides about a slot, given the agent's last success of the job, and whether a run of the schedule is in its hands.
/// `once_per_target` is `once_per_pc` here: an agent knows of no other.
pub(super) fn judge(
    schedule: &Schedule,
    success: Option<Timestamp>,
    in_hand: bool,
    now: Timestamp,
) -> Verdict {
    if schedule.mode != Mode::EveryTick {
        if in_hand {
            return Verdict::Skip("it is under way");
        }
        let counts = |at: Timestamp| schedule.cooldown.is_none_or(|cooldown| now < at.plus(cooldown.0));
        if success.is_some_and(counts) {
            return Verdict::Skip("it has succeeded");
        }
    }
    match schedule.overlap {
        Overlap::KillPrevious if in_hand => Verdict::Replace,
        Overlap::Skip | Overlap::BufferOne if in_hand => Verdict::Skip("an earlier run of it is not over"),
        _ => Verdict::Fire,
    }
}

fn turn(schedule: &Schedule, pc: &PcId, groups: &[GroupName]) -> Option<Duration> {
    if let Some(rollout) = &schedule.rollout {
        let own = rollout.waves.iter().filter(|wave| groups.contains(&wave.group));
        return own.map(|wave| wave.delay.0).min();
    }
    let target = &schedule.target;
    let is_meant =
        target.all || target.pcs.contains(pc) || target.groups.iter().any(|group| groups.contains(group));
    is_meant.then_some(Duration::ZERO)
}

/// Whole seconds, at least what was asked for.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn schedule(change: &Value) -> Schedule {
        let mut document = json!({
            "id": "nightly", "cron": "0 30 2 * * *", "job_id": "backup", "target": {"all": true}, "runs_on": "agent"
        });
        for (key, value) in change.as_object().unwrap() {
            document[key] = value.clone();
        }
        serde_json::from_value(document).unwrap()
    }

    fn own(change: &Value) -> Option<Own> {
        let groups = ["servers".parse().unwrap(), "canary".parse().unwrap()];
        Own::of(schedule(change), &"pc-1".parse().unwrap(), &groups)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_is_for_those_it_aims_at() {
        let wave = |group: &str, delay: &str| json!({"group": group, "delay": delay});
        let rollout = |waves: Vec<Value>| json!({"rollout": {"strategy": "wave", "waves": waves}});
        for (change, delay) in [
            (json!({}), Some(0)),
            (json!({"target": {"pcs": ["pc-2", "pc-1"]}}), Some(0)),
            (json!({"target": {"groups": ["servers"]}}), Some(0)),
            (json!({"target": {"pcs": ["pc-2"], "groups": ["desks"]}}), None),
            (json!({"enabled": false}), None),
            (json!({"runs_on": "backend"}), None),
            (json!({"cron": "never"}), None),
            (
                rollout(vec![
                    wave("desks", "0s"),
                    wave("servers", "1h"),
                    wave("canary", "10m"),
                ]),
                Some(600),
            ),
            // The target of a rollout is a label.
            (rollout(vec![wave("desks", "0s")]), None),
        ] {
            let found = own(&change).map(|own| own.delay.as_secs());
            assert_eq!(found, delay, "{change}");
        }
    }

    #[test]
    fn a_wave_is_due_its_delay_after_the_slot() {
        let own =
            own(&json!({"rollout": {"strategy": "wave", "waves": [{"group": "servers", "delay": "1h"}]}}))
                .unwrap();
        // Also where the slot is past and its wave is not.
        for now in ["2026-05-01T02:00:00Z", "2026-05-01T03:00:00Z"] {
            assert_eq!(own.next(at(now)), Some(at("2026-05-01T03:30:00Z")));
        }
        assert_eq!(
            own.next(at("2026-05-01T03:30:00Z")),
            Some(at("2026-05-02T03:30:00Z"))
        );
        let slots = own.slots(at("2026-05-01T03:29:59Z"), at("2026-05-01T03:30:00Z"));
        assert_eq!(slots, [at("2026-05-01T02:30:00Z")]);
    }

    #[test]
    fn what_was_slept_through_is_missed() {
        let own = own(&json!({"cron": "0 * * * * *"})).unwrap();
        let slots = own.slots(at("2026-05-01T00:00:00Z"), at("2026-05-01T08:00:10Z"));
        assert_eq!(slots, [at("2026-05-01T08:00:00Z")]);
    }

    #[test]
    fn the_command_of_a_slot_is_the_same_whenever_it_is_made() {
        let own = own(
            &json!({"jitter": "1500ms", "starting_deadline": "1h", "deadline_at": "2026-05-01T03:00:00Z"}),
        )
        .unwrap();
        let job: Manifest = serde_json::from_value(json!({
            "id": "backup", "version": "2", "staleness": {"mode": "unchecked"},
            "execute": {"shell": "bash", "script": "x", "timeout": "1m", "cwd": "/srv"}
        }))
        .unwrap();
        let slot = at("2026-05-01T02:30:00Z");
        let command = own.command(&job, slot, &"pc-1".parse().unwrap(), BTreeMap::new());
        assert_eq!(
            command,
            own.command(&job, slot, &"pc-1".parse().unwrap(), BTreeMap::new())
        );
        let other = own.command(&job, slot, &"pc-2".parse().unwrap(), BTreeMap::new());
        assert_eq!(other.exec_id, command.exec_id, "one execution");
        assert_ne!(other.request_id, command.request_id);
        assert_eq!(
            command.exec_id,
            Some(ExecId::of_slot(&"nightly".parse().unwrap(), slot))
        );
        assert_eq!((command.jitter_secs, command.timeout_secs), (Some(2), 60));
        assert_eq!(
            command.deadline_at,
            Some(at("2026-05-01T03:00:00Z")),
            "the earlier one"
        );
        assert_eq!(
            (command.version.as_str(), command.cwd.as_deref()),
            ("2", Some("/srv"))
        );
        assert_eq!(command.staleness, job.staleness);
    }

    #[test]
    fn a_slot_fires_unless_it_has_nothing_to_do() {
        let now = at("2026-05-02T02:30:00Z");
        let yesterday = Some(at("2026-05-01T02:31:00Z"));
        let (done, busy) = (
            Verdict::Skip("it has succeeded"),
            Verdict::Skip("it is under way"),
        );
        for (change, success, in_hand, verdict) in [
            (json!({}), yesterday, true, Verdict::Fire),
            (json!({"mode": "once_per_pc"}), None, false, Verdict::Fire),
            (json!({"mode": "once_per_pc"}), None, true, busy),
            (json!({"mode": "once_per_pc"}), yesterday, false, done),
            (json!({"mode": "once_per_target"}), yesterday, false, done),
            (
                json!({"mode": "once_per_pc", "cooldown": "1h"}),
                yesterday,
                false,
                Verdict::Fire,
            ),
            (
                json!({"mode": "once_per_pc", "cooldown": "25h"}),
                yesterday,
                false,
                done,
            ),
            (json!({"overlap": "kill_previous"}), None, true, Verdict::Replace),
            (json!({"overlap": "kill_previous"}), None, false, Verdict::Fire),
            (
                json!({"overlap": "skip"}),
                None,
                true,
                Verdict::Skip("an earlier run of it is not over"),
            ),
        ] {
            assert_eq!(
                judge(&schedule(&change), success, in_hand, now),
                verdict,
                "{change}"
            );
        }
    }
}
