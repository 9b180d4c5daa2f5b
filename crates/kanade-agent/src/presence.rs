//! Being there: heartbeats, pings, and the end of the log for who asks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{Heartbeat, LogsRequest, Subject};
use kanade_ports::Message;

use crate::{agent::Shared, backoff::Backoff, inbox::Inbox};

/// Whatever a configuration says, a heartbeat is not sent more often.
const SHORTEST: Duration = Duration::from_millis(100);

/// Sends a heartbeat now, whenever the configured interval has passed, and after a lost connection: the server then
/// gives the agent at once what it has missed. One that cannot be sent is tried again soon.
pub(crate) async fn beat(shared: Arc<Shared>) {
    let mut config = shared.knowledge.config();
    let mut reconnections = shared.bus.reconnections();
    let mut backoff = Backoff::new();
    loop {
        let again_in = if publish(&shared, heartbeat(&shared)).await {
            backoff.reset();
            shared.beaten.send_replace(true);
            Duration::MAX
        } else {
            backoff.pause()
        };
        loop {
            let interval = config.borrow_and_update().heartbeat_interval.0.max(SHORTEST);
            tokio::select! {
                () = shared.clock.sleep(interval.min(again_in)) => break,
                Some(()) = reconnections.next() => break,
                // Its sender lives as long as the agent.
                _ = config.changed() => {}
            }
        }
    }
}

/// Answers pings, and lets everybody else know as well.
pub(crate) async fn answer_pings(shared: Arc<Shared>, mut inbox: Inbox) {
    loop {
        let ping = inbox.next().await;
        let heartbeat = heartbeat(&shared);
        reply(&shared, &ping, heartbeat.clone()).await;
        publish(&shared, heartbeat).await;
    }
}

/// Answers requests for the end of the log.
pub(crate) async fn answer_log_requests(shared: Arc<Shared>, mut inbox: Inbox) {
    loop {
        let asked = inbox.next().await;
        let request: LogsRequest = serde_json::from_slice(&asked.payload).unwrap_or_default();
        let lines = usize::try_from(request.tail_lines).unwrap_or(usize::MAX);
        reply(&shared, &asked, shared.config.log.tail(lines).into()).await;
    }
}

fn heartbeat(shared: &Shared) -> Bytes {
    let heartbeat = Heartbeat {
        pc_id: shared.config.pc_id.clone(),
        at: shared.clock.now(),
        agent_version: shared.config.agent_version.clone(),
        hostname: shared.config.hostname.clone(),
        os_family: Some(std::env::consts::OS.to_owned()),
    };
    serde_json::to_vec(&heartbeat)
        .expect("a heartbeat has string keys only")
        .into()
}

/// Whether it could be sent.
async fn publish(shared: &Shared, heartbeat: Bytes) -> bool {
    let subject = Subject::heartbeat(&shared.config.pc_id);
    let published = shared.bus.publish(&subject, heartbeat).await;
    if let Err(error) = &published {
        tracing::debug!(%error, "cannot send a heartbeat");
    }
    published.is_ok()
}

/// Answers who waits for an answer. A ping may also be published to nobody's inbox: the heartbeat is the answer then.
async fn reply(shared: &Shared, to: &Message, payload: Bytes) {
    if to.reply.is_none() {
        return;
    }
    if let Err(error) = shared.bus.reply(to, payload).await {
        tracing::warn!(subject = %to.subject, %error, "cannot answer a request");
    }
}
