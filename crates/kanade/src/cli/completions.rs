//! `kanade completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{failure::Done, output::Output};

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kanade completions bash > /etc/bash_completion.d/kanade\n  \
                        kanade completions zsh > \"${fpath[1]}/_kanade\""
)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

pub(super) fn run(completions: &Completions, out: &Output) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(
        completions.shell,
        &mut crate::Arguments::command(),
        "kanade",
        &mut script,
    );
    out.raw(&script)
}
