//! The description of this API.

use std::future::{Ready, ready};

use axum::{extract::State, response::IntoResponse};
use http::header::CONTENT_TYPE;

use crate::App;

/// This document
#[utoipa::path(
    get, path = "/api/openapi.json", operation_id = "openapi", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value))
)]
pub(super) fn openapi(State(app): State<App>) -> Ready<impl IntoResponse> {
    ready(([(CONTENT_TYPE, "application/json")], app.document))
}
