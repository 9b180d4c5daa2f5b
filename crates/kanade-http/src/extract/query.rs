//! Query parameters. One without a value counts as absent.

use std::{fmt::Display, str::FromStr};

use axum::extract::FromRequestParts;
use http::{Uri, request::Parts};
use kanade_model::Invalid;
use kanade_ports::TextFilter;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{App, problem::Problem};

/// The query parameters that a route knows; others are not looked at.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        read(&parts.uri).map(Self)
    }
}

/// Reads the parameters of `uri`, each given at most once.
pub(crate) fn read<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Problem::bad_request(format!("the query cannot be read: {error}")))?;
    let mut values = Map::new();
    for (name, value) in pairs.0.into_iter().filter(|(_, value)| !value.is_empty()) {
        if values.contains_key(&name) {
            let detail = format!("{name}: the parameter is given twice");
            return Err(Problem::bad_request(detail).with_field(name));
        }
        values.insert(name, Value::String(value));
    }
    serde_path_to_error::deserialize(Value::Object(values)).map_err(|error| {
        let field = error.path().to_string();
        Problem::bad_request(format!("{field}: {}", error.inner())).with_field(field)
    })
}

/// A parameter that is read from its text.
pub(crate) fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    let parse = |text: String| {
        text.parse()
            .map_err(|error| serde::de::Error::custom(format!("`{text}` is not valid: {error}")))
    };
    text.map(parse).transpose()
}

/// A parameter that is a regular expression.
pub(crate) fn filter(field: &str, pattern: Option<String>) -> Result<Option<TextFilter>, Invalid> {
    pattern
        .map(|pattern| TextFilter::parse(field, &pattern))
        .transpose()
}
