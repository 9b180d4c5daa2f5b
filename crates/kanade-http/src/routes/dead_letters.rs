//! Messages of agents that could not be understood.

use std::sync::Arc;

use axum::extract::State;
use kanade_model::api;
use kanade_ports::{DeadLetterRecord, ExecutionStore};

use crate::{
    extract::{Linked, PageParams, PageRequest},
    problem::Problem,
};

const LIST: &str = "dead_letters";
const DEFAULT_LIMIT: usize = 50;

/// Lists messages that could not be understood
#[utoipa::path(
    get, path = "/api/dead_letters", operation_id = "list_dead_letters", tag = "audit",
    params(PageParams),
    responses(
        (status = 200, description = "Newest first, 50 unless `limit` says otherwise", body = Vec<api::DeadLetter>,
            headers(("Link" = String, description = "`rel=\"next\"`: the next page"))),
        (status = 400, description = "A parameter is not valid"),
    )
)]
pub(super) async fn list(
    State(store): State<Arc<dyn ExecutionStore>>,
    page: PageRequest,
) -> Result<Linked<Vec<api::DeadLetter>>, Problem> {
    let after = page.after(LIST)?;
    let limit = page.limit().unwrap_or(DEFAULT_LIMIT);
    let letters = store.dead_letters(after.as_ref(), limit).await?;
    Ok(page.answer(LIST, letters.map(shape)))
}

fn shape(DeadLetterRecord { id, letter }: DeadLetterRecord) -> api::DeadLetter {
    api::DeadLetter {
        id,
        subject: letter.subject.to_string(),
        payload: letter.payload,
        reason: letter.reason,
        at: letter.at,
    }
}
