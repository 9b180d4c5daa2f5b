//! A case that is written but not listed would never run.

use std::{collections::BTreeSet, fs, path::Path};

use kanade_conformance::{AGENT_CASES, BUS_CASES, CATALOG_CASES, RELEASES_CASES, STORE_CASES};

#[test]
fn every_case_is_listed_once() {
    for (suite, listed) in [
        ("store", STORE_CASES),
        ("catalog", CATALOG_CASES),
        ("bus", BUS_CASES),
        ("agent", AGENT_CASES),
        ("releases", RELEASES_CASES),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(suite);
        let mut written = Vec::new();
        for file in fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let text = fs::read_to_string(path).unwrap();
            let names = text.lines().filter_map(|line| line.strip_prefix("pub async fn "));
            written.extend(names.filter_map(|rest| Some(rest.split_once('<')?.0.to_owned())));
        }
        let unique: BTreeSet<_> = listed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            unique.len(),
            listed.len(),
            "no case of the {suite} suite is listed twice"
        );
        assert_eq!(
            unique,
            written.into_iter().collect(),
            "every case of the {suite} suite is listed"
        );
        println!("{suite}: {} cases", listed.len());
    }
}
