//! Builds the crate again when a migration is added: the macro that embeds them only watches those it saw.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations/sqlite");
}
