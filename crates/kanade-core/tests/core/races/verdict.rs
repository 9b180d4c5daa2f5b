//! What is to hold in the end: what the server has recorded, against what the agents have really done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kanade_memory::simulation::{Deed, Entry, Kind, SimulatedAgent};
use kanade_model::{Ended, ExecId, ExecutionStatus, Receipt, RequestId, ResultId, RunState, TargetState};
use kanade_ports::{Execution, ExecutionStore, TargetQuery, TargetRecord};

use super::fleet::World;

/// An agent that can be reached shows life at least this often, and is killed then; with the time that ending takes.
const LONGEST_SILENCE: Duration = Duration::from_secs(30 + 5);
/// From a start to the kill that follows when the server hears of it: the report, a repetition, the end.
const LONGEST_FOLLOWING: Duration = Duration::from_secs(4 + 2 + 3 + 1);

/// What went wrong in a world.
pub(super) async fn of(world: &World) -> Vec<String> {
    let mut failed = Vec::new();
    for exec in &world.fired {
        let execution = world.store.execution(exec).await.unwrap().unwrap();
        for target in targets(world, exec).await {
            let mut said = about_target(world, &execution, &target);
            said.iter_mut()
                .for_each(|what| *what = format!("{exec} on {}: {what} ({target:?})", target.pc_id));
            failed.extend(said);
        }
        failed.extend(about_execution(world, &execution));
    }
    for agent in &world.agents {
        failed.extend(about_agent(world, agent).await);
    }
    failed
}

pub(super) async fn targets(world: &World, exec: &ExecId) -> Vec<TargetRecord> {
    let query = TargetQuery {
        exec_id: exec.clone(),
        state: None,
        limit: 1000,
        after: None,
    };
    world.store.targets(&query).await.unwrap().items
}

fn about_execution(world: &World, execution: &Execution) -> Vec<String> {
    let mut failed = Vec::new();
    let exec = &execution.exec_id;
    let has_killed =
        execution.counts.of(TargetState::Killed) + execution.counts.of(TargetState::Withdrawn) > 0;
    let wanted = if has_killed {
        ExecutionStatus::Killed
    } else {
        ExecutionStatus::Completed
    };
    if execution.status != wanted {
        failed.push(format!("{exec} is {} and not {wanted}", execution.status));
    }
    if let Some(kill) = execution.kill.as_ref().filter(|kill| !kill.settled) {
        failed.push(format!("the kill of {exec} is not settled: {kill:?}"));
    }
    failed.extend(too_many_at_once(world, execution));
    let left = world.left.lock().unwrap();
    for (killed_at, _) in world.killed.iter().filter(|(_, of)| of == exec) {
        if left.iter().any(|(left_at, of)| of == exec && left_at > killed_at) {
            failed.push(format!(
                "a Command of {exec} has left after its kill at {killed_at} was answered"
            ));
        }
    }
    failed
}

/// What runs at once is never more than the job allows. Who has gone for good is taken for lost, and makes room.
fn too_many_at_once(world: &World, execution: &Execution) -> Option<String> {
    let most = execution.course.max_parallel?;
    let mut running = BTreeSet::new();
    for entry in world.diary.read() {
        if entry.exec != execution.exec_id || world.gone.contains(&entry.pc) {
            continue;
        }
        match entry.deed {
            Deed::Started(_, run) => {
                running.insert(run);
            }
            Deed::Ended(_, run, ..) | Deed::Vanished(run) => {
                running.remove(&run);
            }
            _ => {}
        }
        if running.len() > most as usize {
            return Some(format!(
                "{} run {} at {} and not {most}",
                running.len(),
                entry.exec,
                entry.at
            ));
        }
    }
    None
}

fn about_target(world: &World, execution: &Execution, target: &TargetRecord) -> Vec<String> {
    let Some(agent) = world.agents.iter().find(|agent| *agent.pc() == target.pc_id) else {
        return vec!["nobody knows this agent".into()];
    };
    let entries: Vec<Entry> = world
        .diary
        .read()
        .into_iter()
        .filter(|entry| entry.pc == target.pc_id && entry.exec == execution.exec_id)
        .collect();
    let mut failed = earlier_attempts(execution, target, &entries);
    let truth = Truth {
        is_gone: world.gone.contains(&target.pc_id),
        kind: agent.kind(),
        entries: of_request(&entries, target.request_id),
    };
    if !target.state.is_final() {
        failed.push("it is not at its end".into());
    }
    failed.extend(truth.contradicts(target));
    let is_killed = execution.kill.is_some();
    match target.receipt {
        None => {
            let ended_first = |kill: &kanade_ports::Kill| target.finished_at.is_some_and(|at| at <= kill.at);
            let never_sent = target.state == TargetState::Withdrawn && truth.took_nothing();
            if execution
                .kill
                .as_ref()
                .is_some_and(|kill| !ended_first(kill) && !never_sent)
            {
                failed.push("it has no receipt".into());
            }
        }
        Some(_) if !is_killed => failed.push("it has a receipt of no kill".into()),
        Some(Receipt::Requested | Receipt::Delivered) => failed.push("its receipt is not final".into()),
        Some(Receipt::Confirmed) => {
            let killed = truth.ended().any(|(_, ended, _)| ended == Ended::Killed);
            if !killed && !truth.heard_a_kill() {
                failed.push("it has confirmed a kill that it never followed".into());
            }
        }
        Some(Receipt::Finished) => {
            if target.state.is_presumed() || target.state == TargetState::Killed {
                failed.push("finished, and not by itself".into());
            }
        }
        Some(Receipt::Unreachable) => {
            if !truth.is_gone && truth.kind == Kind::Ours && truth.took_something() {
                failed.push("it could be reached".into());
            }
        }
    }
    failed
}

/// What an agent did with one request, and the kills that it heard.
fn of_request(entries: &[Entry], request: RequestId) -> Vec<Entry> {
    let starts = || {
        entries.iter().filter_map(|entry| match entry.deed {
            Deed::Started(of, run) => Some((of, run)),
            _ => None,
        })
    };
    let is_of_it = |entry: &&Entry| match &entry.deed {
        Deed::Took(of) | Deed::Refused(of) | Deed::Started(of, _) | Deed::Ended(of, ..) => *of == request,
        Deed::Vanished(run) => starts().any(|(of, started)| of == request && started == *run),
        Deed::HeardKill => true,
    };
    entries.iter().filter(is_of_it).cloned().collect()
}

/// An attempt follows only one that has really failed, in a way that counts, and before any kill; there are no more than
/// the job allows.
fn earlier_attempts(execution: &Execution, target: &TargetRecord, entries: &[Entry]) -> Vec<String> {
    let mut failed = Vec::new();
    let most = execution
        .course
        .retry
        .as_ref()
        .map_or(1, |retry| retry.rule.max_attempts);
    if target.attempt > most {
        failed.push(format!("attempt {} of {most}", target.attempt));
    }
    let mut earlier: Vec<RequestId> = entries
        .iter()
        .filter_map(|entry| match entry.deed {
            Deed::Ended(of, _, Ended::Exited | Ended::NotStarted | Ended::Interrupted, code) if code != 0 => {
                Some(of)
            }
            _ => None,
        })
        .filter(|of| *of != target.request_id)
        .collect();
    earlier.sort_unstable();
    earlier.dedup();
    if earlier.len() + 1 != target.attempt as usize {
        failed.push(format!(
            "{} other requests have failed: {entries:#?}",
            earlier.len()
        ));
    }
    failed
}

/// What an agent has really done of what it was asked for last in an execution.
struct Truth {
    is_gone: bool,
    kind: Kind,
    entries: Vec<Entry>,
}

impl Truth {
    fn ended(&self) -> impl Iterator<Item = (ResultId, Ended, i32)> {
        self.entries.iter().filter_map(|entry| match entry.deed {
            Deed::Ended(_, run, ended, code) => Some((run, ended, code)),
            _ => None,
        })
    }

    fn started(&self) -> usize {
        let started = |entry: &&Entry| matches!(entry.deed, Deed::Started(..));
        self.entries.iter().filter(started).count()
    }

    fn took_something(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry.deed, Deed::Took(_)))
    }

    fn took_nothing(&self) -> bool {
        !self.took_something()
    }

    fn heard_a_kill(&self) -> bool {
        self.entries.iter().any(|entry| entry.deed == Deed::HeardKill)
    }

    fn refused(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry.deed, Deed::Refused(_)))
    }

    fn vanished(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry.deed, Deed::Vanished(_)))
    }

    /// What of a state cannot be.
    fn contradicts(&self, target: &TargetRecord) -> Option<String> {
        let of_run = self.ended().find(|(run, ..)| Some(*run) == target.run);
        let is_true = match target.state {
            TargetState::Waiting | TargetState::Running => true,
            TargetState::Refused | TargetState::Superseded => self.refused(),
            // Nothing was heard of it, or of a run only that it had begun.
            TargetState::Lost => self.is_gone || self.vanished(),
            TargetState::Withdrawn | TargetState::Expired => {
                self.is_gone || (self.started() == 0 && self.ended().next().is_none())
            }
            state => of_run.is_some_and(|(_, ended, code)| state_of(ended, code) == state),
        };
        (!is_true).then(|| format!("it is {}, but {:#?}", target.state, self.entries))
    }
}

fn state_of(ended: Ended, code: i32) -> TargetState {
    match ended {
        Ended::Killed => TargetState::Killed,
        Ended::TimedOut => TargetState::TimedOut,
        Ended::Exited if code == 0 => TargetState::Succeeded,
        Ended::Exited | Ended::Interrupted | Ended::NotStarted => TargetState::Failed,
    }
}

async fn about_agent(world: &World, agent: &SimulatedAgent) -> Vec<String> {
    let (pc, is_gone) = (agent.pc(), world.gone.contains(agent.pc()));
    let mut failed = Vec::new();
    let diary = world.diary.read();
    let mine = || diary.iter().filter(|entry| entry.pc == *pc);
    if !is_gone {
        if agent.unsent() > 0 {
            failed.push(format!("{pc} still has {} reports", agent.unsent()));
        }
        for exec in agent.running() {
            failed.push(format!("{exec} still runs on {pc}"));
        }
        for entry in mine() {
            let Deed::Ended(_, run, ended, code) = entry.deed else {
                continue;
            };
            let record = world.store.run(&run).await.unwrap();
            let wanted = match state_of(ended, code) {
                TargetState::Killed => RunState::Killed,
                TargetState::TimedOut => RunState::TimedOut,
                TargetState::Succeeded => RunState::Succeeded,
                _ => RunState::Failed,
            };
            if record.as_ref().map(|record| record.run.state) != Some(wanted) {
                failed.push(format!(
                    "the result of {run} on {pc} is lost: {record:?} and not {wanted}"
                ));
            }
        }
    }
    failed.extend(in_time(world, agent, &diary));
    if agent.kind() == Kind::Ours {
        let mut starts = BTreeMap::new();
        let mut killed = Vec::new();
        for entry in mine() {
            match &entry.deed {
                Deed::HeardKill => killed.push(&entry.exec),
                Deed::Started(request, _) => {
                    *starts.entry(*request).or_insert(0) += 1;
                    if killed.contains(&&entry.exec) {
                        failed.push(format!("{pc} has started {} after its kill", entry.exec));
                    }
                }
                _ => {}
            }
        }
        let twice = starts.iter().filter(|(_, count)| **count > 1);
        failed.extend(twice.map(|(request, _)| format!("{pc} has started {request} twice")));
    }
    failed
}

/// Once the network has healed, what was killed before ends soon, and who comes back then does not start it.
fn in_time(world: &World, agent: &SimulatedAgent, diary: &[Entry]) -> Vec<String> {
    let pc = agent.pc();
    if world.gone.contains(pc) {
        return Vec::new();
    }
    let healed_at = world.healed_at;
    let killed_before = |exec: &ExecId| world.killed.iter().any(|(at, of)| of == exec && *at <= healed_at);
    let mine: Vec<&Entry> = diary
        .iter()
        .filter(|entry| entry.pc == *pc && killed_before(&entry.exec))
        .collect();
    let mut failed = Vec::new();
    for begun in &mine {
        let Deed::Started(_, run) = begun.deed else {
            continue;
        };
        if begun.at > healed_at && agent.kind() == Kind::Ours && world.back.contains(pc) {
            failed.push(format!(
                "{pc} is back and has started {} at {}, which was killed",
                begun.exec, begun.at
            ));
        }
        let is_end = |entry: &&&Entry| match entry.deed {
            Deed::Ended(_, of, ..) | Deed::Vanished(of) => of == run,
            _ => false,
        };
        let in_time = healed_at
            .plus(LONGEST_SILENCE)
            .max(begun.at.plus(LONGEST_FOLLOWING));
        if mine.iter().find(is_end).is_none_or(|end| end.at > in_time) {
            failed.push(format!("{} runs on {pc} beyond {in_time}: {mine:#?}", begun.exec));
        }
    }
    failed
}
