//! Takes in what the server says: Commands into the journal, kills to the runs.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use kanade_model::{Command, ExecId, ResultId, ScheduleId, Subject};
use kanade_ports::{BusError, Consumer, Message};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    agent::Shared,
    backoff::Backoff,
    in_hand::NotTaken,
    inbox::Inbox,
    journal::{Accepted, RunRecord},
    outbox::report,
    params::Secrets,
};

/// Commands that go into the journal at the same time, so that they share a commit.
const AT_ONCE: usize = 64;

/// Takes in Commands until the agent stops.
pub(crate) async fn commands(shared: Arc<Shared>, inbox: Inbox) {
    let accepting = inbox
        .into_stream()
        .for_each_concurrent(AT_ONCE, |message| accept(Arc::clone(&shared), message).map(drop));
    shared.stopping.run_until_cancelled(accepting).await;
}

/// Takes in the Commands of the groups that the agent is in, as it joins and leaves them, until it stops.
pub(crate) async fn groups(shared: Arc<Shared>) {
    let mut groups = shared.knowledge.groups();
    // Dropped, a guard ends its subscription.
    let mut heard: HashMap<Subject, DropGuard> = HashMap::new();
    loop {
        let wanted: HashSet<Subject> = groups
            .borrow_and_update()
            .iter()
            .filter_map(Subject::commands_group)
            .collect();
        heard.retain(|subject, _| wanted.contains(subject));
        for subject in wanted {
            if let Entry::Vacant(entry) = heard.entry(subject) {
                let left = shared.stopping.child_token();
                let group = commands_until(Arc::clone(&shared), entry.key().clone(), left.clone());
                shared.work.spawn(group);
                entry.insert(left.drop_guard());
            }
        }
        let changed = shared.stopping.run_until_cancelled(groups.changed()).await;
        // Its sender lives as long as the agent.
        if changed.is_none() {
            return;
        }
    }
}

/// Takes in Commands until then. What has come by then is taken in all the same.
async fn commands_until(shared: Arc<Shared>, subject: Subject, left: CancellationToken) {
    let (bus, clock) = (Arc::clone(&shared.bus), Arc::clone(&shared.clock));
    let opening = Inbox::open(bus, clock, subject.into());
    let Some(inbox) = left.run_until_cancelled(opening).await else {
        return;
    };
    inbox
        .into_stream()
        .take_until(left.cancelled_owned())
        .for_each_concurrent(AT_ONCE, |message| accept(Arc::clone(&shared), message).map(drop))
        .await;
}

/// Takes in what a broker has kept for the agent, until it stops. What is in the journal is acknowledged, and nothing
/// before.
pub(crate) async fn backlog(shared: Arc<Shared>) {
    let reading = async {
        let mut backoff = Backoff::new();
        loop {
            match shared.bus.backlog().await {
                Ok(None) => return,
                Ok(Some(mut backlog)) => loop {
                    if let Err(error) = take_next(&shared, &mut *backlog).await {
                        tracing::debug!(error = %report(&error), "nothing is read of what was kept");
                        shared.clock.sleep(backoff.pause()).await;
                    } else {
                        backoff.reset();
                    }
                },
                Err(error) => tracing::debug!(error = %report(&error), "cannot read what was kept"),
            }
            shared.clock.sleep(backoff.pause()).await;
        }
    };
    shared.stopping.run_until_cancelled(reading).await;
}

async fn take_next(shared: &Arc<Shared>, backlog: &mut dyn Consumer) -> Result<(), BusError> {
    // One at a time: there are few, and what cannot be taken in holds up no acknowledgement of another.
    let batch = backlog.next(1).await?;
    let mut backoff = Backoff::new();
    for message in batch.messages() {
        while accept(Arc::clone(shared), message.clone()).await == Intake::NotNow {
            shared.clock.sleep(backoff.pause()).await;
        }
    }
    batch.acknowledge().await
}

/// What has become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intake {
    /// It is in the journal, or will never be.
    Settled,
    /// It cannot be taken in now.
    NotNow,
}

/// Takes a Command into the journal before anything else is done about it. One that cannot be taken in is left alone:
/// whoever has kept it brings it again, and so does the server when it hears nothing of it.
async fn accept(shared: Arc<Shared>, message: Message) -> Intake {
    match serde_json::from_slice::<Command>(&message.payload) {
        Ok(command) => take_in(&shared, command, None).await,
        Err(error) => {
            tracing::warn!(subject = %message.subject, %error, "a Command cannot be understood");
            Intake::Settled
        }
    }
}

/// The same for a Command that is understood, or that this agent has made for a slot of a schedule.
pub(crate) async fn take_in(
    shared: &Arc<Shared>,
    mut command: Command,
    schedule: Option<ScheduleId>,
) -> Intake {
    // In hand from here, so that a kill reaches it and a second copy does not.
    let limit = shared.config.limits.in_hand;
    let hold = match shared
        .in_hand
        .take(command.request_id, command.exec_id.clone(), limit)
    {
        Ok(hold) => hold,
        // The other copy may still be on its way into the journal.
        Err(NotTaken::InHand) => {
            return match shared.journal.has_accepted(command.request_id).await {
                Ok(true) => Intake::Settled,
                Ok(false) | Err(_) => Intake::NotNow,
            };
        }
        Err(NotTaken::Full) => {
            tracing::warn!(job = %command.id, limit, "too many runs are waiting; a Command is not accepted now");
            return Intake::NotNow;
        }
    };
    let script = std::mem::take(&mut command.script);
    let secrets = Secrets::take_from(&mut command);
    let record = RunRecord {
        result_id: ResultId(shared.ids.next()),
        command,
        accepted_at: shared.clock.now(),
        schedule,
        started: None,
        has_secrets: !secrets.is_empty(),
    };
    match shared.journal.accept(record.clone(), script).await {
        Ok(Accepted::New) => shared.carry_out(record, secrets, hold, Duration::ZERO),
        // The disk has said that it did not keep it, and did.
        Ok(Accepted::Unreported(record)) => shared.carry_out(*record, secrets, hold, Duration::ZERO),
        Ok(Accepted::Reported) => {
            tracing::debug!(job = %record.command.id, "a Command came again after its end");
        }
        Err(error) => {
            tracing::error!(
                job = %record.command.id, error = %report(&error),
                "a Command cannot be recorded and is not accepted now"
            );
            return Intake::NotNow;
        }
    }
    Intake::Settled
}

/// Takes in kills.
pub(crate) async fn kills(shared: Arc<Shared>, mut inbox: Inbox) {
    loop {
        let message = inbox.next().await;
        // Somebody may have had an answer of a broker sent there.
        if !message.payload.is_empty() {
            tracing::warn!(subject = %message.subject, "a message that is no kill was sent as one; it is passed over");
            continue;
        }
        let exec_id = message.subject.as_str().strip_prefix("kill.").unwrap_or_default();
        match exec_id.parse::<ExecId>() {
            Ok(exec_id) => kill(&shared, exec_id),
            Err(error) => tracing::warn!(subject = %message.subject, %error, "a kill cannot be understood"),
        }
    }
}

/// First the kill itself, then what is to be recorded and said about it.
pub(crate) fn kill(shared: &Arc<Shared>, exec_id: ExecId) {
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
