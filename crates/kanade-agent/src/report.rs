//! What the agent has to say about a run, as messages for the outbox.

use bytes::Bytes;
use kanade_model::{
    Ended, EventKill, EventSkipped, EventStarted, ExecId, ExecResult, PcId, Subject, Timestamp,
};
use kanade_ports::{Ids, MessageId};
use serde::Serialize;

use crate::{
    admission::Refusal,
    journal::{Outgoing, RunRecord},
    output::fit,
};

/// What a result takes in a message besides its output.
const ENVELOPE: usize = 4096;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) ended: Ended,
    pub(crate) exit_code: i32,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The agent's own code for what did not end by itself.
pub(crate) const NO_EXIT_CODE: i32 = -1;

impl Finished {
    /// A run without a process.
    pub(crate) fn without_start(ended: Ended, exit_code: i32, at: Timestamp, reason: String) -> Self {
        Self {
            ended,
            exit_code,
            started_at: at,
            finished_at: at,
            stdout: String::new(),
            stderr: reason,
        }
    }

    /// Adds a line of the agent's own to the end of what the script printed.
    pub(crate) fn add_reason(&mut self, reason: &str) {
        if !self.stderr.is_empty() && !self.stderr.ends_with('\n') {
            self.stderr.push('\n');
        }
        self.stderr.push_str(reason);
    }
}

/// Writes the messages of one agent.
#[derive(Clone, Copy)]
pub(crate) struct Reporter<'a> {
    pub(crate) pc_id: &'a PcId,
    pub(crate) ids: &'a dyn Ids,
    /// The most bytes that a message may have.
    pub(crate) message_bytes: usize,
}

impl Reporter<'_> {
    /// A run has started; nobody is told about an ad-hoc run.
    pub(crate) fn started(self, run: &RunRecord, at: Timestamp) -> Option<Outgoing> {
        let exec_id = run.command.exec_id.clone()?;
        let subject = Subject::started(&exec_id, self.pc_id);
        let event = EventStarted {
            result_id: run.result_id,
            request_id: run.command.request_id,
            exec_id,
            pc_id: self.pc_id.clone(),
            started_at: at,
            manifest_id: run.command.id.clone(),
            version: run.command.version.clone(),
        };
        Some(self.message(subject, &event))
    }

    /// A run has ended.
    pub(crate) fn finished(self, run: &RunRecord, finished: Finished) -> Outgoing {
        let (stdout, stderr) = fit(
            finished.stdout,
            finished.stderr,
            self.message_bytes.saturating_sub(ENVELOPE),
        );
        let result = ExecResult {
            result_id: Some(run.result_id),
            request_id: run.command.request_id,
            exec_id: run.command.exec_id.clone(),
            pc_id: self.pc_id.clone(),
            exit_code: finished.exit_code,
            stdout,
            stderr,
            started_at: finished.started_at,
            finished_at: finished.finished_at,
            manifest_id: Some(run.command.id.clone()),
            ended: Some(finished.ended),
        };
        self.message(Subject::result(run.command.request_id), &result)
    }

    /// A run was not started. The caller of an ad-hoc run waits for a result, so that is what it gets.
    pub(crate) fn refused(self, run: &RunRecord, refusal: &Refusal, at: Timestamp) -> Outgoing {
        let Some(exec_id) = run.command.exec_id.clone() else {
            let reason = format!("not started: {}", refusal.detail);
            return self.finished(
                run,
                Finished::without_start(Ended::NotStarted, refusal.exit_code(), at, reason),
            );
        };
        let subject = Subject::skipped(&exec_id, self.pc_id);
        let event = EventSkipped {
            request_id: run.command.request_id,
            exec_id,
            pc_id: self.pc_id.clone(),
            at,
            manifest_id: run.command.id.clone(),
            version: run.command.version.clone(),
            reason: refusal.reason,
            detail: refusal.detail.clone(),
        };
        self.message(subject, &event)
    }

    /// A kill has arrived.
    pub(crate) fn kill_delivered(self, exec_id: &ExecId, at: Timestamp) -> Outgoing {
        let event = EventKill {
            exec_id: exec_id.clone(),
            pc_id: self.pc_id.clone(),
            at,
        };
        self.message(Subject::kill_delivered(exec_id, self.pc_id), &event)
    }

    fn message(self, subject: Subject, content: &impl Serialize) -> Outgoing {
        let payload = serde_json::to_vec(content).expect("messages have string keys only");
        Outgoing {
            subject,
            id: MessageId(self.ids.next().to_string()),
            payload: Bytes::from(payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::{ResultId, SkipReason};
    use kanade_ports::SystemIds;
    use uuid::Uuid;

    fn run(exec_id: Option<&str>) -> RunRecord {
        let command = serde_json::from_value(serde_json::json!({
            "id": "backup", "version": "2", "request_id": Uuid::from_u128(7), "shell": "sh", "script": "",
            "timeout_secs": 1, "exec_id": exec_id
        }))
        .unwrap();
        RunRecord {
            result_id: ResultId(Uuid::from_u128(8)),
            command,
            accepted_at: Timestamp::UNIX_EPOCH,
            schedule: None,
            started: None,
            has_secrets: false,
        }
    }

    fn with_reporter<T>(report: impl FnOnce(Reporter<'_>) -> T) -> T {
        let pc_id = "pc.with.dots".parse().unwrap();
        report(Reporter {
            pc_id: &pc_id,
            ids: &SystemIds,
            message_bytes: 1_000_000,
        })
    }

    #[test]
    fn a_result_of_the_worst_output_fits_into_a_message() {
        let finished = Finished {
            ended: Ended::Killed,
            exit_code: NO_EXIT_CODE,
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
            stdout: "\u{1}".repeat(256 * 1024),
            stderr: "\u{fffd}".repeat(256 * 1024) + "\nthe reason",
        };
        let message = with_reporter(|report| report.finished(&run(Some("e-1")), finished));
        assert!(message.payload.len() <= 1_000_000, "{}", message.payload.len());
        let result: ExecResult = serde_json::from_slice(&message.payload).unwrap();
        assert!(result.stdout.contains("bytes left out") && result.stderr.contains("bytes left out"));
        assert!(result.stderr.ends_with("\nthe reason"));
    }

    #[test]
    fn a_refusal_is_an_event_or_for_an_ad_hoc_run_a_result() {
        let refusal = Refusal {
            reason: SkipReason::Deadline,
            detail: "too late".into(),
        };
        let at = Timestamp::UNIX_EPOCH;
        let message = with_reporter(|report| report.refused(&run(Some("e-1")), &refusal, at));
        assert_eq!(message.subject.as_str(), "events.skipped.e-1.pc.with.dots");
        let event: EventSkipped = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(
            (event.reason, event.detail.as_str()),
            (SkipReason::Deadline, "too late")
        );

        let message = with_reporter(|report| report.refused(&run(None), &refusal, at));
        let result: ExecResult = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((result.exit_code, result.ended), (125, Some(Ended::NotStarted)));
        assert!(result.stderr.contains("too late"));
        let stale = Refusal {
            reason: SkipReason::Staleness,
            ..refusal
        };
        assert_eq!(stale.exit_code(), 127);
    }

    #[test]
    fn nobody_is_told_of_the_start_of_an_ad_hoc_run() {
        assert_eq!(
            with_reporter(|report| report.started(&run(None), Timestamp::UNIX_EPOCH)),
            None
        );
        let message =
            with_reporter(|report| report.started(&run(Some("e-1")), Timestamp::UNIX_EPOCH)).unwrap();
        assert_eq!(message.subject.as_str(), "events.started.e-1.pc.with.dots");
    }
}
