//! `Idempotency-Key`: makes a fire repeatable, after a lost answer for example.

use axum::extract::FromRequestParts;
use http::{HeaderName, request::Parts};
use kanade_core::Repeatable;
use kanade_model::{Caller, FanoutPlan, Invalid, JobId};
use serde::Serialize;
use sha2::{Digest, Sha256};

use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::printable;
use crate::{App, openapi::header, problem::Problem};

/// In which a caller gives its key.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const LONGEST_KEY: usize = 255;

/// A caller's key, if it gives one.
pub(crate) struct IdempotencyKey(Option<String>);

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![header(
            "Idempotency-Key",
            "1 to 255 printable ASCII characters, remembered for a day for this caller and job",
        )]
    }
}

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let mut keys = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        match (keys.next(), keys.next()) {
            (None, _) => Ok(Self(None)),
            (Some(key), None) => match printable(key, LONGEST_KEY) {
                Some(key) => Ok(Self(Some(key.to_owned()))),
                None => Err(refused(&String::from_utf8_lossy(key.as_bytes()))),
            },
            (Some(_), Some(_)) => Err(refused("more than one")),
        }
    }
}

fn refused(key: &str) -> Problem {
    let allowed = format!("one key of 1 to {LONGEST_KEY} printable ASCII characters is wanted");
    Invalid::new("Idempotency-Key", key, allowed).into()
}

impl IdempotencyKey {
    /// What `caller` asks for under this key. Two callers, or fires of two jobs, never share one.
    pub(crate) fn repeatable(&self, caller: &Caller, job: &JobId, plan: &FanoutPlan) -> Option<Repeatable> {
        self.0.as_ref().map(|key| Repeatable {
            key: digest(&(&caller.sub, job, key)),
            fingerprint: digest(&(job, plan)),
        })
    }

    /// The key as the caller wrote it.
    pub(crate) fn as_written(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// The SHA-256 of a value's JSON, in hex.
fn digest(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("made of texts and documents with string keys");
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_callers_and_jobs_never_meet() {
        let key = IdempotencyKey(Some("k".into()));
        let caller = |sub: Option<&str>| Caller {
            sub: sub.map(Into::into),
            ..Caller::operator()
        };
        let plan = FanoutPlan::default();
        let scoped = |sub, job: &str| {
            let job = job.parse().unwrap();
            key.repeatable(&caller(sub), &job, &plan).unwrap().key
        };
        let all = [
            scoped(None, "a"),
            scoped(Some("anonymous"), "a"),
            scoped(Some("b"), "a"),
            scoped(None, "b"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one));
        }
        assert_eq!(scoped(None, "a"), scoped(None, "a"));
    }
}
