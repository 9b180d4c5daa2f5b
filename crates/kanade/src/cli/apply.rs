//! `apply`: compares documents with what is stored, shows the difference, stores what has changed.

use std::path::PathBuf;

use clap::Args;
use kanade_client::{Client, Error, Precondition, Tagged};
use kanade_model::{Manifest, Schedule, ScriptStatus, api};
use serde::Serialize;

use super::{
    Context,
    diff::{colored, difference},
    document::{self, Document, Found},
    failure::{Done, Failure},
    files,
    table::Tone,
};

/// What to apply.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// A YAML or JSON file with one or more documents, a folder of such files, or - for standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// A kind of document that a server stores.
pub(super) trait Stored: Document {
    /// What the server answers when it has stored one.
    type Answer: Serialize;

    /// What is stored under the document's id.
    async fn read(&self, client: &Client) -> Result<Option<Current<Self>>, Error>;

    async fn store(&self, client: &Client, when: &Precondition) -> Result<Self::Answer, Error>;

    /// What the server would answer.
    fn answer(&self) -> Self::Answer;

    /// What it is, in a word or two behind its id.
    fn remark(&self) -> String;
}

/// What is stored.
pub(super) struct Current<T> {
    stored: Tagged<T>,
    /// What an operator should know about it.
    warning: Option<String>,
}

impl Stored for Manifest {
    type Answer = api::JobStored;

    async fn read(&self, client: &Client) -> Result<Option<Current<Self>>, Error> {
        let read = found(client.job(&self.id).await)?;
        Ok(read.map(|Tagged { document: job, tag }| Current {
            warning: (job.script_status == Some(ScriptStatus::Revoked)).then(|| {
                format!(
                    "job `{id}` is revoked: agents do not start it until `kanade unrevoke {id}`",
                    id = self.id
                )
            }),
            stored: Tagged {
                document: job.manifest,
                tag,
            },
        }))
    }

    async fn store(&self, client: &Client, when: &Precondition) -> Result<api::JobStored, Error> {
        client.put_job(self, when).await
    }

    fn answer(&self) -> api::JobStored {
        api::JobStored {
            id: self.id.clone(),
            version: self.version.clone(),
            description: self.description.clone(),
            inventory: self.inventory.is_some(),
        }
    }

    fn remark(&self) -> String {
        self.version.to_string()
    }
}

impl Stored for Schedule {
    type Answer = api::ScheduleStored;

    async fn read(&self, client: &Client) -> Result<Option<Current<Self>>, Error> {
        let read = found(client.schedule(&self.id).await)?;
        Ok(read.map(|stored| Current {
            stored,
            warning: None,
        }))
    }

    async fn store(&self, client: &Client, when: &Precondition) -> Result<api::ScheduleStored, Error> {
        client.put_schedule(self, when).await
    }

    fn answer(&self) -> api::ScheduleStored {
        api::ScheduleStored {
            id: self.id.clone(),
            cron: self.cron.clone(),
            enabled: self.enabled,
            job_id: self.job_id.clone(),
        }
    }

    fn remark(&self) -> String {
        if self.enabled {
            String::new()
        } else {
            "(disabled)".into()
        }
    }
}

fn found<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What applying a document does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Created,
    Updated,
    Unchanged,
}

impl Change {
    fn done(self) -> (&'static str, Tone) {
        match self {
            Self::Created => ("created", Tone::Good),
            Self::Updated => ("updated", Tone::Odd),
            Self::Unchanged => ("unchanged", Tone::Plain),
        }
    }

    fn intended(self) -> (&'static str, Tone) {
        match self {
            Self::Created => ("would be created", Tone::Good),
            Self::Updated => ("would be updated", Tone::Odd),
            Self::Unchanged => self.done(),
        }
    }
}

/// What is to be done with a document.
struct Plan<T> {
    change: Change,
    when: Precondition,
    /// The stored document, where it differs.
    before: Option<T>,
    warning: Option<String>,
}

/// Compares a document with what is stored. What was compared must still be so when it is stored.
fn plan<T: Document>(document: &T, current: Option<Current<T>>) -> Plan<T> {
    match current {
        None => Plan {
            change: Change::Created,
            when: Precondition::Absent,
            before: None,
            warning: None,
        },
        Some(Current { stored, warning }) if stored.document == *document => Plan {
            change: Change::Unchanged,
            when: Precondition::Any,
            before: None,
            warning,
        },
        Some(Current { stored, warning }) => Plan {
            change: Change::Updated,
            when: stored.tag.into(),
            before: Some(stored.document),
            warning,
        },
    }
}

/// One applied document, as programs see it.
#[derive(Serialize)]
struct Applied<A> {
    #[serde(flatten)]
    answer: A,
    change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// Applies documents of one kind.
pub(super) async fn run<T: Stored>(apply: &Apply, context: &Context) -> Done {
    let sources = files::sources(&apply.files)?;
    let found: Vec<Found<T>> = document::read(&sources).map_err(|complaints| refused(&complaints))?;
    let mut applied = Vec::new();
    let mut outcome = Ok(());
    for Found { document, place } in &found {
        match one(document, apply.dry_run, context).await {
            Ok(one) => applied.push(one),
            Err(failure) => {
                let left = found.len() - applied.len() - 1;
                let rest = if left == 0 {
                    String::new()
                } else {
                    format!(" ({left} more not tried)")
                };
                outcome = Err(failure.within(&format!("{place}: {} `{}`{rest}", T::KIND, document.id())));
                break;
            }
        }
    }
    if context.out.is_json() {
        context.out.json(&applied)?;
    }
    outcome
}

async fn one<T: Stored>(
    document: &T,
    dry_run: bool,
    context: &Context,
) -> Result<Applied<T::Answer>, Failure> {
    let Context { client, out } = context;
    let plan = plan(document, document.read(client).await?);
    let change = plan.change;
    let mut shown = None;
    let answer = match change {
        Change::Unchanged => document.answer(),
        Change::Created | Change::Updated if dry_run => {
            let diff = difference(
                plan.before.as_ref().map(|before| (before, "stored")),
                (document, "given"),
            );
            out.say(colored(&diff, out.has_colors()).trim_end())?;
            shown = Some(diff);
            document.answer()
        }
        Change::Created | Change::Updated => document.store(client, &plan.when).await?,
    };
    let (word, tone) = if dry_run { change.intended() } else { change.done() };
    let remark = document.remark();
    let space = if remark.is_empty() { "" } else { " " };
    out.say(&format!(
        "{} {}{space}{remark} {}",
        T::KIND,
        document.id(),
        out.toned(word, tone)
    ))?;
    if let Some(warning) = plan.warning {
        out.note(&format!("warning: {warning}"));
    }
    Ok(Applied {
        answer,
        change,
        diff: shown,
    })
}

/// Every complaint on its own line behind how many there are.
fn refused(complaints: &[String]) -> Failure {
    Failure::Usage(match complaints {
        [one] => format!("{one}\nnothing was sent"),
        all => format!("{} problems, nothing was sent\n{}", all.len(), all.join("\n")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(version: &str, script: &str) -> Manifest {
        serde_json::from_value(json!({
            "id": "backup", "version": version, "execute": {"shell": "sh", "script": script, "timeout": "30s"}
        }))
        .unwrap()
    }

    fn stored(document: Manifest) -> Option<Current<Manifest>> {
        Some(Current {
            stored: Tagged { document, tag: None },
            warning: Some("revoked".into()),
        })
    }

    #[test]
    fn a_plan_says_what_changes_and_on_what_it_depends() {
        let new = manifest("2", "true");
        let absent = plan(&new, None);
        assert_eq!(
            (absent.change, absent.when),
            (Change::Created, Precondition::Absent)
        );
        let same = plan(&new, stored(manifest("2", "true")));
        assert_eq!((same.change, same.before.is_none()), (Change::Unchanged, true));
        assert_eq!(
            same.warning.as_deref(),
            Some("revoked"),
            "also when nothing changes"
        );
        let other = plan(&new, stored(manifest("1", "true")));
        assert_eq!(
            (other.change, other.before),
            (Change::Updated, Some(manifest("1", "true")))
        );
    }
}
