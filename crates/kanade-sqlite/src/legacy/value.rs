//! Values in every notation that an old file may have them in.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use kanade_model::Timestamp;
use serde_json::Value as Json;
use sqlx::{Row, TypeInfo, ValueRef, sqlite::SqliteRow};
use uuid::Uuid;

use crate::fault::Fault;

/// A value as it stands in a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'r> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'r, str>),
    Blob(&'r [u8]),
}

impl<'r> Value<'r> {
    pub(super) fn of(row: &'r SqliteRow, column: usize) -> Result<Self, Fault> {
        let raw = row.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Self::Null);
        }
        let kind = raw.type_info().name().to_owned();
        Ok(match kind.as_str() {
            "INTEGER" => Self::Integer(row.try_get_unchecked(column)?),
            "REAL" => Self::Real(row.try_get_unchecked(column)?),
            "TEXT" => Self::Text(String::from_utf8_lossy(row.try_get_unchecked(column)?)),
            _ => Self::Blob(row.try_get_unchecked(column)?),
        })
    }

    /// Nothing when there is no value.
    pub(super) fn maybe(self) -> Option<Self> {
        (self != Self::Null).then_some(self)
    }

    /// A text; one that is not UTF-8 is mended.
    pub(super) fn text(self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.into_owned()),
            Self::Blob(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            // A column without a type keeps `1` as a number.
            Self::Integer(number) => Ok(number.to_string()),
            other => Err(other.not("a text")),
        }
    }

    /// An id or a state.
    pub(super) fn parsed<T: FromStr<Err: Display>>(self) -> Result<T, String> {
        self.text()?.parse().map_err(|error: T::Err| error.to_string())
    }

    /// A UUID as text or as its sixteen bytes.
    pub(super) fn uuid(self) -> Result<Uuid, String> {
        match &self {
            Self::Text(text) => Uuid::parse_str(text).map_err(|_| self.not("a UUID")),
            Self::Blob(bytes) => Uuid::from_slice(bytes).map_err(|_| self.not("a UUID")),
            _ => Err(self.not("a UUID")),
        }
    }

    /// A moment: RFC 3339, the same as SQLite writes it (a space for the `T`, no zone: UTC), or seconds or milliseconds
    /// since 1970.
    pub(super) fn moment(self) -> Result<Timestamp, String> {
        match &self {
            Self::Integer(number) => since_1970(*number),
            Self::Text(text) => {
                let text = text.trim();
                text.parse::<i64>()
                    .ok()
                    .and_then(since_1970)
                    .or_else(|| written(text))
            }
            _ => None,
        }
        .ok_or_else(|| self.not("a moment as RFC 3339, or in seconds or milliseconds since 1970"))
    }

    /// The exit code of a process. Windows has codes that a signed number of this size has no room for: the bits are
    /// kept.
    pub(super) fn exit_code(self) -> Result<i32, String> {
        match self {
            Self::Integer(code) => i32::try_from(code)
                .or_else(|_| u32::try_from(code).map(u32::cast_signed))
                .map_err(|_| self.not("an exit code")),
            _ => Err(self.not("an exit code")),
        }
    }

    /// JSON as text or bytes.
    pub(super) fn json(self) -> Result<Json, String> {
        let parsed = match &self {
            Self::Text(text) => serde_json::from_str(text),
            Self::Blob(bytes) => serde_json::from_slice(bytes),
            _ => return Err(self.not("JSON")),
        };
        parsed.map_err(|error| format!("{}: {error}", self.not("JSON")))
    }

    /// The beginning of it, to be shown.
    pub(super) fn shown(&self) -> String {
        const SHOWN: usize = 80;
        let text = match self {
            Self::Null => "nothing".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Text(text) => text.chars().take(SHOWN + 1).collect(),
            Self::Blob(bytes) => match Uuid::from_slice(bytes) {
                Ok(id) => id.to_string(),
                Err(_) => format!("{} bytes", bytes.len()),
            },
        };
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    fn not(&self, what: &str) -> String {
        format!("`{}` is not {what}", self.shown())
    }
}

/// Seconds, or milliseconds where seconds would be after the year 5000. Larger numbers are neither.
fn since_1970(number: i64) -> Option<Timestamp> {
    const SECONDS: u64 = 100_000_000_000;
    let micros = match number.unsigned_abs() {
        0..SECONDS => 1_000_000,
        SECONDS..100_000_000_000_000 => 1_000,
        _ => return None,
    };
    Some(Timestamp::from_micros(number * micros))
}

fn written(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix(" UTC").unwrap_or(text).replacen(' ', "T", 1);
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    #[test]
    fn a_moment_is_read_in_every_notation() {
        let moment: Timestamp = "2026-05-01T08:30:00.120Z".parse().unwrap();
        for value in [
            text("2026-05-01T08:30:00.120Z"),
            text("2026-05-01T10:30:00.120+02:00"),
            text("2026-05-01T08:30:00.120000000+00:00"),
            text("2026-05-01 08:30:00.120+00:00"),
            text(" 2026-05-01 08:30:00.120 "),
            text("2026-05-01 08:30:00.120 UTC"),
            text("2026-05-01T08:30:00.120"),
            Value::Integer(1_777_624_200_120),
            text("1777624200120"),
        ] {
            assert_eq!(value.clone().moment(), Ok(moment), "{value:?}");
        }
        let whole: Timestamp = "2026-05-01T08:30:00Z".parse().unwrap();
        assert_eq!(Value::Integer(1_777_624_200).moment(), Ok(whole));
        assert_eq!(text("1969-12-31 23:59:59").moment(), Value::Integer(-1).moment());
        for value in [
            Value::Null,
            // A day of the Julian calendar would be 1970 if it were taken for seconds.
            Value::Real(2_461_161.5),
            Value::Integer(1_777_624_200_120_000),
            Value::Integer(i64::MIN),
            text("yesterday"),
            text("2026-05-01"),
            text(""),
            Value::Blob(b"2026"),
        ] {
            let told = value.clone().moment().unwrap_err();
            assert!(told.contains("RFC 3339"), "{value:?}: {told}");
        }
    }

    #[test]
    fn an_id_is_text_or_bytes() {
        let id = Uuid::from_u128(0x1234);
        for value in [
            text(&id.to_string()),
            text(&id.simple().to_string().to_uppercase()),
            Value::Blob(id.as_bytes()),
        ] {
            assert_eq!(value.uuid(), Ok(id));
        }
        for value in [
            text("x"),
            text(""),
            Value::Blob(b"x"),
            Value::Integer(7),
            Value::Null,
        ] {
            assert!(
                value.clone().uuid().unwrap_err().contains("is not a UUID"),
                "{value:?}"
            );
        }
    }

    #[test]
    fn an_exit_code_keeps_its_bits() {
        for (number, code) in [
            (0, 0),
            (-1, -1),
            (3_221_225_786, -1_073_741_510),
            (4_294_967_295, -1),
        ] {
            assert_eq!(Value::Integer(number).exit_code(), Ok(code));
        }
        for value in [Value::Integer(1 << 32), Value::Null, text("0"), Value::Real(0.0)] {
            value.exit_code().unwrap_err();
        }
    }

    #[test]
    fn json_is_text_or_bytes() {
        assert_eq!(text(r#"{"a":1}"#).json(), Ok(json!({"a": 1})));
        assert_eq!(Value::Blob(b"[null]").json(), Ok(json!([null])));
        assert!(text("{").json().unwrap_err().starts_with("`{` is not JSON: EOF"));
        Value::Integer(1).json().unwrap_err();
    }

    #[test]
    fn what_is_shown_of_a_value_is_short() {
        assert_eq!(text(&"ä".repeat(200)).shown().chars().count(), 81);
        assert_eq!(Value::Blob(b"xyz").shown(), "3 bytes");
        assert_eq!(Value::Null.not("a text"), "`nothing` is not a text");
    }
}
