//! Group commit: takes change-sets from everybody, applies whatever has queued up in one durable commit, and wakes
//! each caller with its outcome after that. Written once, over any store.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use kanade_ports::{ChangeSet, ErrorKind, ExecutionStore, Outcome, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// The most sets in one commit.
const MAX_SETS: usize = 1024;
/// About the most bytes in one commit; a larger set is committed alone.
const MAX_BYTES: usize = 8 << 20;
/// The most bytes that may wait; callers wait for room before that.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Weight permits are counted in this many bytes.
const PERMIT: usize = 256;

/// Where every change to the store goes through. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    trouble: Arc<Mutex<Option<String>>>,
}

/// Told of every set that was applied, after the commit and before its caller is.
pub type Observer = Arc<dyn Fn(&ChangeSet) + Send + Sync>;

struct Request {
    set: ChangeSet,
    waiter: Waiter,
}

struct Waiter {
    weight: usize,
    /// The set's place among the bytes that wait; free again when this is dropped, also by a caller that goes away.
    _room: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

impl Committer {
    /// A committer over `store`, and the loop that drives it; it ends when the last clone is dropped.
    pub fn new(store: Arc<dyn ExecutionStore>, observer: Observer) -> (Self, BoxFuture<'static, ()>) {
        let (queue, requests) = mpsc::channel(MAX_SETS);
        let room = Arc::new(Semaphore::new(MAX_WAITING_BYTES / PERMIT));
        let trouble = Arc::new(Mutex::new(None));
        let run = Loop {
            store,
            observer,
            requests,
            trouble: Arc::clone(&trouble),
            carried: None,
        };
        (Self { queue, room, trouble }, Box::pin(run.run()))
    }

    /// Commits one set. Dropping the returned future does not take the set back.
    ///
    /// # Errors
    /// As [`ExecutionStore::apply`]; `Unavailable` too when the server is stopping.
    pub async fn commit(&self, set: ChangeSet) -> Result<Outcome, StoreError> {
        self.enqueue(set).await?.await.map_err(|_| unknown())?
    }

    /// Commits sets that need not be one commit; the answers are in the order of the sets.
    pub async fn commit_all(&self, sets: Vec<ChangeSet>) -> Vec<Result<Outcome, StoreError>> {
        self.hand_over(sets).await.outcomes().await
    }

    /// Queues sets that need not be one commit, once there is room for them; whatever is handed over later is applied
    /// later.
    pub(crate) async fn hand_over(&self, sets: Vec<ChangeSet>) -> Answers {
        let mut answers = Vec::with_capacity(sets.len());
        for set in sets {
            answers.push(self.enqueue(set).await);
        }
        Answers(answers)
    }

    /// What is wrong with the store, as the newest commit found it.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("no panic while locked").clone()
    }

    async fn enqueue(
        &self,
        set: ChangeSet,
    ) -> Result<oneshot::Receiver<Result<Outcome, StoreError>>, StoreError> {
        let weight = set.weight().clamp(1, MAX_WAITING_BYTES);
        let permits = u32::try_from(weight.div_ceil(PERMIT)).expect("bounded above");
        let _room = Arc::clone(&self.room)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| stopping())?;
        let (answer, answered) = oneshot::channel();
        self.queue
            .send(Request {
                set,
                waiter: Waiter {
                    weight,
                    _room,
                    answer,
                },
            })
            .await
            .map_err(|_| stopping())?;
        Ok(answered)
    }
}

/// What will have become of sets that were handed over.
pub(crate) struct Answers(Vec<Result<oneshot::Receiver<Result<Outcome, StoreError>>, StoreError>>);

impl Answers {
    /// Waits for all of them; in the order of the sets.
    pub(crate) async fn outcomes(self) -> Vec<Result<Outcome, StoreError>> {
        let mut outcomes = Vec::with_capacity(self.0.len());
        for answer in self.0 {
            outcomes.push(match answer {
                Ok(answer) => answer.await.unwrap_or_else(|_| Err(unknown())),
                Err(error) => Err(error),
            });
        }
        outcomes
    }
}

fn stopping() -> StoreError {
    StoreError::new(
        ErrorKind::Unavailable,
        "commit a change while the server is stopping",
    )
}

fn unknown() -> StoreError {
    StoreError::new(
        ErrorKind::Indeterminate,
        "commit a change while the server was stopping",
    )
}

struct Loop {
    store: Arc<dyn ExecutionStore>,
    observer: Observer,
    requests: mpsc::Receiver<Request>,
    trouble: Arc<Mutex<Option<String>>>,
    /// Taken from the queue, but too large for the commit it would have been in.
    carried: Option<Request>,
}

impl Loop {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.commit(batch).await;
        }
    }

    async fn next_batch(&mut self) -> Option<Vec<Request>> {
        let first = match self.carried.take() {
            Some(request) => request,
            None => self.requests.recv().await?,
        };
        let mut bytes = first.waiter.weight;
        let mut batch = vec![first];
        while batch.len() < MAX_SETS {
            let Ok(request) = self.requests.try_recv() else {
                break;
            };
            if bytes + request.waiter.weight > MAX_BYTES {
                self.carried = Some(request);
                break;
            }
            bytes += request.waiter.weight;
            batch.push(request);
        }
        Some(batch)
    }

    /// Commits a batch; if the store rejects it, splits it until the bad sets stand by themselves.
    async fn commit(&mut self, batch: Vec<Request>) {
        let mut parts = VecDeque::from([batch]);
        while let Some(mut part) = parts.pop_front() {
            let (sets, waiters): (Vec<_>, Vec<_>) = part
                .drain(..)
                .map(|request| (request.set, request.waiter))
                .unzip();
            match self.store.apply(&sets).await {
                Ok(outcomes) => {
                    self.note(None);
                    for ((set, waiter), outcome) in sets.iter().zip(waiters).zip(outcomes) {
                        if outcome == Outcome::Applied {
                            (self.observer)(set);
                        }
                        // A caller that went away does not want to know.
                        drop(waiter.answer.send(Ok(outcome)));
                    }
                }
                Err(error) if sets.len() > 1 && concerns_one_set(error.kind()) => {
                    let mut left: Vec<Request> = sets
                        .into_iter()
                        .zip(waiters)
                        .map(|(set, waiter)| Request { set, waiter })
                        .collect();
                    let right = left.split_off(left.len() / 2);
                    parts.push_front(right);
                    parts.push_front(left);
                }
                Err(error) => {
                    if !concerns_one_set(error.kind()) {
                        self.note(Some(&error));
                    }
                    let error = Arc::new(error);
                    for waiter in waiters {
                        drop(waiter.answer.send(Err(StoreError::shared(&error))));
                    }
                }
            }
        }
    }

    fn note(&self, error: Option<&StoreError>) {
        let mut trouble = self.trouble.lock().expect("no panic while locked");
        match (error, trouble.is_some()) {
            (Some(error), before) => {
                let text = crate::error::chain(error);
                if !before {
                    tracing::error!(error = %text, "the store takes no changes");
                }
                *trouble = Some(text);
            }
            (None, true) => {
                tracing::info!("the store takes changes again");
                *trouble = None;
            }
            (None, false) => {}
        }
    }
}

/// Whether a rejection may be about one set of the batch, rather than about the store.
fn concerns_one_set(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Unavailable | ErrorKind::Indeterminate => false,
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::Corrupt
        | ErrorKind::Unsupported => true,
    }
}
