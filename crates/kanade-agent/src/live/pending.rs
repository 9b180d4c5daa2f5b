//! What a script has printed and nobody has been told yet: bounded, as text, with its place in the stream. What does not
//! fit is left out, and the place of what follows shows it.

use std::collections::VecDeque;

use kanade_model::OutputStream;

use crate::output::unfinished_at_end;

/// The longest text of a chunk, in bytes.
pub(super) const CHUNK: usize = 8 * 1024;
/// The most bytes that wait, of both streams together: what may be sent in a second.
pub(super) const MOST: usize = 64 * 1024;

/// What waits to be sent of one run.
#[derive(Debug)]
pub(super) struct Pending {
    stdout: Stream,
    stderr: Stream,
    waiting: usize,
    /// How many parts have been taken.
    taken: u64,
    is_closed: bool,
}

/// A part of what was printed, as it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) seq: u64,
    pub(super) stream: OutputStream,
    pub(super) offset: u64,
    pub(super) text: String,
    pub(super) last: bool,
}

#[derive(Debug)]
struct Stream {
    which: OutputStream,
    /// The beginning of a character.
    unfinished: Vec<u8>,
    /// Bytes of text that were printed.
    printed: u64,
    /// Up to where it was taken.
    taken: u64,
    /// What waits: texts and where they begin. Between two of them something was left out.
    texts: VecDeque<(u64, String)>,
}

impl Pending {
    pub(super) fn new() -> Self {
        let [stdout, stderr] = OutputStream::ALL.map(|which| Stream {
            which,
            unfinished: Vec::new(),
            printed: 0,
            taken: 0,
            texts: VecDeque::new(),
        });
        Self {
            stdout,
            stderr,
            waiting: 0,
            taken: 0,
            is_closed: false,
        }
    }

    /// Takes what a script has printed, as far as there is room. Never more than a bounded number of bytes are kept.
    pub(super) fn push(&mut self, stream: OutputStream, bytes: &[u8]) {
        if self.is_closed {
            return;
        }
        let stream = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        stream.unfinished.extend_from_slice(bytes);
        let whole = stream.unfinished.len() - unfinished_at_end(&stream.unfinished);
        self.waiting += stream.read(whole, MOST - self.waiting);
    }

    /// Nothing follows.
    pub(super) fn close(&mut self) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        for stream in [&mut self.stdout, &mut self.stderr] {
            self.waiting += stream.read(stream.unfinished.len(), MOST - self.waiting);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Whether it is worth a message by now.
    pub(super) fn is_plenty(&self) -> bool {
        self.waiting >= CHUNK
    }

    /// What is sent next: a part of each stream at most. Of a run that ends before anything was sent, nothing is: the
    /// result says it all. Otherwise a part with `last` is the end.
    pub(super) fn take(&mut self) -> Vec<Part> {
        if self.is_closed && self.taken == 0 {
            return Vec::new();
        }
        let streams = [&mut self.stdout, &mut self.stderr];
        let mut texts: Vec<_> = streams.into_iter().filter_map(Stream::take).collect();
        self.waiting -= texts.iter().map(|(_, _, text)| text.len()).sum::<usize>();
        let is_end = self.is_closed && self.waiting == 0;
        if is_end {
            let gaps = [&self.stdout, &self.stderr]
                .into_iter()
                .filter_map(Stream::gap_at_end);
            texts.extend(gaps);
            if texts.is_empty() {
                texts.push((OutputStream::Stdout, self.stdout.printed, String::new()));
            }
        }
        let from = self.taken;
        self.taken += texts.len() as u64;
        let end = self.taken;
        (from..)
            .zip(texts)
            .map(|(seq, (stream, offset, text))| Part {
                seq,
                stream,
                offset,
                text,
                last: is_end && seq + 1 == end,
            })
            .collect()
    }
}

impl Stream {
    /// Makes text of the first `bytes` that were printed and keeps as much of it as there is room for. How much that is.
    fn read(&mut self, bytes: usize, room: usize) -> usize {
        let text = String::from_utf8_lossy(&self.unfinished[..bytes]);
        let kept = &text[..text.floor_char_boundary(room)];
        if !kept.is_empty() {
            match self.texts.back_mut() {
                Some((offset, before)) if *offset + before.len() as u64 == self.printed => {
                    before.push_str(kept);
                }
                _ => self.texts.push_back((self.printed, kept.to_owned())),
            }
        }
        let kept = kept.len();
        self.printed += text.len() as u64;
        drop(self.unfinished.drain(..bytes));
        kept
    }

    fn take(&mut self) -> Option<(OutputStream, u64, String)> {
        let (offset, text) = self.texts.front_mut()?;
        let at = *offset;
        let cut = text.floor_char_boundary(CHUNK);
        let part: String = text.drain(..cut).collect();
        *offset += cut as u64;
        if text.is_empty() {
            self.texts.pop_front();
        }
        self.taken = at + cut as u64;
        Some((self.which, at, part))
    }

    /// Says that something was left out at the end.
    fn gap_at_end(&self) -> Option<(OutputStream, u64, String)> {
        (self.taken < self.printed).then(|| (self.which, self.printed, String::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kanade_model::OutputStream::{Stderr, Stdout};

    fn texts(pending: &mut Pending) -> Vec<(OutputStream, u64, String)> {
        let part = |part: Part| (part.stream, part.offset, part.text);
        pending.take().into_iter().map(part).collect()
    }

    /// Everything that is left, put together per stream; asserts that nothing is missing in between.
    fn whole(pending: &mut Pending, stream: OutputStream) -> String {
        let mut whole = String::new();
        while !pending.is_empty() {
            for part in pending.take().into_iter().filter(|part| part.stream == stream) {
                assert_eq!(part.offset, whole.len() as u64);
                whole.push_str(&part.text);
            }
        }
        whole
    }

    #[test]
    fn both_streams_are_told_with_their_places() {
        let mut pending = Pending::new();
        pending.push(Stdout, b"one\n");
        pending.push(Stderr, b"oops\n");
        pending.push(Stdout, b"two\n");
        assert_eq!(
            texts(&mut pending),
            [(Stdout, 0, "one\ntwo\n".into()), (Stderr, 0, "oops\n".into())]
        );
        assert!(pending.is_empty() && texts(&mut pending).is_empty());
        pending.push(Stderr, b"again\n");
        assert_eq!(texts(&mut pending), [(Stderr, 5, "again\n".into())]);
    }

    #[test]
    fn characters_are_whole_and_text_is_that_of_the_result_however_bytes_arrive() {
        let printed = [
            "grün €uro 𝄞".as_bytes(),
            b"a\xff\xfe\xe2\x82b\xf0\x9f",
            b"\xe0\x80\xed\xa0\x80\xf4\x90",
        ]
        .concat();
        for size in 1..=printed.len() {
            let mut pending = Pending::new();
            let mut heard = String::new();
            for bytes in printed.chunks(size) {
                pending.push(Stdout, bytes);
                heard.extend(pending.take().into_iter().map(|part| part.text));
            }
            pending.close();
            heard.extend(pending.take().into_iter().map(|part| part.text));
            assert_eq!(heard, String::from_utf8_lossy(&printed), "{size}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut pending = Pending::new();
        let long = "€".repeat(MOST / 3);
        pending.push(Stdout, long.as_bytes());
        assert!(pending.is_plenty());
        let first = pending.take();
        assert_eq!(first[0].text.len(), CHUNK - CHUNK % 3);
        pending.push(Stdout, b"!");
        let mut heard = first[0].text.clone();
        while !pending.is_empty() {
            for part in pending.take() {
                assert_eq!(part.offset, heard.len() as u64);
                heard.push_str(&part.text);
            }
        }
        assert_eq!(heard, long + "!");
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_what_follows_tells_how_much() {
        let mut pending = Pending::new();
        pending.push(Stdout, &vec![b'x'; MOST - 1]);
        pending.push(Stdout, "€ and more".as_bytes());
        pending.push(Stderr, b"y");
        pending.push(Stderr, b"lost");
        assert_eq!(pending.waiting, MOST);
        let mut heard = 0;
        while !pending.is_empty() {
            let parts = pending.take();
            heard += parts.iter().map(|part| part.text.len()).sum::<usize>();
        }
        assert_eq!(heard, MOST, "of a character that does not fit, nothing is kept");
        pending.push(Stdout, b"later");
        pending.push(Stderr, b"too");
        let place = (MOST - 1 + "€ and more".len()) as u64;
        assert_eq!(
            texts(&mut pending),
            [(Stdout, place, "later".into()), (Stderr, 5, "too".into())]
        );
    }

    #[test]
    fn memory_stays_bounded_however_much_is_printed() {
        let mut pending = Pending::new();
        for _ in 0..1000 {
            pending.push(Stdout, &[b'y'; 32 * 1024]);
            pending.push(Stderr, "€".repeat(1000).as_bytes());
            assert!(pending.waiting <= MOST);
            drop(pending.take());
        }
        assert!(pending.stdout.texts.len() + pending.stderr.texts.len() < 100);
    }

    #[test]
    fn the_end_is_told_once_with_what_was_left_out_before_it() {
        let mut pending = Pending::new();
        pending.push(Stdout, b"a");
        drop(pending.take());
        pending.push(Stderr, &vec![b'x'; MOST + 10]);
        pending.push(Stdout, b"lost");
        pending.close();
        pending.push(Stdout, b"after the end");
        let mut parts = Vec::new();
        while parts.last().is_none_or(|part: &Part| !part.last) {
            parts.extend(pending.take());
        }
        let numbers: Vec<u64> = parts.iter().map(|part| part.seq).collect();
        assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
        let [.., out, err] = &parts[..] else {
            panic!("{parts:?}")
        };
        assert_eq!((out.stream, out.offset, out.text.as_str()), (Stdout, 5, ""));
        assert_eq!((err.stream, err.offset), (Stderr, MOST as u64 + 10));
        assert_eq!(parts.iter().filter(|part| part.last).count(), 1);
    }

    #[test]
    fn a_run_that_ends_quietly_ends_with_an_empty_part_and_a_short_one_with_nothing() {
        let mut pending = Pending::new();
        pending.push(Stdout, b"all");
        assert_eq!(whole(&mut pending, Stdout), "all");
        pending.close();
        let parts = pending.take();
        assert_eq!((parts.len(), parts[0].offset, parts[0].last), (1, 3, true));

        let mut short = Pending::new();
        short.push(Stdout, b"the result says it all");
        short.close();
        assert!(short.take().is_empty());
    }
}
