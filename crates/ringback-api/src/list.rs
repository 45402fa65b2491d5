//! Pages of lists.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Uri, header::LINK};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    Api,
    cursor::{self, FilterHash},
    error::ApiError,
    json::Json,
    query,
};

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// At most `limit` items. There may be fewer although more follow.
    pub(crate) data: Vec<T>,
    /// Give it as `cursor` to get what follows; null at the end.
    pub(crate) next_cursor: Option<String>,
}

/// Which page is asked for. `N` numbers say where an item stands.
pub(crate) struct PageOf<'a, const N: usize> {
    /// How many items it has at most.
    pub(crate) limit: u32,
    /// It begins behind this one.
    pub(crate) before: Option<[i64; N]>,
    uri: &'a Uri,
    filter: FilterHash,
}

impl<'a, const N: usize> PageOf<'a, N> {
    pub(crate) fn read(
        uri: &'a Uri,
        limit: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Self, ApiError> {
        let filter = filter_hash(uri);
        let before = cursor
            .map(|text| cursor::decode(text, filter))
            .transpose()?;
        Ok(Self {
            limit: query::limit(limit)?,
            before,
            uri,
            filter,
        })
    }

    /// Answers with these items.
    ///
    /// - `next`: where the last one stands, if more follow.
    pub(crate) fn answer<T: Serialize>(
        &self,
        api: &Api,
        data: Vec<T>,
        next: Option<[i64; N]>,
    ) -> Response {
        let next_cursor = next.map(|position| cursor::encode(self.filter, position));
        let link = next_cursor
            .as_deref()
            .map(|cursor| next_link(api, self.uri, cursor));
        let mut response = Json(List { data, next_cursor }).into_response();
        if let Some(Ok(link)) = link.map(HeaderValue::try_from) {
            response.headers_mut().insert(LINK, link);
        }
        response
    }
}

impl PageOf<'_, 1> {
    /// One more than the page has, to see whether more follow.
    pub(crate) fn and_one_more(&self) -> u32 {
        self.limit + 1
    }

    /// Answers with items that were read with [`Self::and_one_more`].
    pub(crate) fn answer_first<T, V: Serialize>(
        &self,
        api: &Api,
        mut items: Vec<T>,
        id: impl Fn(&T) -> i64,
        view: impl FnMut(T) -> Result<V, ApiError>,
    ) -> Result<Response, ApiError> {
        let more = items.len() > self.limit as usize;
        items.truncate(self.limit as usize);
        let next = items.last().map(|last| [id(last)]).filter(|_| more);
        let data = items.into_iter().map(view).collect::<Result<_, _>>()?;
        Ok(self.answer(api, data, next))
    }
}

/// Of the path and all parameters that choose; their order does not count.
fn filter_hash(uri: &Uri) -> FilterHash {
    let mut pairs: Vec<(&str, &str)> = pairs(uri)
        .filter(|(name, _)| !matches!(*name, "cursor" | "limit"))
        .collect();
    pairs.sort_unstable();
    FilterHash::of(std::iter::once((uri.path(), "")).chain(pairs))
}

fn next_link(api: &Api, uri: &Uri, cursor: &str) -> String {
    let mut query: String = pairs(uri)
        .filter(|(name, _)| *name != "cursor")
        .map(|(name, value)| format!("{name}={value}&"))
        .collect();
    query.push_str("cursor=");
    query.push_str(cursor);
    format!(
        "<{}>; rel=\"next\"",
        api.link(&format!("{}?{query}", uri.path()))
    )
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    let parts = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_the_same_in_any_order_and_on_any_page() {
        let hash = |uri: &str| filter_hash(&uri.parse().unwrap());
        let one = hash("/v1/deliveries?status=dead&app=billing");
        assert_eq!(
            one,
            hash("/v1/deliveries?app=billing&limit=5&status=dead&cursor=x")
        );
        assert_ne!(one, hash("/v1/deliveries?app=billing&status=held"));
        assert_ne!(one, hash("/v1/deliveries?app=billing"));
        assert_ne!(one, hash("/v1/events?status=dead&app=billing"));
    }
}
