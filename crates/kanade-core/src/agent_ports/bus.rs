//! An agent's part of the bus.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{EventKill, EventSkipped, EventStarted, ExecResult, Heartbeat, Pattern, PcId, Subject};
use kanade_ports::{Bus, BusError, BusErrorKind, Message, MessageId, PubSub, Subscription};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

/// Subscriptions of one agent at once.
const SUBSCRIPTIONS: usize = 64;
/// Requests that are remembered until they are answered; the oldest is forgotten for a newer one.
const REQUESTS: usize = 1024;

pub(super) struct OwnBus {
    pc: PcId,
    bus: Arc<dyn Bus>,
    subscriptions: Arc<Semaphore>,
    /// Where answers to requests that the agent has been asked are expected.
    asked: Arc<Mutex<VecDeque<Subject>>>,
}

impl OwnBus {
    pub(super) fn new(pc: PcId, bus: Arc<dyn Bus>) -> Self {
        Self {
            pc,
            bus,
            subscriptions: Arc::new(Semaphore::new(SUBSCRIPTIONS)),
            asked: Arc::default(),
        }
    }

    fn refused(&self, what: &str) -> BusError {
        BusError::new(BusErrorKind::Refused, format!("{what} as agent `{}`", self.pc))
    }
}

/// Whether an agent may hear this. Whole subjects are compared: a pc id may hold dots.
fn may_hear(pc: &PcId, pattern: &Pattern) -> bool {
    let wanted = pattern.as_str();
    wanted.starts_with("kill.")
        || [
            Subject::commands_all(),
            Subject::commands_pc(pc),
            Subject::logs_fetch(pc),
            Subject::ping(pc),
        ]
        .iter()
        .any(|own| own.as_str() == wanted)
}

/// Whether an agent may say this to whoever listens.
fn may_say(pc: &PcId, subject: &Subject, payload: &[u8]) -> bool {
    *subject == Subject::heartbeat(pc)
        && read::<Heartbeat>(payload).is_some_and(|heartbeat| heartbeat.pc_id == *pc)
}

/// Whether an agent may report this. Its name stands in the payload, which is what gets recorded; the subject must be
/// the one that belongs to the payload.
fn may_report(pc: &PcId, subject: &Subject, payload: &[u8]) -> bool {
    let mut tokens = subject.as_str().split('.');
    match (tokens.next(), tokens.next()) {
        (Some("results"), Some(_)) => read::<ExecResult>(payload)
            .is_some_and(|result| result.pc_id == *pc && *subject == Subject::result(result.request_id)),
        (Some("events"), Some("started")) => read::<EventStarted>(payload)
            .is_some_and(|event| event.pc_id == *pc && *subject == Subject::started(&event.exec_id, pc)),
        (Some("events"), Some("skipped")) => read::<EventSkipped>(payload)
            .is_some_and(|event| event.pc_id == *pc && *subject == Subject::skipped(&event.exec_id, pc)),
        (Some("events"), Some("kill")) => read::<EventKill>(payload).is_some_and(|event| {
            event.pc_id == *pc && *subject == Subject::kill_delivered(&event.exec_id, pc)
        }),
        _ => false,
    }
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

#[async_trait]
impl PubSub for OwnBus {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<(), BusError> {
        if !may_say(&self.pc, subject, &payload) {
            return Err(self.refused(&format!("publish to {subject}")));
        }
        self.bus.publish(subject, payload).await
    }

    async fn publish_durable(
        &self,
        subject: &Subject,
        payload: Bytes,
        id: MessageId,
    ) -> Result<(), BusError> {
        if !may_report(&self.pc, subject, &payload) {
            return Err(self.refused(&format!("report to {subject}")));
        }
        self.bus.publish_durable(subject, payload, id).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        if !may_hear(&self.pc, pattern) {
            return Err(self.refused(&format!("subscribe to {pattern}")));
        }
        let held = Arc::clone(&self.subscriptions)
            .try_acquire_owned()
            .map_err(|_| self.refused(&format!("make more than {SUBSCRIPTIONS} subscriptions")))?;
        let asked = Arc::clone(&self.asked);
        let messages = self.bus.subscribe(pattern).await?;
        Ok(Subscription::new(messages.inspect(move |message| {
            let _held = &held;
            if let Some(reply) = &message.reply {
                let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                if asked.len() == REQUESTS {
                    asked.pop_front();
                }
                asked.push_back(reply.clone());
            }
        })))
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        let was_asked = to.reply.as_ref().is_some_and(|reply| {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let place = asked.iter().position(|asked| asked == reply);
            place.is_some_and(|place| asked.remove(place).is_some())
        });
        if !was_asked {
            return Err(self.refused("answer what was not asked"));
        }
        self.bus.reply(to, payload).await
    }

    fn dropped(&self) -> u64 {
        self.bus.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_agent_hears_what_is_for_it() {
        let pc: PcId = "pc.1".parse().unwrap();
        for (pattern, allowed) in [
            ("commands.all", true),
            ("commands.pc.pc.1", true),
            ("kill.>", true),
            ("kill.*", true),
            ("kill.e-1", true),
            ("logs.fetch.pc.1", true),
            ("ping.pc.1", true),
            ("commands.pc.pc.2", false),
            ("commands.pc.pc", false),
            ("commands.pc.pc.*", false),
            ("commands.pc.pc.>", false),
            ("commands.pc.>", false),
            ("commands.*", false),
            ("commands.>", false),
            ("commands.pc.pc.1.2", false),
            ("commands.group.web", false),
            ("logs.fetch.*", false),
            ("ping.>", false),
            ("results.>", false),
            ("events.>", false),
            ("heartbeat.>", false),
            ("_INBOX.>", false),
            ("kill", false),
            ("*.e-1", false),
            ("*", false),
            (">", false),
        ] {
            assert_eq!(may_hear(&pc, &pattern.parse().unwrap()), allowed, "{pattern}");
        }
    }

    const REQUEST: &str = "018f0000-0000-7000-8000-000000000001";
    const OTHER: &str = "018f0000-0000-7000-8000-000000000002";

    fn result(pc: &str) -> Value {
        json!({"result_id": OTHER, "request_id": REQUEST, "exec_id": "e-1", "pc_id": pc, "exit_code": 0,
            "stdout": "", "stderr": "", "started_at": "2026-05-01T08:30:00Z", "finished_at": "2026-05-01T08:30:01Z"})
    }

    fn event(pc: &str) -> Value {
        json!({"result_id": OTHER, "request_id": REQUEST, "exec_id": "e-1", "pc_id": pc, "manifest_id": "job",
            "version": "1", "started_at": "2026-05-01T08:30:00Z", "at": "2026-05-01T08:30:00Z",
            "reason": "revoked", "detail": "x"})
    }

    #[test]
    fn an_agent_reports_in_its_own_name_on_the_subject_that_belongs_to_it() {
        let pc: PcId = "pc-1".parse().unwrap();
        for (subject, payload, allowed) in [
            (format!("results.{REQUEST}"), result("pc-1"), true),
            (format!("results.{REQUEST}"), result("pc-2"), false),
            (format!("results.{OTHER}"), result("pc-1"), false),
            ("results.x".into(), result("pc-1"), false),
            (format!("results.{REQUEST}"), json!({"pc_id": "pc-1"}), false),
            ("events.started.e-1.pc-1".into(), event("pc-1"), true),
            ("events.skipped.e-1.pc-1".into(), event("pc-1"), true),
            ("events.kill.e-1.pc-1".into(), event("pc-1"), true),
            ("events.started.e-1.pc-1".into(), event("pc-2"), false),
            ("events.started.e-1.pc-2".into(), event("pc-1"), false),
            ("events.started.e-2.pc-1".into(), event("pc-1"), false),
            ("events.started.e-1.x.pc-1".into(), event("pc-1"), false),
            ("events.other.e-1.pc-1".into(), event("pc-1"), false),
            ("commands.pc.pc-1".into(), event("pc-1"), false),
            ("kill.e-1".into(), json!(null), false),
            ("audit.operator.exec".into(), json!({}), false),
        ] {
            let subject: Subject = subject.parse().unwrap();
            let text = payload.to_string();
            assert_eq!(
                may_report(&pc, &subject, text.as_bytes()),
                allowed,
                "{subject} {text}"
            );
            assert!(
                !may_say(&pc, &subject, text.as_bytes()),
                "{subject} is for reports that are kept"
            );
        }
        // Whoever reads the last of two names must not be told another than whoever reads the first.
        let twice = result("pc-1").to_string().replacen('{', r#"{"pc_id":"pc-2","#, 1);
        let subject: Subject = format!("results.{REQUEST}").parse().unwrap();
        assert!(!may_report(&pc, &subject, twice.as_bytes()));
    }

    #[test]
    fn an_agent_says_that_it_is_alive_and_nothing_about_others() {
        let pc: PcId = "pc-1".parse().unwrap();
        let heartbeat =
            |pc: &str| json!({"pc_id": pc, "at": "2026-05-01T08:30:00Z", "agent_version": "1"}).to_string();
        for (subject, payload, allowed) in [
            ("heartbeat.pc-1", heartbeat("pc-1"), true),
            ("heartbeat.pc-1", heartbeat("pc-2"), false),
            ("heartbeat.pc-2", heartbeat("pc-1"), false),
            ("heartbeat.pc-1", "{}".into(), false),
            ("commands.all", heartbeat("pc-1"), false),
            ("kill.e-1", String::new(), false),
        ] {
            let subject = subject.parse().unwrap();
            assert_eq!(
                may_say(&pc, &subject, payload.as_bytes()),
                allowed,
                "{subject} {payload}"
            );
        }
    }
}
