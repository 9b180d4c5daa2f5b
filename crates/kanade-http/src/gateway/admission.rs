//! Who may come in as an agent, decided by the upgrade request alone.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONNECTION, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE},
    request::Parts,
};
use kanade_model::{Invalid, PcId};
use kanade_ports::frame::{KEY_HEADER, SUBPROTOCOL};
use serde::Deserialize;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{registry::AgentKey, token};
use crate::{AgentToken, auth, extract, origin, problem::Problem};

const WHY_LOCAL: &str = "a server without tokens for agents lets in only agents on its own machine; configure \
                         `auth.agent_tokens` to let in others";
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// An agent that may come in, as far as its request tells.
pub(super) struct Applicant {
    pub(super) pc: PcId,
    pub(super) key: AgentKey,
    /// The name of its token.
    pub(super) token: Option<String>,
    /// The proof that its upgrade was understood.
    pub(super) accept: HeaderValue,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    pc_id: String,
}

impl Applicant {
    /// Reads an upgrade request. Who may not come in learns nothing but that.
    pub(super) fn new(tokens: &[AgentToken], request: &Parts) -> Result<Self, Problem> {
        let (pc, token) = agent(tokens, request)?;
        Ok(Self {
            pc,
            token,
            accept: handshake(request)?,
            key: agent_key(&request.headers)?,
        })
    }
}

/// Which agent asks, and the name of its token, if it may ask anything here.
pub(super) fn agent(tokens: &[AgentToken], request: &Parts) -> Result<(PcId, Option<String>), Problem> {
    let headers = &request.headers;
    if headers.contains_key(ORIGIN) {
        let detail = "a web page cannot be an agent: an agent sends no `Origin`";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let known = if tokens.is_empty() {
        origin::require_local(request, WHY_LOCAL)?;
        Vec::new()
    } else {
        token::known(tokens, auth::bearer(headers)?)?
    };
    let pc = pc_id(request)?;
    let token = match known.is_empty() {
        true => None,
        false => Some(token::for_agent(&known, &pc)?.name.clone()),
    };
    Ok((pc, token))
}

/// Which agent a request says it is of.
pub(super) fn pc_id(request: &Parts) -> Result<PcId, Problem> {
    let Named { pc_id } = extract::read(&request.uri)?;
    let pc: PcId = pc_id.parse().map_err(in_query)?;
    pc.check().map_err(in_query)?;
    Ok(pc)
}

fn in_query(invalid: Invalid) -> Problem {
    let field = "pc_id".to_owned();
    Invalid { field, ..invalid }.into()
}

fn agent_key(headers: &HeaderMap) -> Result<AgentKey, Problem> {
    let mut keys = headers.get_all(KEY_HEADER).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key.as_bytes(),
        _ => b"",
    };
    if !KEY_LENGTHS.contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        let detail = format!(
            "`{KEY_HEADER}` must be {} to {} visible ASCII characters that the agent made up once and keeps",
            KEY_LENGTHS.start(),
            KEY_LENGTHS.end()
        );
        return Err(Problem::bad_request(detail).with_field(KEY_HEADER));
    }
    Ok(AgentKey::of(key))
}

/// Checks the opening handshake (RFC 6455, section 4.2.1) and answers it.
fn handshake(request: &Parts) -> Result<HeaderValue, Problem> {
    let headers = &request.headers;
    let is_upgrade = request.method == Method::GET
        && request.version == Version::HTTP_11
        && names(headers, CONNECTION, |name| name.eq_ignore_ascii_case("upgrade"))
        && names(headers, UPGRADE, |name| name.eq_ignore_ascii_case("websocket"));
    if !is_upgrade {
        let detail = "agents come here by WebSocket (RFC 6455 over HTTP/1.1)";
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
            .with_header(UPGRADE, HeaderValue::from_static("websocket")));
    }
    if !names(headers, SEC_WEBSOCKET_VERSION, |version| version == "13") {
        let detail = "only version 13 of the WebSocket protocol is spoken here";
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
            .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    if !names(headers, SEC_WEBSOCKET_PROTOCOL, |protocol| {
        protocol == SUBPROTOCOL
    }) {
        let detail =
            format!("`Sec-WebSocket-Protocol` must name `{SUBPROTOCOL}`, which is what is spoken here");
        return Err(Problem::bad_request(detail).with_field(SEC_WEBSOCKET_PROTOCOL.as_str()));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| {
        Problem::bad_request("`Sec-WebSocket-Key` is missing").with_field(SEC_WEBSOCKET_KEY.as_str())
    })?;
    let accept = derive_accept_key(key.as_bytes());
    Ok(HeaderValue::try_from(accept).expect("base64 is visible characters"))
}

/// Whether one of the words of a header, which are separated by commas, is meant.
fn names(headers: &HeaderMap, header: HeaderName, is_meant: impl Fn(&str) -> bool) -> bool {
    let values = headers.get_all(header);
    let mut words = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|word| is_meant(word.trim()))
}
