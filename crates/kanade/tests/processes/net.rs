//! The network between a server and its agents: namespaces with cables between them where the tests run as root, and
//! otherwise proxies on loopback. Either can be cut and mended.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread,
};

use crate::support::Host;

const PORT: u16 = 8443;

/// A server and its agents, each reached over a line of its own.
pub(crate) enum Net {
    Namespaces(Namespaces),
    Loopback { server: SocketAddr, lines: Vec<Proxy> },
}

impl Net {
    /// Lines for so many agents. Says which kind it is.
    pub(crate) fn new(agents: usize) -> Self {
        match Namespaces::new(agents) {
            Ok(namespaces) => {
                println!("network: namespaces {}", namespaces.server);
                Self::Namespaces(namespaces)
            }
            Err(why) => {
                let required = std::env::var("KANADE_TEST_REQUIRE").unwrap_or_default();
                assert!(
                    !required.split(',').any(|name| name == "netns"),
                    "KANADE_TEST_REQUIRE asks for network namespaces: {why}"
                );
                println!("network: proxies on loopback, for want of namespaces ({why})");
                let server = free_port();
                let lines = (0..agents).map(|_| Proxy::start(server)).collect();
                Self::Loopback { server, lines }
            }
        }
    }

    pub(crate) fn server(&self) -> Host {
        match self {
            Self::Namespaces(namespaces) => in_namespace(&namespaces.server),
            Self::Loopback { .. } => Host::default(),
        }
    }

    pub(crate) fn agent(&self, agent: usize) -> Host {
        match self {
            Self::Namespaces(namespaces) => in_namespace(&namespaces.agents[agent]),
            Self::Loopback { .. } => Host::default(),
        }
    }

    /// Where the server binds.
    pub(crate) fn bind(&self) -> String {
        match self {
            Self::Namespaces(_) => format!("0.0.0.0:{PORT}"),
            Self::Loopback { server, .. } => server.to_string(),
        }
    }

    /// Where the command line, on the server's machine, finds the server.
    pub(crate) fn local_url(&self) -> String {
        match self {
            Self::Namespaces(_) => format!("https://127.0.0.1:{PORT}"),
            Self::Loopback { server, .. } => format!("https://{server}"),
        }
    }

    /// Where an agent finds the server.
    pub(crate) fn url(&self, agent: usize) -> String {
        match self {
            Self::Namespaces(_) => format!("https://{}:{PORT}", server_address(agent)),
            Self::Loopback { lines, .. } => format!("https://{}", lines[agent].address),
        }
    }

    /// Under which names and addresses the server is reached.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = vec!["127.0.0.1".to_owned()];
        if let Self::Namespaces(namespaces) = self {
            names.extend((0..namespaces.agents.len()).map(server_address));
        }
        names
    }

    /// From now on nothing goes over this agent's line.
    pub(crate) fn cut(&self, agent: usize) {
        match self {
            // Packets vanish; nobody is told.
            Self::Namespaces(namespaces) => namespaces.line(agent, "down"),
            Self::Loopback { lines, .. } => lines[agent].set(false),
        }
    }

    pub(crate) fn mend(&self, agent: usize) {
        match self {
            Self::Namespaces(namespaces) => namespaces.line(agent, "up"),
            Self::Loopback { lines, .. } => lines[agent].set(true),
        }
    }
}

fn in_namespace(name: &str) -> Host {
    Host {
        namespace: Some(name.to_owned()),
    }
}

/// Network namespaces; removed when dropped.
pub(crate) struct Namespaces {
    server: String,
    agents: Vec<String>,
}

impl Namespaces {
    fn new(agents: usize) -> Result<Self, String> {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let id = format!(
            "{:x}{:x}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        // Removes what was made so far when it fails in the middle.
        let namespaces = Self {
            server: format!("kn{id}s"),
            agents: (0..agents).map(|agent| format!("kn{id}a{agent}")).collect(),
        };
        let server = &namespaces.server;
        ip(&["netns", "add", server])?;
        ip(&["-n", server, "link", "set", "lo", "up"])?;
        for (number, agent) in namespaces.agents.iter().enumerate() {
            let end = format!("agent{number}");
            ip(&["netns", "add", agent])?;
            ip(&["-n", agent, "link", "set", "lo", "up"])?;
            ip(&[
                "-n", server, "link", "add", &end, "type", "veth", "peer", "name", "server", "netns", agent,
            ])?;
            let address = format!("{}/30", server_address(number));
            ip(&["-n", server, "address", "add", &address, "dev", &end])?;
            ip(&["-n", server, "link", "set", &end, "up"])?;
            let address = format!("10.213.{number}.2/30");
            ip(&["-n", agent, "address", "add", &address, "dev", "server"])?;
            ip(&["-n", agent, "link", "set", "server", "up"])?;
        }
        Ok(namespaces)
    }

    fn line(&self, agent: usize, state: &str) {
        let end = format!("agent{agent}");
        ip(&["-n", &self.server, "link", "set", &end, state]).unwrap();
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in self.agents.iter().chain([&self.server]) {
            drop(ip(&["netns", "delete", namespace]));
        }
    }
}

fn server_address(agent: usize) -> String {
    format!("10.213.{agent}.1")
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| format!("ip cannot be run: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Passes connections on to the server, while it is whole.
pub(crate) struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    is_whole: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(Line::default());
        line.is_whole.store(true, Ordering::SeqCst);
        let of_thread = Arc::clone(&line);
        thread::spawn(move || {
            for agent in listener.incoming().map_while(Result::ok) {
                // A server that is away looks like a line that is cut.
                if let Ok(server) = TcpStream::connect(server) {
                    of_thread.join(&agent, &server).unwrap();
                }
            }
        });
        Self { address, line }
    }

    fn set(&self, is_whole: bool) {
        let mut connections = self.line.connections.lock().unwrap();
        self.line.is_whole.store(is_whole, Ordering::SeqCst);
        for connection in connections.drain(..) {
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

impl Line {
    fn join(&self, agent: &TcpStream, server: &TcpStream) -> io::Result<()> {
        let mut connections = self.connections.lock().unwrap();
        if !self.is_whole.load(Ordering::SeqCst) {
            return Ok(());
        }
        connections.extend([agent.try_clone()?, server.try_clone()?]);
        for (from, to) in [(agent, server), (server, agent)] {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            thread::spawn(move || {
                drop(io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Both));
                drop(from.shutdown(Shutdown::Both));
            });
        }
        Ok(())
    }
}
