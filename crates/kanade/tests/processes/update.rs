//! An agent that updates itself, as a real process with a program file of its own. The other versions are scripts that
//! start the real program with another version.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    scenario::{execution, fire, results},
    support::{Host, Place, Server, text, until},
};

/// A server, and the folder of an agent's program.
struct World {
    place: Place,
    server: Server,
}

impl World {
    fn new() -> Self {
        let more =
            "[server]\nbind = '127.0.0.1:0'\n[execution]\nresend_after = '1s'\n[kill]\nrepeat = '500ms'\n";
        let place = Place::without_agent("sqlite", "sqlite", more);
        let server = place.serve();
        fs::create_dir(place.path("bin")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_kanade"), place.path("bin/kanade")).unwrap();
        let world = Self { place, server };
        let count = world.place.write(
            "count.yaml",
            &format!(
                "id: count\nversion: '1'\nexecute:\n  shell: sh\n  timeout: 60s\n  script: echo ran >> {}\n",
                text(&world.place.path("ran"))
            ),
        );
        world.server.ok(&["job", "apply", "-f", text(&count)]);
        world
    }

    fn program(&self) -> PathBuf {
        self.place.path("bin/kanade")
    }

    /// Publishes a program that is the real one under another version; `first` is done before.
    fn publish(&self, version: &str, first: &str) {
        let program = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo kanade {version}; exit; fi\n{first}\n\
             KANADE_AGENT_VERSION={version} exec {} \"$@\"\n",
            env!("CARGO_BIN_EXE_kanade")
        );
        let file = self.place.write(&format!("kanade-{version}"), &program);
        self.server
            .ok(&["agent", "publish", text(&file), "--version", version]);
    }

    fn roll_out(&self, version: &str) {
        self.server.ok(&["agent", "rollout", version, "--global"]);
    }

    fn agent(&self) -> Service {
        let (program, url) = (self.program(), self.server.url.clone());
        let data = self.place.path("mine");
        Service::start(move || {
            let mut command = Command::new(&program);
            for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KANADE_")) {
                command.env_remove(name);
            }
            command
                .env("KANADE_SERVER", &url)
                .args(["agent", "--id", "mine", "--data", text(&data)])
                .args(["--program", text(&program)]);
            command
        })
    }

    /// The version that the server hears of.
    fn version(&self) -> String {
        let agents = self.server.json(&["agent", "list"]);
        let agent = agents.as_array().and_then(|agents| agents.first());
        agent.map_or_else(String::new, |agent| {
            agent["agent_version"].as_str().unwrap().to_owned()
        })
    }

    fn noted(&self) -> String {
        fs::read_to_string(self.place.path("mine/agent/mine/update.json")).unwrap_or_default()
    }

    fn runs_a_job(&self) {
        let exec = fire(&self.server, &["exec", "count", "--pc", "mine"]);
        until("the agent has run a job", || {
            execution(&self.server, &exec)["success_count"] == 1
        });
    }

    fn jobs_that_ran(&self) -> usize {
        let ran = fs::read_to_string(self.place.path("ran")).unwrap_or_default();
        ran.lines().count()
    }
}

/// A program that is started again whenever it ends, as a service manager does.
struct Service {
    stopped: Arc<AtomicBool>,
    kept: Option<JoinHandle<()>>,
}

impl Service {
    fn start(command: impl Fn() -> Command + Send + 'static) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stopped);
        let kept = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let mut child: Child = command().stdout(Stdio::null()).spawn().unwrap();
                while child.try_wait().unwrap().is_none() {
                    if ends.load(Ordering::Relaxed) {
                        child.kill().unwrap();
                        child.wait().unwrap();
                        return;
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Self {
            stopped,
            kept: Some(kept),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(kept) = self.kept.take() {
            drop(kept.join());
        }
    }
}

/// The version that the real program says it is.
fn real_version() -> String {
    let output = Host::default().kanade().arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_whitespace().last().unwrap().to_owned()
}

#[test]
fn an_agent_follows_its_version_up_and_down() {
    let world = World::new();
    let real = real_version();
    let _agent = world.agent();
    until("the agent is there", || world.version() == real);
    world.runs_a_job();
    world.publish("9.9.9", "");
    world.publish("9.9.8", "");
    for version in ["9.9.9", "9.9.8"] {
        world.roll_out(version);
        until("the agent is of the new version", || world.version() == version);
        until("it has come up", || world.noted().is_empty());
        world.runs_a_job();
        let previous = fs::read(world.place.path("bin/kanade.previous")).unwrap();
        assert_ne!(previous, fs::read(world.program()).unwrap());
    }
    // Down to the program it began with.
    let file = env!("CARGO_BIN_EXE_kanade");
    world.server.ok(&["agent", "publish", file, "--version", &real]);
    world.roll_out(&real);
    until("the agent is what it was", || world.version() == real);
    world.runs_a_job();
    assert_eq!(world.jobs_that_ran(), 4, "each job ran once");
    assert_eq!(
        fs::metadata(world.program()).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn a_version_that_does_not_come_up_is_rolled_back_and_not_tried_again() {
    let world = World::new();
    let real = real_version();
    let starts = world.place.path("starts");
    let _agent = world.agent();
    until("the agent is there", || world.version() == real);
    let original = fs::read(world.program()).unwrap();
    let still_there = |version: &str| {
        until("the failure is noted", || {
            world
                .noted()
                .contains(&format!("\"failed\":{{\"version\":\"{version}\""))
        });
        until("nothing is under way", || {
            world.noted().contains("\"trial\":null")
        });
        until("the agent is back", || world.version() == real);
        assert!(
            fs::read(world.program()).unwrap() == original,
            "the program is back"
        );
        world.runs_a_job();
    };
    let count = || fs::read_to_string(&starts).unwrap_or_default().lines().count();
    let note = format!("echo start >> {}", text(&starts));

    // One that ends at once is never installed.
    world.publish("9.0.1", &format!("{note}\nexit 1"));
    world.roll_out("9.0.1");
    still_there("9.0.1");
    assert_eq!(count(), 1, "it was tried out once");

    // One that works when it is tried out, and crashes when it is installed.
    world.publish(
        "9.0.2",
        &format!(
            "case \"$*\" in *--on-trial*) ;; *) {note}; ( sleep 0.7; kill -KILL $$ ) & \
             export KANADE_SERVER=http://127.0.0.1:9 ;; esac"
        ),
    );
    world.roll_out("9.0.2");
    still_there("9.0.2");
    assert!(count() >= 3, "it was started more than once");

    // A good one still gets its chance.
    world.publish("9.0.3", "");
    world.roll_out("9.0.3");
    until("the agent is of the new version", || world.version() == "9.0.3");
    world.runs_a_job();
    assert_eq!(world.jobs_that_ran(), 3);
}

#[test]
fn a_script_that_runs_is_not_interrupted_and_what_waits_runs_after_the_update() {
    let world = World::new();
    let real = real_version();
    let _agent = world.agent();
    until("the agent is there", || world.version() == real);
    let go = world.place.path("go");
    let long = world.place.write(
        "long.yaml",
        &format!(
            "id: long\nversion: '1'\nexecute:\n  shell: sh\n  timeout: 10m\n  script: |\n    until [ -e {} ]; do sleep 0.05; done\n    echo ended\n",
            text(&go)
        ),
    );
    world.server.ok(&["job", "apply", "-f", text(&long)]);
    let running = fire(&world.server, &["exec", "long", "--pc", "mine"]);
    until("it runs", || {
        execution(&world.server, &running)["targets"]["running"] == 1
    });
    world.publish("9.9.9", "");
    world.roll_out("9.9.9");
    until("the program is there", || {
        world.place.path("bin/kanade.next").exists()
    });
    let waiting = fire(&world.server, &["exec", "count", "--pc", "mine"]);
    assert_eq!(world.version(), real);
    fs::write(&go, "").unwrap();
    until("the agent is of the new version", || world.version() == "9.9.9");
    until("both have ended", || {
        [&running, &waiting]
            .iter()
            .all(|exec| execution(&world.server, exec)["success_count"] == 1)
    });
    assert_eq!(results(&world.server, &running)[0]["stdout"], "ended\n");
    assert_eq!(world.jobs_that_ran(), 1);
}

#[test]
fn an_agent_that_crashes_anywhere_in_an_update_ends_up_updated() {
    let world = World::new();
    let real = real_version();
    let agent = world.agent();
    until("the agent is there", || world.version() == real);
    world.publish("9.9.9", "");
    world.roll_out("9.9.9");
    drop(agent);
    // Each life is cut off a little later than the one before.
    for millis in (0..2000).step_by(150) {
        let agent = world.agent();
        // The moment of the crash is the point of this test, not a wait for something.
        thread::sleep(Duration::from_millis(millis));
        drop(agent);
        let program = fs::read(world.program()).unwrap();
        assert!(program.starts_with(b"#!/bin/sh") || program.starts_with(b"\x7fELF"));
    }
    let _agent = world.agent();
    until("the agent is of one of the versions", || {
        !world.version().is_empty()
    });
    // Crashes may have been taken for the program's own.
    until("it has come to rest", || {
        world.version() == "9.9.9" || world.noted().contains("\"failed\":{")
    });
    world.runs_a_job();
}
