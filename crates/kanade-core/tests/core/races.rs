//! Kill races: a server and simulated agents of both kinds on a network that delays, loses, repeats, reorders and cuts,
//! with kills at any moment. After it has healed, every killed run has ended, and every receipt is final and right: the
//! diary of the agents is what it is held against.
//!
//! Each seed is one world in a time of its own. `KANADE_TEST_SEEDS` says how many are tried, `KANADE_TEST_SEED` tries one
//! alone.

mod fleet;
mod verdict;

use std::env;

use fleet::World;

/// Seeds in all, where nobody asks for more.
const SEEDS: u64 = 1000;
/// Tests that share them, so that they run side by side.
const PARTS: u64 = 4;
/// Failures that are printed.
const SHOWN: usize = 5;

#[test]
fn every_kill_ends_what_it_is_for_part_1() {
    try_seeds(0);
}

#[test]
fn every_kill_ends_what_it_is_for_part_2() {
    try_seeds(1);
}

#[test]
fn every_kill_ends_what_it_is_for_part_3() {
    try_seeds(2);
}

#[test]
fn every_kill_ends_what_it_is_for_part_4() {
    try_seeds(3);
}

fn try_seeds(part: u64) {
    let number = |name: &str| {
        let text = env::var(name).ok()?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{name} is a number")),
        )
    };
    let alone = number("KANADE_TEST_SEED");
    let seeds = match alone {
        Some(seed) => seed..seed + 1,
        None => 0..number("KANADE_TEST_SEEDS").unwrap_or(SEEDS),
    };
    let mut failures = Vec::new();
    for seed in seeds.filter(|seed| seed % PARTS == part) {
        let failed = try_seed(seed, alone.is_some());
        if !failed.is_empty() {
            failures.push(format!("seed {seed}:\n- {}", failed.join("\n- ")));
        }
    }
    assert!(
        failures.is_empty(),
        "{} seeds failed. One alone, and told: KANADE_TEST_SEED=… cargo test -p kanade-core --test core races -- --nocapture\n{}",
        failures.len(),
        failures
            .iter()
            .take(SHOWN)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    );
}

/// What went wrong with a seed.
fn try_seed(seed: u64, is_told: bool) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::begin(seed, is_told).await;
        world.go_through_the_storm().await;
        world.heal();
        let mut failed = world.wait_for_the_end().await;
        failed.extend(verdict::of(&world).await);
        if is_told {
            world.tell();
        }
        failed
    })
}
