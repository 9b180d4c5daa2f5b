//! The main job, whatever the deployment: register, fire, watch, kill, revoke, delete, stop and start again.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Place, Server, is_alive, text, until};

/// What is there after a restart.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Survives {
    Both,
    Nothing,
}

/// Goes through it on a server with this many agents, of which `interrupted` is one that ends with the server; `restart`
/// stops the server in order and starts it again. Returns the server, which runs.
pub(crate) fn the_main_job(
    place: &Place,
    server: Server,
    agents: usize,
    interrupted: Option<&str>,
    survives: Survives,
    restart: impl FnOnce(Server) -> Server,
) -> Server {
    a_job_is_registered_and_runs_everywhere(place, &server, agents);
    let killed = a_kill_ends_every_process(place, &server, agents);
    a_revoke_stops_a_start(&server);
    only_an_unreferenced_job_is_deleted(place, &server);

    let interrupted = interrupted.map(|pc| {
        let exec = fire(&server, &["exec", "tree", "--pc", pc]);
        until("it runs", || execution(&server, &exec)["status"] == "running");
        exec
    });
    let server = restart(server);
    if survives == Survives::Nothing {
        server.fails(1, &["executions", "show", &killed]);
        server.fails(1, &["job", "show", "tree"]);
        return server;
    }
    assert_eq!(
        execution(&server, &killed)["status"],
        "killed",
        "what was recorded is there after a restart"
    );
    server.ok(&["job", "show", "tree"]);
    if let Some(interrupted) = interrupted {
        until("the interrupted run has its end", || {
            execution(&server, &interrupted)["status"] == "completed"
        });
        let run = &results(&server, &interrupted)[0];
        assert_eq!(run["state"], "failed");
        assert!(run["stderr"].as_str().unwrap().contains("interrupted"), "{run}");
    }
    server
}

fn a_job_is_registered_and_runs_everywhere(place: &Place, server: &Server, agents: usize) {
    let hello = place.write(
        "hello.yaml",
        "id: hello\nversion: '1.0.0'\nexecute:\n  shell: sh\n  script: echo \"grüße from $$\"\n  timeout: 30s\n",
    );
    server.ok(&["job", "apply", "-f", text(&hello)]);
    until("all agents are known", || {
        server.json(&["agent", "list"]).as_array().unwrap().len() == agents
    });
    let printed = server.ok(&["exec", "hello", "--all", "--watch"]);
    assert!(printed.contains(&format!("{agents} of {agents}")), "{printed}");
    let runs = server.json(&["results", "list", "--job", "^hello$"]);
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), agents, "every result: {runs:?}");
    for run in runs {
        assert_eq!(run["exit_code"], 0);
        assert!(
            run["stdout"].as_str().unwrap().starts_with("grüße from "),
            "{run}"
        );
    }
}

/// Returns the killed execution.
fn a_kill_ends_every_process(place: &Place, server: &Server, agents: usize) -> String {
    let pids = place.path("pids");
    std::fs::create_dir(&pids).unwrap();
    let script = format!(
        "    echo $$ > {dir}/main-$$\n    sleep 600 & echo $! > {dir}/child-$!\n    \
         (sleep 600 & echo $! > {dir}/grandchild-$!; wait) &\n    \
         setsid sh -c 'echo $$ > {dir}/away-$$; exec sleep 600' &\n    \
         (trap '' TERM; echo ready > {dir}/ready-$$; while :; do sleep 1; done) & echo $! > {dir}/stubborn-$!\n    wait\n",
        dir = pids.display()
    );
    let tree = place.write(
        "tree.yaml",
        &format!("id: tree\nversion: '1.0.0'\nexecute:\n  shell: sh\n  timeout: 15m\n  script: |\n{script}"),
    );
    server.ok(&["job", "apply", "-f", text(&tree)]);
    let exec = fire(server, &["exec", "tree", "--all"]);
    let written = || -> Vec<String> {
        let files = std::fs::read_dir(&pids).unwrap();
        let read =
            |file: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(file.unwrap().path()).unwrap();
        files
            .map(read)
            .map(|pid| pid.trim().to_owned())
            .filter(|pid| pid.parse::<u32>().is_ok())
            .collect()
    };
    until("every process of the trees runs", || {
        written().len() == 5 * agents && execution(server, &exec)["status"] == "running"
    });
    let processes = written();
    assert!(
        processes.iter().all(|pid| is_alive(pid)),
        "all are there before the kill"
    );

    server.ok(&["kill", "--job", "tree"]);
    let killed = Instant::now();
    until("every process is gone", || {
        !processes.iter().any(|pid| is_alive(pid))
    });
    let took = killed.elapsed();
    println!("every process of the killed runs was gone after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    until("the execution is killed", || {
        execution(server, &exec)["status"] == "killed"
    });
    let targets = server.json(&["executions", "show", &exec, "--targets"]);
    let receipts: Vec<&Value> = targets["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| &target["receipt"])
        .collect();
    assert_eq!(receipts, vec!["confirmed"; agents], "a receipt per agent");
    for run in results(server, &exec) {
        assert!(
            run["stderr"]
                .as_str()
                .unwrap()
                .contains("killed by remote signal"),
            "{run}"
        );
    }
    exec
}

fn a_revoke_stops_a_start(server: &Server) {
    let exec = fire(server, &["exec", "hello", "--all", "--jitter", "4s"]);
    server.ok(&["revoke", "hello"]);
    until("every target is final", || {
        execution(server, &exec)["status"] == "completed"
    });
    let targets = server.json(&["executions", "show", &exec, "--targets"]);
    let states: Vec<&str> = targets["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| target["state"].as_str().unwrap())
        .collect();
    // One that drew no jitter may have started before the revoke.
    assert!(states.contains(&"refused"), "{states:?}");
    let refused = server.fails(1, &["exec", "hello", "--all"]);
    assert!(refused.contains("kanade unrevoke hello"), "{refused}");
    server.ok(&["unrevoke", "hello"]);
    server.ok(&["exec", "hello", "--all", "--watch"]);
}

fn only_an_unreferenced_job_is_deleted(place: &Place, server: &Server) {
    let nightly = place.write(
        "nightly.yaml",
        "id: nightly\ncron: '0 0 2 * * *'\njob_id: hello\ntarget:\n  all: true\n",
    );
    server.ok(&["schedule", "apply", "-f", text(&nightly)]);
    let refused = server.fails(1, &["job", "delete", "hello"]);
    assert!(
        refused.contains("job `hello` is referenced by schedule `nightly`"),
        "{refused}"
    );
    server.ok(&["schedule", "delete", "nightly"]);
    server.ok(&["job", "delete", "hello"]);
    server.fails(1, &["job", "show", "hello"]);
}

pub(crate) fn fire(server: &Server, arguments: &[&str]) -> String {
    server.json(arguments)["exec_id"].as_str().unwrap().to_owned()
}

pub(crate) fn execution(server: &Server, exec: &str) -> Value {
    server.json(&["executions", "show", exec])["execution"].clone()
}

pub(crate) fn results(server: &Server, exec: &str) -> Vec<Value> {
    server
        .json(&["results", "list", "--exec", exec])
        .as_array()
        .unwrap()
        .clone()
}
