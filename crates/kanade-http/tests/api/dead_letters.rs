use serde_json::json;

use crate::world::{NOW, World, has_fields};

#[tokio::test]
async fn messages_that_cannot_be_understood_are_listed_newest_first() {
    let world = World::new().await;
    assert_eq!(world.get("/api/dead_letters").send().await.expect(200), json!([]));
    for (subject, payload) in [
        ("results.r-1", "{\"not\": \"a result\"}"),
        ("events.odd.thing", "gr\u{fc}n"),
    ] {
        world
            .durable(&subject.parse().unwrap(), payload.to_owned().into())
            .await;
    }
    let letters = world.get("/api/dead_letters").send().await.expect(200);
    assert_eq!(letters.as_array().unwrap().len(), 2);
    for letter in letters.as_array().unwrap() {
        has_fields(letter, &["id", "subject", "payload", "reason", "at"]);
    }
    assert_eq!(
        (&letters[0]["subject"], &letters[0]["payload"]),
        (&json!("events.odd.thing"), &json!("grün"))
    );
    assert!(letters[1]["reason"].as_str().unwrap().contains("missing field"));
    assert_eq!(letters[0]["at"], NOW);
}
