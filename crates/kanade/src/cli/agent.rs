//! `kanade agent` and `kanade ping`.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use kanade_model::{HumanDuration, PcId, Timestamp, api};

use super::{
    Context, Global,
    failure::Done,
    install::Install,
    output::{Paging, ago},
    releases::{self, Publish, Releases, Rollout},
    table::{Cell, Tone},
    when,
};

/// An agent without a sign of life for longer than this is taken to be away.
const ALIVE_WITHIN: Duration = Duration::from_secs(120);

/// Questions about agents, and what makes this machine one.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// List agents
    #[command(after_help = "Example:\n  kanade agent list --all")]
    List(Paging),
    /// Show an agent
    #[command(after_help = "Example:\n  kanade agent show web-1")]
    Show {
        /// The agent
        pc: PcId,
    },
    /// Print the end of an agent's log
    #[command(after_help = "Example:\n  kanade agent logs web-1 --tail 50")]
    Logs {
        /// The agent
        pc: PcId,
        /// How many lines
        #[arg(long, value_name = "LINES", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        tail: u32,
    },
    Releases(Releases),
    Publish(Publish),
    Rollout(Rollout),
    Install(Install),
}

/// Wait for a sign of life of an agent
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanade ping web-1 --wait 10s")]
pub(crate) struct Ping {
    /// The agent
    pc: PcId,
    /// Wait no longer than this, 5 minutes at most
    #[arg(long, value_name = "DURATION", default_value = "45s")]
    wait: HumanDuration,
}

pub(super) async fn run(command: AgentCommand, global: &Global, context: &Context) -> Done {
    let Context { client, out } = context;
    match command {
        AgentCommand::Install(install) => install.run(global, out),
        AgentCommand::Releases(command) => releases::releases(command, context).await,
        AgentCommand::Publish(publish) => releases::publish(publish, context).await,
        AgentCommand::Rollout(rollout) => releases::rollout(rollout, context).await,
        AgentCommand::List(paging) => out.list(client.agents(), &paging, &HEADS, row).await,
        AgentCommand::Show { pc } => {
            let agent = client.agent(&pc).await?;
            let groups = client.groups(&pc).await?;
            out.show(&agent, |agent| out.fields(&lines(agent, &groups, when::now())))
        }
        AgentCommand::Logs { pc, tail } => {
            let text = client.logs(&pc, tail).await?;
            if out.is_json() {
                out.json(&text)
            } else {
                out.raw(text.as_bytes())
            }
        }
    }
}

pub(super) async fn ping(ping: Ping, context: &Context) -> Done {
    let Context { client, out } = context;
    let asked = Instant::now();
    // The server counts whole seconds, one at least.
    let wait = Duration::from_secs(ping.wait.as_secs_ceil().max(1));
    let answer = client.ping(&ping.pc, wait).await?;
    let took = asked.elapsed();
    out.show(&answer, |answer| {
        let heartbeat = &answer.heartbeat;
        let host = heartbeat
            .hostname
            .as_deref()
            .map(|host| format!(" on {host}"))
            .unwrap_or_default();
        let system = heartbeat
            .os_family
            .as_deref()
            .map(|system| format!(" ({system})"))
            .unwrap_or_default();
        format!(
            "{} is alive: agent {}{host}{system}, answered within {}",
            heartbeat.pc_id,
            heartbeat.agent_version,
            when::span(took)
        )
    })
}

const HEADS: [&str; 5] = ["PC", "HOST", "SYSTEM", "VERSION", "LAST SIGN OF LIFE"];

fn row(agent: &api::Agent, now: Timestamp) -> Vec<Cell> {
    vec![
        (&agent.pc_id).into(),
        Cell::maybe(agent.hostname.as_ref()),
        Cell::maybe(agent.os_family.as_ref()),
        Cell::maybe(agent.agent_version.as_ref()),
        Cell {
            tone: life(agent.last_heartbeat, now),
            ..ago(agent.last_heartbeat, now)
        },
    ]
}

fn life(last: Timestamp, now: Timestamp) -> Tone {
    if now.since(last) <= ALIVE_WITHIN {
        Tone::Good
    } else {
        Tone::Bad
    }
}

fn lines(agent: &api::Agent, groups: &api::Groups, now: Timestamp) -> Vec<(&'static str, Cell)> {
    let last = format!(
        "{} ({})",
        agent.last_heartbeat,
        when::relative(agent.last_heartbeat, now)
    );
    let groups: Vec<&str> = groups.groups.iter().map(AsRef::as_ref).collect();
    vec![
        ("pc", (&agent.pc_id).into()),
        ("host", Cell::maybe(agent.hostname.as_ref())),
        ("system", Cell::maybe(agent.os_family.as_ref())),
        ("version", Cell::maybe(agent.agent_version.as_ref())),
        (
            "groups",
            Cell::maybe((!groups.is_empty()).then(|| groups.join(", "))),
        ),
        (
            "last sign of life",
            Cell::toned(last, life(agent.last_heartbeat, now)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_is_away_after_two_minutes() {
        let agent: api::Agent = serde_json::from_value(json!({
            "pc_id": "pc-1", "hostname": "desk", "os_family": null, "agent_version": "0.30.0",
            "last_heartbeat": "2026-05-01T08:30:00Z", "updated_at": "2026-05-01T08:30:00Z"
        }))
        .unwrap();
        for (now, text, tone) in [
            ("2026-05-01T08:32:00Z", "2m ago", Tone::Good),
            ("2026-05-01T08:32:01Z", "2m ago", Tone::Bad),
        ] {
            let row = row(&agent, now.parse().unwrap());
            assert_eq!(
                (row[4].text.as_str(), row[4].tone, row.len()),
                (text, tone, HEADS.len())
            );
            assert_eq!(row[2].text, "-");
        }
    }
}
