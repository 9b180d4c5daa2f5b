//! `kanade run`: one script, once, on one agent.

use std::{io::Write, path::PathBuf};

use clap::{Args, ValueEnum};
use kanade_client::{Client, Error};
use kanade_model::{HumanDuration, PcId, RunState, api};

use super::{
    Context, OnPc,
    failure::{Done, Failure},
    files,
};

/// Run a script once on one agent
///
/// Prints what the script prints, on stdout and stderr. Exit code 0 if the script's was 0, else 1; the script's own is
/// told on stderr.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kanade run --pc web-1 -- uptime\n  kanade run --pc web-1 --timeout 5m -f check.sh\n  \
                        kanade run --pc desk-7 --shell powershell -- Get-Process"
)]
pub(crate) struct Run {
    #[command(flatten)]
    on: OnPc,
    /// The interpreter; without it powershell on Windows, sh elsewhere
    #[arg(long, value_enum, value_name = "SHELL")]
    shell: Option<Shell>,
    /// End it after this time
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: HumanDuration,
    /// Read the script from a file, or from standard input with -
    #[arg(short = 'f', long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The script
    #[arg(
        last = true,
        value_name = "SCRIPT",
        required_unless_present = "file",
        conflicts_with = "file"
    )]
    script: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Sh,
    Bash,
    Powershell,
    Cmd,
}

impl Shell {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Bash => "bash",
            Self::Powershell => "powershell",
            Self::Cmd => "cmd",
        }
    }
}

pub(super) async fn run(run: Run, context: &Context) -> Done {
    let Context { client, out } = context;
    let script = match &run.file {
        Some(path) => files::text(path)?,
        None => run.script.join(" "),
    };
    let shell = match run.shell {
        Some(shell) => Some(shell),
        None => usual_shell(client, &run.on.pc).await?,
    };
    let request = api::RunRequest {
        pc_id: run.on.pc,
        script,
        shell: shell.map(|shell| shell.as_str().to_owned()),
        timeout_secs: Some(run.timeout.as_secs_ceil()),
        exec_id: None,
        jitter_secs: None,
    };
    let result = client.run(&request).await?;
    if out.is_json() {
        out.json(&result)?;
    } else {
        out.raw(result.stdout.as_bytes())?;
        std::io::stderr().write_all(result.stderr.as_bytes())?;
    }
    match result.state() {
        RunState::Succeeded => Ok(()),
        state => {
            let state = state.as_str().replace('_', " ");
            Err(Failure::Failed(format!(
                "the script {state} on {}, exit code {}",
                result.pc_id, result.exit_code
            )))
        }
    }
}

/// The shell that an agent's system comes with, as far as the agent has said what it is.
async fn usual_shell(client: &Client, pc: &PcId) -> Result<Option<Shell>, Error> {
    let agent = match client.agent(pc).await {
        Ok(agent) => agent,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(match agent.os_family.as_deref() {
        Some("windows") => Some(Shell::Powershell),
        Some(_) => Some(Shell::Sh),
        None => None,
    })
}
