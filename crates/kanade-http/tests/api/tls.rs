//! TLS, with certificates of an authority that the test is.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kanade_http::{AcceptLimits, Tls, TlsError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    log::Log,
    remote::Knock,
    server::{NEVER, Server},
    world::{DEADLINE, World},
};

/// An authority and a certificate of it.
struct Authority {
    root: String,
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let root_cert = root.self_signed(&root_key).unwrap();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        Self {
            root: root_cert.pem(),
            cert: leaf.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// Connects as one that trusts this authority only.
    async fn connect(&self, server: &Server, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        let stream = TcpStream::connect(server.address).await?;
        let connecting =
            TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream);
        timeout(DEADLINE, connecting).await.expect("an answer comes")
    }

    async fn is_shown_by(&self, server: &Server) -> bool {
        self.connect(server, "http/1.1").await.is_ok()
    }
}

/// Where a server finds its certificate.
struct Files(TempDir);

impl Files {
    fn with(authority: &Authority) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("cert.pem", &authority.cert);
        files.write("key.pem", &authority.key);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        // In one step: nothing in between is to be seen.
        let written = self.path("written");
        std::fs::write(&written, text).unwrap();
        std::fs::rename(written, self.path(name)).unwrap();
    }

    fn load(&self) -> Result<Tls, TlsError> {
        Tls::load(&self.path("cert.pem"), &self.path("key.pem"))
    }
}

async fn serve(world: &World, files: &Files, limits: AcceptLimits) -> Server {
    let tls = files.load().unwrap().look_every(Duration::from_millis(5));
    Server::over(world, limits, Some(tls)).await
}

#[tokio::test]
async fn a_request_over_https_is_answered() {
    let authority = Authority::new();
    let files = Files::with(&authority);
    let world = World::new().await;
    let server = serve(&world, &files, AcceptLimits::default()).await;
    let mut stream = authority.connect(&server, "http/1.1").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"),
        "{answer}"
    );
    let stream = authority.connect(&server, "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(
        !Authority::new().is_shown_by(&server).await,
        "it is not trusted by others"
    );
}

#[tokio::test]
async fn an_agent_comes_over_tls() {
    let authority = Authority::new();
    let files = Files::with(&authority);
    let world = World::new().await;
    let server = serve(&world, &files, AcceptLimits::default()).await;
    let stream = authority.connect(&server, "http/1.1").await.unwrap();
    let mut agent = Knock::new("pc-1").over(stream).await.unwrap();
    agent.subscribe("commands.all").await;
    kanade_ports::PubSub::publish(&*world.bus, &"commands.all".parse().unwrap(), "{}".into())
        .await
        .unwrap();
    assert_eq!(agent.told().await.1, "{}");
    let serving = server.stop();
    assert_eq!(agent.next().await.unwrap_err(), 1001);
    drop(agent);
    Server::stopped(serving).await;
}

#[tokio::test]
async fn plain_http_on_the_port_of_tls_is_closed_and_does_no_harm() {
    let authority = Authority::new();
    let files = Files::with(&authority);
    let world = World::new().await;
    let server = serve(&world, &files, AcceptLimits::default()).await;
    let mut plain = server.connect().await;
    plain.ask("GET", "/health").await;
    let mut answer = Vec::new();
    drop(
        timeout(DEADLINE, plain.0.read_to_end(&mut answer))
            .await
            .expect("it is closed"),
    );
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"));
    assert!(authority.is_shown_by(&server).await);
}

#[tokio::test]
async fn handshakes_that_are_never_finished_end_and_make_room() {
    let authority = Authority::new();
    let files = Files::with(&authority);
    let world = World::new().await;
    let limits = AcceptLimits {
        max_connections: 3,
        header_timeout: NEVER,
        drain: NEVER,
    };
    let server = serve(&world, &files, limits).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(server.connect().await);
    }
    let mut agent = authority.connect(&server, "http/1.1").await.unwrap();
    agent
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    timeout(DEADLINE, agent.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(silent[0].read_to_end().await, "");
    // Nor do they hold up a stop.
    drop(agent);
    Server::stopped(server.stop()).await;

    let impatient = AcceptLimits {
        header_timeout: Duration::from_millis(50),
        ..AcceptLimits::default()
    };
    let server = serve(&world, &files, impatient).await;
    assert_eq!(server.connect().await.read_to_end().await, "");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::with(&old);
    let world = World::new().await;
    let server = serve(&world, &files, AcceptLimits::default()).await;
    let mut before = old.connect(&server, "http/1.1").await.unwrap();
    files.write("cert.pem", &new.cert);
    files.write("key.pem", &new.key);
    world
        .until("the new one is shown", async || new.is_shown_by(&server).await)
        .await;
    assert!(!old.is_shown_by(&server).await);
    // Connections that stand are not touched.
    before
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    before.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn while_a_pair_is_half_written_the_old_one_stays() {
    let (log, _guard) = Log::capture();
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::with(&old);
    let world = World::new().await;
    let server = serve(&world, &files, AcceptLimits::default()).await;
    let warned = async |count: usize, what: &str| {
        world
            .until(what, async || {
                log.text().matches("the old one stays").count() == count
            })
            .await;
        assert!(old.is_shown_by(&server).await);
    };
    files.write("cert.pem", &new.cert);
    warned(1, "the mismatch is seen").await;
    assert!(log.text().contains("does not belong to"));
    files.write("key.pem", &new.key[..40]);
    warned(2, "half a key is seen").await;
    std::fs::remove_file(files.path("key.pem")).unwrap();
    warned(3, "the missing key is seen").await;
    files.write("key.pem", &new.key);
    world
        .until("the new one is shown", async || new.is_shown_by(&server).await)
        .await;
    assert!(log.text().contains("was read again"));
    assert_eq!(
        log.text().matches("the old one stays").count(),
        3,
        "each is said once"
    );
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let (one, other) = (Authority::new(), Authority::new());
    for (cert, key, told) in [
        (None, Some(&*one.key), ["cannot read", "cert.pem"]),
        (Some(&*one.cert), None, ["cannot read", "key.pem"]),
        (Some(""), Some(&*one.key), ["no certificate", "cert.pem"]),
        (Some(&*one.key), Some(&*one.key), ["no certificate", "cert.pem"]),
        (
            Some(&one.cert[..100]),
            Some(&*one.key),
            ["not valid PEM", "cert.pem"],
        ),
        (Some(&*one.cert), Some(""), ["no private key", "key.pem"]),
        (Some(&*one.cert), Some(&*one.cert), ["no private key", "key.pem"]),
        (
            Some(&*one.cert),
            Some(&one.key[..60]),
            ["not valid PEM", "key.pem"],
        ),
        (
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Some(&*one.key),
            ["cannot be read", "cert.pem"],
        ),
        (
            Some(&*one.cert),
            Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            ["no kind that is known", "key.pem"],
        ),
        (
            Some(&*one.cert),
            Some(&*other.key),
            ["does not belong to", "key.pem"],
        ),
    ] {
        let files = Files(tempfile::tempdir().unwrap());
        if let Some(cert) = cert {
            files.write("cert.pem", cert);
        }
        if let Some(key) = key {
            files.write("key.pem", key);
        }
        let error = files.load().unwrap_err().to_string();
        for word in told {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(!error.contains(&one.key[30..60]), "{error}");
    }
}
