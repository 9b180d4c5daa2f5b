//! Agents that have no more rights than an agent needs, against the behaviour every transport must show. What they may
//! not do is the broker's to refuse: see `permissions.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use kanade_conformance::{AGENT_CASES, AgentFactory, AgentSide, Cut, run_case, within};
use kanade_model::PcId;
use kanade_nats::{Nats, NatsAgent, NatsSettings};
use kanade_ports::{Bucket, Bus, Catalog, CatalogEvent, Key, Precondition};
use serde_json::json;
use support::{Proxy, Server, js, roles};

const SOON: Duration = Duration::from_secs(90);

/// A server of a fleet, and a line to its broker for each agent.
struct Fleet {
    broker: Server,
    server: Nats,
    lines: Mutex<HashMap<PcId, Proxy>>,
}

/// The agents that there are in these cases.
fn names() -> Vec<String> {
    let numbered = (0..50).map(|number| format!("pc-{number}"));
    let others = ["pc", "pc.1", "pc.2", "1", "pc.with.dots"].map(str::to_owned);
    numbered.chain(others).collect()
}

impl AgentFactory for Fleet {
    async fn fresh() -> Self {
        let broker = roles::broker(&roles::configuration_with(&names())).await;
        let settings = roles::settings(&broker, "kanade-server", roles::SERVER);
        Self {
            server: Nats::connect(settings).await.unwrap(),
            broker,
            lines: Mutex::default(),
        }
    }

    async fn bus(&self) -> Arc<dyn Bus> {
        self.server.bus()
    }

    async fn catalog(&self) -> Arc<dyn Catalog> {
        self.server.catalog()
    }

    async fn agent(&self, pc: &PcId) -> AgentSide {
        let line = Proxy::to(&self.broker.url()).await;
        let settings = NatsSettings {
            urls: vec![line.url()],
            ..roles::settings(&self.broker, &format!("agent-{pc}"), roles::OTHERS)
        };
        let agent = NatsAgent::open(settings, pc.clone()).await.unwrap();
        roles::connected(&agent).await;
        self.lines.lock().unwrap().insert(pc.clone(), line);
        AgentSide {
            bus: agent.bus(),
            catalog: agent.catalog(),
        }
    }

    async fn cut(&self, pc: &PcId) -> Option<Cut> {
        let line = self.lines.lock().unwrap()[pc].clone();
        line.keep_cut().await;
        Some(Cut::new(Mending(line)))
    }

    fn guards(&self) -> bool {
        false
    }

    fn keeps_without_consumer(&self) -> bool {
        true
    }
}

struct Mending(Proxy);

impl Drop for Mending {
    fn drop(&mut self) {
        self.0.mend();
    }
}

/// What is not run here: a broker says nothing of what it does not let through, which these cases want to hear.
const GUARDS: [&str; 7] = [
    "an_agent_listens_to_what_is_for_it",
    "an_agent_speaks_for_itself",
    "an_agent_reports_for_itself",
    "a_report_about_another_agent_is_refused",
    "an_answer_to_a_question_that_was_not_asked_is_refused",
    "an_agent_reads_its_own_documents_only",
    "an_agent_reads_the_jobs_that_agents_start_themselves",
];

macro_rules! cases {
    ($($topic:ident: $($case:ident)+;)+) => {
        const RUN: &[&str] = &[$($(stringify!($case)),+),+];
        $(mod $topic {
            $(#[test]
            fn $case() {
                super::run_case(kanade_conformance::agent::$topic::$case::<super::Fleet>());
            })+
        })+
    };
}

cases! {
    commands:
        commands_to_one_and_to_all_arrive_whole_and_in_order
        everything_after_a_subscription_is_heard
        commands_of_one_agent_do_not_reach_another
        each_of_many_agents_hears_its_own
        a_member_of_a_group_hears_what_is_for_the_group
        a_kill_reaches_every_agent
        each_subscription_of_an_agent_gets_its_own_copy
        a_subscription_that_is_dropped_ends_alone
        a_slow_subscription_misses_messages_and_disturbs_nobody
        kills_are_heard_while_commands_pile_up_unread
        large_messages_travel_both_ways_and_larger_ones_are_refused
        an_agent_that_leaves_and_comes_again_hears_again
    ;

    documents:
        a_document_is_read_in_its_newest_version
        a_document_that_is_not_there_is_not_found
        a_large_document_travels
        an_agent_reads_what_it_goes_by
    ;

    losses:
        a_lost_connection_is_told_when_every_subscription_stands
        an_agent_comes_back_as_often_as_its_connection_is_lost
        a_subscription_made_without_a_connection_hears_later
        a_subscription_dropped_without_a_connection_stays_away
        a_question_to_an_agent_without_a_connection_fails
        a_lost_connection_is_the_loss_of_one_agent
        a_watch_whose_connection_is_lost_misses_nothing_in_silence
        a_document_is_not_read_without_a_connection
        a_message_published_without_a_connection_fails
    ;

    lost_reports:
        a_report_under_way_when_the_connection_is_lost_comes_to_an_end
        a_report_begun_without_a_connection_arrives_later
        many_reports_survive_lost_connections
    ;

    reports:
        every_kind_of_report_arrives_as_it_was_sent
        heartbeats_reach_the_server_in_order
        a_result_is_answered_once_it_is_acknowledged_and_not_before
        a_result_that_nobody_consumes_is_refused_or_kept
        a_batch_that_is_dropped_comes_again_and_is_answered
        an_outbox_outlasts_a_consumer_that_goes_away
        results_sent_one_after_the_other_are_consumed_in_order
        many_results_at_once_are_all_answered
        reports_that_wait_hold_up_nothing_else
        reports_of_many_agents_all_arrive
        a_sender_that_goes_away_disturbs_nobody
    ;

    requests:
        a_question_gets_its_answer_whole
        answers_find_their_own_questions
        a_question_to_an_agent_that_does_not_listen_fails_at_once
        a_question_that_is_not_answered_times_out
        a_message_that_asks_nothing_gets_no_answer
    ;

    watching:
        a_watch_tells_what_stands_and_then_every_change_in_order
        two_watchers_each_get_everything
        a_watch_that_begins_between_changes_misses_none
        thousands_of_documents_come_before_current
        each_bucket_is_watched_for_itself
        a_slow_watcher_gets_everything_or_its_end
        a_watch_that_is_not_read_holds_up_nothing
        a_watch_that_is_dropped_ends_alone
        an_agent_that_joins_a_group_learns_its_configuration
    ;
}

#[test]
fn every_other_case_is_run() {
    let others: Vec<&str> = AGENT_CASES
        .iter()
        .copied()
        .filter(|case| !GUARDS.contains(case))
        .collect();
    assert_eq!(RUN, others);
    assert_eq!(RUN.len() + GUARDS.len(), AGENT_CASES.len());
}

/// An agent is started before its broker, as after a power cut.
#[tokio::test]
async fn an_agent_waits_for_a_broker_that_is_not_there_yet() {
    let broker = Server::start().await;
    let line = Proxy::to(&broker.url()).await;
    line.close_door();
    let settings = NatsSettings {
        urls: vec![line.url()],
        ..NatsSettings::default()
    };
    let agent = NatsAgent::open(settings, "web-1".parse().unwrap()).await.unwrap();
    let bus = agent.bus();
    let heard = bus.subscribe(&"commands.all".parse().unwrap()).await;
    let mut heard = within(SOON, "a subscription", async { heard.unwrap() }).await;
    let early = bus
        .publish(&"heartbeat.web-1".parse().unwrap(), "lost".into())
        .await;
    assert!(
        early.is_err() && !agent.is_connected(),
        "there is no connection yet"
    );
    line.mend();
    roles::connected(&agent).await;
    bus.publish(&"commands.all".parse().unwrap(), "one".into())
        .await
        .unwrap();
    let message = within(SOON, "a message", heard.next()).await.unwrap();
    assert_eq!(message.payload, "one", "what was subscribed to before stands");
}

#[tokio::test]
async fn what_a_bucket_refuses_is_not_told_and_a_bucket_that_is_made_anew_ends_a_watch() {
    let broker = Server::start().await;
    let server = Nats::connect(broker.settings()).await.unwrap();
    let agent = NatsAgent::open(broker.settings(), "web-1".parse().unwrap())
        .await
        .unwrap();
    roles::connected(&agent).await;
    let (client, documents) = (broker.stranger().await, server.catalog());
    let (a, b): (Key, Key) = ("a".parse().unwrap(), "b".parse().unwrap());
    for value in ["one", "two"] {
        documents
            .put(Bucket::ScriptStatus, &a, value.into(), Precondition::Any)
            .await
            .unwrap();
    }
    let mut watch = agent.catalog().watch(Bucket::ScriptStatus).await.unwrap();
    let stands = documents.get(Bucket::ScriptStatus, &a).await.unwrap().unwrap();
    assert_eq!(watch.next().await, Some(CatalogEvent::Put(stands)));
    assert_eq!(watch.next().await, Some(CatalogEvent::Current));

    // Everybody who listens hears this, and the stream does not take it.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", "1");
    let refused = client
        .request_with_headers("$KV.script_status.a", headers, "REVOKED".into())
        .await;
    assert!(refused.unwrap().payload.starts_with(b"{\"error"));
    documents
        .put(Bucket::ScriptStatus, &b, "three".into(), Precondition::Any)
        .await
        .unwrap();
    let written = documents.get(Bucket::ScriptStatus, &b).await.unwrap().unwrap();
    assert_eq!(
        within(SOON, "a change", watch.next()).await,
        Some(CatalogEvent::Put(written))
    );

    let there = js(&client, "STREAM.INFO.KV_script_status", json!({})).await["config"].clone();
    js(&client, "STREAM.DELETE.KV_script_status", json!({})).await;
    let made = js(&client, "STREAM.CREATE.KV_script_status", there).await;
    assert_eq!(made.get("error"), None);
    let sent = client.request("$KV.script_status.a", "ACTIVE".into()).await;
    assert!(!sent.unwrap().payload.starts_with(b"{\"error"));
    let told = within(SOON, "the end of a watch", watch.next()).await;
    assert_eq!(told, None, "what stood is gone, and was not told one by one");
}
