//! A bucket as an agent follows it: the messages of its stream are read in their order, from the first on, and again
//! whenever one is heard. No consumer is made for that, since whoever may make one may have anything delivered anywhere.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use kanade_ports::{Bucket, CatalogEvent, Entry, Key, Revision};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    catalog::{is_deletion, subject},
    key,
    link::{Fault, Link},
    plan,
};

/// How many messages are asked for at a time, and their bytes.
const BATCH: (usize, usize) = (512, 4 << 20);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The pauses before what was heard is looked for again: a message is heard before it is stored, and a replica that
/// answers may be behind. One that the stream has refused is looked for in vain.
const AGAIN: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// How soon it is read again after the beginning, when the replica that answered may have been behind.
const FIRST: Duration = Duration::from_secs(2);
/// How often it is read though nothing was heard, before the jitter.
const SELDOM: Duration = Duration::from_secs(60);

const SEQUENCE: &str = "Nats-Sequence";
const SUBJECT: &str = "Nats-Subject";
const PENDING: &str = "Nats-Num-Pending";

/// What is followed.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// Every document of a bucket.
    All(Bucket),
    /// One document, of which only the newest version is read.
    One(Bucket, Key),
}

impl Scope {
    fn bucket(&self) -> Bucket {
        match self {
            Self::All(bucket) | Self::One(bucket, _) => *bucket,
        }
    }

    /// Where its messages are.
    fn subject(&self) -> String {
        match self {
            Self::All(bucket) => format!("$KV.{bucket}.>"),
            Self::One(bucket, key) => subject(*bucket, key),
        }
    }

    /// Where to ask for its messages, and how, beginning with the number `next`.
    fn question(&self, next: u64) -> (String, Bytes) {
        let path = format!("$JS.API.DIRECT.GET.{}", plan::stream_of_bucket(self.bucket()));
        match self {
            Self::All(_) => {
                let (batch, max_bytes) = BATCH;
                let which = json!({
                    "seq": next, "next_by_subj": self.subject(), "batch": batch, "max_bytes": max_bytes,
                });
                (path, which.to_string().into())
            }
            // The subject in the path can be permitted for itself.
            Self::One(..) => (format!("{path}.{}", self.subject()), Bytes::new()),
        }
    }

    /// Where to ask for the newest message, and how.
    fn question_for_last(&self) -> (String, Bytes) {
        match self {
            Self::All(_) => {
                let which = json!({"last_by_subj": self.subject()});
                (self.question(1).0, which.to_string().into())
            }
            Self::One(..) => self.question(1),
        }
    }

    /// The document of a scope of one.
    pub(super) async fn newest(&self, link: &Link) -> Result<Option<Entry>, Fault> {
        let (path, which) = self.question_for_last();
        let answer = link.ask(path, None, which, ANSWER).await?;
        Ok(match Part::read(&answer, self.bucket())? {
            Part::Message {
                event: Some(CatalogEvent::Put(entry)),
                ..
            } => Some(entry),
            _ => None,
        })
    }
}

/// One part of an answer.
#[derive(Debug)]
enum Part {
    /// A message.
    Message {
        number: u64,
        /// What it means, if it is of a document.
        event: Option<CatalogEvent>,
        /// Whether a part that ends the answer follows. Servers before 2.11 know no batches and give one message.
        more: bool,
    },
    /// The end; how many more messages there are.
    End(u64),
}

impl Part {
    fn read(answer: &Message, bucket: Bucket) -> Result<Self, Fault> {
        const EOB: u16 = 204;
        let number = |name| header(answer.headers.as_ref(), name).and_then(|text| text.parse::<u64>().ok());
        match answer.status {
            None | Some(StatusCode::OK) => {}
            Some(StatusCode::NOT_FOUND) => return Ok(Self::End(0)),
            Some(status) if status.as_u16() == EOB => return Ok(Self::End(number(PENDING).unwrap_or(0))),
            Some(StatusCode::NO_RESPONDERS) => return Err(Fault::NoResponders),
            Some(status) => return Err(Fault::Client(format!("it answered {status}").into())),
        }
        let stored = header(answer.headers.as_ref(), SUBJECT);
        let (Some(sequence), Some(stored)) = (number(SEQUENCE), stored) else {
            return Err(Fault::Client("it answered without saying what this is".into()));
        };
        Ok(Self::Message {
            number: sequence,
            event: event(answer, bucket, stored, sequence),
            more: number(PENDING).is_some(),
        })
    }
}

fn event(message: &Message, bucket: Bucket, stored: &str, number: u64) -> Option<CatalogEvent> {
    let of_bucket = stored.strip_prefix("$KV.")?.strip_prefix(bucket.as_str())?;
    let key = key::read(of_bucket.strip_prefix('.')?)?;
    if message.headers.as_ref().is_some_and(is_deletion) {
        return Some(CatalogEvent::Deleted(key));
    }
    Some(CatalogEvent::Put(Entry {
        key,
        value: message.payload.clone(),
        revision: Revision(number),
    }))
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    Some(headers?.get(name)?.as_str())
}

/// Follows a bucket.
pub(super) struct Tail {
    link: Arc<Link>,
    scope: Scope,
    inbox: String,
    answers: Subscriber,
    /// How many messages have been heard.
    heard: watch::Receiver<u64>,
    lost: watch::Receiver<u64>,
    /// How many of what was heard has been accounted for.
    seen: u64,
    /// The number from which on nothing has been read.
    next: u64,
    /// What has been read and not told.
    ready: VecDeque<CatalogEvent>,
    /// How often what was heard has been looked for in vain.
    in_vain: usize,
    /// When it is read again.
    due: Instant,
}

impl Tail {
    /// Begins to follow; with every document as it stands.
    pub(super) async fn open(link: Arc<Link>, scope: Scope) -> Result<(Self, BTreeMap<Key, Entry>), Fault> {
        link.ready().await?;
        let lost = link.losses();
        let subscribe = |subject: String| async { link.client.subscribe(subject).await };
        let client_failed = |error: async_nats::SubscribeError| Fault::Client(error.into());
        let hints = subscribe(scope.subject()).await.map_err(client_failed)?;
        let inbox = link.client.new_inbox();
        let answers = subscribe(inbox.clone()).await.map_err(client_failed)?;
        let (count, heard) = watch::channel(0);
        tokio::spawn(listen(hints, count));
        let mut tail = Self {
            link: Arc::clone(&link),
            scope,
            inbox,
            answers,
            heard,
            lost,
            seen: 0,
            next: 1,
            ready: VecDeque::new(),
            in_vain: 0,
            due: Instant::now() + FIRST,
        };
        let mut documents = BTreeMap::new();
        while tail.read().await? {
            for event in tail.ready.drain(..) {
                apply(&mut documents, event);
            }
        }
        for event in tail.ready.drain(..) {
            apply(&mut documents, event);
        }
        // What was heard meanwhile is looked for again: it may have been stored too late.
        tail.seen = 0;
        Ok((tail, documents))
    }

    /// The next change; `None` when something may have been missed.
    pub(super) async fn next(&mut self) -> Option<CatalogEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.until_due().await?;
            if let Err(fault) = self.look().await {
                tracing::debug!(bucket = %self.scope.bucket(), %fault, "a watch cannot go on and ends");
                return None;
            }
        }
    }

    /// Reads what has come and plans when to read again.
    async fn look(&mut self) -> Result<(), Fault> {
        let before = self.next;
        let more = self.read().await?;
        let found = self.next != before;
        let soon = self.plan(found);
        if more {
            self.due = Instant::now();
        }
        // A bucket that was made anew counts from the beginning again.
        match more || found || soon || self.stands().await? {
            true => Ok(()),
            false => Err(Fault::Lost),
        }
    }

    /// Whether the stream still has what was read last.
    async fn stands(&self) -> Result<bool, Fault> {
        let (path, which) = self.scope.question_for_last();
        let answer = self.link.ask(path, None, which, ANSWER).await?;
        Ok(match Part::read(&answer, self.scope.bucket())? {
            Part::Message { number, .. } => number + 1 >= self.next,
            Part::End(_) => self.next == 1,
        })
    }

    /// Waits until there is a reason to read.
    async fn until_due(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                biased;
                _ = self.lost.changed() => return None,
                changed = self.heard.changed() => {
                    changed.ok()?;
                    self.in_vain = 0;
                    self.due = Instant::now();
                }
                () = time::sleep_until(self.due) => return Some(()),
            }
        }
    }

    /// When to read again, after a read that found something or did not; whether that is soon.
    fn plan(&mut self, found: bool) -> bool {
        let heard = *self.heard.borrow();
        if found {
            self.in_vain = 0;
        }
        let pause = AGAIN.get(self.in_vain).filter(|_| self.seen < heard);
        self.due = Instant::now() + pause.copied().unwrap_or(SELDOM.mul_f64(0.5 + fastrand::f64()));
        if pause.is_some() {
            self.in_vain += 1;
        } else {
            self.in_vain = 0;
            self.seen = heard;
        }
        pause.is_some()
    }

    /// Reads what has come; whether there is more. A busy server may seem not to be there for a moment.
    async fn read(&mut self) -> Result<bool, Fault> {
        for pause in AGAIN {
            match self.read_once().await {
                Err(Fault::NoResponders) => time::sleep(pause).await,
                outcome => return outcome,
            }
        }
        self.read_once().await
    }

    async fn read_once(&mut self) -> Result<bool, Fault> {
        let (path, which) = self.scope.question(self.next);
        let asked = self
            .link
            .client
            .publish_with_reply(path, self.inbox.clone(), which);
        asked.await?;
        loop {
            let answer = tokio::select! {
                biased;
                _ = self.lost.changed() => return Err(Fault::Lost),
                answer = time::timeout(ANSWER, self.answers.next()) => answer.map_err(|_| Fault::TimedOut)?,
            };
            let answer = answer.ok_or(Fault::Lost)?;
            match Part::read(&answer, self.scope.bucket())? {
                Part::End(pending) => {
                    if let (Scope::One(_, key), 2..) = (&self.scope, self.next) {
                        self.ready.push_back(CatalogEvent::Deleted(key.clone()));
                        self.next = 1;
                    }
                    return Ok(pending > 0);
                }
                Part::Message { number, event, more } => {
                    let is_new = number >= self.next;
                    if is_new {
                        self.next = number + 1;
                        self.seen += 1;
                        self.ready.extend(event);
                    }
                    if !more {
                        return Ok(is_new && matches!(self.scope, Scope::All(_)));
                    }
                }
            }
        }
    }
}

/// Counts what is heard. What it says is read from the stream, which may have refused it.
async fn listen(mut hints: Subscriber, count: watch::Sender<u64>) {
    loop {
        tokio::select! {
            biased;
            () = count.closed() => break,
            hint = hints.next() => match hint {
                Some(_) => count.send_modify(|count| *count += 1),
                None => return,
            },
        }
    }
    let _ = hints.unsubscribe().await;
}

fn apply(documents: &mut BTreeMap<Key, Entry>, event: CatalogEvent) {
    match event {
        CatalogEvent::Put(entry) => drop(documents.insert(entry.key.clone(), entry)),
        CatalogEvent::Deleted(key) => drop(documents.remove(&key)),
        CatalogEvent::Current => {}
    }
}
