//! The tables of the journal and what is done with them.

use std::time::Duration;

use bytes::Bytes;
use kanade_model::{Command, ExecId, RequestId, ResultId, ScheduleId, Subject, Timestamp};
use kanade_ports::MessageId;
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableError,
    WriteTransaction,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Journal, JournalError, OpenError};
use crate::process::ProcessMark;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Request id → when it was seen (µs); and the same by time, so that the oldest can be forgotten.
const SEEN: TableDefinition<'_, u128, i64> = TableDefinition::new("seen");
const SEEN_AT: TableDefinition<'_, (i64, u128), ()> = TableDefinition::new("seen_at");
/// Request id → [`RunRecord`] as JSON, for every run that has not been reported.
const RUNS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("runs");
/// Request id → script, until it has started.
const SCRIPTS: TableDefinition<'_, u128, &str> = TableDefinition::new("scripts");
/// Execution id → when its kill arrived (µs); and the same by time.
const KILLS: TableDefinition<'_, &str, i64> = TableDefinition::new("kills");
const KILLS_AT: TableDefinition<'_, (i64, &str), ()> = TableDefinition::new("kills_at");
/// Number → subject, message id, payload; lowest first.
const OUTBOX: TableDefinition<'_, u64, (&str, &str, &[u8])> = TableDefinition::new("outbox");

const FORMAT: u64 = 1;
/// Longer than a server keeps sending a Command (7 days).
const REMEMBERED: Duration = Duration::from_secs(14 * 24 * 3600);
const MOST_SEEN: u64 = 200_000;
pub(crate) const MOST_KILLS: usize = 10_000;

/// A run in the agent's hands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub(crate) result_id: ResultId,
    /// What was ordered, without the script and without what is secret.
    pub(crate) command: Command,
    pub(crate) accepted_at: Timestamp,
    /// The schedule of which this agent itself has fired a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schedule: Option<ScheduleId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<Started>,
    /// It cannot be started in another life of the agent, which does not know them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_secrets: bool,
}

/// A run whose process has been started, or was about to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) at: Timestamp,
    /// The leader of its process group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<ProcessMark>,
}

/// What became of a Command that was brought to the journal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Accepted {
    /// It is kept now; nobody had seen it before.
    New,
    /// It was seen before and has been reported since.
    Reported,
    /// It was seen before and has not been reported yet.
    Unreported(Box<RunRecord>),
}

/// A message that has to get out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) id: MessageId,
    pub(crate) payload: Bytes,
}

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unsent {
    pub(crate) number: u64,
    pub(crate) message: Outgoing,
}

/// Makes the tables, or checks that they are ours.
pub(super) fn initialise(database: &Database) -> Result<(), OpenError> {
    let found = format(database).map_err(OpenError::Unusable)?;
    match found {
        Some(found) if found > FORMAT => Err(OpenError::TooNew { found, known: FORMAT }),
        Some(_) => Ok(()),
        None => create(database).map_err(OpenError::Unusable),
    }
}

fn format(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map(|format| format.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn create(database: &Database) -> Result<(), redb::Error> {
    let tx = database.begin_write()?;
    tx.open_table(META)?.insert("format", FORMAT)?;
    tx.open_table(SEEN)?;
    tx.open_table(SEEN_AT)?;
    tx.open_table(RUNS)?;
    tx.open_table(SCRIPTS)?;
    tx.open_table(KILLS)?;
    tx.open_table(KILLS_AT)?;
    tx.open_table(OUTBOX)?;
    tx.commit()?;
    Ok(())
}

impl Journal {
    /// Takes a Command in, with its script, unless it has been seen before.
    pub(crate) async fn accept(&self, run: RunRecord, script: String) -> Result<Accepted, JournalError> {
        self.write(move |tx| {
            let request = run.command.request_id;
            let key = request.0.as_u128();
            let at = run.accepted_at.as_micros();
            let mut seen = tx.open_table(SEEN)?;
            if seen.get(key)?.is_some() {
                return Ok(match read_run(tx, key)? {
                    Some(run) => Accepted::Unreported(Box::new(run)),
                    None => Accepted::Reported,
                });
            }
            seen.insert(key, at)?;
            let mut seen_at = tx.open_table(SEEN_AT)?;
            seen_at.insert((at, key), ())?;
            let too_old = run.accepted_at.minus(REMEMBERED).as_micros();
            // Each request removes two at most, so that forgetting keeps pace without ever taking long.
            for _ in 0..2 {
                let oldest = seen_at.first()?.map(|(oldest, _)| oldest.value());
                match oldest {
                    Some((at, key)) if at < too_old || seen.len()? > MOST_SEEN => {
                        seen_at.remove((at, key))?;
                        seen.remove(key)?;
                    }
                    _ => break,
                }
            }
            write_run(tx, &run)?;
            tx.open_table(SCRIPTS)?.insert(key, script.as_str())?;
            Ok(Accepted::New)
        })
        .await
    }

    /// Whether a Command has been brought here, and is remembered.
    pub(crate) async fn has_accepted(&self, request: RequestId) -> Result<bool, JournalError> {
        self.read(move |database| {
            let seen = database.begin_read()?.open_table(SEEN)?;
            Ok(seen.get(request.0.as_u128())?.is_some())
        })
        .await
    }

    /// Notes that a run is about to start, and gives its script. None when it must not start: it has been reported, or
    /// started by somebody else. Asking again with the same `at` gives the same answer.
    pub(crate) async fn starting(
        &self,
        request: RequestId,
        at: Timestamp,
    ) -> Result<Option<String>, JournalError> {
        self.write(move |tx| {
            let key = request.0.as_u128();
            let Some(mut run) = read_run(tx, key)? else {
                return Ok(None);
            };
            if run.started.as_ref().is_some_and(|started| started.at != at) {
                return Ok(None);
            }
            run.started = Some(Started { at, process: None });
            write_run(tx, &run)?;
            Ok(tx
                .open_table(SCRIPTS)?
                .get(key)?
                .map(|script| script.value().to_owned()))
        })
        .await
    }

    /// Notes which process a run has become, and what is to be said about it.
    pub(crate) async fn started(
        &self,
        request: RequestId,
        process: Option<ProcessMark>,
        message: Option<Outgoing>,
    ) -> Result<(), JournalError> {
        self.write(move |tx| {
            let key = request.0.as_u128();
            if let Some(mut run) = read_run(tx, key)?
                && let Some(started) = &mut run.started
            {
                started.process = process;
                write_run(tx, &run)?;
                tx.open_table(SCRIPTS)?.remove(key)?;
                append(tx, message.as_slice())?;
            }
            Ok(())
        })
        .await
    }

    /// Ends a run: it is forgotten, its messages go to the outbox. Nothing happens when it was ended before.
    pub(crate) async fn finish(
        &self,
        request: RequestId,
        messages: Vec<Outgoing>,
    ) -> Result<(), JournalError> {
        self.write(move |tx| {
            let key = request.0.as_u128();
            if tx.open_table(RUNS)?.remove(key)?.is_some() {
                tx.open_table(SCRIPTS)?.remove(key)?;
                append(tx, &messages)?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets the runs that have not started and cannot any more, because their secrets are gone, as if they had never
    /// come: the server sends them again.
    pub(crate) async fn give_back(&self) -> Result<(), JournalError> {
        self.write(|tx| {
            let mut runs = tx.open_table(RUNS)?;
            let mut given_back = Vec::new();
            for row in runs.iter()? {
                let (key, run) = row?;
                let run: RunRecord = decode(run.value())?;
                if run.has_secrets && run.started.is_none() {
                    given_back.push((key.value(), run.accepted_at.as_micros()));
                }
            }
            for (key, at) in given_back {
                runs.remove(key)?;
                tx.open_table(SCRIPTS)?.remove(key)?;
                tx.open_table(SEEN)?.remove(key)?;
                tx.open_table(SEEN_AT)?.remove((at, key))?;
            }
            Ok(())
        })
        .await
    }

    /// The runs that have not been reported, oldest request first.
    pub(crate) async fn unreported(&self) -> Result<Vec<RunRecord>, JournalError> {
        self.read(|database| {
            let tx = database.begin_read()?;
            tx.open_table(RUNS)?
                .iter()?
                .map(|row| decode(row?.1.value()))
                .collect()
        })
        .await
    }

    /// Remembers that an execution was killed.
    pub(crate) async fn killed(&self, exec: ExecId, at: Timestamp) -> Result<(), JournalError> {
        self.write(move |tx| {
            let mut kills = tx.open_table(KILLS)?;
            if kills.get(exec.as_str())?.is_some() {
                return Ok(());
            }
            kills.insert(exec.as_str(), at.as_micros())?;
            let mut kills_at = tx.open_table(KILLS_AT)?;
            kills_at.insert((at.as_micros(), exec.as_str()), ())?;
            if kills.len()? > MOST_KILLS as u64 {
                let oldest = kills_at
                    .pop_first()?
                    .map(|(oldest, _)| oldest.value().1.to_owned());
                if let Some(oldest) = oldest {
                    kills.remove(oldest.as_str())?;
                }
            }
            Ok(())
        })
        .await
    }

    /// The executions that were killed, oldest kill first.
    pub(crate) async fn kills(&self) -> Result<Vec<ExecId>, JournalError> {
        self.read(|database| {
            let mut kills = Vec::new();
            for row in database.begin_read()?.open_table(KILLS_AT)?.iter()? {
                // What cannot be an execution id could not have been killed either.
                kills.extend(row?.0.value().1.parse::<ExecId>());
            }
            Ok(kills)
        })
        .await
    }

    /// Puts messages into the outbox.
    pub(crate) async fn post(&self, messages: Vec<Outgoing>) -> Result<(), JournalError> {
        self.write(move |tx| append(tx, &messages)).await
    }

    /// Messages with a higher number than `after`: one, or as many as `count` and `bytes` allow.
    pub(crate) async fn unsent(
        &self,
        after: u64,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Unsent>, JournalError> {
        self.read(move |database| {
            let mut found: Vec<Unsent> = Vec::new();
            let mut size = 0;
            for row in database.begin_read()?.open_table(OUTBOX)?.range(after + 1..)? {
                let (number, row) = row?;
                let (subject, id, payload) = row.value();
                size += payload.len();
                if found.len() == count || (size > bytes && !found.is_empty()) {
                    break;
                }
                let subject = subject.parse().map_err(|error| corrupted(&error))?;
                let id = MessageId(id.to_owned());
                let message = Outgoing {
                    subject,
                    id,
                    payload: Bytes::copy_from_slice(payload),
                };
                found.push(Unsent {
                    number: number.value(),
                    message,
                });
            }
            Ok(found)
        })
        .await
    }

    /// How many messages are in the outbox.
    pub(crate) async fn unsent_count(&self) -> Result<u64, JournalError> {
        self.read(|database| Ok(database.begin_read()?.open_table(OUTBOX)?.len()?))
            .await
    }

    /// Removes a message that is out.
    pub(crate) async fn sent(&self, number: u64) -> Result<(), JournalError> {
        self.write(move |tx| {
            tx.open_table(OUTBOX)?.remove(number)?;
            Ok(())
        })
        .await
    }
}

fn read_run(tx: &WriteTransaction, key: u128) -> Result<Option<RunRecord>, redb::Error> {
    tx.open_table(RUNS)?
        .get(key)?
        .map(|row| decode(row.value()))
        .transpose()
}

fn write_run(tx: &WriteTransaction, run: &RunRecord) -> Result<(), redb::Error> {
    let encoded = serde_json::to_vec(run).expect("a run has string keys only");
    tx.open_table(RUNS)?
        .insert(run.command.request_id.0.as_u128(), encoded.as_slice())?;
    Ok(())
}

/// Numbers only ever grow, also when the outbox is empty: a reader goes on from the last one it has seen.
fn append(tx: &WriteTransaction, messages: &[Outgoing]) -> Result<(), redb::Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let mut meta = tx.open_table(META)?;
    let mut outbox = tx.open_table(OUTBOX)?;
    let mut number = meta.get("last_number")?.map_or(0, |last| last.value());
    for message in messages {
        number += 1;
        outbox.insert(
            number,
            (message.subject.as_str(), message.id.0.as_str(), &*message.payload),
        )?;
    }
    meta.insert("last_number", number)?;
    Ok(())
}

fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(row).map_err(|error| corrupted(&error))
}

fn corrupted(error: &dyn std::error::Error) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}
