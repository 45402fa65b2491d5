//! How many attempts each host gets at once, over all subscriptions that name it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use ringback_model::SubscriptionId;

/// The hosts that lines are for.
#[derive(Debug)]
pub(super) struct Hosts {
    hosts: HashMap<Arc<str>, Host>,
    /// Attempts at once, each.
    most: usize,
}

#[derive(Debug, Default)]
struct Host {
    /// Lines that are for it.
    lines: usize,
    in_flight: usize,
    /// Kept free for lines in the ring, one each.
    reserved: usize,
    /// Lines that wait for a free one, in turn.
    waiting: VecDeque<SubscriptionId>,
}

impl Hosts {
    pub(super) fn new(most: usize) -> Self {
        Self {
            hosts: HashMap::new(),
            most: most.max(1),
        }
    }

    /// A line is for this host from now on, with so many attempts under way.
    pub(super) fn join(&mut self, host: &Arc<str>, in_flight: usize) {
        let host = self.hosts.entry(Arc::clone(host)).or_default();
        host.lines += 1;
        host.in_flight += in_flight;
    }

    /// A line is not for this host any more.
    pub(super) fn leave(&mut self, host: &Arc<str>, in_flight: usize) {
        if let Some(left) = self.hosts.get_mut(host) {
            left.lines = left.lines.saturating_sub(1);
            left.in_flight = left.in_flight.saturating_sub(in_flight);
            if left.lines == 0 {
                self.hosts.remove(host);
            }
        }
    }

    /// Whether one more attempt may begin, besides those that are kept free.
    pub(super) fn has_room(&self, host: &str) -> bool {
        let room = |host: &Host| host.in_flight + host.reserved < self.most;
        self.hosts.get(host).is_none_or(room)
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, host: &str) {
        self.change(host, |host| host.in_flight += 1);
    }

    /// An attempt has ended.
    pub(super) fn end(&mut self, host: &str) {
        self.change(host, |host| {
            host.in_flight = host.in_flight.saturating_sub(1)
        });
    }

    /// Keeps one free.
    pub(super) fn reserve(&mut self, host: &str) {
        self.change(host, |host| host.reserved += 1);
    }

    /// Keeps it free no longer.
    pub(super) fn unreserve(&mut self, host: &str) {
        self.change(host, |host| host.reserved = host.reserved.saturating_sub(1));
    }

    /// A line waits for a free one; it comes last.
    pub(super) fn wait(&mut self, host: &str, subscription: SubscriptionId) {
        self.change(host, |host| host.waiting.push_back(subscription));
    }

    /// Who waits longest, if there is room for it; it waits no longer.
    pub(super) fn next_waiting(&mut self, host: &str) -> Option<SubscriptionId> {
        if !self.has_room(host) {
            return None;
        }
        self.hosts.get_mut(host)?.waiting.pop_front()
    }

    fn change(&mut self, host: &str, change: impl FnOnce(&mut Host)) {
        if let Some(host) = self.hosts.get_mut(host) {
            change(host);
        }
    }

    /// How many attempts to a host are under way.
    #[cfg(test)]
    pub(super) fn in_flight(&self, host: &str) -> usize {
        self.hosts.get(host).map_or(0, |host| host.in_flight)
    }

    /// Whether nothing is kept of any host.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}
