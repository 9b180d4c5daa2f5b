//! The states of targets, runs and executions, and their texts.

use serde::{Deserialize, Serialize};

macro_rules! state {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every state, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text in documents, stores and on screens.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::Invalid;
            fn from_str(text: &str) -> Result<Self, crate::Invalid> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(crate::Invalid::new("status", text, concat!("one of:" $(, " ", $text)+))),
                }
            }
        }
    };
}

state! {
    /// Where an execution stands on one agent.
    TargetState {
        /// Sent or due, nothing heard.
        Waiting = "waiting",
        /// A start was seen.
        Running = "running",
        /// Ended with exit code 0.
        Succeeded = "succeeded",
        /// Ended with another exit code.
        Failed = "failed",
        /// Ended by a kill.
        Killed = "killed",
        /// Ended by its timeout.
        TimedOut = "timed_out",
        /// No result in its time; a late result replaces it.
        Lost = "lost",
        /// The agent skipped it.
        Refused = "refused",
        /// Another version of the job was pinned before it started.
        Superseded = "superseded",
        /// Never started, because of a kill.
        Withdrawn = "withdrawn",
        /// Not started within the command's time to live.
        Expired = "expired",
    }
}

impl TargetState {
    /// Whether nothing more is expected.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    /// Whether it counts as a failure.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Killed | Self::TimedOut | Self::Lost)
    }

    /// Whether nobody has heard from a run: such an end gives way when a run does show itself.
    pub fn is_presumed(self) -> bool {
        matches!(self, Self::Lost | Self::Expired | Self::Withdrawn)
    }
}

state! {
    /// Where a run stands.
    RunState {
        /// A start was seen, no end.
        Running = "running",
        /// Ended with exit code 0.
        Succeeded = "succeeded",
        /// Ended with another exit code, or interrupted.
        Failed = "failed",
        /// Ended by a kill.
        Killed = "killed",
        /// Ended by its timeout.
        TimedOut = "timed_out",
        /// No result in its time; a late result replaces it.
        Lost = "lost",
    }
}

impl From<RunState> for TargetState {
    fn from(state: RunState) -> Self {
        match state {
            RunState::Running => Self::Running,
            RunState::Succeeded => Self::Succeeded,
            RunState::Failed => Self::Failed,
            RunState::Killed => Self::Killed,
            RunState::TimedOut => Self::TimedOut,
            RunState::Lost => Self::Lost,
        }
    }
}

state! {
    /// Where an execution stands.
    ExecutionStatus {
        /// Nothing has started.
        Pending = "pending",
        /// Something has started, not every target is final.
        Running = "running",
        /// Every target is final and no kill ended any.
        Completed = "completed",
        /// Every target is final and a kill ended or withdrew some.
        Killed = "killed",
        /// Nothing has started for long; the targets stay deliverable.
        Expired = "expired",
    }
}

state! {
    /// What became of a kill at one target.
    Receipt {
        /// The kill was recorded and is being sent.
        Requested = "requested",
        /// The agent has it.
        Delivered = "delivered",
        /// The run was ended by it.
        Confirmed = "confirmed",
        /// The run had ended by itself: too late.
        Finished = "finished",
        /// Nobody answered.
        Unreachable = "unreachable",
    }
}

state! {
    /// What became of a slot of a schedule.
    SlotState {
        /// It fired its job.
        Fired = "fired",
        /// It was its time, and it did not fire for a reason.
        Skipped = "skipped",
        /// Nobody was there in its time.
        Missed = "missed",
        /// It fires when the earlier firing is over.
        Waiting = "waiting",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_serde_agree() {
        for state in TargetState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(state.as_str().parse::<TargetState>().unwrap(), *state);
        }
    }
}
