//! Who calls: bearer tokens (RFC 6750), either static ones or JSON web tokens.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use kanade_model::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::Problem;

const AUDIENCE: &str = "kanade";
/// Clocks of issuer and server may differ by this many seconds.
const LEEWAY_SECS: u64 = 30;
/// The longest name a web token may give its holder, in bytes.
const LONGEST_SUB: usize = 256;

/// Who may call the API. Never shows its secrets.
#[derive(Clone, Default)]
pub enum Auth {
    /// Everybody; only sensible where nobody else can connect.
    #[default]
    None,
    /// Whoever has one of these tokens.
    Tokens(Vec<NamedToken>),
    /// Whoever has a JSON web token (RFC 7519) for the audience `kanade`, with `exp` and `sub`, signed with this
    /// secret (HS256; 32 random bytes or more).
    Jwt {
        /// The secret.
        secret: String,
    },
}

/// A static token and whose it is.
#[derive(Clone)]
pub struct NamedToken {
    /// The name that stands in the audit trail.
    pub name: String,
    /// What is sent as `Authorization: Bearer …`.
    pub token: String,
}

impl Auth {
    /// How callers show who they are, as `auth.mode` names it.
    pub(crate) fn mode(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tokens(_) => "token",
            Self::Jwt { .. } => "jwt",
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Tokens(tokens) => f.debug_tuple("Tokens").field(tokens).finish(),
            Self::Jwt { .. } => f.write_str("Jwt"),
        }
    }
}

impl fmt::Debug for NamedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedToken")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Tells who calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authenticator(Arc<Mode>);

enum Mode {
    None,
    Tokens(Vec<Known>),
    Jwt {
        key: DecodingKey,
        validation: Box<Validation>,
    },
}

/// A token that is known.
struct Known {
    name: String,
    /// Digests have one length, so that comparing them tells nothing about the tokens.
    digest: [u8; 32],
}

impl Authenticator {
    pub(crate) fn new(auth: &Auth) -> Self {
        let known = |token: &NamedToken| Known {
            name: token.name.clone(),
            digest: Sha256::digest(&token.token).into(),
        };
        Self(Arc::new(match auth {
            Auth::None => Mode::None,
            Auth::Tokens(tokens) => Mode::Tokens(tokens.iter().map(known).collect()),
            Auth::Jwt { secret } => Mode::Jwt {
                key: DecodingKey::from_secret(secret.as_bytes()),
                validation: Box::new(validation()),
            },
        }))
    }

    /// Whose request has these headers.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Identity, Problem> {
        match &*self.0 {
            Mode::None => Ok(Identity::default()),
            Mode::Tokens(tokens) => by_token(tokens, bearer(headers)?),
            Mode::Jwt { key, validation } => by_jwt(key, validation, bearer(headers)?),
        }
    }
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY_SECS;
    validation
}

/// Who calls, as far as known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name.
    pub(crate) sub: Option<String>,
    /// When the token ends.
    pub(crate) expires: Option<Timestamp>,
}

/// Lets a request pass that says who calls.
pub(crate) async fn require(State(auth): State<Authenticator>, mut request: Request, next: Next) -> Response {
    match auth.identify(request.headers()) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The token that is sent.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    const WANTED: &str = "a token is wanted: `Authorization: Bearer …`";
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::unauthorized(WANTED, None));
    };
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or_else(|| Problem::unauthorized(WANTED, Some("invalid_request")))
}

fn by_token(tokens: &[Known], given: &str) -> Result<Identity, Problem> {
    let given: [u8; 32] = Sha256::digest(given).into();
    let mut found = None;
    // All are compared, so that the time taken does not tell which one came close.
    for token in tokens {
        if bool::from(token.digest.ct_eq(&given)) {
            found = Some(token);
        }
    }
    match found {
        Some(token) => Ok(Identity {
            sub: Some(token.name.clone()),
            expires: None,
        }),
        None => Err(refused("this token is not known")),
    }
}

/// What is read of a token; whether it is there is checked before it is used.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    /// Seconds since 1970; some issuers write fractions.
    #[serde(default)]
    exp: f64,
}

fn by_jwt(key: &DecodingKey, validation: &Validation, given: &str) -> Result<Identity, Problem> {
    use jsonwebtoken::errors::ErrorKind;

    let error = match jsonwebtoken::decode::<Claims>(given, key, validation) {
        Ok(token) => return holder(token.claims),
        Err(error) => error,
    };
    let why = match error.kind() {
        ErrorKind::InvalidSignature => "this server does not know its signature",
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidAudience => "it is not meant for the audience `kanade`",
        ErrorKind::MissingRequiredClaim(_) => "it must say `exp`, `aud` and `sub`",
        ErrorKind::InvalidAlgorithm => "it must be signed with HS256",
        _ => "it cannot be read",
    };
    Err(refused(&format!("this token is not accepted: {why}")))
}

fn holder(claims: Claims) -> Result<Identity, Problem> {
    let readable = !claims.sub.trim().is_empty()
        && claims.sub.len() <= LONGEST_SUB
        && !claims.sub.chars().any(char::is_control);
    if !readable {
        return Err(refused(
            "this token is not accepted: its `sub` must be a readable name",
        ));
    }
    let lifetime = Duration::try_from_secs_f64(claims.exp).unwrap_or(Duration::MAX);
    Ok(Identity {
        sub: Some(claims.sub),
        expires: Some(Timestamp::UNIX_EPOCH.plus(lifetime)),
    })
}

fn refused(detail: &str) -> Problem {
    Problem::unauthorized(detail, Some("invalid_token"))
}
