//! What makes a machine an agent: tokens, certificates, the installation.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::double::kanade;

async fn run(arguments: &[&str], input: &str) -> std::process::Output {
    let mut child = kanade(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing may be gone already.
    drop(stdin.write_all(input.as_bytes()).await);
    drop(stdin);
    child.wait_with_output().await.unwrap()
}

async fn ok(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

async fn fails(code: i32, arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_new_token_comes_with_the_entry_that_lets_it_in() {
    let made = ok(&["token", "new", "--name", "web \"1\"", "--pc-ids", "web-*"], "").await;
    let (token, rest) = made.split_once('\n').unwrap();
    assert_eq!((token.len(), token.get(..4)), (68, Some("kna_")));
    let entry = rest.lines().last().unwrap();
    let parsed: toml::Value = toml::from_str(entry).unwrap_or_else(|error| panic!("{entry}: {error}"));
    let entry = &parsed["agent_tokens"][0];
    assert_eq!(entry["name"].as_str(), Some("web \"1\""));
    assert_eq!(entry["pc_ids"].as_str(), Some("web-*"));
    let hash = ok(&["token", "hash"], &format!("{token}\n")).await;
    assert_eq!(entry["hash"].as_str(), Some(hash.trim()), "it is the token's");
    assert!(!rest.contains(token), "the server never sees the token");

    let json = ok(&["-o", "json", "token", "new"], "").await;
    let other: Value = serde_json::from_str(&json).unwrap();
    assert_ne!(other["token"], token, "each is another one");
    assert!(other["hash"].as_str().unwrap().starts_with("sha256:"));
}

#[tokio::test]
async fn a_token_that_can_be_guessed_has_no_hash() {
    for weak in ["", "\n", "secret", "a sentence that is long enough but no word"] {
        let told = fails(2, &["token", "hash"], weak).await;
        assert!(told.contains("kanade token new"), "{told}");
    }
}

#[tokio::test]
async fn certificates_are_made_once_and_renewed_under_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tls");
    let make = [
        "tls",
        "new",
        "--host",
        "fleet.example",
        "--host",
        "192.0.2.7",
        "--out",
        text(&out),
    ];
    let told = ok(&make, "").await;
    assert!(told.contains("server.pem") && told.contains("--ca"), "{told}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let (ca, first) = (read("ca.pem"), read("server.pem"));
    assert!(first.ends_with(&ca), "the chain is whole");
    let told = fails(1, &make, "").await;
    assert!(told.contains("--renew"), "{told}");
    assert_eq!(read("server.pem"), first, "it was not touched");
    ok(&[&make[..], &["--renew"]].concat(), "").await;
    assert_eq!(read("ca.pem"), ca, "agents need no other authority");
    assert_ne!(read("server.pem"), first);
    #[cfg(unix)]
    for (name, mode) in [("server.key", 0o600), ("ca.key", 0o600), ("server.pem", 0o644)] {
        use std::os::unix::fs::PermissionsExt;
        let found = std::fs::metadata(out.join(name)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{name}");
    }
    let told = fails(
        1,
        &[
            "tls",
            "new",
            "--host",
            "no name\u{e9}",
            "--out",
            text(folder.path()),
        ],
        "",
    )
    .await;
    assert!(told.contains("fleet.example"), "{told}");
}

#[tokio::test]
async fn an_installation_writes_what_the_agent_needs_and_replaces_nothing_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("image");
    let token = folder.path().join("agent.token");
    std::fs::write(&token, "kna_0123456789abcdef0123456789\n").unwrap();
    ok(
        &[
            "tls",
            "new",
            "--host",
            "fleet.example",
            "--out",
            text(folder.path()),
        ],
        "",
    )
    .await;
    let ca = folder.path().join("ca.pem");
    let install = |server: &'static str| {
        let (root, token, ca) = (
            text(&root).to_owned(),
            text(&token).to_owned(),
            text(&ca).to_owned(),
        );
        [
            "agent",
            "install",
            "--server",
            server,
            "--token-file",
            &token,
            "--ca",
            &ca,
            "--id",
            "web-1",
            "--root",
            &root,
        ]
        .map(ToOwned::to_owned)
    };
    let run = async |server: &'static str, more: &[&str]| {
        let arguments = install(server);
        let arguments: Vec<&str> = arguments
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        run(&arguments, "").await
    };
    let told = run("https://fleet.example:8443", &[]).await;
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(String::from_utf8_lossy(&told.stdout).contains("systemctl enable --now kanade-agent"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let unit = read("etc/systemd/system/kanade-agent.service");
    let program = env!("CARGO_BIN_EXE_kanade");
    assert!(
        unit.contains(&format!(
            "ExecStart={program} agent --config /etc/kanade/agent.toml"
        )),
        "{unit}"
    );
    let config: toml::Value = toml::from_str(&read("etc/kanade/agent.toml")).unwrap();
    assert_eq!(
        config["agent"]["server"].as_str(),
        Some("https://fleet.example:8443")
    );
    assert_eq!(config["agent"]["id"].as_str(), Some("web-1"));
    assert_eq!(
        read("etc/kanade/agent-ca.pem"),
        std::fs::read_to_string(&ca).unwrap()
    );
    assert_eq!(read("etc/kanade/agent.token"), "kna_0123456789abcdef0123456789\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(root.join("etc/kanade/agent.token"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // The same again is fine; something else wants to be asked for.
    assert!(run("https://fleet.example:8443", &[]).await.status.success());
    let told = run("https://other.example:8443", &[]).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains("--force"));
    assert!(
        read("etc/kanade/agent.toml").contains("fleet.example"),
        "nothing was written"
    );
    assert!(
        run("https://other.example:8443", &["--force"])
            .await
            .status
            .success()
    );
    assert!(read("etc/kanade/agent.toml").contains("other.example"));
    // What the agent would refuse to do is told before anything is written.
    let told = run("http://fleet.example:8080", &["--force"]).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains("--allow-plaintext"));
}
