//! The schedule document: fires a job by cron.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Cron, FanoutPlan, HumanDuration, Invalid, JobId, Rollout, ScheduleId, Target, TimeZone, Timestamp,
    param::ParamValues,
};

/// The document of a schedule. The fields of a [`FanoutPlan`] stand inline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Schedule {
    /// The schedule's id.
    pub id: ScheduleId,
    /// When it is due: six fields, seconds first, read in `timezone`.
    pub cron: String,
    /// The time zone of `cron`; UTC when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<TimeZone>,
    /// The job it fires.
    pub job_id: JobId,
    /// The agents.
    #[serde(default)]
    pub target: Target,
    /// Fire in waves instead of at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Each agent waits a random time up to this before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<HumanDuration>,
    /// Not started after this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    /// Values for the parameters of the job; no secret ones.
    #[serde(default, skip_serializing_if = "ParamValues::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, serde_json::Value>))]
    pub params: ParamValues,
    /// Which targets a slot fires at.
    #[serde(default)]
    pub mode: Mode,
    /// A success counts for this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<HumanDuration>,
    /// Disable the schedule when nothing is left to do.
    #[serde(default)]
    pub auto_disable_when_done: bool,
    /// A firing is not started later than this after its slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<HumanDuration>,
    /// What a slot does while an earlier firing of this schedule is not over.
    #[serde(default, skip_serializing_if = "Overlap::is_default")]
    pub overlap: Overlap,
    /// Slots that passed while no server ran are made up for when they are no older than this; none when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<HumanDuration>,
    /// Who ticks.
    #[serde(default)]
    pub runs_on: RunsOn,
    /// Whether it fires at all.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

fn enabled() -> bool {
    true
}

/// Which targets a slot fires at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All of them, each time.
    #[default]
    EveryTick,
    /// Those that have not succeeded yet.
    OncePerPc,
    /// All of them, until any has succeeded.
    OncePerTarget,
}

/// What a slot does while an earlier firing of its schedule is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It fires all the same.
    #[default]
    Allow,
    /// It is skipped.
    Skip,
    /// The newest such slot waits and fires when the earlier firing is over; the others are skipped.
    BufferOne,
    /// It kills the earlier firing, then fires.
    KillPrevious,
}

impl Overlap {
    /// Whether this is the default, which is left out of documents.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a slot may wait for an earlier firing.
    pub fn waits(self) -> bool {
        self == Self::BufferOne
    }
}

/// Who ticks a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RunsOn {
    /// The server.
    #[default]
    Backend,
    /// Each agent by itself.
    Agent,
}

impl Schedule {
    /// The plan that each firing follows.
    pub fn plan(&self) -> FanoutPlan {
        FanoutPlan {
            target: self.target.clone(),
            rollout: self.rollout.clone(),
            jitter: self.jitter,
            deadline_at: self.deadline_at,
            params: self.params.clone(),
        }
    }

    /// The plan that the firing of a slot follows: it is not started later than the schedule says.
    pub fn plan_for(&self, slot: Timestamp) -> FanoutPlan {
        let started_by = self
            .starting_deadline
            .map(|HumanDuration(within)| slot.plus(within));
        let plan = self.plan();
        FanoutPlan {
            deadline_at: [plan.deadline_at, started_by].into_iter().flatten().min(),
            ..plan
        }
    }

    /// The longest time for which slots can be made up: longer than that, it is not known any more which have fired.
    pub const LONGEST_CATCH_UP: Duration = Duration::from_secs(30 * 24 * 3600);

    /// When it is due.
    ///
    /// # Errors
    /// Names the field `cron`.
    pub fn timing(&self) -> Result<Cron, Invalid> {
        Cron::parse(&self.cron, self.timezone.unwrap_or_default())
    }

    /// Whether this is a schedule we would store.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        self.id.check().map_err(|error| Invalid {
            field: "id".into(),
            ..error
        })?;
        self.timing()?;
        if self.runs_on == RunsOn::Agent && !self.params.is_empty() {
            let allowed = "none with `runs_on: agent`: agents that tick by themselves know no parameters";
            return Err(Invalid::new("params", "", allowed));
        }
        match self.catch_up {
            Some(HumanDuration(window)) if window > Self::LONGEST_CATCH_UP => Err(Invalid::new(
                "catch_up",
                HumanDuration(window).to_string(),
                "30 days at most",
            )),
            _ => self.plan().check(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nightly() -> serde_json::Value {
        json!({"id": "nightly", "cron": "0 30 2 * * *", "job_id": "backup", "target": {"all": true}})
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let schedule: Schedule = serde_json::from_value(nightly()).unwrap();
        assert!(schedule.enabled && !schedule.auto_disable_when_done);
        assert_eq!(
            (schedule.mode, schedule.runs_on),
            (Mode::EveryTick, RunsOn::Backend)
        );
        assert!(schedule.check().is_ok());
    }

    #[test]
    fn a_cron_that_does_not_parse_is_refused_with_its_value() {
        for cron in ["", "* * * * *", "61 * * * * *", "every day", "0 0 0 32 * *"] {
            let mut document = nightly();
            document["cron"] = json!(cron);
            let schedule: Schedule = serde_json::from_value(document).unwrap();
            let error = schedule.check().unwrap_err();
            assert_eq!((error.field.as_str(), error.value.as_str()), ("cron", cron));
        }
    }

    #[test]
    fn a_schedule_that_aims_at_nobody_is_refused() {
        let mut document = nightly();
        document["target"] = json!({});
        let schedule: Schedule = serde_json::from_value(document).unwrap();
        assert_eq!(schedule.check().unwrap_err().field, "target");
    }
}
