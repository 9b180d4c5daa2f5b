//! Long lists as streams: the next page is fetched when its first item is asked for.

use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use reqwest::{Method, header::LINK};
use serde::de::DeserializeOwned;

use crate::{Client, Error};

/// The items of a list, fetched page after page. Ends at the first error.
pub type Items<T> = BoxStream<'static, Result<T, Error>>;

/// Query parameters by name.
pub(crate) type Pairs = Vec<(&'static str, String)>;

/// Where the walk through a list stands.
enum Place {
    First,
    After(String),
    End,
}

impl Client {
    /// The items of the list at a path.
    pub(crate) fn list<T: DeserializeOwned + Send + 'static>(
        &self,
        segments: &[&str],
        pairs: Pairs,
    ) -> Items<T> {
        self.pages::<Vec<T>>(segments, pairs)
            .map_ok(|page| stream::iter(page.into_iter().map(Ok)))
            .try_flatten()
            .fuse()
            .boxed()
    }

    /// The pages of the list at a path, at least one. Each is asked for with `pairs` and, after the first, the
    /// cursor that the page before gave.
    pub(crate) fn pages<P: DeserializeOwned + Send + 'static>(
        &self,
        segments: &[&str],
        pairs: Pairs,
    ) -> Items<P> {
        let client = self.clone();
        let segments: Vec<String> = segments.iter().map(|&segment| segment.to_owned()).collect();
        stream::try_unfold(Place::First, move |place| {
            let (client, segments, mut pairs) = (client.clone(), segments.clone(), pairs.clone());
            async move {
                match &place {
                    Place::End => return Ok(None),
                    Place::First => {}
                    Place::After(cursor) => pairs.push(("cursor", cursor.clone())),
                }
                let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
                let answer = client.call(Method::GET, &segments)?.query(&pairs).send().await?;
                let next = answer.header(&LINK).and_then(next_cursor);
                let request = answer.name.clone();
                let page: P = answer.json().await?;
                let next = match (place, next) {
                    (_, None) => Place::End,
                    (Place::After(before), Some(cursor)) if before == cursor => {
                        return Err(Error::Circular { request });
                    }
                    (_, Some(cursor)) => Place::After(cursor),
                };
                Ok(Some((page, next)))
            }
        })
        .boxed()
    }
}

/// The cursor of the `rel="next"` link among those of a `Link` header (RFC 8288). Only the cursor is taken: the
/// address in the link may be another one than ours when a proxy stands between.
fn next_cursor(header: &str) -> Option<String> {
    let mut rest = header;
    while let Some((_, from)) = rest.split_once('<') {
        let (target, after) = from.split_once('>')?;
        // Parameters reach to the comma in front of the next link.
        let (parameters, following) = match after.find(",<").or_else(|| after.find(", <")) {
            Some(end) => after.split_at(end),
            None => (after, ""),
        };
        let is_next = parameters.split(';').any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value
                        .trim()
                        .trim_matches('"')
                        .split(' ')
                        .any(|rel| rel.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            let url = reqwest::Url::parse("http://server").ok()?.join(target).ok()?;
            return url
                .query_pairs()
                .find(|(name, _)| name == "cursor")
                .map(|(_, value)| value.into_owned());
        }
        rest = following;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_the_next_link_is_found() {
        for (header, cursor) in [
            (r#"</api/executions?cursor=abc&limit=5>; rel="next""#, Some("abc")),
            (
                r#"<https://other/p/api/x?limit=5&cursor=a%2Bb%3D>; rel=next"#,
                Some("a+b="),
            ),
            (
                r#"</x?cursor=no>; rel="prev", </x?cursor=yes>; rel="next""#,
                Some("yes"),
            ),
            (
                r#"</x?cursor=yes>; title="a"; rel="last next",</x?cursor=no>; rel="first""#,
                Some("yes"),
            ),
            (r#"</x?cursor=no>; rel="prev""#, None),
            (r#"</x?limit=5>; rel="next""#, None),
            ("nonsense", None),
            ("<broken", None),
        ] {
            assert_eq!(next_cursor(header).as_deref(), cursor, "{header}");
        }
    }
}
