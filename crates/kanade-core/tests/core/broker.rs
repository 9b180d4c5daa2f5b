//! A broker that retains Commands, and what a test does to it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kanade_memory::EmbeddedBus;
use kanade_model::{Command, PcId, Subject};
use kanade_ports::{
    BusError, BusErrorKind, MessageId, PubSub, RetainedCommand, RetainedCommands, RetainedEvent, Sequence,
};
use tokio::sync::{Semaphore, mpsc};

/// Retains what is published through it, the newest of each subject.
pub(crate) struct Broker {
    pub(crate) kept: Mutex<Kept>,
    bus: Mutex<Option<Arc<EmbeddedBus>>>,
    /// Does nothing that it is asked for.
    pub(crate) away: AtomicBool,
    /// Does what it is asked for and does not say so.
    pub(crate) is_silent: AtomicBool,
    /// Each keeping, each answer to one and each removal takes a permit.
    pub(crate) keepings: Semaphore,
    pub(crate) answers: Semaphore,
    pub(crate) removals: Semaphore,
    pub(crate) asked_to_keep: AtomicUsize,
    pub(crate) asked_to_remove: AtomicUsize,
    pub(crate) admissions: Semaphore,
    admitted: Mutex<Vec<PcId>>,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) last: u64,
    pub(crate) messages: BTreeMap<u64, RetainedCommand>,
    names: HashMap<MessageId, u64>,
    pub(crate) watches: Vec<mpsc::UnboundedSender<RetainedEvent>>,
}

impl Default for Broker {
    fn default() -> Self {
        let open = || Semaphore::new(1_000_000);
        Self {
            kept: Mutex::default(),
            bus: Mutex::default(),
            away: AtomicBool::default(),
            is_silent: AtomicBool::default(),
            keepings: open(),
            answers: open(),
            removals: open(),
            asked_to_keep: AtomicUsize::default(),
            asked_to_remove: AtomicUsize::default(),
            admissions: open(),
            admitted: Mutex::default(),
        }
    }
}

impl Broker {
    /// The same broker on another bus.
    pub(crate) fn on(self: Arc<Self>, bus: &Arc<EmbeddedBus>) -> Arc<dyn RetainedCommands> {
        *self.bus.lock().unwrap() = Some(Arc::clone(bus));
        self.cut();
        self
    }

    /// Ends every watch.
    pub(crate) fn cut(&self) {
        self.kept.lock().unwrap().watches.clear();
    }

    /// Retains something that somebody else publishes.
    pub(crate) fn retain(&self, subject: &Subject, payload: Bytes) -> Sequence {
        let mut kept = self.kept.lock().unwrap();
        kept.last += 1;
        let command = RetainedCommand {
            sequence: Sequence(kept.last),
            subject: subject.clone(),
            payload,
        };
        kept.messages.retain(|_, other| other.subject != *subject);
        let number = kept.last;
        kept.messages.insert(number, command.clone());
        let told = RetainedEvent::Kept(command);
        kept.watches.retain(|watch| watch.send(told.clone()).is_ok());
        Sequence(number)
    }

    /// The subjects on which something is retained, and the job and the version of each.
    pub(crate) fn retained(&self) -> BTreeSet<(String, String)> {
        let kept = self.kept.lock().unwrap();
        let of = |command: &RetainedCommand| {
            let said: Command = serde_json::from_slice(&command.payload).unwrap();
            let subject = command.subject.as_str().strip_prefix("commands.").unwrap();
            (subject.to_owned(), format!("{} {}", said.id, said.version))
        };
        kept.messages.values().map(of).collect()
    }

    pub(crate) fn subjects(&self) -> Vec<String> {
        self.retained().into_iter().map(|(subject, _)| subject).collect()
    }

    fn check(&self, doing: &str) -> Result<(), BusError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(BusError::new(BusErrorKind::Unavailable, doing)),
            false => Ok(()),
        }
    }

    fn answer(&self, doing: &str) -> Result<(), BusError> {
        match self.is_silent.load(Ordering::SeqCst) {
            true => Err(BusError::new(BusErrorKind::TimedOut, doing)),
            false => Ok(()),
        }
    }

    pub(crate) fn admitted(&self, pc: &str) -> usize {
        let admitted = self.admitted.lock().unwrap();
        admitted.iter().filter(|other| other.as_str() == pc).count()
    }
}

#[async_trait]
impl RetainedCommands for Broker {
    async fn keep(&self, subject: &Subject, command: Bytes, id: MessageId) -> Result<Sequence, BusError> {
        self.asked_to_keep.fetch_add(1, Ordering::SeqCst);
        self.keepings.acquire().await.unwrap().forget();
        self.check("keep")?;
        let bus = self.bus.lock().unwrap().clone().unwrap();
        bus.publish(subject, command.clone()).await?;
        let first = self.kept.lock().unwrap().names.get(&id).copied();
        let sequence = first.map_or_else(|| self.retain(subject, command), Sequence);
        self.kept.lock().unwrap().names.insert(id, sequence.0);
        self.answers.acquire().await.unwrap().forget();
        self.answer("keep")?;
        Ok(sequence)
    }

    async fn remove(&self, subject: &Subject, sequence: Sequence) -> Result<(), BusError> {
        self.asked_to_remove.fetch_add(1, Ordering::SeqCst);
        self.removals.acquire().await.unwrap().forget();
        self.check("remove")?;
        let mut kept = self.kept.lock().unwrap();
        let is_gone =
            |number: &u64, command: &RetainedCommand| command.subject == *subject && *number <= sequence.0;
        kept.messages.retain(|number, command| !is_gone(number, command));
        Ok(())
    }

    async fn watch(&self) -> Result<BoxStream<'static, RetainedEvent>, BusError> {
        self.check("watch")?;
        let mut kept = self.kept.lock().unwrap();
        let stands: Vec<RetainedEvent> = kept.messages.values().cloned().map(RetainedEvent::Kept).collect();
        let (watch, changes) = mpsc::unbounded_channel();
        kept.watches.push(watch);
        let changes = stream::unfold(changes, |mut changes| async move {
            Some((changes.recv().await?, changes))
        });
        let current = stream::iter([RetainedEvent::Current]);
        Ok(stream::iter(stands).chain(current).chain(changes).boxed())
    }

    async fn admit(&self, pc: &PcId) -> Result<(), BusError> {
        self.admissions.acquire().await.unwrap().forget();
        self.admitted.lock().unwrap().push(pc.clone());
        self.check("admit")
    }
}
