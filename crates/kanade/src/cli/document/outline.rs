//! Where the fields of a YAML document stand, for complaints about what they hold.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// Where the fields of a document stand.
pub(super) enum Outline {
    Map(Vec<(Spanned<String>, Outline)>),
    List(Vec<Spanned<Outline>>),
    Value,
    Null,
}

impl Outline {
    /// Line and column of the field with a dotted path, or of the nearest field around it.
    pub(super) fn place(&self, path: &str) -> Option<(u64, u64)> {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let (at, inner) = match self {
            Self::Map(fields) => {
                let (key, inner) = fields.iter().find(|(key, _)| key.value == first)?;
                (position(key), inner)
            }
            Self::List(items) => {
                let item = items.get(first.parse::<usize>().ok()?)?;
                (position(item), &item.value)
            }
            Self::Value | Self::Null => return None,
        };
        inner.place(rest).or(Some(at))
    }

    pub(super) fn has(&self, field: &str) -> bool {
        matches!(self, Self::Map(fields) if fields.iter().any(|(key, _)| key.value == field))
    }
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Outline::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Outline, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Outline::List(items))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Outline, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Outline, E> {
        Ok(Outline::Value)
    }

    fn visit_unit<E>(self) -> Result<Outline, E> {
        Ok(Outline::Null)
    }

    fn visit_none<E>(self) -> Result<Outline, E> {
        Ok(Outline::Null)
    }
}

/// Line and column of a value.
pub(super) fn position<T>(spanned: &Spanned<T>) -> (u64, u64) {
    (spanned.referenced.line(), spanned.referenced.column())
}
