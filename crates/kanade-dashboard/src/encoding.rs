//! Files that were packed when the page was built, beside the plain ones: `app.js.br`, `app.js.gz`.

use http::{HeaderMap, header::ACCEPT_ENCODING};
use rust_embed::{EmbeddedFile, RustEmbed};

/// Smallest first.
const PACKINGS: [(&str, &str); 2] = [("br", "br"), ("gzip", "gz")];

/// The smallest packing of a file that the caller takes, with its name in HTTP.
pub(crate) fn packed<Files: RustEmbed>(
    name: &str,
    headers: &HeaderMap,
) -> Option<(&'static str, EmbeddedFile)> {
    let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
    PACKINGS
        .iter()
        .filter(|(encoding, _)| takes(accepted, encoding))
        .find_map(|(encoding, suffix)| Some((*encoding, Files::get(&format!("{name}.{suffix}"))?)))
}

fn takes(accepted: &str, encoding: &str) -> bool {
    accepted.split(',').any(|offer| {
        let (name, weight) = offer.split_once(';').unwrap_or((offer, "q=1"));
        let refused = weight
            .trim()
            .strip_prefix("q=")
            .and_then(|weight| weight.trim().parse::<f32>().ok())
            .is_some_and(|weight| weight <= 0.0);
        name.trim().eq_ignore_ascii_case(encoding) && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packing_is_taken_when_it_is_named_and_not_refused() {
        for (accepted, encoding, wanted) in [
            ("gzip, deflate, br, zstd", "br", true),
            ("gzip, deflate, br, zstd", "gzip", true),
            ("GZIP;q=0.5", "gzip", true),
            ("gzip;q=0, br", "gzip", false),
            ("gzip;q=0.0", "gzip", false),
            ("identity", "br", false),
            ("brotli", "br", false),
            ("", "gzip", false),
        ] {
            assert_eq!(takes(accepted, encoding), wanted, "{accepted} / {encoding}");
        }
    }
}
