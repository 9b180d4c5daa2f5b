//! What an agent sees of a connection that is lost and made again. Where there is none to lose, it never hears of one.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kanade_model::Subject;
use kanade_ports::{Bucket, BusErrorKind, CatalogEvent, ErrorKind};

use super::{
    watching::{as_it_is, change, follow, watch_known},
    world::{Agent, World, passes},
};
use crate::{
    AgentFactory,
    bus::wire::{SOON, next, payload, text, up_to},
    catalog::shelf::{key, standing},
    within,
};

pub async fn a_lost_connection_is_told_when_every_subscription_stands<F: AgentFactory>() {
    const SUBSCRIPTIONS: usize = 30;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut subscriptions = Vec::new();
    for _ in 0..SUBSCRIPTIONS {
        subscriptions.push(agent.listen("commands.all").await);
        subscriptions.push(agent.listen("kill.>").await);
    }
    let mut reconnections = agent.bus.reconnections();
    let Some(cut) = world.cut(&agent).await else {
        return world.is_never_cut(&agent).await;
    };
    cut.mend();
    within(SOON, "the connection to be made again", reconnections.next())
        .await
        .expect("an agent goes on as long as it is wanted");
    for to in ["commands.all", "kill.end"] {
        world.say(to, "end").await;
    }
    for subscription in &mut subscriptions {
        assert_eq!(
            up_to(subscription, "end").await,
            ["end"],
            "each hears what is said from then on, once"
        );
    }
}

pub async fn an_agent_comes_back_as_often_as_its_connection_is_lost<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut commands = agent.commands().await;
    let mut questions = agent.questions().await;
    let mut heard = world.listen("heartbeat.>").await;
    for round in 0..5 {
        let mut reconnections = agent.bus.reconnections();
        let Some(cut) = world.cut(&agent).await else {
            return world.is_never_cut(&agent).await;
        };
        world.say(agent.commands_subject().as_str(), "lost").await;
        cut.mend();
        within(SOON, "the connection to be made again", reconnections.next()).await;
        let said = round.to_string();
        world.say(agent.commands_subject().as_str(), &said).await;
        assert_eq!(text(&next(&mut commands).await), said, "what comes now, and once");
        agent.beat(round).await;
        assert_eq!(next(&mut heard).await, agent.heartbeat(round), "and back");
        let to = Subject::logs_fetch(&agent.pc);
        let (answer, ()) = futures::join!(world.ask(&to, &said, SOON), async {
            let question = next(&mut questions).await;
            assert_eq!(text(&question), said, "one copy of the question");
            agent.bus.reply(&question, payload(&said)).await.unwrap();
        });
        assert_eq!(answer, Ok(payload(&said)));
    }
}

pub async fn a_subscription_made_without_a_connection_hears_later<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut reconnections = agent.bus.reconnections();
    let Some(cut) = world.cut(&agent).await else {
        return world.is_never_cut(&agent).await;
    };
    until_it_is_noticed(&agent).await;
    let mut commands = agent.commands().await;
    let mut all = agent.listen("commands.all").await;
    cut.mend();
    within(SOON, "the connection to be made again", reconnections.next()).await;
    for (to, subscription) in [
        (agent.commands_subject().as_str(), &mut commands),
        ("commands.all", &mut all),
    ] {
        world.say(to, "one").await;
        assert_eq!(
            text(&next(subscription).await),
            "one",
            "it stands by the time that is told"
        );
    }
}

pub async fn a_subscription_dropped_without_a_connection_stays_away<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let questions = agent.questions().await;
    let mut commands = agent.commands().await;
    let mut reconnections = agent.bus.reconnections();
    let Some(cut) = world.cut(&agent).await else {
        return world.is_never_cut(&agent).await;
    };
    until_it_is_noticed(&agent).await;
    drop(questions);
    cut.mend();
    within(SOON, "the connection to be made again", reconnections.next()).await;
    world.say(agent.commands_subject().as_str(), "one").await;
    assert_eq!(text(&next(&mut commands).await), "one", "the other one is back");
    // The connection that was lost may not have been missed yet.
    world.until_nobody_listens(&Subject::logs_fetch(&agent.pc)).await;
}

pub async fn a_question_to_an_agent_without_a_connection_fails<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut questions = agent.questions().await;
    let to = Subject::logs_fetch(&agent.pc);
    let mut reconnections = agent.bus.reconnections();
    // One that is asked before and answered after is lost with its connection.
    let early = world.ask(&to, "early", Duration::from_millis(500));
    let (early, cut) = futures::join!(early, async {
        let question = next(&mut questions).await;
        (question, world.cut(&agent).await)
    });
    assert_eq!(early, Err(BusErrorKind::TimedOut), "nobody has answered it");
    let (question, Some(cut)) = cut else {
        return world.is_never_cut(&agent).await;
    };
    let answer = world.ask(&to, "lost", Duration::from_millis(50)).await;
    assert!(
        matches!(answer, Err(BusErrorKind::NoResponders | BusErrorKind::TimedOut)),
        "{answer:?}"
    );
    cut.mend();
    within(SOON, "the connection to be made again", reconnections.next()).await;
    // Whatever becomes of this, it is the answer to no other question.
    let _ = agent.bus.reply(&question, payload("early")).await;
    let (answer, ()) = futures::join!(world.ask(&to, "late", SOON), async {
        let question = next(&mut questions).await;
        assert_eq!(text(&question), "late", "what was asked meanwhile is missed");
        agent.bus.reply(&question, payload("late")).await.unwrap();
    });
    assert_eq!(answer, Ok(payload("late")));
}

pub async fn a_lost_connection_is_the_loss_of_one_agent<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let (agent, other) = (world.agent("pc-1").await, world.agent("pc-2").await);
    let mut reconnections = other.bus.reconnections();
    let mut commands = other.listen("commands.all").await;
    let mut watch = other.watch(Bucket::ScriptStatus).await;
    standing(&mut watch).await;
    let Some(cut) = world.cut(&agent).await else {
        return world.is_never_cut(&agent).await;
    };
    let mut heard = world.listen("heartbeat.>").await;
    for number in 0..10 {
        world.say("commands.all", &number.to_string()).await;
        assert_eq!(text(&next(&mut commands).await), number.to_string());
        other.beat(number).await;
        assert_eq!(next(&mut heard).await, other.heartbeat(number));
        let wanted = change(&world, Bucket::ScriptStatus, "a", Some("ACTIVE")).await;
        assert_eq!(crate::catalog::shelf::next(&mut watch).await, wanted);
    }
    cut.mend();
    assert_eq!(
        reconnections.next().now_or_never(),
        None,
        "the other one has lost nothing"
    );
}

pub async fn a_watch_whose_connection_is_lost_misses_nothing_in_silence<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    for name in ["a", "b"] {
        change(&world, Bucket::ScriptStatus, name, Some("ACTIVE")).await;
    }
    let mut watch = watch_known(&world, &agent, Bucket::ScriptStatus).await;
    assert_eq!(standing(&mut watch).await.len(), 2);
    let cut = world.cut(&agent).await;
    let was_cut = cut.is_some();
    change(&world, Bucket::ScriptStatus, "a", Some("REVOKED")).await;
    change(&world, Bucket::ScriptStatus, "b", None).await;
    if let Some(cut) = cut {
        cut.mend();
    }
    let news = change(&world, Bucket::ScriptStatus, "c", Some("ACTIVE")).await;
    let mut told = Vec::new();
    while let Some(event) = within(SOON, "news or the end of a watch", watch.next()).await {
        let last = event == news;
        told.push(event);
        if last {
            assert_eq!(told.len(), 3, "a watch that goes on tells everything: {told:?}");
            assert!(matches!(told[1], CatalogEvent::Deleted(_)));
            break;
        }
    }
    assert!(
        was_cut || told.len() == 3,
        "a watch does not end while nothing is lost"
    );
    let again = agent.watch(Bucket::ScriptStatus).await;
    let known = follow(&agent, Bucket::ScriptStatus, again, |documents| {
        documents.contains_key("c")
    });
    assert_eq!(
        known.await,
        as_it_is(&world, Bucket::ScriptStatus).await,
        "watching again tells the news"
    );
}

pub async fn a_document_is_not_read_without_a_connection<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    world.put(Bucket::ScriptStatus, &key("backup"), "ACTIVE").await;
    let Some(cut) = world.cut(&agent).await else {
        assert!(agent.get(Bucket::ScriptStatus, &key("backup")).await.is_some());
        return world.is_never_cut(&agent).await;
    };
    world.put(Bucket::ScriptStatus, &key("backup"), "REVOKED").await;
    let backup = key("backup");
    let asked = agent.catalog.get(Bucket::ScriptStatus, &backup);
    let asked = within(SOON, "the end of a question to the catalog", asked).await;
    assert_eq!(
        asked.map_err(|error| error.kind()),
        Err(ErrorKind::Unavailable),
        "what may be old is not an answer"
    );
    cut.mend();
    let asking = async {
        loop {
            match agent.catalog.get(Bucket::ScriptStatus, &key("backup")).await {
                Ok(found) => break found,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            }
            tokio::task::yield_now().await;
        }
    };
    let found = within(SOON, "a connection", asking).await;
    assert_eq!(found.map(|entry| entry.value), Some("REVOKED".into()));
}

pub async fn a_message_published_without_a_connection_fails<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut heard = world.listen("heartbeat.>").await;
    let mut reconnections = agent.bus.reconnections();
    let Some(cut) = world.cut(&agent).await else {
        return world.is_never_cut(&agent).await;
    };
    for number in 0..5 {
        let published = agent.publish(&agent.heartbeat(number)).await;
        assert!(
            published.is_err_and(passes),
            "it did not arrive, and may be tried again"
        );
    }
    cut.mend();
    within(SOON, "the connection to be made again", reconnections.next()).await;
    agent.beat(5).await;
    assert_eq!(
        next(&mut heard).await,
        agent.heartbeat(5),
        "what failed does not come later"
    );
}

/// Returns when the agent knows that its connection is lost: a publish that finds that out fails too.
pub(super) async fn until_it_is_noticed(agent: &Agent) {
    let published = agent.publish(&agent.heartbeat(0)).await;
    assert!(
        published.is_err_and(passes),
        "a publish without a connection fails"
    );
}
