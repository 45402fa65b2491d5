//! What a receiver does with a request.

use bytes::Bytes;
use tokio::sync::watch;

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) act: Act,
    gate: Option<Gate>,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Bytes,
    },
    /// Anything at all; then the connection is closed, or stays open in silence.
    Raw {
        bytes: Bytes,
        then_close: bool,
    },
    Reset,
}

impl Reply {
    /// An answer without headers or body.
    pub fn status(status: u16) -> Self {
        Self::act(Act::Answer {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        })
    }

    /// With this header besides.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Act::Answer { headers, .. } = &mut self.act {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// With this body.
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        if let Act::Answer { body, .. } = &mut self.act {
            *body = bytes.into();
        }
        self
    }

    /// Keeps the connection open and never answers.
    pub fn never() -> Self {
        Self::raw_then_silence(Bytes::new())
    }

    /// These bytes, whatever they are, and no more; the connection stays open.
    pub fn raw_then_silence(bytes: impl Into<Bytes>) -> Self {
        Self::act(Act::Raw {
            bytes: bytes.into(),
            then_close: false,
        })
    }

    /// These bytes, whatever they are; then the connection is closed.
    pub fn raw_then_close(bytes: impl Into<Bytes>) -> Self {
        Self::act(Act::Raw {
            bytes: bytes.into(),
            then_close: true,
        })
    }

    /// Resets the connection instead of answering.
    pub fn reset() -> Self {
        Self::act(Act::Reset)
    }

    /// Not before `gate` is open.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    fn act(act: Act) -> Self {
        Self { act, gate: None }
    }

    pub(super) async fn wait(&self) {
        if let Some(gate) = &self.gate {
            gate.wait().await;
        }
    }
}

/// Holds replies back until it is opened. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A gate that is shut.
    pub fn shut() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets all through, for ever.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn wait(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
