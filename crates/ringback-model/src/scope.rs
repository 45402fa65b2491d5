//! What an API key may do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One permission of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Scope {
    /// Emit events.
    EventsWrite,
    /// See subscriptions and applications.
    SubscriptionsRead,
    /// Create, change and delete subscriptions; see their secrets.
    SubscriptionsWrite,
    /// See deliveries, attempts and events, without bodies.
    DeliveriesRead,
    /// See what events and answers contain.
    PayloadsRead,
    /// Replay and cancel deliveries.
    Replay,
    /// See jobs.
    JobsRead,
    /// Submit and control jobs.
    JobsWrite,
    /// Lease and finish jobs.
    JobsWork,
    /// Everything.
    Admin,
}

/// A text names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope `{0}`; scopes are {list}", list = Scope::ALL.map(Scope::as_str).join(", "))]
pub struct UnknownScope(String);

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 10] = [
        Self::EventsWrite,
        Self::SubscriptionsRead,
        Self::SubscriptionsWrite,
        Self::DeliveriesRead,
        Self::PayloadsRead,
        Self::Replay,
        Self::JobsRead,
        Self::JobsWrite,
        Self::JobsWork,
        Self::Admin,
    ];

    /// The scope as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventsWrite => "events:write",
            Self::SubscriptionsRead => "subscriptions:read",
            Self::SubscriptionsWrite => "subscriptions:write",
            Self::DeliveriesRead => "deliveries:read",
            Self::PayloadsRead => "payloads:read",
            Self::Replay => "replay",
            Self::JobsRead => "jobs:read",
            Self::JobsWrite => "jobs:write",
            Self::JobsWork => "jobs:work",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let named = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        named.ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

impl TryFrom<String> for Scope {
    type Error = UnknownScope;

    fn try_from(text: String) -> Result<Self, UnknownScope> {
        text.parse()
    }
}

impl From<Scope> for &'static str {
    fn from(scope: Scope) -> Self {
        scope.as_str()
    }
}

/// A set of scopes.
///
/// ```
/// # use ringback_model::{Scope, Scopes};
/// let scopes: Scopes = [Scope::EventsWrite].into_iter().collect();
/// assert!(scopes.allow(Scope::EventsWrite) && !scopes.allow(Scope::Replay));
///
/// let admin: Scopes = [Scope::Admin].into_iter().collect();
/// assert!(admin.allow(Scope::Replay)); // an admin may do everything
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u16);

impl Scopes {
    /// Whether a key with these scopes may do what needs `scope`.
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether every permission of `other` is one of these.
    pub const fn include(self, other: Self) -> bool {
        self.0 & Scope::Admin.bit() != 0 || other.0 & !self.0 == 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .into_iter()
            .filter(move |scope| self.0 & scope.bit() != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}
