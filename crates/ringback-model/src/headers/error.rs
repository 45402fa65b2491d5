//! Why a header is refused.

/// A header that a subscriber cannot have. Never shows a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Not a token of at most 128 characters.
    #[error("the header name \"{0}\" is not of 1 to 128 letters, digits and `-`")]
    Name(String),
    /// One that frames the message, or that is ours to set.
    #[error("the header `{0}` is set by the sender; choose another name")]
    Reserved(String),
    /// Given twice, in different case.
    #[error("the header `{0}` is given twice; give it once")]
    Duplicate(String),
    /// Not visible ASCII of at most 4096 characters.
    #[error(
        "the value of the header `{0}` is not of at most 4096 visible ASCII characters, with spaces only between them"
    )]
    Value(String),
    /// More than 20.
    #[error("there are {0} headers, and at most 20 are taken")]
    TooMany(usize),
    /// More than 16 KiB.
    #[error("the headers are {0} bytes in all, and at most 16384 are taken")]
    TooLarge(usize),
}

impl InvalidHeader {
    /// The fault as one word, which never changes.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "header_name",
            Self::Reserved(_) => "header_reserved",
            Self::Duplicate(_) => "header_duplicate",
            Self::Value(_) => "header_value",
            Self::TooMany(_) => "too_many_headers",
            Self::TooLarge(_) => "headers_too_large",
        }
    }
}
