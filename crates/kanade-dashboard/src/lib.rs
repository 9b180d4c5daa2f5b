//! The web page of kanade. Its source is in `ui`; `cargo xtask dashboard` builds it into `ui/dist`, and this crate
//! serves what is there: embedded in a release, read from the folder in a debug build. The page itself speaks only the
//! HTTP API, and this crate knows nothing of it but that its paths begin with `/api`.

mod answer;
mod encoding;

use axum::{Router, extract::Request};
use rust_embed::RustEmbed;

/// What `cargo xtask dashboard` has built. Empty where it has not.
#[derive(RustEmbed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Build;

/// Answers every path to which the page has something to say, and 404 to all others. Open to everybody: the page
/// holds no secret.
pub fn router() -> Router {
    serving::<Build>()
}

fn serving<Files: RustEmbed>() -> Router {
    Router::new().fallback(async |request: Request| answer::to::<Files>(&request.into_parts().0))
}

#[cfg(test)]
mod tests;
