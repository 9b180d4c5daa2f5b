//! What can be asked of a store. The predicates are decided here, so that every backend answers alike.

use kanade_model::{ExecId, ExecutionStatus, Invalid, JobId, RunState, TargetState, Timestamp};
use regex::{Regex, RegexBuilder};

use crate::{AuditRecord, Position, RunRecord};

/// The largest number of items on a page.
pub const MAX_LIMIT: usize = 1000;
/// The most rows that a query with a text filter looks at for one page.
pub const SCAN_LIMIT: usize = 10_000;
/// About the most bytes on a page.
pub const PAGE_BYTES: usize = 4 << 20;

/// Executions, newest first by `(initiated_at, exec_id)`.
#[derive(Debug, Clone, Default)]
pub struct ExecutionQuery {
    /// Of this job.
    pub job_id: Option<JobId>,
    /// With this status.
    pub status: Option<ExecutionStatus>,
    /// Page size, 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// Only what comes after this place.
    pub after: Option<Position>,
}

/// The targets of one execution, by `pc_id`.
#[derive(Debug, Clone)]
pub struct TargetQuery {
    /// The execution.
    pub exec_id: ExecId,
    /// In this state.
    pub state: Option<TargetState>,
    /// Page size, 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// Only what comes after this place (its `id` is a pc id).
    pub after: Option<Position>,
}

/// Runs, newest first by `(started_at, result_id)`.
#[derive(Debug, Clone, Default)]
pub struct RunQuery {
    /// On agents like this.
    pub pc_id: Option<TextFilter>,
    /// Of jobs like this.
    pub job_id: Option<TextFilter>,
    /// Of executions like this.
    pub exec_id: Option<TextFilter>,
    /// With such a standard output.
    pub stdout: Option<TextFilter>,
    /// With such a standard error.
    pub stderr: Option<TextFilter>,
    /// With such an outcome.
    pub status: Option<RunFilter>,
    /// Started at or after this.
    pub since: Option<Timestamp>,
    /// Whether the output is wanted too.
    pub with_output: bool,
    /// Page size, 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// Only what comes after this place.
    pub after: Option<Position>,
}

/// The outcome of a run, as existing clients filter by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunFilter {
    /// Ended with exit code 0.
    Success,
    /// Ended in any other way, or lost.
    Failure,
    /// Not ended.
    Running,
}

impl RunFilter {
    /// The states it stands for.
    pub fn states(self) -> &'static [RunState] {
        match self {
            Self::Success => &[RunState::Succeeded],
            Self::Failure => &[
                RunState::Failed,
                RunState::Killed,
                RunState::TimedOut,
                RunState::Lost,
            ],
            Self::Running => &[RunState::Running],
        }
    }
}

impl RunQuery {
    /// Whether the output must be read to answer.
    pub fn reads_output(&self) -> bool {
        self.with_output || self.stdout.is_some() || self.stderr.is_some()
    }

    /// Whether a run (with its output, if a filter looks at it) is asked for. Decides everything but the place.
    pub fn matches(&self, record: &RunRecord) -> bool {
        let run = &record.run;
        self.since.is_none_or(|since| run.started_at >= since)
            && self
                .status
                .is_none_or(|status| status.states().contains(&run.state))
            && matches(&self.pc_id, run.pc_id.as_str())
            && matches(&self.job_id, run.job_id.as_ref().map_or("", JobId::as_str))
            && matches(&self.exec_id, run.exec_id.as_ref().map_or("", ExecId::as_str))
            && matches(&self.stdout, &record.output.stdout)
            && matches(&self.stderr, &record.output.stderr)
    }
}

/// Audit entries, newest first by their number.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// By this actor.
    pub actor: Option<String>,
    /// Actions like this.
    pub action: Option<TextFilter>,
    /// On targets like this.
    pub target: Option<TextFilter>,
    /// With details like this (matched on their JSON text).
    pub payload: Option<TextFilter>,
    /// At or after this.
    pub since: Option<Timestamp>,
    /// Page size, 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// Only what comes after this place (its `at` is an entry's number).
    pub after: Option<Position>,
}

impl AuditQuery {
    /// Whether an entry is asked for. Decides everything but the place.
    pub fn matches(&self, record: &AuditRecord) -> bool {
        let event = &record.event;
        self.since.is_none_or(|since| event.occurred_at >= since)
            && self.actor.as_deref().is_none_or(|actor| event.actor == actor)
            && matches(&self.action, &event.action)
            && matches(&self.target, event.target.as_deref().unwrap_or(""))
            && self.payload.as_ref().is_none_or(|filter| {
                serde_json::to_string(&event.payload).is_ok_and(|payload| filter.matches(&payload))
            })
    }
}

fn matches(filter: &Option<TextFilter>, text: &str) -> bool {
    filter.as_ref().is_none_or(|filter| filter.matches(text))
}

/// A text that is looked for: an unanchored regular expression, or a whole id, for which an index can be used.
#[derive(Debug, Clone)]
pub enum TextFilter {
    /// Exactly this text.
    Exact(String),
    /// Any text in which this is found.
    Pattern(Box<Regex>),
}

impl TextFilter {
    /// Reads a regular expression written for `field`. One that only a single text can match (`^name$`, or a whole
    /// UUID as an `exec_id`, which no longer id contains) becomes exact.
    ///
    /// # Errors
    /// Says what is wrong with the expression.
    pub fn parse(field: &str, pattern: &str) -> Result<Self, Invalid> {
        const META: [char; 14] = [
            '\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$',
        ];
        let anchored = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
        match anchored {
            Some(text) if !text.contains(META) => return Ok(Self::Exact(text.to_owned())),
            None if field == "exec_id" && pattern.len() == 36 && uuid::Uuid::try_parse(pattern).is_ok() => {
                return Ok(Self::Exact(pattern.to_ascii_lowercase()));
            }
            _ => {}
        }
        RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .build()
            .map(|regex| Self::Pattern(Box::new(regex)))
            .map_err(|error| {
                Invalid::new(
                    field,
                    pattern,
                    format!("a regular expression is wanted ({error})"),
                )
            })
    }

    /// Whether `text` is one that is looked for.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == text,
            Self::Pattern(regex) => regex.is_match(text),
        }
    }

    /// The text itself, where only one can match.
    pub fn exact(&self) -> Option<&str> {
        match self {
            Self::Exact(text) => Some(text),
            Self::Pattern(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_single_text_can_match_is_exact() {
        for (pattern, exact) in [
            ("^pc-1$", Some("pc-1")),
            ("pc-1", None),
            ("^pc-.$", None),
            ("^a|b$", None),
            ("^$", Some("")),
        ] {
            assert_eq!(
                TextFilter::parse("pc_id", pattern).unwrap().exact(),
                exact,
                "{pattern}"
            );
        }
        // A whole id of an execution, which no longer one contains; elsewhere it may stand within a text.
        let uuid = "0190b5a0-0000-7000-8000-00000000000A";
        let of = |field| TextFilter::parse(field, uuid).unwrap();
        assert_eq!(of("exec_id").exact(), Some(uuid.to_ascii_lowercase().as_str()));
        assert!(of("payload").matches(&format!("{{\"exec_id\":\"{uuid}\"}}")));
    }

    #[test]
    fn an_unanchored_pattern_finds_its_text_anywhere() {
        let filter = TextFilter::parse("stdout", "err.r").unwrap();
        assert!(filter.matches("an error here") && !filter.matches("fine"));
        let error = TextFilter::parse("stdout", "(").unwrap_err();
        assert_eq!(error.field, "stdout");
    }
}
