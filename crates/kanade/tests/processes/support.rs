//! Drives the real binary: a server, agents and the command line, each as a process.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// No condition takes longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A folder with data and configuration, in which servers are started one after the other.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    /// A place for a deployment of these kinds, with times that suit a test.
    pub(crate) fn new(store: &str, catalog: &str) -> Self {
        Self::with(store, catalog, "[kill]\nrepeat = '500ms'\n")
    }

    /// The same with more configuration.
    pub(crate) fn with(store: &str, catalog: &str, more: &str) -> Self {
        let more = format!(
            "[server]\nbind = '127.0.0.1:0'\n[agent]\nembedded = true\nid = 'agent-1'\n[execution]\nresend_after = '1s'\n{more}"
        );
        Self::without_agent(store, catalog, &more)
    }

    /// A place for a server without an agent of its own.
    pub(crate) fn without_agent(store: &str, catalog: &str, more: &str) -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let text = format!(
            "data_dir = '{}'\n[store]\nkind = '{store}'\n[catalog]\nkind = '{catalog}'\n{more}",
            place.path("data").display()
        );
        std::fs::write(place.path("kanade.toml"), text).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A server with what the configuration says.
    pub(crate) fn serve(&self) -> Server {
        self.serve_on(&Host::default())
    }

    pub(crate) fn serve_on(&self, host: &Host) -> Server {
        let config = self.path("kanade.toml");
        Server::start(host, &["serve", "--config", text(&config)])
    }

    /// A server with more said on its command line.
    pub(crate) fn serve_with(&self, arguments: &[&str]) -> Server {
        let config = self.path("kanade.toml");
        let all = [&["serve", "--config", text(&config)], arguments].concat();
        Server::start(&Host::default(), &all)
    }

    /// A server with three agents and the sample jobs.
    pub(crate) fn demo(&self) -> Server {
        let (config, data) = (self.path("kanade.toml"), self.path("data"));
        Server::start(
            &Host::default(),
            &["demo", "--config", text(&config), "--data", text(&data)],
        )
    }
}

/// A machine of a test: this one as it is, or a network of its own on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// The network namespace in which its programs run.
    pub(crate) namespace: Option<String>,
}

impl Host {
    /// The program, started on this machine with nothing of the test's own settings.
    pub(crate) fn kanade(&self) -> Command {
        self.program(Path::new(env!("CARGO_BIN_EXE_kanade")))
    }

    /// As [`kanade`](Self::kanade), from this file.
    pub(crate) fn program(&self, program: &Path) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KANADE_")) {
            command.env_remove(name);
        }
        command
    }
}

/// A process of ours whose log is shown; killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it; `on_line` sees each line of its log.
    pub(crate) fn start(mut command: Command, on_line: impl Fn(&str) + Send + 'static) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                on_line(&line);
                eprintln!("{line}");
            }
        });
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// As a crash: nothing is written out.
    pub(crate) fn crash(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("a process did not stop");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    process: Process,
    host: Host,
    pub(crate) url: String,
    /// Options of every operator command against it.
    pub(crate) options: Vec<String>,
}

impl Server {
    fn start(host: &Host, arguments: &[&str]) -> Self {
        let mut command = host.kanade();
        command.args(arguments);
        let (found, url) = mpsc::channel();
        let process = Process::start(command, move |line| {
            if let Some((_, url)) = line.split_once("listening on http") {
                drop(found.send(format!("http{}", url.trim())));
            }
        });
        let url = url
            .recv_timeout(DEADLINE)
            .expect("the server says where it listens");
        Self {
            process,
            host: host.clone(),
            url,
            options: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// As a crash: nothing is written out.
    pub(crate) fn crash(self) {
        self.process.crash();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(self) -> Option<i32> {
        self.process.stop()
    }

    /// An operator command against this server.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.host
            .kanade()
            .args(["--server", &self.url])
            .args(&self.options)
            .args(arguments)
            .output()
            .expect("the binary can be started")
    }

    /// What a command that must succeed prints.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        succeeded(arguments, &self.cli(arguments))
    }

    /// What a command that must fail with this code says.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let (stdout, stderr) = (string(&output.stdout), string(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}\nstdout: {stdout}\nstderr: {stderr}"
        );
        stderr
    }

    /// What a command that must succeed prints as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = ["--output", "json"].iter().chain(arguments).copied().collect();
        let text = self.ok(&arguments);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}): {text}"))
    }
}

/// What a command printed that asks no server and must succeed.
pub(crate) fn local(arguments: &[&str]) -> String {
    let output = Host::default().kanade().args(arguments).output();
    succeeded(arguments, &output.expect("the binary can be started"))
}

fn succeeded(arguments: &[&str], output: &Output) -> String {
    let (stdout, stderr) = (string(&output.stdout), string(&output.stderr));
    assert!(
        output.status.success(),
        "{arguments:?} failed\nstdout: {stdout}\nstderr: {stderr}"
    );
    stdout
}

/// Waits until something holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process exists and is not just waiting to be reaped.
pub(crate) fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim_start().starts_with('Z'))
    })
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
