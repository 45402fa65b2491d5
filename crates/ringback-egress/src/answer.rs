//! Reads answers, as much of them as is kept.

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{Answer, Failure};

/// A longer body is not read to its end, so its connection is not kept either.
const READ_BYTES: usize = 64 * 1024;
const STORED_BYTES: usize = 16 * 1024;

const STORED_HEADERS: usize = 50;
const STORED_HEADER_BYTES: usize = 1024;
const STORED_HEADERS_BYTES: usize = 16 * 1024;

/// Reads an answer to its end, or as far as it is read at all.
pub(crate) async fn read_answer(response: Response<Incoming>) -> Result<Answer, Failure> {
    let (head, body) = response.into_parts();
    let (body, truncated) = read_body(body).await?;
    let headers = stored_headers(&head.headers);
    Ok(Answer {
        status: head.status.as_u16(),
        headers,
        body,
        truncated,
    })
}

async fn read_body(mut body: Incoming) -> Result<(Bytes, bool), Failure> {
    let (mut stored, mut read) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::of_exchange(&error))?;
        // Trailers are of no use to anyone here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let room = STORED_BYTES.saturating_sub(read).min(data.len());
        stored.extend_from_slice(&data[..room]);
        read += data.len();
        if read > READ_BYTES {
            break;
        }
    }
    Ok((stored.into(), read > STORED_BYTES))
}

fn stored_headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut left = STORED_HEADERS_BYTES;
    let mut stored = Vec::with_capacity(headers.len().min(STORED_HEADERS));
    for (name, value) in headers {
        let Some(room) = left
            .min(STORED_HEADER_BYTES)
            .checked_sub(name.as_str().len())
        else {
            continue;
        };
        let value = &value.as_bytes()[..value.len().min(room)];
        left -= name.as_str().len() + value.len();
        stored.push((name.as_str().to_owned(), value.to_vec()));
        if stored.len() == STORED_HEADERS {
            break;
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(headers: &[(&str, usize)]) -> Vec<(String, usize)> {
        let mut map = HeaderMap::new();
        for (name, length) in headers {
            let value = vec![b'x'; *length].try_into().unwrap();
            map.append(name.parse::<http::HeaderName>().unwrap(), value);
        }
        stored_headers(&map)
            .into_iter()
            .map(|(name, value)| (name, value.len()))
            .collect()
    }

    #[test]
    fn of_many_headers_some_are_kept_and_of_long_ones_the_beginning() {
        let long_name = "n".repeat(1025);
        let names: Vec<String> = (0..60).map(|number| format!("x-{number}")).collect();

        assert_eq!(
            stored(&[("A", 3), ("a", 4)]),
            [("a".to_owned(), 3), ("a".to_owned(), 4)]
        );
        assert_eq!(stored(&[("a", 5000)]), [("a".to_owned(), 1023)]);
        assert_eq!(stored(&[(&long_name, 1), ("b", 1)]), [("b".to_owned(), 1)]);

        let short: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(stored(&short).len(), 50);

        let long: Vec<_> = names.iter().map(|name| (name.as_str(), 1000)).collect();
        let bytes: usize = stored(&long)
            .iter()
            .map(|(name, value)| name.len() + value)
            .sum();
        assert!((16_300..=16 * 1024).contains(&bytes), "{bytes}");
    }

    #[test]
    fn headers_need_not_be_text() {
        let mut map = HeaderMap::new();
        map.insert("x-latin", b"caf\xe9".as_slice().try_into().unwrap());
        assert_eq!(
            stored_headers(&map),
            [("x-latin".to_owned(), b"caf\xe9".to_vec())]
        );
    }
}
