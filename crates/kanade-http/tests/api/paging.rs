//! Pages: the same on every list.

use serde_json::{Value, json};

use crate::world::{World, manifest};

/// A world in which every list has three items.
async fn world() -> World {
    let mut world = World::new().await;
    for n in 1..=3 {
        let mut document = manifest(&format!("job-{n}"));
        document["inventory"] = json!({});
        world.post("/api/jobs").json(&document).send().await.expect(200);
        let schedule = json!({
            "id": format!("schedule-{n}"), "cron": "0 0 2 * * *", "job_id": "job-1", "target": { "all": true }
        });
        world
            .post("/api/schedules")
            .json(&schedule)
            .send()
            .await
            .expect(200);
        world.agent(&format!("pc-{n}")).await;
        world.ran("job-1", &format!("pc-{n}"), 0, "{}").await;
        let letter = format!("events.letter.{n}").parse().unwrap();
        world.durable(&letter, "x".into()).await;
    }
    world
}

async fn lists(world: &World) -> Vec<String> {
    let plan = json!({ "target": { "pcs": ["pc-1", "pc-2", "pc-3"] } });
    let fired = world.post("/api/exec/job-2").json(&plan).send().await.expect(200);
    let targets = format!("/api/executions/{}/targets", fired["exec_id"].as_str().unwrap());
    let plain = [
        "executions?job_id=job-1",
        "results",
        "jobs",
        "schedules",
        "agents",
        "dead_letters",
    ];
    let mut lists: Vec<String> = plain.iter().map(|list| format!("/api/{list}")).collect();
    lists.extend([
        targets,
        "/api/inventory/by-job/job-1".into(),
        "/api/audit?action=^schedule_upsert$".into(),
    ]);
    lists
}

fn items(answer: &Value) -> &Vec<Value> {
    answer.as_array().or_else(|| answer["rows"].as_array()).unwrap()
}

fn limited(list: &str, limit: &str) -> String {
    format!(
        "{list}{}limit={limit}",
        if list.contains('?') { '&' } else { '?' }
    )
}

#[tokio::test]
async fn walking_the_pages_of_a_list_meets_every_item_once() {
    let world = world().await;
    for list in lists(&world).await {
        let whole = world.get(&list).send().await;
        assert_eq!(whole.next(), None, "{list}");
        let whole = items(&whole.expect(200)).clone();
        assert_eq!(whole.len(), 3, "{list}");

        let mut walked = Vec::new();
        let mut next = Some(limited(&list, "2"));
        while let Some(path) = next {
            let page = world.get(&path).send().await;
            walked.extend(items(&page.expect(200)).clone());
            next = page.next();
            assert!(walked.len() <= 3, "{list} has no end");
        }
        assert_eq!(walked, whole, "{list}");
    }
}

#[tokio::test]
async fn a_cursor_is_refused_by_every_list_but_its_own() {
    let world = world().await;
    let lists = lists(&world).await;
    let mut cursors = Vec::new();
    for list in &lists {
        let next = world
            .get(&limited(list, "1"))
            .send()
            .await
            .next()
            .expect("there is more");
        let cursor = next
            .split(['?', '&'])
            .find_map(|pair| pair.strip_prefix("cursor="))
            .unwrap()
            .to_owned();
        assert!(
            cursor
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
            "{cursor}"
        );
        cursors.push(cursor);
    }
    for (at, list) in lists.iter().enumerate() {
        let foreign = cursors
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, cursor)| cursor.as_str());
        for cursor in foreign.chain(["garbage!", "eHg", "%ff"]) {
            let separator = if list.contains('?') { '&' } else { '?' };
            let answer = world
                .get(&format!("{list}{separator}cursor={cursor}"))
                .send()
                .await;
            answer.problem(400);
            assert_eq!(answer.field(), "cursor", "{list} {cursor}");
        }
    }
}

#[tokio::test]
async fn a_limit_is_a_number_from_one_and_large_ones_are_cut() {
    let world = world().await;
    for list in lists(&world).await {
        for limit in ["0", "-1", "1.5", "many", "0x10", "+5", "%20"] {
            let answer = world.get(&limited(&list, limit)).send().await;
            assert!(
                answer.problem(400).contains("a number from 1 to 1000 is wanted"),
                "{list} {limit}"
            );
            assert_eq!(answer.field(), "limit");
        }
        for limit in ["3", "1000", "1001", "99999999999999999999999999", ""] {
            let answer = world.get(&limited(&list, limit)).send().await;
            assert_eq!(items(&answer.expect(200)).len(), 3, "{list} {limit}");
        }
    }
}

#[tokio::test]
async fn a_list_that_may_grow_large_has_a_default_limit() {
    let mut world = World::new().await;
    world.job("backup").await;
    for n in 0..51 {
        world.ran("backup", &format!("pc-{n:02}"), 0, "").await;
    }
    for list in ["executions", "results", "audit"] {
        let page = world.get(&format!("/api/{list}")).send().await;
        assert_eq!(page.expect(200).as_array().unwrap().len(), 50, "{list}");
        let rest = world.get(&page.next().unwrap()).send().await;
        assert!(!rest.expect(200).as_array().unwrap().is_empty(), "{list}");
    }
}
