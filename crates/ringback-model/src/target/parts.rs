//! Takes a URL apart.

use http::Uri;

use super::{InvalidTarget, Scheme};

const MAX_BYTES: usize = 2048;

/// Refuses what no URL that is fit to be called can hold, wherever it is.
pub(super) fn check_text(raw: &str) -> Result<(), InvalidTarget> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if raw.len() > MAX_BYTES {
        Err(InvalidTarget::TooLong)
    } else if !raw.bytes().all(is_plain) {
        Err(InvalidTarget::Characters)
    } else {
        Ok(())
    }
}

/// A scheme we know, and what is behind its `://`.
pub(super) fn split_scheme(raw: &str) -> Result<(Scheme, &str), InvalidTarget> {
    let (scheme, rest) = raw.split_once(':').ok_or(InvalidTarget::Relative)?;
    if scheme.is_empty() || scheme.contains(['/', '?', '#']) {
        return Err(InvalidTarget::Relative);
    }
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return Err(InvalidTarget::Scheme),
    };
    let rest = rest.strip_prefix("//").ok_or(InvalidTarget::Relative)?;
    Ok((scheme, rest))
}

/// The host as written, and the port if there is one.
pub(super) fn split_port(authority: &str) -> Result<(&str, Option<u16>), InvalidTarget> {
    if authority.contains('@') {
        return Err(InvalidTarget::Userinfo);
    }
    // The colons of an IPv6 literal stand before its bracket.
    let after_literal = match authority.rfind(']') {
        Some(end) => end + 1,
        None if authority.starts_with('[') => return Err(InvalidTarget::Host),
        None => 0,
    };
    let Some(colon) = authority[after_literal..]
        .find(':')
        .map(|at| after_literal + at)
    else {
        return Ok((authority, None));
    };
    let digits = &authority[colon + 1..];
    // `parse` alone would take `+443`, and `0443` may be read as octal elsewhere.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.starts_with('0') {
        return Err(InvalidTarget::Port);
    }
    let port = digits.parse().map_err(|_| InvalidTarget::Port)?;
    Ok((&authority[..colon], Some(port)))
}

/// - `rest`: all that followed the authority.
pub(super) fn uri(scheme: Scheme, host: &str, port: u16, rest: &str) -> Result<Uri, InvalidTarget> {
    let request = rest.split('#').next().unwrap_or_default();
    let request = if request.starts_with('/') {
        request.to_owned()
    } else {
        format!("/{request}")
    };
    let authority = if port == scheme.default_port() {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    // The host was checked by stricter rules, so only the path or query can fail.
    Uri::builder()
        .scheme(scheme.as_str())
        .authority(authority)
        .path_and_query(request)
        .build()
        .map_err(|_| InvalidTarget::Characters)
}
