//! Carries hints between processes, by `LISTEN` and `NOTIFY`.
//!
//! Sending one costs a lock that all of the server's databases share, so what comes
//! in a hundredth of a second travels together, and never inside a transaction that
//! does something else.

mod payload;

use std::{
    collections::HashSet,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use backoff::backoff::Backoff;
use ringback_store::Hint;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener},
};
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinHandle,
};

use crate::connect::{pauses, pool};

const CHANNEL: &str = "ringback";
/// How many hints a slow listener may fall behind.
const BEHIND: usize = 4096;
/// How many hints may wait to travel; more say no more than [`Hint::Everything`].
const WAITING: usize = 4096;
/// The least time between two notifications of one process.
const PAUSE: Duration = Duration::from_millis(10);

/// Both directions.
#[derive(Debug)]
pub(crate) struct HintLine {
    outgoing: mpsc::Sender<Hint>,
    overflow: Arc<AtomicBool>,
    heard: broadcast::Sender<Hint>,
    tasks: [JoinHandle<()>; 2],
}

impl HintLine {
    /// Begins to listen and to send.
    ///
    /// # Errors
    ///
    /// If the server does not let it listen.
    pub(crate) async fn start(
        options: PgConnectOptions,
        sending: PgPool,
    ) -> Result<Self, sqlx::Error> {
        // Tells this process's own notifications from others'.
        let token = random();
        let (outgoing, waiting) = mpsc::channel(WAITING);
        let heard = broadcast::Sender::new(BEHIND);
        let overflow = Arc::new(AtomicBool::new(false));
        // A pool of one, by which the listener reconnects.
        let listening = pool(options, 1);
        let listener = listen(&listening).await?;
        let tasks = [
            tokio::spawn(hear(listening, listener, token, heard.clone())),
            tokio::spawn(send(sending, waiting, token, Arc::clone(&overflow))),
        ];
        Ok(Self {
            outgoing,
            overflow,
            heard,
            tasks,
        })
    }

    /// Gives a hint to this process at once, and to others soon.
    pub(crate) fn hint(&self, hint: Hint) {
        // Nobody listens here: so be it.
        let _ = self.heard.send(hint);
        if self.outgoing.try_send(hint).is_err() {
            self.overflow.store(true, Ordering::Release);
        }
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<Hint> {
        self.heard.subscribe()
    }

    pub(crate) fn stop(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for HintLine {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn listen(listening: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(listening).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Passes on what others send. After each gap, everything may have changed.
async fn hear(
    listening: PgPool,
    mut listener: PgListener,
    token: u64,
    heard: broadcast::Sender<Hint>,
) {
    loop {
        let hints = match listener.try_recv().await {
            Ok(Some(notification)) => payload::read(notification.payload(), token),
            Ok(None) => vec![Hint::Everything],
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "not listening for hints; trying to listen again"
                );
                drop(listener);
                listener = listen_again(&listening).await;
                tracing::info!("listening for hints again");
                vec![Hint::Everything]
            }
        };
        for hint in hints {
            // Nobody listens here: so be it.
            let _ = heard.send(hint);
        }
    }
}

async fn listen_again(listening: &PgPool) -> PgListener {
    let mut pauses = pauses(None);
    loop {
        // Without an end set there is always a next pause.
        tokio::time::sleep(pauses.next_backoff().unwrap_or(PAUSE)).await;
        if let Ok(listener) = listen(listening).await {
            return listener;
        }
    }
}

/// Sends what waits, together, then rests.
async fn send(
    sending: PgPool,
    mut waiting: mpsc::Receiver<Hint>,
    token: u64,
    overflow: Arc<AtomicBool>,
) {
    while let Some(first) = waiting.recv().await {
        let mut hints = HashSet::from([first]);
        while let Ok(more) = waiting.try_recv() {
            hints.insert(more);
        }
        if overflow.swap(false, Ordering::AcqRel) {
            hints.insert(Hint::Everything);
        }
        let sent = sqlx::query("select pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(payload::write(&hints, token))
            .execute(&sending)
            .await;
        if let Err(error) = sent {
            // Others look by themselves before long.
            tracing::debug!(error = &error as &dyn std::error::Error, "a hint was lost");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
