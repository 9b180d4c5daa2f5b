//! Finds the processes of a run in `/proc`.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Read,
};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::RUN_ID_VARIABLE;

/// Names a process beyond the life of its pid: the same number is given out again, but not with the same start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessMark {
    pub(crate) pid: u32,
    /// Clock ticks from the boot to the start of the process.
    start_ticks: u64,
    boot_id: String,
}

impl ProcessMark {
    /// The mark of a process that exists now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            start_ticks: Process::read(pid.try_into().ok()?)?.start_ticks,
            boot_id: boot_id()?,
        })
    }
}

fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .map(|id| id.trim().to_owned())
}

/// One line of `/proc/*/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    parent: Pid,
    pub(super) group: Pid,
    start_ticks: u64,
    ended: bool,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (comm) state ppid pgrp …`, proc_pid_stat(5). The name may hold anything, also `) Z 1`.
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse().ok().map(Pid::from_raw);
        Some(Self {
            pid: Pid::from_raw(pid.parse().ok()?),
            parent: number(1)?,
            group: number(2)?,
            start_ticks: fields.get(19)?.parse().ok()?,
            ended: matches!(*fields.first()?, "Z" | "X" | "x"),
        })
    }

    fn carries(&self, marker: &[u8]) -> bool {
        let mut environment = Vec::new();
        fs::File::open(format!("/proc/{}/environ", self.pid))
            .and_then(|mut file| file.read_to_end(&mut environment))
            .is_ok_and(|_| {
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == marker)
            })
    }
}

fn every_process() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Process::read(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// Knows the processes of a run, also those whose parents have ended since it last looked.
#[derive(Debug)]
pub(super) struct Members {
    group: Pid,
    /// `KANADE_RUN_ID=…` as it stands in the environment.
    marker: Vec<u8>,
    /// Pid and start of every member seen so far.
    known: HashSet<(Pid, u64)>,
    /// No member is older than its leader.
    since_ticks: u64,
}

impl Members {
    pub(super) fn new(group: Pid, run_id: &str, leader: Option<ProcessMark>) -> Self {
        let leader = leader.filter(|mark| boot_id().as_ref() == Some(&mark.boot_id));
        Self {
            group,
            marker: format!("{RUN_ID_VARIABLE}={run_id}").into_bytes(),
            since_ticks: leader.as_ref().map_or(0, |mark| mark.start_ticks),
            known: leader.map(|mark| (group, mark.start_ticks)).into_iter().collect(),
        }
    }

    /// The members that have not ended.
    pub(super) fn alive(&mut self) -> Vec<Process> {
        let processes = every_process();
        let mut members: HashSet<Pid> = processes
            .iter()
            .filter(|process| self.is_certain(process))
            .map(|process| process.pid)
            .collect();
        // A group number alone proves nothing, it may have been given out again. One certain member does.
        let in_group = |process: &&Process| process.group == self.group;
        if processes
            .iter()
            .filter(in_group)
            .any(|process| members.contains(&process.pid))
        {
            members.extend(processes.iter().filter(in_group).map(|process| process.pid));
        }
        add_descendants(&mut members, &processes);
        members.remove(&Pid::this());
        let members = processes.iter().filter(|process| members.contains(&process.pid));
        self.known
            .extend(members.clone().map(|process| (process.pid, process.start_ticks)));
        members.filter(|process| !process.ended).copied().collect()
    }

    fn is_certain(&self, process: &Process) -> bool {
        self.known.contains(&(process.pid, process.start_ticks))
            || (process.start_ticks >= self.since_ticks && process.carries(&self.marker))
    }
}

fn add_descendants(members: &mut HashSet<Pid>, processes: &[Process]) {
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut open: Vec<Pid> = members.iter().copied().collect();
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if members.insert(*child) {
                open.push(*child);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_process_is_called() {
        let rest = "S 10 20 20 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200";
        for name in ["sh", "a b", ") Z 1 (", "("] {
            let process = Process::parse(&format!("42 ({name}) {rest}")).unwrap();
            assert_eq!(process.pid.as_raw(), 42);
            assert_eq!(
                (process.parent.as_raw(), process.group.as_raw()),
                (10, 20),
                "{name}"
            );
            assert_eq!((process.start_ticks, process.ended), (98765, false));
        }
        assert!(Process::parse("42 (sh) Z 1").is_none());
        assert!(Process::parse("").is_none());
    }

    #[test]
    fn descendants_are_followed_over_generations() {
        let process = |pid, parent| Process {
            pid: Pid::from_raw(pid),
            parent: Pid::from_raw(parent),
            group: Pid::from_raw(pid),
            start_ticks: 0,
            ended: false,
        };
        let processes = [process(2, 1), process(4, 3), process(3, 2), process(9, 1)];
        let mut members = HashSet::from([Pid::from_raw(2)]);
        add_descendants(&mut members, &processes);
        assert_eq!(members, [2, 3, 4].map(Pid::from_raw).into());
    }

    #[test]
    fn a_mark_of_an_earlier_boot_or_an_earlier_process_of_that_number_finds_nothing() {
        let own = std::process::id();
        let mark = ProcessMark::of(own).unwrap();
        let earlier_boot = ProcessMark {
            boot_id: "another".into(),
            ..mark.clone()
        };
        let earlier_process = ProcessMark {
            start_ticks: mark.start_ticks - 1,
            ..mark
        };
        for stale in [earlier_boot, earlier_process] {
            let group = Pid::from_raw(own.try_into().unwrap());
            assert_eq!(Members::new(group, "no-such-run", Some(stale)).alive(), []);
        }
    }
}
