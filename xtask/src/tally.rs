//! How many tests passed and failed, read from what the test runners themselves report.

use std::fmt;
use std::ops::AddAssign;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// The closing line of one binary of `cargo test`: `test result: ok. 3 passed; 1 failed; 0 ignored; …`.
    pub(crate) fn of_libtest_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            counts
                .split("; ")
                .find_map(|part| part.strip_suffix(what)?.trim_end().parse().ok())
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
        })
    }

    /// The root element of a JUnit report: `<testsuites … tests="12" failures="1" errors="0" …>`.
    pub(crate) fn of_junit(report: &str) -> Option<Self> {
        let (_, root) = report.split_once("<testsuites")?;
        let (root, _) = root.split_once('>')?;
        let count = |name: &str| -> Option<u64> {
            let (_, value) = root.split_once(&format!(" {name}=\""))?;
            value.split_once('"')?.0.parse().ok()
        };
        let failed = count("failures")? + count("errors")?;
        Some(Self {
            passed: count("tests")?.checked_sub(failed)?,
            failed,
        })
    }

    pub(crate) fn ran(self) -> u64 {
        self.passed + self.failed
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_binary_is_counted() {
        let cases = [
            (
                "test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
                Some(Tally { passed: 3, failed: 0 }),
            ),
            (
                "test result: FAILED. 11 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s",
                Some(Tally {
                    passed: 11,
                    failed: 1,
                }),
            ),
            ("test store::a_late_result_replaces_lost ... ok", None),
            ("test result: pending", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(Tally::of_libtest_line(line), expected, "{line}");
        }
    }

    #[test]
    fn the_root_of_a_junit_report_is_counted() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="12" failures="2" errors="1" uuid="0" time="0.1">
    <testsuite name="kanade-model" tests="4" disabled="0" errors="0" failures="0">"#;
        assert_eq!(Tally::of_junit(report), Some(Tally { passed: 9, failed: 3 }));
    }

    #[test]
    fn a_report_without_its_counts_is_not_taken_for_zero() {
        for report in [
            "",
            "<testsuites name=\"x\" tests=\"3\">",
            "<testsuites tests=\"1\" failures=\"2\" errors=\"0\">",
        ] {
            assert_eq!(Tally::of_junit(report), None, "{report}");
        }
    }
}
