//! Parameters as the script finds them, and what stays of secret ones.

use std::{collections::BTreeMap, path::Path};

use kanade_model::{Ended, ExecResult, ParamText};

use crate::world::{World, command, with};

fn values(values: &[(&str, &str)]) -> BTreeMap<String, ParamText> {
    values
        .iter()
        .map(|(name, text)| ((*name).to_owned(), ParamText((*text).to_owned())))
        .collect()
}

/// Whether any file in a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let content = std::fs::read(path).unwrap();
        content
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn values_arrive_in_the_environment_unharmed_and_are_never_part_of_the_script() {
    let world = World::new().await;
    let _agent = world.agent().await;
    let odd = "it's \"$(touch pwned)\" `touch pwned`; touch pwned\n\ttab\\n %PATH% $HOME é 日本 \u{1}&|<>*?";
    let script = r#"printf '%s|%s|%s|%s' "$KANADE_PARAM_ODD" "$KANADE_PARAM_DB_HOST2" "$KANADE_PARAM_TOKEN" "${KANADE_PARAM_NONE-unset}""#;
    let told = with(script, |command| {
        command.cwd = Some(world.folder.display().to_string());
        command.params = values(&[("odd", odd), ("db_host2", ""), ("not a name", "x")]);
        command.secrets = values(&[("token", "hunter2")]);
    });
    let result = world.run(&told).await;
    assert_eq!(
        result.stdout,
        format!("{odd}||hunter2|unset"),
        "{}",
        result.stderr
    );
    assert!(!world.path("pwned").exists());
    // The next run finds nothing of it.
    let next = world.run(&command("env | grep -c KANADE_PARAM_")).await;
    assert_eq!(next.stdout, "0\n");
}

#[tokio::test]
async fn a_secret_is_not_in_the_files_of_the_agent_while_its_run_goes_on() {
    let world = World::new().await;
    let agent = world.agent().await;
    let secret = "correct-horse-battery-staple";
    let long = with("echo $$ > pid; sleep 1000", |command| {
        command.cwd = Some(world.folder.display().to_string());
        command.params = values(&[("region", "a-value-for-all-to-see")]);
        command.secrets = values(&[("token", secret)]);
    });
    world.send(&long).await;
    world.number_in("pid").await;
    world.started(&long).await;
    assert!(
        holds(&world.path("agent"), "a-value-for-all-to-see"),
        "the test looks at the right files"
    );
    assert!(!holds(&world.path("agent"), secret));
    agent.stop().await;
    assert_eq!(world.result(&long).await.ended, Some(Ended::Interrupted));
    assert!(!holds(&world.path("agent"), secret));
}

#[tokio::test]
async fn what_waited_with_a_secret_is_taken_again_from_the_server_after_a_restart() {
    let (world, clock) = World::with_manual_clock().await;
    let agent = world.agent().await;
    world.run(&command("true")).await;
    let waiting = with("printf %s \"$KANADE_PARAM_TOKEN\"", |command| {
        command.jitter_secs = Some(3600);
        command.secrets = values(&[("token", "hunter2")]);
    });
    world.send(&waiting).await;
    clock.sleepers(2).await;
    agent.stop().await;
    clock.advance(std::time::Duration::from_secs(3600));
    let _agent = world.agent().await;
    // Nothing is run without its secret.
    world.run(&command("true")).await;
    assert_eq!(world.heard::<ExecResult>("results.").len(), 2);
    world.send(&waiting).await;
    clock.sleepers(2).await;
    clock.advance(std::time::Duration::from_secs(3600));
    let result = world.result(&waiting).await;
    assert_eq!((result.exit_code, result.stdout.as_str()), (0, "hunter2"));
}
