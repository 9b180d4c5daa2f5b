//! `cargo xtask dashboard`: checks and builds the web page in `crates/kanade-dashboard/ui`, for the server to embed.
//! Nothing is done where neither the sources nor what was built of them have changed.

mod licences;
mod lock;
mod node;
mod packed;
mod stamp;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::browser;
use crate::cargo::{self, cargo, root};
use crate::error::{Error, Result};

pub(crate) use node::Node;

/// Under this many bytes, packed by gzip, come over the line before the first view shows.
const FIRST_LOAD: u64 = 300_000;

/// The sources of the page.
pub(crate) fn ui() -> PathBuf {
    root().join("crates/kanade-dashboard/ui")
}

/// The command itself.
pub(crate) fn run(update_api: bool, audit: bool, pictures: bool) -> Result<ExitCode> {
    let node = Node::provide()?;
    install(&node)?;
    if update_api {
        refresh_api()?;
    }
    build(&node)?;
    if audit {
        lock::audit(&node)?;
    }
    if pictures {
        let mut build = cargo();
        build.args(["build", "--package", "kanade"]);
        let status = cargo::status(&mut build)?;
        cargo::succeeded(&build, status)?;
        let target = cargo::workspace()?.target_directory;
        browser::take_pictures(node, target.join("debug/kanade").as_std_path())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Sees that the page is built before something that serves it; without Node.js it says so and goes on, unless `needed`.
pub(crate) fn ensure(needed: bool) -> Result<Option<Node>> {
    match Node::provide() {
        Ok(node) => {
            install(&node)?;
            build(&node)?;
            Ok(Some(node))
        }
        Err(error) if !needed => {
            println!("the dashboard is not built: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What the page is made of, as the lock file has it.
fn install(node: &Node) -> Result<()> {
    let lock = lock::Lock::read()?;
    lock.check()?;
    if lock.is_installed() {
        return Ok(());
    }
    println!("dashboard: npm ci");
    node.npm(&[
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ])
}

fn build(node: &Node) -> Result<()> {
    let stamp = root().join("target/dashboard.stamp");
    let dist = ui().join("dist");
    if stamp::says(&stamp, &stamp::of_build()?) && dist.join("index.html").exists() {
        println!("dashboard: as it was built before");
        return Ok(());
    }
    for (what, arguments) in [
        ("types of the API", &["run", "--silent", "api"][..]),
        ("types", &["run", "--silent", "check"]),
        ("lint", &["run", "--silent", "lint"]),
        ("unit tests", &["run", "--silent", "test"]),
        ("build", &["run", "--silent", "build"]),
    ] {
        println!("dashboard: {what}");
        node.npm(arguments)?;
    }
    licences::write_list(&dist)?;
    packed::pack(node, &dist)?;
    let first = packed::first_load(&dist)?;
    println!(
        "dashboard: the first load is {} KB packed by gzip, {} KB by brotli, of {} KB at most",
        first.gzip / 1000,
        first.brotli / 1000,
        FIRST_LOAD / 1000
    );
    if first.gzip >= FIRST_LOAD {
        return Err(Error::Dashboard(format!(
            "the first load is {} bytes packed by gzip, and {FIRST_LOAD} are too many: load later what the first view \
             does not show",
            first.gzip
        )));
    }
    write(&stamp, &stamp::of_build()?)
}

/// Writes the description of the API anew, of which each build makes the types.
fn refresh_api() -> Result<()> {
    // With the features that the tests are built with, so that nothing is built for this alone.
    let mut build = cargo();
    build.args(["build", "--quiet", "--workspace", "--example", "openapi"]);
    let status = cargo::status(&mut build)?;
    cargo::succeeded(&build, status)?;
    let target = cargo::workspace()?.target_directory;
    let document = output(&mut Command::new(target.join("debug/examples/openapi")))?;
    write(&ui().join("openapi.json"), &document)
}

/// What a command prints.
fn output(command: &mut Command) -> Result<String> {
    let line = cargo::line(command);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|source| Error::Start {
            command: line,
            source,
        })?;
    cargo::succeeded(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text));
    written.map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &std::path::Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}
