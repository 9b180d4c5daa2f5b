//! What a kanade server wants to find on NATS, and what to do about what is there. An existing resource is never
//! narrowed or deleted, and whatever of it is not spoken of here stays as it is, also settings newer than this program.

use std::time::Duration;

use kanade_model::Subject;
use kanade_ports::{Bucket, Durable, ResourceKind};
use serde_json::{Map, Value, json};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a server waits for an acknowledgement before it delivers again. Short, because what was on its way when a
/// connection broke is delivered only then; whoever works longer on a message says so meanwhile.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(10);
/// How many messages of a durable may be in the hands of all servers together.
const MAX_ACK_PENDING: i64 = 4096;
/// How many versions of a document are kept.
const HISTORY: i64 = 5;

/// A stream as it is wanted. Limits that are `None` are nobody's wish: one that is there stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) name: String,
    subjects: Vec<String>,
    max_age: Option<Duration>,
    per_subject: Option<i64>,
    replicas: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Messages,
    Bucket,
    Objects,
}

/// A durable pull consumer as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) stream: &'static str,
    pub(crate) name: &'static str,
    filter: &'static str,
}

/// What to do about a resource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// It is not there: create it so.
    Create(Value),
    /// It is narrower than is wanted: give it this configuration.
    Widen(Value),
    /// It will do.
    Leave,
}

/// The stream that a durable reads.
pub(crate) fn stream_of(durable: Durable) -> &'static str {
    match durable {
        Durable::Results => "RESULTS",
        Durable::Events => "EVENTS",
        Durable::Audit => "AUDIT",
    }
}

/// The stream of a bucket.
pub(crate) fn stream_of_bucket(bucket: Bucket) -> String {
    format!("KV_{bucket}")
}

/// Whether a stream keeps what is published to this subject.
pub(crate) fn is_kept(subject: &Subject) -> bool {
    let first = subject.as_str().split('.').next();
    matches!(
        first,
        Some("results" | "events" | "commands" | "audit" | "inventory")
    ) && subject.as_str().contains('.')
}

/// Every stream, bucket and object store.
pub(crate) fn streams(replicas: usize) -> Vec<Stream> {
    let messages = |name: &str, subject: &str, max_age, per_subject| Stream {
        name: name.into(),
        subjects: vec![subject.into()],
        max_age,
        per_subject,
        replicas,
        kind: Kind::Messages,
    };
    let bucket = |name: &str, history| Stream {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_age: None,
        per_subject: Some(history),
        replicas,
        kind: Kind::Bucket,
    };
    let mut streams = vec![
        messages("RESULTS", "results.>", Some(30 * DAY), None),
        messages("EVENTS", "events.>", Some(7 * DAY), None),
        messages("EXEC", "commands.>", Some(7 * DAY), Some(1)),
        messages("AUDIT", "audit.>", None, None),
        messages("INVENTORY", "inventory.>", Some(90 * DAY), None),
        bucket("agents_state", 1),
        Stream {
            name: "OBJ_agent_releases".into(),
            subjects: vec!["$O.agent_releases.C.>".into(), "$O.agent_releases.M.>".into()],
            max_age: None,
            per_subject: None,
            replicas,
            kind: Kind::Objects,
        },
    ];
    streams.extend(Bucket::ALL.iter().map(|name| bucket(name.as_str(), HISTORY)));
    streams
}

/// Every durable consumer of a server.
pub(crate) const CONSUMERS: &[Consumer] = &[
    Consumer {
        stream: "RESULTS",
        name: "backend_results_projector",
        filter: "results.>",
    },
    // Older servers read `events.started.>` alone; our agents say more than that.
    Consumer {
        stream: "EVENTS",
        name: "backend_events_projector",
        filter: "events.>",
    },
    Consumer {
        stream: "AUDIT",
        name: "backend_audit_projector",
        filter: "audit.>",
    },
];

impl Stream {
    /// What to do, given the configuration that the server tells of the stream of this name, if there is one.
    pub(crate) fn action(&self, there: Option<&Value>) -> Action {
        let Some(there) = there.and_then(Value::as_object) else {
            return Action::Create(self.config());
        };
        let mut wider = there.clone();
        self.widen(&mut wider);
        changed(there, wider)
    }

    /// What it is to those who look after it, and its name among those.
    pub(crate) fn resource(&self) -> (ResourceKind, &str) {
        let (kind, prefix) = match self.kind {
            Kind::Messages => (ResourceKind::Stream, ""),
            Kind::Bucket => (ResourceKind::Bucket, "KV_"),
            Kind::Objects => (ResourceKind::ObjectStore, "OBJ_"),
        };
        (kind, self.name.strip_prefix(prefix).unwrap_or(&self.name))
    }

    fn widen(&self, config: &mut Map<String, Value>) {
        let mut subjects = texts(config.get("subjects"));
        let missing: Vec<&String> = self
            .subjects
            .iter()
            .filter(|wanted| !subjects.iter().any(|there| covers(there, wanted)))
            .collect();
        if !missing.is_empty() {
            // A stream must not list one subject twice, so what a new one covers goes.
            subjects.retain(|there| !missing.iter().any(|wanted| covers(wanted, there)));
            subjects.extend(missing.into_iter().cloned());
            config.insert("subjects".into(), json!(subjects));
        }
        if let Some(wanted) = self.max_age {
            raise(config, "max_age", nanos(wanted));
        }
        if let Some(wanted) = self.per_subject {
            raise(config, "max_msgs_per_subject", wanted);
        }
        let replicas = i64::try_from(self.replicas).unwrap_or(1);
        if number(config, "num_replicas").max(1) < replicas {
            config.insert("num_replicas".into(), json!(replicas));
        }
    }

    fn config(&self) -> Value {
        let mut config = json!({
            "name": self.name,
            "subjects": self.subjects,
            "retention": "limits",
            "storage": "file",
            "discard": if self.kind == Kind::Messages { "old" } else { "new" },
            "max_age": self.max_age.map_or(0, nanos),
            "max_msgs": -1,
            "max_bytes": -1,
            "max_msg_size": -1,
            "max_consumers": -1,
            "max_msgs_per_subject": self.per_subject.unwrap_or(-1),
            "num_replicas": self.replicas,
        });
        if self.kind != Kind::Messages {
            config["allow_rollup_hdrs"] = json!(true);
            config["allow_direct"] = json!(true);
        }
        if self.kind == Kind::Bucket {
            config["deny_delete"] = json!(true);
        }
        config
    }
}

impl Consumer {
    /// What to do, given the configuration that the server tells of the consumer of this name, if there is one.
    pub(crate) fn action(&self, there: Option<&Value>) -> Action {
        let Some(there) = there.and_then(Value::as_object) else {
            return Action::Create(self.config());
        };
        let mut wider = there.clone();
        let mut filters = texts(wider.get("filter_subjects"));
        filters.extend(
            wider
                .get("filter_subject")
                .and_then(Value::as_str)
                .map(ToOwned::to_owned),
        );
        filters.retain(|filter| !filter.is_empty());
        if !filters.is_empty() && !filters.iter().any(|there| covers(there, self.filter)) {
            wider.remove("filter_subjects");
            wider.insert("filter_subject".into(), json!(self.filter));
        }
        wider.insert("ack_wait".into(), json!(nanos(ACK_WAIT)));
        raise(&mut wider, "max_ack_pending", MAX_ACK_PENDING);
        if number(&wider, "max_deliver") > 0 {
            // A message is delivered until it is recorded, however long the storage is away.
            wider.insert("max_deliver".into(), json!(-1));
        }
        changed(there, wider)
    }

    fn config(&self) -> Value {
        json!({
            "durable_name": self.name,
            "name": self.name,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanos(ACK_WAIT),
            "max_deliver": -1,
            "max_ack_pending": MAX_ACK_PENDING,
            "filter_subject": self.filter,
            "replay_policy": "instant",
        })
    }
}

fn changed(there: &Map<String, Value>, wider: Map<String, Value>) -> Action {
    if *there == wider {
        Action::Leave
    } else {
        Action::Widen(Value::Object(wider))
    }
}

/// Sets a limit to `wanted` where it is lower; zero and less mean that there is no limit.
fn raise(config: &mut Map<String, Value>, name: &str, wanted: i64) {
    let there = number(config, name);
    if there > 0 && there < wanted {
        config.insert(name.into(), json!(wanted));
    }
}

fn number(config: &Map<String, Value>, name: &str) -> i64 {
    config.get(name).and_then(Value::as_i64).unwrap_or(0)
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Whether every subject that `narrow` matches is matched by `wide`.
fn covers(wide: &str, narrow: &str) -> bool {
    let mut narrow = narrow.split('.');
    for token in wide.split('.') {
        match (token, narrow.next()) {
            (">", Some(_)) => return true,
            ("*", Some(other)) if other != ">" => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, replicas: usize) -> Stream {
        let found = streams(replicas).into_iter().find(|stream| stream.name == name);
        found.expect("a stream of the contract")
    }

    #[test]
    fn an_existing_stream_is_widened_and_never_narrowed() {
        let day = nanos(DAY);
        // What is wanted, what is there, what is changed of it.
        for (name, replicas, there, change) in [
            ("RESULTS", 1, json!({"max_age": 30 * day}), json!({})),
            (
                "RESULTS",
                1,
                json!({"max_age": 2 * day}),
                json!({"max_age": 30 * day}),
            ),
            ("RESULTS", 1, json!({"max_age": 90 * day}), json!({})),
            ("RESULTS", 1, json!({"max_age": 0}), json!({})),
            ("RESULTS", 1, json!({"max_bytes": 1000, "max_msgs": 7}), json!({})),
            ("RESULTS", 1, json!({"max_msgs_per_subject": 3}), json!({})),
            (
                "RESULTS",
                1,
                json!({"subjects": ["results.*"]}),
                json!({"subjects": ["results.>"]}),
            ),
            ("RESULTS", 1, json!({"subjects": [">"]}), json!({})),
            (
                "RESULTS",
                1,
                json!({"subjects": ["results.a", "other.>"]}),
                json!({"subjects": ["other.>", "results.>"]}),
            ),
            (
                "EXEC",
                1,
                json!({"max_msgs_per_subject": 1, "subjects": ["commands.>"]}),
                json!({}),
            ),
            (
                "EXEC",
                1,
                json!({"max_msgs_per_subject": 9, "subjects": ["commands.>"]}),
                json!({}),
            ),
            (
                "EXEC",
                1,
                json!({"max_msgs_per_subject": -1, "subjects": ["commands.>"]}),
                json!({}),
            ),
            (
                "AUDIT",
                1,
                json!({"max_age": day, "subjects": ["audit.>"]}),
                json!({}),
            ),
            (
                "KV_jobs",
                1,
                json!({"max_msgs_per_subject": 1, "subjects": ["$KV.jobs.>"]}),
                json!({"max_msgs_per_subject": 5}),
            ),
            (
                "KV_jobs",
                1,
                json!({"max_msgs_per_subject": 64, "subjects": ["$KV.jobs.>"]}),
                json!({}),
            ),
            (
                "KV_agents_state",
                1,
                json!({"max_msgs_per_subject": 1, "subjects": ["$KV.agents_state.>"]}),
                json!({}),
            ),
            (
                "RESULTS",
                3,
                json!({"num_replicas": 1}),
                json!({"num_replicas": 3}),
            ),
            ("RESULTS", 1, json!({"num_replicas": 3}), json!({})),
            ("RESULTS", 3, json!({"num_replicas": 5}), json!({})),
            (
                "RESULTS",
                1,
                json!({"retention": "workqueue", "from_the_future": [1]}),
                json!({}),
            ),
        ] {
            let mut config = json!({"subjects": ["results.>"], "num_replicas": 1, "description": "theirs"});
            merge(&mut config, &there);
            let wanted = if change == json!({}) {
                Action::Leave
            } else {
                let mut wider = config.clone();
                merge(&mut wider, &change);
                Action::Widen(wider)
            };
            assert_eq!(
                stream(name, replicas).action(Some(&config)),
                wanted,
                "{name} where {there}"
            );
        }
    }

    #[test]
    fn an_existing_consumer_keeps_its_place() {
        let wait = nanos(ACK_WAIT);
        for (there, change) in [
            (json!({}), json!({})),
            (
                json!({"filter_subject": "events.started.>"}),
                json!({"filter_subject": "events.>"}),
            ),
            (json!({"filter_subject": ""}), json!({})),
            (json!({"filter_subject": ">"}), json!({})),
            (json!({"ack_wait": 1}), json!({"ack_wait": wait})),
            (json!({"ack_wait": 3 * wait}), json!({"ack_wait": wait})),
            (json!({"max_ack_pending": 1000}), json!({"max_ack_pending": 4096})),
            (json!({"max_ack_pending": -1}), json!({})),
            (json!({"max_deliver": 5}), json!({"max_deliver": -1})),
            (json!({"deliver_policy": "new"}), json!({})),
            (
                json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 7}),
                json!({}),
            ),
        ] {
            let mut config = json!({
                "filter_subject": "events.>", "deliver_policy": "all", "ack_wait": wait, "max_ack_pending": 4096,
                "max_deliver": -1,
            });
            merge(&mut config, &there);
            let wanted = if change == json!({}) {
                Action::Leave
            } else {
                let mut wider = config.clone();
                merge(&mut wider, &change);
                Action::Widen(wider)
            };
            assert_eq!(CONSUMERS[1].action(Some(&config)), wanted, "where {there}");
        }
        let several = json!({"filter_subjects": ["events.started.>", "events.kill.>"]});
        let Action::Widen(wider) = CONSUMERS[1].action(Some(&several)) else {
            panic!("events.skipped.> is missing there");
        };
        assert_eq!(wider, json!({"filter_subject": "events.>", "ack_wait": wait}));
    }

    #[test]
    fn what_is_missing_is_created_as_the_contract_says() {
        let created = |name: &str| match stream(name, 3).action(None) {
            Action::Create(config) => config,
            other => panic!("{name}: {other:?}"),
        };
        let exec = created("EXEC");
        assert_eq!(exec["subjects"], json!(["commands.>"]));
        assert_eq!(exec["max_msgs_per_subject"], json!(1));
        assert_eq!(exec["discard"], json!("old"));
        assert_eq!(exec["max_age"], json!(7 * nanos(DAY)));
        assert_eq!(exec["num_replicas"], json!(3));
        let jobs = created("KV_jobs");
        assert_eq!(jobs["max_msgs_per_subject"], json!(5));
        assert_eq!(jobs["discard"], json!("new"));
        assert_eq!(created("KV_agents_state")["max_msgs_per_subject"], json!(1));
        assert_eq!(created("AUDIT")["max_age"], json!(0));
        for durable in Durable::ALL {
            assert!(
                CONSUMERS.iter().any(|consumer| consumer.name == durable.name()
                    && consumer.stream == stream_of(*durable)
                    && consumer.filter == durable.pattern().as_str()),
                "{durable:?}"
            );
        }
    }

    #[test]
    fn the_streams_say_what_is_kept() {
        for stream in streams(1).iter().filter(|stream| stream.kind == Kind::Messages) {
            let kept: Subject = stream.subjects[0].replace('>', "x.y").parse().unwrap();
            assert!(is_kept(&kept), "{kept}");
        }
        for other in ["results", "kill.e", "heartbeat.pc", "resultsx.y", "logs.fetch.pc"] {
            assert!(!is_kept(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_subject_covers_another() {
        for (wide, narrow, wanted) in [
            ("a.>", "a.b", true),
            ("a.>", "a.b.>", true),
            ("a.>", "a.>", true),
            ("a.*", "a.>", false),
            ("a.>", "a.*", true),
            ("a.>", "a", false),
            ("a.b", "a.*", false),
            ("*.b", "a.b", true),
            ("a", "a.b", false),
            (">", "a.>", true),
        ] {
            assert_eq!(covers(wide, narrow), wanted, "{wide} {narrow}");
        }
    }

    fn merge(into: &mut Value, from: &Value) {
        for (name, value) in from.as_object().unwrap() {
            into[name] = value.clone();
        }
    }
}
