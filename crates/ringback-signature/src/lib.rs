//! Signs and verifies webhooks as Standard Webhooks 1.0.0 lays down.
//!
//! Senders call [`sign`] once per attempt. Receivers call [`verify`] on the bytes of
//! the body as they arrived: parsing and serialising again breaks the signature.
//!
//! Nothing here does I/O or reads a clock.

mod secret;
pub use secret::{InvalidSecret, SigningSecret};

mod sign;
pub use sign::{NoActiveSecret, sign};

mod verify;
pub use verify::{TOLERANCE_S, VerifyError, WebhookHeaders, verify};

/// The header that names the event: the same at every attempt.
pub const ID_HEADER: &str = "webhook-id";
/// The header that holds the attempt's time in Unix seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header that holds the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";
