//! `kanade job`, `revoke` and `unrevoke`.

use clap::Subcommand;
use kanade_client::Precondition;
use kanade_model::{JobId, Manifest, ScriptStatus, api};

use super::{
    Context,
    apply::{self, Apply},
    diff::{colored, difference, lines_changed, yaml},
    failure::Done,
    output::Paging,
    table::{Cell, Tone},
};

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Register jobs, or change them
    ///
    /// All documents are checked before the first is sent. A job that was changed by somebody else in between is not
    /// overwritten.
    #[command(
        after_help = "Examples:\n  kanade job apply -f backup.yaml\n  kanade job apply -f jobs/ --dry-run\n  \
                            generate-job | kanade job apply -f -"
    )]
    Apply(Apply),
    /// List jobs
    #[command(after_help = "Example:\n  kanade job list --all")]
    List(Paging),
    /// Show a job as the document that registers it
    #[command(after_help = "Example:\n  kanade job show backup > backup.yaml")]
    Show {
        /// The job
        job: JobId,
    },
    /// Show the newest versions of a job, also of a deleted one
    #[command(after_help = "Examples:\n  kanade job history backup\n  kanade job history backup --diff")]
    History {
        /// The job
        job: JobId,
        /// Show what changed from version to version
        #[arg(long)]
        diff: bool,
    },
    /// Delete a job that no schedule refers to; agents may not start it any more
    #[command(after_help = "Example:\n  kanade job delete backup")]
    Delete {
        /// The job
        job: JobId,
    },
}

pub(super) async fn run(command: JobCommand, context: &Context) -> Done {
    match command {
        JobCommand::Apply(apply) => apply::run::<Manifest>(&apply, context).await,
        JobCommand::List(paging) => {
            context
                .out
                .list(context.client.jobs(), &paging, &HEADS, |job, _| row(job))
                .await
        }
        JobCommand::Show { job } => show(&job, context).await,
        JobCommand::History { job, diff } => history(&job, diff, context).await,
        JobCommand::Delete { job } => {
            context.client.delete_job(&job, &Precondition::Any).await?;
            context.out.say(&format!("job {job} deleted"))
        }
    }
}

pub(super) async fn revoke(job: &JobId, context: &Context) -> Done {
    context.client.revoke(job).await?;
    context.out.say(&format!(
        "job {job} revoked: agents do not start it; `kanade unrevoke {job}` lets it run again"
    ))
}

pub(super) async fn unrevoke(job: &JobId, context: &Context) -> Done {
    context.client.unrevoke(job).await?;
    context.out.say(&format!("job {job} may run again"))
}

const HEADS: [&str; 6] = ["JOB", "VERSION", "STATUS", "RUNNING", "PENDING", "DESCRIPTION"];

fn row(job: &api::Job) -> Vec<Cell> {
    vec![
        (&job.manifest.id).into(),
        (&job.manifest.version).into(),
        status(job),
        job.live.running.into(),
        job.live.pending.into(),
        Cell::maybe(job.manifest.description.as_ref()),
    ]
}

fn status(job: &api::Job) -> Cell {
    match job.script_status {
        Some(ScriptStatus::Revoked) => Cell::toned("revoked", Tone::Bad),
        Some(ScriptStatus::Active) => Cell::toned("active", Tone::Good),
        None => Cell::maybe(None::<&str>),
    }
}

async fn show(id: &JobId, context: &Context) -> Done {
    let job = context.client.job(id).await?.document;
    // Remarks in front, so that what is shown can be applied again.
    context.out.show(&job, |job| {
        let api::Live { running, pending } = job.live;
        format!(
            "# {}, {running} running, {pending} pending\n{}",
            status(job).text,
            yaml(&job.manifest).trim_end()
        )
    })
}

async fn history(id: &JobId, diff: bool, context: &Context) -> Done {
    let versions = context.client.job_history(id).await?;
    let out = &context.out;
    out.show(&versions, |versions| {
        if diff {
            colored(&differences(versions), out.has_colors())
                .trim_end()
                .to_owned()
        } else {
            out.table(
                &["REVISION", "VERSION", "LINES", "DESCRIPTION"],
                history_rows(versions),
            )
        }
    })
}

/// One row a version, newest first, with how many lines it changed.
fn history_rows(versions: &[api::JobVersion]) -> Vec<Vec<Cell>> {
    let before = versions.iter().skip(1).map(Some).chain([None]);
    let row = |(version, before): (&api::JobVersion, Option<&api::JobVersion>)| {
        let lines = before.map(|before| lines_changed(&before.manifest, &version.manifest));
        vec![
            (&version.revision).into(),
            (&version.manifest.version).into(),
            Cell::maybe(lines.map(|(added, gone)| format!("+{added} -{gone}"))),
            Cell::maybe(version.manifest.description.as_ref()),
        ]
    };
    versions.iter().zip(before).map(row).collect()
}

fn differences(versions: &[api::JobVersion]) -> String {
    let pairs = versions.iter().zip(versions.iter().skip(1));
    let name = |version: &api::JobVersion| format!("revision {}", version.revision);
    let text: Vec<String> = pairs
        .map(|(after, before)| {
            difference(
                Some((&before.manifest, &name(before))),
                (&after.manifest, &name(after)),
            )
        })
        .collect();
    if text.is_empty() {
        "there is only one version".into()
    } else {
        text.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(revision: &str, version: &str) -> api::JobVersion {
        let manifest = json!({
            "id": "backup", "version": version, "execute": {"shell": "sh", "script": "true", "timeout": "30s"}
        });
        serde_json::from_value(json!({"revision": revision, "manifest": manifest})).unwrap()
    }

    #[test]
    fn a_job_is_listed_with_what_is_live() {
        let job: api::Job = serde_json::from_value(json!({
            "id": "backup", "version": "1.2", "execute": {"shell": "sh", "script": "true", "timeout": "30s"},
            "live": {"running": 2, "pending": 1}, "script_status": "REVOKED"
        }))
        .unwrap();
        let row = row(&job);
        let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
        assert_eq!(texts, ["backup", "1.2", "revoked", "2", "1", "-"]);
        assert_eq!(row[2].tone, Tone::Bad);
        assert_eq!(row.len(), HEADS.len());
    }

    #[test]
    fn a_history_says_how_much_each_version_changed() {
        let versions = [version("9", "3"), version("7", "2"), version("4", "1")];
        let rows = history_rows(&versions);
        let lines: Vec<&str> = rows.iter().map(|row| row[2].text.as_str()).collect();
        assert_eq!(lines, ["+1 -1", "+1 -1", "-"]);
        let text = differences(&versions);
        assert!(
            text.starts_with("--- job/backup (revision 7)\n+++ job/backup (revision 9)\n"),
            "{text}"
        );
        assert!(text.contains("+++ job/backup (revision 7)\n"), "{text}");
        assert_eq!(differences(&versions[..1]), "there is only one version");
    }
}
