//! `kanade group`.

use clap::Subcommand;
use kanade_model::{GroupName, PcId, api};

use super::{Context, failure::Done};

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List the groups of an agent
    #[command(after_help = "Example:\n  kanade group list web-1")]
    List {
        /// The agent
        pc: PcId,
    },
    /// Put an agent into these groups and no others
    #[command(after_help = "Examples:\n  kanade group set web-1 servers canary\n  kanade group set web-1")]
    Set {
        /// The agent
        pc: PcId,
        /// The groups; none takes it out of all
        groups: Vec<GroupName>,
    },
    /// Put an agent into a group
    #[command(after_help = "Example:\n  kanade group add web-1 canary")]
    Add {
        /// The agent
        pc: PcId,
        /// The group
        group: GroupName,
    },
    /// Take an agent out of a group
    #[command(after_help = "Example:\n  kanade group remove web-1 canary")]
    Remove {
        /// The agent
        pc: PcId,
        /// The group
        group: GroupName,
    },
}

pub(super) async fn run(command: GroupCommand, context: &Context) -> Done {
    let client = &context.client;
    let (pc, groups) = match command {
        GroupCommand::List { pc } => (pc.clone(), client.groups(&pc).await?),
        GroupCommand::Set { pc, groups } => {
            (pc.clone(), client.set_groups(&pc, &api::Groups { groups }).await?)
        }
        GroupCommand::Add { pc, group } => (pc.clone(), client.join_group(&pc, group).await?),
        GroupCommand::Remove { pc, group } => (pc.clone(), client.leave_group(&pc, &group).await?),
    };
    context.out.show(&groups, |groups| told(&pc, &groups.groups))
}

fn told(pc: &PcId, groups: &[GroupName]) -> String {
    if groups.is_empty() {
        return format!("{pc} is in no group");
    }
    let names: Vec<&str> = groups.iter().map(GroupName::as_str).collect();
    format!("{pc} is in {}", names.join(", "))
}
