//! The schedule document: fires a job by cron.

use croner::parser::{CronParser, Seconds};
use serde::{Deserialize, Serialize};

use crate::{
    FanoutPlan, HumanDuration, Invalid, JobId, Rollout, ScheduleId, Target, Timestamp, param::ParamValues,
};

/// The document of a schedule. The fields of a [`FanoutPlan`] stand inline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Schedule {
    /// The schedule's id.
    pub id: ScheduleId,
    /// Six fields, seconds first, UTC.
    pub cron: String,
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

    /// Whether this is a schedule we would store.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        self.id.check().map_err(|error| Invalid {
            field: "id".into(),
            ..error
        })?;
        CronParser::builder()
            .seconds(Seconds::Required)
            .build()
            .parse(&self.cron)
            .map_err(|error| {
                Invalid::new(
                    "cron",
                    &self.cron,
                    format!("{error}; six fields are wanted, seconds first: `0 30 8 * * *`"),
                )
            })?;
        if self.runs_on == RunsOn::Agent && !self.params.is_empty() {
            let allowed = "none with `runs_on: agent`: agents that tick by themselves know no parameters";
            return Err(Invalid::new("params", "", allowed));
        }
        self.plan().check()
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
