//! What a server asks an agent.

use std::time::Duration;

use futures::{StreamExt, future::join_all};
use kanade_model::Subject;
use kanade_ports::BusErrorKind;

use super::world::World;
use crate::{
    AgentFactory,
    bus::wire::{SOON, kind, next, payload, text},
};

pub async fn a_question_gets_its_answer_whole<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    for to in [Subject::logs_fetch(&agent.pc), Subject::ping(&agent.pc)] {
        let mut questions = agent.listen(to.as_str()).await;
        for wanted in ["log of 漢字\n\0", "", "{\"pc_id\":\"pc-1\"}"] {
            let answering = async {
                let question = next(&mut questions).await;
                assert_eq!(
                    (&question.subject, &question.payload),
                    (&to, &payload("{\"tail_lines\":3}")),
                    "the question as it was asked"
                );
                agent.bus.reply(&question, payload(wanted)).await.unwrap();
            };
            let asking = world.ask(&to, "{\"tail_lines\":3}", SOON);
            let (answer, ()) = futures::join!(asking, answering);
            assert_eq!(answer, Ok(payload(wanted)), "the answer as it was given");
        }
    }
}

pub async fn answers_find_their_own_questions<F: AgentFactory>() {
    const QUESTIONS: usize = 40;
    let world = World::<F>::new().await;
    let (agent, other) = (world.agent("pc-1").await, world.agent("pc-2").await);
    let mut agents = Vec::new();
    for agent in [&agent, &other] {
        agents.push((agent, agent.questions().await));
    }
    let asking = (0..QUESTIONS).map(|number| {
        let pc = if number % 2 == 0 { &agent.pc } else { &other.pc };
        let (world, to) = (&world, Subject::logs_fetch(pc));
        async move {
            let answer = world.ask(&to, &number.to_string(), SOON).await;
            assert_eq!(
                answer,
                Ok(payload(&format!("{number} from {to}"))),
                "its own answer"
            );
        }
    });
    let answering = agents.iter_mut().map(|(agent, questions)| async move {
        let mut kept = Vec::new();
        for _ in 0..QUESTIONS / 2 {
            kept.push(next(questions).await);
        }
        // The last one asked is answered first.
        for question in kept.iter().rev() {
            let answer = format!("{} from {}", text(question), question.subject);
            agent.bus.reply(question, payload(&answer)).await.unwrap();
        }
    });
    futures::join!(join_all(asking), join_all(answering));
}

pub async fn a_question_to_an_agent_that_does_not_listen_fails_at_once<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let other = world.agent("pc-2").await;
    let _others = (agent.commands().await, other.questions().await);
    // Were it to wait for its time, the case would not end in its own.
    let never = Duration::from_secs(100_000);
    for to in [Subject::logs_fetch(&agent.pc), Subject::ping(&other.pc)] {
        assert_eq!(
            world.ask(&to, "", never).await,
            Err(BusErrorKind::NoResponders),
            "nobody listens there, though the agent is there"
        );
    }
}

pub async fn a_question_that_is_not_answered_times_out<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut silent = agent.questions().await;
    let to = Subject::logs_fetch(&agent.pc);
    assert_eq!(
        world.ask(&to, "first", Duration::from_millis(20)).await,
        Err(BusErrorKind::TimedOut),
        "the agent listens and says nothing"
    );
    let question = next(&mut silent).await;
    let answering = async {
        let next = next(&mut silent).await;
        // Too late, so whatever becomes of it, it is not the answer to another question.
        let _ = agent.bus.reply(&question, payload("late")).await;
        agent.bus.reply(&next, payload("in time")).await.unwrap();
    };
    let (answer, ()) = futures::join!(world.ask(&to, "second", SOON), answering);
    assert_eq!(answer, Ok(payload("in time")));
}

pub async fn a_message_that_asks_nothing_gets_no_answer<F: AgentFactory>() {
    let world = World::<F>::new().await;
    let agent = world.agent("pc-1").await;
    let mut commands = agent.commands().await;
    world.say(agent.commands_subject().as_str(), "run").await;
    let command = commands.next().await.unwrap();
    let refused = agent.bus.reply(&command, payload("done")).await;
    assert_eq!(
        kind(refused),
        Err(BusErrorKind::Refused),
        "there is nobody to answer to"
    );
    agent.beat(1).await;
}
