//! Takes in what the server says: Commands into the journal, kills to the runs.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use kanade_model::{Command, ExecId, ResultId};
use kanade_ports::Message;

use crate::{
    agent::Shared,
    in_hand::NotTaken,
    inbox::Inbox,
    journal::{Accepted, RunRecord},
    outbox::report,
};

/// Commands that go into the journal at the same time, so that they share a commit.
const AT_ONCE: usize = 64;

/// Takes in Commands until the agent stops.
pub(crate) async fn commands(shared: Arc<Shared>, inbox: Inbox) {
    let accepting = inbox
        .into_stream()
        .for_each_concurrent(AT_ONCE, |message| accept(Arc::clone(&shared), message));
    shared.stopping.run_until_cancelled(accepting).await;
}

/// Takes a Command into the journal before anything else is done about it. One that cannot be taken in is left alone:
/// the server sends it again when it hears nothing of it.
async fn accept(shared: Arc<Shared>, message: Message) {
    let mut command = match serde_json::from_slice::<Command>(&message.payload) {
        Ok(command) => command,
        Err(error) => {
            tracing::warn!(subject = %message.subject, %error, "a Command cannot be understood");
            return;
        }
    };
    // In hand from here, so that a kill reaches it and a second copy does not.
    let limit = shared.config.limits.in_hand;
    let hold = match shared
        .in_hand
        .take(command.request_id, command.exec_id.clone(), limit)
    {
        Ok(hold) => hold,
        Err(NotTaken::InHand) => return,
        Err(NotTaken::Full) => {
            tracing::warn!(job = %command.id, limit, "too many runs are waiting; a Command is not accepted now");
            return;
        }
    };
    let script = std::mem::take(&mut command.script);
    let record = RunRecord {
        result_id: ResultId(shared.ids.next()),
        command,
        accepted_at: shared.clock.now(),
        started: None,
    };
    match shared.journal.accept(record.clone(), script).await {
        Ok(Accepted::New) => shared.carry_out(record, hold, Duration::ZERO),
        // The disk has said that it did not keep it, and did.
        Ok(Accepted::Unreported(record)) => shared.carry_out(*record, hold, Duration::ZERO),
        Ok(Accepted::Reported) => {
            tracing::debug!(job = %record.command.id, "a Command came again after its end");
        }
        Err(error) => tracing::error!(
            job = %record.command.id, error = %report(&error),
            "a Command cannot be recorded and is not accepted now"
        ),
    }
}

/// Takes in kills.
pub(crate) async fn kills(shared: Arc<Shared>, mut inbox: Inbox) {
    loop {
        let message = inbox.next().await;
        let exec_id = message.subject.as_str().strip_prefix("kill.").unwrap_or_default();
        match exec_id.parse::<ExecId>() {
            Ok(exec_id) => kill(&shared, exec_id),
            Err(error) => tracing::warn!(subject = %message.subject, %error, "a kill cannot be understood"),
        }
    }
}

/// First the kill itself, then what is to be recorded and said about it.
fn kill(shared: &Arc<Shared>, exec_id: ExecId) {
    let at = shared.clock.now();
    let hit = shared.in_hand.kill(&exec_id);
    if !hit.is_new && !hit.reached_a_run {
        return;
    }
    tracing::info!(%exec_id, reached_a_run = hit.reached_a_run, "kill");
    let of_agent = Arc::clone(shared);
    shared.work.spawn(async move {
        if hit.reached_a_run {
            tell_delivery(&of_agent, &exec_id, at).await;
        }
        if hit.is_new
            && let Err(error) = of_agent.journal.killed(exec_id, at).await
        {
            tracing::error!(error = %report(&error), "a kill cannot be recorded; it is forgotten when the agent stops");
        }
    });
}

async fn tell_delivery(shared: &Shared, exec_id: &ExecId, at: kanade_model::Timestamp) {
    let receipt = shared.reporter().kill_delivered(exec_id, at);
    let posting = shared.journal.post(vec![receipt.clone()]);
    if let Err(error) = shared.outbox.post(1, posting).await {
        tracing::error!(error = %report(&error), "the receipt of a kill cannot be recorded");
        shared.send_unkept(&receipt).await;
    }
}
