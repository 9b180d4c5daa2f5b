//! `kanade audit` and `kanade dead-letters`: what the server keeps for reading.

use clap::Args;
use kanade_client::AuditQuery;
use kanade_model::{Timestamp, api};

use super::{
    Context,
    failure::Done,
    output::{Paging, ago},
    table::{Cell, shortened},
    when,
};

/// How much of details and messages a list shows, in characters.
const EXCERPT: usize = 80;

/// Show who did what, newest first
///
/// The filters --action, --target and --payload are regular expressions that match anywhere.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kanade audit --action '^job_' --since 7d\n  kanade audit --target '^backup$' -o json"
)]
pub(crate) struct Audit {
    /// By this actor: operator or scheduler
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Actions like this
    #[arg(long, value_name = "REGEX")]
    action: Option<String>,
    /// On targets like this
    #[arg(long, value_name = "REGEX")]
    target: Option<String>,
    /// With such details
    #[arg(long, value_name = "REGEX")]
    payload: Option<String>,
    /// After this (RFC 3339, or a duration ago)
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    since: Option<Timestamp>,
    #[command(flatten)]
    paging: Paging,
}

/// Show messages of agents that could not be understood, newest first
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kanade dead-letters --limit 10 --output json")]
pub(crate) struct DeadLetters {
    #[command(flatten)]
    paging: Paging,
}

pub(super) async fn audit(audit: Audit, context: &Context) -> Done {
    let Audit {
        actor,
        action,
        target,
        payload,
        since,
        paging,
    } = audit;
    let query = AuditQuery {
        actor,
        action,
        target,
        payload,
        since,
        page_size: paging.page_size(),
    };
    context
        .out
        .list(context.client.audit(&query), &paging, &AUDIT_HEADS, audit_row)
        .await
}

pub(super) async fn dead_letters(letters: DeadLetters, context: &Context) -> Done {
    let paging = letters.paging;
    let letters = context.client.dead_letters(paging.page_size());
    context
        .out
        .list(letters, &paging, &LETTER_HEADS, letter_row)
        .await
}

const AUDIT_HEADS: [&str; 6] = ["ID", "WHEN", "WHO", "ACTION", "TARGET", "DETAILS"];

fn audit_row(entry: &api::AuditEntry, now: Timestamp) -> Vec<Cell> {
    let mut details = entry.payload.clone();
    let mut take = |name: &str| {
        details
            .remove(name)
            .and_then(|value| value.as_str().map(str::to_owned))
    };
    let (sub, source) = (take("sub"), take("source"));
    let who = sub.unwrap_or_else(|| entry.actor.clone());
    let who = source.map(|source| format!("{who} ({source})")).unwrap_or(who);
    let details = if details.is_empty() {
        "-".into()
    } else {
        serde_json::to_string(&details).expect("details have string keys only")
    };
    vec![
        entry.id.into(),
        ago(entry.occurred_at, now),
        who.into(),
        (&entry.action).into(),
        Cell::maybe(entry.target.as_ref()),
        shortened(&details, EXCERPT).into(),
    ]
}

const LETTER_HEADS: [&str; 5] = ["ID", "WHEN", "SUBJECT", "REASON", "MESSAGE"];

fn letter_row(letter: &api::DeadLetter, now: Timestamp) -> Vec<Cell> {
    vec![
        letter.id.into(),
        ago(letter.at, now),
        (&letter.subject).into(),
        (&letter.reason).into(),
        shortened(&letter.payload, EXCERPT).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_audit_entry_says_who_and_with_what() {
        let now = "2026-05-01T08:35:00Z".parse().unwrap();
        for (payload, who, details) in [
            (
                json!({"sub": "ann", "source": "cli", "version": "2"}),
                "ann (cli)",
                r#"{"version":"2"}"#,
            ),
            (json!({"source": "spa"}), "operator (spa)", "-"),
            (json!({}), "operator", "-"),
        ] {
            let entry: api::AuditEntry = serde_json::from_value(json!({
                "id": 7, "actor": "operator", "action": "exec", "target": null, "payload": payload,
                "occurred_at": "2026-05-01T08:30:00Z"
            }))
            .unwrap();
            let row = audit_row(&entry, now);
            let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            assert_eq!(texts, ["7", "5m ago", who, "exec", "-", details]);
            assert_eq!(row.len(), AUDIT_HEADS.len());
        }
    }

    #[test]
    fn a_dead_letter_is_one_line_whatever_it_holds() {
        let letter = api::DeadLetter {
            id: 1,
            subject: "results.x".into(),
            payload: "{\n\u{1b}[2J".to_owned() + &"x".repeat(500),
            reason: "no JSON".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        let row = letter_row(&letter, Timestamp::UNIX_EPOCH);
        assert_eq!(row.len(), LETTER_HEADS.len());
        assert!(
            row[4].text.chars().count() <= EXCERPT + 1 && !row[4].text.contains('\u{1b}'),
            "{:?}",
            row[4]
        );
    }
}
