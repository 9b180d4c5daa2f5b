//! The fleet as a whole, and what its broker has.

use axum::{Json, extract::State};
use http::StatusCode;
use kanade_core::Fleet;
use kanade_model::api;

use crate::problem::Problem;

/// Says how the fleet is
///
/// `degraded` when the broker does not answer or lacks something, or when agents are known and none has shown life
/// within two minutes; `unknown` as long as no agent is known; else `ok`. An answer is told again for five seconds.
#[utoipa::path(
    get, path = "/api/health/fleet", operation_id = "fleet_health", tag = "health",
    responses(
        (status = 200, description = "`ok` or `unknown`", body = api::FleetHealth),
        (status = 503, description = "`degraded`; or a problem, when the storage cannot be read",
            body = api::FleetHealth),
    )
)]
pub(super) async fn health(
    State(fleet): State<Fleet>,
) -> Result<(StatusCode, Json<api::FleetHealth>), Problem> {
    let health = fleet.health().await?;
    let status = match health.status {
        api::FleetStatus::Ok | api::FleetStatus::Unknown => StatusCode::OK,
        api::FleetStatus::Degraded => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok((status, Json(health)))
}

/// Says what of the wire contract is on the broker
///
/// In a deployment without a broker all lists are empty.
#[utoipa::path(
    get, path = "/api/jetstream/status", operation_id = "jetstream_status", tag = "health",
    responses((status = 200, description = "All that should be there", body = api::BrokerStatus))
)]
pub(super) async fn broker(State(fleet): State<Fleet>) -> Result<Json<api::BrokerStatus>, Problem> {
    Ok(Json(fleet.resources().await?))
}
