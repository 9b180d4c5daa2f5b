//! Runs, agents, and what inventory jobs found out.

use kanade_model::{ExecId, JobId, PcId, ResultId, RunState};
use kanade_ports::{Agent, Facts, Run, RunFilter};
use redb::TableDefinition;

use crate::{
    key::Key,
    table::{Definition, List, Record},
};

impl Record for Run {
    const NAME: &'static str = "run";
    const ROWS: Definition = TableDefinition::new("runs");
    const LISTS: Option<Definition> = Some(TableDefinition::new("run_lists"));

    fn key(&self) -> Key {
        run(self.result_id)
    }

    fn places(&self) -> Vec<Key> {
        let at = self.started_at;
        let mut places: Vec<Key> = [
            runs(),
            runs_on(self.pc_id.as_str()),
            runs_of_job(self.job_id.as_ref().map_or("", JobId::as_str)),
            runs_of(self.exec_id.as_ref().map_or("", ExecId::as_str)),
            runs_that(outcome(self.state)),
        ]
        .iter()
        .map(|list| list.name().moment(at))
        .collect();
        if self.state == RunState::Running {
            places.extend(self.check_at.map(|at| overdue_runs().name().moment(at)));
        } else {
            places.push(ended_runs().name().moment(self.finished_at.unwrap_or(at)));
        }
        places
    }

    json!();
}

pub(crate) fn run(id: ResultId) -> Key {
    Key::new().uuid(id.0)
}

/// Every run, by the time it started.
pub(crate) fn runs() -> List {
    List::by_moment(Key::list(0))
}

/// Runs on an agent. Here and below ids are plain text: what is looked for may be any text, and the empty one stands
/// for a missing id.
pub(crate) fn runs_on(pc_id: &str) -> List {
    List::by_moment(Key::list(1).text(pc_id))
}

pub(crate) fn runs_of_job(job_id: &str) -> List {
    List::by_moment(Key::list(2).text(job_id))
}

pub(crate) fn runs_of(exec_id: &str) -> List {
    List::by_moment(Key::list(3).text(exec_id))
}

/// Runs with an outcome.
pub(crate) fn runs_that(outcome: RunFilter) -> List {
    let code = match outcome {
        RunFilter::Success => 0,
        RunFilter::Failure => 1,
        RunFilter::Running => 2,
    };
    List::by_moment(Key::list(4).byte(code))
}

/// Running runs, by the time they are lost.
pub(crate) fn overdue_runs() -> List {
    List::by_moment(Key::list(5))
}

/// Runs that are not running, by the time they ended.
pub(crate) fn ended_runs() -> List {
    List::by_moment(Key::list(6))
}

fn outcome(state: RunState) -> RunFilter {
    match state {
        RunState::Running => RunFilter::Running,
        RunState::Succeeded => RunFilter::Success,
        RunState::Failed | RunState::Killed | RunState::TimedOut | RunState::Lost => RunFilter::Failure,
    }
}

impl Record for Agent {
    const NAME: &'static str = "agent";
    const ROWS: Definition = TableDefinition::new("agents");
    const LISTS: Option<Definition> = None;

    fn key(&self) -> Key {
        agent(&self.pc_id)
    }

    fn places(&self) -> Vec<Key> {
        Vec::new()
    }

    json!();
}

pub(crate) fn agent(pc_id: &PcId) -> Key {
    Key::new().last(pc_id.as_str())
}

impl Record for Facts {
    const NAME: &'static str = "facts";
    const ROWS: Definition = TableDefinition::new("facts");
    const LISTS: Option<Definition> = Some(TableDefinition::new("fact_lists"));

    fn key(&self) -> Key {
        facts(&self.pc_id, &self.job_id)
    }

    fn places(&self) -> Vec<Key> {
        vec![facts_by(&self.job_id).name()]
    }

    json!();
}

/// What the facts about an agent start with; their rows stand in the order of the job ids.
pub(crate) fn facts_of(pc_id: &str) -> Key {
    Key::new().text(pc_id)
}

pub(crate) fn facts(pc_id: &PcId, job_id: &JobId) -> Key {
    facts_of(pc_id.as_str()).last(job_id.as_str())
}

/// What a job found out, by pc id.
pub(crate) fn facts_by(job_id: &JobId) -> List {
    List::by_key(Key::list(0).text(job_id.as_str()))
}
