//! Sees that the page is embedded anew when it has been built anew.

use std::{fs, path::Path};

fn main() {
    // Cargo takes a path that is not there for a change, and would build this crate again every time.
    let built = Path::new("ui/dist");
    if let Err(error) = fs::create_dir_all(built) {
        println!("cargo::warning=cannot create {}: {error}", built.display());
    }
    println!("cargo::rerun-if-changed={}", built.display());
}
