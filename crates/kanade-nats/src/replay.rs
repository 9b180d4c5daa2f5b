//! The consumer by which an agent gets what is retained for it: what it should be, and what to do about what is there.

use std::collections::BTreeSet;

use kanade_model::{PcId, Subject};
use serde_json::{Value, json};

/// What to do about the consumer of an agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// There is none: create it so.
    Create(Value),
    /// It gives its agent what is meant for others, or too little: give it this configuration.
    Narrow(Value),
    /// It will do.
    Leave,
    /// It is that of another agent whose id makes the same name; this is its subject.
    Taken(String),
}

/// The name of an agent's consumer. Several ids may make the same.
pub(crate) fn name(pc: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let text = pc.chars().map(|c| if plain(c) { c } else { '_' });
    format!("agent_replay_{}", text.collect::<String>())
}

/// What to do, given the configuration that the server tells of the consumer of this name, if there is one.
pub(crate) fn action(pc: &PcId, there: Option<&Value>) -> Action {
    let wanted = [Subject::commands_all(), Subject::commands_pc(pc)];
    let wanted = wanted.map(|subject| subject.as_str().to_owned());
    let Some(there) = there else {
        return Action::Create(json!({
            "durable_name": name(pc.as_str()),
            "name": name(pc.as_str()),
            "deliver_policy": "last_per_subject",
            "ack_policy": "explicit",
            "filter_subjects": wanted,
            "replay_policy": "instant",
        }));
    };
    let filters = filters(there);
    if filters == BTreeSet::from(wanted.each_ref().map(String::as_str)) {
        return Action::Leave;
    }
    let of_another = |filter: &&str| {
        let other = filter.strip_prefix("commands.pc.");
        other.is_some_and(|other| other != pc.as_str() && name(other) == name(pc.as_str()))
    };
    if let Some(other) = filters.into_iter().find(of_another) {
        return Action::Taken(other.to_owned());
    }
    let mut narrow = there.clone();
    if let Some(config) = narrow.as_object_mut() {
        config.remove("filter_subject");
        config.insert("filter_subjects".into(), json!(wanted));
    }
    Action::Narrow(narrow)
}

fn filters(config: &Value) -> BTreeSet<&str> {
    let several = config["filter_subjects"].as_array().into_iter().flatten();
    let filters = several.chain(config.get("filter_subject"));
    filters
        .filter_map(Value::as_str)
        .filter(|filter| !filter.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_as_the_contract_says() {
        for (pc, wanted) in [
            ("pc-1", "agent_replay_pc-1"),
            ("PC_1", "agent_replay_PC_1"),
            ("pc.with.dots", "agent_replay_pc_with_dots"),
            ("b\u{fc}ro/1", "agent_replay_b_ro_1"),
        ] {
            assert_eq!(name(pc), wanted);
        }
    }

    #[test]
    fn a_consumer_is_narrowed_to_what_its_agent_is_meant_to_get_and_nothing_else_of_it_is_changed() {
        let pc = "pc.1".parse().unwrap();
        let wanted = json!(["commands.all", "commands.pc.pc.1"]);
        for (there, narrow) in [
            (json!({"filter_subject": "commands.>"}), true),
            (json!({}), true),
            (json!({"filter_subject": ""}), true),
            (
                json!({"filter_subjects": ["commands.all", "commands.pc.>"]}),
                true,
            ),
            (json!({"filter_subject": "commands.all"}), true),
            (
                json!({"filter_subjects": ["commands.pc.pc.1", "commands.all"]}),
                false,
            ),
        ] {
            let mut config =
                json!({"ack_wait": 7, "durable_name": "agent_replay_pc_1", "from_the_future": [1]});
            for (name, value) in there.as_object().unwrap() {
                config[name] = value.clone();
            }
            let action = action(&pc, Some(&config));
            if !narrow {
                assert_eq!(action, Action::Leave, "{there}");
                continue;
            }
            let mut narrowed = config.clone();
            narrowed.as_object_mut().unwrap().remove("filter_subject");
            narrowed["filter_subjects"] = wanted.clone();
            assert_eq!(action, Action::Narrow(narrowed), "{there}");
        }
    }

    #[test]
    fn of_two_agents_whose_ids_make_one_name_the_first_has_it() {
        let first = json!({"filter_subjects": ["commands.all", "commands.pc.pc.1"]});
        let taken = action(&"pc_1".parse().unwrap(), Some(&first));
        assert_eq!(taken, Action::Taken("commands.pc.pc.1".into()));
        assert_eq!(action(&"pc.1".parse().unwrap(), Some(&first)), Action::Leave);
    }
}
