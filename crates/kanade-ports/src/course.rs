//! The course of an execution: its waves, the gates between them, and whether somebody has paused or aborted it. The
//! decisions here are functions of values and a moment; what they lead to is in the transitions.

use kanade_model::{Gate, GroupName, Retry, Rollout, TargetState, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Counts, Execution};

/// How an execution goes on. Nothing is set in one that is fired at once and left alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// While it is paused: nothing of it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// The abort, if there was one: nothing more of it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
    /// Its waves, in order; none for one without a rollout.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<WaveRecord>,
    /// At most so many of its agents at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// How a run that fails is tried again on its agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retrying>,
    /// How many of its sends are [parked](crate::SendState::Parked).
    #[serde(skip_serializing_if = "is_zero")]
    pub parked: u32,
}

/// How many agents of an execution are at it at once, and how often each tries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pace {
    /// At most so many agents at once; then its sends are fired [parked](crate::SendState::Parked).
    pub max_parallel: Option<u32>,
    /// How a run that fails is tried again on its agent.
    pub retry: Option<Retrying>,
}

/// How runs of an execution that fail are tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrying {
    /// Which runs, how often and when.
    #[serde(flatten)]
    pub rule: Retry,
    /// Agents start nothing after this, so nothing is tried again that would be due then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A pause of an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who paused it; `gate` when a gate did.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, where that is known.
    pub reason: Option<String>,
}

/// The end of an execution's sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// Who aborted it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// One wave of an execution. Agents that joined by reporting belong to none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveRecord {
    /// Whose members it is for.
    pub group: GroupName,
    /// When it is (or was) due: its delay after the fire, later when it was held beyond that.
    pub due_at: Timestamp,
    /// How many of its targets are in which state.
    pub counts: Counts,
    /// How many of its sends have not gone out and may still.
    pub owed: u32,
    /// How many of these are parked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parked: u32,
    /// When every one of its sends had gone out for the first time.
    pub sent_at: Option<Timestamp>,
    /// What it must come to before later waves go out.
    pub gate: Option<GateRecord>,
}

/// A gate, and what came of it. Once it has a verdict, later results do not change that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRecord {
    /// What is wanted.
    #[serde(flatten)]
    pub wanted: Gate,
    /// What was found.
    pub verdict: Option<Verdict>,
    /// When the execution was resumed although it had failed.
    pub waived_at: Option<Timestamp>,
}

/// What a gate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether later waves go out.
    pub passed: bool,
    /// When it was decided.
    pub at: Timestamp,
    /// So many targets had succeeded
    pub succeeded: u32,
    /// of so many.
    pub of: u32,
}

/// What holds sends of an execution back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// A gate without a verdict.
    Gate,
    /// A pause.
    Pause,
    /// Others that have not finished, or the time before a next attempt.
    Room,
}

impl Execution {
    /// What holds sends of it back, if anything does.
    pub fn hold(&self) -> Option<Hold> {
        if self.is_final() || self.kill.is_some() || self.course.abort.is_some() {
            None
        } else if self.course.pause.is_some() {
            Some(Hold::Pause)
        } else if self.course.open_gate().is_some() {
            Some(Hold::Gate)
        } else {
            (self.course.parked > 0).then_some(Hold::Room)
        }
    }

    /// Whether it goes on only when somebody decides a gate or lets out what is parked.
    pub fn is_to_be_steered(&self) -> bool {
        matches!(self.hold(), Some(Hold::Gate | Hold::Room))
    }

    /// How many of its parked sends may be let out now.
    pub fn room(&self) -> u32 {
        let parked = self.course.parked_and_free();
        self.course.max_parallel.map_or(parked, |most| {
            // The others are out: sent, or about to be, and not at their end.
            let open = self.counts.total() - self.counts.finished();
            most.saturating_sub(open.saturating_sub(self.course.parked))
                .min(parked)
        })
    }
}

impl Course {
    /// The course of what is fired at `fired_at`, before its targets are counted.
    pub fn of(rollout: Option<&Rollout>, pace: &Pace, fired_at: Timestamp) -> Self {
        let waves = rollout.map_or(&[][..], |rollout| &rollout.waves);
        let wave = |wave: &kanade_model::Wave| WaveRecord {
            group: wave.group.clone(),
            due_at: fired_at.plus(wave.delay.0),
            counts: Counts::default(),
            owed: 0,
            parked: 0,
            sent_at: None,
            gate: wave.proceed_if.map(|wanted| GateRecord {
                wanted,
                verdict: None,
                waived_at: None,
            }),
        };
        Self {
            waves: waves.iter().map(wave).collect(),
            max_parallel: pace.max_parallel,
            retry: pace.retry.clone(),
            ..Self::default()
        }
    }

    /// Whether nothing is set.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The number of the wave whose gate is to be decided next. None while one has failed and nobody has said to go on.
    pub fn open_gate(&self) -> Option<usize> {
        let closed = self.closed_gate()?;
        let gate = self.waves[closed].gate.as_ref()?;
        gate.verdict.is_none().then_some(closed)
    }

    /// Whether what is due of a wave may be sent.
    pub fn lets_out(&self, wave: u32) -> bool {
        self.pause.is_none() && self.abort.is_none() && self.is_behind_no_gate(wave)
    }

    /// How many parked sends neither a pause, an abort nor a gate holds.
    fn parked_and_free(&self) -> u32 {
        if self.waves.is_empty() {
            return if self.lets_out(0) { self.parked } else { 0 };
        }
        let free = |(number, _): &(u32, &WaveRecord)| self.lets_out(*number);
        (0..)
            .zip(&self.waves)
            .filter(free)
            .map(|(_, wave)| wave.parked)
            .sum()
    }

    /// Counts one more parked send of a wave.
    pub(crate) fn park(&mut self, wave: u32) {
        self.parked += 1;
        if let Some(wave) = self.wave_mut(wave) {
            wave.parked += 1;
        }
    }

    /// Counts one parked send of a wave less.
    pub(crate) fn unpark(&mut self, wave: u32) {
        self.parked = self.parked.saturating_sub(1);
        if let Some(wave) = self.wave_mut(wave) {
            wave.parked = wave.parked.saturating_sub(1);
        }
    }

    /// Whether every gate before a wave lets it out.
    pub(crate) fn is_behind_no_gate(&self, wave: u32) -> bool {
        self.closed_gate().is_none_or(|closed| wave as usize <= closed)
    }

    /// The first gate that lets nothing out.
    fn closed_gate(&self) -> Option<usize> {
        let is_closed = |wave: &WaveRecord| wave.gate.as_ref().is_some_and(|gate| !gate.is_open());
        self.waves.iter().position(is_closed)
    }

    /// What the gate that is to be decided next has come to, with the number of its wave; none while nobody can tell.
    pub fn judge(&self, now: Timestamp) -> Option<(u32, Verdict)> {
        let number = self.open_gate()?;
        let wave = &self.waves[number];
        let gate = wave.gate.as_ref()?;
        let verdict = judge(&gate.wanted, &wave.counts, wave.out_since(now)?, now)?;
        Some((u32::try_from(number).ok()?, verdict))
    }

    pub(crate) fn wave_mut(&mut self, wave: u32) -> Option<&mut WaveRecord> {
        self.waves.get_mut(wave as usize)
    }
}

impl GateRecord {
    fn is_open(&self) -> bool {
        self.waived_at.is_some() || self.verdict.is_some_and(|verdict| verdict.passed)
    }
}

impl WaveRecord {
    /// Since when all of it has been out. A wave that has nobody to send to is out when it is due.
    fn out_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.sent_at
            .or((self.owed == 0 && self.due_at <= now).then_some(self.due_at))
    }
}

/// What a gate comes to at `now` whose wave is in the states of `counts` and has been out since `sent_at`. Passed as
/// soon as enough have succeeded; failed when its time is over, or as soon as what is left would not be enough.
pub fn judge(wanted: &Gate, counts: &Counts, sent_at: Timestamp, now: Timestamp) -> Option<Verdict> {
    let (succeeded, of) = (counts.success(), counts.total());
    // An end that is only presumed may still turn out to have been a success.
    let may_succeed = |state: &&TargetState| !state.is_final() || state.is_presumed();
    let possible: u32 = TargetState::ALL
        .iter()
        .filter(may_succeed)
        .map(|state| counts.of(*state))
        .sum();
    let passed = wanted.success_ratio.is_reached(succeeded, of);
    let can_pass = wanted.success_ratio.is_reached(succeeded + possible, of);
    let is_over = now >= sent_at.plus(wanted.within.0);
    (passed || !can_pass || is_over).then_some(Verdict {
        passed,
        at: now,
        succeeded,
        of,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(secs: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH.plus(Duration::from_secs(secs))
    }

    fn gate(ratio: &str) -> Gate {
        Gate {
            success_ratio: ratio.parse().unwrap(),
            within: "10m".parse().unwrap(),
        }
    }

    fn counts(of: &[(TargetState, u32)]) -> Counts {
        let mut counts = Counts::default();
        for (state, count) in of {
            (0..*count).for_each(|_| counts.add(*state));
        }
        counts
    }

    #[test]
    fn a_gate_is_decided_when_nothing_can_change_it_or_its_time_is_over() {
        use TargetState::{
            Expired, Failed, Killed, Lost, Refused, Running, Succeeded, Superseded, TimedOut, Waiting,
        };
        let (pass, fail, wait) = (Some(true), Some(false), None);
        for (ratio, states, after, wanted) in [
            // Nothing heard yet.
            ("0.5", vec![(Waiting, 4)], 0, wait),
            ("0.5", vec![(Waiting, 4)], 599, wait),
            ("0.5", vec![(Waiting, 4)], 600, fail),
            // Enough have succeeded, whatever becomes of the others.
            ("0.5", vec![(Succeeded, 2), (Running, 2)], 1, pass),
            ("0.5", vec![(Succeeded, 2), (Failed, 2)], 1, pass),
            ("0.5", vec![(Succeeded, 1), (Running, 3)], 1, wait),
            ("0.5", vec![(Succeeded, 1), (Running, 3)], 600, fail),
            // What is left cannot be enough.
            ("0.5", vec![(Failed, 3), (Running, 1)], 1, fail),
            ("0.5", vec![(Failed, 2), (Running, 2)], 1, wait),
            ("1", vec![(Succeeded, 3), (Refused, 1)], 1, fail),
            ("1", vec![(Succeeded, 3), (Superseded, 1)], 1, fail),
            ("1", vec![(Succeeded, 3), (TimedOut, 1)], 1, fail),
            ("1", vec![(Succeeded, 3), (Killed, 1)], 1, fail),
            // A late result may replace what is only presumed.
            ("1", vec![(Succeeded, 3), (Lost, 1)], 1, wait),
            ("1", vec![(Succeeded, 3), (Expired, 1)], 1, wait),
            ("1", vec![(Succeeded, 3), (Lost, 1)], 600, fail),
            // The edges of the ratio, and nobody at all.
            ("0", vec![(Failed, 4)], 0, pass),
            ("0.75", vec![(Succeeded, 3), (Failed, 1)], 1, pass),
            ("0.76", vec![(Succeeded, 3), (Failed, 1)], 1, fail),
            ("1", vec![], 0, pass),
        ] {
            let sent_at = at(1000);
            let found = judge(&gate(ratio), &counts(&states), sent_at, at(1000 + after));
            assert_eq!(
                found.map(|verdict| verdict.passed),
                wanted,
                "{ratio} of {states:?} after {after}s"
            );
        }
    }

    /// A course of waves, each with the verdict of its gate: `-` no gate, `?` none yet, `+` passed, `x` failed, `w`
    /// failed and waived.
    fn course(waves: &str) -> Course {
        let wave = |sign| WaveRecord {
            group: "g".parse().unwrap(),
            due_at: at(0),
            counts: Counts::default(),
            owed: 0,
            parked: 0,
            sent_at: None,
            gate: (sign != '-').then(|| GateRecord {
                wanted: gate("1"),
                verdict: (sign != '?').then_some(Verdict {
                    passed: sign == '+',
                    at: at(1),
                    succeeded: 0,
                    of: 0,
                }),
                waived_at: (sign == 'w').then_some(at(2)),
            }),
        };
        Course {
            waves: waves.chars().map(wave).collect(),
            ..Course::default()
        }
    }

    #[test]
    fn a_gate_holds_every_later_wave_until_it_has_passed_or_is_waived() {
        for (waves, out, open) in [
            ("---", [true, true, true], None),
            ("?--", [true, false, false], Some(0)),
            ("+--", [true, true, true], None),
            ("x--", [true, false, false], None),
            ("w--", [true, true, true], None),
            ("-?-", [true, true, false], Some(1)),
            ("??-", [true, false, false], Some(0)),
            ("+?-", [true, true, false], Some(1)),
            ("wx-", [true, true, false], None),
        ] {
            let mut course = course(waves);
            let lets_out = |course: &Course| [0, 1, 2].map(|wave| course.lets_out(wave));
            assert_eq!(lets_out(&course), out, "{waves}");
            assert_eq!(course.open_gate(), open, "{waves}");
            course.abort = Some(Abort {
                by: "ann".into(),
                at: at(0),
            });
            assert_eq!(lets_out(&course), [false; 3], "{waves} aborted");
        }
    }

    #[test]
    fn a_wave_is_judged_from_when_all_of_it_is_out() {
        let mut course = course("?-");
        course.waves[0].counts = counts(&[(TargetState::Succeeded, 1)]);
        course.waves[0].owed = 1;
        assert_eq!(course.judge(at(9999)), None, "a send is still owed");
        course.waves[0].owed = 0;
        course.waves[0].sent_at = Some(at(100));
        assert_eq!(
            course
                .judge(at(100))
                .map(|(wave, verdict)| (wave, verdict.passed)),
            Some((0, true))
        );
        // Nobody could be sent to: it is out when it is due.
        course.waves[0].sent_at = None;
        course.waves[0].due_at = at(200);
        course.waves[0].counts = counts(&[(TargetState::Refused, 1)]);
        assert_eq!(course.judge(at(199)), None);
        assert_eq!(
            course.judge(at(200)).map(|(_, verdict)| verdict.passed),
            Some(false)
        );
    }
}
