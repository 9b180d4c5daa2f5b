//! What a server says to its agents.

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::join_all};
use kanade_model::{AgentGroups, Subject};
use kanade_ports::{Bucket, BusErrorKind, Durable, Key};

use super::world::World;
use crate::{
    AgentFactory,
    bus::wire::{SOON, acknowledge, consume, kind, next, outcome, pattern, payload, subject, text, up_to},
    within,
};

pub async fn commands_to_one_and_to_all_arrive_whole_and_in_order<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut to_all = agent.listen("commands.all").await;
    let mut to_one = agent.commands().await;
    let said: Vec<String> = [
        "",
        "\n",
        "{\"script\":\"echo 漢字🦀\"}\n\n",
        "\0\u{7f}",
        "line\r\nline",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain((0..200).map(|number| number.to_string()))
    .collect();
    for text in &said {
        world.say("commands.all", text).await;
        world.say(agent.commands_subject().as_str(), text).await;
    }
    for text in &said {
        for (to, subscription) in [
            (&subject("commands.all"), &mut to_all),
            (&agent.commands_subject(), &mut to_one),
        ] {
            let message = next(subscription).await;
            assert_eq!(
                (&message.subject, &message.payload),
                (to, &payload(text)),
                "as it was sent"
            );
            assert_eq!(message.reply, None, "nobody waits for an answer");
        }
    }
}

pub async fn everything_after_a_subscription_is_heard<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let to = agent.commands_subject();
    for round in 0..50 {
        let mut commands = agent.commands().await;
        world.say(to.as_str(), &round.to_string()).await;
        assert_eq!(
            text(&next(&mut commands).await),
            round.to_string(),
            "from the moment it was made, and nothing from before"
        );
    }
}

pub async fn commands_of_one_agent_do_not_reach_another<F: AgentFactory>() {
    let world = World::<F>::new().await;
    // Each name is the beginning of another, or a part of it.
    let mut agents = Vec::new();
    for name in ["pc", "pc-1", "pc-10", "pc.1", "1"] {
        let agent = world.agent(name).await;
        let commands = agent.commands().await;
        agents.push((agent, commands));
    }
    for said in ["run", "end"] {
        for (agent, _) in &agents {
            let said = format!("{said} {}", agent.pc);
            world.say(agent.commands_subject().as_str(), &said).await;
        }
    }
    for (agent, commands) in &mut agents {
        let (run, end) = (format!("run {}", agent.pc), format!("end {}", agent.pc));
        assert_eq!(up_to(commands, &end).await, [run, end.clone()], "{}", agent.pc);
    }
}

pub async fn each_of_many_agents_hears_its_own<F: AgentFactory>() {
    const AGENTS: usize = 50;
    let world = World::<F>::new().await;
    let coming = (0..AGENTS).map(|number| {
        let world = &world;
        async move {
            let agent = world.agent(&format!("pc-{number}")).await;
            let (one, all) = (agent.commands().await, agent.listen("commands.all").await);
            (agent, one, all)
        }
    });
    let mut agents = join_all(coming).await;
    for round in 0..3 {
        for (agent, ..) in &agents {
            let said = format!("{round} {}", agent.pc);
            world.say(agent.commands_subject().as_str(), &said).await;
        }
        world.say("commands.all", &round.to_string()).await;
    }
    for (agent, one, all) in &mut agents {
        for round in 0..3 {
            assert_eq!(
                text(&next(one).await),
                format!("{round} {}", agent.pc),
                "for it alone"
            );
            assert_eq!(
                text(&next(all).await),
                round.to_string(),
                "for all of them: {}",
                agent.pc
            );
        }
    }
}

pub async fn a_member_of_a_group_hears_what_is_for_the_group<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let of_groups = |groups: &[&str]| {
        let groups = groups.iter().map(|name| name.parse().unwrap()).collect();
        serde_json::to_vec(&AgentGroups { groups }).unwrap()
    };
    let (own, to) = (Key::from(&agent.pc), pattern("commands.group.web"));
    let early = kind(agent.bus.subscribe(&to).await.map(drop));
    assert_eq!(early.is_err(), world.factory.guards(), "it is in no group");
    world
        .put(Bucket::AgentGroups, &own, of_groups(&["db", "web"]))
        .await;
    let joining = async {
        loop {
            // That it is a member may take a moment to get around.
            match agent.bus.subscribe(&to).await {
                Ok(subscription) => break subscription,
                Err(error) => assert_eq!(error.kind(), BusErrorKind::Refused),
            }
            tokio::task::yield_now().await;
        }
    };
    let mut heard = within(SOON, "a subscription", joining).await;
    world.say(to.as_str(), "one").await;
    assert_eq!(text(&next(&mut heard).await), "one");
    if !world.factory.guards() {
        return;
    }
    // It leaves, and goes on listening.
    world.put(Bucket::AgentGroups, &own, of_groups(&["db"])).await;
    let mut all = agent.listen("commands.all").await;
    let leaving = async {
        for round in 0.. {
            world.say(to.as_str(), "foreign").await;
            world.say("commands.all", &round.to_string()).await;
            next(&mut all).await;
            if heard.next().now_or_never().is_none() {
                break;
            }
        }
    };
    within(SOON, "what is no longer for it to stay away", leaving).await;
    let late = kind(agent.bus.subscribe(&to).await.map(drop));
    assert_eq!(late, Err(BusErrorKind::Refused));
}

pub async fn a_kill_reaches_every_agent<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let mut agents = Vec::new();
    for name in ["pc-1", "pc.2", "pc-3"] {
        let agent = world.agent(name).await;
        let kills = agent.listen("kill.>").await;
        agents.push((agent, kills));
    }
    let kills = ["kill.e-1", "kill.e.with.dots", "kill.漢字", "kill.e-1"];
    for kill in kills {
        world.say(kill, "").await;
    }
    for (agent, heard) in &mut agents {
        for kill in kills {
            assert_eq!(
                next(heard).await.subject,
                subject(kill),
                "each, in order: {}",
                agent.pc
            );
        }
    }
}

pub async fn each_subscription_of_an_agent_gets_its_own_copy<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut same = Vec::new();
    for _ in 0..3 {
        same.push(agent.listen("commands.all").await);
    }
    for said in ["one", "two"] {
        world.say("commands.all", said).await;
    }
    for subscription in &mut same {
        assert_eq!(
            up_to(subscription, "two").await,
            ["one", "two"],
            "each once, whoever else has the same pattern"
        );
    }
}

pub async fn a_subscription_that_is_dropped_ends_alone<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let other = world.agent("pc-2").await;
    let (mut stays, mut far) = (agent.questions().await, other.questions().await);
    for _ in 0..20 {
        drop(agent.questions().await);
        drop(agent.commands().await);
    }
    let (here, there) = (Subject::logs_fetch(&agent.pc), Subject::logs_fetch(&other.pc));
    for (to, subscription) in [(&here, &mut stays), (&there, &mut far)] {
        world.say(to.as_str(), "one").await;
        assert_eq!(text(&next(subscription).await), "one", "who stays still hears");
    }
    drop(stays);
    world.until_nobody_listens(&here).await;
    world.say(there.as_str(), "two").await;
    assert_eq!(text(&next(&mut far).await), "two", "the other agent stays");
}

pub async fn a_slow_subscription_misses_messages_and_disturbs_nobody<F: AgentFactory>() {
    const MOST: usize = 200_000;
    let world = World::<F>::new().await;
    let (agent, other) = (world.agent("pc-1").await, world.agent("pc-2").await);
    let mut slow = agent.listen("commands.all").await;
    let mut fast = agent.listen("commands.all").await;
    let mut far = other.listen("commands.all").await;
    assert_eq!(agent.bus.dropped(), 0, "nothing has been dropped yet");
    let mut sent = 0;
    while agent.bus.dropped() == 0 {
        assert!(sent < MOST, "what a subscriber can be behind is bounded");
        world.say("commands.all", &sent.to_string()).await;
        for subscription in [&mut fast, &mut far] {
            assert_eq!(
                text(&next(subscription).await),
                sent.to_string(),
                "who reads misses nothing"
            );
        }
        sent += 1;
    }
    let mut heard: Vec<String> = Vec::new();
    while let Some(message) = slow.next().now_or_never() {
        heard.push(text(&message.expect("a slow subscription goes on")));
    }
    // Room again, so what comes now is heard again.
    world.say("commands.all", "last").await;
    heard.extend(up_to(&mut slow, "last").await);
    assert_eq!(heard.pop().as_deref(), Some("last"));
    let numbers: Vec<usize> = heard.iter().map(|text| text.parse().unwrap()).collect();
    assert!(
        numbers.is_sorted_by(|a, b| a < b),
        "what it got is in order, each once"
    );
    assert!(numbers.len() < sent, "it missed something, as was counted");
    for subscription in [&mut fast, &mut far] {
        assert_eq!(text(&next(subscription).await), "last");
    }
}

pub async fn kills_are_heard_while_commands_pile_up_unread<F: AgentFactory>() {
    const LARGE: usize = 256 << 10;
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let _unread = [agent.commands().await, agent.listen("commands.all").await];
    let mut kills = agent.listen("kill.>").await;
    let large = "x".repeat(LARGE);
    // Many times what a queue holds.
    for round in 0..40 {
        for _ in 0..4 {
            world.say(agent.commands_subject().as_str(), &large).await;
        }
        for _ in 0..100 {
            world.say("commands.all", "run").await;
        }
        let kill = format!("kill.e-{round}");
        world.say(&kill, "").await;
        assert_eq!(next(&mut kills).await.subject, subject(&kill), "round {round}");
    }
    agent.beat(1).await;
}

pub async fn large_messages_travel_both_ways_and_larger_ones_are_refused<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    // A transport may count some headers too.
    let most = world.factory.max_payload() - 4096;
    let (large, larger) = (most - 4096, world.factory.max_payload() + 1);
    let mut commands = agent.commands().await;
    let mut questions = agent.questions().await;
    let mut heard = world.listen("heartbeat.>").await;
    let mut consumer = consume(&*world.bus, Durable::Results).await;

    let command = "x".repeat(most);
    world.say(agent.commands_subject().as_str(), &command).await;
    assert!(
        next(&mut commands).await.payload == command.as_bytes(),
        "{most} bytes to the agent"
    );
    let result = agent.result_with(1, "y".repeat(large));
    let sending = agent.send(&result);
    let came = acknowledge(&mut consumer, 1).await;
    assert!(came[0] == result, "{large} bytes from the agent");
    assert_eq!(outcome(sending).await, Ok(()));
    let log = Bytes::from(vec![b'z'; most]);
    let to = Subject::logs_fetch(&agent.pc);
    let (answer, ()) = futures::join!(world.ask(&to, "", SOON), async {
        let question = next(&mut questions).await;
        agent.bus.reply(&question, log.clone()).await.unwrap();
    });
    assert!(answer == Ok(log), "{most} bytes of an answer");

    let refused = agent.send(&agent.result_with(2, "y".repeat(larger)));
    assert_eq!(
        outcome(refused).await,
        Err(BusErrorKind::TooLarge),
        "durable publish"
    );
    let mut heartbeat = agent.heartbeat(1);
    heartbeat.payload = Bytes::from(vec![b' '; larger]);
    assert_eq!(
        agent.publish(&heartbeat).await,
        Err(BusErrorKind::TooLarge),
        "publish"
    );
    let (answer, ()) = futures::join!(world.ask(&to, "", SOON), async {
        let question = next(&mut questions).await;
        let refused = agent.bus.reply(&question, heartbeat.payload.clone()).await;
        assert_eq!(kind(refused), Err(BusErrorKind::TooLarge), "answer");
        agent.bus.reply(&question, payload("small")).await.unwrap();
    });
    assert_eq!(answer, Ok(payload("small")), "the question is still open");

    // Everything goes on, without what was refused.
    agent.beat(2).await;
    assert_eq!(next(&mut heard).await, agent.heartbeat(2));
    world.say(agent.commands_subject().as_str(), "small").await;
    assert_eq!(text(&next(&mut commands).await), "small");
    let sending = agent.send(&agent.result(3));
    assert_eq!(acknowledge(&mut consumer, 1).await, [agent.result(3)]);
    assert_eq!(outcome(sending).await, Ok(()));
}

pub async fn an_agent_that_leaves_and_comes_again_hears_again<F: AgentFactory>() {
    let world = World::<F>::new().await;
    for round in 0..5 {
        let agent = world.agent("pc-1").await;
        let mut questions = agent.questions().await;
        let mut commands = agent.commands().await;
        let said = round.to_string();
        world.say(agent.commands_subject().as_str(), &said).await;
        assert_eq!(text(&next(&mut commands).await), said, "what comes now, and once");
        let to = Subject::logs_fetch(&agent.pc);
        let (answer, ()) = futures::join!(world.ask(&to, "", SOON), async {
            let question = next(&mut questions).await;
            agent.bus.reply(&question, payload(&said)).await.unwrap();
        });
        assert_eq!(answer, Ok(payload(&said)));
        drop((questions, commands));
        drop(agent);
        within(SOON, "the agent to be gone", world.until_nobody_listens(&to)).await;
    }
}
