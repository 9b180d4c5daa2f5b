//! Releases of the agent: `kanade agent releases`, `publish`, `rollout`; and how the fleet is: `kanade health`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kanade_model::{
    GroupName, HumanDuration, PcId, Version,
    api::{self, FleetStatus, RolloutScope},
};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use super::{
    Context,
    failure::{Done, Failure},
    output::{Output, ago},
    table::{Cell, Tone},
    when,
};

/// How much of a program is read at once, in bytes.
const PIECE: usize = 128 << 10;

/// List the programs that agents can update to
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kanade agent releases\n  kanade agent releases delete 0.30.0")]
pub(crate) struct Releases {
    #[command(subcommand)]
    command: Option<ReleasesCommand>,
}

#[derive(Debug, Subcommand)]
enum ReleasesCommand {
    /// Delete a program that no agent is to update to
    #[command(after_help = "Example:\n  kanade agent releases delete 0.30.0")]
    Delete {
        /// The version
        #[arg(value_name = "VERSION")]
        release: Version,
    },
}

/// Publish a program that agents can update to
///
/// Nothing is updated before it is rolled out.
#[derive(Debug, Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:\n  kanade agent publish target/release/kanade --version 0.31.0\n  \
                  kanade agent publish kanade.exe"
)]
pub(crate) struct Publish {
    /// The program
    file: PathBuf,
    /// Its version; a Windows program tells it itself
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
}

/// Tell agents to update to a published program
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kanade agent rollout 0.31.0 --group canary\n  \
                        kanade agent rollout 0.31.0 --global --jitter 30m")]
pub(crate) struct Rollout {
    /// The version
    #[arg(value_name = "VERSION")]
    release: Version,
    #[command(flatten)]
    scope: ScopeArguments,
    /// The agents spread the update over this time; what is set for them already when not given
    #[arg(long, value_name = "DURATION")]
    jitter: Option<HumanDuration>,
}

/// Which agents.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ScopeArguments {
    /// All agents
    #[arg(long)]
    global: bool,
    /// The members of a group
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// One agent
    #[arg(long, value_name = "PC")]
    pc: Option<PcId>,
}

impl From<ScopeArguments> for RolloutScope {
    fn from(ScopeArguments { group, pc, .. }: ScopeArguments) -> Self {
        match (group, pc) {
            (Some(group), _) => Self::Group(group),
            (None, Some(pc)) => Self::Pc(pc),
            (None, None) => Self::Global,
        }
    }
}

/// Show how the fleet is
///
/// Ends with exit code 1 when it is degraded.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanade health")]
pub(crate) struct Health;

pub(super) async fn releases(releases: Releases, context: &Context) -> Done {
    let Context { client, out } = context;
    match releases.command {
        Some(ReleasesCommand::Delete { release }) => {
            client.delete_release(&release).await?;
            out.say(&format!("release {release} is deleted"))
        }
        None => {
            let releases = client.releases().await?;
            if releases.is_empty() && !out.is_json() {
                out.note("nothing to show");
                return Ok(());
            }
            out.show(&releases, |releases| table(releases, out))
        }
    }
}

pub(super) async fn publish(publish: Publish, context: &Context) -> Done {
    let Context { client, out } = context;
    let Publish { file: path, version } = publish;
    let unreadable =
        |error: std::io::Error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let file = File::open(&path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::Usage(format!("{} is not a file", path.display())));
    }
    let size = metadata.len();
    let bar = progress(size, out);
    let sent = bar.clone();
    let program = ReaderStream::with_capacity(file, PIECE).inspect_ok(move |piece| {
        sent.inc(piece.len() as u64);
        if sent.position() == size {
            sent.set_message("the server is storing it");
        }
    });
    let published = client.publish(program, size, version.as_ref()).await;
    bar.finish_and_clear();
    let published = published?;
    out.show(&published, |published| {
        let api::Published {
            version,
            size,
            digest,
        } = published;
        format!(
            "release {version} is published ({}, {digest})\nagents update to it after, for example, \
             `kanade agent rollout {version} --group canary`",
            HumanBytes(*size)
        )
    })
}

pub(super) async fn rollout(rollout: Rollout, context: &Context) -> Done {
    let request = api::RolloutRequest {
        version: rollout.release,
        scope: rollout.scope.into(),
        jitter: rollout.jitter,
    };
    let set = context.client.rollout(&request).await?;
    context.out.show(&set, |set| {
        let who = match &request.scope {
            RolloutScope::Global => "all agents update".to_owned(),
            RolloutScope::Group(group) => format!("the agents of group {group} update"),
            RolloutScope::Pc(pc) => format!("agent {pc} updates"),
        };
        let within = set
            .jitter
            .map(|jitter| format!(", within {jitter}"))
            .unwrap_or_default();
        format!("{who} to {}{within}", set.version)
    })
}

pub(super) async fn health(context: &Context) -> Done {
    let Context { client, out } = context;
    let health = client.fleet_health().await?;
    out.show(&health, |health| out.fields(&lines(health)))?;
    match health.status {
        FleetStatus::Ok | FleetStatus::Unknown => Ok(()),
        FleetStatus::Degraded => Err(Failure::Unsuccessful),
    }
}

fn table(releases: &[api::Release], out: &Output) -> String {
    let now = when::now();
    let row = |release: &api::Release| {
        vec![
            (&release.version).into(),
            HumanBytes(release.size).to_string().into(),
            ago(release.modified, now),
            release.digest.as_str().into(),
        ]
    };
    out.table(
        &["VERSION", "SIZE", "PUBLISHED", "DIGEST"],
        releases.iter().map(row).collect(),
    )
}

/// Shows on stderr how much has been sent; nothing where stderr is not a terminal.
fn progress(size: u64, out: &Output) -> ProgressBar {
    let bar = if out.has_colors_stderr() {
        "{bar:30.cyan/blue}"
    } else {
        "{bar:30}"
    };
    let template = format!("{{spinner}} {bar} {{bytes}}/{{total_bytes}}  {{wide_msg}}  {{elapsed}}");
    let style = ProgressStyle::with_template(&template).expect("the template is one of ours");
    ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr())
        .with_style(style.progress_chars("=> "))
}

fn lines(health: &api::FleetHealth) -> Vec<(&'static str, Cell)> {
    let status = match health.status {
        FleetStatus::Ok => Cell::toned("ok", Tone::Good),
        FleetStatus::Unknown => Cell::from("unknown: no agent has shown life yet".to_owned()),
        FleetStatus::Degraded => Cell::toned("degraded", Tone::Bad),
    };
    let (agents, broker, recent) = (&health.agents, &health.jetstream, &health.recent_results);
    let missing = broker.missing.join(", ");
    let broker = match (&broker.error, broker.total) {
        (Some(error), _) => Cell::toned(error, Tone::Bad),
        (None, 0) => Cell::maybe(None::<String>),
        (None, total) if broker.all_ok => Cell::toned(format!("all of {total} are there"), Tone::Good),
        (None, total) => Cell::toned(
            format!("{} of {total}; missing: {missing}", broker.healthy),
            Tone::Bad,
        ),
    };
    let runs = format!(
        "{} in {}h, {} of them failed",
        recent.total, recent.window_hours, recent.failed
    );
    vec![
        ("status", status),
        (
            "agents",
            format!("{} active, {} stale", agents.active, agents.stale).into(),
        ),
        ("broker", broker),
        ("runs", runs.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_well_is_told_first_and_in_words() {
        let health = |broker: serde_json::Value, status: &str| -> Vec<String> {
            let health = json!({
                "status": status, "agents": { "known": 3, "active": 2, "stale": 1 }, "jetstream": broker,
                "recent_results": { "window_hours": 24, "total": 7, "failed": 1 },
                "observed_at": "2026-05-01T08:00:00Z"
            });
            let lines = lines(&serde_json::from_value(health).unwrap());
            lines.into_iter().map(|(_, cell)| cell.text).collect()
        };
        let none = json!({ "all_ok": true, "healthy": 0, "total": 0, "missing": [] });
        assert_eq!(
            health(none, "ok"),
            ["ok", "2 active, 1 stale", "-", "7 in 24h, 1 of them failed"]
        );
        let lacks = json!({ "all_ok": false, "healthy": 11, "total": 13, "missing": ["jobs", "EXEC"] });
        assert_eq!(health(lacks, "degraded")[2], "11 of 13; missing: jobs, EXEC");
        let silent =
            json!({ "all_ok": false, "healthy": 0, "total": 0, "missing": [], "error": "it is silent" });
        assert_eq!(health(silent, "degraded")[2], "it is silent");
    }
}
