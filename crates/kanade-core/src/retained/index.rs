//! What is retained, as far as is known: one Command a subject, without its script.

use std::collections::{HashMap, HashSet};

use kanade_model::{ExecId, JobId, PcId, RequestId, Subject, Timestamp, Version};
use kanade_ports::{Execution, Sequence};
use serde::Deserialize;

/// Subjects that are remembered. There are as many as agents; what lies on more than these stays where it is.
const REMEMBERED: usize = 200_000;

/// Knows where Commands are retained and which of them are to go.
#[derive(Debug, Default)]
pub(super) struct Index {
    kept: HashMap<Subject, Kept>,
    of: HashMap<ExecId, Subjects>,
    /// The number of the newest watch.
    watch: u64,
}

#[derive(Debug, Default)]
struct Subjects {
    /// Those of one agent each.
    single: HashSet<Subject>,
    /// Those that many agents read.
    shared: HashSet<Subject>,
}

/// A Command that is retained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) sequence: Sequence,
    pub(super) command: Told,
    /// The watch in which it was heard of last.
    heard_in: u64,
    doomed: bool,
}

/// What is remembered of a Command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Told {
    #[serde(rename = "id")]
    pub(super) job_id: JobId,
    pub(super) version: Version,
    pub(super) request_id: RequestId,
    #[serde(default, alias = "job_id")]
    pub(super) exec_id: Option<ExecId>,
    #[serde(default)]
    pub(super) deadline_at: Option<Timestamp>,
}

/// Where a Command is retained.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) subject: Subject,
    pub(super) sequence: Sequence,
}

impl Told {
    /// What a Command of an execution says.
    pub(super) fn of(execution: &Execution, request_id: RequestId, deadline_at: Option<Timestamp>) -> Self {
        Self {
            job_id: execution.job_id.clone(),
            version: execution.version.clone(),
            request_id,
            exec_id: Some(execution.exec_id.clone()),
            deadline_at,
        }
    }

    /// Whether agents would not start it any more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.deadline_at.is_some_and(|by| by < now)
    }
}

impl Index {
    /// A new watch begins: it will tell everything that stands.
    pub(super) fn begin_watch(&mut self) {
        self.watch += 1;
    }

    /// The watch has told everything: what it has not told is gone.
    pub(super) fn end_of_list(&mut self) {
        let watch = self.watch;
        self.drop_where(|_, kept| kept.heard_in < watch);
    }

    /// Takes note of what is retained. Whether that was news.
    pub(super) fn note(&mut self, place: Place, command: Told) -> bool {
        if !self.takes_place(&place) {
            return false;
        }
        if self.kept.len() >= REMEMBERED && !self.kept.contains_key(&place.subject) {
            tracing::warn!(subject = %place.subject, "too many Commands are retained to look after this one");
            return false;
        }
        self.forget(&place.subject);
        if let Some(exec) = &command.exec_id {
            let subjects = self.of.entry(exec.clone()).or_default();
            subjects.mut_of(&place.subject).insert(place.subject.clone());
        }
        let kept = Kept {
            sequence: place.sequence,
            command,
            heard_in: self.watch,
            doomed: false,
        };
        self.kept.insert(place.subject, kept);
        true
    }

    /// Takes note that something else than a Command has taken the place of one.
    pub(super) fn note_other(&mut self, place: &Place) {
        if self.takes_place(place) {
            self.forget(&place.subject);
        }
    }

    /// Whether something is the newest on its subject. The same again counts as heard of, and nothing more.
    fn takes_place(&mut self, place: &Place) -> bool {
        let watch = self.watch;
        match self.kept.get_mut(&place.subject) {
            None => true,
            Some(kept) if kept.sequence == place.sequence => {
                kept.heard_in = watch;
                false
            }
            // Where a broker began anew, so did its numbers, and what was known from before does not count.
            Some(kept) => kept.sequence < place.sequence || kept.heard_in < watch,
        }
    }

    /// Whether nothing is retained.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether something of an execution is retained.
    pub(super) fn holds(&self, exec: &ExecId) -> bool {
        self.of.contains_key(exec)
    }

    /// Whether something of an execution is retained on a subject that many agents read.
    pub(super) fn holds_shared(&self, exec: &ExecId) -> bool {
        self.of
            .get(exec)
            .is_some_and(|subjects| !subjects.shared.is_empty())
    }

    /// Every execution of which something is retained.
    pub(super) fn executions(&self) -> impl Iterator<Item = &ExecId> {
        self.of.keys()
    }

    /// Every job of which something is retained.
    pub(super) fn jobs(&self) -> HashSet<JobId> {
        let jobs = self.kept.values().map(|kept| kept.command.job_id.clone());
        jobs.collect()
    }

    /// What is retained of an execution for one agent each.
    pub(super) fn single_of(&self, exec: &ExecId) -> HashMap<Subject, Sequence> {
        self.places(self.of.get(exec).map(|subjects| &subjects.single))
    }

    /// What is retained of an execution for many agents.
    pub(super) fn shared_of(&self, exec: &ExecId) -> HashMap<Subject, Sequence> {
        self.places(self.of.get(exec).map(|subjects| &subjects.shared))
    }

    fn places(&self, subjects: Option<&HashSet<Subject>>) -> HashMap<Subject, Sequence> {
        let place = |subject: &Subject| Some((subject.clone(), self.kept.get(subject)?.sequence));
        subjects.into_iter().flatten().filter_map(place).collect()
    }

    /// This one is to go. Whether it is still there.
    pub(super) fn doom(&mut self, subject: &Subject, sequence: Sequence) -> bool {
        self.doom_if(subject, |kept| kept.sequence == sequence)
    }

    /// What is retained on a subject is to go, if it is `the_one`. Whether it is.
    pub(super) fn doom_if(&mut self, subject: &Subject, the_one: impl Fn(&Kept) -> bool) -> bool {
        match self.kept.get_mut(subject) {
            Some(kept) if the_one(kept) => {
                kept.doomed = true;
                true
            }
            _ => false,
        }
    }

    /// All of an execution is to go.
    pub(super) fn doom_execution(&mut self, exec: &ExecId) -> Vec<Place> {
        let Some(subjects) = self.of.get(exec) else {
            return Vec::new();
        };
        let mut doomed = Vec::new();
        for subject in subjects.single.iter().chain(&subjects.shared) {
            if let Some(kept) = self.kept.get_mut(subject) {
                kept.doomed = true;
                doomed.push(Place {
                    subject: subject.clone(),
                    sequence: kept.sequence,
                });
            }
        }
        doomed
    }

    /// All that is `gone` is to go.
    pub(super) fn doom_where(&mut self, gone: impl Fn(&Told) -> bool) -> Vec<Place> {
        let mut doomed = Vec::new();
        for (subject, kept) in &mut self.kept {
            if gone(&kept.command) {
                kept.doomed = true;
                doomed.push(Place {
                    subject: subject.clone(),
                    sequence: kept.sequence,
                });
            }
        }
        doomed
    }

    /// Everything that is to go.
    pub(super) fn doomed(&self) -> Vec<Place> {
        let doomed = self.kept.iter().filter(|(_, kept)| kept.doomed);
        let place = |(subject, kept): (&Subject, &Kept)| Place {
            subject: subject.clone(),
            sequence: kept.sequence,
        };
        doomed.map(place).collect()
    }

    /// This one has been removed.
    pub(super) fn removed(&mut self, place: &Place) {
        let is_this = |kept: &Kept| kept.sequence == place.sequence;
        if self.kept.get(&place.subject).is_some_and(is_this) {
            self.forget(&place.subject);
        }
    }

    fn drop_where(&mut self, gone: impl Fn(&Subject, &Kept) -> bool) {
        let gone: Vec<Subject> = self
            .kept
            .iter()
            .filter(|(subject, kept)| gone(subject, kept))
            .map(|(subject, _)| subject.clone())
            .collect();
        gone.iter().for_each(|subject| self.forget(subject));
    }

    fn forget(&mut self, subject: &Subject) {
        let exec = self.kept.remove(subject).and_then(|kept| kept.command.exec_id);
        if let Some(exec) = exec
            && let Some(subjects) = self.of.get_mut(&exec)
        {
            subjects.mut_of(subject).remove(subject);
            if subjects.single.is_empty() && subjects.shared.is_empty() {
                self.of.remove(&exec);
            }
        }
    }
}

impl Subjects {
    fn mut_of(&mut self, subject: &Subject) -> &mut HashSet<Subject> {
        if subject.as_str().starts_with("commands.pc.") {
            &mut self.single
        } else {
            &mut self.shared
        }
    }
}

/// Whether what is retained on an agent's own subject is the Command that the agent speaks of.
pub(super) fn is_request(request: RequestId) -> impl Fn(&Kept) -> bool {
    move |kept| kept.command.request_id == request
}

/// Where an agent's own Commands are.
pub(super) fn own(pc: &PcId) -> Subject {
    Subject::commands_pc(pc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn told(exec: &str, request: u128) -> Told {
        Told {
            job_id: "backup".parse().unwrap(),
            version: "1".parse().unwrap(),
            request_id: RequestId(Uuid::from_u128(request)),
            exec_id: Some(exec.parse().unwrap()),
            deadline_at: None,
        }
    }

    fn at(subject: &str, sequence: u64) -> Place {
        Place {
            subject: subject.parse().unwrap(),
            sequence: Sequence(sequence),
        }
    }

    fn exec(text: &str) -> ExecId {
        text.parse().unwrap()
    }

    #[test]
    fn of_a_subject_only_the_newest_is_remembered_in_whatever_order_it_is_told() {
        for order in [[1, 2], [2, 1]] {
            let mut index = Index::default();
            for number in order {
                index.note(at("commands.pc.a", number), told(&format!("e-{number}"), 7));
            }
            assert!(
                !index.holds(&exec("e-1")) && index.holds(&exec("e-2")),
                "{order:?}"
            );
            assert!(
                !index.note(at("commands.pc.a", 2), told("e-2", 7)),
                "known already"
            );
        }
    }

    #[test]
    fn what_a_watch_does_not_tell_is_gone_but_for_what_was_kept_since_it_began() {
        let mut index = Index::default();
        index.begin_watch();
        for (number, pc) in [(1, "a"), (2, "b")] {
            index.note(at(&format!("commands.pc.{pc}"), number), told(pc, 1));
        }
        index.begin_watch();
        index.note(at("commands.pc.c", 3), told("c", 1));
        index.note(at("commands.pc.a", 1), told("a", 1));
        index.end_of_list();
        let mut known: Vec<&str> = index.executions().map(ExecId::as_str).collect();
        known.sort_unstable();
        assert_eq!(known, ["a", "c"]);
    }

    #[test]
    fn a_broker_that_begins_anew_is_believed() {
        let mut index = Index::default();
        index.begin_watch();
        index.note(at("commands.pc.a", 900), told("old", 1));
        index.begin_watch();
        index.note(at("commands.pc.a", 1), told("new", 1));
        index.end_of_list();
        assert!(!index.holds(&exec("old")) && index.holds(&exec("new")));
    }

    #[test]
    fn a_removal_is_of_one_command_and_never_of_a_newer_one() {
        let mut index = Index::default();
        index.note(at("commands.pc.a", 1), told("e-1", 1));
        let doomed = index.doom_execution(&exec("e-1"));
        assert_eq!(doomed, [at("commands.pc.a", 1)]);
        index.note(at("commands.pc.a", 2), told("e-2", 2));
        assert!(!index.doom(&doomed[0].subject, doomed[0].sequence));
        assert_eq!(index.doomed(), [], "the newer one is not to go");
        index.removed(&doomed[0]);
        assert!(index.holds(&exec("e-2")));
        index.removed(&at("commands.pc.a", 2));
        assert!(index.is_empty() && !index.holds(&exec("e-2")));
    }

    #[test]
    fn what_is_no_command_takes_the_place_of_one() {
        let mut index = Index::default();
        index.note(at("commands.pc.a", 1), told("e-1", 1));
        index.note_other(&at("commands.pc.a", 2));
        assert!(index.is_empty());
    }

    #[test]
    fn subjects_of_one_agent_and_of_many_are_told_apart() {
        let mut index = Index::default();
        for (number, subject) in [
            (1, "commands.all"),
            (2, "commands.group.x"),
            (3, "commands.pc.all"),
        ] {
            index.note(at(subject, number), told("e", 1));
        }
        assert_eq!(index.single_of(&exec("e")).len(), 1);
        assert_eq!(index.shared_of(&exec("e")).len(), 2);
        assert!(index.holds_shared(&exec("e")));
    }

    #[test]
    fn commands_of_others_are_read_with_what_they_have() {
        let text = r#"{"id": "a/b=c", "version": "v 1", "request_id": "00000000-0000-0000-0000-000000000007",
            "job_id": "old", "script": "true", "future": [1]}"#;
        let told: Told = serde_json::from_str(text).unwrap();
        assert_eq!((told.job_id.as_str(), told.exec_id), ("a/b=c", Some(exec("old"))));
    }
}
