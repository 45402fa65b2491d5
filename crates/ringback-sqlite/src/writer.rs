//! The one writer: whatever is waiting to be written shares one commit.
//!
//! SQLite has room for one writing transaction at a time, and what a commit costs is
//! the sync to disk. So one task owns the only connection that writes. It takes all
//! commands that are waiting, runs them in one transaction, commits once, and only
//! then answers.
//!
//! A caller that goes away changes nothing: the command it queued is run all the
//! same, and no transaction is ever left open.
//!
//! A command that fails is undone alone. Since that is rare, nothing is paid for it
//! in advance: the transaction is rolled back and run again with a savepoint around
//! each command. So a command may run twice, and only its second run counts.
//!
//! What can wait has a queue of its own: a command from there is run alone, when there
//! is nothing else to do, or after it was passed over often.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use ringback_store::StoreError;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::failure::Shared;

/// How many commands may wait before callers do.
const QUEUE: usize = 1024;
/// How many commands share a commit at most: what comes first is not held up by what
/// keeps coming.
const GROUP: usize = 128;
/// How many commits may be preferred to a command that can wait: a server that is never
/// idle has to end its days all the same.
const PREFERRED: u32 = 50;

/// What a command does with the connection, inside the transaction that is open.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// The database was closed, or its writer is gone.
#[derive(Debug, thiserror::Error)]
#[error("the database is closed")]
struct Closed;

/// Puts commands into the writer's queue.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    idle: mpsc::Sender<Message>,
    commits: Arc<AtomicU64>,
}

enum Message {
    Run(Box<dyn Command>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the task that owns `connection`. It ends when all handles are dropped.
    pub(crate) fn start(connection: SqliteConnection) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (idle_sender, idle) = mpsc::channel(1);
        let commits = Arc::new(AtomicU64::new(0));
        let queues = Queues {
            first: queue,
            idle,
            preferred: 0,
        };
        tokio::spawn(serve(connection, queues, Arc::clone(&commits)));
        Self {
            queue: sender,
            idle: idle_sender,
            commits,
        }
    }

    /// Runs `work` in a transaction; answers when that is on disk.
    ///
    /// # Errors
    ///
    /// What `work` fails with, if it does: then it has changed nothing. Else
    /// [`StoreError::Unavailable`] if the transaction fails.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
    {
        Self::run_in(&self.queue, work).await
    }

    /// Like [`Self::run`], but whatever else is to be written goes first.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) async fn run_when_idle<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
    {
        Self::run_in(&self.idle, work).await
    }

    async fn run_in<T, F>(queue: &mpsc::Sender<Message>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let command = Box::new(Queued {
            work,
            outcome: None,
            answer,
        });
        queue
            .send(Message::Run(command))
            .await
            .map_err(|_| StoreError::unavailable(Closed))?;
        answered
            .await
            .map_err(|_| StoreError::unavailable(Closed))?
    }

    /// Runs what is queued, then closes the connection.
    pub(crate) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Message::Close(answer)).await.is_ok() {
            // Without an answer it was closed before.
            let _ = answered.await;
        }
        tracing::debug!(
            commits = self.commits.load(Ordering::Relaxed),
            "the database is closed"
        );
    }

    /// How many transactions were committed.
    #[cfg(test)]
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

/// What is to be written.
struct Queues {
    first: mpsc::Receiver<Message>,
    idle: mpsc::Receiver<Message>,
    /// How many times the first was preferred although the other had something.
    preferred: u32,
}

impl Queues {
    /// Waits for something to do; `false` when there will be nothing more.
    async fn next(&mut self, messages: &mut Vec<Message>) -> bool {
        if self.preferred >= PREFERRED
            && let Ok(message) = self.idle.try_recv()
        {
            self.preferred = 0;
            messages.push(message);
            return true;
        }
        tokio::select! {
            biased;
            taken = self.first.recv_many(messages, GROUP) => {
                self.preferred += u32::from(!self.idle.is_empty());
                taken > 0
            }
            Some(message) = self.idle.recv() => {
                self.preferred = 0;
                messages.push(message);
                true
            }
        }
    }

    fn close(&mut self) {
        self.first.close();
        self.idle.close();
    }
}

async fn serve(mut connection: SqliteConnection, mut queues: Queues, commits: Arc<AtomicU64>) {
    let (mut messages, mut group, mut closing) = (Vec::new(), Vec::new(), None);
    while closing.is_none() && queues.next(&mut messages).await {
        for message in messages.drain(..) {
            match message {
                Message::Run(command) => group.push(command),
                Message::Close(answer) => closing = Some(answer),
            }
        }
        if !group.is_empty() {
            let committed = commit_group(&mut connection, &mut group).await;
            commits.fetch_add(u64::from(committed.is_ok()), Ordering::Relaxed);
            let failure = committed.err().map(Shared::new);
            group
                .drain(..)
                .for_each(|command| command.answer(failure.as_ref()));
        }
    }
    queues.close();
    if let Err(error) = connection.close().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the writer did not close well"
        );
    }
    if let Some(answer) = closing {
        // Whoever asked may be gone.
        let _ = answer.send(());
    }
}

/// Runs all commands in one transaction. When it fails, none has changed anything.
async fn commit_group(
    connection: &mut SqliteConnection,
    group: &mut [Box<dyn Command>],
) -> Result<(), sqlx::Error> {
    let done = match transact(connection, group).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            control(connection, "rollback").await?;
            // Alone, it has been undone already.
            if group.len() == 1 {
                Ok(())
            } else {
                transact_apart(connection, group).await
            }
        }
        Err(error) => Err(error),
    };
    if done.is_err() {
        // Some failures have rolled back already; there is nothing more to do then.
        let _ = control(connection, "rollback").await;
    }
    done
}

/// `false` when a command failed: the transaction is still open then.
async fn transact(
    connection: &mut SqliteConnection,
    group: &mut [Box<dyn Command>],
) -> Result<bool, sqlx::Error> {
    control(connection, "begin immediate").await?;
    for command in group {
        if !command.run(connection).await {
            return Ok(false);
        }
    }
    control(connection, "commit").await?;
    Ok(true)
}

async fn transact_apart(
    connection: &mut SqliteConnection,
    group: &mut [Box<dyn Command>],
) -> Result<(), sqlx::Error> {
    control(connection, "begin immediate").await?;
    for command in group {
        control(connection, "savepoint command").await?;
        let end = if command.run(connection).await {
            "release command"
        } else {
            "rollback to command; release command"
        };
        control(connection, end).await?;
    }
    control(connection, "commit").await
}

async fn control(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(drop)
}

#[async_trait]
trait Command: Send {
    /// Runs it and keeps its outcome; `false` if it failed.
    async fn run(&mut self, connection: &mut SqliteConnection) -> bool;

    /// Answers whoever asked.
    ///
    /// - `failure`: what the transaction failed with, if it did.
    fn answer(self: Box<Self>, failure: Option<&Shared>);
}

struct Queued<T, F> {
    work: F,
    outcome: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

#[async_trait]
impl<T, F> Command for Queued<T, F>
where
    T: Send,
    F: for<'c> Fn(&'c mut SqliteConnection) -> Work<'c, T> + Send,
{
    async fn run(&mut self, connection: &mut SqliteConnection) -> bool {
        let running = (self.work)(connection);
        let outcome = self.outcome.insert(running.await);
        outcome.is_ok()
    }

    fn answer(self: Box<Self>, failure: Option<&Shared>) {
        let outcome = match (failure, self.outcome) {
            (None, Some(outcome)) => outcome,
            (Some(failure), _) => Err(StoreError::unavailable(failure.clone())),
            (None, None) => Err(StoreError::unavailable(Closed)),
        };
        // Whoever asked may be gone: what was done stays done.
        let _ = self.answer.send(outcome);
    }
}

/// Commits `$work`, an async function of the connection. It may run twice, so what it
/// takes besides is cloned.
macro_rules! commit {
    ($store:expr, |$connection:ident $(, $taken:ident)*| $work:expr) => {
        $store
            .0
            .writer
            .run(move |$connection| {
                $(let $taken = $taken.clone();)*
                Box::pin(async move { $work.await })
            })
            .await
    };
}
pub(crate) use commit;

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts one message into each queue given, and says which is taken.
    async fn taken(
        queues: &mut Queues,
        first: Option<&mpsc::Sender<Message>>,
        idle: Option<&mpsc::Sender<Message>>,
    ) -> &'static str {
        for sender in first.into_iter().chain(idle) {
            let (answer, _) = oneshot::channel();
            // Full: there is one already.
            let _ = sender.try_send(Message::Close(answer));
        }
        let mut messages = Vec::new();
        let waiting = queues.idle.len();
        assert!(queues.next(&mut messages).await);
        if queues.idle.len() < waiting {
            "idle"
        } else {
            "first"
        }
    }

    #[tokio::test]
    async fn what_can_wait_does_but_not_for_ever() {
        let (first, receiver) = mpsc::channel(QUEUE);
        let (idle, idle_receiver) = mpsc::channel(1);
        let mut queues = Queues {
            first: receiver,
            idle: idle_receiver,
            preferred: 0,
        };
        assert_eq!(taken(&mut queues, None, Some(&idle)).await, "idle");
        for _ in 0..2 {
            for _ in 0..PREFERRED {
                let one = taken(&mut queues, Some(&first), Some(&idle)).await;
                assert_eq!(one, "first");
            }
            let one = taken(&mut queues, Some(&first), Some(&idle)).await;
            assert_eq!(one, "idle");
        }
    }
}
