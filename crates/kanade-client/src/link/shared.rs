//! What outlives a connection: the subscriptions, how it stands, and which line is in use.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kanade_model::Pattern;
use kanade_ports::{Mailbox, Message, frame::Call};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::{Instant, timeout_at},
};

use super::{
    LinkState, LinkTiming, Lost,
    line::{Answer, Asked, Ear, Heard, Ids, Line, Request},
};

/// What the task of a link and its callers share.
pub(super) struct Shared {
    pub(super) timing: LinkTiming,
    pub(super) ids: Arc<Ids>,
    standing: Mutex<Standing>,
    state: watch::Sender<LinkState>,
    reconnections: watch::Sender<u64>,
    dropped: AtomicU64,
    stop: Notify,
}

#[derive(Default)]
struct Standing {
    /// What calls are made on: a connection on which every subscription stands.
    line: Option<Arc<Line>>,
    was_connected: bool,
    is_closed: bool,
    /// In the order in which they were made.
    subscriptions: BTreeMap<u64, Subscribed>,
}

struct Subscribed {
    pattern: Pattern,
    mailbox: Arc<Mailbox<Message>>,
    /// The line on which it was asked for, and the id of that call.
    on: Option<(Arc<Line>, u64)>,
}

/// The beginning of a subscription.
pub(super) enum Begun {
    /// It will stand on the next connection.
    Kept,
    /// The server is asked for it.
    Asked(Asked),
    /// The link is closed.
    Closed,
    /// The line is not in use any more: once more.
    Lost,
}

impl Shared {
    pub(super) fn new(timing: LinkTiming) -> Self {
        let state = LinkState::Connecting {
            failures: 0,
            error: None,
        };
        Self {
            timing,
            ids: Arc::default(),
            standing: Mutex::default(),
            state: watch::Sender::new(state),
            reconnections: watch::Sender::new(0),
            dropped: AtomicU64::new(0),
            stop: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    pub(super) fn reconnections(&self) -> watch::Receiver<u64> {
        self.reconnections.subscribe()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The line in use.
    pub(super) fn line(&self) -> Option<Arc<Line>> {
        self.standing().line.clone()
    }

    /// The line in use, waiting for one until `deadline`.
    pub(super) async fn line_until(&self, deadline: Instant) -> Option<Arc<Line>> {
        let mut state = self.state();
        loop {
            state.borrow_and_update();
            {
                let standing = self.standing();
                if standing.line.is_some() || standing.is_closed {
                    return standing.line.clone();
                }
            }
            timeout_at(deadline, state.changed()).await.ok()?.ok()?;
        }
    }

    /// Begins a subscription: on `line`, with what was reserved for it there, or for the next connection.
    pub(super) fn subscribe(
        &self,
        key: u64,
        pattern: &Pattern,
        mailbox: &Arc<Mailbox<Message>>,
        on: Option<(&Arc<Line>, Request, OwnedSemaphorePermit)>,
    ) -> Begun {
        let mut standing = self.standing();
        if standing.is_closed {
            return Begun::Closed;
        }
        let mut subscribed = Subscribed {
            pattern: pattern.clone(),
            mailbox: Arc::clone(mailbox),
            on: None,
        };
        let begun = match (on, &standing.line) {
            (None, None) => Begun::Kept,
            (Some((line, request, room)), Some(current)) if Arc::ptr_eq(line, current) => {
                let id = request.id;
                let ear = subscribed.ear(key);
                match line.ask(request, Some(room), Some(ear)) {
                    Ok(asked) => {
                        subscribed.on = Some((Arc::clone(line), id));
                        Begun::Asked(asked)
                    }
                    Err(Lost) => return Begun::Lost,
                }
            }
            _ => return Begun::Lost,
        };
        standing.subscriptions.insert(key, subscribed);
        begun
    }

    /// Ends a subscription, at the server too.
    pub(super) fn unsubscribe(&self, key: u64) {
        let ended = self.standing().subscriptions.remove(&key);
        if let Some((line, id)) = ended.and_then(|ended| ended.on) {
            line.hush(id);
        }
    }

    /// Makes every subscription on a new connection, then puts the connection to use.
    pub(super) async fn restore(&self, line: &Arc<Line>) -> Result<(), Lost> {
        loop {
            let asked = {
                let mut standing = self.standing();
                if standing.is_closed {
                    return Err(Lost);
                }
                let asked = self.ask_again(&mut standing, line)?;
                if asked.is_empty() {
                    // Under the lock, so that no subscription is begun in between.
                    standing.line = Some(Arc::clone(line));
                    break;
                }
                asked
            };
            for (key, pattern, asked) in asked {
                if let Answer::Failed { kind, detail } = asked.answer().await? {
                    tracing::error!(%pattern, ?kind, detail, "the server does not take a subscription again; it ends");
                    self.unsubscribe(key);
                }
            }
        }
        self.in_use();
        Ok(())
    }

    fn ask_again(
        &self,
        standing: &mut Standing,
        line: &Arc<Line>,
    ) -> Result<Vec<(u64, Pattern, Asked)>, Lost> {
        let mut asked = Vec::new();
        for (key, subscribed) in &mut standing.subscriptions {
            if subscribed.on.is_some() {
                continue;
            }
            let pattern = subscribed.pattern.clone();
            let call = Call::Subscribe {
                pattern: pattern.clone(),
            };
            let request =
                Request::new(&self.ids, call, b"").expect("`subscribe` has seen that it fits under any id");
            let id = request.id;
            let asking = line.ask(request, None, Some(subscribed.ear(*key)))?;
            subscribed.on = Some((Arc::clone(line), id));
            asked.push((*key, pattern, asking));
        }
        Ok(asked)
    }

    fn in_use(&self) {
        let is_again = std::mem::replace(&mut self.standing().was_connected, true);
        self.set(|state| *state = LinkState::Connected);
        if is_again {
            self.reconnections.send_modify(|times| *times += 1);
        }
    }

    /// The connection is lost.
    pub(super) fn lost(&self, line: &Line, error: Option<String>) {
        {
            let mut standing = self.standing();
            standing.line = None;
            for subscribed in standing.subscriptions.values_mut() {
                subscribed.on = None;
            }
        }
        self.set(|state| *state = LinkState::Connecting { failures: 0, error });
        // Last: whoever is told that the connection is lost finds no line any more.
        line.close();
    }

    /// An attempt to connect has failed.
    pub(super) fn failed(&self, why: String) {
        self.set(|state| {
            let failures = match state {
                LinkState::Connecting { failures, .. } => failures.saturating_add(1),
                LinkState::Connected | LinkState::Closed => 1,
            };
            *state = LinkState::Connecting {
                failures,
                error: Some(why),
            };
        });
    }

    /// Takes note of what came of something that was told.
    pub(super) fn heard(&self, heard: &Heard) {
        match heard {
            Heard::Nothing => {}
            Heard::Missed => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Heard::Ended { key } => {
                let ended = self.standing().subscriptions.remove(key);
                if let Some(Subscribed { pattern, .. }) = ended {
                    tracing::error!(%pattern, "the server has ended a subscription; what was sent meanwhile is missed");
                }
            }
        }
    }

    /// Asks the task to end.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Returns, once, when the task is to end.
    pub(super) async fn stopped(&self) {
        self.stop.notified().await;
    }

    /// Ends everything.
    pub(super) fn end(&self) {
        let (line, subscriptions) = {
            let mut standing = self.standing();
            standing.is_closed = true;
            (standing.line.take(), std::mem::take(&mut standing.subscriptions))
        };
        self.state.send_replace(LinkState::Closed);
        if let Some(line) = line {
            line.close();
        }
        drop(subscriptions);
    }

    /// Changes how it stands, which a closed link does not do any more.
    fn set(&self, change: impl FnOnce(&mut LinkState)) {
        self.state.send_if_modified(|state| {
            let is_open = *state != LinkState::Closed;
            if is_open {
                change(state);
            }
            is_open
        });
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscribed {
    fn ear(&self, key: u64) -> Ear {
        Ear::Messages {
            key,
            mailbox: Arc::clone(&self.mailbox),
        }
    }
}
