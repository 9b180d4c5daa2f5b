//! TLS: a certificate and its key from files, which are read again when they change, so that a renewed certificate
//! needs no restart.

use std::{
    error::Error as _,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    InconsistentKeys, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// No certificate with its chain, and no key, is nearly as large.
const LARGEST_FILE: u64 = 1 << 20;

/// A certificate and its private key, as a server shows them (TLS 1.2 and 1.3; HTTP/2 and HTTP/1.1). Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    files: Arc<Files>,
    newest: Arc<Newest>,
    config: Arc<ServerConfig>,
    every: Duration,
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// Why a certificate and its key cannot be used. Names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is not there, or cannot be read.
    #[error("cannot read `{}`", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("`{}` cannot be used: {what}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The key is one of another certificate.
    #[error("the key in `{}` does not belong to the certificate in `{}`", key.display(), cert.display())]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

impl Tls {
    /// Reads a certificate (PEM, followed by the chain up to an authority's) and its private key (PEM, not encrypted).
    ///
    /// # Errors
    /// When a file is missing, has nothing of its kind in it, or the two do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files {
            cert: cert.to_owned(),
            key: key.to_owned(),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let shown = files.read()?.parsed(&files, &provider)?;
        let newest = Arc::new(Newest(RwLock::new(shown)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider speaks both")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&newest) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            files: Arc::new(files),
            newest,
            config: Arc::new(config),
            every: LOOK_EVERY,
        })
    }

    /// Looks `every` so often whether the files have changed; every 10 seconds if this is not said.
    #[must_use]
    pub fn look_every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Shows what is in the files from when they change. Never returns.
    pub(crate) async fn follow(self) {
        let mut seen = Seen::Pair(self.newest.digest());
        loop {
            tokio::time::sleep(self.every).await;
            let (files, provider) = (Arc::clone(&self.files), Arc::clone(self.config.crypto_provider()));
            let before = seen.clone();
            let looked = tokio::task::spawn_blocking(move || look(&files, &provider, &before)).await;
            // Only a runtime that stops does not let it finish.
            let Ok((now, found)) = looked else { return };
            match found {
                Found::Nothing => {}
                Found::New(shown) => {
                    tracing::info!(
                        file = %self.files.cert.display(),
                        sha256 = fingerprint(&shown.pair),
                        "the certificate was read again"
                    );
                    self.newest.show(shown);
                }
                Found::Unusable(error) => {
                    let cause = error.source().map(tracing::field::display);
                    tracing::warn!(%error, cause, "the certificate has changed and cannot be used; the old one stays");
                }
            }
            seen = now;
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("cert", &self.files.cert)
            .field("key", &self.files.key)
            .finish_non_exhaustive()
    }
}

/// What the files held when they were looked at last. What is wrong with them is said once.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    Pair([u8; 32]),
    Unreadable(String),
}

enum Found {
    Nothing,
    New(Shown),
    Unusable(TlsError),
}

fn look(files: &Files, provider: &CryptoProvider, before: &Seen) -> (Seen, Found) {
    let texts = match files.read() {
        Ok(texts) => texts,
        Err(error) => {
            let now = Seen::Unreadable(error.to_string());
            let found = if now == *before {
                Found::Nothing
            } else {
                Found::Unusable(error)
            };
            return (now, found);
        }
    };
    let now = Seen::Pair(texts.digest());
    if now == *before {
        return (now, Found::Nothing);
    }
    let found = match texts.parsed(files, provider) {
        Ok(shown) => Found::New(shown),
        Err(error) => Found::Unusable(error),
    };
    (now, found)
}

/// What the files hold.
struct Texts {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(&self) -> Result<Texts, TlsError> {
        Ok(Texts {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
        })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        file: file.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let opened = File::open(file).map_err(failed)?;
    opened
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(unusable(file, "it is larger than any certificate or key"));
    }
    Ok(text)
}

impl Texts {
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.cert.len() as u64).to_be_bytes());
        digest.update(&self.cert);
        digest.update(&self.key);
        digest.finalize().into()
    }

    fn parsed(&self, files: &Files, provider: &CryptoProvider) -> Result<Shown, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(&files.cert, format!("it is not valid PEM: {error}")))?;
        if chain.is_empty() {
            return Err(unusable(
                &files.cert,
                "there is no certificate in it (PEM text with `BEGIN CERTIFICATE`)",
            ));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            PemError::NoItemsFound => unusable(
                &files.key,
                "there is no private key in it (PEM text with `BEGIN PRIVATE KEY`, not encrypted)",
            ),
            // What is wrong is not said in detail: it might show a part of the key.
            _ => unusable(&files.key, "it is not valid PEM"),
        })?;
        let key = provider.key_provider.load_private_key(key).map_err(|error| {
            unusable(
                &files.key,
                format!("its key is of no kind that is known: {error}"),
            )
        })?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Shown {
                pair: Arc::new(pair),
                digest: self.digest(),
            }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                cert: files.cert.clone(),
                key: files.key.clone(),
            }),
            Err(error) => Err(unusable(
                &files.cert,
                format!("its certificate cannot be read: {error}"),
            )),
        }
    }
}

fn unusable(file: &Path, what: impl Into<String>) -> TlsError {
    TlsError::Unusable {
        file: file.to_owned(),
        what: what.into(),
    }
}

/// The SHA-256 of a certificate, as tools show it.
fn fingerprint(pair: &CertifiedKey) -> String {
    let certificate = pair.cert.first().map_or(&[][..], AsRef::as_ref);
    let bytes = Sha256::digest(certificate);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hands out the newest certificate to those who connect.
#[derive(Debug)]
struct Newest(RwLock<Shown>);

#[derive(Debug)]
struct Shown {
    pair: Arc<CertifiedKey>,
    /// Of the files it was read from.
    digest: [u8; 32],
}

impl Newest {
    fn show(&self, shown: Shown) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn digest(&self) -> [u8; 32] {
        self.0.read().unwrap_or_else(PoisonError::into_inner).digest
    }
}

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&shown.pair))
    }
}
