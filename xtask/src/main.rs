//! The developer's commands of this workspace, run as `cargo xtask COMMAND`: each one sets up what it needs
//! by itself, so that a fresh clone and a Rust toolchain are enough.

mod bench;
mod browser;
mod cargo;
mod conformance;
mod dashboard;
mod demo;
mod error;
mod layers;
mod nats;
mod setup;
mod tally;
mod test;

use std::error::Error as _;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                        build kanade and serve the demo, everything embedded
  cargo xtask demo -- --data ./demo-data  keep the demo's data in a folder
  cargo xtask dashboard                   check and build the web page
  cargo xtask test                        run every test of the workspace
  cargo xtask test --filter kill          run the tests with `kill` in their name
  cargo xtask bench ingest                measure how fast results get from NATS into the store
  cargo xtask check-layers                see that dependencies point down only";

/// Commands for working on kanade.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build kanade (release) and run `kanade demo`; the exit code is kanade's.
    Demo {
        /// Arguments for `kanade demo`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Check and build the web page that the server serves, unless it is as it was built before.
    Dashboard {
        /// First write the description of the API anew, and the types that are made of it.
        #[arg(long)]
        update_api: bool,
        /// Ask the registry whether a package is known to be unsafe.
        #[arg(long)]
        audit: bool,
        /// Take the pictures of the guide anew, which is what the tests in a browser do on their way.
        #[arg(long)]
        pictures: bool,
    },
    /// Check the layers, run all tests and doc tests, compare the conformance cases of the backends.
    Test {
        /// Run only the tests whose name contains this text.
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
    },
    /// Run the benchmarks (release) and print what they measure.
    Bench {
        /// Only this one.
        #[arg(value_enum)]
        only: Option<bench::Bench>,
    },
    /// Check that the dependencies among the crates point down only and that no driver leaks.
    CheckLayers,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo { args } => demo::run(&args),
        Command::Dashboard {
            update_api,
            audit,
            pictures,
        } => dashboard::run(update_api, audit, pictures),
        Command::Test { filter } => test::run(filter.as_deref()),
        Command::Bench { only } => bench::run(only),
        Command::CheckLayers => layers::run(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn report(error: &Error) {
    eprint!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprint!(": {cause}");
        source = cause.source();
    }
    eprintln!();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn demo_passes_its_arguments_on_with_and_without_a_separator() {
        for line in [
            &["xtask", "demo", "--", "--data", "d"][..],
            &["xtask", "demo", "--data", "d"][..],
        ] {
            let Command::Demo { args } = Cli::try_parse_from(line).unwrap().command else {
                panic!("not the demo: {line:?}");
            };
            assert_eq!(args, ["--data", "d"]);
        }
    }
}
