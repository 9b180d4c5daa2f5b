//! `kanade tls`: certificates for a server in a network that has no authority of its own.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::{
    failure::{Done, Failure},
    output::Output,
};

const CA_DAYS: i64 = 3650;
/// What browsers accept at most.
const SERVER_DAYS: i64 = 397;

/// Make certificates for a server
#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    New(New),
}

/// Make a certificate for a server, and the authority that agents and the command line trust with --ca
///
/// Writes server.pem and server.key for the server (`server.tls` in its configuration), ca.pem for everybody, and ca.key,
/// which only the next call of this command in the same folder needs: it then issues another server.pem, and ca.pem stays
/// as it is. A running server takes up the new one by itself.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kanade tls new --host fleet.example --host 192.0.2.7 --out /etc/kanade/tls\n  \
                  kanade tls new --host fleet.example --out /etc/kanade/tls --renew"
)]
pub(crate) struct New {
    /// A name or an address under which the server is reached; may be given several times
    #[arg(long = "host", value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// The folder for the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Replace a server.pem that is there
    #[arg(long)]
    renew: bool,
}

#[derive(Serialize)]
struct Made {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    valid_days: i64,
}

pub(super) fn run(command: &TlsCommand, out: &Output) -> Done {
    let TlsCommand::New(new) = command;
    let made = new
        .make()
        .map_err(|error| Failure::Failed(format!("{error:#}")))?;
    out.show(&made, |made| {
        format!(
            "for the server's configuration, in [server]:\n\ntls = {{ cert = \"{}\", key = \"{}\" }}\n\n\
             agents and the command line take --ca {}; it is valid for {} days, then call this again with --renew",
            made.cert.display(),
            made.key.display(),
            made.ca.display(),
            made.valid_days
        )
    })
}

impl New {
    fn make(&self) -> Result<Made> {
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        let folder = std::path::absolute(&self.out).context("cannot tell where the folder is")?;
        let file = |name: &str| folder.join(name);
        let made = Made {
            cert: file("server.pem"),
            key: file("server.key"),
            ca: file("ca.pem"),
            valid_days: SERVER_DAYS,
        };
        anyhow::ensure!(
            self.renew || !made.cert.exists(),
            "{} is there already; --renew replaces it",
            made.cert.display()
        );
        let (issuer, ca) = authority(&made.ca, &file("ca.key"))?;
        let key = KeyPair::generate().context("cannot make a key")?;
        let mut server = valid_for(CertificateParams::new(self.hosts.clone()), SERVER_DAYS)?;
        server
            .distinguished_name
            .push(DnType::CommonName, "kanade server");
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let cert = server
            .signed_by(&key, &issuer)
            .context("cannot issue the certificate")?;
        // The key first: a server that looks between the two keeps its old pair until they fit.
        write(&made.key, &key.serialize_pem(), Secrecy::Secret)?;
        write(&made.cert, &format!("{}{ca}", cert.pem()), Secrecy::Public)?;
        Ok(made)
    }
}

/// The authority of a folder, made when there is none.
fn authority(cert: &Path, key: &Path) -> Result<(Issuer<'static, KeyPair>, String)> {
    if cert.exists() || key.exists() {
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (ca, pair) = (read(cert)?, read(key)?);
        let pair = KeyPair::from_pem(&pair).with_context(|| format!("{} holds no key", key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&ca, pair)
            .with_context(|| format!("{} holds no certificate of an authority", cert.display()))?;
        return Ok((issuer, ca));
    }
    let pair = KeyPair::generate().context("cannot make a key")?;
    let mut params = valid_for(CertificateParams::new(Vec::new()), CA_DAYS)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "kanade authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = params
        .self_signed(&pair)
        .context("cannot make the authority")?
        .pem();
    write(key, &pair.serialize_pem(), Secrecy::Secret)?;
    write(cert, &ca, Secrecy::Public)?;
    Ok((Issuer::new(params, pair), ca))
}

fn valid_for(params: Result<CertificateParams, rcgen::Error>, days: i64) -> Result<CertificateParams> {
    let mut params = params.context("a host is a name such as fleet.example, or an address")?;
    let now = OffsetDateTime::now_utc();
    // Clocks of agents may be behind.
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(days);
    Ok(params)
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Secrecy {
    Secret,
    Public,
}

/// Writes a file so that nobody ever reads half of it, and nobody else a secret.
pub(super) fn write(path: &Path, text: &str, secrecy: Secrecy) -> Result<()> {
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(
            &mut options,
            if secrecy == Secrecy::Secret { 0o600 } else { 0o644 },
        );
        let mut file = options.open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&draft));
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}
