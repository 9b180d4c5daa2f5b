//! What runs print: kept whole, whatever it is.

use kanade_model::{ExecResult, RunState};
use kanade_ports::{Output, RunQuery};

use super::{
    walk::runs,
    world::{World, ad_hoc, finished, fire, lose, recorded, result, run, secs, started},
};
use crate::StoreFactory;

pub async fn an_output_of_five_megabytes_comes_back_whole<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let line = "0123456789 åäö 漢字 🦀\n";
    let stdout = line.repeat(5_000_000 / line.len() + 1);
    let stderr = "e".repeat(5_000_000);
    let large = ExecResult {
        stdout: stdout.clone(),
        stderr: stderr.clone(),
        ..result("e-1", "pc-1", 0)
    };
    world.all([fire("e-1", &["pc-1"]), recorded(large)]).await;
    let found = world
        .store
        .run(&run("e-1", "pc-1"))
        .await
        .unwrap()
        .unwrap()
        .output;
    // Not `assert_eq`, which would print all of it.
    assert!(
        found.stdout == stdout,
        "stdout is the same: {} of {} bytes",
        found.stdout.len(),
        stdout.len()
    );
    assert!(
        found.stderr == stderr,
        "stderr is the same: {} of {} bytes",
        found.stderr.len(),
        stderr.len()
    );
}

pub async fn an_output_keeps_every_character<F: StoreFactory>() {
    let world = World::<F>::new().await;
    let texts = [
        "",
        "\0",
        "a\0b\0",
        "\r\n\t",
        "'; DROP TABLE runs; --",
        "\"\\u0000",
        "%_",
        "\u{feff}\u{ffff}🦀",
        " ",
    ];
    for (number, text) in texts.into_iter().enumerate() {
        let name = format!("r-{number}");
        let said = ExecResult {
            stdout: text.into(),
            stderr: format!("{text}!"),
            ..ad_hoc(&name, "pc-1")
        };
        world.all([recorded(said)]).await;
        let found = world
            .store
            .run(&run(&name, "pc-1"))
            .await
            .unwrap()
            .unwrap()
            .output;
        assert_eq!(
            (&*found.stdout, &*found.stderr),
            (text, &*format!("{text}!")),
            "{text:?}"
        );
    }
    let query = RunQuery {
        with_output: true,
        ..RunQuery::default()
    };
    let mut listed: Vec<_> = runs(&*world.store, &query)
        .await
        .into_iter()
        .map(|record| record.output.stdout)
        .collect();
    listed.sort();
    let mut wanted = texts.map(ToOwned::to_owned);
    wanted.sort();
    assert_eq!(listed, wanted, "in a list too");
}

pub async fn a_late_result_brings_its_output<F: StoreFactory>() {
    let world = World::<F>::new().await;
    world
        .all([
            fire("e-1", &["pc-1"]),
            started("e-1", "pc-1"),
            lose("e-1", "pc-1", secs(110)),
        ])
        .await;
    let lost = world.store.run(&run("e-1", "pc-1")).await.unwrap().unwrap();
    assert_eq!(
        (lost.run.state, lost.output),
        (RunState::Lost, Output::default()),
        "nothing was heard"
    );
    world.all([finished("e-1", "pc-1", 0)]).await;
    let found = world.store.run(&run("e-1", "pc-1")).await.unwrap().unwrap();
    assert_eq!(found.run.state, RunState::Succeeded);
    assert_eq!(found.output.stdout, "e-1 on pc-1\n", "the late output");
    world.snapshot().await;
}
