//! What a script prints: captured in bounded memory, as text that fits into a message. Head and tail are kept, a marker
//! between them says how much was left out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The first and the last bytes of a stream, and how many there were.
#[derive(Debug)]
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    limit: usize,
    total: u64,
}

impl Capture {
    /// Keeps at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            limit,
            total: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let head_room = self.limit - self.limit / 2 - self.head.len();
        let (head, rest) = bytes.split_at(bytes.len().min(head_room));
        self.head.extend_from_slice(head);
        let tail_limit = self.limit / 2;
        let newest = &rest[rest.len().saturating_sub(tail_limit)..];
        let over = (self.tail.len() + newest.len()).saturating_sub(tail_limit);
        self.tail.drain(..over);
        self.tail.extend(newest);
    }

    /// The text. Bytes that are not UTF-8 are replaced; a character that was cut in two is left out whole.
    pub(crate) fn into_text(mut self) -> String {
        let kept = (self.head.len() + self.tail.len()) as u64;
        if kept == self.total {
            self.head.extend(self.tail);
            return text(self.head);
        }
        let cut_head = unfinished_at_end(&self.head);
        self.head.truncate(self.head.len() - cut_head);
        let mut tail = Vec::from(self.tail);
        let cut_tail = tail
            .iter()
            .take(3)
            .take_while(|byte| is_continuation(**byte))
            .count();
        tail.drain(..cut_tail);
        let left_out = self.total - (self.head.len() + tail.len()) as u64;
        text(self.head) + &marker(left_out) + &text(tail)
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// How many bytes at the end are the beginning of a character whose rest is missing.
pub(crate) fn unfinished_at_end(bytes: &[u8]) -> usize {
    let start = bytes
        .iter()
        .rev()
        .take(4)
        .position(|byte| !is_continuation(*byte));
    let Some(back) = start else { return 0 };
    let wanted = match bytes[bytes.len() - 1 - back] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if back + 1 < wanted { back + 1 } else { 0 }
}

/// A capture that a reading task fills until somebody takes it.
#[derive(Debug, Clone)]
pub(crate) struct SharedCapture(Arc<Mutex<Option<Capture>>>);

impl SharedCapture {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Some(Capture::new(limit)))))
    }

    /// Reads until the stream ends. What comes after the capture was taken is read and dropped: a process that was left
    /// in the background may go on printing without being ended by a closed pipe.
    pub(crate) async fn fill(self, stream: impl AsyncRead + Unpin) {
        self.fill_and_tell(stream, |_| {}).await;
    }

    /// The same; `told` gets what the capture gets, and must not wait.
    pub(crate) async fn fill_and_tell(self, mut stream: impl AsyncRead + Unpin, told: impl Fn(&[u8])) {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return,
                Ok(read) => {
                    let printed = &buffer[..read];
                    let mut capture = self.0.lock().expect("no panic while locked");
                    let Some(capture) = &mut *capture else { continue };
                    capture.push(printed);
                    told(printed);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot read the output of a script any further");
                    return;
                }
            }
        }
    }

    /// The text so far; the rest is not kept.
    pub(crate) fn take(&self) -> String {
        let capture = self.0.lock().expect("no panic while locked").take();
        capture.map(Capture::into_text).unwrap_or_default()
    }
}

const MARKER_START: &str = "\n[… ";
const MARKER_END: &str = " bytes left out …]\n";
const LONGEST_MARKER: usize = MARKER_START.len() + 20 + MARKER_END.len() + 2;

fn marker(left_out: u64) -> String {
    format!("{MARKER_START}{left_out}{MARKER_END}")
}

/// How many bytes a text takes within a JSON string.
pub(crate) fn encoded_len(text: &str) -> usize {
    text.bytes().map(encoded_byte).sum()
}

fn encoded_byte(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

/// Cuts both texts so that together they take at most `room` bytes within JSON. The shorter one is spared.
pub(crate) fn fit(stdout: String, stderr: String, room: usize) -> (String, String) {
    let (out, err) = (encoded_len(&stdout), encoded_len(&stderr));
    let half = room / 2;
    let (out_room, err_room) = match (out <= half, err <= half) {
        (true, _) => (out, room - out),
        (false, true) => (room - err, err),
        (false, false) => (half, room - half),
    };
    (shortened(stdout, out_room), shortened(stderr, err_room))
}

/// Cuts the middle out of a text so that it takes at most `room` bytes within JSON. A marker that is already there is
/// counted in and replaced.
fn shortened(text: String, room: usize) -> String {
    if encoded_len(&text) <= room {
        return text;
    }
    if room < LONGEST_MARKER {
        return String::new();
    }
    let half = (room - LONGEST_MARKER) / 2;
    let mut head = prefix(text.chars(), half);
    let mut tail = text.len() - prefix(text.chars().rev(), half);
    let former = find_marker(&text);
    if let Some((span, _)) = &former {
        head = if span.contains(&head) { span.start } else { head };
        tail = if span.contains(&tail) { span.end } else { tail };
    }
    let mut left_out = (tail - head) as u64;
    if let Some((span, counted)) = former
        && head <= span.start
        && span.end <= tail
    {
        left_out = left_out.saturating_sub(span.len() as u64).saturating_add(counted);
    }
    format!("{}{}{}", &text[..head], marker(left_out), &text[tail..])
}

/// How many bytes of text, counted in whole characters, take at most `room` bytes within JSON.
fn prefix(chars: impl Iterator<Item = char>, room: usize) -> usize {
    let mut used = 0;
    let mut bytes = 0;
    for char in chars {
        used += if char.is_ascii() {
            encoded_byte(char as u8)
        } else {
            char.len_utf8()
        };
        if used > room {
            break;
        }
        bytes += char.len_utf8();
    }
    bytes
}

fn find_marker(text: &str) -> Option<(std::ops::Range<usize>, u64)> {
    text.match_indices(MARKER_START).find_map(|(start, _)| {
        let digits = &text[start + MARKER_START.len()..];
        let length = digits.find(|c: char| !c.is_ascii_digit())?;
        let counted = digits[..length].parse().ok()?;
        digits[length..].starts_with(MARKER_END).then(|| {
            let end = start + MARKER_START.len() + length + MARKER_END.len();
            (start..end, counted)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(limit: usize, chunks: &[&[u8]]) -> String {
        let mut capture = Capture::new(limit);
        for chunk in chunks {
            capture.push(chunk);
        }
        capture.into_text()
    }

    #[test]
    fn what_fits_is_kept_whole_however_it_arrives() {
        assert_eq!(captured(10, &[b"0123456789"]), "0123456789");
        assert_eq!(captured(10, &[b"012", b"3456", b"", b"789"]), "0123456789");
        assert_eq!(captured(10, &[]), "");
        assert_eq!(
            captured(3, &["ü".as_bytes(), b"x"]),
            "üx",
            "a character across head and tail is whole"
        );
    }

    #[test]
    fn head_and_tail_are_kept_and_the_marker_counts_the_rest() {
        let text = captured(10, &[b"01234", b"abcdefgh", b"56789"]);
        assert_eq!(text, "01234\n[… 8 bytes left out …]\n56789");
        let one_chunk = captured(10, &[b"01234abcdefgh56789"]);
        assert_eq!(one_chunk, text);
    }

    #[test]
    fn memory_stays_bounded_however_much_is_printed() {
        let mut capture = Capture::new(1000);
        for _ in 0..10_000 {
            capture.push(&[b'y'; 4096]);
        }
        assert!(capture.head.capacity() + capture.tail.capacity() < 10_000);
        assert!(capture.into_text().contains("[… 40959000 bytes left out …]"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_and_characters_are_not_cut_in_two() {
        assert_eq!(captured(100, &[b"a\xff\xfeb"]), "a\u{fffd}\u{fffd}b");
        // Head and tail are cut within a character of three bytes.
        for limit in 40..46 {
            let text = captured(limit, &["€".repeat(100).as_bytes()]);
            assert!(!text.contains('\u{fffd}'), "{limit}: {text}");
            let kept = text.matches('€').count();
            assert!(
                text.contains(&format!("{} bytes", (100 - kept) * 3)),
                "{limit}: {text}"
            );
        }
        // A stream of continuation bytes is not a cut character.
        assert_eq!(captured(8, &[&[0x80; 20]]).matches('\u{fffd}').count(), 5);
    }

    #[test]
    fn both_texts_together_fit_and_the_shorter_one_is_spared() {
        let long = "x".repeat(5000);
        let (out, err) = fit(long.clone(), "why".into(), 1000);
        assert_eq!(err, "why");
        assert!(encoded_len(&out) <= 997 && encoded_len(&out) > 900);
        let (out, err) = fit(long.clone(), long, 1000);
        assert!(encoded_len(&out) <= 500 && encoded_len(&err) <= 500);
        let (out, err) = fit("a".into(), "b".into(), 1000);
        assert_eq!((out.as_str(), err.as_str()), ("a", "b"));
    }

    #[test]
    fn the_encoded_size_counts_not_the_plain_one() {
        for text in [
            "\u{1}".repeat(400),
            "\"\\\n".repeat(400),
            "€".repeat(400),
            "\u{7f}".repeat(900),
        ] {
            assert_eq!(
                encoded_len(&text) + 2,
                serde_json::to_string(&text).unwrap().len()
            );
            let short = shortened(text, 600);
            assert!(serde_json::to_string(&short).unwrap().len() <= 602, "{short}");
            assert!(short.contains("bytes left out"));
        }
    }

    #[test]
    fn cutting_again_keeps_one_marker_with_the_right_count() {
        let mut capture = Capture::new(2000);
        capture.push(&[b'x'; 100_000]);
        capture.push(b"the end");
        let mut text = capture.into_text();
        for room in [1500, 1000, 999, 500, 200] {
            text = shortened(text, room);
            let kept = text.matches('x').count();
            assert_eq!(text.matches("left out").count(), 1, "{text}");
            assert!(
                text.contains(&format!("[… {} bytes", 100_000 - kept)),
                "{room}: {text}"
            );
            assert!(text.ends_with("the end"));
        }
        assert_eq!(shortened(text, 10), "");
    }

    #[test]
    fn a_cut_through_the_marker_does_not_leave_half_of_it() {
        // The head is expensive in JSON, so the marker is not in the middle.
        let text = "\u{1}".repeat(300) + &marker(7) + &"x".repeat(1000);
        for room in 60..2800 {
            let short = shortened(text.clone(), room);
            assert!(encoded_len(&short) <= room, "{room}");
            assert_eq!(
                short.matches("[…").count(),
                short.matches("…]").count(),
                "{room}: {short}"
            );
        }
    }
}
