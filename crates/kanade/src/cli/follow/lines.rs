//! What a run prints, as it is shown: as it comes, or by whole lines that say whose they are.

use kanade_model::OutputStream;

/// A line that is longer is shown in pieces, in bytes.
const LONGEST: usize = 64 * 1024;

/// The output of one run.
#[derive(Debug)]
pub(super) struct Lines {
    /// What stands before each line; without it, text is shown as it comes.
    label: Option<String>,
    /// The beginnings of lines.
    stdout: String,
    stderr: String,
}

impl Lines {
    pub(super) fn new(label: Option<String>) -> Self {
        Self {
            label,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// What is to be shown of a text that came.
    pub(super) fn of(&mut self, stream: OutputStream, text: &str) -> String {
        let Some(label) = &self.label else {
            return text.to_owned();
        };
        let begun = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        begun.push_str(text);
        let whole = match begun.rfind('\n') {
            _ if begun.len() > LONGEST => begun.len(),
            Some(end) => end + 1,
            None => 0,
        };
        begun
            .drain(..whole)
            .as_str()
            .lines()
            .map(|line| format!("{label} | {line}\n"))
            .collect()
    }

    /// What is left of a line that has no end.
    pub(super) fn rest(&mut self, stream: OutputStream) -> String {
        let begun = match stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        };
        if begun.is_empty() {
            String::new()
        } else {
            self.of(stream, "\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::OutputStream::{Stderr, Stdout};

    #[test]
    fn of_one_run_text_is_shown_as_it_comes() {
        let mut lines = Lines::new(None);
        assert_eq!(lines.of(Stdout, "no line"), "no line");
        assert_eq!(lines.rest(Stdout), "");
    }

    #[test]
    fn of_many_runs_whole_lines_say_whose_they_are() {
        let mut lines = Lines::new(Some("web-1".into()));
        assert_eq!(lines.of(Stdout, "one\ntw"), "web-1 | one\n");
        assert_eq!(lines.of(Stderr, "oops"), "");
        assert_eq!(
            lines.of(Stdout, "o\n\nthree\r\n"),
            "web-1 | two\nweb-1 | \nweb-1 | three\n"
        );
        assert_eq!(
            (lines.rest(Stdout), lines.rest(Stderr)),
            (String::new(), "web-1 | oops\n".into())
        );
        assert_eq!(lines.rest(Stderr), "");
    }

    #[test]
    fn a_line_without_end_takes_no_memory_without_end() {
        let mut lines = Lines::new(Some("pc".into()));
        let mut shown = 0;
        for _ in 0..100 {
            shown += lines.of(Stdout, &"x".repeat(8192)).matches('x').count();
            assert!(lines.stdout.len() <= LONGEST);
        }
        assert!(shown > 90 * 8192 - LONGEST);
    }
}
