//! Who may call.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kanade_http::{Auth, HttpSettings, NamedToken};
use serde_json::{Value, json};

use crate::world::{Answer, World, manifest};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

async fn with(auth: Auth) -> World {
    World::with(HttpSettings {
        auth,
        ..HttpSettings::default()
    })
    .await
}

async fn with_tokens() -> World {
    let token = |name: &str, token: &str| NamedToken {
        name: name.into(),
        token: token.into(),
    };
    with(Auth::Tokens(vec![
        token("ci", "t0ken-of-ci"),
        token("ann", "t0ken-of-ann"),
    ]))
    .await
}

async fn jobs(world: &World, authorization: &str) -> Answer {
    world
        .get("/api/jobs")
        .header("authorization", authorization)
        .send()
        .await
}

#[tokio::test]
async fn every_route_but_the_open_ones_wants_a_token() {
    let world = with_tokens().await;
    let document = kanade_http::openapi();
    let mut guarded = 0;
    for (path, item) in &document.paths.paths {
        let operations = [
            (Method::GET, &item.get),
            (Method::PUT, &item.put),
            (Method::POST, &item.post),
            (Method::DELETE, &item.delete),
        ];
        for (method, _) in operations
            .into_iter()
            .filter(|(_, operation)| operation.is_some())
        {
            let answer = world
                .call(method.clone(), &path.replace(['{', '}'], "x"))
                .send()
                .await;
            if path.starts_with("/api/agent/") {
                // For agents, who show themselves in another way; no token is any good where there are none for them.
                answer.problem(400);
            } else if ["/health", "/livez", "/readyz"].contains(&path.as_str()) {
                answer.status.is_success().then_some(()).expect("open to anybody");
            } else {
                answer.problem(401);
                assert_eq!(
                    answer.header("www-authenticate"),
                    Some("Bearer realm=\"kanade\""),
                    "{method} {path}"
                );
                guarded += 1;
            }
        }
    }
    assert!(guarded > 40, "{guarded}");
}

#[tokio::test]
async fn a_known_token_opens_and_its_name_stands_in_the_trail() {
    let world = with_tokens().await;
    let call = world
        .post("/api/jobs")
        .json(&manifest("backup"))
        .header("x-kanade-source", "cli");
    call.header("authorization", "bearer t0ken-of-ann")
        .send()
        .await
        .expect(200);
    let call = world
        .get("/api/audit")
        .header("authorization", "Bearer t0ken-of-ci");
    let entry = call.send().await.expect(200)[0].take();
    assert_eq!(
        (&entry["payload"]["sub"], &entry["payload"]["source"]),
        (&json!("ann"), &json!("cli"))
    );
    assert_eq!(entry["actor"], "operator");
}

#[tokio::test]
async fn anything_but_a_known_token_is_refused() {
    let world = with_tokens().await;
    for (authorization, error) in [
        ("Bearer t0ken-of-eve", "invalid_token"),
        ("Bearer t0ken-of-c", "invalid_token"),
        ("Bearer t0ken-of-cii", "invalid_token"),
        ("Bearer ", "invalid_request"),
        ("Bearer", "invalid_request"),
        ("t0ken-of-ci", "invalid_request"),
        ("Basic dDBrZW4=", "invalid_request"),
    ] {
        let answer = jobs(&world, authorization).await;
        let detail = answer.problem(401);
        assert!(!detail.contains("t0ken"), "{detail}");
        assert!(
            answer.header("www-authenticate").unwrap().contains(error),
            "{authorization}"
        );
    }
    let twice = world
        .get("/api/jobs")
        .header("authorization", "Bearer t0ken-of-ci");
    twice
        .header("authorization", "Bearer t0ken-of-ci")
        .send()
        .await
        .problem(401);
    for query in ["token", "access_token"] {
        world
            .get(&format!("/api/jobs?{query}=t0ken-of-ci"))
            .send()
            .await
            .problem(401);
    }
    jobs(&world, "Bearer t0ken-of-ci").await.expect(200);
}

#[tokio::test]
async fn settings_never_show_their_secrets() {
    let tokens = Auth::Tokens(vec![NamedToken {
        name: "ci".into(),
        token: "t0ken".into(),
    }]);
    for auth in [
        tokens,
        Auth::Jwt {
            secret: "t0ken".into(),
        },
    ] {
        let shown = format!(
            "{:?}",
            HttpSettings {
                auth,
                ..HttpSettings::default()
            }
        );
        assert!(!shown.contains("t0ken"), "{shown}");
    }
}

fn signed(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap();
    format!("Bearer {token}")
}

/// Valid for a minute from now on.
fn claims() -> Value {
    json!({ "sub": "ann", "aud": "kanade", "exp": now() + 60 })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_web_token_opens_and_its_holder_stands_in_the_trail() {
    let world = with(Auth::Jwt {
        secret: SECRET.into(),
    })
    .await;
    let token = signed(&claims(), SECRET, Algorithm::HS256);
    let call = world
        .post("/api/scripts/backup/revoke")
        .header("authorization", &token);
    call.send().await.expect(204);
    let audit = world
        .get("/api/audit")
        .header("authorization", &token)
        .send()
        .await
        .expect(200);
    assert_eq!(audit[0]["payload"]["sub"], "ann");
    let mut several = claims();
    several["aud"] = json!(["other", "kanade"]);
    jobs(&world, &signed(&several, SECRET, Algorithm::HS256))
        .await
        .expect(200);
}

#[tokio::test]
async fn clocks_may_differ_a_little() {
    let world = with(Auth::Jwt {
        secret: SECRET.into(),
    })
    .await;
    let mut late = claims();
    late["exp"] = json!(now() - 1);
    jobs(&world, &signed(&late, SECRET, Algorithm::HS256))
        .await
        .expect(200);
    late["exp"] = json!(now() - 60);
    assert!(
        jobs(&world, &signed(&late, SECRET, Algorithm::HS256))
            .await
            .problem(401)
            .contains("expired")
    );
}

#[tokio::test]
async fn a_web_token_must_be_signed_meant_for_us_named_and_end() {
    let world = with(Auth::Jwt {
        secret: SECRET.into(),
    })
    .await;
    let mut cases = vec![
        (signed(&claims(), "another secret", Algorithm::HS256), "signature"),
        (signed(&claims(), SECRET, Algorithm::HS512), "HS256"),
        ("Bearer not.a.token".to_owned(), "cannot be read"),
    ];
    for (claim, value, told) in [
        ("aud", json!("somebody else"), "audience"),
        ("aud", Value::Null, "audience"),
        ("exp", Value::Null, "`exp`"),
        ("sub", Value::Null, "`sub`"),
        ("sub", json!(" "), "readable name"),
        ("sub", json!("a\nb"), "readable name"),
        ("nbf", json!(now() + 3600), "not valid yet"),
    ] {
        let mut odd = claims();
        match value {
            Value::Null => drop(odd.as_object_mut().unwrap().remove(claim)),
            value => odd[claim] = value,
        }
        let told = if claim == "aud" && odd.get("aud").is_none() {
            "`aud`"
        } else {
            told
        };
        cases.push((signed(&odd, SECRET, Algorithm::HS256), told));
    }
    for (token, told) in cases {
        let answer = jobs(&world, &token).await;
        let detail = answer.problem(401);
        assert!(detail.contains(told), "{told}: {detail}");
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .contains("invalid_token")
        );
    }
    // Nobody may choose how his token is checked.
    let unsigned = "Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbm4ifQ.";
    jobs(&world, unsigned).await.problem(401);
}

#[tokio::test]
async fn without_authentication_only_this_machine_and_no_foreign_page_is_answered() {
    let open = World::new().await;
    let jobs = |host: &str| open.get("/api/jobs").header("host", host);
    jobs("localhost:8080").send().await.expect(200);
    let rebound = jobs("rebound.example:8080").send().await.problem(403);
    assert!(rebound.contains("rebound.example"), "{rebound}");
    let kill = || {
        open.post("/api/jobs/backup/kill")
            .header("host", "localhost:8080")
    };
    let foreign = kill().header("origin", "https://evil.example").send().await;
    assert!(foreign.problem(403).contains("evil.example"));
    assert_eq!(
        kill()
            .header("origin", "http://localhost:8080")
            .send()
            .await
            .status,
        204
    );

    for header in ["forwarded", "x-forwarded-for", "x-real-ip"] {
        let proxied = kill().header(header, "203.0.113.9").send().await.problem(403);
        assert!(
            proxied.contains(header) && proxied.contains("auth.mode"),
            "{proxied}"
        );
    }

    // A token is more than being here: it may come from anywhere.
    let guarded = with_tokens().await;
    let from_afar = guarded.get("/api/jobs").header("host", "kanade.example");
    let from_afar = from_afar.header("x-forwarded-for", "203.0.113.9");
    from_afar
        .header("authorization", "Bearer t0ken-of-ci")
        .send()
        .await
        .expect(200);
}
