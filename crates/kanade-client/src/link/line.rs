//! One connection as those who call see it: where their frames are queued, who waits for an answer, and who hears what
//! is told.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use kanade_ports::{
    Bucket, BusErrorKind, CatalogEvent, Entry, Mailbox, Message, Put, Revision,
    frame::{AgentFrame, Call, FrameError, ServerFrame, encode},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Lost;

/// Bytes that wait to be sent.
const ROOM: usize = 4 << 20;
/// What a frame takes of that at least, so that no more than 64 wait.
const LEAST_ROOM: usize = ROOM / 64;
/// Durable messages that wait to be kept. Fewer than the 32 calls that a server works on before it stops reading, so
/// that signs of life and answers pass them.
const REPORTS: usize = 24;
/// Bytes of memory for an event of a watch besides its key and its document.
const ENVELOPE: usize = 128;

/// Gives every call of a link an id of its own.
#[derive(Debug, Default)]
pub(super) struct Ids(AtomicU64);

impl Ids {
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A call, written as a frame.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) id: u64,
    frame: Bytes,
}

impl Request {
    pub(super) fn new(ids: &Ids, call: Call, payload: &[u8]) -> Result<Self, FrameError> {
        let id = ids.next();
        let frame = encode(&AgentFrame { id, call }, payload)?;
        Ok(Self { id, frame })
    }

    /// Whether a call without a payload can be made under any id.
    pub(super) fn fits_always(call: &Call) -> Result<(), FrameError> {
        let (id, call) = (u64::MAX, call.clone());
        encode(&AgentFrame { id, call }, b"").map(drop)
    }
}

/// A frame in the queue, and the room it takes there.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) frame: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// What a call was answered.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Found {
        revision: Option<Revision>,
        value: Bytes,
    },
    Failed {
        kind: BusErrorKind,
        detail: String,
    },
}

/// Who hears what is told under the id of a call.
#[derive(Clone)]
pub(super) enum Ear {
    Messages {
        /// The subscription.
        key: u64,
        mailbox: Arc<Mailbox<Message>>,
    },
    Events {
        bucket: Bucket,
        mailbox: Arc<Mailbox<CatalogEvent>>,
    },
}

/// What came of something that was told, for the link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// A subscriber is too slow and has missed a message.
    Missed,
    /// The server has ended this subscription.
    Ended {
        key: u64,
    },
}

/// One connection.
pub(super) struct Line {
    ids: Arc<Ids>,
    room: Arc<Semaphore>,
    reports: Arc<Semaphore>,
    queue: mpsc::UnboundedSender<Outgoing>,
    /// None when the connection is lost.
    calls: Mutex<Option<Calls>>,
}

#[derive(Default)]
struct Calls {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    ears: HashMap<u64, Ear>,
}

/// A call under way; forgotten when this is dropped.
pub(super) struct Asked {
    line: Arc<Line>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Asked {
    /// What it was sent on.
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Waits for the answer.
    pub(super) async fn answer(mut self) -> Result<Answer, Lost> {
        (&mut self.answer).await.map_err(|_| Lost)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.line.with(|calls| calls.waiting.remove(&self.id));
    }
}

impl Line {
    /// A connection, and the queue of what is to be sent on it.
    pub(super) fn new(ids: Arc<Ids>) -> (Arc<Self>, mpsc::UnboundedReceiver<Outgoing>) {
        // Bounded by the room: what is queued without any is one frame for each subscription.
        let (queue, outgoing) = mpsc::unbounded_channel();
        let line = Self {
            ids,
            room: Arc::new(Semaphore::new(ROOM)),
            reports: Arc::new(Semaphore::new(REPORTS)),
            queue,
            calls: Mutex::new(Some(Calls::default())),
        };
        (Arc::new(line), outgoing)
    }

    /// Waits until there is room for the request in the queue.
    pub(super) async fn room(&self, request: &Request) -> Result<OwnedSemaphorePermit, Lost> {
        let weight = request.frame.len().max(LEAST_ROOM);
        let weight = u32::try_from(weight).expect("a frame is a little over 1 MiB at most");
        Arc::clone(&self.room)
            .acquire_many_owned(weight)
            .await
            .map_err(|_| Lost)
    }

    /// Waits until it is the turn of another durable message; its turn lasts for as long as the permit is held.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, Lost> {
        Arc::clone(&self.reports).acquire_owned().await.map_err(|_| Lost)
    }

    /// Queues a request. What is told under its id goes to `ear`, from the first word.
    pub(super) fn ask(
        self: &Arc<Self>,
        request: Request,
        room: Option<OwnedSemaphorePermit>,
        ear: Option<Ear>,
    ) -> Result<Asked, Lost> {
        let Request { id, frame } = request;
        let (answered, answer) = oneshot::channel();
        let asked = Asked {
            line: Arc::clone(self),
            id,
            answer,
        };
        self.with(|calls| {
            calls.waiting.insert(id, answered);
            calls.ears.extend(ear.map(|ear| (id, ear)));
            // Under the lock, so that frames leave in the order in which they were registered.
            self.queue.send(Outgoing { frame, _room: room }).map_err(|_| Lost)
        })
        .unwrap_or(Err(Lost))?;
        Ok(asked)
    }

    /// Queues a request when there is room for it, and waits for the answer.
    pub(super) async fn call(self: &Arc<Self>, request: Request) -> Result<Answer, Lost> {
        let room = self.room(&request).await?;
        self.ask(request, Some(room), None)?.answer().await
    }

    /// Nobody hears any more what is told under this id, which the server is told.
    pub(super) fn hush(&self, id: u64) {
        let Some(Some(_ear)) = self.with(|calls| calls.ears.remove(&id)) else {
            return;
        };
        let end = Request::new(&self.ids, Call::End { of: id }, b"").expect("an `end` is short");
        // A connection that is lost has ended it already. Its answer is of no interest.
        let _ = self.queue.send(Outgoing {
            frame: end.frame,
            _room: None,
        });
    }

    /// Takes in what the server tells.
    pub(super) fn hear(&self, told: ServerFrame, payload: &Bytes) -> Heard {
        // A copy, because the payload is a part of the socket's buffer and would keep all of it in memory.
        let value = || Bytes::copy_from_slice(payload);
        match told {
            ServerFrame::Done { id } => self.answered(id, Answer::Done),
            ServerFrame::Failed { id, kind, detail } => {
                self.with(|calls| calls.ears.remove(&id));
                self.answered(id, Answer::Failed { kind, detail });
            }
            ServerFrame::Found { id, revision } => {
                let value = value();
                self.answered(id, Answer::Found { revision, value });
            }
            ServerFrame::Message { of, subject, reply } => {
                let payload = value();
                return self.message(
                    of,
                    Message {
                        subject,
                        payload,
                        reply,
                    },
                );
            }
            ServerFrame::Put { of, key, revision } => {
                let value = value();
                self.event(of, CatalogEvent::Put(Entry { key, value, revision }));
            }
            ServerFrame::Deleted { of, key } => self.event(of, CatalogEvent::Deleted(key)),
            ServerFrame::Current { of } => self.event(of, CatalogEvent::Current),
            ServerFrame::Ended { of } => {
                if let Some(Some(Ear::Messages { key, .. })) = self.with(|calls| calls.ears.remove(&of)) {
                    return Heard::Ended { key };
                }
            }
            ServerFrame::Unknown => {}
        }
        Heard::Nothing
    }

    /// The connection is lost: nobody waits any more, and watches end.
    pub(super) fn close(&self) {
        let calls = self.calls().take();
        self.room.close();
        self.reports.close();
        drop(calls);
    }

    pub(super) fn calls_in_flight(&self) -> usize {
        self.with(|calls| calls.waiting.len()).unwrap_or(0)
    }

    fn answered(&self, id: u64, answer: Answer) {
        if let Some(Some(waiting)) = self.with(|calls| calls.waiting.remove(&id)) {
            // Whoever asked may have gone away.
            let _ = waiting.send(answer);
        }
    }

    fn message(&self, of: u64, message: Message) -> Heard {
        let Some(Some(Ear::Messages { mailbox, .. })) = self.with(|calls| calls.ears.get(&of).cloned())
        else {
            return Heard::Nothing;
        };
        let weight = message.weight();
        match mailbox.put(message, weight) {
            Put::Dropped => Heard::Missed,
            Put::Queued | Put::Gone => Heard::Nothing,
        }
    }

    fn event(&self, of: u64, event: CatalogEvent) {
        let Some(Some(Ear::Events { bucket, mailbox })) = self.with(|calls| calls.ears.get(&of).cloned())
        else {
            return;
        };
        let weight = ENVELOPE
            + match &event {
                CatalogEvent::Put(entry) => entry.key.as_str().len() + entry.value.len(),
                CatalogEvent::Deleted(key) => key.as_str().len(),
                CatalogEvent::Current => 0,
            };
        if mailbox.put(event, weight) == Put::Dropped {
            tracing::warn!(%bucket, "a watch of the catalog is not read fast enough; it ends");
            self.hush(of);
        }
    }

    /// Does something while nobody else can; nothing when the connection is lost. What `act` takes out is to be
    /// dropped by the caller: that may wake somebody who calls in turn.
    fn with<T>(&self, act: impl FnOnce(&mut Calls) -> T) -> Option<T> {
        self.calls().as_mut().map(act)
    }

    fn calls(&self) -> MutexGuard<'_, Option<Calls>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use kanade_ports::{Key, mailbox};

    use super::*;

    fn request(line: &Line, payload: usize) -> Request {
        let subject = "heartbeat.web-1".parse().unwrap();
        Request::new(&line.ids, Call::Publish { subject }, &vec![b'x'; payload]).unwrap()
    }

    fn line() -> (Arc<Line>, mpsc::UnboundedReceiver<Outgoing>) {
        Line::new(Arc::default())
    }

    #[test]
    fn the_queue_is_bounded_in_frames_and_in_bytes() {
        for (payload, fit) in [(1, 64), (1 << 20, 3)] {
            let (line, mut queue) = line();
            let mut asked = Vec::new();
            let mut ask = || {
                let request = request(&line, payload);
                let room = line.room(&request).now_or_never()?;
                asked.push(line.ask(request, Some(room.unwrap()), None).unwrap());
                Some(())
            };
            for _ in 0..fit {
                assert!(ask().is_some());
            }
            assert!(ask().is_none(), "senders wait");
            drop(queue.try_recv().unwrap());
            assert!(ask().is_some(), "there is room again when one has left");
        }
    }

    #[test]
    fn whoever_waits_for_room_hears_of_a_lost_connection() {
        let (line, _queue) = line();
        let mut held = Vec::new();
        while let Some(room) = line.room(&request(&line, 1 << 20)).now_or_never() {
            held.push(room.unwrap());
        }
        let large = request(&line, 1 << 20);
        let mut waiting = Box::pin(line.room(&large));
        assert!((&mut waiting).now_or_never().is_none());
        line.close();
        assert_eq!(waiting.now_or_never().unwrap().unwrap_err(), Lost);
        assert_eq!(line.ask(large, None, None).err(), Some(Lost));
    }

    #[test]
    fn a_call_is_answered_once_and_then_forgotten() {
        let (line, _queue) = line();
        let request = request(&line, 1);
        let id = request.id;
        let asked = line.ask(request, None, None).unwrap();
        assert_eq!(line.calls_in_flight(), 1);
        for _ in 0..2 {
            line.hear(ServerFrame::Done { id }, &Bytes::new());
        }
        assert!(matches!(asked.answer().now_or_never(), Some(Ok(Answer::Done))));
        assert_eq!(line.calls_in_flight(), 0);
    }

    #[test]
    fn a_call_that_is_given_up_is_forgotten() {
        let (line, _queue) = line();
        let asked = line.ask(request(&line, 1), None, None).unwrap();
        drop(asked);
        assert_eq!(line.calls_in_flight(), 0);
    }

    #[test]
    fn a_watch_that_is_not_read_ends_after_what_it_has() {
        let (line, mut queue) = line();
        let (mailbox, mut inbox) = mailbox(2, 1 << 20);
        let watch = Request::new(&line.ids, Call::Watch { bucket: Bucket::Jobs }, b"").unwrap();
        let of = watch.id;
        let ear = Ear::Events {
            bucket: Bucket::Jobs,
            mailbox: Arc::new(mailbox),
        };
        let _asked = line.ask(watch, None, Some(ear)).unwrap();
        queue.try_recv().unwrap();
        let key: Key = "backup".parse().unwrap();
        for revision in 1..=3 {
            let put = ServerFrame::Put {
                of,
                key: key.clone(),
                revision: Revision(revision),
            };
            line.hear(put, &Bytes::from_static(b"{}"));
        }
        let end = queue.try_recv().unwrap().frame;
        let (end, _) = kanade_ports::frame::decode::<AgentFrame>(end).unwrap();
        assert_eq!(end.call, Call::End { of });
        let read: Vec<_> = std::iter::from_fn(|| inbox.next().now_or_never().unwrap()).collect();
        assert_eq!(read.len(), 2);
        line.hear(ServerFrame::Current { of }, &Bytes::new());
        assert!(queue.try_recv().is_err(), "what still comes is passed over");
    }

    #[test]
    fn a_message_that_waits_keeps_no_more_than_itself_in_memory() {
        let (line, _queue) = line();
        let (mailbox, mut inbox) = mailbox(2, 1 << 20);
        let pattern = "kill.>".parse().unwrap();
        let subscribe = Request::new(&line.ids, Call::Subscribe { pattern }, b"").unwrap();
        let of = subscribe.id;
        let ear = Ear::Messages {
            key: 0,
            mailbox: Arc::new(mailbox),
        };
        let _asked = line.ask(subscribe, None, Some(ear)).unwrap();
        let buffer = Bytes::from(vec![b'x'; 1 << 20]);
        let message = ServerFrame::Message {
            of,
            subject: "kill.e-1".parse().unwrap(),
            reply: None,
        };
        line.hear(message, &buffer.slice(..10));
        assert!(buffer.is_unique());
        assert_eq!(
            inbox.next().now_or_never().flatten().unwrap().payload,
            "xxxxxxxxxx"
        );
    }
}
