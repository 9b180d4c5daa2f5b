//! What happens next: chosen by chance among few executions and agents, so that it often concerns the same ones, and
//! often something that the model says can happen now.

use kanade_model::{SkipReason, SlotState};
use kanade_ports::Standing;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
    strategy::Union,
};

use super::{
    state::Model,
    step::{Aim, End, Name, Oblivion, Secs, Set, Step, Transition},
    told::{Pacing, RunKey, Told, Tries},
};

pub(super) const EXECS: [Name; 3] = ["e-1", "e-2", "e-3"];
pub(super) const PCS: [Name; 3] = ["pc-1", "pc-2", "pc-3"];
pub(super) const JOBS: [Name; 2] = ["backup", "other"];
pub(super) const KEYS: [Name; 3] = ["k-1", "k-2", "k-3"];
pub(super) const MARKS: [Name; 2] = ["m-1", "m-2"];
pub(super) const SCHEDULES: [Name; 2] = ["nightly", "weekly"];
const HANDS: [Name; 3] = ["by-hand-1", "by-hand-2", "by-hand-3"];
const ENTRIES: [Name; 8] = ["n-1", "n-2", "n-3", "n-4", "n-5", "n-6", "n-7", "n-8"];

/// The next step of a store that is as the model says.
pub(super) fn transition(model: &Model) -> BoxedStrategy<Transition> {
    let now = model.now;
    let recent = model.recent.clone();
    let again = if recent.is_empty() {
        set(model)
    } else {
        select(recent).boxed()
    };
    let sets = prop_oneof![5 => set(model), 1 => again];
    let reports = vec(report(model).prop_map(Set::of), 3..=6);
    prop_oneof![
        8 => (now..now + 40, reports).prop_map(|(at, sets)| Transition::Commit(at, sets)),
        52 => (now..now + 40, vec(sets, 1..=3)).prop_map(|(at, sets)| Transition::Commit(at, sets)),
        4 => retention(model),
        1 => Just(Transition::Restart),
    ]
    .boxed()
}

fn set(model: &Model) -> BoxedStrategy<Set> {
    let rest = prop_oneof![3 => Just(Vec::new()), 1 => vec(step(model), 1..=2)];
    let key = prop_oneof![9 => Just(None), 1 => select(&KEYS[..]).prop_map(Some)];
    (step(model), rest, key)
        .prop_map(|(lead, then, key)| Set {
            // A key belongs to a firing.
            key: key.filter(|_| matches!(lead, Step::Fire { .. })),
            lead,
            then,
        })
        .boxed()
}

/// What is old is forgotten, by itself: part of what there is, or everything that may go.
fn retention(model: &Model) -> BoxedStrategy<Transition> {
    let now = model.now;
    let everything = model.prunable(now + 1000);
    let some = subsequence(everything.audit.clone(), 0..=everything.audit.len());
    let letters = subsequence(everything.letters.clone(), 0..=everything.letters.len());
    let part = (some, letters).prop_map(|(audit, letters)| Oblivion {
        audit,
        letters,
        ..Oblivion::default()
    });
    let old = model.prunable(now - 100);
    prop_oneof![Just(everything), Just(old), part]
        .prop_map(move |gone| Transition::Commit(now, vec![Set::of(Step::Forget(gone))]))
        .boxed()
}

fn step(model: &Model) -> BoxedStrategy<Step> {
    let now = model.now;
    let at = move || now - 15..now + 40;
    let exec = || select(&EXECS[..]);
    let pc = || select(&PCS[..]);
    Union::new_weighted(vec![
        (6, fire(now)),
        (
            1,
            (
                exec(),
                at(),
                select(vec![Standing::Open, Standing::Expired, Standing::Over]),
            )
                .prop_map(|(exec, at, standing)| Step::TakeOver { exec, at, standing })
                .boxed(),
        ),
        (6, sent(model)),
        (6, let_out(model)),
        (6, course(model)),
        (
            3,
            (exec(), at())
                .prop_map(|(exec, at)| Step::Kill { exec, at })
                .boxed(),
        ),
        (
            1,
            (exec(), at())
                .prop_map(|(exec, at)| Step::KillHeard { exec, at })
                .boxed(),
        ),
        (
            2,
            (exec(), pc(), at())
                .prop_map(|(exec, pc, at)| Step::Delivered { exec, pc, at })
                .boxed(),
        ),
        (
            2,
            (exec(), at())
                .prop_map(|(exec, at)| Step::Settled { exec, at })
                .boxed(),
        ),
        (18, report(model)),
        (
            3,
            (exec(), pc(), 0..1600_i64)
                .prop_map(move |(exec, pc, later)| Step::ExpireTarget {
                    exec,
                    pc,
                    at: now + later,
                })
                .boxed(),
        ),
        (
            2,
            (exec(), at())
                .prop_map(|(exec, at)| Step::Expire { exec, at })
                .boxed(),
        ),
        (
            2,
            (run(model, 1), 0..200_i64)
                .prop_map(move |(run, later)| Step::Lose { run, at: now + later })
                .boxed(),
        ),
        (6, record(now)),
        (2, forget(model)),
    ])
    .boxed()
}

fn fire(now: Secs) -> BoxedStrategy<Step> {
    let some = || subsequence(PCS.to_vec(), 0..=PCS.len());
    let each = (0..300_i64, some()).prop_map(|(delay, pcs)| Aim::Each(delay, pcs));
    let gate = || select(vec![None, Some("1"), Some("0.5")]);
    let waves = (some(), gate(), gate(), 0..PCS.len()).prop_map(|(pcs, first, second, cut)| {
        // Each agent is in one wave.
        let (one, rest) = pcs.split_at(cut.min(pcs.len()));
        let (two, three) = rest.split_at(rest.len() / 2);
        Aim::Waves(vec![
            (0, first, one.to_vec()),
            (50, second, two.to_vec()),
            (100, None, three.to_vec()),
        ])
    });
    let aim = prop_oneof![2 => each, 1 => some().prop_map(Aim::All), 2 => waves];
    let most = prop_oneof![2 => Just(None), 2 => (1..=2_u32).prop_map(Some)];
    let on = select(vec![&[][..], &[3], &[4]]);
    let until = prop_oneof![3 => Just(None), 1 => (now..now + 200).prop_map(Some)];
    let tries = (on, until).prop_map(|(on, until)| Some(Tries { on, until }));
    let pacing = (most, prop_oneof![1 => Just(None), 1 => tries]);
    (
        select(&EXECS[..]),
        select(&JOBS[..]),
        now - 15..now + 40,
        aim,
        pacing,
    )
        .prop_map(|(exec, job, at, aim, (most, tries))| {
            // What goes to everybody at once goes out at once.
            let most = most.filter(|_| !matches!(aim, Aim::All(_)));
            Step::Fire {
                exec,
                job,
                at,
                aim,
                pacing: Pacing { most, tries },
            }
        })
        .boxed()
}

/// The sends of an execution, and some that it may not have.
fn sends(model: &Model, exec: Name) -> Vec<(Name, Told)> {
    let first = Told::default();
    let all = Told { all: true, later: 0 };
    let mut sends = vec![("all", all), ("nobody", first)];
    sends.extend(PCS.map(|pc| (pc, first)));
    if let Some(execution) = model.executions.get(exec) {
        sends.extend(execution.sends.iter().map(|send| (send.to, send.told)));
    }
    sends.sort_unstable();
    sends.dedup();
    sends
}

fn sent(model: &Model) -> BoxedStrategy<Step> {
    let now = model.now;
    let of = |exec| {
        let sends = sends(model, exec);
        let most = sends.len().min(4);
        (subsequence(sends, 1..=most), now - 15..now + 40)
            .prop_map(move |(sends, at)| Step::Sent { exec, sends, at })
            .boxed()
    };
    Union::new(EXECS.map(of)).boxed()
}

/// Lets out what is parked, or any other sends.
fn let_out(model: &Model) -> BoxedStrategy<Step> {
    let now = model.now;
    let of = |exec| {
        let execution = model.executions.get(exec);
        let parked = execution.map(|of| of.parked().map(|send| (send.to, send.told)).collect());
        let parked: Vec<(Name, Told)> = parked.unwrap_or_default();
        let any = sends(model, exec);
        let some = |of: Vec<(Name, Told)>| {
            let most = of.len().min(3);
            subsequence(of, most.min(1)..=most).prop_shuffle()
        };
        (prop_oneof![4 => some(parked), 1 => some(any)], now - 15..now + 40)
            .prop_map(move |(sends, at)| Step::LetOut { exec, sends, at })
            .boxed()
    };
    Union::new(EXECS.map(of)).boxed()
}

/// Pauses, resumes, aborts, and verdicts: mostly those that are due.
fn course(model: &Model) -> BoxedStrategy<Step> {
    let now = model.now;
    let exec = || select(&EXECS[..]);
    let at = || now - 15..now + 40;
    let later = now + 70;
    let due: Vec<Step> = EXECS
        .into_iter()
        .filter_map(|exec| {
            let (wave, passed, succeeded, of) = model.executions.get(exec)?.judge(later)?;
            Some(Step::Judged {
                exec,
                wave,
                passed,
                at: later,
                succeeded,
                of,
            })
        })
        .collect();
    let wrong = (exec(), 0..3_u32, any::<bool>(), at(), 0..3_u32, 0..4_u32).prop_map(
        |(exec, wave, passed, at, succeeded, of)| Step::Judged {
            exec,
            wave,
            passed,
            at,
            succeeded,
            of,
        },
    );
    let verdict = if due.is_empty() {
        wrong.boxed()
    } else {
        prop_oneof![4 => select(due), 1 => wrong].boxed()
    };
    prop_oneof![
        2 => (exec(), at()).prop_map(|(exec, at)| Step::Pause { exec, at }),
        2 => (exec(), at()).prop_map(|(exec, at)| Step::Resume { exec, at }),
        1 => (exec(), at()).prop_map(|(exec, at)| Step::Abort { exec, at }),
        3 => verdict,
    ]
    .boxed()
}

/// What agents can have been told, mostly what they were told last.
fn told(model: &Model) -> BoxedStrategy<(Name, Name, Told)> {
    let told = |all, later| Told { all, later };
    let mut choices = Vec::new();
    for exec in EXECS {
        for pc in PCS {
            let target = model.executions.get(exec).and_then(|of| of.targets.get(pc));
            let newest = target.map_or_else(Told::default, |target| target.asked);
            let rare = [told(true, 0), told(false, 1), told(false, 2)];
            let usual = [newest, newest, newest, Told::default()];
            choices.extend(usual.into_iter().chain(rare).map(|told| (exec, pc, told)));
        }
    }
    select(choices).boxed()
}

fn run(model: &Model, lowest: u8) -> BoxedStrategy<RunKey> {
    let number = prop_oneof![4 => Just(1_u8), 1 => lowest..=2];
    (told(model), number)
        .prop_map(|((exec, pc, told), number)| RunKey {
            exec,
            pc,
            told,
            number,
        })
        .boxed()
}

/// What an agent says of what it was told to do.
fn report(model: &Model) -> BoxedStrategy<Step> {
    let now = model.now;
    let at = move || now - 30..now + 20;
    // Now and then somebody speaks of another agent's run.
    let by = |run: RunKey| {
        let other = if run.number == 0 {
            Just(run.pc).boxed()
        } else {
            select(&PCS[..]).boxed()
        };
        prop_oneof![15 => Just(run.pc), 1 => other]
    };
    let end = select(vec![
        End::Code(0),
        End::Code(0),
        End::Code(3),
        End::Killed,
        End::TimedOut,
        End::OldKilled,
    ]);
    let started = run(model, 1)
        .prop_flat_map(move |run| (Just(run), by(run), at(), 0..40_i64))
        .prop_map(|(run, by, at, way)| Step::Started {
            run,
            by,
            at,
            heard_at: at + way,
        });
    let finished = (run(model, 0), at(), 0..30_i64, end, any::<bool>()).prop_flat_map(
        move |(run, at, took, end, named)| {
            by(run).prop_map(move |by| Step::Finished {
                run,
                by,
                at,
                took,
                end,
                named,
            })
        },
    );
    let reason = select(vec![
        SkipReason::Revoked,
        SkipReason::Deadline,
        SkipReason::Superseded,
        SkipReason::Unsupported,
    ]);
    let skipped = (told(model), reason, at()).prop_map(|((exec, pc, told), reason, at)| Step::Skipped {
        exec,
        pc,
        told,
        reason,
        at,
    });
    let by_hand = (select(&HANDS[..]), select(&PCS[..]), at()).prop_map(|(exec, pc, at)| Step::AdHoc {
        run: RunKey {
            exec,
            pc,
            told: Told::default(),
            number: 1,
        },
        at,
    });
    prop_oneof![8 => started, 8 => finished, 2 => skipped, 1 => by_hand].boxed()
}

fn record(now: Secs) -> BoxedStrategy<Step> {
    let at = || now - 15..now + 40;
    let pc = || select(&PCS[..]);
    let state = select(vec![
        SlotState::Fired,
        SlotState::Skipped,
        SlotState::Waiting,
        SlotState::Missed,
    ]);
    let slot = (select(&SCHEDULES[..]), 0..3_i64, state, any::<bool>(), at()).prop_map(
        move |(schedule, number, state, backfilled, at)| Step::Slot {
            schedule,
            slot: (now / 200 - number) * 200,
            state,
            backfilled,
            at,
        },
    );
    prop_oneof![
        2 => (pc(), any::<bool>(), at()).prop_map(|(pc, named, at)| Step::Seen { pc, named, at }),
        2 => (pc(), select(&JOBS[..]), (now / 40)..(now / 40 + 2))
            .prop_map(|(pc, job, at)| Step::Facts { pc, job, at: at * 40 }),
        2 => (select(&ENTRIES[..]), at()).prop_map(|(name, at)| Step::Audit { name, at }),
        1 => (select(&ENTRIES[..]), at()).prop_map(|(name, at)| Step::Letter { name, at }),
        3 => slot,
        1 => (select(&SCHEDULES[..]), at())
            .prop_map(|(schedule, through)| Step::Looked { schedule, through }),
        1 => (select(&MARKS[..]), at()).prop_map(|(name, at)| Step::Mark { name, at }),
    ]
    .boxed()
}

/// Anything may be forgotten at any time, among whatever else happens.
fn forget(model: &Model) -> BoxedStrategy<Step> {
    let slots: Vec<_> = model.slots.keys().copied().collect();
    let runs: Vec<_> = model.runs.keys().copied().collect();
    let some_of = |count: usize| 0..=count.min(2);
    (
        subsequence(EXECS.to_vec(), 0..=1),
        subsequence(runs.clone(), some_of(runs.len())),
        subsequence(KEYS.to_vec(), 0..=1),
        subsequence(slots.clone(), some_of(slots.len())),
    )
        .prop_map(|(executions, runs, keys, slots)| {
            Step::Forget(Oblivion {
                executions,
                runs,
                keys,
                slots,
                ..Oblivion::default()
            })
        })
        .boxed()
}
