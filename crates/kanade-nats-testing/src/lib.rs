//! A NATS server with JetStream for each test: the one of `KANADE_TEST_NATS_URL`, or the program
//! `KANADE_TEST_NATS_SERVER`, or a container of the image `KANADE_TEST_NATS_IMAGE`. Without any, the test says so and
//! is skipped, unless `KANADE_TEST_REQUIRE` names `nats`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod given;
mod proxy;
pub mod roles;

use std::{
    env, fs,
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use given::Given;
use kanade_nats::NatsSettings;
use tempfile::TempDir;
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    core::{IntoContainerPort, WaitFor},
    runners::AsyncRunner,
};

pub use proxy::Proxy;

/// The image where none is named.
const IMAGE: &str = "nats:2.12-alpine";
/// By then a server has started.
const STARTED: Duration = Duration::from_secs(30);

/// A server that nobody else uses meanwhile.
pub enum Server {
    /// Somebody else's, ours for the time of a test.
    Given(Given),
    /// A program that was started.
    Program(Box<Program>),
    /// A container that was started.
    Container(Box<Container>),
}

impl Server {
    /// Starts one, or ends this process where there is none to be had and none is required.
    pub async fn start() -> Self {
        match env::var("KANADE_TEST_NATS_URL") {
            Ok(url) => Self::Given(Given::claim(url).await),
            Err(_) => Self::own(&["-js"]).await.unwrap_or_else(|reason| skip(&reason)),
        }
    }

    /// Starts one of our own with these arguments. `None`, with a word about it, where somebody else's is all there is.
    pub async fn with(arguments: &[&'static str]) -> Option<Self> {
        if env::var_os("KANADE_TEST_NATS_URL").is_some() {
            tell("*** SKIPPED: this test starts a server of its own; unset KANADE_TEST_NATS_URL for it");
            return None;
        }
        Some(Self::own(arguments).await.unwrap_or_else(|reason| skip(&reason)))
    }

    /// Starts one of our own with the configuration in this text and these values in its environment, which also gets
    /// the folder for its data as `data`. `None`, with a word about it, where somebody else's is all there is.
    pub async fn configured(
        text: &str,
        data: &'static str,
        environment: &[(&'static str, &'static str)],
    ) -> Option<Self> {
        if env::var_os("KANADE_TEST_NATS_URL").is_some() {
            tell("*** SKIPPED: this test starts a server of its own; unset KANADE_TEST_NATS_URL for it");
            return None;
        }
        let config = Configuration {
            text: text.to_owned(),
            data,
            environment: environment.to_vec(),
        };
        let started = Self::launch(&[], Some(config)).await;
        Some(started.unwrap_or_else(|reason| skip(&reason)))
    }

    async fn own(arguments: &[&'static str]) -> Result<Self, String> {
        Self::launch(arguments, None).await
    }

    async fn launch(arguments: &[&'static str], config: Option<Configuration>) -> Result<Self, String> {
        if let Some(path) = env::var_os("KANADE_TEST_NATS_SERVER") {
            let program = Program::start(path.into(), arguments.to_vec(), config).await;
            return Ok(Self::Program(Box::new(program)));
        }
        Container::start(arguments, config)
            .await
            .map(|container| Self::Container(Box::new(container)))
    }

    /// Where it is.
    pub fn url(&self) -> String {
        match self {
            Self::Given(given) => given.url().to_owned(),
            Self::Program(program) => format!("nats://127.0.0.1:{}", program.port),
            Self::Container(container) => format!("nats://127.0.0.1:{}", container.port),
        }
    }

    /// How to connect to it.
    pub fn settings(&self) -> NatsSettings {
        NatsSettings {
            urls: vec![self.url()],
            ..NatsSettings::default()
        }
    }

    /// A client that knows nothing of kanade.
    pub async fn stranger(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    /// Stops it as an operator does and starts it again on the same data and port.
    pub async fn restart(&mut self, between: impl AsyncFnOnce()) {
        match self {
            Self::Given(_) => panic!("it is not ours to restart"),
            Self::Program(program) => {
                program.stop();
                between().await;
                program.run().await;
            }
            Self::Container(container) => {
                container.running.stop_with_timeout(Some(10)).await.unwrap();
                between().await;
                container.running.start().await.unwrap();
                // It is said to have started before it listens.
                let begun = std::time::Instant::now();
                while tokio::net::TcpStream::connect(("127.0.0.1", container.port))
                    .await
                    .is_err()
                {
                    assert!(
                        begun.elapsed() < Duration::from_secs(30),
                        "the server does not come back"
                    );
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

fn skip(reason: &str) -> ! {
    let required = env::var("KANADE_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name.trim() == "nats"),
        "KANADE_TEST_REQUIRE names nats, and there is none: {reason}"
    );
    tell(&format!(
        "*** SKIPPED: no NATS server for this test ({reason}).\n*** Set KANADE_TEST_NATS_URL or \
         KANADE_TEST_NATS_SERVER, or start a container engine; `cargo xtask test` sees to it by itself."
    ));
    std::process::exit(0);
}

/// Past the capture of the test harness, which would keep it to itself.
fn tell(notice: &str) {
    let notice = format!("\n{notice}\n\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
}

/// Asks JetStream something.
pub async fn js(client: &async_nats::Client, path: &str, body: serde_json::Value) -> serde_json::Value {
    let subject = format!("$JS.API.{path}");
    let answer = client.request(subject, body.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// What a server is told in a file.
struct Configuration {
    text: String,
    /// The name under which the environment has the folder of its data.
    data: &'static str,
    environment: Vec<(&'static str, &'static str)>,
}

/// A program of this machine on a folder of its own.
pub struct Program {
    path: PathBuf,
    arguments: Vec<&'static str>,
    config: Option<Configuration>,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Program {
    async fn start(path: PathBuf, arguments: Vec<&'static str>, config: Option<Configuration>) -> Self {
        let mut program = Self {
            path,
            arguments,
            config,
            folder: tempfile::tempdir().unwrap(),
            port: 0,
            child: None,
        };
        program.run().await;
        program
    }

    async fn run(&mut self) {
        let folder = self.folder.path();
        let port = if self.port == 0 {
            "-1".to_owned()
        } else {
            self.port.to_string()
        };
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .args(["-a", "127.0.0.1", "-p", &port])
            .arg("--ports_file_dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        match &self.config {
            None => command.arg("-sd").arg(folder.join("data")),
            Some(config) => {
                let file = folder.join("nats-server.conf");
                fs::write(&file, &config.text).unwrap();
                let environment = command
                    .arg("-c")
                    .arg(file)
                    .envs(config.environment.iter().copied());
                environment.env(config.data, folder.join("data"))
            }
        };
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.path.display()));
        // It writes down where it listens, once it does.
        let ports = folder.join(format!("nats-server_{}.ports", child.id()));
        let ports = [ports, folder.join(self.ports_by_name(child.id()))];
        self.child = Some(child);
        let deadline = std::time::Instant::now() + STARTED;
        self.port = loop {
            let text = ports.iter().find_map(|path| fs::read_to_string(path).ok());
            if let Some(port) = text.as_deref().and_then(first_port) {
                break port;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "it did not start: {}",
                fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
    }

    /// The file is named after the program.
    fn ports_by_name(&self, id: u32) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}_{id}.ports")
    }

    /// Lets it write down what it has acknowledged: it does so a little later than it acknowledges.
    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let signal = format!("quit={}", child.id());
            let told = Command::new(&self.path).args(["--signal", &signal]).status();
            assert!(told.unwrap().success(), "it can be told to stop");
            child.wait().unwrap();
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port in `{"nats":["nats://127.0.0.1:4222"]…`.
fn first_port(text: &str) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_str(text).ok()?;
    ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}

/// A container of its own.
pub struct Container {
    running: ContainerAsync<GenericImage>,
    port: u16,
}

impl Container {
    async fn start(arguments: &[&'static str], config: Option<Configuration>) -> Result<Self, String> {
        const FILE: &str = "/tmp/nats-server.conf";
        let image = env::var("KANADE_TEST_NATS_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
        let (name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
        // The same inside and outside, so that it is the same again after a restart, and on the host's network.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.unwrap().port();
        let request = GenericImage::new(name, tag)
            .with_wait_for(WaitFor::message_on_stderr("Server is ready"))
            .with_cmd(
                arguments
                    .iter()
                    .map(ToString::to_string)
                    .chain(config.iter().flat_map(|_| ["-c".to_owned(), FILE.to_owned()]))
                    .chain(["-p".to_owned(), port.to_string()]),
            )
            .with_mapped_port(port, port.tcp())
            .with_startup_timeout(STARTED);
        let request = match config {
            None => request,
            Some(config) => {
                let request = request.with_copy_to(FILE, config.text.into_bytes());
                let environment = config.environment.into_iter().chain([(config.data, "/tmp/data")]);
                environment.fold(request, |request, (name, value)| {
                    request.with_env_var(name, value)
                })
            }
        };
        let request = match env::var("KANADE_TEST_NATS_NETWORK") {
            Ok(network) => request.with_network(network),
            Err(_) => request,
        };
        let started = request.start().await;
        let running = started.map_err(|error| format!("no container of {image}: {error}"))?;
        Ok(Self { running, port })
    }
}
