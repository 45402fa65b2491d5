//! A receiver that always keeps a few requests waiting.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use ringback_testkit::receiver::{Gate, Reply};

/// How many requests wait: fewer than a subscription's `max_in_flight`, or none would
/// ever be answered.
const DEPTH: usize = 8;

/// Answers each request when [`DEPTH`] more have come. Clones answer together.
#[derive(Clone, Default)]
pub(super) struct Late(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    gates: VecDeque<Gate>,
    /// Nothing is to wait any more.
    over: bool,
}

impl Late {
    /// Holds a reply back.
    pub(super) fn hold(&self, reply: Reply) -> Reply {
        let mut waiting = self.0.lock().unwrap();
        if waiting.over {
            return reply;
        }
        let gate = Gate::shut();
        waiting.gates.push_back(gate.clone());
        if waiting.gates.len() > DEPTH
            && let Some(oldest) = waiting.gates.pop_front()
        {
            oldest.open();
        }
        reply.behind(&gate)
    }

    /// Lets all that waits through, and whatever comes.
    pub(super) fn end(&self) {
        let mut waiting = self.0.lock().unwrap();
        waiting.over = true;
        waiting.gates.drain(..).for_each(|gate| gate.open());
    }
}
