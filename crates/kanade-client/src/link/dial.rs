//! Makes a connection: the upgrade of an HTTP request to a WebSocket, or why there is none.

use std::{net::IpAddr, time::Duration};

use kanade_ports::frame::{KEY_HEADER, MAX_FRAME, SUBPROTOCOL};
use reqwest::{
    Response, StatusCode, Upgraded, Url,
    header::{
        AUTHORIZATION, CONNECTION, HeaderMap, HeaderValue, LOCATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    LinkSettings,
    broken::{Broken, one_line},
    releases::Downloads,
    traffic::Observed,
};
use crate::{
    Error,
    client::{address, bearer, causes, transport},
    request::refusal,
};

/// The most that is read of an answer that says no, in bytes.
const READ_OF_A_REFUSAL: usize = 8 << 10;
/// What tungstenite reads at once, and what it collects before it writes, in bytes.
const BUFFER: usize = 32 << 10;

/// A connection on which nothing was said yet.
pub(super) type Socket = WebSocketStream<Observed<Upgraded>>;

/// Knows where the server is and what to tell it.
pub(super) struct Dialer {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    patience: Duration,
    server: String,
}

impl Dialer {
    pub(super) fn new(settings: &LinkSettings) -> Result<Self, Error> {
        let base = server(&settings.server)?;
        let is_plain = base.scheme() == "http";
        if is_plain && !settings.allow_plaintext && !is_loopback(&base) {
            let sentence = format!(
                "the key of this agent, and its token, would go to {} unencrypted; use an https address, or \
                 --allow-plaintext in a network where nobody else can listen",
                base.origin().ascii_serialization()
            );
            return Err(Error::Argument(sentence));
        }
        let http = transport(settings.ca.as_deref(), |builder| {
            let builder = builder.http1_only().pool_max_idle_per_host(0);
            if is_plain {
                // No proxy gets to see what is not encrypted, and no certificates are needed.
                builder.no_proxy().tls_certs_only([])
            } else if is_loopback(&base) {
                builder.no_proxy()
            } else {
                builder
            }
        })?;
        Ok(Self {
            http,
            server: shown(&base),
            url: gateway(base, settings),
            headers: headers(settings)?,
            patience: settings.timing.connect,
        })
    }

    /// How the same agent downloads programs.
    pub(super) fn downloads(&self) -> Downloads {
        let authorization = self.headers.get(AUTHORIZATION).cloned();
        Downloads::new(self.http.clone(), &self.url, authorization, self.patience)
    }

    /// The address of the server, for people.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Tries once.
    pub(super) async fn dial(&self) -> Result<Socket, Broken> {
        let key = generate_key();
        let request = self
            .http
            .get(self.url.clone())
            .headers(self.headers.clone())
            .header(SEC_WEBSOCKET_KEY, &key);
        let response = timeout(self.patience, request.send())
            .await
            .map_err(|_| Broken::TooLate(self.patience))?
            .map_err(|error| self.unreachable(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refused(response).await);
        }
        agreed(&response, &key)?;
        let stream = timeout(self.patience, response.upgrade())
            .await
            .map_err(|_| Broken::TooLate(self.patience))?
            .map_err(|error| self.unreachable(&error))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        Ok(WebSocketStream::from_raw_socket(Observed::new(stream), Role::Client, Some(config)).await)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Broken {
        let mut cause = causes(error);
        if cause.contains("UnknownIssuer") {
            cause.push_str("; if its certificate is signed by an authority of your own, name that with --ca");
        }
        Broken::Unreachable {
            server: self.server.clone(),
            cause,
        }
    }

    async fn refused(&self, response: Response) -> Broken {
        let status = response.status();
        let text = match response.headers().get(LOCATION) {
            Some(to) if status.is_redirection() => format!(
                "{status}, it points to {}; use the address of the server itself",
                String::from_utf8_lossy(to.as_bytes())
            ),
            _ if status.is_success() => format!(
                "it answers {status} to the request for a WebSocket; does a proxy stand between that lets none through?"
            ),
            _ => {
                let body = beginning(response, self.patience).await;
                let said = refusal(format!("GET {}", self.url.path()), status, &body).to_string();
                match status {
                    StatusCode::NOT_FOUND => format!("{said}; is the server of an older version?"),
                    _ => said,
                }
            }
        };
        Broken::Refused {
            status,
            text: one_line(&text),
        }
    }
}

/// As much of an answer as is worth reading.
async fn beginning(mut response: Response, patience: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= READ_OF_A_REFUSAL {
                break;
            }
        }
    };
    // The status says enough if the rest does not come.
    let _ = timeout(patience, reading).await;
    body.truncate(READ_OF_A_REFUSAL);
    body
}

/// Checks what RFC 6455, section 4.1, asks of the answer.
fn agreed(response: &Response, key: &str) -> Result<(), Broken> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if !header(UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case("websocket")) {
        return Err(Broken::Foreign("it switches to another protocol"));
    }
    if header(SEC_WEBSOCKET_ACCEPT) != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Err(Broken::Foreign("its answer belongs to another request"));
    }
    if header(SEC_WEBSOCKET_PROTOCOL) != Some(SUBPROTOCOL) {
        return Err(Broken::Foreign("is it of another version?"));
    }
    Ok(())
}

fn server(text: &str) -> Result<Url, Error> {
    let (scheme, rest) = text
        .trim()
        .split_once("://")
        .ok_or_else(|| Error::address(text))?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "ws" => "http",
        "wss" => "https",
        _ => scheme,
    };
    let base = address(&format!("{scheme}://{rest}")).map_err(|_| Error::address(text))?;
    if !base.username().is_empty() || base.password().is_some() {
        let sentence =
            "leave name and password out of the address of the server; an agent has a token instead";
        return Err(Error::Argument(sentence.into()));
    }
    Ok(base)
}

fn shown(base: &Url) -> String {
    let path = base.path().trim_end_matches('/');
    format!("{}{path}", base.origin().ascii_serialization())
}

fn gateway(mut base: Url, settings: &LinkSettings) -> Url {
    base.path_segments_mut()
        .expect("http and https have a path")
        .pop_if_empty()
        .extend(["api", "agent", "ws"]);
    base.query_pairs_mut()
        .append_pair("pc_id", settings.pc_id.as_str());
    base
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn headers(settings: &LinkSettings) -> Result<HeaderMap, Error> {
    let mut key = HeaderValue::from_str(&settings.key)
        .ok()
        .filter(|key| !key.is_empty())
        .ok_or_else(|| {
            Error::Argument("the key of this agent cannot be sent; it is one line of plain text".into())
        })?;
    key.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    headers.insert(KEY_HEADER, key);
    if let Some(token) = &settings.token {
        headers.insert(AUTHORIZATION, bearer(token)?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(server: &str) -> LinkSettings {
        LinkSettings::new(server, "web&1".parse().unwrap(), "k3y")
    }

    #[test]
    fn the_gateway_is_below_the_path_of_the_server() {
        for (server, url) in [
            ("https://h", "https://h/api/agent/ws?pc_id="),
            ("WSS://h:8443/fleet/", "https://h:8443/fleet/api/agent/ws?pc_id="),
            (
                " ws://127.0.0.1:8080 ",
                "http://127.0.0.1:8080/api/agent/ws?pc_id=",
            ),
            (
                "http://localhost/a?x=1#y",
                "http://localhost/a/api/agent/ws?pc_id=",
            ),
        ] {
            let dialer = Dialer::new(&settings(server)).unwrap();
            assert_eq!(dialer.url.as_str(), format!("{url}web%261"), "{server}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_server_is_refused() {
        for server in ["", "h", "h:8080", "ftp://h", "http://", "ws://"] {
            let error = Dialer::new(&settings(server)).err().unwrap();
            assert!(matches!(error, Error::Address(_)), "{server:?}: {error}");
        }
    }

    #[test]
    fn secrets_go_unencrypted_to_this_machine_only() {
        for server in [
            "http://127.0.0.1:1",
            "ws://127.9.9.9",
            "http://[::1]:1",
            "http://localhost",
            "http://LOCALHOST:1",
            "ws://a.localhost",
            "https://kanade.example",
        ] {
            assert!(Dialer::new(&settings(server)).is_ok(), "{server}");
        }
        for server in [
            "http://kanade.example",
            "ws://192.168.0.1:8080",
            "http://localhost.example",
            "http://notlocalhost",
            "http://0.0.0.0",
            "http://[::]",
        ] {
            let error = Dialer::new(&settings(server)).err().unwrap().to_string();
            assert!(
                error.contains("https") && error.contains("--allow-plaintext"),
                "{server}: {error}"
            );
            let mut settings = settings(server);
            settings.allow_plaintext = true;
            assert!(Dialer::new(&settings).is_ok(), "{server}");
        }
    }

    #[test]
    fn secrets_that_cannot_be_sent_are_refused_and_not_shown() {
        let broken = |change: fn(&mut LinkSettings)| {
            let mut settings = settings("https://h");
            change(&mut settings);
            let shown = format!("{settings:?}");
            let error = Dialer::new(&settings).err().unwrap();
            assert!(matches!(error, Error::Argument(_)), "{error}");
            format!("{error} {shown}")
        };
        for told in [
            broken(|settings| settings.key = "s3\ncret".into()),
            broken(|settings| settings.key = String::new()),
            broken(|settings| settings.token = Some("s3\ncret".into())),
            broken(|settings| settings.ca = Some(b"s3cret".to_vec())),
            broken(|settings| settings.server = "https://me:s3cret@h".into()),
        ] {
            let told = told.split(" LinkSettings").next().unwrap();
            assert!(!told.contains("s3"), "{told}");
        }
        let mut settings = settings("https://h");
        settings.token = Some("s3cret".into());
        let shown = format!("{settings:?}");
        assert!(!shown.contains("k3y") && !shown.contains("s3cret"), "{shown}");
    }
}
