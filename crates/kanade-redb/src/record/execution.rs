//! Executions, their orders, targets and sends.

use kanade_model::{ExecId, ExecutionStatus, JobId, PcId, SendId, TargetState};
use kanade_ports::{Execution, Order, Send, SendState, TargetRecord};
use redb::TableDefinition;

use crate::{
    key::{Key, Parts},
    table::{Definition, List, Record},
};

impl Record for Execution {
    const NAME: &'static str = "execution";
    const ROWS: Definition = TableDefinition::new("executions");
    const LISTS: Option<Definition> = Some(TableDefinition::new("execution_lists"));

    fn key(&self) -> Key {
        execution(&self.exec_id)
    }

    fn places(&self) -> Vec<Key> {
        let at = self.initiated_at;
        let (job, status) = (&self.job_id, self.status);
        let mut places: Vec<Key> = [
            executions(None, None),
            executions(Some(job), None),
            executions(None, Some(status)),
            executions(Some(job), Some(status)),
        ]
        .iter()
        .map(|list| list.name().moment(at))
        .collect();
        if !self.is_final() {
            places.push(live_of(job).name().byte(status_code(status)));
        }
        if let Some(kill) = self.kill.as_ref().filter(|kill| !kill.settled) {
            places.push(open_kills().name().moment(kill.at));
        }
        if self.is_to_be_steered() {
            places.push(to_steer().name().moment(at));
        }
        if status == ExecutionStatus::Pending && self.hold().is_none() {
            places.push(pending().name().moment(self.last_due_at));
        }
        if let (true, Some(at)) = (self.is_final(), self.finished_at) {
            places.push(finished().name().moment(at));
        }
        places
    }

    json!();
}

pub(crate) fn execution(id: &ExecId) -> Key {
    Key::new().last(id.as_str())
}

/// Executions of a job, with a status, by the time they were fired.
pub(crate) fn executions(job: Option<&JobId>, status: Option<ExecutionStatus>) -> List {
    List::by_moment(match (job, status) {
        (None, None) => Key::list(0),
        (Some(job), None) => Key::list(1).text(job.as_str()),
        (None, Some(status)) => Key::list(2).byte(status_code(status)),
        (Some(job), Some(status)) => Key::list(3).text(job.as_str()).byte(status_code(status)),
    })
}

/// Executions that are not final, by job and status.
pub(crate) fn live() -> List {
    List::by_key(Key::list(4))
}

/// The part of [`live`] that is of one job; an entry goes on with the status.
pub(crate) fn live_of(job: &JobId) -> List {
    List::by_byte(live().name().text(job.as_str()))
}

/// The job and the status in an entry of [`live`].
pub(crate) fn live_entry(entry: &[u8]) -> Option<(JobId, ExecutionStatus)> {
    let mut parts = Parts(entry);
    parts.byte()?;
    let job = parts.text()?.parse().ok()?;
    let code = parts.byte()?;
    let status = ExecutionStatus::ALL
        .iter()
        .find(|status| status_code(**status) == code)?;
    Some((job, *status))
}

/// Executions with a kill that is not settled, by the time of the kill.
pub(crate) fn open_kills() -> List {
    List::by_moment(Key::list(5))
}

/// Executions that are to be steered, by the time they were fired.
pub(crate) fn to_steer() -> List {
    List::by_moment(Key::list(8))
}

/// Pending executions that nothing holds, by the time their last send is due.
pub(crate) fn pending() -> List {
    List::by_moment(Key::list(6))
}

/// Final executions, by the time they finished.
pub(crate) fn finished() -> List {
    List::by_moment(Key::list(7))
}

/// What an execution tells its agents, under the execution's key.
pub(crate) struct Ordered {
    pub(crate) exec_id: ExecId,
    pub(crate) order: Order,
}

impl Record for Ordered {
    const NAME: &'static str = "order of execution";
    const ROWS: Definition = TableDefinition::new("orders");
    const LISTS: Option<Definition> = None;

    fn key(&self) -> Key {
        execution(&self.exec_id)
    }

    fn places(&self) -> Vec<Key> {
        Vec::new()
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&self.order)
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            exec_id: Parts(key).last()?.parse().ok()?,
            order: serde_json::from_slice(value).ok()?,
        })
    }
}

impl Record for TargetRecord {
    const NAME: &'static str = "target";
    const ROWS: Definition = TableDefinition::new("targets");
    const LISTS: Option<Definition> = Some(TableDefinition::new("target_lists"));

    fn key(&self) -> Key {
        target(&self.exec_id, &self.pc_id)
    }

    fn places(&self) -> Vec<Key> {
        let mut places = vec![targets_in(&self.exec_id, self.state).name()];
        if !self.state.is_final() {
            places.push(unfinished(&self.pc_id).name().moment(self.due_at));
        }
        if let (true, Some(at)) = (self.has_unanswered_kill(), self.finished_at) {
            places.push(unanswered_kills(&self.pc_id).name().moment(at));
        }
        if let (TargetState::Waiting, Some(at)) = (self.state, self.check_at) {
            places.push(overdue_targets().name().moment(at));
        }
        places
    }

    json!();
}

/// What the targets of an execution start with; their rows stand in the order of the pc ids.
pub(crate) fn targets_of(exec_id: &ExecId) -> Key {
    Key::new().text(exec_id.as_str())
}

pub(crate) fn target(exec_id: &ExecId, pc_id: &PcId) -> Key {
    targets_of(exec_id).last(pc_id.as_str())
}

/// Targets of an execution in a state, by pc id.
pub(crate) fn targets_in(exec_id: &ExecId, state: TargetState) -> List {
    List::by_key(Key::list(0).text(exec_id.as_str()).byte(target_code(state)))
}

/// Targets on an agent that wait or run, by due time.
pub(crate) fn unfinished(pc_id: &PcId) -> List {
    List::by_moment(Key::list(1).text(pc_id.as_str()))
}

/// Waiting targets, by the time they expire.
pub(crate) fn overdue_targets() -> List {
    List::by_moment(Key::list(2))
}

/// Targets on an agent that have an unanswered kill, by the time they ended.
pub(crate) fn unanswered_kills(pc_id: &PcId) -> List {
    List::by_moment(Key::list(3).text(pc_id.as_str()))
}

impl Record for Send {
    const NAME: &'static str = "send";
    const ROWS: Definition = TableDefinition::new("sends");
    const LISTS: Option<Definition> = Some(TableDefinition::new("send_lists"));

    fn key(&self) -> Key {
        send(self.send_id)
    }

    fn places(&self) -> Vec<Key> {
        let mut places = vec![sends_of(&self.exec_id).name().moment(self.due_at)];
        if self.state == SendState::Due {
            places.push(due_sends().name().moment(self.due_at));
        }
        places
    }

    json!();
}

pub(crate) fn send(id: SendId) -> Key {
    Key::new().uuid(id.0)
}

/// Every send of an execution, by due time.
pub(crate) fn sends_of(exec_id: &ExecId) -> List {
    List::by_moment(Key::list(0).text(exec_id.as_str()))
}

/// Sends that are still owed, by due time.
pub(crate) fn due_sends() -> List {
    List::by_moment(Key::list(1))
}

fn status_code(status: ExecutionStatus) -> u8 {
    match status {
        ExecutionStatus::Pending => 0,
        ExecutionStatus::Running => 1,
        ExecutionStatus::Completed => 2,
        ExecutionStatus::Killed => 3,
        ExecutionStatus::Expired => 4,
    }
}

fn target_code(state: TargetState) -> u8 {
    match state {
        TargetState::Waiting => 0,
        TargetState::Running => 1,
        TargetState::Succeeded => 2,
        TargetState::Failed => 3,
        TargetState::Killed => 4,
        TargetState::TimedOut => 5,
        TargetState::Lost => 6,
        TargetState::Refused => 7,
        TargetState::Superseded => 8,
        TargetState::Withdrawn => 9,
        TargetState::Expired => 10,
    }
}
