//! Names and ids. `FromStr` and `Deserialize` accept what an existing fleet may hold; `check` accepts
//! what we create: `[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}`, no `..`, no dot at the end.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Invalid, Timestamp};

/// The longest text an id may have, in bytes.
const LONGEST: usize = 256;
const STRICT: &str =
    "1 to 128 letters, digits, `_`, `-` or `.`; not starting or ending with a dot, no `..` in it";

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, readable: $readable:path, strict: $strict:path, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the text is one we would create, which is less than we read.
            ///
            /// # Errors
            /// Says what is allowed.
            pub fn check(&self) -> Result<(), Invalid> {
                if $strict(&self.0) { Ok(()) } else { Err(Invalid::new($what, self.as_str(), $allowed)) }
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                if $readable(text) { Ok(Self(text.into())) } else { Err(Invalid::new($what, text, $allowed)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

text_id!(
    /// Names a job: the `id` of its manifest.
    JobId, "job id", readable: is_text, strict: is_strict, STRICT
);
text_id!(
    /// Names a schedule.
    ScheduleId, "schedule id", readable: is_text, strict: is_strict, STRICT
);
text_id!(
    /// Names an agent. Part of subjects, so it never holds white space or wildcards; it may hold dots.
    PcId, "pc id", readable: is_subject_part, strict: is_strict, STRICT
);
text_id!(
    /// Names one execution. Ours are UUIDs; foreign ones may be any text that fits a subject.
    ExecId, "execution id", readable: is_subject_part, strict: is_subject_part, "text without white space, `*` or `>`"
);
text_id!(
    /// Names a group of agents.
    GroupName, "group", readable: is_text, strict: is_strict, STRICT
);
text_id!(
    /// A version of a job or of the agent program.
    Version, "version", readable: is_text, strict: is_version,
    "1 to 64 letters, digits, `.`, `_`, `+` or `-`, starting with a letter or digit (for example `1.2.0`)"
);

fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)
}

fn is_subject_part(text: &str) -> bool {
    is_text(text)
        && !text.chars().any(|c| c.is_whitespace() || matches!(c, '*' | '>'))
        && !text.starts_with('.')
        && !text.ends_with('.')
        && !text.contains("..")
}

fn is_strict(text: &str) -> bool {
    text.len() <= 128
        && is_subject_part(text)
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn is_version(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-'))
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = uuid::Uuid))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

uuid_id!(
    /// Names one Command; the same one when it is sent again.
    RequestId
);
uuid_id!(
    /// Names one run (the wire calls a run a result).
    ResultId
);
uuid_id!(
    /// Names one send: a message that an execution owes the bus.
    SendId
);

impl From<Uuid> for ExecId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string().into())
    }
}

impl ExecId {
    /// The execution that a slot of a schedule fires: the same one for every server and every attempt, so that no slot can
    /// fire twice. UUIDv5 in the OID namespace over `kanade-slot:{schedule}:{slot}`, the slot in RFC 3339.
    pub fn of_slot(schedule: &ScheduleId, slot: Timestamp) -> Self {
        let name = format!("kanade-slot:{schedule}:{slot}");
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).into()
    }
}

impl ResultId {
    /// The id of a result whose sender gave none: the same one for every redelivery.
    pub fn derived(request_id: RequestId, pc_id: &PcId) -> Self {
        let name = format!("kanade-issue-19/legacy-result-id:{request_id}:{pc_id}");
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_execution_whoever_fires_it() {
        let of =
            |schedule: &str, slot: &str| ExecId::of_slot(&schedule.parse().unwrap(), slot.parse().unwrap());
        let nightly = of("nightly", "2026-05-01T02:30:00Z");
        assert_eq!(nightly, of("nightly", "2026-05-01T04:30:00+02:00"));
        // Worked out apart with another implementation of RFC 4122.
        assert_eq!(nightly.as_str(), "6f605774-f149-504c-86db-b14b988434fd");
        assert_ne!(nightly, of("nightly", "2026-05-02T02:30:00Z"));
        assert_ne!(nightly, of("hourly", "2026-05-01T02:30:00Z"));
    }

    #[test]
    fn what_we_create_is_stricter_than_what_we_read() {
        for (text, readable, strict) in [
            ("backup", true, true),
            ("_x-1.2", true, true),
            ("-dash", true, true),
            ("a/b=c", true, false),
            ("ünïcode", true, false),
            ("with space", true, false),
            (".hidden", true, false),
            ("a..b", true, false),
            ("dot.", true, false),
            ("", false, false),
            ("  ", false, false),
            ("new\nline", false, false),
        ] {
            let read = text.parse::<JobId>();
            assert_eq!(read.is_ok(), readable, "reading {text:?}");
            assert_eq!(
                read.is_ok_and(|id| id.check().is_ok()),
                strict,
                "creating {text:?}"
            );
        }
        let longest = "x".repeat(128);
        assert!(longest.parse::<JobId>().unwrap().check().is_ok());
        assert!(format!("{longest}x").parse::<JobId>().unwrap().check().is_err());
        assert!("x".repeat(257).parse::<JobId>().is_err());
    }

    #[test]
    fn an_id_that_goes_into_a_subject_has_no_wildcard() {
        for text in ["a b", "a.*", ">", "a\tb", ".a", "a.", "a..b"] {
            assert!(text.parse::<PcId>().is_err(), "{text:?}");
            assert!(text.parse::<ExecId>().is_err(), "{text:?}");
        }
        assert!("pc.with.dots".parse::<PcId>().is_ok());
    }

    #[test]
    fn a_missing_result_id_is_derived_the_same_every_time() {
        let request = RequestId(Uuid::from_u128(7));
        let pc: PcId = "pc-1".parse().unwrap();
        assert_eq!(ResultId::derived(request, &pc), ResultId::derived(request, &pc));
        assert_ne!(
            ResultId::derived(request, &pc),
            ResultId::derived(request, &"pc-2".parse().unwrap())
        );
    }
}
