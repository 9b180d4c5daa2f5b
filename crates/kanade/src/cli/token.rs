//! `kanade token`: tokens that agents show, and the hashes of them that a server keeps.

use std::io::{BufRead, IsTerminal};

use clap::Subcommand;
use kanade_http::TokenHash;
use serde::Serialize;
use uuid::Uuid;

use super::{
    failure::{Done, Failure},
    output::Output,
};

/// A hash tells nothing about a token only if nobody can guess it.
const SHORTEST: usize = 24;

/// Make tokens for agents on other machines
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and the entry for the server's configuration that lets it in
    ///
    /// The token is shown this once: the server keeps its hash only.
    #[command(after_help = "Examples:\n  kanade token new\n  kanade token new --name web --pc-ids 'web-*'")]
    New {
        /// What the token is for; stands in the server's log
        #[arg(long, default_value = "fleet")]
        name: String,
        /// Only for agents whose id is like this: `*` is any text, `?` any character
        #[arg(long, value_name = "PATTERN")]
        pc_ids: Option<String>,
    },
    /// Print the hash of a token that is read from standard input
    #[command(after_help = "Example:\n  kanade token hash < agent.token")]
    Hash,
}

#[derive(Serialize)]
struct Made {
    token: String,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    hash: TokenHash,
    #[serde(skip_serializing_if = "Option::is_none")]
    pc_ids: Option<String>,
}

pub(super) fn run(command: TokenCommand, out: &Output) -> Done {
    match command {
        TokenCommand::New { name, pc_ids } => {
            let token = format!("kna_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            let hash = TokenHash::of(&token);
            let entry = Entry { name, hash, pc_ids };
            out.show(&Made { token, entry }, |made| {
                format!(
                    "{}\n\nfor the server's configuration, in [auth]:\n\nagent_tokens = [{}]",
                    made.token,
                    inline(&made.entry)
                )
            })
        }
        TokenCommand::Hash => {
            let hash = TokenHash::of(&read()?);
            out.show(&hash, ToString::to_string)
        }
    }
}

/// An entry as TOML writes it within a line.
fn inline(entry: &Entry) -> String {
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut pairs = vec![
        format!("name = {}", text(&entry.name)),
        format!("hash = {}", text(&entry.hash.to_string())),
    ];
    pairs.extend(
        entry
            .pc_ids
            .as_deref()
            .map(|ids| format!("pc_ids = {}", text(ids))),
    );
    format!("{{ {} }}", pairs.join(", "))
}

fn read() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::Usage(
            "the token is read from standard input, so that no list of processes shows it: kanade token hash < FILE".into(),
        ));
    }
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::Usage(format!("cannot read the token: {error}")))?;
    let token = line.trim();
    if token.len() < SHORTEST || token.contains(char::is_whitespace) {
        return Err(Failure::Usage(format!(
            "a token is one word of {SHORTEST} characters or more that nobody can guess; `kanade token new` makes one"
        )));
    }
    Ok(token.to_owned())
}
