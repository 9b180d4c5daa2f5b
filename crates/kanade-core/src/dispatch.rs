//! Publishes the sends that executions owe the bus, each when it is due: from memory right after the commit that holds
//! them, from the store after a restart. Never anything of an execution that is killed, and nothing while it is held.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use kanade_model::{Command, ExecId, ParamText, RequestId, SendId, TargetState, Timestamp};
use kanade_ports::{
    Addressee, Bus, BusError, BusErrorKind, Change, ChangeSet, Clock, ErrorKind, Execution, ExecutionStore,
    MessageId, Order, Send,
};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Notify};
use uuid::Uuid;

use crate::{
    Committer,
    error::{Result, chain},
    retained::Retained,
    secrets::Secrets,
};

/// The most sends kept in memory; the rest is read from the store when these have gone out.
const IN_MEMORY: usize = 100_000;
/// The most sends of one round.
const ROUND: usize = 4096;
/// Executions dispatched at once.
const AT_ONCE: usize = 16;
/// Commands of one execution that wait for a broker to retain them.
const IN_FLIGHT: usize = 256;
const STRIPES: usize = 64;
const RETRY: Duration = Duration::from_secs(1);

/// What is owed to the bus. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Shared>);

struct Shared {
    store: Arc<dyn ExecutionStore>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    committer: Committer,
    /// Where Commands are retained for agents that are away.
    retained: Option<Retained>,
    secrets: Secrets,
    queue: Mutex<Queue>,
    wake: Notify,
    stripes: [AsyncMutex<()>; STRIPES],
}

struct Queue {
    sends: BTreeMap<(Timestamp, SendId), Owed>,
    /// The store holds sends that are not in `sends`.
    behind: bool,
}

#[derive(Clone)]
struct Owed {
    send: Send,
    /// Read from the store: it may have gone out before a crash.
    recovered: bool,
}

impl Dispatcher {
    /// A dispatcher that begins with what the store says is owed.
    pub(crate) fn new(
        store: Arc<dyn ExecutionStore>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        committer: Committer,
        retained: Option<Retained>,
        secrets: Secrets,
    ) -> Self {
        Self(Arc::new(Shared {
            store,
            bus,
            clock,
            committer,
            retained,
            secrets,
            queue: Mutex::new(Queue {
                sends: BTreeMap::new(),
                behind: true,
            }),
            wake: Notify::new(),
            stripes: std::array::from_fn(|_| AsyncMutex::new(())),
        }))
    }

    /// Takes over sends that were just committed.
    pub fn enqueue(&self, sends: Vec<Send>) {
        {
            let mut queue = self.0.queue.lock().expect("no panic while locked");
            if queue.sends.len() + sends.len() > IN_MEMORY {
                queue.behind = true;
            } else {
                let owed = |send: Send| {
                    (
                        (send.due_at, send.send_id),
                        Owed {
                            send,
                            recovered: false,
                        },
                    )
                };
                queue.sends.extend(sends.into_iter().map(owed));
            }
        }
        self.0.wake.notify_one();
    }

    /// Reads what is owed from the store again, where a commit may hold sends that nobody handed over.
    pub fn look_in_store(&self) {
        self.0.queue.lock().expect("no panic while locked").behind = true;
        self.0.wake.notify_one();
    }

    /// Keeps this execution from being dispatched while held; what is in flight goes out first.
    pub async fn hold(&self, exec: &ExecId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        exec.hash(&mut hasher);
        let stripe =
            usize::try_from(hasher.finish() % STRIPES as u64).expect("less than the number of stripes");
        self.0.stripes[stripe].lock().await
    }

    /// Forgets the queued sends of an execution, once it is committed that they are not due any more.
    pub fn forget(&self, exec: &ExecId) {
        let mut queue = self.0.queue.lock().expect("no panic while locked");
        queue.sends.retain(|_, owed| owed.send.exec_id != *exec);
    }

    /// Publishes one Command again, unless its execution has been killed or is paused. It is retained again too: a broker takes what
    /// is published there anyway, and so it is known where it is.
    ///
    /// # Errors
    /// When the store cannot be read or the bus cannot be used.
    pub async fn send_again(&self, exec: &ExecId, to: Addressee, request: RequestId) -> Result<bool> {
        let _held = self.hold(exec).await;
        let Some((execution, order)) = self.0.what_to_send(exec).await? else {
            return Ok(false);
        };
        let Some(template) = self.0.template(&execution, &order).await? else {
            return Ok(false);
        };
        self.0
            .send(&execution, &order, &template, &to, request, request.0)
            .await?;
        Ok(true)
    }

    /// Publishes what is due, for ever.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.load_if_behind().await {
                tracing::warn!(error = %error.report(), "cannot read the sends that are owed");
                self.0.clock.sleep(RETRY).await;
                continue;
            }
            let round = self.take_due();
            if round.is_empty() {
                self.wait().await;
                continue;
            }
            let this = &self;
            let all_well = stream::iter(round)
                .map(|(exec, owed)| async move {
                    this.dispatch(&exec, owed).await.inspect_err(|error| {
                        tracing::warn!(%exec, error = %error.report(), "cannot dispatch; it will be tried again");
                    })
                })
                .buffer_unordered(AT_ONCE)
                .fold(true, |well, result| std::future::ready(well && result.is_ok()))
                .await;
            if !all_well {
                // What did not go out is still owed, as the store says.
                self.0.queue.lock().expect("no panic while locked").behind = true;
                self.0.clock.sleep(RETRY).await;
            }
        }
    }

    async fn load_if_behind(&self) -> Result<()> {
        {
            let mut queue = self.0.queue.lock().expect("no panic while locked");
            let now = self.0.clock.now();
            let has_room = queue.sends.len() < IN_MEMORY / 2;
            // Without room for more, what is due may still be in the store behind what is in memory for later.
            let idle = queue
                .sends
                .first_key_value()
                .is_none_or(|((due_at, _), _)| *due_at > now);
            if !queue.behind || !(has_room || idle) {
                return Ok(());
            }
            // Before reading: what is enqueued from here on is either read or sets this again.
            queue.behind = false;
        }
        let read = self.0.store.due_sends(None, IN_MEMORY).await;
        let mut queue = self.0.queue.lock().expect("no panic while locked");
        match read {
            Ok(sends) => {
                queue.behind |= sends.len() == IN_MEMORY;
                for send in sends {
                    queue.sends.entry((send.due_at, send.send_id)).or_insert(Owed {
                        send,
                        recovered: true,
                    });
                }
                while queue.sends.len() > IN_MEMORY {
                    queue.sends.pop_last();
                    queue.behind = true;
                }
                Ok(())
            }
            Err(error) => {
                queue.behind = true;
                Err(error.into())
            }
        }
    }

    fn take_due(&self) -> BTreeMap<ExecId, Vec<Owed>> {
        let now = self.0.clock.now();
        let mut queue = self.0.queue.lock().expect("no panic while locked");
        let mut round: BTreeMap<ExecId, Vec<Owed>> = BTreeMap::new();
        for _ in 0..ROUND {
            match queue.sends.first_entry() {
                Some(first) if first.key().0 <= now => {
                    let owed = first.remove();
                    round.entry(owed.send.exec_id.clone()).or_default().push(owed);
                }
                _ => break,
            }
        }
        round
    }

    async fn wait(&self) {
        let next = {
            let queue = self.0.queue.lock().expect("no panic while locked");
            queue.sends.first_key_value().map(|((due_at, _), _)| *due_at)
        };
        match next {
            None => self.0.wake.notified().await,
            Some(due_at) => tokio::select! {
                () = self.0.wake.notified() => {}
                () = self.0.clock.sleep_until(due_at) => {}
            },
        }
    }

    async fn dispatch(&self, exec: &ExecId, owed: Vec<Owed>) -> Result<()> {
        let _held = self.hold(exec).await;
        let Some((execution, order)) = self.0.what_to_send(exec).await? else {
            return Ok(());
        };
        // What was read from the store just before a pause or an abort may have come into the queue after it.
        let owed = owed
            .into_iter()
            .filter(|owed| execution.course.lets_out(owed.send.wave));
        let template = self.0.template(&execution, &order).await?;
        let (failed, failure) = (AtomicBool::new(false), Mutex::new(None));
        let send = async |owed: Owed| {
            // What is in flight is waited for, so that nothing leaves later; nothing new is begun.
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            let settled = match &template {
                Some(template) => self.0.settle(&execution, &order, template, &owed).await,
                None => Ok(()),
            };
            match settled {
                Ok(()) => Some(owed.send.send_id),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    failure
                        .lock()
                        .expect("no panic while locked")
                        .get_or_insert(error);
                    None
                }
            }
        };
        // One after the other where nothing is waited for.
        let in_flight = if self.0.retained.is_some() { IN_FLIGHT } else { 1 };
        let settled: Vec<SendId> = stream::iter(owed)
            .map(send)
            .buffer_unordered(in_flight)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if self.0.retained.is_none() {
            self.0.bus.flush().await?;
        }
        if !settled.is_empty() {
            self.0
                .committer
                .commit(ChangeSet::of(Change::Sent {
                    exec_id: exec.clone(),
                    sends: settled,
                    at: self.0.clock.now(),
                }))
                .await?;
        }
        let failure = failure.into_inner().expect("no panic while locked");
        failure.map_or(Ok(()), Err)
    }
}

impl Shared {
    /// The execution and its order, unless it is gone, killed or paused.
    async fn what_to_send(&self, exec: &ExecId) -> Result<Option<(Execution, Order)>> {
        let Some(execution) = self.store.execution(exec).await? else {
            return Ok(None);
        };
        if execution.kill.is_some() || execution.course.pause.is_some() {
            return Ok(None);
        }
        Ok(self.store.order(exec).await?.map(|order| (execution, order)))
    }

    /// The Commands of an execution. None when its secrets cannot be opened and never will be: trying again would fail
    /// again, so its targets expire.
    async fn template(&self, execution: &Execution, order: &Order) -> Result<Option<Template>> {
        match self.secrets.open(&execution.exec_id, &order.params).await {
            Ok(secrets) => Ok(Some(Template::new(execution, order, secrets))),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(exec = %execution.exec_id, error = %chain(&error), "a command cannot be sent");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes what is still owed. What can never be published counts as settled.
    async fn settle(
        &self,
        execution: &Execution,
        order: &Order,
        template: &Template,
        Owed { send, recovered }: &Owed,
    ) -> Result<()> {
        if !self.is_owed(execution, send, *recovered).await? {
            return Ok(());
        }
        let sent = self.send(
            execution,
            order,
            template,
            &send.to,
            send.request_id,
            send.send_id.0,
        );
        match sent.await {
            Ok(()) => Ok(()),
            // Trying again would be refused again, and hold up everybody else. Its target expires.
            Err(error) if matches!(error.kind(), BusErrorKind::TooLarge | BusErrorKind::Refused) => {
                tracing::error!(exec = %execution.exec_id, error = %chain(&error), "a command cannot be sent");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes one Command; returns when it is retained, where it is to be. `name` is that of what is sent.
    async fn send(
        &self,
        execution: &Execution,
        order: &Order,
        template: &Template,
        to: &Addressee,
        request: RequestId,
        name: Uuid,
    ) -> Result<(), BusError> {
        let subject = to.subject();
        let Some(retained) = &self.retained else {
            return self.bus.publish(&subject, template.for_request(request)).await;
        };
        let _room = retained.room(template.encoded.len()).await;
        // A broker drops what has the name of something that it has had, also when it has that no longer.
        let attempt = MessageId(format!("{name}.{}", Uuid::new_v4().simple()));
        let command = template.for_request(request);
        retained
            .keep(execution, request, order.deadline_at, &subject, command, attempt)
            .await
    }

    /// Whether somebody still waits for a send: nobody does once its target has started or its time is over.
    async fn is_owed(&self, execution: &Execution, send: &Send, recovered: bool) -> Result<bool> {
        if self.clock.now() > execution.limits.start_by(send.due_at) {
            return Ok(false);
        }
        match &send.to {
            Addressee::Pc(pc) if recovered => {
                let target = self.store.target(&send.exec_id, pc).await?;
                Ok(target.is_some_and(|target| target.state == TargetState::Waiting))
            }
            Addressee::Pc(_) | Addressee::All => Ok(true),
        }
    }
}

/// An encoded Command in which only the request id is still to be filled in, so that a script is encoded once and not
/// once an agent.
struct Template {
    encoded: Bytes,
    request_at: usize,
}

impl Template {
    fn new(execution: &Execution, order: &Order, secrets: BTreeMap<String, ParamText>) -> Self {
        let blank = RequestId(Uuid::nil());
        let command = Command {
            secrets,
            ..order.command(&execution.exec_id, blank)
        };
        let encoded = serde_json::to_vec(&command).expect("a command has string keys only");
        // Unescaped quotes stand around keys and values only, so no script can hold this text.
        let field = format!("\"request_id\":\"{blank}\"");
        let found = encoded
            .windows(field.len())
            .position(|window| window == field.as_bytes());
        let request_at = found.expect("a command has a request id") + "\"request_id\":\"".len();
        Self {
            encoded: encoded.into(),
            request_at,
        }
    }

    fn for_request(&self, request: RequestId) -> Bytes {
        let mut command = BytesMut::from(&self.encoded[..]);
        let text = request.to_string();
        command[self.request_at..self.request_at + text.len()].copy_from_slice(text.as_bytes());
        command.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_conformance::sample;
    use kanade_ports::{Counts, Course, Limits};

    #[test]
    fn a_template_fills_in_the_request_id_whatever_the_script_says() {
        let script = "echo '\"request_id\":\"00000000-0000-0000-0000-000000000000\"'";
        let mut order = sample::order("job", script);
        order.params.plain = BTreeMap::from([("p".into(), ParamText(script.into()))]);
        let execution = Execution {
            exec_id: "e-1".parse().unwrap(),
            job_id: order.job_id.clone(),
            version: order.version.clone(),
            initiated_by: "test".into(),
            initiated_at: Timestamp::UNIX_EPOCH,
            counts: Counts::default(),
            status: kanade_model::ExecutionStatus::Pending,
            started: false,
            last_due_at: Timestamp::UNIX_EPOCH,
            expired_at: None,
            finished_at: None,
            kill: None,
            limits: Limits {
                start_within_secs: 1,
                run_within_secs: 1,
            },
            course: Course::default(),
        };
        let request = RequestId(Uuid::from_u128(0x1234));
        let encoded = Template::new(&execution, &order, BTreeMap::new()).for_request(request);
        let command: Command = serde_json::from_slice(&encoded).unwrap();
        assert_eq!(command, order.command(&execution.exec_id, request));
    }
}
