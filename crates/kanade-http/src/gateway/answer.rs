//! What goes from the reading side of a session to its writing side.

use bytes::Bytes;
use futures::{StreamExt, future::ready, stream, stream::BoxStream};
use kanade_model::Pattern;
use kanade_ports::{
    BusError, BusErrorKind, CatalogEvent, CatalogStream, Entry, ErrorKind, Message, StoreError, Subscription,
    frame::{MAX_PAYLOAD, ServerFrame},
};
use tokio::sync::OwnedSemaphorePermit;

use super::room::Room;

/// In letters; so that an answer fits the first line of a frame, however it is written.
const LONGEST_DETAIL: usize = 512;

/// Something an agent is told, and its payload.
pub(super) type Told = (ServerFrame, Bytes);

/// The answer to a call. What was taken for the call is given back when it has been written.
pub(super) struct Answer {
    pub(super) told: Told,
    pub(super) then: Then,
    /// One of the calls that may be worked on.
    pub(super) slot: OwnedSemaphorePermit,
    /// For its payload.
    pub(super) room: Option<Room>,
}

/// What changes with an answer.
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// Something is followed from now on.
    Follow(Feed),
    /// A subscription or a watch ends, before the answer.
    Forget(u64),
}

/// A subscription or a watch.
pub(super) struct Feed {
    /// The id of its call.
    pub(super) of: u64,
    /// Whether it goes before others.
    pub(super) is_urgent: bool,
    /// What the agent is told.
    pub(super) items: BoxStream<'static, Told>,
}

impl Answer {
    /// A call that has been done.
    pub(super) fn done(id: u64, slot: OwnedSemaphorePermit) -> Self {
        Self {
            told: (ServerFrame::Done { id }, Bytes::new()),
            then: Then::Nothing,
            slot,
            room: None,
        }
    }

    /// A call that has failed.
    pub(super) fn failed(id: u64, slot: OwnedSemaphorePermit, failure: Failure) -> Self {
        let Failure { kind, detail } = failure;
        Self {
            told: (ServerFrame::Failed { id, kind, detail }, Bytes::new()),
            ..Self::done(id, slot)
        }
    }

    /// What a call came to.
    pub(super) fn outcome(
        id: u64,
        slot: OwnedSemaphorePermit,
        outcome: Result<(), impl Into<Failure>>,
    ) -> Self {
        match outcome {
            Ok(()) => Self::done(id, slot),
            Err(failure) => Self::failed(id, slot, failure.into()),
        }
    }

    /// A document, or that there is none.
    pub(super) fn found(id: u64, slot: OwnedSemaphorePermit, entry: Option<Entry>) -> Self {
        let revision = entry.as_ref().map(|entry| entry.revision);
        let value = entry.map_or_else(Bytes::new, |entry| entry.value);
        if value.len() > MAX_PAYLOAD {
            let detail = format!("a document of {} bytes", value.len());
            return Self::failed(id, slot, Failure::new(BusErrorKind::TooLarge, detail));
        }
        Self {
            told: (ServerFrame::Found { id, revision }, value),
            ..Self::done(id, slot)
        }
    }

    /// A call that was done, and from which on something is followed.
    pub(super) fn following(slot: OwnedSemaphorePermit, feed: Feed) -> Self {
        let mut answer = Self::done(feed.of, slot);
        answer.then = Then::Follow(feed);
        answer
    }
}

impl Feed {
    /// The messages of a subscription; then that it has ended. `held` is given back with it.
    pub(super) fn messages(
        of: u64,
        pattern: &Pattern,
        messages: Subscription,
        held: OwnedSemaphorePermit,
    ) -> Self {
        let told = move |message: Message| {
            let Message {
                subject,
                payload,
                reply,
            } = message;
            (ServerFrame::Message { of, subject, reply }, payload)
        };
        Self::new(
            of,
            pattern.as_str().starts_with("kill."),
            messages.map(told),
            held,
        )
    }

    /// The events of a watch; then that it has ended. `held` is given back with it.
    pub(super) fn documents(of: u64, events: CatalogStream, held: OwnedSemaphorePermit) -> Self {
        let told = move |event| match event {
            CatalogEvent::Put(Entry { key, value, revision }) => {
                (ServerFrame::Put { of, key, revision }, value)
            }
            CatalogEvent::Deleted(key) => (ServerFrame::Deleted { of, key }, Bytes::new()),
            CatalogEvent::Current => (ServerFrame::Current { of }, Bytes::new()),
        };
        Self::new(of, false, events.map(told), held)
    }

    fn new(
        of: u64,
        is_urgent: bool,
        items: impl futures::Stream<Item = Told> + Send + 'static,
        held: OwnedSemaphorePermit,
    ) -> Self {
        let ended = stream::once(ready((ServerFrame::Ended { of }, Bytes::new())));
        let items = items.chain(ended).map(move |told| {
            let _held = &held;
            told
        });
        Self {
            of,
            is_urgent,
            items: items.boxed(),
        }
    }
}

/// Why a call has failed, as the agent is told.
#[derive(Debug)]
pub(super) struct Failure {
    kind: BusErrorKind,
    detail: String,
}

impl Failure {
    pub(super) fn new(kind: BusErrorKind, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(LONGEST_DETAIL) {
            detail.truncate(end);
        }
        Self { kind, detail }
    }

    /// Something that is not allowed.
    pub(super) fn refused(detail: impl Into<String>) -> Self {
        Self::new(BusErrorKind::Refused, detail)
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            ErrorKind::Unsupported => BusErrorKind::Refused,
            ErrorKind::Indeterminate => BusErrorKind::TimedOut,
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::Unavailable
            | ErrorKind::Corrupt => BusErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}
