//! What runs print while they go on: heard from agents, kept for a while in bounded memory, told to whoever follows a
//! run. What is stored in the end stays the truth.

mod following;
mod heard;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::StreamExt;
use kanade_model::{OutputChunk, PcId, ResultId, Subject};
use kanade_ports::{Bus, Change, ChangeSet, Clock, ExecutionStore, Message, RunRecord, Subscription};
use tokio::sync::watch;

use crate::error::{Error, Result, chain};
pub use following::{Following, Place, Told};
use heard::Heard;

/// A text longer than this is none of an agent of ours.
const LONGEST: usize = 64 * 1024;
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks for what need not be kept any more.
const CLEAR: Duration = Duration::from_secs(10);

/// A run of an agent. Agents name runs themselves, so a run's output is only what its own agent says.
type RunOf = (PcId, ResultId);

/// The live output of runs. Cheap to clone.
#[derive(Clone)]
pub struct Outputs(Arc<Shared>);

struct Shared {
    store: Arc<dyn ExecutionStore>,
    clock: Arc<dyn Clock>,
    heard: Mutex<Heard>,
}

impl Outputs {
    pub(crate) fn new(store: Arc<dyn ExecutionStore>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            store,
            clock,
            heard: Mutex::default(),
        }))
    }

    /// Follows the output of a run: from its beginning, as far as that is kept, or after what a reader has already been
    /// told.
    ///
    /// # Errors
    /// Not found, and what the store may meet.
    pub async fn follow(&self, id: ResultId, after: Option<Place>) -> Result<Following> {
        let mut following = Following::new(self.clone(), self.record(id).await?, after);
        if following.is_running() {
            // It may have ended before anybody listened for that.
            following.look().await;
        }
        Ok(following)
    }

    async fn record(&self, id: ResultId) -> Result<RunRecord> {
        self.0.store.run(&id).await?.ok_or_else(|| Error::NotFound {
            what: "result",
            id: id.to_string(),
        })
    }

    /// Takes note of a committed set: a run that has ended.
    pub(crate) fn committed(&self, set: &ChangeSet) {
        for change in set.changes() {
            match change {
                Change::RunFinished(result) => self.ended(result.pc_id.clone(), result.run_id()),
                Change::LoseRun { result_id, pc_id, .. } => self.ended(pc_id.clone(), *result_id),
                _ => {}
            }
        }
    }

    /// Listens to agents, for ever.
    pub(crate) async fn run(self, bus: Arc<dyn Bus>) {
        let pattern = "output.>".parse().expect("a literal pattern");
        loop {
            match bus.subscribe(&pattern).await {
                Ok(messages) => self.listen(messages).await,
                Err(error) => tracing::warn!(error = %chain(&error), "cannot listen for output of runs"),
            }
            self.0.clock.sleep(RETRY).await;
        }
    }

    async fn listen(&self, mut messages: Subscription) {
        let mut clear = self.0.clock.sleep(CLEAR);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return };
                    self.hear(&message);
                }
                () = &mut clear => {
                    let now = self.0.clock.now();
                    self.heard().clear(now);
                    clear = self.0.clock.sleep(CLEAR);
                }
            }
        }
    }

    fn hear(&self, message: &Message) {
        match read(message) {
            Ok(chunk) => {
                let now = self.0.clock.now();
                self.heard().hear(chunk, now);
            }
            Err(problem) => {
                tracing::warn!(subject = %message.subject, %problem, "output of a run is passed over");
            }
        }
    }

    fn ended(&self, pc: PcId, id: ResultId) {
        let now = self.0.clock.now();
        self.heard().ended(&(pc, id), now);
    }

    /// Tells when something about a run may have changed.
    fn changes(&self, run: &RunOf) -> watch::Receiver<()> {
        let now = self.0.clock.now();
        self.heard().changes(run, now)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().expect("no panic while locked")
    }
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outputs")
    }
}

/// A broker lets agents speak by subjects, so the subject says whose run it is.
fn read(message: &Message) -> std::result::Result<OutputChunk, String> {
    let chunk: OutputChunk = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    if Subject::output(&chunk.exec_id, &chunk.pc_id) != message.subject {
        return Err(format!(
            "it speaks for agent `{}` of execution `{}`",
            chunk.pc_id, chunk.exec_id
        ));
    }
    if chunk.text.len() > LONGEST {
        return Err(format!(
            "it has {} bytes; {LONGEST} are allowed",
            chunk.text.len()
        ));
    }
    Ok(chunk)
}
