//! Parts of the path. They are percent-decoded one by one, so an id may hold a slash.

use axum::{
    RequestPartsExt,
    extract::{
        FromRequestParts,
        path::ErrorKind,
        rejection::PathRejection::{self, FailedToDeserializePathParams},
    },
};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::{App, problem::Problem};

/// Parts of the path, in their order.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequestParts<App> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match parts.extract::<axum::extract::Path<T>>().await {
            Ok(axum::extract::Path(parts)) => Ok(Self(parts)),
            Err(rejection) => Err(explain(rejection)),
        }
    }
}

fn explain(rejection: PathRejection) -> Problem {
    let FailedToDeserializePathParams(error) = rejection else {
        return Problem::panicked(&rejection.to_string());
    };
    match error.into_kind() {
        ErrorKind::DeserializeError { key, message, .. } => Problem::bad_request(message).with_field(key),
        ErrorKind::InvalidUtf8InPathParam { key } => {
            Problem::bad_request(format!("{key}: the path is not valid UTF-8")).with_field(key)
        }
        kind @ (ErrorKind::WrongNumberOfParameters { .. } | ErrorKind::UnsupportedType { .. }) => {
            Problem::panicked(&kind.to_string())
        }
        kind => Problem::bad_request(kind.to_string()),
    }
}
