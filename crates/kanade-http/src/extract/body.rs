//! Request bodies. Documents (manifests, schedules) may be JSON or YAML and are read strictly: a misspelt field would
//! otherwise be lost without a word. Other bodies are JSON, and what is not known in them is not looked at.

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::LengthLimitError;
use kanade_model::{Manifest, Schedule, Staleness};
use serde::{Deserializer, de::DeserializeOwned};
use serde_ignored::Path;
use serde_json::Value;
use serde_path_to_error::Track;

use crate::{App, problem::Problem};

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        match Format::of(request.headers()) {
            Some(Format::Json) => {}
            _ => return Err(unsupported("`application/json`")),
        }
        let text = read(request, app.settings.body_limit, app).await?;
        from_json(&text, &mut |_| {}).map(Self)
    }
}

/// A manifest or schedule, as JSON or YAML, without unknown fields.
pub(crate) struct Document<T>(pub(crate) T);

/// A document that is read strictly.
pub(crate) trait Strict: DeserializeOwned {
    /// An object within that is read in one go, so that unknown fields in it go unseen, and the fields it may have.
    fn opaque(&self) -> Option<(&'static str, &'static [&'static str])>;
}

impl Strict for Manifest {
    fn opaque(&self) -> Option<(&'static str, &'static [&'static str])> {
        let fields: &[&str] = match self.staleness {
            Staleness::Strict { .. } => &["mode", "max_cache_age"],
            Staleness::Cached | Staleness::Unchecked => &["mode"],
        };
        Some(("staleness", fields))
    }
}

impl Strict for Schedule {
    fn opaque(&self) -> Option<(&'static str, &'static [&'static str])> {
        None
    }
}

impl<T: Strict> FromRequest<App> for Document<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let format = Format::of(request.headers())
            .ok_or_else(|| unsupported("`application/json` or `application/yaml`"))?;
        let text = read(request, app.settings.document_limit, app).await?;
        let mut unknown = Vec::new();
        let mut note = |path: Path<'_>| unknown.push(dotted(&path));
        let document: T = format.read(&text, &mut note)?;
        if let Some((object, fields)) = document.opaque() {
            let all: Value = format.read(&text, &mut |_| {})?;
            let found = all.get(object).and_then(Value::as_object).into_iter().flatten();
            let stray = found.filter(|(field, _)| !fields.contains(&field.as_str()));
            unknown.extend(stray.map(|(field, _)| format!("{object}.{field}")));
        }
        match unknown.as_slice() {
            [] => Ok(Self(document)),
            [field] => {
                Err(Problem::bad_request(format!("unknown field `{field}`")).with_field(field.as_str()))
            }
            [first, ..] => Err(
                Problem::bad_request(format!("unknown fields `{}`", unknown.join("`, `"))).with_field(first),
            ),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
}

impl Format {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next()?.trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Some(Self::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Some(Self::Yaml),
            other if other.ends_with("+json") => Some(Self::Json),
            other if other.ends_with("+yaml") => Some(Self::Yaml),
            _ => None,
        }
    }

    fn read<T: DeserializeOwned>(self, text: &[u8], unknown: &mut dyn FnMut(Path<'_>)) -> Result<T, Problem> {
        match self {
            Self::Json => from_json(text, unknown),
            Self::Yaml => from_yaml(text, unknown),
        }
    }
}

async fn read(request: Request, limit: usize, app: &App) -> Result<Bytes, Problem> {
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    // Half, so that a slow sender is told so before the whole request is given up.
    let within = app.settings.request_timeout / 2;
    match tokio::time::timeout(within, collect(request.into_body(), limit)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {}s", within.as_secs_f32()),
        )),
    }
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, Problem> {
    to_bytes(body, limit).await.map_err(|error| {
        if std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) {
            too_large(limit)
        } else {
            Problem::bad_request("the body broke off before its end")
        }
    })
}

fn too_large(limit: usize) -> Problem {
    let limit = match limit {
        mib if mib % (1 << 20) == 0 => format!("{} MiB", mib >> 20),
        kib if kib % (1 << 10) == 0 => format!("{} KiB", kib >> 10),
        bytes => format!("{bytes} bytes"),
    };
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {limit}"),
    )
}

fn unsupported(wanted: &str) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("the `Content-Type` of the body must be {wanted}"),
    )
}

fn from_json<T: DeserializeOwned>(text: &[u8], unknown: &mut dyn FnMut(Path<'_>)) -> Result<T, Problem> {
    let mut track = Track::new();
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = deserialize(&mut json, &mut track, unknown).and_then(|value| json.end().map(|()| value));
    read.map_err(|error: serde_json::Error| {
        let what = if error.is_data() {
            "cannot be read"
        } else {
            "is not valid JSON"
        };
        misread(track, what, &error.to_string())
    })
}

fn from_yaml<T: DeserializeOwned>(text: &[u8], unknown: &mut dyn FnMut(Path<'_>)) -> Result<T, Problem> {
    let text = std::str::from_utf8(text)
        .map_err(|error| Problem::bad_request(format!("the body is not valid UTF-8: {error}")))?;
    let mut track = Track::new();
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        deserialize(yaml, &mut track, unknown)
    })
    .map_err(|error| misread(track, "cannot be read", &error.to_string()))
}

/// Reads a value while `track` follows where it is, and tells `unknown` what nobody asked for.
fn deserialize<'de, D, T>(
    from: D,
    track: &mut Track,
    unknown: &mut dyn FnMut(Path<'_>),
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let tracked = serde_path_to_error::Deserializer::new(from, track);
    serde_ignored::deserialize(tracked, unknown)
}

/// `error` says the line and the column itself.
fn misread(track: Track, what: &str, error: &str) -> Problem {
    let path = track.path().to_string();
    // A question mark stands for a key that was not reached.
    match path.trim_end_matches(".?") {
        "." | "?" => Problem::bad_request(format!("the body {what}: {error}")),
        path => Problem::bad_request(format!("{path}: {error}")).with_field(path),
    }
}

fn dotted(path: &Path<'_>) -> String {
    let join = |parent: &Path<'_>, part: &str| match dotted(parent) {
        parent if parent.is_empty() => part.to_owned(),
        parent => format!("{parent}.{part}"),
    };
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", dotted(parent)),
        Path::Map { parent, key } => join(parent, key),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            dotted(parent)
        }
    }
}
