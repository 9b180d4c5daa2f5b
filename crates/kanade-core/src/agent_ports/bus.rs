//! An agent's part of the bus.

use std::{
    collections::VecDeque,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use kanade_model::{
    AgentGroups, EventKill, EventSkipped, EventStarted, ExecResult, GroupName, Heartbeat, OutputChunk,
    Pattern, PcId, Subject,
};
use kanade_ports::{Bucket, Bus, BusError, BusErrorKind, Key, Message, MessageId, PubSub, Subscription};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::CatalogView;

/// Subscriptions of one agent at once.
const SUBSCRIPTIONS: usize = 64;
/// Requests that are remembered until they are answered; the oldest is forgotten for a newer one.
const REQUESTS: usize = 1024;

pub(super) struct OwnBus {
    pc: PcId,
    bus: Arc<dyn Bus>,
    view: CatalogView,
    subscriptions: Arc<Semaphore>,
    asked: Arc<Asked>,
}

/// Where answers to requests that an agent has been asked are expected, and whether one was given, the newest last.
#[derive(Default)]
struct Asked(Mutex<VecDeque<(Subject, bool)>>);

impl Asked {
    /// The agent has been asked. What came by two of its subscriptions is one request.
    fn note(&self, reply: &Subject) {
        let mut requests = self.requests();
        if requests.iter().any(|(asked, _)| asked == reply) {
            return;
        }
        if requests.len() == REQUESTS {
            requests.pop_front();
        }
        requests.push_back((reply.clone(), false));
    }

    /// Whether an answer is still expected; then it is not any more.
    fn take(&self, reply: &Subject) -> bool {
        self.set_answered(reply, true)
    }

    /// The answer was not sent after all.
    fn give_back(&self, reply: &Subject) {
        self.set_answered(reply, false);
    }

    fn set_answered(&self, reply: &Subject, is_answered: bool) -> bool {
        let mut requests = self.requests();
        let request = requests.iter_mut().find(|(asked, _)| asked == reply);
        request.is_some_and(|(_, answered)| std::mem::replace(answered, is_answered) != is_answered)
    }

    fn requests(&self) -> MutexGuard<'_, VecDeque<(Subject, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnBus {
    pub(super) fn new(pc: PcId, bus: Arc<dyn Bus>, view: CatalogView) -> Self {
        Self {
            pc,
            bus,
            view,
            subscriptions: Arc::new(Semaphore::new(SUBSCRIPTIONS)),
            asked: Arc::default(),
        }
    }

    fn refused(&self, what: &str) -> BusError {
        BusError::new(BusErrorKind::Refused, format!("{what} as agent `{}`", self.pc))
    }
}

/// The group whose Commands these are, if they are one group's.
fn group_of(pattern: &Pattern) -> Option<GroupName> {
    let subject: Subject = pattern.as_str().parse().ok()?;
    subject.as_str().strip_prefix("commands.group.")?.parse().ok()
}

/// Whether an agent is in a group now.
fn is_member(pc: &PcId, view: &CatalogView, group: &GroupName) -> bool {
    let groups = view.get(Bucket::AgentGroups, &Key::from(pc));
    let groups = groups.and_then(|entry| serde_json::from_slice::<AgentGroups>(&entry.value).ok());
    groups.is_some_and(|groups| groups.groups.contains(group))
}

/// Whether an agent may hear this, whatever group it is in. Whole subjects are compared: a pc id may hold dots.
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
    if subject.as_str().starts_with("output.") {
        return read::<OutputChunk>(payload)
            .is_some_and(|chunk| chunk.pc_id == *pc && *subject == Subject::output(&chunk.exec_id, pc));
    }
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
        // Where a broker drops repetitions, one agent's must not pass for another's.
        let id = MessageId(format!("{} {}", self.pc, id.0));
        self.bus.publish_durable(subject, payload, id).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, BusError> {
        let group = group_of(pattern);
        let is_member = {
            let (pc, view) = (self.pc.clone(), self.view.clone());
            move |group: &GroupName| is_member(&pc, &view, group)
        };
        if !may_hear(&self.pc, pattern) && !group.as_ref().is_some_and(&is_member) {
            return Err(self.refused(&format!("subscribe to {pattern}")));
        }
        let held = Arc::clone(&self.subscriptions)
            .try_acquire_owned()
            .map_err(|_| self.refused(&format!("make more than {SUBSCRIPTIONS} subscriptions")))?;
        let asked = Arc::clone(&self.asked);
        let messages = self.bus.subscribe(pattern).await?;
        // It may leave a group and go on listening.
        let may_still_hear = move |_: &Message| ready(group.as_ref().is_none_or(&is_member));
        Ok(Subscription::new(messages.filter(may_still_hear).inspect(
            move |message| {
                let _held = &held;
                if let Some(reply) = &message.reply {
                    asked.note(reply);
                }
            },
        )))
    }

    async fn reply(&self, to: &Message, payload: Bytes) -> Result<(), BusError> {
        let Some(reply) = to.reply.as_ref().filter(|reply| self.asked.take(reply)) else {
            return Err(self.refused("answer what was not asked, or was answered"));
        };
        let sent = self.bus.reply(to, payload).await;
        if sent.is_err() {
            // A shorter answer may do.
            self.asked.give_back(reply);
        }
        sent
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
    fn a_request_is_answered_once_and_the_oldest_are_forgotten() {
        let reply = |number: usize| -> Subject { format!("_INBOX.{number}").parse().unwrap() };
        let asked = Asked::default();
        assert!(!asked.take(&reply(0)), "it was not asked");
        asked.note(&reply(0));
        assert!(asked.take(&reply(0)) && !asked.take(&reply(0)), "once");
        asked.note(&reply(0));
        assert!(
            !asked.take(&reply(0)),
            "also when it comes by another subscription"
        );
        asked.give_back(&reply(0));
        assert!(asked.take(&reply(0)), "what was not sent is still to be answered");
        (1..=REQUESTS).for_each(|number| asked.note(&reply(number)));
        assert_eq!(asked.requests().len(), REQUESTS);
        asked.give_back(&reply(0));
        assert!(!asked.take(&reply(0)), "there have been too many since");
        assert!(asked.take(&reply(1)) && asked.take(&reply(REQUESTS)));
    }

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

    #[test]
    fn a_group_is_named_by_a_subject_of_its_own() {
        for (pattern, group) in [
            ("commands.group.web", Some("web")),
            ("commands.group.a.b", Some("a.b")),
            ("commands.group.*", None),
            ("commands.group.>", None),
            ("commands.group.a.*", None),
            ("commands.pc.web", None),
        ] {
            let named = group_of(&pattern.parse().unwrap());
            assert_eq!(named.as_ref().map(GroupName::as_str), group, "{pattern}");
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
    fn an_agent_says_that_it_is_alive_and_what_its_runs_print_and_nothing_about_others() {
        let pc: PcId = "pc-1".parse().unwrap();
        let output = |exec: &str, pc: &str| {
            json!({"result_id": OTHER, "request_id": REQUEST, "exec_id": exec, "pc_id": pc, "seq": 0, "stream": "stdout",
                "offset": 0, "text": "hello"})
            .to_string()
        };
        let heartbeat =
            |pc: &str| json!({"pc_id": pc, "at": "2026-05-01T08:30:00Z", "agent_version": "1"}).to_string();
        for (subject, payload, allowed) in [
            ("heartbeat.pc-1", heartbeat("pc-1"), true),
            ("heartbeat.pc-1", heartbeat("pc-2"), false),
            ("heartbeat.pc-2", heartbeat("pc-1"), false),
            ("heartbeat.pc-1", "{}".into(), false),
            ("commands.all", heartbeat("pc-1"), false),
            ("kill.e-1", String::new(), false),
            ("output.e-1.pc-1", output("e-1", "pc-1"), true),
            ("output.e.1.pc-1", output("e.1", "pc-1"), true),
            ("output.e-1.pc-2", output("e-1", "pc-2"), false),
            ("output.e-1.pc-1", output("e-1", "pc-2"), false),
            ("output.e-1.pc-2", output("e-1", "pc-1"), false),
            ("output.e-2.pc-1", output("e-1", "pc-1"), false),
            ("output.e-1.x.pc-1", output("e-1", "pc-1"), false),
            ("output.pc-1", output("e-1", "pc-1"), false),
            ("output.e-1.pc-1", "{}".into(), false),
            ("output.e-1.pc-1", heartbeat("pc-1"), false),
            ("heartbeat.pc-1", output("e-1", "pc-1"), false),
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
