//! The audit trail: who did what.

use std::sync::Arc;

use axum::extract::State;
use kanade_core::shape;
use kanade_model::{Invalid, Timestamp, api};
use kanade_ports::{AuditQuery, ExecutionStore, Position};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    extract::{Linked, PageParams, PageRequest, Query, filter, parsed},
    problem::Problem,
};

const LIST: &str = "audit";
const DEFAULT_LIMIT: usize = 50;

/// Which entries are wanted. `action`, `target` and `payload` are regular expressions, not anchored.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// By exactly this actor (`operator`, `scheduler`).
    #[serde(default)]
    actor: Option<String>,
    /// Actions like this.
    #[serde(default)]
    action: Option<String>,
    /// On targets like this.
    #[serde(default)]
    target: Option<String>,
    /// With details like this, as JSON text.
    #[serde(default)]
    payload: Option<String>,
    /// At or after this moment (RFC 3339).
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

impl Filter {
    fn query(self, limit: usize, after: Option<Position>) -> Result<AuditQuery, Invalid> {
        Ok(AuditQuery {
            actor: self.actor,
            action: filter("action", self.action)?,
            target: filter("target", self.target)?,
            payload: filter("payload", self.payload)?,
            since: self.since,
            limit,
            after,
        })
    }
}

/// Lists the audit trail
///
/// With a text filter, a page looks at 10,000 entries at most: it may be empty and yet have a next one.
#[utoipa::path(
    get, path = "/api/audit", operation_id = "list_audit", tag = "audit",
    params(PageParams, Filter),
    responses(
        (status = 200, description = "Newest first, 50 unless `limit` says otherwise", body = Vec<api::AuditEntry>,
            headers(("Link" = String, description = "`rel=\"next\"`: the next page"))),
        (status = 400, description = "A parameter is not valid"),
    )
)]
pub(super) async fn list(
    State(store): State<Arc<dyn ExecutionStore>>,
    page: PageRequest,
    Query(filter): Query<Filter>,
) -> Result<Linked<Vec<api::AuditEntry>>, Problem> {
    let query = filter.query(page.limit().unwrap_or(DEFAULT_LIMIT), page.after(LIST)?)?;
    let found = store.audit(&query).await?;
    Ok(page.answer(LIST, found.map(shape::audit_entry)))
}
