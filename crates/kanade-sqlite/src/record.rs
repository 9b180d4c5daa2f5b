//! The rows of the records: which columns they have, in which order, and what they mean.

use kanade_model::{AuditEvent, ExecId, Receipt, RequestId, ResultId, SendId, Timestamp};
use kanade_ports::{
    Addressee, Agent, AuditRecord, DeadLetter, DeadLetterRecord, Execution, Facts, Hold, KeyRecord, Kill,
    Limits, Output, Run, ScheduleCursor, Send, SendState, SlotRecord, Success, TargetRecord,
};

use crate::{
    codec::{Columns, Record, document},
    fault::Fault,
    statement::Values,
};

impl Record for Execution {
    const TABLE: &'static str = "executions";
    const COLUMNS: &'static [&'static str] = &[
        "exec_id",
        "job_id",
        "version",
        "initiated_by",
        "initiated_at",
        "start_within_secs",
        "run_within_secs",
        "last_due_at",
        "status",
        "started",
        "counts",
        "expired_at",
        "finished_at",
        "killed_by",
        "killed_at",
        "kill_settled",
        "kill_asked_again_at",
        "course",
        "held",
    ];
    const KEY: usize = 1;
    const CHANGING: usize = 8;

    fn encode(&self, values: &mut Values) {
        values.push(self.exec_id.as_str());
        values.push(self.job_id.as_str());
        values.push(self.version.as_str());
        values.push(self.initiated_by.as_str());
        values.push_time(Some(self.initiated_at));
        // The whole range of u64 fits: the bits are kept.
        values.push(self.limits.start_within_secs.cast_signed());
        values.push(self.limits.run_within_secs.cast_signed());
        values.push_time(Some(self.last_due_at));
        values.push(self.status.as_str());
        values.push(self.started);
        values.push(document(&self.counts));
        values.push_time(self.expired_at);
        values.push_time(self.finished_at);
        values.push(self.kill.as_ref().map(|kill| kill.by.as_str()));
        values.push_time(self.kill.as_ref().map(|kill| kill.at));
        values.push(self.kill.as_ref().map(|kill| kill.settled));
        values.push_time(self.kill.as_ref().and_then(|kill| kill.asked_again_at));
        values.push((!self.course.is_plain()).then(|| document(&self.course)));
        values.push(match self.hold() {
            None => 0,
            Some(Hold::Gate) => 1,
            Some(Hold::Pause) => 2,
            Some(Hold::Room) => 3,
        });
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            exec_id: columns.text()?,
            job_id: columns.text()?,
            version: columns.text()?,
            initiated_by: columns.take()?,
            initiated_at: columns.time()?,
            limits: Limits {
                start_within_secs: columns.take::<i64>()?.cast_unsigned(),
                run_within_secs: columns.take::<i64>()?.cast_unsigned(),
            },
            last_due_at: columns.time()?,
            status: columns.text()?,
            started: columns.take::<i64>()? != 0,
            counts: columns.document()?,
            expired_at: columns.maybe_time()?,
            finished_at: columns.maybe_time()?,
            kill: {
                let by: Option<String> = columns.take()?;
                let at = columns.maybe_time()?;
                let settled = columns.take::<Option<i64>>()? == Some(1);
                let asked_again_at = columns.maybe_time()?;
                by.zip(at).map(|(by, at)| Kill {
                    by,
                    at,
                    settled,
                    asked_again_at,
                })
            },
            // What holds it follows from this.
            course: columns.maybe_document()?.unwrap_or_default(),
        })
    }

    fn continues(&self, before: &Self) -> bool {
        self.job_id == before.job_id
            && self.version == before.version
            && self.initiated_by == before.initiated_by
            && self.initiated_at == before.initiated_at
            && self.limits == before.limits
            && self.last_due_at == before.last_due_at
    }
}

impl Record for TargetRecord {
    const TABLE: &'static str = "targets";
    const COLUMNS: &'static [&'static str] = &[
        "exec_id",
        "pc_id",
        "send_id",
        "request_id",
        "attempt",
        "wave",
        "due_at",
        "state",
        "result_id",
        "started_at",
        "finished_at",
        "exit_code",
        "detail",
        "receipt",
        "check_at",
    ];
    const KEY: usize = 2;
    const CHANGING: usize = 7;

    fn encode(&self, values: &mut Values) {
        values.push(self.exec_id.as_str());
        values.push(self.pc_id.as_str());
        values.push(self.send_id.as_ref().map(|id| id.0.as_bytes().as_slice()));
        values.push_id(self.request_id.0);
        values.push(self.attempt);
        values.push(self.wave);
        values.push_time(Some(self.due_at));
        values.push(self.state.as_str());
        values.push(self.run.as_ref().map(|id| id.0.as_bytes().as_slice()));
        values.push_time(self.started_at);
        values.push_time(self.finished_at);
        values.push(self.exit_code);
        values.push(self.detail.as_deref());
        values.push(self.receipt.map(Receipt::as_str));
        values.push_time(self.check_at);
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            exec_id: columns.text()?,
            pc_id: columns.text()?,
            send_id: columns.maybe_id()?.map(SendId),
            request_id: columns.id().map(RequestId)?,
            attempt: columns.take()?,
            wave: columns.take()?,
            due_at: columns.time()?,
            state: columns.text()?,
            run: columns.maybe_id()?.map(ResultId),
            started_at: columns.maybe_time()?,
            finished_at: columns.maybe_time()?,
            exit_code: columns.take()?,
            detail: columns.take()?,
            receipt: columns.maybe_text()?,
            check_at: columns.maybe_time()?,
        })
    }

    fn continues(&self, before: &Self) -> bool {
        self.send_id == before.send_id
            && self.request_id == before.request_id
            && self.attempt == before.attempt
            && self.wave == before.wave
            && self.due_at == before.due_at
    }
}

impl Record for Send {
    const TABLE: &'static str = "sends";
    const COLUMNS: &'static [&'static str] = &[
        "send_id",
        "exec_id",
        "pc_id",
        "request_id",
        "wave",
        "due_at",
        "state",
    ];
    const KEY: usize = 1;
    const CHANGING: usize = 6;

    fn encode(&self, values: &mut Values) {
        values.push_id(self.send_id.0);
        values.push(self.exec_id.as_str());
        values.push(match &self.to {
            Addressee::All => None,
            Addressee::Pc(pc) => Some(pc.as_str()),
        });
        values.push_id(self.request_id.0);
        values.push(self.wave);
        values.push_time(Some(self.due_at));
        values.push(match self.state {
            SendState::Due => "due",
            SendState::Held => "held",
            SendState::Parked => "parked",
            SendState::Sent => "sent",
            SendState::Withdrawn => "withdrawn",
        });
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            send_id: columns.id().map(SendId)?,
            exec_id: columns.text()?,
            to: columns.maybe_text()?.map_or(Addressee::All, Addressee::Pc),
            request_id: columns.id().map(RequestId)?,
            wave: columns.take()?,
            due_at: columns.time()?,
            state: match columns.take::<&str>()? {
                "due" => SendState::Due,
                "held" => SendState::Held,
                "parked" => SendState::Parked,
                "sent" => SendState::Sent,
                "withdrawn" => SendState::Withdrawn,
                other => return Err(Fault::unreadable("the state of a send", other)),
            },
        })
    }

    fn continues(&self, before: &Self) -> bool {
        let state = self.state;
        *self
            == Self {
                state,
                ..before.clone()
            }
    }
}

impl Record for Run {
    const TABLE: &'static str = "runs";
    const COLUMNS: &'static [&'static str] = &[
        "result_id",
        "request_id",
        "exec_id",
        "pc_id",
        "job_id",
        "started_at",
        "version",
        "state",
        "exit_code",
        "finished_at",
        "check_at",
    ];
    const KEY: usize = 1;
    const CHANGING: usize = 6;

    fn encode(&self, values: &mut Values) {
        values.push_id(self.result_id.0);
        values.push_id(self.request_id.0);
        values.push(self.exec_id.as_ref().map(ExecId::as_str));
        values.push(self.pc_id.as_str());
        values.push(self.job_id.as_ref().map(AsRef::<str>::as_ref));
        values.push_time(Some(self.started_at));
        values.push(self.version.as_ref().map(AsRef::<str>::as_ref));
        values.push(self.state.as_str());
        values.push(self.exit_code);
        values.push_time(self.finished_at);
        values.push_time(self.check_at);
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            result_id: columns.id().map(ResultId)?,
            request_id: columns.id().map(RequestId)?,
            exec_id: columns.maybe_text()?,
            pc_id: columns.text()?,
            job_id: columns.maybe_text()?,
            started_at: columns.time()?,
            version: columns.maybe_text()?,
            state: columns.text()?,
            exit_code: columns.take()?,
            finished_at: columns.maybe_time()?,
            check_at: columns.maybe_time()?,
        })
    }

    fn continues(&self, before: &Self) -> bool {
        self.request_id == before.request_id
            && self.exec_id == before.exec_id
            && self.pc_id == before.pc_id
            && self.job_id == before.job_id
            && self.started_at == before.started_at
    }
}

impl Record for Agent {
    const TABLE: &'static str = "agents";
    const COLUMNS: &'static [&'static str] = &[
        "pc_id",
        "hostname",
        "os_family",
        "agent_version",
        "last_heartbeat",
        "updated_at",
    ];
    const KEY: usize = 1;
    const CHANGING: usize = 1;

    fn encode(&self, values: &mut Values) {
        values.push(self.pc_id.as_str());
        values.push(self.hostname.as_deref());
        values.push(self.os_family.as_deref());
        values.push(self.agent_version.as_deref());
        values.push_time(Some(self.last_heartbeat));
        values.push_time(Some(self.updated_at));
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            pc_id: columns.text()?,
            hostname: columns.take()?,
            os_family: columns.take()?,
            agent_version: columns.take()?,
            last_heartbeat: columns.time()?,
            updated_at: columns.time()?,
        })
    }
}

impl Record for Facts {
    const TABLE: &'static str = "facts";
    const COLUMNS: &'static [&'static str] = &[
        "pc_id",
        "job_id",
        "facts",
        "hints",
        "description",
        "collected_at",
        "recorded_at",
    ];
    const KEY: usize = 2;
    const CHANGING: usize = 2;

    fn encode(&self, values: &mut Values) {
        values.push(self.pc_id.as_str());
        values.push(self.job_id.as_str());
        values.push(document(&self.facts));
        values.push(document(&self.hints));
        values.push(self.description.as_deref());
        values.push_time(Some(self.collected_at));
        values.push_time(Some(self.recorded_at));
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            pc_id: columns.text()?,
            job_id: columns.text()?,
            facts: columns.document()?,
            hints: columns.document()?,
            description: columns.take()?,
            collected_at: columns.time()?,
            recorded_at: columns.time()?,
        })
    }
}

/// An idempotency key and what it led to.
impl Record for (String, KeyRecord) {
    const TABLE: &'static str = "idempotency_keys";
    const COLUMNS: &'static [&'static str] = &["idempotency_key", "fingerprint", "exec_id", "used_at"];
    const KEY: usize = 1;
    const CHANGING: usize = 1;

    fn encode(&self, values: &mut Values) {
        values.push(self.0.as_str());
        values.push(self.1.fingerprint.as_str());
        values.push(self.1.exec_id.as_str());
        values.push_time(Some(self.1.at));
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        let key = columns.take()?;
        let record = KeyRecord {
            fingerprint: columns.take()?,
            exec_id: columns.text()?,
            at: columns.time()?,
        };
        Ok((key, record))
    }
}

/// A mark, and since when.
impl Record for (String, Timestamp) {
    const TABLE: &'static str = "marks";
    const COLUMNS: &'static [&'static str] = &["name", "marked_at"];
    const KEY: usize = 1;
    const CHANGING: usize = 2;

    fn encode(&self, values: &mut Values) {
        values.push(self.0.as_str());
        values.push_time(Some(self.1));
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok((columns.take()?, columns.time()?))
    }
}

impl Record for SlotRecord {
    const TABLE: &'static str = "slots";
    const COLUMNS: &'static [&'static str] = &[
        "schedule_id",
        "slot",
        "state",
        "exec_id",
        "detail",
        "settled_at",
        "backfilled",
    ];
    const KEY: usize = 2;
    const CHANGING: usize = 2;

    fn encode(&self, values: &mut Values) {
        values.push(self.schedule_id.as_str());
        values.push_time(Some(self.slot));
        values.push(self.state.as_str());
        values.push(self.exec_id.as_ref().map(ExecId::as_str));
        values.push(self.detail.as_deref());
        values.push_time(Some(self.at));
        values.push(self.backfilled);
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            schedule_id: columns.text()?,
            slot: columns.time()?,
            state: columns.text()?,
            exec_id: columns.maybe_text()?,
            detail: columns.take()?,
            at: columns.time()?,
            backfilled: columns.take::<i64>()? != 0,
        })
    }
}

impl Record for ScheduleCursor {
    const TABLE: &'static str = "cursors";
    const COLUMNS: &'static [&'static str] = &["schedule_id", "timing", "looked_through"];
    const KEY: usize = 1;
    const CHANGING: usize = 1;

    fn encode(&self, values: &mut Values) {
        values.push(self.schedule_id.as_str());
        values.push(self.timing.as_str());
        values.push_time(Some(self.through));
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            schedule_id: columns.text()?,
            timing: columns.take()?,
            through: columns.time()?,
        })
    }
}

impl Record for Success {
    const TABLE: &'static str = "successes";
    const COLUMNS: &'static [&'static str] = &["job_id", "pc_id", "succeeded_at"];
    const KEY: usize = 2;
    const CHANGING: usize = 2;

    fn encode(&self, values: &mut Values) {
        values.push(self.job_id.as_str());
        values.push(self.pc_id.as_str());
        values.push_time(Some(self.at));
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            job_id: columns.text()?,
            pc_id: columns.text()?,
            at: columns.time()?,
        })
    }

    fn grows() -> Option<&'static str> {
        Some("succeeded_at")
    }
}

/// What a run printed.
impl Record for (ResultId, Output) {
    const TABLE: &'static str = "outputs";
    const COLUMNS: &'static [&'static str] = &["result_id", "stdout", "stderr"];
    const KEY: usize = 1;
    const CHANGING: usize = 1;

    fn encode(&self, values: &mut Values) {
        values.push_id(self.0.0);
        values.push(self.1.stdout.as_str());
        values.push(self.1.stderr.as_str());
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        let id = columns.id().map(ResultId)?;
        let output = Output {
            stdout: columns.take()?,
            stderr: columns.take()?,
        };
        Ok((id, output))
    }
}

impl Record for AuditRecord {
    const TABLE: &'static str = "audit";
    const COLUMNS: &'static [&'static str] = &[
        "audit_id",
        "event_id",
        "actor",
        "action",
        "target",
        "payload",
        "occurred_at",
    ];
    const KEY: usize = 1;
    const CHANGING: usize = 7;

    fn encode(&self, values: &mut Values) {
        values.push(given(self.id));
        values.push(self.event.event_id.as_ref().map(|id| id.as_bytes().as_slice()));
        values.push(self.event.actor.as_str());
        values.push(self.event.action.as_str());
        values.push(self.event.target.as_deref());
        values.push(document(&self.event.payload));
        values.push_time(Some(self.event.occurred_at));
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            id: columns.take()?,
            event: AuditEvent {
                event_id: columns.maybe_id()?,
                actor: columns.take()?,
                action: columns.take()?,
                target: columns.take()?,
                payload: columns.document()?,
                occurred_at: columns.time()?,
            },
        })
    }
}

impl Record for DeadLetterRecord {
    const TABLE: &'static str = "dead_letters";
    const COLUMNS: &'static [&'static str] = &["letter_id", "subject", "payload", "reason", "set_aside"];
    const KEY: usize = 1;
    const CHANGING: usize = 5;

    fn encode(&self, values: &mut Values) {
        values.push(given(self.id));
        values.push(self.letter.subject.as_str());
        values.push(self.letter.payload.as_str());
        values.push(self.letter.reason.as_str());
        values.push_time(Some(self.letter.at));
    }

    fn decode(columns: &mut Columns<'_>) -> Result<Self, Fault> {
        Ok(Self {
            id: columns.take()?,
            letter: DeadLetter {
                subject: columns.text()?,
                payload: columns.take()?,
                reason: columns.take()?,
                at: columns.time()?,
            },
        })
    }
}

/// The number of a new record; 0 asks the table for the next one.
fn given(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number != 0)
}
