//! Groups: the agent hears those it is in, as it joins and leaves them, and is configured by them.

use futures::FutureExt;
use kanade_model::{Command, GroupName, Subject};
use kanade_ports::{Bucket, PubSub};

use crate::world::{World, command, pc_id, until};

async fn join(world: &World, groups: &str) {
    let groups = format!("{{\"groups\":[{groups}]}}");
    world.set(Bucket::AgentGroups, pc_id().as_str(), &groups).await;
}

fn to_group(name: &str) -> Subject {
    let name: GroupName = name.parse().unwrap();
    Subject::commands_group(&name).unwrap()
}

async fn send_to(world: &World, group: &str, command: &Command) {
    let payload = serde_json::to_vec(command).unwrap().into();
    world.bus.inner.publish(&to_group(group), payload).await.unwrap();
}

/// Whether the agent listens to a group: whoever asks it finds somebody there.
async fn until_it_listens(world: &World, group: &str, listens: bool) {
    use kanade_ports::Bus;
    let to = to_group(group);
    until(|| {
        let asked = world
            .bus
            .inner
            .request(&to, "?".into(), std::time::Duration::ZERO)
            .now_or_never();
        let nobody =
            matches!(asked, Some(Err(error)) if error.kind() == kanade_ports::BusErrorKind::NoResponders);
        nobody != listens
    })
    .await;
}

#[tokio::test]
async fn an_agent_hears_the_groups_that_it_joins_until_it_leaves_them() {
    let world = World::new().await;
    join(&world, "\"web\"").await;
    let _agent = world.agent().await;
    until_it_listens(&world, "web", true).await;
    let first = command("echo web");
    send_to(&world, "web", &first).await;
    assert_eq!(world.result(&first).await.stdout, "web\n");

    join(&world, "\"db\",\"web\"").await;
    until_it_listens(&world, "db", true).await;
    let second = command("echo db");
    send_to(&world, "db", &second).await;
    assert_eq!(world.result(&second).await.stdout, "db\n");
    // What it was in before, it has not left meanwhile.
    let third = command("echo still");
    send_to(&world, "web", &third).await;
    assert_eq!(world.result(&third).await.stdout, "still\n");

    join(&world, "\"db\"").await;
    until_it_listens(&world, "web", false).await;
    let foreign = command("echo foreign");
    send_to(&world, "web", &foreign).await;
    let last = command("echo last");
    send_to(&world, "db", &last).await;
    assert_eq!(world.result(&last).await.stdout, "last\n");
    let heard = world.heard::<kanade_model::ExecResult>("results.");
    assert!(heard.iter().all(|result| result.request_id != foreign.request_id));
}

#[tokio::test]
async fn a_group_whose_name_is_no_subject_is_passed_over() {
    let world = World::new().await;
    join(&world, "\"blue / west\",\"*\",\"web\"").await;
    let _agent = world.agent().await;
    until_it_listens(&world, "web", true).await;
    let foreign = command("echo foreign");
    send_to(&world, "db", &foreign).await;
    let own = command("echo web");
    send_to(&world, "web", &own).await;
    assert_eq!(world.result(&own).await.stdout, "web\n");
    let heard = world.heard::<kanade_model::ExecResult>("results.");
    assert_eq!(heard.len(), 1, "a name with a wildcard is no wildcard");
}
