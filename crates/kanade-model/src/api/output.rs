//! The output of a run as it is followed.

use serde::{Deserialize, Serialize};

use crate::{OutputStream, ResultId, RunState, Timestamp};

/// One event of `GET /api/results/{result_id}/output`. The SSE event name is the `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputEvent {
    /// A piece of what was printed.
    Output {
        /// Counts the pieces; some may be missing.
        seq: u64,
        /// Where it was printed.
        stream: OutputStream,
        /// The text, cut between characters; empty where only a gap is told.
        text: String,
        /// How many bytes of text are missing on this stream right before this one.
        dropped: u64,
    },
    /// The run has ended; nothing follows.
    End {
        /// The run.
        result_id: ResultId,
        /// Where it stands.
        state: RunState,
        /// The exit code; null where none is known.
        exit_code: Option<i32>,
        /// When it ended; null where that is not known.
        finished_at: Option<Timestamp>,
        /// Whether everything that was printed has been told. If not, the result has the output, as far as it is kept.
        complete: bool,
    },
}

impl OutputEvent {
    /// The `type`, which is also the name of the SSE event.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Output { .. } => "output",
            Self::End { .. } => "end",
        }
    }
}
