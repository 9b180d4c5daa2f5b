//! The client itself: where the server is, who is asking, how long to wait.

use std::time::Duration;

use reqwest::{
    Certificate, ClientBuilder, Method, Url,
    header::{AUTHORIZATION, HeaderValue},
    redirect::Policy,
};

use crate::{Error, request::Call};

const CONNECT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(35);

/// A client of one kanade server. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    authorization: Option<HeaderValue>,
    source: HeaderValue,
    timeout: Duration,
}

impl Client {
    /// A client of the server at `base_url` (`http://host:port`, a path in front of `/api` is kept), with a bearer
    /// token where the server asks for one. Does not connect yet.
    ///
    /// # Errors
    /// [`Error::Address`] when the address is not a http or https one, [`Error::Argument`] when the token cannot be
    /// sent, [`Error::Transport`] when the system's certificates cannot be read.
    pub fn new(base_url: &str, token: Option<&str>) -> Result<Self, Error> {
        Self::build(base_url, token, None)
    }

    /// The same as [`new`](Self::new) for a server whose certificate is signed by an authority of one's own: the
    /// certificates in `ca_pem` (one or more in PEM) are trusted besides those of the system.
    ///
    /// # Errors
    /// Those of `new`, and [`Error::Argument`] when `ca_pem` holds no certificate, or one that cannot be used.
    pub fn trusting(base_url: &str, token: Option<&str>, ca_pem: &[u8]) -> Result<Self, Error> {
        Self::build(base_url, token, Some(ca_pem))
    }

    fn build(base_url: &str, token: Option<&str>, ca_pem: Option<&[u8]>) -> Result<Self, Error> {
        let http = transport(ca_pem, |builder| builder.connect_timeout(CONNECT))?;
        Ok(Self {
            http,
            base: address(base_url)?,
            authorization: token.map(bearer).transpose()?,
            source: HeaderValue::from_static("cli"),
            timeout: TIMEOUT,
        })
    }

    /// The same client under another name in `X-Kanade-Source`, which goes into the audit trail; `cli` by default.
    ///
    /// # Errors
    /// [`Error::Argument`] when the name cannot be sent in a header.
    pub fn with_source(mut self, source: &str) -> Result<Self, Error> {
        self.source = HeaderValue::from_str(source)
            .map_err(|_| Error::Argument(format!("`{source}` cannot be sent as the name of a program")))?;
        Ok(self)
    }

    /// The same client with another time that an ordinary request may take; 35 s by default, a little more than the
    /// server gives itself. Requests that wait for an agent add what they wait for.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the server is.
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request for the path of these segments, each of which may hold any character.
    pub(crate) fn call(&self, method: Method, segments: &[&str]) -> Result<Call, Error> {
        let mut url = self.base.clone();
        for segment in segments {
            // A URL that has them as a segment means another path, even in their percent-encoded form.
            if matches!(*segment, "" | "." | "..") {
                return Err(Error::Argument(format!("`{segment}` cannot be used as an id")));
            }
        }
        url.path_segments_mut()
            .map_err(|()| Error::address(self.base.as_str()))?
            .pop_if_empty()
            .extend(segments);
        let name = format!("{method} {url}");
        let mut request = self
            .http
            .request(method, url.clone())
            .header("x-kanade-source", &self.source);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        Ok(Call::new(request, name, url, self.timeout))
    }
}

/// What sends requests: trusts `ca_pem` besides the system's certificates and goes nowhere else than it was told.
pub(crate) fn transport(
    ca_pem: Option<&[u8]>,
    set_up: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<reqwest::Client, Error> {
    // Following a redirect would repeat a POST as a GET, and show the token to whoever is pointed at.
    let builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .user_agent(concat!("kanade-client/", env!("CARGO_PKG_VERSION")));
    let builder = set_up(builder);
    let Some(pem) = ca_pem else {
        return builder.build().map_err(Error::Transport);
    };
    let certificates = Certificate::from_pem_bundle(pem).unwrap_or_default();
    if certificates.is_empty() {
        let what =
            "there is no certificate in what is to be trusted; it is PEM text with `BEGIN CERTIFICATE`";
        return Err(Error::Argument(what.into()));
    }
    // With certificates of its own it does without those of the system, so it is these that are wrong.
    builder.tls_certs_merge(certificates).build().map_err(|error| {
        let what = "a certificate that is to be trusted cannot be used";
        Error::Argument(format!("{what}: {}", causes(&error)))
    })
}

/// What lies under an error, in words.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut told = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let mut under = error.source().and_then(std::error::Error::source);
    while let Some(cause) = under {
        told = format!("{told}: {cause}");
        under = cause.source();
    }
    told
}

/// The address of a server, without anything behind its path.
pub(crate) fn address(text: &str) -> Result<Url, Error> {
    let mut url: Url = text.trim().parse().map_err(|_| Error::address(text))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Error::address(text));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// The value of the `Authorization` header.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| {
        Error::Argument("the token holds characters that cannot be sent; is it the whole token?".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(base: &str, segments: &[&str]) -> String {
        Client::new(base, None)
            .unwrap()
            .call(Method::GET, segments)
            .unwrap()
            .url()
            .to_string()
    }

    #[test]
    fn an_id_is_one_segment_whatever_it_holds() {
        for (id, path) in [
            ("backup", "backup"),
            ("a/b=c", "a%2Fb=c"),
            ("50% of all?#", "50%25%20of%20all%3F%23"),
            ("ünï", "%C3%BCn%C3%AF"),
            ("%2e%2e", "%252e%252e"),
        ] {
            assert_eq!(
                url("http://h:1", &["api", "jobs", id]),
                format!("http://h:1/api/jobs/{path}")
            );
        }
    }

    #[test]
    fn a_path_in_front_of_the_api_is_kept() {
        for base in ["https://h/fleet", "https://h/fleet/", "https://h/fleet/?x=1#y"] {
            assert_eq!(url(base, &["health"]), "https://h/fleet/health");
        }
    }

    #[test]
    fn an_id_that_would_lead_elsewhere_is_refused() {
        let client = Client::new("http://h", None).unwrap();
        for id in ["..", ".", ""] {
            let error = client.call(Method::DELETE, &["api", "jobs", id]).unwrap_err();
            assert!(matches!(error, Error::Argument(_)), "{id:?}: {error}");
        }
    }

    #[test]
    fn an_address_without_a_scheme_is_told_with_an_example() {
        for text in ["localhost:8080", "h", "", "ftp://h", "http://"] {
            let error = Client::new(text, None).unwrap_err();
            assert!(
                error.to_string().contains("http://127.0.0.1:8080"),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn what_is_no_certificate_cannot_be_trusted() {
        for pem in [
            "",
            "ca.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = Client::trusting("https://h", None, pem.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Argument(_)), "{pem:?}: {error}");
            assert!(error.to_string().contains("certificate"), "{error}");
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let client = Client::new("http://h", Some("s3cret")).unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
        let error = Client::new("http://h", Some("s3\ncret")).unwrap_err();
        assert!(!error.to_string().contains("s3"), "{error}");
    }
}
