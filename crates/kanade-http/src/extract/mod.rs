//! What a request says, as types. Whatever cannot be understood is answered with a problem that names it.

mod body;
mod caller;
mod conditional;
mod idempotency;
mod page;
mod path;
mod query;
mod upload;

pub(crate) use body::{Document, Json};
pub(crate) use conditional::{DeleteIf, ETag, IfMatch, IfNoneMatch, Unless};
pub(crate) use idempotency::{IdempotencyKey, REPLAYED};
pub(crate) use page::{Linked, PageParams, PageRequest, by_id, whole};
pub(crate) use path::Path;
pub(crate) use query::{Query, filter, parsed, read};
pub(crate) use upload::Upload;

/// The text of a header that is fit for a log line or a record: printable ASCII, at least one character.
fn printable(value: &http::HeaderValue, longest: usize) -> Option<&str> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let fit = (1..=longest).contains(&text.len()) && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    fit.then_some(text)
}
