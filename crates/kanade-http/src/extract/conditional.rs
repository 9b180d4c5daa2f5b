//! Conditional requests (RFC 9110, section 13): an entity tag is the revision of a catalog document, in quotes.

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ETAG, IF_MATCH, IF_NONE_MATCH},
    request::Parts,
};
use kanade_core::Error;
use kanade_ports::{Precondition, Revision};

use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use crate::{App, openapi::header, problem::Problem};

/// The tag of a document in an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ETag(pub(crate) Revision);

impl IntoResponseParts for ETag {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Self::Error> {
        let tag = HeaderValue::try_from(format!("\"{}\"", self.0)).expect("a revision is made of digits");
        response.headers_mut().insert(ETAG, tag);
        Ok(response)
    }
}

/// A body with its tag, left out when the caller has it.
pub(crate) struct Unless<B>(pub(crate) IfNoneMatch, pub(crate) ETag, pub(crate) B);

impl<B: IntoResponse> IntoResponse for Unless<B> {
    fn into_response(self) -> Response {
        let Self(known, tag, body) = self;
        if known.has(tag.0) {
            (StatusCode::NOT_MODIFIED, tag, ()).into_response()
        } else {
            (tag, body).into_response()
        }
    }
}

/// What a reader has already.
pub(crate) struct IfNoneMatch(Option<Tags>);

impl IfNoneMatch {
    fn has(&self, revision: Revision) -> bool {
        match &self.0 {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::These(tags)) => tags.iter().any(|tag| tag.revision == Some(revision)),
        }
    }
}

impl IntoParams for IfNoneMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header(
            "If-None-Match",
            "Entity tags the caller has; `304` if it is one of them",
        )]
    }
}

impl FromRequestParts<App> for IfNoneMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Tags::read(&parts.headers, &IF_NONE_MATCH).map(Self)
    }
}

/// On what a writer's change depends.
pub(crate) enum IfMatch {
    /// Nothing.
    Nothing,
    /// The document is not there.
    Absent,
    /// It is there.
    Present,
    /// It has this revision.
    At(Revision),
    /// It has a revision it cannot have.
    Never,
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            header(
                "If-Match",
                "Only if the document has this entity tag; `*`: only if it exists",
            ),
            header("If-None-Match", "`*`: only if the document does not exist"),
        ]
    }
}

impl FromRequestParts<App> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let wanted = Tags::read(&parts.headers, &IF_MATCH)?;
        let unwanted = Tags::read(&parts.headers, &IF_NONE_MATCH)?;
        match (wanted, unwanted) {
            (None, None) => Ok(Self::Nothing),
            (None, Some(Tags::Any)) => Ok(Self::Absent),
            (Some(Tags::Any), None) => Ok(Self::Present),
            (Some(Tags::These(tags)), None) => {
                match tags.as_slice() {
                    [tag] if !tag.weak => Ok(tag.revision.map_or(Self::Never, Self::At)),
                    [_] => Ok(Self::Never),
                    _ => Err(Problem::bad_request("If-Match: one entity tag or `*` is wanted")
                        .with_field("If-Match")),
                }
            }
            (None, Some(Tags::These(_))) => Err(Problem::bad_request(
                "If-None-Match: a change can only depend on `*`",
            )
            .with_field("If-None-Match")),
            (Some(_), Some(_)) => Err(Problem::bad_request(
                "If-Match: it cannot be combined with If-None-Match",
            )
            .with_field("If-Match")),
        }
    }
}

impl IfMatch {
    /// The same as the catalog knows it; `current` tells the document's revision where that matters.
    pub(crate) async fn precondition(
        &self,
        current: impl Future<Output = Result<Revision, Error>>,
    ) -> Result<Precondition, Problem> {
        match self {
            Self::Nothing => Ok(Precondition::Any),
            Self::Absent => Ok(Precondition::Absent),
            Self::At(revision) => Ok(Precondition::At(*revision)),
            Self::Never => Err(failed("If-Match: the document has another entity tag")),
            Self::Present => match current.await {
                Ok(revision) => Ok(Precondition::At(revision)),
                Err(Error::NotFound { .. }) => Err(failed("If-Match: the document does not exist")),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// What came of a change: one that was asked for under a condition failed because of it.
    pub(crate) fn judge<T>(&self, done: Result<T, Error>) -> Result<T, Problem> {
        done.map_err(|error| {
            let changed = matches!(error, Error::Changed { .. });
            let problem = Problem::from(error);
            match self {
                Self::Absent if changed => failed("If-None-Match: the document exists already"),
                Self::Nothing => problem,
                _ if changed => problem.with_status(StatusCode::PRECONDITION_FAILED),
                _ => problem,
            }
        })
    }
}

/// On what a deletion depends: as [`IfMatch`], but never on there being nothing to delete.
pub(crate) struct DeleteIf(pub(crate) IfMatch);

impl IntoParams for DeleteIf {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header(
            "If-Match",
            "Only if the document has this entity tag; `*`: only if it exists",
        )]
    }
}

impl FromRequestParts<App> for DeleteIf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match IfMatch::from_request_parts(parts, app).await? {
            IfMatch::Absent => Err(Problem::bad_request(
                "If-None-Match: a deletion can only depend on If-Match",
            )
            .with_field("If-None-Match")),
            condition => Ok(Self(condition)),
        }
    }
}

fn failed(detail: &str) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, detail)
}

#[derive(Debug, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// None for a tag this server never gave.
    revision: Option<Revision>,
}

impl Tags {
    fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let malformed = || {
            let name = if name == IF_MATCH {
                "If-Match"
            } else {
                "If-None-Match"
            };
            let detail = format!("{name}: `*` or entity tags in double quotes are wanted");
            Problem::bad_request(detail).with_field(name)
        };
        let mut tags = Vec::new();
        for value in headers.get_all(name) {
            let value = value.to_str().map_err(|_| malformed())?.trim();
            if value == "*" {
                return Ok(Some(Self::Any));
            }
            for tag in value.split(',') {
                tags.push(Tag::read(tag.trim()).ok_or_else(malformed)?);
            }
        }
        Ok((!tags.is_empty()).then_some(Self::These(tags)))
    }
}

impl Tag {
    fn read(text: &str) -> Option<Self> {
        let (weak, quoted) = match text.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let opaque = quoted.strip_prefix('"')?.strip_suffix('"')?;
        Some(Self {
            weak,
            revision: opaque.parse().ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Option<Tags> {
        let header = |value: &&'static str| (IF_MATCH, HeaderValue::from_static(value));
        Tags::read(&values.iter().map(header).collect(), &IF_MATCH).unwrap()
    }

    fn tag(weak: bool, revision: Option<u64>) -> Tag {
        Tag {
            weak,
            revision: revision.map(Revision),
        }
    }

    #[test]
    fn entity_tags_are_read_from_one_header_or_several() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["*"]), Some(Tags::Any));
        assert_eq!(read(&["\"7\""]), Some(Tags::These(vec![tag(false, Some(7))])));
        assert_eq!(
            read(&["W/\"7\", \"8\"", "\"else\""]),
            Some(Tags::These(vec![
                tag(true, Some(7)),
                tag(false, Some(8)),
                tag(false, None)
            ]))
        );
        for malformed in ["7", "\"7", "W/7", "\"7\",", ""] {
            let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(malformed))]);
            assert!(Tags::read(&headers, &IF_MATCH).is_err(), "{malformed:?}");
        }
    }
}
