//! How keys of the catalog are written in a KV bucket. Those that NATS can hold, which are all that a 0.30 fleet has,
//! stand as they are; others are escaped behind a mark.

use std::fmt::Write as _;

use kanade_ports::Key;

/// Begins what is escaped. A key of a fleet that begins so by chance is told apart all the same: see [`stored`].
const MARK: &str = "=kanade=";

/// How a key is written in a bucket. Every key has its own form, and every form that NATS can hold is some key's.
pub(crate) fn stored(key: &Key) -> String {
    let text = key.as_str();
    // What looks like an escaped key stands for that one, so it is escaped itself.
    if can_be_held(text) && unescape(text).is_none() {
        return text.to_owned();
    }
    escape(text)
}

/// The key that is written so, if it is one: keys have at most 512 bytes.
pub(crate) fn read(stored: &str) -> Option<Key> {
    match unescape(stored) {
        Some(text) => text.parse().ok(),
        None => stored.parse().ok(),
    }
}

/// Whether NATS takes it as the end of a subject, and KV clients as a key.
fn can_be_held(text: &str) -> bool {
    text.split('.')
        .all(|token| !token.is_empty() && token.bytes().all(|byte| plain(byte) || byte == b'='))
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/')
}

fn escape(text: &str) -> String {
    MARK.to_owned() + &escaped(text)
}

/// Each byte that is not plain as `=` and two digits, as in quoted-printable text: one token of a subject.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "={byte:02X}").expect("a String takes everything");
        }
    }
    escaped
}

/// The text that [`stored`] escapes to exactly this.
fn unescape(stored: &str) -> Option<String> {
    let mut rest = stored.strip_prefix(MARK)?.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    let needed = !text.is_empty() && (!can_be_held(&text) || unescape(&text).is_some());
    (needed && escape(&text) == stored).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_fleet_has_stands_as_it_is() {
        for text in [
            "backup",
            "a/b=c",
            "/a",
            "=",
            "==",
            "groups.servers",
            "pcs.pc.1",
            "_",
            "-",
            "=kanade=",
            "=kanade=plain",
            "=kanade==ZZ",
            "=kanade==41",
            "=kanade==3Dkanade=3D=41",
            "=kanade==e4",
        ] {
            assert_eq!(stored(&key(text)), text);
            assert_eq!(read(text), Some(key(text)));
        }
    }

    #[test]
    fn every_other_key_has_a_form_of_its_own() {
        let texts = [
            "ä",
            "a\u{308}",
            "a.",
            ".a",
            "a..b",
            ".",
            " ",
            "a ",
            "\t",
            "\n",
            "\0",
            "*",
            ">",
            "a*",
            "$",
            "a:b",
            "漢字",
            "🦀",
            "=kanade==C3=A4",
            "=kanade==3Dkanade=3D=3DC3=3DA4",
            "%",
            "a\\b",
        ];
        let mut forms = std::collections::BTreeSet::new();
        for text in texts {
            let form = stored(&key(text));
            assert!(can_be_held(&form), "{text:?} as {form}");
            assert_ne!(form, text);
            assert_eq!(read(&form), Some(key(text)), "{form}");
            assert!(forms.insert(form), "{text:?}");
        }
        assert_eq!(stored(&key("ä")), "=kanade==C3=A4");
        let longest = "ä".repeat(256);
        assert_eq!(read(&stored(&key(&longest))), Some(key(&longest)));
    }

    #[test]
    fn what_is_no_key_is_passed_over() {
        assert_eq!(read(""), None);
        assert_eq!(read(&"x".repeat(513)), None);
    }
}
