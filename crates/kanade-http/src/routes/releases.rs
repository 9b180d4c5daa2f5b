//! Releases of the agent: publishing, looking, deleting, and which agents update themselves to which.

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, LAST_MODIFIED},
};
use kanade_core::{Releases, Scope};
use kanade_model::{Caller, Version, api};
use kanade_ports::{Program, Release};

use crate::{
    extract::{self, Path, Upload},
    problem::Problem,
};

/// RFC 9530.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Lists the releases of the agent
#[utoipa::path(
    get, path = "/api/agents/releases", operation_id = "list_releases", tag = "releases",
    responses((status = 200, description = "By version, as text", body = Vec<api::Release>))
)]
pub(super) async fn list(State(releases): State<Releases>) -> Result<Json<Vec<api::Release>>, Problem> {
    Ok(Json(releases.list().await?.into_iter().map(shape).collect()))
}

/// Downloads a release
///
/// For operators; agents get theirs at `/api/agent/releases/{version}`.
#[utoipa::path(
    get, path = "/api/agents/releases/{version}", operation_id = "get_release", tag = "releases",
    params(("version" = String, Path, description = "The version")),
    responses(
        (status = 200, description = "The program", content_type = "application/octet-stream", body = String,
            headers(
                ("Repr-Digest" = String, description = "Its SHA-256: `sha-256=:…:` (RFC 9530)"),
                ("Content-Length" = u64, description = "Its bytes"),
                ("Last-Modified" = String, description = "When it was stored"),
            )),
        (status = 404, description = "No such release"),
    )
)]
pub(super) async fn get(
    State(releases): State<Releases>,
    Path(version): Path<Version>,
) -> Result<Response, Problem> {
    let (release, program) = releases.get(&version).await?;
    Ok(release_response(&release, program))
}

/// A release and its program, as operators and agents download it.
pub(crate) fn release_response(release: &Release, program: Program) -> Response {
    let mut response = Body::from_stream(program).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(CONTENT_LENGTH, release.size.into());
    if let Ok(modified) = release.modified.http_date().try_into() {
        headers.insert(LAST_MODIFIED, modified);
    }
    if let Some(digest) = release.repr_digest().and_then(|digest| digest.try_into().ok()) {
        headers.insert(REPR_DIGEST, digest);
    }
    response
}

/// A program of the agent, as a form.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only describes the form")]
pub(super) struct PublishForm {
    /// The program.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// Its version, where it is not a Windows program that tells it in VERSIONINFO.
    version: Option<String>,
}

/// Publishes a release of the agent
///
/// Agents update themselves to it once it is rolled out. The same program may be published again. Another one replaces
/// it under its version, unless agents are to update to that one.
#[utoipa::path(
    post, path = "/api/agents/publish", operation_id = "publish_release", tag = "releases",
    request_body(content = inline(PublishForm), content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "It is stored", body = api::Published),
        (status = 400, description = "There is no program, or its version is not valid or not known"),
        (status = 408, description = "The body does not come on"),
        (status = 409, description = "The version is of another program, which agents are to update to"),
        (status = 413, description = "The program is larger than the server takes"),
        (status = 415, description = "Not a form"),
    )
)]
pub(super) async fn publish(
    State(releases): State<Releases>,
    caller: Caller,
    Upload { version, program }: Upload,
) -> Result<Json<api::Published>, Problem> {
    let release = releases.publish(&version, program, &caller).await?;
    Ok(Json(api::Published {
        version: release.version,
        size: release.size,
        digest: release.digest,
    }))
}

/// Deletes a release that no agent is to update to
#[utoipa::path(
    delete, path = "/api/agents/releases/{version}", operation_id = "delete_release", tag = "releases",
    params(("version" = String, Path, description = "The version")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such release"),
        (status = 409, description = "A configuration tells agents to update to it"),
    )
)]
pub(super) async fn delete(
    State(releases): State<Releases>,
    caller: Caller,
    Path(version): Path<Version>,
) -> Result<StatusCode, Problem> {
    releases.delete(&version, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells agents to update to a release
///
/// Sets `target_version` of the configuration of all agents, of a group or of one agent, and `target_version_jitter`
/// where `jitter` is given; everything else of it stays as it is.
#[utoipa::path(
    post, path = "/api/agents/rollout", operation_id = "rollout", tag = "releases",
    request_body = api::RolloutRequest,
    responses(
        (status = 200, description = "The agents are told", body = api::RolledOut),
        (status = 400, description = "The scope or the jitter is not valid"),
        (status = 404, description = "No such release"),
    )
)]
pub(super) async fn rollout(
    State(releases): State<Releases>,
    caller: Caller,
    extract::Json(request): extract::Json<api::RolloutRequest>,
) -> Result<Json<api::RolledOut>, Problem> {
    let (scope, label) = match request.scope {
        api::RolloutScope::Global => (Scope::Global, "global".to_owned()),
        api::RolloutScope::Group(group) => (Scope::Group(group.clone()), format!("group {group}")),
        api::RolloutScope::Pc(pc) => (Scope::Pc(pc.clone()), format!("pc {pc}")),
    };
    let set = releases
        .rollout(&request.version, &scope, request.jitter, &caller)
        .await?;
    Ok(Json(api::RolledOut {
        version: request.version,
        scope_key: set.key,
        scope_label: label,
        jitter: set.jitter,
    }))
}

fn shape(release: Release) -> api::Release {
    api::Release {
        version: release.version,
        size: release.size,
        digest: release.digest,
        modified: release.modified,
    }
}
