//! Connecting: how often to try, which servers are refused, and how each connection
//! is set up.

use std::{str::FromStr, time::Duration};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use ringback_model::Retention;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::failure::is_unavailable;

/// How to reach the database, and how much of it to use.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`, as libpq reads it.
    pub url: String,
    /// The most connections for everything but accepting, settling and listening,
    /// which have six of their own.
    pub max_connections: u32,
    /// How long to go on trying when the server cannot be reached at first.
    pub connect_timeout: Duration,
    /// How long days are kept.
    pub retention: Retention,
}

impl Default for PostgresOptions {
    /// The server that libpq's variables name, eight connections, and half a minute
    /// for it to come up.
    fn default() -> Self {
        Self {
            url: "postgres://".to_owned(),
            max_connections: 8,
            connect_timeout: Duration::from_secs(30),
            retention: Retention::default(),
        }
    }
}

/// The URL may hold a password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("max_connections", &self.max_connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none, or asks for what this build cannot do.
    #[error("the database URL is not usable")]
    Url(#[source] sqlx::Error),
    /// The server did not answer in time, or refused for good: a wrong password, or
    /// no such database.
    #[error("PostgreSQL cannot be reached")]
    Unreachable(#[source] sqlx::Error),
    /// The server may lose what it has committed.
    #[error("PostgreSQL runs with `{setting}=off`: it would lose accepted events; turn it on")]
    Unsafe {
        /// The setting that is off.
        setting: &'static str,
    },
    /// The server is older than version 14.
    #[error("PostgreSQL 14 or later is needed; this is {version}")]
    TooOld {
        /// As the server writes it, like `13.22`.
        version: String,
    },
}

/// Settings of every connection.
///
/// The tables that matter are nearly empty or far from it from one moment to the
/// next, so their statistics mislead: plans are made once, without values, and only
/// by index, which also lets a `limit` stop early.
const SESSION: [(&str, &str); 9] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_bitmapscan", "off"),
    ("enable_seqscan", "off"),
    // Compiling takes longer than the longest of them.
    ("jit", "off"),
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "15s"),
    ("timezone", "UTC"),
    // A notice for everything that exists already tells nobody anything.
    ("client_min_messages", "warning"),
];

/// A connection that was not used for so long is asked whether it is still there.
const RESTED: Duration = Duration::from_secs(1);

/// The settings that keep a commit on disk.
const SAFETY: [&str; 2] = ["fsync", "full_page_writes"];

/// How each connection is made.
pub(crate) fn connect_options(url: &str) -> Result<PgConnectOptions, ConnectError> {
    let options = PgConnectOptions::from_str(url).map_err(ConnectError::Url)?;
    Ok(options
        .application_name("ringback")
        .options(SESSION)
        // A span per statement would cost more than some of them.
        .disable_statement_logging())
}

/// Connects once, trying again for `patience`, and refuses a server that is not safe.
pub(crate) async fn check_server(
    options: &PgConnectOptions,
    patience: Duration,
) -> Result<(), ConnectError> {
    let mut connection = connect(options, patience)
        .await
        .map_err(ConnectError::Unreachable)?;
    let (version_number, version, fsync, full_page_writes): (i32, String, String, String) =
        sqlx::query_as(
            "select current_setting('server_version_num')::int4, \
                    current_setting('server_version'), \
                    current_setting('fsync'), \
                    current_setting('full_page_writes')",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(ConnectError::Unreachable)?;
    // The answer is in; what closing says is of no use.
    let _ = connection.close().await;
    if version_number < 140_000 {
        return Err(ConnectError::TooOld { version });
    }
    refuse_unsafe([&fsync, &full_page_writes])
}

/// A pool of long-lived connections; none is made yet.
pub(crate) fn pool(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .max_lifetime(None)
        .idle_timeout(Duration::from_secs(300))
        .acquire_timeout(Duration::from_secs(3))
        // It would cost a round trip each time; only what has rested may be dead unseen.
        .test_before_acquire(false)
        .before_acquire(|connection, history| {
            let rested = history.idle_for >= RESTED;
            Box::pin(async move { Ok(!rested || connection.ping().await.is_ok()) })
        })
        .connect_lazy_with(options)
}

/// Connects, trying again for `patience` while the server is merely not there.
pub(crate) async fn connect(
    options: &PgConnectOptions,
    patience: Duration,
) -> Result<PgConnection, sqlx::Error> {
    let mut pauses = pauses(Some(patience));
    loop {
        match options.connect().await {
            Err(error) if is_unavailable(&error) => match pauses.next_backoff() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            done => return done,
        }
    }
}

/// Growing pauses between tries to connect, from 50 ms to 5 s; endless without an end.
pub(crate) fn pauses(end: Option<Duration>) -> ExponentialBackoff {
    // By the builder: struct update would leave the first pause as it was. The end is
    // named, since the default silently stops after a quarter of an hour.
    ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(50))
        .with_multiplier(2.0)
        .with_max_interval(Duration::from_secs(5))
        .with_max_elapsed_time(end)
        .build()
}

fn refuse_unsafe(values: [&str; 2]) -> Result<(), ConnectError> {
    let mut settings = SAFETY.into_iter().zip(values);
    match settings.find(|(_, value)| *value != "on") {
        Some((setting, _)) => Err(ConnectError::Unsafe { setting }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_may_lose_commits_is_refused_by_the_name_of_its_setting() {
        let cases = [
            (["on", "on"], None),
            (["off", "on"], Some("fsync")),
            (["on", "off"], Some("full_page_writes")),
            (["off", "off"], Some("fsync")),
        ];
        for (values, expected) in cases {
            let refused = match refuse_unsafe(values) {
                Ok(()) => None,
                Err(ConnectError::Unsafe { setting }) => Some(setting),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(refused, expected, "{values:?}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let url = "postgres://ringback:hunter2@localhost/ringback".to_owned();
        let options = PostgresOptions {
            url,
            ..PostgresOptions::default()
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn pauses_begin_short_and_do_not_end_by_themselves() {
        let mut pauses = pauses(None);
        assert!(pauses.next_backoff() <= Some(Duration::from_millis(75)));
        assert_eq!(pauses.max_elapsed_time, None);
    }
}
