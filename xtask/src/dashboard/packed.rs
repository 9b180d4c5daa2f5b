//! Packs what was built, once and as small as it gets, and measures what a browser loads before the first view shows.

use std::fs;
use std::path::Path;

use super::{Node, read};
use crate::cargo;
use crate::error::{Error, Result};

const PACK: &str = include_str!("pack.mjs");

/// What the first view needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FirstLoad {
    pub(super) gzip: u64,
    pub(super) brotli: u64,
}

/// Writes `name.gz` and `name.br` beside each file that gets smaller by it.
pub(super) fn pack(node: &Node, dist: &Path) -> Result<()> {
    let mut command = node.command("node");
    command
        .args(["--input-type=module", "--eval", PACK, "--"])
        .arg(dist);
    let status = cargo::status(&mut command)?;
    cargo::succeeded(&command, status)
}

/// The page and everything that it names: its scripts, what they import at once, and its styles.
pub(super) fn first_load(dist: &Path) -> Result<FirstLoad> {
    let page = read(&dist.join("index.html"))?;
    let mut load = FirstLoad { gzip: 0, brotli: 0 };
    for name in ["index.html"].into_iter().chain(named(&page)) {
        let size = |suffix: &str| {
            let path = dist.join(name);
            let packed = path.with_file_name(format!(
                "{}.{suffix}",
                path.file_name().unwrap_or_default().to_string_lossy()
            ));
            let file = if packed.exists() { packed } else { path };
            fs::metadata(&file)
                .map(|metadata| metadata.len())
                .map_err(|source| Error::Read { path: file, source })
        };
        load.gzip += size("gz")?;
        load.brotli += size("br")?;
    }
    Ok(load)
}

/// The files of `/assets/` that a page names, in whatever attribute.
fn named(page: &str) -> Vec<&str> {
    let mut names: Vec<&str> = page
        .split('"')
        .filter_map(|value| value.strip_prefix('/'))
        .filter(|value| value.starts_with("assets/"))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_names_is_loaded_with_it_once() {
        let page = r#"<script type="module" crossorigin src="/assets/index-1.js"></script>
            <link rel="modulepreload" href="/assets/react-2.js"><link rel="stylesheet" href="/assets/index-3.css">
            <link rel="icon" href="/favicon.svg"><link rel="modulepreload" href="/assets/react-2.js">"#;
        assert_eq!(
            named(page),
            ["assets/index-1.js", "assets/index-3.css", "assets/react-2.js"]
        );
    }
}
