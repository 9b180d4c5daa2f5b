//! Prints the description of the API, as `cargo xtask dashboard --update-api` keeps it for the page.

#![expect(clippy::print_stdout, reason = "it is what this program is for")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", kanade_http::openapi().to_pretty_json()?);
    Ok(())
}
