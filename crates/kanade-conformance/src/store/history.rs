//! Random histories: whatever happens, in whatever order, the answers of a store agree with each other. The seed of a
//! history is printed; `KANADE_CONFORMANCE_SEED` runs that one alone.

use std::time::Duration;

use kanade_model::{Ended, EventStarted, ExecResult, ResultId, SkipReason, Timestamp};
use kanade_ports::{Change, ChangeSet, RetentionCut, SendState, Standing, Verdict};
use serde_json::json;
use uuid::Uuid;

use super::world::{
    Firing, World, ad_hoc, audit, expire, expire_target, facts, found, heard_of, heartbeat, id,
    kill_delivered, letter, recorded, request, result, secs, skipped, start_event,
};
use crate::{StoreFactory, harness::Rng};

const EXECUTIONS: [&str; 5] = ["e-1", "e-2", "e-3", "e-4", "e-5"];
const PCS: [&str; 4] = ["pc-1", "pc-2", "pc-3", "pc-4"];
const SETS: usize = 160;

fn seeds() -> Vec<u64> {
    let wanted = std::env::var("KANADE_CONFORMANCE_SEED").ok();
    wanted.map_or_else(
        || (1..=6).collect(),
        |seed| vec![seed.parse().expect("KANADE_CONFORMANCE_SEED is a number")],
    )
}

/// What happens next, by chance, among a few executions and agents, so that it often concerns the same ones.
struct Chance {
    random: Rng,
    now: Timestamp,
    made: usize,
}

impl Chance {
    fn new(seed: u64) -> Self {
        println!("the seed of this history: {seed}");
        Self {
            random: Rng::new(seed),
            now: secs(0),
            made: 0,
        }
    }

    fn set(&mut self) -> ChangeSet {
        let mut set = ChangeSet::of(self.change());
        while self.random.below(4) == 0 {
            set = set.and(self.change());
        }
        set
    }

    fn change(&mut self) -> Change {
        let step = Duration::from_secs(self.random.below(60) as u64);
        // Now and then a clock is put back.
        self.now = if self.random.below(9) == 0 {
            self.now.minus(step)
        } else {
            self.now.plus(step)
        };
        let (now, exec, pc) = (self.now, self.random.pick(&EXECUTIONS), self.random.pick(&PCS));
        match self.random.below(21) {
            0 | 1 => self.firing(exec),
            2 => Change::Sent {
                exec_id: id(exec),
                sends: PCS.map(|pc| super::world::send(exec, pc))[self.random.below(4)..].to_vec(),
                at: now,
            },
            3 => Change::Kill {
                exec_id: id(exec),
                by: "alice".into(),
                at: now,
            },
            4 => Change::KillSettled {
                exec_id: id(exec),
                at: now,
            },
            5 => expire(exec, now),
            6 => expire_target(exec, pc, now.plus(Duration::from_secs(500))),
            7 => Change::LoseRun {
                result_id: self.run(exec, pc),
                exec_id: id(exec),
                pc_id: id(pc),
                at: now.plus(Duration::from_secs(50)),
            },
            8 => Change::DeadLetter(letter("{", now)),
            9 => kill_delivered(exec, pc),
            10 => super::takeover::taken_over(
                exec,
                self.random
                    .pick(&[Standing::Open, Standing::Expired, Standing::Over]),
            ),
            11 => self.steering(exec),
            12 => self.verdict(exec),
            13 => Change::KillHeard {
                exec_id: id(exec),
                by: "bob".into(),
                at: now,
            },
            14 => Change::LetOut {
                exec_id: id(exec),
                sends: PCS
                    .map(|pc| (super::pace::attempt(exec, pc, self.random.below(3)).0, id(pc)))
                    .to_vec(),
                at: now,
            },
            _ => self.message(),
        }
    }

    fn steering(&mut self, exec: &str) -> Change {
        let (exec_id, by, at) = (id(exec), "ann".into(), self.now);
        match self.random.below(5) {
            0 | 1 => Change::Pause { exec_id, by, at },
            2 | 3 => Change::Resume { exec_id, at },
            _ => Change::Abort { exec_id, by, at },
        }
    }

    /// What a gate of one of the waves may have come to.
    fn verdict(&mut self, exec: &str) -> Change {
        let wave = u32::from(self.random.below(3) == 0);
        let (of, at) = (1, self.now.plus(Duration::from_secs(100)));
        let verdict = Verdict {
            passed: self.random.below(2) == 0,
            at,
            succeeded: u32::from(self.random.below(2) == 0),
            of,
        };
        Change::Judged {
            exec_id: id(exec),
            wave,
            verdict,
        }
    }

    /// What an agent says.
    fn message(&mut self) -> Change {
        let (now, exec, pc) = (self.now, self.random.pick(&EXECUTIONS), self.random.pick(&PCS));
        // Sometimes of an execution that never was.
        let exec = if self.random.below(12) == 0 {
            "foreign"
        } else {
            exec
        };
        match self.random.below(12) {
            0..=3 => heard_of(EventStarted {
                result_id: self.run(exec, pc),
                started_at: now,
                ..start_event(exec, pc)
            }),
            4..=7 => {
                let exit_code = self.random.pick(&[0, 0, 1, -1]);
                recorded(ExecResult {
                    result_id: Some(self.run(exec, pc)),
                    started_at: now,
                    finished_at: now.plus(Duration::from_secs(5)),
                    ended: self.random.pick(&[
                        None,
                        Some(Ended::Killed),
                        Some(Ended::TimedOut),
                        Some(Ended::Exited),
                    ]),
                    ..result(exec, pc, exit_code)
                })
            }
            8 => skipped(
                exec,
                pc,
                self.random.pick(&[SkipReason::Revoked, SkipReason::Superseded]),
            ),
            9 => heartbeat(pc, now),
            10 => found(facts(pc, "backup", now, json!({"at": now}))),
            _ => {
                self.made += 1;
                let name = format!("m-{}", self.made / 2);
                if self.random.below(2) == 0 {
                    audit(&name)
                } else {
                    recorded(ad_hoc(&name, pc))
                }
            }
        }
    }

    fn firing(&mut self, exec: &str) -> Change {
        let later = self.now.plus(Duration::from_secs(self.random.below(300) as u64));
        let reached = &PCS[self.random.below(4)..];
        let firing = Firing::of(exec)
            .at(self.now)
            .job(self.random.pick(&["backup", "other"]));
        let firing = if self.random.below(3) == 0 {
            let gate = self.random.pick(&[None, Some("1"), Some("0.5")]);
            let waves = [(0, gate, &reached[..1]), (100, None, &reached[1..])];
            super::waves::staged(exec, &waves).at(self.now)
        } else if self.random.below(3) == 0 {
            firing.everybody(reached)
        } else {
            firing
                .pcs(&reached[..1])
                .next_wave()
                .due(later)
                .pcs(&reached[1..])
        };
        let firing = super::pace::at_some_pace(firing, self.random.pick(&[None, None, Some(1), Some(2)]));
        firing.change()
    }

    /// One of two runs that an agent may make of an execution.
    fn run(&mut self, exec: &str, pc: &str) -> ResultId {
        let second = self.random.below(4) == 0;
        ResultId(Uuid::new_v5(&request(exec, pc).0, &[u8::from(second)]))
    }

    fn batch(&mut self) -> Vec<ChangeSet> {
        (0..=self.random.below(6)).map(|_| self.set()).collect()
    }
}

pub async fn answers_agree_after_any_history<F: StoreFactory>() {
    for seed in seeds() {
        let world = World::<F>::new().await;
        let mut chance = Chance::new(seed);
        let mut sets = 0;
        while sets < SETS {
            let batch = chance.batch();
            sets += batch.len();
            world.apply(batch).await;
            match chance.random.below(25) {
                0 => drop(world.snapshot().await),
                1 => {
                    let cut = RetentionCut {
                        executions: chance.now,
                        audit: chance.now,
                        keys: chance.now,
                        slots: chance.now,
                    };
                    let old = world.store.prunable(&cut, 5).await.unwrap();
                    world.change(Change::Forget(old)).await;
                }
                _ => {}
            }
        }
        world.snapshot().await;
    }
}

pub async fn one_commit_or_many_come_to_the_same<F: StoreFactory>() {
    for seed in seeds() {
        let mut chance = Chance::new(seed);
        let sets: Vec<_> = (0..SETS).map(|_| chance.set()).collect();
        let (one_by_one, in_batches) = (World::<F>::new().await, World::<F>::new().await);
        let mut outcomes = Vec::new();
        for set in &sets {
            outcomes.extend(one_by_one.apply([set.clone()]).await);
        }
        let mut in_batches_outcomes = Vec::new();
        for batch in sets.chunks(23) {
            in_batches_outcomes.extend(in_batches.apply(batch.to_vec()).await);
        }
        assert_eq!(in_batches_outcomes, outcomes, "what each set did (seed {seed})");
        let (left, right) = (one_by_one.snapshot().await, in_batches.snapshot().await);
        assert_eq!(left, right, "what is there in the end (seed {seed})");
    }
}

pub async fn hearing_messages_again_changes_nothing<F: StoreFactory>() {
    for seed in seeds() {
        let world = World::<F>::new().await;
        let mut chance = Chance::new(seed);
        for _ in 0..5 {
            let before: Vec<_> = (0..8).map(|_| chance.set()).collect();
            world.apply(before).await;
            let messages: Vec<_> = (0..8).map(|_| ChangeSet::of(chance.message())).collect();
            world.apply(messages.clone()).await;
            let once = world.snapshot().await;
            world.apply(messages.clone()).await;
            let twice = world.snapshot().await;
            assert_eq!(twice, once, "after hearing {messages:#?} again (seed {seed})");
        }
    }
}

pub async fn a_killed_execution_owes_nothing_whatever_happens<F: StoreFactory>() {
    for seed in seeds() {
        let world = World::<F>::new().await;
        let mut chance = Chance::new(seed);
        for exec in EXECUTIONS {
            world.all([chance.firing(exec)]).await;
        }
        for _ in 0..SETS / 2 {
            world.apply([chance.set()]).await;
            for execution in world.store.open_kills(99).await.unwrap() {
                let sends = world.store.sends(&execution.exec_id).await.unwrap();
                let owed = sends.iter().find(|send| send.state == SendState::Due);
                assert_eq!(owed, None, "{} is killed (seed {seed})", execution.exec_id);
            }
        }
        let owed = world.store.due_sends(None, 99).await.unwrap();
        for send in owed {
            let execution = world.execution(send.exec_id.as_str()).await;
            assert_eq!(
                execution.kill, None,
                "{send:?} is owed, so nobody has killed it (seed {seed})"
            );
        }
    }
}
