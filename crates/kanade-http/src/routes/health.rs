//! Whether the server is there, and whether it can do its work. Open to anybody.

use std::{
    collections::BTreeMap,
    future::{Ready, ready},
    time::Duration,
};

use axum::{Json, extract::State};
use http::{HeaderMap, StatusCode};
use kanade_model::api;

use crate::App;

/// A part that has not answered by then is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says `ok`
#[utoipa::path(
    get, path = "/health", operation_id = "health", tag = "health",
    responses((status = 200, description = "The server runs", body = String, content_type = "text/plain"))
)]
pub(super) fn health() -> Ready<&'static str> {
    ready("ok")
}

/// Says `ok` while the process lives
///
/// Looks at nothing else: a restart would not cure a database that is away.
#[utoipa::path(
    get, path = "/livez", operation_id = "livez", tag = "health",
    responses((status = 200, description = "The server runs", body = String, content_type = "text/plain"))
)]
pub(super) fn live() -> Ready<&'static str> {
    ready("ok")
}

/// Says whether every part can do its work
///
/// Which part cannot, and why, is only told to those who may call the API.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "health", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "Every part is well", body = api::Ready),
        (status = 503, description = "A part is not", body = api::Ready),
    )
)]
pub(super) async fn ready_to_work(
    State(app): State<App>,
    headers: HeaderMap,
) -> (StatusCode, Json<api::Ready>) {
    let checks = match tokio::time::timeout(PATIENCE, app.services.check()).await {
        Ok(checks) => checks
            .into_iter()
            .map(|(part, well)| (part.to_owned(), well.err().unwrap_or_else(|| "ok".to_owned())))
            .collect(),
        Err(_) => BTreeMap::from([(
            "server".to_owned(),
            format!("no answer within {}s", PATIENCE.as_secs()),
        )]),
    };
    let ready = checks.values().all(|check| check == "ok");
    let told = app.authenticator.identify(&headers).is_ok();
    let body = api::Ready {
        ready,
        checks: if told { checks } else { BTreeMap::new() },
        bus: told.then(|| app.services.bus_record()),
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body))
}
