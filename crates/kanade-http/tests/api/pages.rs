//! A web page beside the API.

use axum::{Router, extract::Request, response::IntoResponse};
use http::{Method, StatusCode, header::AUTHORIZATION};
use kanade_http::{Auth, HttpSettings, NamedToken};

use crate::world::World;

/// Has something to say everywhere but at `/gone`.
fn pages() -> Router {
    Router::new().fallback(async |request: Request| match request.uri().path() {
        "/gone" => StatusCode::NOT_FOUND.into_response(),
        path => format!("the page at {path}").into_response(),
    })
}

async fn world(auth: Auth) -> World {
    let settings = HttpSettings {
        auth,
        ..HttpSettings::default()
    };
    let mut world = World::with(settings.clone()).await;
    world.router = kanade_http::router_with_pages(world.services.clone(), settings, pages());
    world
}

#[tokio::test]
async fn the_page_is_open_and_the_api_is_not() {
    let tokens = vec![NamedToken {
        name: "ops".into(),
        token: "secret".into(),
    }];
    let world = world(Auth::Tokens(tokens)).await;
    for path in ["/", "/jobs", "/assets/app.js"] {
        let page = world.get(path).send().await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.text(), format!("the page at {path}"));
        assert!(page.header("x-request-id").is_some());
    }
    assert_eq!(
        world.get("/api/jobs").send().await.status,
        StatusCode::UNAUTHORIZED
    );
    let known = world
        .get("/api/jobs")
        .header(AUTHORIZATION.as_str(), "Bearer secret");
    assert_eq!(known.send().await.status, StatusCode::OK);
    assert_eq!(world.get("/health").send().await.text(), "ok");
}

#[tokio::test]
async fn what_neither_has_is_a_problem() {
    let world = world(Auth::None).await;
    for (method, path) in [
        (Method::GET, "/api"),
        (Method::GET, "/api/nothing"),
        (Method::POST, "/api/nothing"),
        (Method::GET, "/gone"),
    ] {
        let answer = world.call(method.clone(), path).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.text().contains(path), "{}", answer.text());
    }
}

#[tokio::test]
async fn the_page_is_not_answered_to_strangers_either_without_authentication() {
    let world = world(Auth::None).await;
    let stranger = world.get("/").header("host", "evil.example").send().await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN);
}
