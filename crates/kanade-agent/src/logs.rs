//! The end of the agent's own log, kept in memory for whoever asks for it over the bus.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use crate::output::encoded_len;

/// The newest lines that were written to it, within 1 MiB. Clones share the lines, so one goes to the agent and one to
/// whatever formats log records:
///
/// ```
/// # use kanade_agent::LogTail;
/// let log = LogTail::default();
/// let writer = log.clone();
/// // `tracing_subscriber::fmt::layer().with_ansi(false).with_writer(make_writer)` takes it as it is.
/// let make_writer = move || writer.clone();
/// # use std::io::Write;
/// writeln!(make_writer(), "started").unwrap();
/// assert_eq!(log.tail(10), "started\n");
/// ```
#[derive(Debug, Clone, Default)]
pub struct LogTail(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    complete: VecDeque<String>,
    bytes: usize,
    unfinished: Vec<u8>,
}

/// What is kept, in bytes; an answer on the bus must fit into a message.
const KEPT: usize = 1024 * 1024;
/// What a message takes besides the text.
const ENVELOPE: usize = 64 * 1024;
/// A line that never ends is broken here.
const LONGEST_LINE: usize = 64 * 1024;

impl LogTail {
    /// The last `lines` lines, oldest first; fewer when they would not fit into one message.
    pub fn tail(&self, lines: usize) -> String {
        let kept = self.0.lock().expect("no panic while locked");
        let mut room = KEPT - ENVELOPE;
        let fitting = kept.complete.iter().rev().take(lines).take_while(|line| {
            // As it would stand in JSON, for buses that wrap messages in it.
            let fits = encoded_len(line) <= room;
            room = room.saturating_sub(encoded_len(line));
            fits
        });
        let mut newest_first: Vec<&str> = fitting.map(String::as_str).collect();
        newest_first.reverse();
        newest_first.concat()
    }
}

impl io::Write for LogTail {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().expect("no panic while locked");
        for part in written.split_inclusive(|byte| *byte == b'\n') {
            lines.unfinished.extend_from_slice(part);
            if part.ends_with(b"\n") || lines.unfinished.len() >= LONGEST_LINE {
                lines.finish_line();
            }
        }
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn finish_line(&mut self) {
        let mut line = String::from_utf8_lossy(&self.unfinished).into_owned();
        self.unfinished.clear();
        if !line.ends_with('\n') {
            line.push('\n');
        }
        self.bytes += line.len();
        self.complete.push_back(line);
        while self.bytes > KEPT {
            let Some(oldest) = self.complete.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_are_given_oldest_first() {
        let log = LogTail::default();
        let mut writer = log.clone();
        write!(writer, "one\ntwo\nthr").unwrap();
        assert_eq!(log.tail(10), "one\ntwo\n", "an unfinished line is not shown");
        writeln!(writer, "ee").unwrap();
        assert_eq!(log.tail(2), "two\nthree\n");
        assert_eq!(log.tail(0), "");
    }

    #[test]
    fn what_is_kept_and_what_is_answered_is_bounded() {
        let log = LogTail::default();
        let mut writer = log.clone();
        for _ in 0..40 {
            writer.write_all(&[b'x'; 100_000]).unwrap();
            writer.write_all(b"\n").unwrap();
        }
        writer.write_all(&[1; 50_000]).unwrap();
        writer.write_all(b"\n").unwrap();
        assert!(log.0.lock().unwrap().bytes <= KEPT);
        let answer = log.tail(usize::MAX);
        assert!(encoded_len(&answer) <= KEPT, "{}", encoded_len(&answer));
        assert!(answer.ends_with("\u{1}\n"), "the newest line is there");
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced() {
        let log = LogTail::default();
        log.clone().write_all(b"caf\xe9\n").unwrap();
        assert_eq!(log.tail(1), "caf\u{fffd}\n");
    }
}
