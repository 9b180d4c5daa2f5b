//! Drives the real binary: a server with its agents as one process, and the command line as others.

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
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let text = format!(
            "data_dir = '{}'\n[server]\nbind = '127.0.0.1:0'\n[store]\nkind = '{store}'\n[catalog]\nkind = '{catalog}'\n\
             [agent]\nembedded = true\nid = 'agent-1'\n[execution]\nresend_after = '1s'\n{more}",
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

    /// A server with the agent `agent-1`.
    pub(crate) fn serve(&self) -> Server {
        let config = self.path("kanade.toml");
        Server::start(&["serve", "--config", text(&config)])
    }

    /// A server with three agents and the sample jobs.
    pub(crate) fn demo(&self) -> Server {
        let (config, data) = (self.path("kanade.toml"), self.path("data"));
        Server::start(&["demo", "--config", text(&config), "--data", text(&data)])
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = kanade()
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let (found, url) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once("listening on http://") {
                    drop(found.send(format!("http://{}", url.trim())));
                }
                eprintln!("{line}");
            }
        });
        let url = url.recv_timeout(DEADLINE).unwrap_or_else(|_| {
            drop(child.kill());
            panic!("the server did not say where it listens");
        });
        Self { child, url }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As a crash: nothing is written out.
    pub(crate) fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not stop");
    }

    /// An operator command against this server.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        kanade()
            .args(["--server", &self.url])
            .args(arguments)
            .output()
            .expect("the binary can be started")
    }

    /// What a command that must succeed prints.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let (stdout, stderr) = (string(&output.stdout), string(&output.stderr));
        assert!(
            output.status.success(),
            "{arguments:?} failed\nstdout: {stdout}\nstderr: {stderr}"
        );
        stdout
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

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
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

fn kanade() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kanade"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KANADE_")) {
        command.env_remove(name);
    }
    command
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
