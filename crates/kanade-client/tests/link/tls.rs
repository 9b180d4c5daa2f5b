//! Encrypted connections: who is believed to be the server.

use std::sync::Arc;

use kanade_client::{AgentLink, Client, LinkSettings, LinkState};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
};

use crate::server::{Server, error_of, quick, until};

/// An authority of one's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A server that proves to be `host`.
    async fn server(&self, host: &str) -> Server {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Server::with_tls(Some(TlsAcceptor::from(Arc::new(config)))).await
    }
}

fn settings(scheme: &str, host: &str, server: &Server, ca: Vec<u8>) -> LinkSettings {
    let mut settings = server.settings(quick());
    settings.server = format!("{scheme}://{host}:{}", server.port());
    settings.ca = Some(ca);
    settings
}

#[tokio::test]
async fn a_server_of_an_authority_that_is_trusted_is_connected_to() {
    let authority = Authority::new("ours");
    for scheme in ["https", "wss"] {
        let server = authority.server("localhost").await;
        let link = AgentLink::open(settings(scheme, "localhost", &server, authority.pem())).unwrap();
        let mut peer = server.accept().await;
        until(&link, |state| *state == LinkState::Connected).await;
        peer.nothing_came().await;
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let server = Authority::new("theirs").server("localhost").await;
    let link = AgentLink::open(settings(
        "https",
        "localhost",
        &server,
        Authority::new("ours").pem(),
    ))
    .unwrap();
    assert!(server.stream().await.is_err());
    let error = error_of(&link).await;
    assert!(error.contains("certificate") && error.contains("--ca"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_name_is_not_believed() {
    let authority = Authority::new("ours");
    let server = authority.server("kanade.example").await;
    let link = AgentLink::open(settings("https", "127.0.0.1", &server, authority.pem())).unwrap();
    assert!(server.stream().await.is_err());
    let error = error_of(&link).await;
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_client_trusts_the_same_authorities() {
    let authority = Authority::new("ours");
    let server = authority.server("localhost").await;
    let url = format!("https://localhost:{}", server.port());
    let client = Client::trusting(&url, None, &authority.pem()).unwrap();
    let pc = "web-1".parse().unwrap();
    let (answered, _) = tokio::join!(client.agent(&pc), server.refuse(404, "no such agent"));
    assert_eq!(answered.unwrap_err().to_string(), "no such agent");
    let client = Client::trusting(&url, None, &Authority::new("others").pem()).unwrap();
    let (answered, accepted) = tokio::join!(client.agent(&pc), server.stream());
    assert!(answered.unwrap_err().is_connection());
    assert!(accepted.is_err());
}
