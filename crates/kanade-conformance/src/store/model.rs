//! The store against a simple model of it: sequences of whatever can happen, made up by chance, and after each step the
//! store must answer as the model does. A sequence that fails is cut down to the steps that matter, and printed.
//!
//! `KANADE_TEST_STEPS` says how many steps are taken; `KANADE_CONFORMANCE_SEED` chooses other ones.

mod answers;
mod chance;
mod change;
mod execution;
mod kill;
mod rare;
mod state;
mod steering;
mod step;
mod told;

use std::{collections::BTreeSet, env, fmt::Write, sync::atomic::Ordering};

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner},
};
use proptest_state_machine::ReferenceStateMachine;

use self::{
    answers::{Checked, same},
    state::Model,
    step::{Name, Oblivion, Step, Transition},
};
use super::world::World;
use crate::StoreFactory;

/// Steps of one sequence, which has a store of its own.
const SEQUENCE: usize = 200;
/// Steps in all, where nobody asks for more.
pub(crate) const STEPS: u32 = 10_000;
/// How long a sequence that fails is made shorter.
const SHRINK: u32 = 30_000;

pub async fn every_answer_is_that_of_a_simple_model<F: StoreFactory>() {
    // What makes up the sequences does not wait; the store does, on a runtime of this thread's.
    let all = tokio::task::spawn_blocking(run_sequences::<F>);
    if let Err(panic) = all.await {
        std::panic::resume_unwind(panic.into_panic());
    }
}

/// How many steps are wanted.
pub(crate) fn steps() -> u32 {
    number("KANADE_TEST_STEPS").unwrap_or(STEPS)
}

fn number(name: &str) -> Option<u32> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn run_sequences<F: StoreFactory>() {
    let seed = number("KANADE_CONFORMANCE_SEED").unwrap_or(1);
    let cases = steps().div_ceil(u32::try_from(SEQUENCE).expect("a few"));
    println!("{cases} sequences of {SEQUENCE} steps; the seed is {seed}");
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed.into()),
        failure_persistence: None,
        max_shrink_time: SHRINK,
        ..Config::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a test process can start a runtime");
    let sequences = Machine::sequential_strategy(SEQUENCE..=SEQUENCE);
    let outcome = runner.run(&sequences, |(begin, transitions, seen)| {
        let taken = || {
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        };
        runtime.block_on(take::<F>(begin, &transitions, taken))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, (_, transitions, _))) => {
            let mut steps = String::new();
            for transition in transitions {
                writeln!(steps, "  {transition:?}").expect("text takes text");
            }
            panic!("{reason}\nafter these steps (the seed is {seed}):\n{steps}");
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// Takes the steps of one sequence on a fresh store.
async fn take<F: StoreFactory>(
    mut model: Model,
    transitions: &[Transition],
    taken: impl Fn(),
) -> Result<(), TestCaseError> {
    let mut world = World::<F>::quick().await;
    for (turn, transition) in transitions.iter().enumerate() {
        taken();
        model = Machine::apply(model, transition);
        let mut concerned = BTreeSet::new();
        match transition {
            Transition::Commit(_, sets) => {
                concerned.extend(sets.iter().flat_map(step::Set::executions));
                commit(&world, &model, sets).await?;
            }
            Transition::Restart if world.survives() => {
                world = world.reopened().await.0;
                everything(&world, &model).await?;
            }
            Transition::Restart => {}
        }
        let concerned: Vec<Name> = concerned.into_iter().collect();
        let store = &*world.store;
        answers::executions(store, &model, &concerned).await?;
        answers::runs(store, &model).await?;
        answers::work(store, &model, turn).await?;
        rare::successes(store, &model, "backup").await?;
        rare::ask(store, &model, turn).await?;
    }
    everything(&world, &model).await
}

async fn commit<F: StoreFactory>(world: &World<F>, model: &Model, sets: &[step::Set]) -> Checked {
    let wants_numbers = |step: &Step| {
        let Step::Forget(Oblivion { audit, letters, .. }) = step else {
            return false;
        };
        !audit.is_empty() || !letters.is_empty()
    };
    let numbers = if sets.iter().any(|set| wants_numbers(&set.lead)) {
        rare::Given::read(&*world.store).await
    } else {
        rare::Given::default()
    };
    let change_sets = sets.iter().map(|set| set.change_set(&numbers));
    let outcomes = world.apply(change_sets).await;
    same("what each set did", &outcomes, &model.outcomes)
}

/// Every question, each in every form.
async fn everything<F: StoreFactory>(world: &World<F>, model: &Model) -> Checked {
    let store = &*world.store;
    answers::executions(store, model, &chance::EXECS).await?;
    answers::runs(store, model).await?;
    for turn in 0..3 * chance::PCS.len() {
        answers::work(store, model, turn).await?;
    }
    for turn in 0..3 * rare::TURNS {
        rare::ask(store, model, turn).await?;
    }
    Ok(())
}

struct Machine;

impl ReferenceStateMachine for Machine {
    type State = Model;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Model> {
        // Later than what is subtracted anywhere.
        let model = Model {
            now: 1000,
            ..Model::default()
        };
        Just(model).boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Transition> {
        chance::transition(model)
    }

    fn apply(model: Model, transition: &Transition) -> Model {
        model.after(transition)
    }
}
