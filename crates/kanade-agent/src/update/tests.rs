use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use kanade_ports::SystemClock;
use tempfile::TempDir;

use super::*;

const DIGEST: &str = "SHA-256=of-the-new-one";

/// A folder with a program, beside which a candidate lies.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(machine.program(), "old").unwrap();
        machine.lay_beside();
        machine
    }

    fn lay_beside(&self) {
        fs::write(self.folder.path().join("kanade.next"), "new").unwrap();
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("kanade")
    }

    /// What is started when the machine starts, which is a whole program.
    fn runs(&self) -> String {
        let runs = fs::read_to_string(self.program()).unwrap();
        assert!(runs == "old" || runs == "new", "{runs:?}");
        runs
    }

    fn updates(&self, version: &str) -> Updates {
        let settings = UpdateSettings {
            program: self.program(),
            folder: self.folder.path().join("agent"),
            version: version.parse().unwrap(),
            timing: UpdateTiming::default(),
        };
        Updates::new(settings, Arc::new(SystemClock))
    }

    /// The updates of the program that the machine starts.
    fn started(&self) -> Updates {
        self.updates(&self.runs())
    }

    fn is_remembered(&self) -> bool {
        let failed = self.updates("old").record.read().failed;
        failed.is_some_and(|failed| failed.is(&"new".parse().unwrap(), DIGEST))
    }
}

fn candidate() -> Candidate {
    Candidate {
        version: "new".parse().unwrap(),
        digest: DIGEST.to_owned(),
        quiet: None,
    }
}

#[tokio::test]
async fn wherever_an_installation_is_cut_off_a_program_runs_and_knows_how_it_stands() {
    for steps in 0.. {
        let machine = Machine::new();
        let done = machine.updates("old").breaking(steps).install(&candidate()).await;
        let before = machine.runs();
        let standing = machine.started().begin();
        let expected = match before.as_str() {
            "old" => Standing::Settled,
            _ => Standing::OnProbation,
        };
        assert_eq!(standing, expected, "cut off before step {steps}");
        assert_eq!(done.is_ok(), before == "new", "step {steps}");
        if before == "old" {
            // And the next attempt succeeds.
            machine.lay_beside();
            machine.updates("old").install(&candidate()).await.unwrap();
            assert_eq!(machine.runs(), "new");
            assert_eq!(machine.started().begin(), Standing::OnProbation);
        }
        if done.is_ok() {
            assert!(steps > 3, "there are steps to cut off");
            return;
        }
    }
}

#[tokio::test]
async fn wherever_going_back_is_cut_off_the_next_start_ends_it() {
    for steps in 0.. {
        let machine = Machine::new();
        machine.updates("old").install(&candidate()).await.unwrap();
        let done = machine.updates("new").breaking(steps).go_back().await;
        // The machine starts again and again, as often as it takes.
        for start in 0.. {
            let updates = machine.started();
            match updates.begin() {
                Standing::Settled => break,
                Standing::OnProbation => {}
                Standing::GivenUp => updates.go_back().await.unwrap(),
            }
            assert!(start <= MOST_STARTS + 1, "it never comes to rest; step {steps}");
        }
        assert_eq!(machine.runs(), "old", "step {steps}");
        assert!(machine.is_remembered(), "step {steps}");
        if done.is_ok() {
            assert!(steps > 3, "there are steps to cut off");
            return;
        }
    }
}

#[tokio::test]
async fn a_program_that_is_started_too_often_without_showing_life_is_given_up() {
    let machine = Machine::new();
    machine.updates("old").install(&candidate()).await.unwrap();
    for _ in 0..MOST_STARTS {
        assert_eq!(machine.started().begin(), Standing::OnProbation);
    }
    assert_eq!(machine.started().begin(), Standing::GivenUp);
    machine.started().go_back().await.unwrap();
    assert_eq!(machine.runs(), "old");
    assert_eq!(machine.started().begin(), Standing::Settled);
    assert!(machine.is_remembered());
    let previous = fs::read_to_string(machine.folder.path().join("kanade.previous")).unwrap();
    assert_eq!(previous, "old", "the copy stays");
}

#[tokio::test]
async fn a_program_that_has_shown_life_is_not_counted_any_more() {
    let machine = Machine::new();
    machine.updates("old").install(&candidate()).await.unwrap();
    assert_eq!(machine.started().begin(), Standing::OnProbation);
    machine.started().confirm().await;
    for _ in 0..10 {
        assert_eq!(machine.started().begin(), Standing::Settled);
    }
    assert_eq!(machine.runs(), "new");
}

#[test]
fn a_damaged_note_keeps_no_agent_from_starting() {
    let machine = Machine::new();
    let folder = machine.folder.path().join("agent");
    fs::create_dir(&folder).unwrap();
    for damaged in ["", "{", "[]", r#"{"trial": 1}"#] {
        fs::write(folder.join("update.json"), damaged).unwrap();
        assert_eq!(machine.updates("old").begin(), Standing::Settled, "{damaged}");
    }
    // Another version may note more.
    let more =
        r#"{"more": 1, "trial": {"version": "old", "digest": "", "from": "0", "starts": 0, "more": 1}}"#;
    fs::write(folder.join("update.json"), more).unwrap();
    assert_eq!(machine.updates("old").begin(), Standing::OnProbation);
}

fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_program_says_its_version_or_why_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let minute = Duration::from_secs(60);
    for (text, within, said) in [
        ("echo kanade 1.2.3", minute, None),
        ("echo v1.2.3", minute, None),
        ("[ \"$*\" = --version ] && echo kanade 1.2.3", minute, None),
        ("echo kanade 1.2.30", minute, Some("it says `kanade 1.2.30`")),
        ("true", minute, Some("it says nothing")),
        ("echo oh >&2; exit 3", minute, Some("exit status: 3: oh")),
        ("kill -SEGV $$", minute, Some("signal: 11")),
        (
            "echo 1.2.3; sleep 1000",
            Duration::from_millis(200),
            Some("it takes longer than 200ms"),
        ),
        // What it leaves in the background is not waited for.
        ("sleep 1000 & echo 1.2.3", minute, None),
    ] {
        let program = script(folder.path(), text);
        let answer = probe::version(program, &"1.2.3".parse().unwrap(), within, &SystemClock).await;
        match said {
            None => assert_eq!(answer, Ok(()), "{text}"),
            Some(said) => {
                let why = answer.expect_err(text);
                assert!(why.contains(said), "{text}: {why}");
            }
        }
    }
    let none = probe::version(
        folder.path().join("none"),
        &"1".parse().unwrap(),
        minute,
        &SystemClock,
    )
    .await;
    assert!(none.unwrap_err().contains("cannot be started"));
}
