//! Keys as bytes that sort like what they stand for: a list's name, then a moment, then the key of a row.

use kanade_model::Timestamp;
use uuid::Uuid;

/// A key under construction. Every part but the last one ends itself, so keys of one shape sort part by part.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// An empty key: the prefix of all.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A key that starts with the number of a list.
    pub(crate) fn list(number: u8) -> Self {
        Self(vec![number])
    }

    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// A text that something follows: ended by two zeroes, a zero in it is followed by 255.
    pub(crate) fn text(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xFF);
            }
        }
        self.0.extend([0, 0]);
        self
    }

    /// A text that nothing follows.
    pub(crate) fn last(mut self, text: &str) -> Self {
        self.0.extend(text.as_bytes());
        self
    }

    pub(crate) fn number(mut self, number: i64) -> Self {
        // With the sign bit turned over, negative numbers come first.
        self.0.extend((number ^ i64::MIN).to_be_bytes());
        self
    }

    pub(crate) fn moment(self, at: Timestamp) -> Self {
        self.number(at.as_micros())
    }

    pub(crate) fn uuid(mut self, id: Uuid) -> Self {
        self.0.extend(id.as_bytes());
        self
    }

    /// The place of a UUID that is given as text, which may be any text: between the UUIDs whose texts are smaller
    /// and larger.
    pub(crate) fn uuid_text(self, text: &str) -> Self {
        if let Ok(id) = Uuid::try_parse(text)
            && id.hyphenated().to_string() == text
        {
            return self.uuid(id);
        }
        // UUIDs sort like their texts, so the ones with a smaller text are the first `below` ones.
        let is_smaller = |id: u128| Uuid::from_u128(id).hyphenated().to_string().as_str() < text;
        if !is_smaller(0) {
            return self;
        }
        let (mut largest, mut step) = (0_u128, 1_u128 << 127);
        while step > 0 {
            if is_smaller(largest | step) {
                largest |= step;
            }
            step >>= 1;
        }
        self.uuid(Uuid::from_u128(largest)).byte(0)
    }

    pub(crate) fn key(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        self
    }

    /// A key that was read from a table.
    pub(crate) fn read(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first key after all that start with this one; none when there is no such key.
    pub(crate) fn successor(&self) -> Option<Self> {
        let mut bytes = self.0.clone();
        while let Some(last) = bytes.pop() {
            if last < 0xFF {
                bytes.push(last + 1);
                return Some(Self(bytes));
            }
        }
        None
    }
}

/// Reads the parts of a key, in their order.
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

impl<'a> Parts<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                0 => match self.byte()? {
                    0 => return String::from_utf8(bytes).ok(),
                    _ => bytes.push(0),
                },
                byte => bytes.push(byte),
            }
        }
    }

    pub(crate) fn number(&mut self) -> Option<i64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_be_bytes(*number) ^ i64::MIN)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn last(self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_like_their_parts() {
        let texts = ["", "\0", "\0a", "a", "a\0", "a\0b", "ab", "b", "ä", "\u{10FFFF}"];
        let numbers = [i64::MIN, -62_167_219_200_000_000, -1, 0, 1, i64::MAX];
        let mut parts = Vec::new();
        for text in texts {
            for number in numbers {
                for last in texts {
                    parts.push((text, number, last));
                }
            }
        }
        let mut keys: Vec<Key> = parts
            .iter()
            .map(|(text, number, last)| Key::new().text(text).number(*number).last(last))
            .collect();
        parts.sort_unstable();
        keys.sort_unstable();
        for ((text, number, last), key) in parts.iter().zip(&keys) {
            let mut read = Parts(key.bytes());
            assert_eq!(read.text().as_deref(), Some(*text));
            assert_eq!(read.number(), Some(*number));
            assert_eq!(read.last(), Some(*last));
        }
    }

    #[test]
    fn the_place_of_any_text_is_between_the_uuids_around_it() {
        let ids: Vec<Uuid> = [0, 1, 0xA0 << 120, 0xFF << 120, u128::MAX]
            .map(Uuid::from_u128)
            .to_vec();
        let texts = [
            "",
            "-",
            "0",
            "00000000-0000-0000-0000-000000000000",
            "00000000-0000-0000-0000-000000000000x",
            "00000000-0000-0000-0000-00000000000",
            "A0000000-0000-0000-0000-000000000000",
            "a0000000-0000-0000-0000-000000000000",
            "a00000000000000000000000000000000000",
            "ff",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "g",
            "ü",
        ];
        for text in texts {
            for id in &ids {
                assert_eq!(
                    Key::new().uuid(*id).cmp(&Key::new().uuid_text(text)),
                    id.to_string().as_str().cmp(text),
                    "{id} and {text:?}"
                );
            }
        }
    }

    #[test]
    fn the_successor_comes_after_all_that_start_alike() {
        let key = Key::list(1).byte(0xFF);
        let next = key.successor().unwrap();
        assert_eq!(next, Key::list(2));
        assert!(key.clone().last("\u{10FFFF}") < next && key < next);
        assert_eq!(Key::new().successor(), None);
        assert_eq!(Key::list(0xFF).successor(), None);
    }
}
