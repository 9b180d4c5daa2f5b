//! Ends a script with everything it has started: TERM to the whole tree, KILL after a while to what is left.
//!
//! On Linux the tree is the process group, the descendants, and every process that carries the run's id in its
//! environment, which finds daemons that left the group (`setsid`, `nohup … &`). Elsewhere on Unix it is the process
//! group. A process that left the group, cleared its environment and outlived its parents is nobody's child any more.

#[cfg(target_os = "linux")]
mod procfs;

use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use nix::sys::signal::kill;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

#[cfg(target_os = "linux")]
pub(crate) use procfs::ProcessMark;

/// The environment variable that marks every process of a run.
pub(crate) const RUN_ID_VARIABLE: &str = "KANADE_RUN_ID";

/// What is left after TERM gets KILL this much later.
pub(crate) const GRACE: Duration = Duration::from_secs(2);
/// A process that survives KILL hangs in the kernel: it is given up after this time.
const HOPELESS: Duration = Duration::from_secs(5);
/// Between two looks at what is left. Nobody tells when a grandchild ends, so it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The processes of one run.
#[derive(Debug)]
pub(crate) struct Tree {
    group: Pid,
    #[cfg(target_os = "linux")]
    members: procfs::Members,
}

/// What [`Tree::end`] left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// Nothing.
    Nothing,
    /// Processes that KILL does not end.
    Stuck,
}

impl Tree {
    /// The tree of a process that was just started as the leader of its group, with `run_id` in its environment.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(unused_variables, reason = "only /proc shows environments")
    )]
    pub(crate) fn of(leader: u32, run_id: &str) -> Self {
        let group = Pid::from_raw(leader.try_into().expect("a process id fits"));
        Self {
            group,
            #[cfg(target_os = "linux")]
            members: procfs::Members::new(group, run_id, procfs::ProcessMark::of(leader)),
        }
    }

    /// What may be left of a run of an agent that is gone.
    #[cfg(target_os = "linux")]
    pub(crate) fn left_behind(run_id: &str, leader: Option<ProcessMark>) -> Self {
        let group = leader.as_ref().map_or(0, |mark| mark.pid);
        let group = Pid::from_raw(group.try_into().unwrap_or(0));
        Self {
            group,
            members: procfs::Members::new(group, run_id, leader),
        }
    }

    /// TERM to everything; KILL after `grace` to what is left. Blocks until nothing is left.
    pub(crate) fn end(mut self, grace: Duration) -> Remains {
        let kill_at = Instant::now() + grace;
        self.signal(Signal::SIGTERM);
        while Instant::now() < kill_at {
            if !self.is_alive() {
                return Remains::Nothing;
            }
            std::thread::sleep(LOOK);
        }
        let give_up_at = kill_at + HOPELESS;
        // Again and again: what forks while it is being listed is found the next time.
        while self.signal(Signal::SIGKILL) {
            if Instant::now() > give_up_at {
                return Remains::Stuck;
            }
            std::thread::sleep(LOOK);
        }
        Remains::Nothing
    }

    /// KILL to the group, without looking for what left it.
    pub(crate) fn kill_group(&self) {
        signal_group(self.group, Signal::SIGKILL);
    }
}

#[cfg(target_os = "linux")]
impl Tree {
    fn is_alive(&mut self) -> bool {
        !self.members.alive().is_empty()
    }

    /// Signals everything; whether there was anything.
    fn signal(&mut self, signal: Signal) -> bool {
        let alive = self.members.alive();
        // The group first, at once: it cannot be outrun by a fork.
        if alive.iter().any(|process| process.group == self.group) {
            signal_group(self.group, signal);
        }
        for process in alive.iter().filter(|process| process.group != self.group) {
            // ESRCH: it has ended by itself. EPERM: it has changed its user; the next look finds it again.
            let _ = kill(process.pid, signal);
        }
        !alive.is_empty()
    }
}

#[cfg(not(target_os = "linux"))]
impl Tree {
    fn is_alive(&mut self) -> bool {
        killpg(self.group, None).is_ok()
    }

    fn signal(&mut self, signal: Signal) -> bool {
        signal_group(self.group, signal)
    }
}

fn signal_group(group: Pid, signal: Signal) -> bool {
    // 0 would be the agent's own group, 1 everybody's.
    group.as_raw() > 1 && killpg(group, signal).is_ok()
}
