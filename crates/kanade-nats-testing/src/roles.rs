//! A broker with the permissions of `config/nats-server.conf`, and clients in its roles.

use std::time::{Duration, Instant};

use kanade_nats::{NatsAgent, NatsAuth, NatsSettings};

use crate::Server;

/// The file that operators are given.
pub const CONFIGURATION: &str = include_str!("../../../config/nats-server.conf");

/// The password of the server's role.
pub const SERVER: &str = "server-Password1";

/// The password of everybody else.
pub const OTHERS: &str = "other-Password1";

const ENVIRONMENT: [(&str, &str); 6] = [
    ("KANADE_SERVER_PASSWORD", SERVER),
    ("KANADE_OPERATOR_PASSWORD", OTHERS),
    ("KANADE_AGENT_WEB_1_PASSWORD", OTHERS),
    ("KANADE_AGENT_WEB_2_PASSWORD", OTHERS),
    ("KANADE_OLD_AGENTS_PASSWORD", OTHERS),
    ("KANADE_SYSTEM_PASSWORD", OTHERS),
];

/// Starts a broker with a configuration.
pub async fn broker(configuration: &str) -> Server {
    let server = Server::configured(configuration, "KANADE_NATS_DATA", &ENVIRONMENT).await;
    // Where only somebody else's is to be had, it has been said.
    server.unwrap_or_else(|| std::process::exit(0))
}

/// The file with a block for each of these agents instead of `web-1`'s, as its comment tells to write it.
pub fn configuration_with(agents: &[String]) -> String {
    let begin = CONFIGURATION
        .find("            {\n                user: \"agent-web-1\"")
        .unwrap();
    let end = begin + CONFIGURATION[begin..].find("\n            }\n").unwrap() + "\n            }\n".len();
    let template = &CONFIGURATION[begin..end];
    let blocks: String = agents
        .iter()
        .map(|agent| {
            template
                .replace(
                    "agent_replay_web-1",
                    &format!("agent_replay_{}", agent.replace('.', "_")),
                )
                .replace("_INBOX_web-1", &format!("_INBOX_{}", agent.replace('.', "=2E")))
                // Of groups only an old server speaks, and there is a case about it.
                .replace("\"commands.all\"", "\"commands.all\", \"commands.group.*\"")
                .replace("web-1", agent)
        })
        .collect();
    format!("{}{blocks}{}", &CONFIGURATION[..begin], &CONFIGURATION[end..])
}

/// How to connect as a user.
pub fn settings(broker: &Server, user: &str, password: &str) -> NatsSettings {
    NatsSettings {
        auth: NatsAuth::User {
            user: user.to_owned(),
            password: password.to_owned(),
        },
        ..broker.settings()
    }
}

/// Waits until an agent is connected.
pub async fn connected(agent: &NatsAgent) {
    let begun = Instant::now();
    while !agent.is_connected() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the agent does not connect"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
