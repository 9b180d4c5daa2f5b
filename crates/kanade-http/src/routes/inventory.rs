//! What inventory jobs have found out about agents.

use std::sync::Arc;

use axum::{Json, extract::State};
use kanade_core::{Error, Jobs, shape};
use kanade_model::{InventoryHints, JobId, PcId, api};
use kanade_ports::{ExecutionStore, Facts, MAX_LIMIT, Position};

use crate::{
    extract::{Linked, PageParams, PageRequest, Path, whole},
    problem::Problem,
};

/// About what facts take in an answer besides themselves, in bytes.
const ENVELOPE: usize = 256;

/// Lists the jobs that collect facts
#[utoipa::path(
    get, path = "/api/inventory/jobs", operation_id = "inventory_jobs", tag = "inventory",
    responses((status = 200, description = "By id", body = Vec<api::InventoryJob>))
)]
pub(super) async fn jobs(State(jobs): State<Jobs>) -> Json<Vec<api::InventoryJob>> {
    let collecting = jobs.list().await.into_iter().filter_map(|job| {
        let manifest = job.manifest.document;
        manifest.inventory.map(|hints| api::InventoryJob {
            manifest_id: manifest.id,
            description: manifest.description,
            display: hints.display,
            summary: hints.summary,
        })
    });
    Json(collecting.collect())
}

/// Shows what a job has found out about every agent
#[utoipa::path(
    get, path = "/api/inventory/by-job/{id}", operation_id = "inventory_by_job", tag = "inventory",
    params(("id" = String, Path, description = "The job; it may have been deleted"), PageParams),
    responses(
        (status = 200, description = "The newest facts of each agent, by agent; all that fit 4 MiB unless `limit` says less",
            body = api::InventoryTable, headers(("Link" = String, description = "`rel=\"next\"`: more rows"))),
        (status = 404, description = "Neither such a job nor facts of it"),
    )
)]
pub(super) async fn by_job(
    State(store): State<Arc<dyn ExecutionStore>>,
    State(jobs): State<Jobs>,
    Path(id): Path<JobId>,
    page: PageRequest,
) -> Result<Linked<api::InventoryTable>, Problem> {
    let list = format!("inventory/{id}");
    let after = page.after(&list)?;
    let facts = match page.limit() {
        Some(limit) => store.facts_by(&id, after.as_ref(), limit).await?,
        None => {
            let (store, id) = (&store, &id);
            let fetch =
                |after: Option<Position>| async move { store.facts_by(id, after.as_ref(), MAX_LIMIT).await };
            whole(after, fetch, place, |facts| {
                ENVELOPE + facts.facts.to_string().len()
            })
            .await?
        }
    };
    let newest = facts.items.iter().max_by_key(|facts| facts.collected_at);
    let hints = match newest {
        Some(facts) => facts.hints.clone(),
        None => hints_of(&jobs, &id).await?,
    };
    let table = api::InventoryTable {
        manifest_id: id,
        display: hints.display,
        summary: hints.summary,
        rows: facts.items.into_iter().map(row).collect(),
    };
    Ok(page.link(&list, table, facts.next.as_ref()))
}

/// Shows what jobs have found out about an agent
#[utoipa::path(
    get, path = "/api/inventory/{pc_id}", operation_id = "inventory_of_agent", tag = "inventory",
    params(("pc_id" = String, Path, description = "The agent")),
    responses((status = 200, description = "The newest facts of each job, by job", body = Vec<api::InventoryFacts>))
)]
pub(super) async fn of_agent(
    State(store): State<Arc<dyn ExecutionStore>>,
    Path(pc): Path<PcId>,
) -> Result<Json<Vec<api::InventoryFacts>>, Problem> {
    let facts = store.facts_of(&pc).await?;
    Ok(Json(facts.into_iter().map(shape::facts).collect()))
}

async fn hints_of(jobs: &Jobs, id: &JobId) -> Result<InventoryHints, Error> {
    let job = jobs.get(id).await?;
    Ok(job.manifest.document.inventory.unwrap_or_default())
}

fn place(facts: &Facts) -> Position {
    Position {
        at: 0,
        id: facts.pc_id.to_string(),
    }
}

fn row(facts: Facts) -> api::InventoryRow {
    api::InventoryRow {
        pc_id: facts.pc_id,
        facts: facts.facts,
        collected_at: facts.collected_at,
    }
}
