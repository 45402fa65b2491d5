//! What becomes of a delivery, and of the subscription it is for.

words! {
    /// Where a delivery is on its way.
    DeliveryStatus {
        /// Its first attempt is not finished.
        Pending = 0 "pending",
        /// At least one attempt failed; another is to come.
        Retrying = 1 "retrying",
        /// A receiver answered 2xx.
        Delivered = 2 "delivered",
        /// A dead letter: out of attempts, or refused for good.
        Dead = 3 "dead",
        /// Waiting because its subscription is paused.
        Held = 4 "held",
        /// An admin withdrew it, or its subscription was deleted.
        Cancelled = 5 "cancelled",
    }
}

words! {
    /// Whether a subscription gets deliveries.
    SubscriptionStatus {
        /// It does.
        Active = 0 "active",
        /// New deliveries are made and held.
        Paused = 1 "paused",
        /// New events make no deliveries.
        Disabled = 2 "disabled",
    }
}

words! {
    /// Why an attempt failed.
    AttemptError {
        /// The receiver answered something other than 2xx.
        HttpStatus = 1 "http_status",
        /// The name has no address, or nobody could say.
        Dns = 2 "dns",
        /// Nobody listens there.
        ConnectRefused = 3 "connect_refused",
        /// No connection within the connect timeout.
        ConnectTimeout = 4 "connect_timeout",
        /// The certificate or the handshake is no good.
        Tls = 5 "tls",
        /// Connected, but not answered within the attempt's time.
        Timeout = 6 "timeout",
        /// The connection broke before an answer.
        Reset = 7 "reset",
        /// The answer's headers exceed the limits.
        TooLarge = 8 "too_large",
        /// The receiver answered 3xx, which is never followed.
        Redirect = 9 "redirect",
        /// The address is one that Ringback does not call.
        BlockedAddress = 10 "blocked_address",
        /// What came back is not HTTP/1.1.
        Protocol = 11 "protocol",
    }
}

words! {
    /// Why a delivery is dead, beyond its last attempt's error.
    DeadReason {
        /// The schedule has no further attempt.
        OutOfAttempts = 1 "out_of_attempts",
        /// Its subscription was disabled.
        SubscriptionDisabled = 2 "subscription_disabled",
        /// Its event is no longer kept: there is nothing to send.
        PayloadExpired = 3 "payload_expired",
    }
}

/// What an answer means for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Delivered,
    /// To be attempted again, if the schedule has another attempt.
    Failed(AttemptError),
    /// The receiver wants nothing more, ever: its subscription is disabled.
    SubscriptionGone,
}

impl Outcome {
    /// Judges an answer by its status, as Standard Webhooks 1.0.0 does.
    pub const fn from_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            300..=399 => Self::Failed(AttemptError::Redirect),
            410 => Self::SubscriptionGone,
            _ => Self::Failed(AttemptError::HttpStatus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_follows_the_status_code() {
        let failed = Outcome::Failed(AttemptError::HttpStatus);
        let redirect = Outcome::Failed(AttemptError::Redirect);
        let cases = [
            (200, Outcome::Delivered),
            (204, Outcome::Delivered),
            (299, Outcome::Delivered),
            (301, redirect), // never followed
            (304, redirect),
            (308, redirect),
            (400, failed), // receivers get mended
            (401, failed),
            (404, failed), // receivers redeploy; routes come back
            (410, Outcome::SubscriptionGone),
            (429, failed),
            (500, failed),
            (101, failed),
        ];
        for (status, expected) in cases {
            assert_eq!(Outcome::from_status(status), expected, "status {status}");
        }
    }

    #[test]
    fn words_survive_the_database() {
        for error in AttemptError::ALL {
            assert_eq!(AttemptError::from_code(error.code()), Some(*error));
            assert_eq!(error.as_str().parse(), Ok(*error));
        }
        assert_eq!(AttemptError::from_code(99), None);
        for reason in DeadReason::ALL {
            assert_eq!(DeadReason::from_code(reason.code()), Some(*reason));
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
    }
}
