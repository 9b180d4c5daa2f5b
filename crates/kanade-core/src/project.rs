//! Projectors: take what agents say off the bus in batches, record each batch in one commit, then acknowledge it.
//! What cannot be understood is set aside as a dead letter, with the reason.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesOrdered};
use kanade_model::{
    AuditEvent, EventKill, EventSkipped, EventStarted, ExecId, ExecResult, InventoryHints, PcId, Timestamp,
};
use kanade_ports::{
    Batch, Bus, BusError, Change, ChangeSet, Clock, Consumer, DeadLetter, Durable, ErrorKind, ExecutionStore,
    Facts, Message, Outcome, StoreError,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{
    Committer,
    audit_stream::{AuditStream, Heard},
    committer::Answers,
    error::{Result, chain},
};

const BATCH: usize = 256;
/// Batches that are recorded at the same time: while one is written, the next is read, and one before is acknowledged.
const UNDER_WAY: usize = 8;
const RETRY: Duration = Duration::from_millis(500);
/// A consumer that had nothing for this long has caught up.
const QUIET: Duration = Duration::from_millis(200);
/// The most bytes of a bad message that are kept.
const KEPT: usize = 64 << 10;
/// Executions whose inventory hints are remembered.
const HINTS: usize = 1024;

/// Records one durable consumption.
pub(crate) struct Projector {
    durable: Durable,
    bus: Arc<dyn Bus>,
    store: Arc<dyn ExecutionStore>,
    committer: Committer,
    clock: Arc<dyn Clock>,
    progress: Progress,
    audit: AuditStream,
    inventory: HashMap<ExecId, Option<Arc<Inventory>>>,
}

/// A batch whose changes were handed over.
struct Recording {
    batch: Box<dyn Batch>,
    /// When nothing else waited, if that is known.
    caught_up: Option<Timestamp>,
    /// An error where what it says could not be found out.
    answers: Result<Answers, StoreError>,
    heard: Heard,
    committer: Committer,
    clock: Arc<dyn Clock>,
}

/// What has become of a batch: acknowledged, with when nothing else waited, or not recorded; an error where its
/// acknowledgement failed.
type Recorded = Result<Result<Option<Timestamp>, NotRecorded>, String>;
type NotRecorded = (Box<dyn Batch>, StoreError);

/// What a projector goes on with.
enum Next {
    Recorded(Recorded),
    Batch(Result<Box<dyn Batch>, BusError>),
}

struct Inventory {
    hints: InventoryHints,
    description: Option<String>,
}

/// How far the projectors are, so that nobody takes silence for absence while results wait. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<HashMap<Durable, State>>>);

#[derive(Clone, Copy)]
enum State {
    /// Nothing has been waiting for a while.
    Quiet,
    /// At work; was quiet until then.
    BusySince(Timestamp),
}

impl Progress {
    /// Whether everything that was waiting at `moment` has been recorded.
    pub(crate) fn is_past(&self, moment: Timestamp) -> bool {
        let states = self.0.lock().expect("no panic while locked");
        Durable::REPORTS.iter().all(|durable| match states.get(durable) {
            Some(State::Quiet) => true,
            Some(State::BusySince(since)) => *since > moment,
            None => false,
        })
    }

    fn set(&self, durable: Durable, state: State) {
        self.0
            .lock()
            .expect("no panic while locked")
            .insert(durable, state);
    }
}

impl Projector {
    /// A projector of `durable`.
    pub(crate) fn new(
        durable: Durable,
        bus: Arc<dyn Bus>,
        store: Arc<dyn ExecutionStore>,
        committer: Committer,
        clock: Arc<dyn Clock>,
        progress: Progress,
        audit: AuditStream,
    ) -> Self {
        Self {
            durable,
            bus,
            store,
            committer,
            clock,
            progress,
            audit,
            inventory: HashMap::new(),
        }
    }

    /// Records and acknowledges, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            if let Err(error) = self.consume().await {
                tracing::warn!(consumer = self.durable.name(), error = %error, "consumption was interrupted");
            }
            self.clock.sleep(RETRY).await;
        }
    }

    async fn consume(&mut self) -> Result<(), String> {
        let mut consumer = self
            .bus
            .consume(self.durable)
            .await
            .map_err(|error| chain(&error))?;
        let mut under_way = FuturesOrdered::new();
        loop {
            let idle = under_way.is_empty();
            let next = tokio::select! {
                biased;
                Some(recorded) = under_way.next() => Next::Recorded(recorded),
                batch = self.next(&mut *consumer, idle), if under_way.len() < UNDER_WAY => Next::Batch(batch),
            };
            match next {
                Next::Batch(batch) => {
                    let recording = self.begin(batch.map_err(|error| chain(&error))?).await;
                    under_way.push_back(recording.finish());
                }
                Next::Recorded(recorded) => {
                    let Some((batch, error)) = self.take_note(recorded)? else {
                        continue;
                    };
                    tracing::warn!(consumer = self.durable.name(), error = %chain(&error), "cannot record a batch");
                    // Nothing is past what has failed, whatever has become of those behind it.
                    let mut not_recorded = vec![batch];
                    while let Some(recorded) = under_way.next().await {
                        not_recorded.extend(recorded?.err().map(|(batch, _)| batch));
                    }
                    // Not acknowledged: all of it comes again, in its order.
                    while not_recorded.pop().is_some() {}
                    self.clock.sleep(RETRY).await;
                }
            }
        }
    }

    /// The next batch; takes note when nothing has come for a while, and then when something comes.
    async fn next(&self, consumer: &mut dyn Consumer, idle: bool) -> Result<Box<dyn Batch>, BusError> {
        let next = consumer.next(BATCH);
        tokio::pin!(next);
        tokio::select! {
            batch = &mut next => batch,
            () = self.clock.sleep(QUIET), if idle => {
                self.progress.set(self.durable, State::Quiet);
                let batch = next.await;
                self.progress.set(self.durable, State::BusySince(self.clock.now()));
                batch
            }
        }
    }

    /// Gives the batch back that was not recorded.
    fn take_note(&self, recorded: Recorded) -> Result<Option<NotRecorded>, String> {
        Ok(match recorded? {
            Ok(caught_up) => {
                if let Some(at) = caught_up {
                    // Whatever waited then is recorded now.
                    self.progress.set(self.durable, State::BusySince(at));
                }
                None
            }
            Err(not_recorded) => Some(not_recorded),
        })
    }

    /// Hands over what a batch says.
    async fn begin(&mut self, batch: Box<dyn Batch>) -> Recording {
        let caught_up = batch.caught_up().map(|ago| self.clock.now().minus(ago));
        let sets = self.understand(&*batch).await;
        let entries = sets.iter().flatten().filter_map(audit_entry).collect();
        let heard = self.audit.heard(entries);
        let answers = match sets {
            Ok(sets) => Ok(self.committer.hand_over(sets).await),
            Err(error) => Err(error),
        };
        Recording {
            batch,
            caught_up,
            answers,
            heard,
            committer: self.committer.clone(),
            clock: Arc::clone(&self.clock),
        }
    }

    /// What a batch says, in change-sets; what says nothing is set aside.
    async fn understand(&mut self, batch: &dyn Batch) -> Result<Vec<ChangeSet>, StoreError> {
        let mut sets = Vec::with_capacity(batch.messages().len());
        for message in batch.messages() {
            sets.push(match decode(message, self.clock.now()) {
                Ok(Change::RunFinished(result)) => {
                    let facts = match self.facts(&result).await {
                        Ok(facts) => facts,
                        Err(error) if is_passing(error.kind()) => return Err(error),
                        // One record that cannot be read must not hold up everybody's results.
                        Err(error) => {
                            tracing::warn!(error = %chain(&error), "cannot tell whether a result has facts");
                            None
                        }
                    };
                    ChangeSet {
                        lead: Change::RunFinished(result),
                        then: Vec::from_iter(facts),
                        key: None,
                    }
                }
                Ok(change) => ChangeSet::of(change),
                Err(reason) => dead_letter(message, reason, self.clock.now()),
            });
        }
        Ok(sets)
    }

    /// The facts that a successful run of an inventory job has printed.
    async fn facts(&mut self, result: &ExecResult) -> Result<Option<Change>, StoreError> {
        let (Some(exec_id), 0) = (&result.exec_id, result.exit_code) else {
            return Ok(None);
        };
        let Some(inventory) = self.inventory_of(exec_id).await? else {
            return Ok(None);
        };
        let Some(job_id) = result
            .manifest_id
            .clone()
            .or(match self.store.execution(exec_id).await? {
                Some(execution) => Some(execution.job_id),
                None => None,
            })
        else {
            return Ok(None);
        };
        match serde_json::from_str(&result.stdout) {
            Ok(facts) => Ok(Some(Change::Facts(Box::new(Facts {
                pc_id: result.pc_id.clone(),
                job_id,
                facts,
                hints: inventory.hints.clone(),
                description: inventory.description.clone(),
                collected_at: result.finished_at,
                recorded_at: self.clock.now(),
            })))),
            Err(error) => {
                tracing::warn!(pc = %result.pc_id, job = %job_id, %error, "an inventory job did not print JSON");
                Ok(None)
            }
        }
    }

    async fn inventory_of(&mut self, exec_id: &ExecId) -> Result<Option<Arc<Inventory>>, StoreError> {
        if let Some(known) = self.inventory.get(exec_id) {
            return Ok(known.clone());
        }
        let order = self.store.order(exec_id).await?;
        let inventory = order.and_then(|order| {
            let hints = order.inventory?;
            Some(Arc::new(Inventory {
                hints,
                description: order.description,
            }))
        });
        if self.inventory.len() >= HINTS {
            self.inventory.clear();
        }
        self.inventory.insert(exec_id.clone(), inventory.clone());
        Ok(inventory)
    }
}

impl Recording {
    /// Waits for the commits, then acknowledges.
    async fn finish(self) -> Recorded {
        let recorded = match self.answers {
            Ok(answers) => {
                set_aside(
                    &*self.batch,
                    answers.outcomes().await,
                    &self.committer,
                    &*self.clock,
                )
                .await
            }
            Err(error) => Err(error),
        };
        drop(self.heard);
        if let Err(error) = recorded {
            return Ok(Err((self.batch, error)));
        }
        let acknowledged = self.batch.acknowledge().await;
        acknowledged.map_err(|error| chain(&error))?;
        Ok(Ok(self.caught_up))
    }
}

/// Sets aside what the store does not take; an error when it takes nothing now.
async fn set_aside(
    batch: &dyn Batch,
    outcomes: Vec<Result<Outcome, StoreError>>,
    committer: &Committer,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let mut rejected = Vec::new();
    for (message, outcome) in batch.messages().iter().zip(outcomes) {
        match outcome {
            Ok(_) => {}
            Err(error) if is_passing(error.kind()) => return Err(error),
            // The store takes other changes but not this one: it would come again for ever.
            Err(error) => rejected.push(dead_letter(message, chain(&error), clock.now())),
        }
    }
    for outcome in committer.commit_all(rejected).await {
        outcome?;
    }
    Ok(())
}

fn dead_letter(message: &Message, reason: String, at: Timestamp) -> ChangeSet {
    tracing::warn!(subject = %message.subject, %reason, "a message was set aside as a dead letter");
    let kept = &message.payload[..message.payload.len().min(KEPT)];
    ChangeSet::of(Change::DeadLetter(DeadLetter {
        subject: message.subject.clone(),
        payload: String::from_utf8_lossy(kept).into_owned(),
        reason,
        at,
    }))
}

fn audit_entry(set: &ChangeSet) -> Option<Uuid> {
    match &set.lead {
        Change::Audit(event) => Some(event.id()),
        _ => None,
    }
}

/// Whether the same may be done later.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Indeterminate)
}

/// What a message says that arrived at `at`.
fn decode(message: &Message, at: Timestamp) -> Result<Change, String> {
    let mut tokens = message.subject.as_str().split('.');
    match (tokens.next(), tokens.next()) {
        (Some("results"), _) => {
            parse(message).map(|result: ExecResult| Change::RunFinished(Box::new(result)))
        }
        (Some("events"), Some("started")) => {
            let event: EventStarted = parse(message)?;
            of_speaker(message, &event.pc_id)?;
            Ok(Change::RunStarted { event, at })
        }
        (Some("events"), Some("skipped")) => {
            let event: EventSkipped = parse(message)?;
            of_speaker(message, &event.pc_id)?;
            Ok(Change::RunSkipped(event))
        }
        (Some("events"), Some("kill")) => {
            let event: EventKill = parse(message)?;
            of_speaker(message, &event.pc_id)?;
            Ok(Change::KillDelivered(event))
        }
        (Some("audit"), _) => parse::<AuditEvent>(message).map(|event| {
            let event_id = Some(event.id());
            Change::Audit(AuditEvent { event_id, ..event })
        }),
        _ => Err("nobody knows what is said on this subject".into()),
    }
}

/// A broker lets agents speak by subjects, and the subject of an event ends with who speaks:
/// `events.{kind}.{exec_id}.{pc_id}`.
fn of_speaker(message: &Message, pc: &PcId) -> Result<(), String> {
    let of_execution = message.subject.as_str().splitn(3, '.').nth(2).unwrap_or_default();
    let rest = of_execution.strip_suffix(pc.as_str());
    match rest.and_then(|rest| rest.strip_suffix('.')) {
        Some(exec) if !exec.is_empty() => Ok(()),
        _ => Err(format!(
            "it speaks for agent `{pc}` and was not sent as that agent"
        )),
    }
}

fn parse<T: DeserializeOwned>(message: &Message) -> Result<T, String> {
    serde_json::from_slice(&message.payload).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_of_the_agent_that_its_subject_ends_with() {
        for (subject, pc, allowed) in [
            ("events.started.e-1.pc-1", "pc-1", true),
            ("events.started.e-1.pc.1", "pc.1", true),
            ("events.kill.e.with.dots.pc-1", "pc-1", true),
            ("events.started.e-1.pc-1", "pc-2", false),
            ("events.started.e-1.pc-1", "1", false),
            ("events.started.e-1.pc-1", "e-1.pc-1", false),
            ("events.started.pc-1", "pc-1", false),
            ("events.started", "pc-1", false),
        ] {
            let message = Message {
                subject: subject.parse().unwrap(),
                payload: bytes::Bytes::new(),
                reply: None,
            };
            let verdict = of_speaker(&message, &pc.parse().unwrap());
            assert_eq!(verdict.is_ok(), allowed, "{pc} on {subject}");
        }
    }
}
