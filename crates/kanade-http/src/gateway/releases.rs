//! Releases for agents: whoever may connect as an agent may also download what it is to update itself to.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use futures::StreamExt;
use http::Method;
use kanade_model::Version;
use tokio_util::sync::CancellationToken;

use super::admission;
use crate::{App, extract::Path, problem::Problem, routes::release_response};

/// Downloads a release as an agent
///
/// For agents, which show the same token as at `/api/agent/ws`; `HEAD` says whether there is one, and its digest.
#[utoipa::path(
    get, path = "/api/agent/releases/{version}", operation_id = "get_release_as_agent", tag = "agents",
    params(
        ("version" = String, Path, description = "The version"),
        ("pc_id" = String, Query, description = "The agent"),
    ),
    responses(
        (status = 200, description = "The program", content_type = "application/octet-stream", body = String,
            headers(
                ("Repr-Digest" = String, description = "Its SHA-256: `sha-256=:…:` (RFC 9530)"),
                ("Content-Length" = u64, description = "Its bytes"),
                ("Last-Modified" = String, description = "When it was stored"),
            )),
        (status = 401, description = "No token, or one that is not known"),
        (status = 403, description = "The token is not for this agent; or there are no tokens and the agent is not on \
            the server's machine; or a web page asks"),
        (status = 404, description = "No such release"),
        (status = 503, description = "Too many agents download at once; try again"),
    ),
    security((), ("agent" = []))
)]
pub(crate) async fn release(
    State(app): State<App>,
    Path(version): Path<Version>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let gateway = &app.gateway.0;
    let (pc, _) = admission::agent(&gateway.settings.tokens, &parts)?;
    let releases = &app.services.releases;
    if parts.method == Method::HEAD {
        let release = releases.find(&version).await?;
        return Ok(release_response(&release, futures::stream::empty().boxed()));
    }
    let permit = Arc::clone(&gateway.downloads).try_acquire_owned().map_err(|_| {
        Problem::try_again("too many agents download a program at once; try again in a while")
    })?;
    let (release, program) = releases.get(&version).await?;
    tracing::info!(%pc, %version, "an agent downloads a release");
    // One that takes nothing more keeps nobody else out for ever.
    let ended = CancellationToken::new();
    let (watched, patience) = (ended.clone(), gateway.settings.download_timeout);
    tokio::spawn(async move {
        let _ = tokio::time::timeout(patience, watched.cancelled()).await;
        drop(permit);
    });
    let ended = ended.drop_guard();
    let program = program.inspect(move |_| {
        let _until_the_end = &ended;
    });
    Ok(release_response(&release, program.boxed()))
}
