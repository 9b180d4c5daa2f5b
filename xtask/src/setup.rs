//! What tests need of the machine beyond a Rust toolchain: installs it where it can (as root, on Debian), and otherwise
//! says what is missing. A test that cannot do without it fails where `KANADE_TEST_REQUIRE` names it.

use std::path::Path;
use std::process::{Command, Stdio};

/// Something of the machine that tests use.
struct Tool {
    /// Its name in `KANADE_TEST_REQUIRE`.
    name: &'static str,
    /// A command that succeeds when it is there.
    probe: &'static [&'static str],
    /// Debian's package.
    package: &'static str,
    /// What is tested without it.
    otherwise: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: "netns",
        probe: &["ip", "-V"],
        package: "iproute2",
        otherwise: "agents on networks of their own are tested over loopback instead",
    },
    Tool {
        name: "browser",
        probe: &["chromium", "--version"],
        package: "chromium",
        otherwise: "the web page is not tested in a browser",
    },
];

/// Whether the tool of this name is there.
pub(crate) fn has(name: &str) -> bool {
    TOOLS.iter().any(|tool| tool.name == name && works(tool.probe))
}

/// Sees that every tool is there.
pub(crate) fn run() {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !works(tool.probe)).collect();
    if missing.is_empty() {
        return;
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    install(&packages);
    for tool in missing.iter().filter(|tool| !works(tool.probe)) {
        println!(
            "missing: {} (Debian: apt-get install {}); {}",
            tool.name, tool.package, tool.otherwise
        );
    }
}

/// Installs Debian's packages where that can be done.
pub(crate) fn install(packages: &[&str]) {
    if is_root() && Path::new("/etc/debian_version").exists() {
        println!("installing {}", packages.join(", "));
        // A package list may be old or not there at all.
        works(&["apt-get", "-qq", "update"]);
        let install = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends"];
        works(&[&install[..], packages].concat());
    }
}

fn works(command: &[&str]) -> bool {
    Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of this process's own folder in /proc, without a dependency for one number.
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}
