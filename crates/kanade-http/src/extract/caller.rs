//! Who asks for a change: the person as the token says, the program as it names itself.

use axum::extract::FromRequestParts;
use http::{HeaderName, request::Parts};
use kanade_model::{Caller, Invalid};

use super::printable;
use crate::{App, auth::Identity, problem::Problem};

/// In which a program names itself.
pub(crate) const SOURCE: HeaderName = HeaderName::from_static("x-kanade-source");
const LONGEST_SOURCE: usize = 64;

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let sub = parts
            .extensions
            .get::<Identity>()
            .and_then(|identity| identity.sub.clone());
        let source = match parts.headers.get(SOURCE) {
            None => None,
            Some(source) => match printable(source, LONGEST_SOURCE) {
                Some(source) => Some(source.to_owned()),
                None => {
                    let given = String::from_utf8_lossy(source.as_bytes());
                    let allowed = format!("1 to {LONGEST_SOURCE} printable ASCII characters are wanted");
                    return Err(Invalid::new("X-Kanade-Source", given, allowed).into());
                }
            },
        };
        Ok(Self {
            sub,
            source,
            ..Self::operator()
        })
    }
}
