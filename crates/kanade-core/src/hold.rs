//! Schedules that are held: a server that does not know where their jobs have succeeded would run them everywhere again.

use std::sync::Arc;

use kanade_model::{Mode, RunsOn, Schedule, Timestamp, api};
use kanade_ports::{Change, ChangeSet, Clock, ExecutionStore, Outcome, StoreError};

use crate::{Committer, Settings, error::Result};

/// The mark of a store that has taken over the records of an earlier server.
pub const HISTORY_IMPORTED: &str = "history-imported";
/// The mark of a store whose operator has said that nothing from before counts, or which began with an empty catalog.
pub const STARTED_FRESH: &str = "started-fresh";

/// What a store says about the time before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// When the records of an earlier server were taken over.
    pub history_imported: Option<Timestamp>,
    /// Since when nothing from before counts.
    pub started_fresh: Option<Timestamp>,
}

impl Marks {
    /// Those of `store`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of(store: &dyn ExecutionStore) -> Result<Self, StoreError> {
        Ok(Self {
            history_imported: store.mark(HISTORY_IMPORTED).await?,
            started_fresh: store.mark(STARTED_FRESH).await?,
        })
    }

    /// Whether they say nothing about it.
    fn are_silent(&self) -> bool {
        self.history_imported.is_none() && self.started_fresh.is_none()
    }
}

/// Why a schedule must not fire, and what to do about it; none when it may.
///
/// Agents tick the schedules that run on them whatever a server thinks of it, so those are never held.
pub fn held(schedule: &Schedule, marks: &Marks, settings: &Settings) -> Option<api::Held> {
    let asks_the_past = match schedule.mode {
        Mode::OncePerPc | Mode::OncePerTarget => true,
        Mode::EveryTick => false,
    };
    let ours_to_fire = schedule.runs_on == RunsOn::Backend;
    (settings.history_required && marks.are_silent() && asks_the_past && ours_to_fire).then(|| api::Held {
        reason: "this server does not know where the job has succeeded before, and would run it there again; stop the \
                 server and run `kanade import --from-0.30 backend.db`, or start it with `kanade serve --start-fresh`"
            .to_owned(),
    })
}

/// Which schedules are held, as things stand.
#[derive(Debug, Clone)]
pub struct Holds {
    marks: Marks,
    settings: Arc<Settings>,
}

impl Holds {
    /// Why a schedule must not fire; none when it may.
    pub fn on(&self, schedule: &Schedule) -> Option<api::Held> {
        held(schedule, &self.marks, &self.settings)
    }
}

/// What a server knows of the time before it.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) store: Arc<dyn ExecutionStore>,
    pub(crate) committer: Committer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Arc<Settings>,
}

impl History {
    pub(crate) async fn holds(&self) -> Result<Holds> {
        let marks = if self.settings.history_required {
            Marks::of(&*self.store).await?
        } else {
            Marks::default()
        };
        let settings = Arc::clone(&self.settings);
        Ok(Holds { marks, settings })
    }

    /// Whether something has to be settled still.
    pub(crate) async fn is_open(&self) -> Result<bool> {
        Ok(self.settings.history_required && Marks::of(&*self.store).await?.are_silent())
    }

    /// Notes that nothing from before counts, with what follows from that; whether it is news.
    pub(crate) async fn begins(&self, then: Option<Change>) -> Result<bool> {
        let mark = ChangeSet::of(Change::Mark {
            name: STARTED_FRESH.to_owned(),
            at: self.clock.now(),
        });
        let set = ChangeSet {
            then: then.into_iter().collect(),
            ..mark
        };
        Ok(self.committer.commit(set).await? == Outcome::Applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schedule(mode: &str, runs_on: &str) -> Schedule {
        serde_json::from_value(json!({
            "id": "nightly", "cron": "0 30 2 * * *", "job_id": "backup", "target": {"all": true}, "mode": mode,
            "runs_on": runs_on
        }))
        .unwrap()
    }

    #[test]
    fn only_what_asks_the_past_is_held_and_only_until_the_past_is_settled() {
        let at = Some(Timestamp::UNIX_EPOCH);
        let silent = Marks::default();
        let imported = Marks {
            history_imported: at,
            ..silent
        };
        let fresh = Marks {
            started_fresh: at,
            ..silent
        };
        for (mode, runs_on, marks, required, is_held) in [
            ("once_per_pc", "backend", silent, true, true),
            ("once_per_target", "backend", silent, true, true),
            ("every_tick", "backend", silent, true, false),
            ("once_per_pc", "agent", silent, true, false),
            ("once_per_pc", "backend", imported, true, false),
            ("once_per_pc", "backend", fresh, true, false),
            ("once_per_target", "backend", imported, true, false),
            ("once_per_pc", "backend", silent, false, false),
        ] {
            let settings = Settings {
                history_required: required,
                ..Settings::default()
            };
            let held = held(&schedule(mode, runs_on), &marks, &settings);
            assert_eq!(
                held.is_some(),
                is_held,
                "{mode} on {runs_on}: {marks:?}, {required}"
            );
        }
    }

    #[test]
    fn a_held_schedule_comes_with_both_ways_out() {
        let settings = Settings {
            history_required: true,
            ..Settings::default()
        };
        let held = held(&schedule("once_per_pc", "backend"), &Marks::default(), &settings).unwrap();
        assert!(held.reason.contains("import --from-0.30") && held.reason.contains("--start-fresh"));
    }
}
