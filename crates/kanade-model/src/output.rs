//! What a script prints while it runs. The result stays the truth: this is for whoever watches, and may have gaps.

use serde::{Deserialize, Serialize};

use crate::{ExecId, PcId, RequestId, ResultId};

/// Which output of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];
}

/// A piece of what a run prints (`output.{exec_id}.{pc_id}`), sent at most once and kept nowhere for long.
///
/// Positions are counted in bytes of text, so a gap shows whatever has made it: the agent, which sends only so much in a
/// second, a bus that lost a message, or a reader that was slow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputChunk {
    /// The run; the same id as in its later [`ExecResult`](crate::ExecResult).
    pub result_id: ResultId,
    /// The Command.
    pub request_id: RequestId,
    /// The execution.
    pub exec_id: ExecId,
    /// The agent.
    pub pc_id: PcId,
    /// Counts the chunks of a run, from 0.
    pub seq: u64,
    /// Where it was printed.
    pub stream: OutputStream,
    /// How many bytes of text were printed on this stream before. More than the end of its last chunk says that what is
    /// between them was left out.
    pub offset: u64,
    /// The text, cut between characters. Bytes that are not UTF-8 are replaced, as in the result. It is empty where only a
    /// gap is told, or the end.
    pub text: String,
    /// Nothing of this run follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

impl OutputChunk {
    /// Where the next chunk of this stream begins, unless something is left out.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chunk_is_written_and_read_with_these_names() {
        let id = "00000000-0000-0000-0000-000000000007";
        let mut written = json!({
            "result_id": id, "request_id": id, "exec_id": "e-1", "pc_id": "pc-1", "seq": 3, "stream": "stderr",
            "offset": 10, "text": "grün"
        });
        let mut chunk: OutputChunk = serde_json::from_value(written.clone()).unwrap();
        assert!(!chunk.last);
        assert_eq!(chunk.end(), 15, "bytes are counted");
        assert_eq!(serde_json::to_value(&chunk).unwrap(), written);
        chunk.last = true;
        written["last"] = json!(true);
        assert_eq!(serde_json::to_value(&chunk).unwrap(), written);
        chunk.offset = u64::MAX;
        assert_eq!(
            chunk.end(),
            u64::MAX,
            "whatever a message says, it can be counted with"
        );
    }
}
