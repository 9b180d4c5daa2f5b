//! Agents in processes of their own, each on a network of its own, which reach the server over TLS: the main job, and
//! what is lost and what is not when servers crash and lines are cut.
//!
//! `KANADE_TEST_SEED` repeats a run's choices.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    net::Net,
    scenario::{self, Survives, execution, fire, results},
    support::{Place, Process, Server, is_alive, local, text, until},
};

const AGENTS: usize = 2;
const ROUNDS: usize = 12;

#[test]
fn sqlite() {
    the_main_job_and_trouble("sqlite");
}

#[test]
fn redb() {
    the_main_job_and_trouble("redb");
}

fn the_main_job_and_trouble(kind: &str) {
    let fleet = Fleet::new(kind);
    let server = fleet.serve();
    let mut agents: Vec<Process> = (0..AGENTS).map(|agent| fleet.agent(agent)).collect();

    let server = scenario::the_main_job(&fleet.place, server, AGENTS, None, Survives::Both, |server| {
        assert_eq!(server.stop(), Some(0), "SIGTERM ends the server in order");
        fleet.serve()
    });
    let server = nothing_is_lost_and_nothing_runs_twice(&fleet, server, &mut agents);
    let server = a_kill_during_a_cut_is_followed_after_it(&fleet, server);
    a_stopped_agent_reports_what_it_interrupted(&server, agents);
    assert_eq!(server.stop(), Some(0));
}

/// What it takes to start servers and agents again and again.
struct Fleet {
    place: Place,
    net: Net,
}

impl Fleet {
    fn new(kind: &str) -> Self {
        let net = Net::new(AGENTS);
        let token = |pattern: &str| -> (String, String) {
            let made = local(&["--output", "json", "token", "new", "--pc-ids", pattern]);
            let made: serde_json::Value = serde_json::from_str(&made).unwrap();
            let text = |field: &str| made[field].as_str().unwrap().to_owned();
            (text("token"), text("hash"))
        };
        let (web, hash) = token("web-*");
        // The window of a kill is shorter than a cut, so that the repeats of the kill alone do not help.
        let more = format!(
            "[server]\nbind = '{}'\ntls = {{ cert = 'tls/server.pem', key = 'tls/server.key' }}\n\
             [auth]\nmode = 'token'\ntokens = [{{ name = 'ops', token = 'operator-token-of-the-test' }}]\n\
             agent_tokens = [{{ name = 'web', hash = '{hash}', pc_ids = 'web-*' }}]\n\
             [gateway]\nping_every = '500ms'\nidle_timeout = '2s'\n\
             [execution]\nresend_after = '1s'\n[kill]\nrepeat = '500ms'\nwindow = '2s'\n",
            net.bind()
        );
        let place = Place::without_agent(kind, kind, &more.replace("'tls/", "'@/tls/"));
        let config = place.path("kanade.toml");
        let folder = place.path("");
        let written = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, written.replace("@/", text(&folder))).unwrap();
        let tls = place.path("tls");
        let mut arguments = vec!["tls", "new", "--out", text(&tls)];
        let names = net.names();
        for name in &names {
            arguments.extend(["--host", name]);
        }
        local(&arguments);
        place.write("agent.token", &web);
        Self { place, net }
    }

    fn serve(&self) -> Server {
        let mut server = self.place.serve_on(&self.net.server());
        server.url = self.net.local_url();
        let ca = self.place.path("tls/ca.pem");
        server.options = ["--token", "operator-token-of-the-test", "--ca", text(&ca)]
            .map(ToOwned::to_owned)
            .into();
        server
    }

    fn agent(&self, agent: usize) -> Process {
        let id = format!("web-{agent}");
        let (data, token, ca) = (
            self.place.path(&id),
            self.place.path("agent.token"),
            self.place.path("tls/ca.pem"),
        );
        let mut command = self.net.agent(agent).kanade();
        command
            .env("KANADE_GATEWAY__PING_EVERY", "500ms")
            .env("KANADE_GATEWAY__IDLE_TIMEOUT", "2s")
            .args([
                "agent",
                "--server",
                &self.net.url(agent),
                "--id",
                &id,
                "--data",
                text(&data),
            ])
            .args(["--token-file", text(&token), "--ca", text(&ca)]);
        Process::start(command, |_| {})
    }
}

/// What happens while executions are under way.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Crash,
    Cut,
    CrashDuringCut,
    AgentCrash,
}

impl Trouble {
    const ALL: [Self; 4] = [Self::Crash, Self::Cut, Self::CrashDuringCut, Self::AgentCrash];
}

/// Fires, crashes, cuts: every answered execution runs exactly once on each agent and is counted.
fn nothing_is_lost_and_nothing_runs_twice(
    fleet: &Fleet,
    mut server: Server,
    agents: &mut Vec<Process>,
) -> Server {
    let seed =
        std::env::var("KANADE_TEST_SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("KANADE_TEST_SEED={seed} repeats the choices of this run");
    let mut rng = StdRng::seed_from_u64(seed);
    let ran = fleet.place.path("ran");
    std::fs::create_dir(&ran).unwrap();
    let mut fired = BTreeMap::new();
    for round in 0..ROUNDS {
        // A job of its own for each execution, so that its file tells how often it ran.
        let mut jobs = String::new();
        for number in 0..3 {
            write!(
                jobs,
                "---\nid: count-{round}-{number}\nversion: '1'\nexecute:\n  shell: sh\n  timeout: 60s\n  script: |\n    \
                 echo ran >> {}/{round}-{number}\n    sleep 0.{}\n    echo finished\n",
                text(&ran),
                rng.random_range(1..9)
            )
            .unwrap();
        }
        let file = fleet.place.write("count.yaml", &jobs);
        server.ok(&["job", "apply", "-f", text(&file)]);
        for number in 0..3 {
            let exec = fire(&server, &["exec", &format!("count-{round}-{number}"), "--all"]);
            fired.insert(exec, format!("{round}-{number}"));
        }
        // The moment of the trouble is the point of this test, not a wait for something.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..500)));
        match Trouble::ALL.choose(&mut rng).unwrap() {
            Trouble::Crash => {
                server.crash();
                server = fleet.serve();
            }
            Trouble::Cut => {
                let line = rng.random_range(0..AGENTS);
                fleet.net.cut(line);
                // Sometimes shorter than what anybody notices, sometimes longer.
                std::thread::sleep(Duration::from_millis(rng.random_range(100..4000)));
                fleet.net.mend(line);
            }
            Trouble::CrashDuringCut => {
                fleet.net.cut(0);
                server.crash();
                server = fleet.serve();
                fleet.net.mend(0);
            }
            Trouble::AgentCrash => {
                // An agent that is killed reports what it ran as interrupted and starts what it had not begun.
                let agent = rng.random_range(0..AGENTS);
                agents.remove(agent).crash();
                agents.insert(agent, fleet.agent(agent));
            }
        }
    }
    for (exec, name) in &fired {
        until("every execution has ended", || {
            execution(&server, exec)["status"] == "completed"
        });
        let runs = results(&server, exec);
        assert_eq!(runs.len(), AGENTS, "a run on each agent, no more: {runs:#?}");
        let execution = execution(&server, exec);
        assert_eq!(execution["target_count"], AGENTS, "{execution}");
        let succeeded = runs.iter().filter(|run| run["exit_code"] == 0).count();
        assert_eq!(execution["success_count"], succeeded, "{execution}");
        assert_eq!(execution["failure_count"], AGENTS - succeeded, "{execution}");
        for run in &runs {
            let interrupted = run["stderr"].as_str().unwrap().contains("interrupted");
            assert!(
                run["exit_code"] == 0 || interrupted,
                "nothing else can go wrong here: {run}"
            );
        }
        let lines = std::fs::read_to_string(ran.join(name))
            .unwrap_or_default()
            .lines()
            .count();
        assert!(lines <= AGENTS, "{name} ran {lines} times on {AGENTS} agents");
        assert!(
            lines >= succeeded,
            "{name} ran {lines} times and succeeded {succeeded} times"
        );
    }
    println!(
        "{} executions went through {ROUNDS} rounds of trouble",
        fired.len()
    );
    server
}

fn a_kill_during_a_cut_is_followed_after_it(fleet: &Fleet, server: Server) -> Server {
    let pids = fleet.place.path("cut-pids");
    std::fs::create_dir(&pids).unwrap();
    let job = fleet.place.write(
        "sleeper.yaml",
        &format!(
            "id: sleeper\nversion: '1'\nexecute:\n  shell: sh\n  timeout: 15m\n  script: |\n    \
             echo $$ > {dir}/$$\n    sleep 600 & echo $! > {dir}/$!\n    wait\n",
            dir = text(&pids)
        ),
    );
    server.ok(&["job", "apply", "-f", text(&job)]);
    let exec = fire(&server, &["exec", "sleeper", "--all"]);
    let written = || -> Vec<String> {
        let files = std::fs::read_dir(&pids).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let targets = |server: &Server| -> Vec<serde_json::Value> {
        let shown = server.json(&["executions", "show", &exec, "--targets"]);
        shown["targets"].as_array().unwrap().clone()
    };
    until("both run", || {
        written().len() == 2 * AGENTS && targets(&server).iter().all(|target| target["state"] == "running")
    });
    fleet.net.cut(1);
    server.ok(&["kill", "--job", "sleeper"]);
    until("the agent that is reached has followed", || {
        targets(&server)[0]["state"] == "killed"
    });
    until("the other one is known to be unreachable", || {
        targets(&server)[1]["receipt"] == "unreachable"
    });
    let alive = || written().into_iter().filter(|pid| is_alive(pid)).count();
    assert_eq!(alive(), 2, "what is cut off goes on");
    server.crash();
    let server = fleet.serve();
    fleet.net.mend(1);
    until("the kill reaches the agent that is back", || alive() == 0);
    until("the execution is killed", || {
        execution(&server, &exec)["status"] == "killed"
    });
    for run in results(&server, &exec) {
        assert!(
            run["stderr"]
                .as_str()
                .unwrap()
                .contains("killed by remote signal"),
            "{run}"
        );
    }
    for target in targets(&server) {
        assert_eq!(target["receipt"], "confirmed", "{target}");
    }
    server
}

fn a_stopped_agent_reports_what_it_interrupted(server: &Server, agents: Vec<Process>) {
    let exec = fire(server, &["exec", "sleeper", "--all"]);
    until("it runs everywhere", || {
        execution(server, &exec)["targets"]["running"] == AGENTS
    });
    for agent in agents {
        assert_eq!(agent.stop(), Some(0), "SIGTERM ends an agent in order");
    }
    until("both runs have their end", || {
        execution(server, &exec)["status"] == "completed"
    });
    for run in results(server, &exec) {
        assert!(run["stderr"].as_str().unwrap().contains("interrupted"), "{run}");
    }
}
