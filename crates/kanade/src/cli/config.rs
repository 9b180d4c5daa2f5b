//! `kanade config`: the configuration of agents, by scope.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand, ValueEnum};
use kanade_client::{Precondition, Scope};
use kanade_model::{ConfigScope, GroupName, Invalid, PcId, api};

use super::{
    Context,
    failure::{Done, Failure},
    table::Cell,
};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show what is set for all agents, a group or an agent
    #[command(after_help = "Examples:\n  kanade config get\n  kanade config get --group canary")]
    Get(Of),
    /// Set values for all agents, a group or an agent
    ///
    /// Keys: target_version, target_version_jitter, heartbeat_interval.
    #[command(after_help = "Examples:\n  kanade config set heartbeat_interval=1m\n  \
                            kanade config set --group canary target_version=0.31.0 target_version_jitter=10m")]
    Set {
        #[command(flatten)]
        of: Of,
        /// What to set
        #[arg(required = true, value_name = "KEY=VALUE")]
        values: Vec<Setting>,
    },
    /// Remove values for all agents, a group or an agent
    #[command(
        after_help = "Examples:\n  kanade config unset --group canary target_version\n  \
                            kanade config unset --pc web-1"
    )]
    Unset {
        #[command(flatten)]
        of: Of,
        /// What to remove; everything when nothing is named
        #[arg(value_name = "KEY")]
        keys: Vec<Key>,
    },
    /// Show what holds for an agent once all is laid over each other
    #[command(after_help = "Example:\n  kanade config effective web-1")]
    Effective {
        /// The agent
        pc: PcId,
    },
    /// Show the configuration a server would start with, without its secrets
    ///
    /// Reads the file and the environment of this machine; no server is asked.
    #[command(after_help = "Example:\n  kanade config show --config config/single-node.toml")]
    Show {
        /// The configuration; defaults without it
        #[arg(long, value_name = "FILE", env = "KANADE_CONFIG")]
        config: Option<PathBuf>,
    },
}

/// Whose configuration.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(crate) struct Of {
    /// That of a group's members
    #[arg(long, value_name = "GROUP")]
    group: Option<GroupName>,
    /// That of one agent
    #[arg(long, value_name = "PC")]
    pc: Option<PcId>,
}

impl From<Of> for Scope {
    fn from(Of { group, pc }: Of) -> Self {
        match (group, pc) {
            (Some(group), _) => Self::Group(group),
            (None, Some(pc)) => Self::Pc(pc),
            (None, None) => Self::Global,
        }
    }
}

/// A key of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Key {
    /// The version of the agent program
    TargetVersion,
    /// The time over which agents spread an update
    TargetVersionJitter,
    /// The time between two signs of life
    HeartbeatInterval,
}

impl Key {
    fn as_str(self) -> &'static str {
        match self {
            Self::TargetVersion => "target_version",
            Self::TargetVersionJitter => "target_version_jitter",
            Self::HeartbeatInterval => "heartbeat_interval",
        }
    }

    fn read(self, scope: &ConfigScope) -> Option<String> {
        match self {
            Self::TargetVersion => scope.target_version.as_ref().map(ToString::to_string),
            Self::TargetVersionJitter => scope.target_version_jitter.map(|jitter| jitter.to_string()),
            Self::HeartbeatInterval => scope.heartbeat_interval.map(|interval| interval.to_string()),
        }
    }

    fn remove(self, scope: &mut ConfigScope) {
        match self {
            Self::TargetVersion => scope.target_version = None,
            Self::TargetVersionJitter => scope.target_version_jitter = None,
            Self::HeartbeatInterval => scope.heartbeat_interval = None,
        }
    }
}

/// `key=value`, read and found good.
#[derive(Debug, Clone)]
pub(crate) struct Setting(ConfigScope);

impl FromStr for Setting {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let keys =
            "one of target_version, target_version_jitter, heartbeat_interval, `=` and a value are wanted";
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Invalid::new("setting", text, keys))?;
        let mut scope = ConfigScope::default();
        match Key::from_str(key, false) {
            Ok(Key::TargetVersion) => scope.target_version = Some(value.parse()?),
            Ok(Key::TargetVersionJitter) => scope.target_version_jitter = Some(value.parse()?),
            Ok(Key::HeartbeatInterval) => scope.heartbeat_interval = Some(value.parse()?),
            Err(_) => return Err(Invalid::new("setting", text, keys)),
        }
        scope.check()?;
        Ok(Self(scope))
    }
}

impl Setting {
    fn apply(self, scope: &mut ConfigScope) {
        let Self(ConfigScope {
            target_version,
            target_version_jitter,
            heartbeat_interval,
        }) = self;
        scope.target_version = target_version.or(scope.target_version.take());
        scope.target_version_jitter = target_version_jitter.or(scope.target_version_jitter);
        scope.heartbeat_interval = heartbeat_interval.or(scope.heartbeat_interval);
    }
}

pub(super) async fn run(command: ConfigCommand, context: &Context) -> Done {
    let Context { client, out } = context;
    match command {
        ConfigCommand::Get(of) => {
            let scope = client.config(&of.into()).await?.document;
            out.show(&scope, |scope| shown(scope, context))
        }
        ConfigCommand::Set { of, values } => {
            change(&of.into(), context, |scope| {
                values.into_iter().for_each(|value| value.apply(scope));
            })
            .await
        }
        ConfigCommand::Unset { of, keys } if keys.is_empty() => {
            client.delete_config(&of.into()).await?;
            out.say("nothing is set")
        }
        ConfigCommand::Unset { of, keys } => {
            change(&of.into(), context, |scope| {
                keys.iter().for_each(|key| key.remove(scope));
            })
            .await
        }
        ConfigCommand::Show { config } => {
            let config =
                Config::load(config.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
            out.show(&config, |config| {
                let text =
                    toml::to_string_pretty(config).expect("a configuration is a table of plain values");
                text.trim_end().to_owned()
            })
        }
        ConfigCommand::Effective { pc } => {
            let config = client.effective_config(&pc).await?;
            out.show(&config, |config| out.fields(&effective(config)))?;
            if !out.is_json() {
                config
                    .warnings
                    .iter()
                    .for_each(|warning| out.note(&format!("warning: {warning}")));
            }
            Ok(())
        }
    }
}

/// Reads a scope, changes it, and writes it back if nobody else has changed it in between.
async fn change(scope: &Scope, context: &Context, change: impl FnOnce(&mut ConfigScope)) -> Done {
    let mut read = context.client.config(scope).await?;
    change(&mut read.document);
    let stored = context
        .client
        .set_config(scope, &read.document, &Precondition::from(read.tag))
        .await?;
    context.out.show(&stored, |stored| shown(stored, context))
}

fn shown(scope: &ConfigScope, context: &Context) -> String {
    let set: Vec<(&str, Cell)> = Key::value_variants()
        .iter()
        .filter_map(|key| Some((key.as_str(), Cell::from(key.read(scope)?))))
        .collect();
    if set.is_empty() {
        "nothing is set".into()
    } else {
        context.out.fields(&set)
    }
}

fn effective(config: &api::AgentConfig) -> Vec<(&'static str, Cell)> {
    let effective = &config.effective;
    vec![
        (
            Key::TargetVersion.as_str(),
            Cell::maybe(effective.target_version.as_ref()),
        ),
        (
            Key::TargetVersionJitter.as_str(),
            effective.target_version_jitter.into(),
        ),
        (
            Key::HeartbeatInterval.as_str(),
            effective.heartbeat_interval.into(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scope: &mut ConfigScope, text: &str) {
        text.parse::<Setting>().unwrap().apply(scope);
    }

    #[test]
    fn settings_change_only_their_own_key() {
        let mut scope = ConfigScope::default();
        set(&mut scope, "target_version=0.31.0");
        set(&mut scope, "heartbeat_interval=1m");
        set(&mut scope, "heartbeat_interval=90s");
        let values: Vec<_> = Key::value_variants().iter().map(|key| key.read(&scope)).collect();
        assert_eq!(values, [Some("0.31.0".into()), None, Some("1m 30s".into())]);
        Key::TargetVersion.remove(&mut scope);
        assert_eq!(Key::TargetVersion.read(&scope), None);
        assert!(Key::HeartbeatInterval.read(&scope).is_some());
    }

    #[test]
    fn a_setting_that_cannot_be_is_refused_with_what_is_allowed() {
        for (text, told) in [
            ("heartbeat_interval", "heartbeat_interval"),
            ("heartbeat=1m", "target_version_jitter"),
            ("heartbeat_interval=1ms", "100ms"),
            ("heartbeat_interval=often", "`30s`"),
            ("target_version=one two", "version"),
        ] {
            let error = text.parse::<Setting>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
