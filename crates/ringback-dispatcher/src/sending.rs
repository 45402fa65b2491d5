//! One subscription, opened and parsed: ready to be sent to.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue};
use ringback_model::{
    AppId, AttemptError, CustomHeaders, Host, InvalidTarget, Lane, RetryPolicy, SubscriptionId,
    SubscriptionStatus, Target, TargetPolicy,
};
use ringback_signature::SigningSecret;
use ringback_store::{OpenError, Sealed, SendingState, Vault};

/// What is needed to send to a subscription, or instead.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) id: SubscriptionId,
    pub(crate) app: AppId,
    pub(crate) lane: Lane,
    pub(crate) service: Service,
    pub(crate) version: i32,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
    /// Attempts per second, if that is limited.
    pub(crate) rate_per_s: Option<f64>,
    /// Whom it is sent to, as far as others may be sent to the same.
    pub(crate) host: Option<Arc<str>>,
    /// What an attempt needs, or why every attempt fails without connecting.
    pub(crate) endpoint: Result<Endpoint, Fault>,
}

/// What becomes of a subscription's deliveries in their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// They are sent.
    Send,
    /// They have to wait.
    Hold,
    /// They are dead without an attempt.
    Disabled,
    /// They are cancelled without an attempt.
    Deleted,
}

/// Where to, and with what.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) target: Arc<Target>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Newest first.
    secrets: Vec<SigningSecret>,
    /// When each secret ends.
    expires_at: Vec<Option<DateTime<Utc>>>,
}

/// Why nothing can be sent to a subscription: its row was written by other means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("its URL is refused: {0}")]
    Target(InvalidTarget),
    #[error("its headers cannot be opened: {0}")]
    SealedHeaders(OpenError),
    #[error("its headers are not understood")]
    Headers,
    #[error("a signing secret cannot be opened: {0}")]
    SealedSecret(OpenError),
    #[error("a signing secret is not understood")]
    Secret,
}

impl Fault {
    /// How an attempt is recorded that fails by it.
    pub(crate) fn error(self) -> AttemptError {
        match self {
            Self::Target(
                InvalidTarget::BlockedAddress
                | InvalidTarget::LocalName
                | InvalidTarget::Scheme
                | InvalidTarget::Port,
            ) => AttemptError::BlockedAddress,
            _ => AttemptError::Protocol,
        }
    }
}

impl Sending {
    /// Opens what the store has of a subscription.
    pub(crate) fn open(state: SendingState, vault: &Vault, policy: &TargetPolicy) -> Self {
        let endpoint = Endpoint::open(&state, vault, policy);
        Self {
            id: state.id,
            app: state.app,
            lane: state.lane,
            service: service(&state),
            version: state.version,
            // Checked when it was stored; what is none any more is better than nothing.
            retry: RetryPolicy::try_from(&state.retry).unwrap_or_default(),
            timeout: Duration::from_millis(state.timeout_ms.into()),
            max_in_flight: usize::from(state.max_in_flight).max(1),
            rate_per_s: state.rate_per_s.filter(|per_s| *per_s > 0.0),
            host: endpoint.as_ref().ok().map(Endpoint::host),
            endpoint,
        }
    }
}

impl Endpoint {
    fn open(state: &SendingState, vault: &Vault, policy: &TargetPolicy) -> Result<Self, Fault> {
        let target = Target::parse(&state.url, policy).map_err(Fault::Target)?;
        let headers = match &state.headers {
            Some(sealed) => open_headers(state.id, sealed, vault)?,
            None => Vec::new(),
        };
        let secrets = state
            .secrets
            .iter()
            .map(|(sealed, _)| open_secret(state.id, sealed, vault));
        Ok(Self {
            target: Arc::new(target),
            headers,
            secrets: secrets.collect::<Result<_, _>>()?,
            expires_at: state
                .secrets
                .iter()
                .map(|(_, expires_at)| *expires_at)
                .collect(),
        })
    }

    fn host(&self) -> Arc<str> {
        match self.target.host() {
            Host::Name(name) => name.as_str().into(),
            Host::V4(address) => address.to_string().into(),
            Host::V6(address) => address.to_string().into(),
        }
    }

    /// Calls `sign` with the secrets that are live at `now`, newest first.
    pub(crate) fn with_secrets<T>(
        &self,
        now: DateTime<Utc>,
        sign: impl FnOnce(&[SigningSecret]) -> T,
    ) -> T {
        let is_live = |expires_at: &Option<DateTime<Utc>>| expires_at.is_none_or(|end| now < end);
        if self.expires_at.iter().all(is_live) {
            return sign(&self.secrets);
        }
        let both = self.secrets.iter().zip(&self.expires_at);
        let live: Vec<_> = both
            .filter(|(_, end)| is_live(end))
            .map(|(secret, _)| secret.clone())
            .collect();
        sign(&live)
    }
}

fn service(state: &SendingState) -> Service {
    match state.status {
        _ if state.deleted => Service::Deleted,
        SubscriptionStatus::Active => Service::Send,
        SubscriptionStatus::Paused => Service::Hold,
        SubscriptionStatus::Disabled => Service::Disabled,
    }
}

fn open_headers(
    id: SubscriptionId,
    sealed: &Sealed,
    vault: &Vault,
) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let json = vault
        .open(&format!("headers:{id}"), sealed)
        .map_err(Fault::SealedHeaders)?;
    let headers: CustomHeaders = serde_json::from_slice(&json).map_err(|_| Fault::Headers)?;
    Ok(headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect())
}

fn open_secret(id: SubscriptionId, sealed: &Sealed, vault: &Vault) -> Result<SigningSecret, Fault> {
    let text = vault
        .open(&format!("secret:{id}"), sealed)
        .map_err(Fault::SealedSecret)?;
    let text = std::str::from_utf8(&text).map_err(|_| Fault::Secret)?;
    text.parse().map_err(|_| Fault::Secret)
}

#[cfg(test)]
pub(crate) mod tests {
    use ringback_model::{AddressPolicy, Ordering, RetrySpec};
    use ringback_store::MasterKey;

    use super::*;

    pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OLDER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    pub(crate) fn vault() -> Vault {
        let key: MasterKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
            .parse()
            .unwrap();
        Vault::new(&key, &[])
    }

    pub(crate) fn state(vault: &Vault) -> SendingState {
        let id = SubscriptionId::new(7);
        SendingState {
            id,
            app: AppId::new(1),
            lane: Lane::of(id),
            status: SubscriptionStatus::Active,
            deleted: false,
            version: 3,
            url: "https://r.example/hooks".to_owned(),
            headers: Some(vault.seal("headers:sub_0000000000007", br#"{"x-env":"prod"}"#)),
            retry: RetrySpec::default(),
            timeout_ms: 1500,
            max_in_flight: 10,
            rate_per_s: None,
            ordering: Ordering::None,
            secrets: vec![(
                vault.seal("secret:sub_0000000000007", SECRET.as_bytes()),
                None,
            )],
            failing: None,
        }
    }

    fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn revealed(endpoint: &Endpoint, at: DateTime<Utc>) -> Vec<String> {
        endpoint.with_secrets(at, |secrets| {
            secrets.iter().map(SigningSecret::reveal).collect()
        })
    }

    #[test]
    fn a_subscription_is_opened_and_parsed_once() {
        let vault = vault();
        let sending = Sending::open(state(&vault), &vault, &TargetPolicy::default());
        let endpoint = sending.endpoint.unwrap();
        assert_eq!(endpoint.target.as_str(), "https://r.example/hooks");
        assert_eq!(endpoint.headers.len(), 1);
        assert_eq!(revealed(&endpoint, now()), [SECRET]);
        assert_eq!(sending.timeout, Duration::from_millis(1500));
        assert_eq!(sending.service, Service::Send);
    }

    #[test]
    fn an_older_secret_signs_until_its_end() {
        let vault = vault();
        let mut state = state(&vault);
        let older = vault.seal("secret:sub_0000000000007", OLDER.as_bytes());
        state.secrets.push((older, Some(now())));
        let sending = Sending::open(state, &vault, &TargetPolicy::default());
        let endpoint = sending.endpoint.unwrap();
        assert_eq!(
            revealed(&endpoint, now() - Duration::from_millis(1)),
            [SECRET, OLDER]
        );
        assert_eq!(revealed(&endpoint, now()), [SECRET]);
    }

    #[test]
    fn a_row_that_was_tampered_with_fails_every_attempt() {
        let vault = vault();
        let foreign = Vault::new(&MasterKey::generate().unwrap(), &[]);
        let lab = AddressPolicy::new(vec!["10.0.0.0/8".parse().unwrap()], vec![]);
        let policy = TargetPolicy {
            addresses: lab,
            ..TargetPolicy::default()
        };
        type Change = fn(&mut SendingState, &Vault);
        let cases: [(&str, Change, AttemptError); _] = [
            (
                "port",
                |s, _| s.url = "https://r.example:22/".into(),
                AttemptError::BlockedAddress,
            ),
            (
                "http",
                |s, _| s.url = "http://r.example/".into(),
                AttemptError::BlockedAddress,
            ),
            (
                "private",
                |s, _| s.url = "https://192.168.0.1/".into(),
                AttemptError::BlockedAddress,
            ),
            (
                "no URL",
                |s, _| s.url = "x y".into(),
                AttemptError::Protocol,
            ),
            (
                "headers of another",
                |s, v| s.headers = Some(v.seal("headers:sub_0000000000008", b"{}")),
                AttemptError::Protocol,
            ),
            (
                "reserved header",
                |s, v| {
                    let json = br#"{"host":"x"}"#;
                    s.headers = Some(v.seal("headers:sub_0000000000007", json));
                },
                AttemptError::Protocol,
            ),
            (
                "no secret at all",
                |s, v| s.secrets[0].0 = v.seal("secret:sub_0000000000007", b"x"),
                AttemptError::Protocol,
            ),
        ];
        for (case, change, expected) in cases {
            let mut changed = state(&vault);
            change(&mut changed, &vault);
            let sending = Sending::open(changed, &vault, &policy);
            assert_eq!(sending.endpoint.unwrap_err().error(), expected, "{case}");
        }
        let sending = Sending::open(state(&foreign), &vault, &policy);
        assert!(sending.endpoint.is_err(), "sealed with another key");
    }

    #[test]
    fn what_becomes_of_deliveries_follows_the_status() {
        let vault = vault();
        let cases = [
            (SubscriptionStatus::Active, false, Service::Send),
            (SubscriptionStatus::Paused, false, Service::Hold),
            (SubscriptionStatus::Disabled, false, Service::Disabled),
            (SubscriptionStatus::Active, true, Service::Deleted),
            (SubscriptionStatus::Disabled, true, Service::Deleted),
        ];
        for (status, deleted, expected) in cases {
            let state = SendingState {
                status,
                deleted,
                ..state(&vault)
            };
            let sending = Sending::open(state, &vault, &TargetPolicy::default());
            assert_eq!(sending.service, expected, "{status}, deleted: {deleted}");
        }
    }
}
