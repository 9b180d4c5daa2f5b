//! The code in `docs/write-a-backend.md` is the code of the example, which the suites run against.

use std::{fs, path::Path};

/// Lines without what stands before them, so that a block may be indented as its surroundings want.
fn unindented(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_guide_shows_the_example_as_it_is() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(crate_root.join("../../docs/write-a-backend.md")).unwrap();
    let mut blocks = 0;
    for block in guide.split("```rust\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        let (first, code) = block.split_once('\n').expect("a block has more than one line");
        let file = first
            .trim()
            .strip_prefix("// ")
            .expect("a block begins with the name of its file");
        let source = fs::read_to_string(crate_root.join(file)).unwrap();
        let (source, code) = (unindented(&source), unindented(code));
        let found = source.windows(code.len()).any(|lines| lines == code);
        assert!(found, "{file} holds this, line by line:\n{}", code.join("\n"));
        blocks += 1;
    }
    assert!(blocks >= 5, "the guide has its excerpts; {blocks} were found");
}
