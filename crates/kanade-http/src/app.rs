//! Puts the API together: the routes, and around them what holds for all of them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, Request},
    middleware::{from_fn, from_fn_with_state},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderName, StatusCode, header::AUTHORIZATION};
use kanade_core::{
    Agents, Fires, Fleet, Freezes, Jobs, Kills, Releases, Scheduler, Schedules, Services, Steering,
};
use kanade_ports::{ExecutionStore, frame::KEY_HEADER};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_http::{
    CompressionLevel, catch_panic::CatchPanicLayer, compression::CompressionLayer,
    sensitive_headers::SetSensitiveRequestHeadersLayer,
};

use crate::{
    Auth, HttpSettings,
    auth::{self, Authenticator},
    gateway::Gateway,
    limits::{self, Gate},
    openapi, origin,
    problem::Problem,
    routes::Routes,
    trace,
};

/// What handlers and extractors have in common. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) services: Services,
    pub(crate) settings: Arc<HttpSettings>,
    pub(crate) authenticator: Authenticator,
    /// The OpenAPI document as it is sent.
    pub(crate) document: Bytes,
    /// One permit per event stream.
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) gateway: Gateway,
}

macro_rules! parts_of_services {
    ($($field:ident: $service:ty,)+) => { $(
        impl FromRef<App> for $service {
            fn from_ref(app: &App) -> Self {
                app.services.$field.clone()
            }
        }
    )+ };
}

parts_of_services! {
    jobs: Jobs,
    schedules: Schedules,
    scheduler: Scheduler,
    freezes: Freezes,
    agents: Agents,
    fires: Fires,
    kills: Kills,
    steering: Steering,
    releases: Releases,
    fleet: Fleet,
    store: Arc<dyn ExecutionStore>,
}

/// The API over `services`.
pub fn router(services: Services, settings: HttpSettings) -> Router {
    router_with_pages(services, settings, Router::new())
}

/// The API over `services`, and `pages` wherever it has nothing. Pages are open to whoever may connect; what they
/// answer 404, and all of `/api`, is answered with a problem.
pub fn router_with_pages(services: Services, settings: HttpSettings, pages: Router) -> Router {
    let document = openapi()
        .to_json()
        .expect("an OpenAPI document has string keys only");
    let app = App {
        services,
        document: document.into(),
        streams: Arc::new(Semaphore::new(settings.max_streams.min(Semaphore::MAX_PERMITS))),
        authenticator: Authenticator::new(&settings.auth),
        gateway: Gateway::new(&settings.gateway),
        settings: Arc::new(settings),
    };
    let settings = &app.settings;
    let ordinary = Gate::new(settings.max_requests, Some(settings.request_timeout));
    let waiting = Gate::new(settings.max_waiting, None);
    let uploads = Gate::new(settings.max_uploads, Some(settings.upload_timeout));
    let guarded = |routes: Router<App>, gate: Option<Gate>| {
        let routes = routes.route_layer(CatchPanicLayer::custom(limits::panicked));
        let routes = match gate {
            Some(gate) => routes.route_layer(from_fn_with_state(gate, limits::admit)),
            None => routes,
        };
        // Outside the gate: who may not call must not take the place of those who may.
        routes.route_layer(from_fn_with_state(app.authenticator.clone(), auth::require))
    };
    let routes = Routes::new();
    let router = Router::new()
        .merge(Router::from(routes.open).route_layer(CatchPanicLayer::custom(limits::panicked)))
        .merge(guarded(routes.ordinary.into(), Some(ordinary)))
        .merge(guarded(routes.waiting.into(), Some(waiting)))
        .merge(guarded(routes.uploads.into(), Some(uploads)))
        .merge(guarded(routes.streams.into(), None))
        .fallback(move |request| elsewhere(pages.clone(), request))
        .method_not_allowed_fallback(not_allowed);
    let router = match settings.auth {
        Auth::None => router.layer(from_fn(origin::require_loopback)),
        Auth::Tokens(_) | Auth::Jwt { .. } => router,
    };
    // Agents come from afar also where operators may not; the gateway looks at them itself.
    let gateway = Router::from(routes.gateway)
        .method_not_allowed_fallback(not_allowed)
        .route_layer(CatchPanicLayer::custom(limits::panicked));
    router
        .merge(gateway)
        .layer(from_fn(trace::log))
        // For browsers, which ask for it; event streams stay as they are, and pages come packed.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(SetSensitiveRequestHeadersLayer::new([
            AUTHORIZATION,
            HeaderName::from_static(KEY_HEADER),
        ]))
        .with_state(app)
}

async fn elsewhere(pages: Router, request: Request) -> Result<Response, Problem> {
    let path = request.uri().path().to_owned();
    let is_api = path == "/api" || path.starts_with("/api/");
    if !is_api {
        let Ok(page) = pages.oneshot(request).await;
        if page.status() != StatusCode::NOT_FOUND {
            return Ok(page);
        }
    }
    let detail = format!("there is nothing at `{path}`");
    Err(Problem::new(StatusCode::NOT_FOUND, detail))
}

async fn not_allowed(request: Request) -> Problem {
    let detail = format!(
        "`{}` cannot be asked to `{}`; the `Allow` header says what it can",
        request.uri().path(),
        request.method()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
