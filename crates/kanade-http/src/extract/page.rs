//! Pages of lists: how many items a caller wants, where it goes on, and how it is told where the next page begins.

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderValue, Uri, header::LINK, request::Parts};
use kanade_model::Invalid;
use kanade_ports::{MAX_LIMIT, PAGE_BYTES, Page, PageBuilder, Position, Progress, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::query;
use crate::{App, problem::Problem};

/// Which part of a list is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// The most items on the page, 1 to 1,000; larger is taken as 1,000.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1)]
    limit: Option<Limit>,
    /// Where to go on: from the `Link` header of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// What a request says about the page it wants.
pub(crate) struct PageRequest {
    params: PageParams,
    uri: Uri,
}

impl FromRequestParts<App> for PageRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Ok(Self {
            params: query::read(&parts.uri)?,
            uri: parts.uri.clone(),
        })
    }
}

impl PageRequest {
    /// The most items on the page, if the caller says so.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.params.limit.as_ref().map(|limit| limit.0)
    }

    /// Where the page begins. The cursor must be one of this very list.
    pub(crate) fn after(&self, list: &str) -> Result<Option<Position>, Problem> {
        let Some(cursor) = &self.params.cursor else {
            return Ok(None);
        };
        decode(list, cursor).map(Some).ok_or_else(|| {
            Invalid::new(
                "cursor",
                cursor,
                "one from the `Link` header of this list is wanted; leave it out to begin at the start",
            )
            .into()
        })
    }

    /// The answer that holds a page of `list`.
    pub(crate) fn answer<T>(&self, list: &str, page: Page<T>) -> Linked<Vec<T>> {
        self.link(list, page.items, page.next.as_ref())
    }

    /// The answer with `body`, which goes on at `next`.
    pub(crate) fn link<B>(&self, list: &str, body: B, next: Option<&Position>) -> Linked<B> {
        Linked {
            body,
            next: next.map(|next| relative(&self.uri, &encode(list, next))),
        }
    }
}

/// A JSON body, and where its list goes on as a `Link` header (RFC 8288).
pub(crate) struct Linked<B> {
    body: B,
    next: Option<String>,
}

impl<B: Serialize> IntoResponse for Linked<B> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.body).into_response();
        let link = self.next.map(|next| format!("<{next}>; rel=\"next\""));
        // A URL that came in as one is also fit to be a header.
        if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
            response.headers_mut().insert(LINK, link);
        }
        response
    }
}

/// A page that holds as much of a list as fits, out of as many smaller pages as it takes.
pub(crate) async fn whole<T, F>(
    mut after: Option<Position>,
    fetch: impl Fn(Option<Position>) -> F,
    place: impl Fn(&T) -> Position,
    bytes: impl Fn(&T) -> usize,
) -> Result<Page<T>, StoreError>
where
    F: Future<Output = Result<Page<T>, StoreError>>,
{
    let mut page = PageBuilder::new(usize::MAX, usize::MAX, PAGE_BYTES);
    loop {
        let fetched = fetch(after).await?;
        for item in fetched.items {
            let (at, bytes) = (place(&item), bytes(&item));
            if page.offer(Some(item), || at, bytes) == Progress::Full {
                return Ok(page.finish(false));
            }
        }
        match fetched.next {
            Some(next) => after = Some(next),
            None => return Ok(page.finish(true)),
        }
    }
}

/// A page of a list that is in memory, in the order of its ids.
pub(crate) fn by_id<T>(
    items: Vec<T>,
    limit: Option<usize>,
    after: Option<&Position>,
    id: impl Fn(&T) -> String,
    bytes: impl Fn(&T) -> usize,
) -> Page<T> {
    let mut page = PageBuilder::new(limit.unwrap_or(usize::MAX), usize::MAX, PAGE_BYTES);
    let mut items = items
        .into_iter()
        .map(|item| (id(&item), item))
        .filter(|(id, _)| after.is_none_or(|after| *id > after.id))
        .peekable();
    while let Some((id, item)) = items.next() {
        let bytes = bytes(&item);
        let at = || Position {
            at: 0,
            id: id.clone(),
        };
        if page.offer(Some(item), at, bytes) == Progress::Full {
            // The last item may have filled the page; one that did not fit is still in hand.
            let page = page.finish(false);
            let ended = items.peek().is_none() && page.next.as_ref().is_some_and(|last| last.id == id);
            return Page {
                next: page.next.filter(|_| !ended),
                ..page
            };
        }
    }
    page.finish(true)
}

/// How many items a page may have.
#[derive(Debug)]
struct Limit(usize);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number with too many digits is larger than any limit.
        let limit = digits.then(|| text.parse().unwrap_or(usize::MAX).min(MAX_LIMIT));
        match limit {
            Some(limit) if limit > 0 => Ok(Self(limit)),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is not valid: a number from 1 to {MAX_LIMIT} is wanted"
            ))),
        }
    }
}

/// Between the parts of a cursor; stands in no id.
const SEPARATOR: char = '\n';

fn encode(list: &str, position: &Position) -> String {
    let Position { at, id } = position;
    BASE64_URL_SAFE_NO_PAD.encode(format!("{list}{SEPARATOR}{at}{SEPARATOR}{id}"))
}

fn decode(list: &str, cursor: &str) -> Option<Position> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (at, id) = text
        .strip_prefix(list)?
        .strip_prefix(SEPARATOR)?
        .split_once(SEPARATOR)?;
    Some(Position {
        at: at.parse().ok()?,
        id: id.to_owned(),
    })
}

/// The same URL with another cursor, relative to the server.
fn relative(uri: &Uri, cursor: &str) -> String {
    let mut query: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"))
        .collect();
    let cursor = format!("cursor={cursor}");
    query.push(&cursor);
    format!("{}?{}", uri.path(), query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: i64, id: &str) -> Position {
        Position {
            at,
            id: id.to_owned(),
        }
    }

    #[test]
    fn a_cursor_is_only_good_for_its_own_list() {
        let position = place(-7, "a/b c");
        let cursor = encode("results", &position);
        assert_eq!(decode("results", &cursor), Some(position));
        assert_eq!(decode("result", &cursor), None);
        assert_eq!(decode("executions", &cursor), None);
        for garbage in ["", "x", "ä", "cmVzdWx0cw", &cursor[1..]] {
            assert_eq!(decode("results", garbage), None, "{garbage}");
        }
    }

    #[test]
    fn the_next_page_keeps_every_other_parameter_as_it_was_written() {
        for (uri, next) in [
            ("/api/results", "/api/results?cursor=C"),
            (
                "/api/results?limit=2&stdout=a%26b",
                "/api/results?limit=2&stdout=a%26b&cursor=C",
            ),
            ("/api/results?cursor=B&limit=2", "/api/results?limit=2&cursor=C"),
            (
                "/api/inventory/by-job/a%2Fb?cursor",
                "/api/inventory/by-job/a%2Fb?cursor=C",
            ),
        ] {
            assert_eq!(relative(&uri.parse().unwrap(), "C"), next);
        }
    }

    #[test]
    fn a_page_from_memory_ends_at_its_limit_and_says_whether_more_follows() {
        let items = || vec!["a", "b", "c"];
        let page = |limit, after: Option<&Position>| by_id(items(), limit, after, ToString::to_string, |_| 1);
        let first = page(Some(2), None);
        assert_eq!(
            (first.items.as_slice(), &first.next),
            (&["a", "b"][..], &Some(place(0, "b")))
        );
        let last = page(Some(2), first.next.as_ref());
        assert_eq!((last.items.as_slice(), last.next), (&["c"][..], None));
        assert_eq!(page(Some(3), None).next, None, "nothing follows a full last page");
        assert_eq!(page(None, None).items.len(), 3);
    }

    #[tokio::test]
    async fn a_whole_list_is_put_together_until_it_is_too_large() {
        let numbers = |after: Option<Position>| {
            let first = after.map_or(0, |after| after.at + 1);
            let items: Vec<i64> = (first..first + 10).collect();
            Page {
                next: (first + 10 < 100).then(|| place(first + 9, "")),
                items,
            }
        };
        let fetch = |after| std::future::ready(Ok(numbers(after)));
        let small = whole(None, fetch, |n| place(*n, ""), |_| 1).await.unwrap();
        assert_eq!((small.items.len(), small.next), (100, None));
        let large = whole(None, fetch, |n| place(*n, ""), |_| PAGE_BYTES / 25)
            .await
            .unwrap();
        assert_eq!((large.items.len(), large.next), (25, Some(place(24, ""))));
    }
}
