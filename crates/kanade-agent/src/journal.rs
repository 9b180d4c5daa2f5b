//! What the agent must not forget: requests it has seen, runs in its hands, kills, and messages that are not out yet.
//!
//! One redb file, one thread that owns it. Writes that are waiting at the same time share one durable commit.

mod disk;
#[cfg(test)]
mod full_disk;
mod records;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use redb::{Database, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use disk::Disk;
#[cfg(test)]
pub(crate) use full_disk::FullDisk;
pub(crate) use records::{Accepted, MOST_KILLS, Outgoing, RunRecord, Started, Unsent};

/// The file within the agent's folder.
const FILE: &str = "agent.redb";
/// Writes that share a commit at most.
const BATCH: usize = 128;
/// Operations that wait for the thread at most; who brings one more waits.
const WAITING: usize = 256;

/// Why something could not be recorded or read.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("the agent's journal cannot be used")]
    Storage(#[source] Arc<redb::Error>),
    #[error("the agent's journal is closed")]
    Closed,
}

impl From<redb::Error> for JournalError {
    fn from(error: redb::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("another process has it open")]
    InUse,
    #[error("it was written by a newer version (format {found}, this one knows {known})")]
    TooNew { found: u64, known: u64 },
    #[error(transparent)]
    Unusable(redb::Error),
}

/// The journal of one agent.
#[derive(Debug)]
pub(crate) struct Journal {
    jobs: mpsc::Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A question, with the way back for the answer.
type Read = dyn FnOnce(Result<&Database, JournalError>) + Send;

enum Job {
    Write(Box<dyn Write>),
    Read(Box<Read>),
    Close,
}

impl Journal {
    /// The path of the journal of the agent whose folder this is.
    pub(crate) fn path(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// Opens or creates the journal at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Self::on(Disk::at(path)?)
    }

    fn on(mut disk: Disk) -> Result<Self, OpenError> {
        records::initialise(disk.database().map_err(OpenError::Unusable)?)?;
        let (jobs, waiting) = mpsc::channel(WAITING);
        let thread = thread::Builder::new()
            .name("kanade-journal".into())
            .spawn(move || serve(disk, waiting))
            .map_err(|error| OpenError::Unusable(error.into()))?;
        Ok(Self {
            jobs,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Finishes what is waiting and closes the file.
    pub(crate) async fn close(&self) {
        if self.jobs.send(Job::Close).await.is_err() {
            return;
        }
        let thread = self.thread.lock().expect("no panic while locked").take();
        if let Some(thread) = thread
            && let Ok(Err(_)) = tokio::task::spawn_blocking(|| thread.join()).await
        {
            tracing::error!("the thread of the journal has panicked");
        }
    }

    /// Runs `change` in a transaction and answers when it is durable. Once called, it happens even if nobody waits.
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        let pending = Pending {
            change: Some(change),
            result: None,
            answer,
        };
        let sent = self.jobs.send(Job::Write(Box::new(pending))).await;
        sent.map_err(|_| JournalError::Closed)?;
        answered.await.unwrap_or(Err(JournalError::Closed))
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Read(Box::new(move |database| {
            let _ = answer.send(database.and_then(|database| Ok(question(database)?)));
        }));
        self.jobs.send(job).await.map_err(|_| JournalError::Closed)?;
        answered.await.unwrap_or(Err(JournalError::Closed))
    }
}

/// A write that waits for its commit.
trait Write: Send {
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error>;
    fn answer(self: Box<Self>, outcome: Result<(), JournalError>);
}

struct Pending<T, F> {
    change: Option<F>,
    result: Option<T>,
    answer: oneshot::Sender<Result<T, JournalError>>,
}

impl<T: Send, F: FnOnce(&WriteTransaction) -> Result<T, redb::Error> + Send> Write for Pending<T, F> {
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let change = self.change.take().expect("a write is applied once");
        self.result = Some(change(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), JournalError>) {
        let Self { result, answer, .. } = *self;
        let result = outcome.map(|()| result.expect("every write of a committed batch was applied"));
        // Nobody waits any more if this fails.
        let _ = answer.send(result);
    }
}

fn serve(mut disk: Disk, mut jobs: mpsc::Receiver<Job>) {
    let mut held_back = None;
    while let Some(job) = held_back.take().or_else(|| jobs.blocking_recv()) {
        match job {
            Job::Close => return,
            Job::Read(read) => read(disk.database().map_err(JournalError::from)),
            Job::Write(first) => {
                let mut batch = vec![first];
                while batch.len() < BATCH {
                    match jobs.try_recv() {
                        Ok(Job::Write(next)) => batch.push(next),
                        Ok(other) => {
                            held_back = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                let outcome = commit(&mut disk, &mut batch).map_err(|error| {
                    // redb refuses everything after a failed write until the file is opened again.
                    disk.reopen_later();
                    JournalError::from(error)
                });
                for write in batch {
                    write.answer(outcome.clone());
                }
            }
        }
    }
}

fn commit(disk: &mut Disk, batch: &mut [Box<dyn Write>]) -> Result<(), redb::Error> {
    let transaction = disk.database()?.begin_write()?;
    for write in batch {
        write.apply(&transaction)?;
    }
    transaction.commit()?;
    Ok(())
}
