//! What whoever looks at a deployment as a whole asks first.

use std::time::Duration;

use axum::{Extension, Json, extract::State};
use kanade_core::{Agents, Spans};
use kanade_model::{FanoutPlan, Timestamp, api};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    App,
    auth::Identity,
    extract::{self, Query, parsed},
    problem::Problem,
};

const BUCKETS: u32 = 60;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Which time is wanted, and how finely.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Over {
    /// From this moment on (RFC 3339); a day before `to` when not given.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Until this moment; now when not given.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// In so many spans of the same length, 1 to 200; 60 when not given.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    buckets: Option<u32>,
}

/// Tells how executions and runs went over time
#[utoipa::path(
    get, path = "/api/statistics", operation_id = "statistics", tag = "fleet",
    params(Over),
    responses(
        (status = 200, description = "What began in each span; a few seconds old at most", body = api::Statistics),
        (status = 400, description = "A parameter is not valid"),
    )
)]
pub(super) async fn statistics(
    State(app): State<App>,
    Query(over): Query<Over>,
) -> Result<Json<api::Statistics>, Problem> {
    let to = over.to.unwrap_or_else(|| app.services.clock.now());
    let from = over.from.unwrap_or_else(|| to.minus(DAY));
    let spans = Spans::new(from, to, over.buckets.unwrap_or(BUCKETS))?;
    Ok(Json(app.services.counts.over(spans).await?))
}

/// Tells at whom a fire would be aimed
#[utoipa::path(
    post, path = "/api/targets/resolve", operation_id = "resolve_target", tag = "executions",
    request_body = FanoutPlan,
    responses(
        (status = 200, description = "The agents it means now; with waves, those of all waves", body = api::Aim),
        (status = 400, description = "The body is not valid"),
    )
)]
pub(super) async fn resolve(
    State(agents): State<Agents>,
    extract::Json(plan): extract::Json<FanoutPlan>,
) -> Result<Json<api::Aim>, Problem> {
    Ok(Json(agents.aim(&plan).await?))
}

/// Tells who calls
#[utoipa::path(
    get, path = "/api/whoami", operation_id = "whoami", tag = "health",
    responses((status = 200, description = "As the token says", body = api::WhoAmI))
)]
pub(super) async fn who_am_i(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> Json<api::WhoAmI> {
    Json(api::WhoAmI {
        mode: app.settings.auth.mode().to_owned(),
        name: identity.sub,
        expires_at: identity.expires,
    })
}

/// Tells what the deployment is made of
#[utoipa::path(
    get, path = "/api/deployment", operation_id = "deployment", tag = "health",
    responses((status = 200, description = "Version, backends, folder", body = api::Deployment))
)]
pub(super) async fn deployment(State(app): State<App>) -> Json<api::Deployment> {
    Json(app.settings.about.deployment.clone())
}

/// Looks whether the deployment is well
///
/// As `kanade doctor` does, from within the server. Nothing is changed.
#[utoipa::path(
    get, path = "/api/doctor", operation_id = "doctor", tag = "health",
    responses((status = 200, description = "Each check by itself; a few seconds old at most", body = Vec<api::Check>))
)]
pub(super) async fn doctor(State(app): State<App>) -> Json<Vec<api::Check>> {
    Json(app.settings.about.checks().await)
}
