//! Two rings: applications take turns, and within each its subscriptions do.

use std::collections::{HashMap, VecDeque};

use ringback_model::{AppId, SubscriptionId};

/// Applications take turns, and the subscriptions of each.
#[derive(Debug, Default)]
pub(super) struct Turns {
    apps: VecDeque<AppId>,
    subscriptions: HashMap<AppId, VecDeque<SubscriptionId>>,
}

impl Turns {
    /// A subscription can be served: it comes last in the ring of its application.
    pub(super) fn add(&mut self, app: AppId, subscription: SubscriptionId) {
        let ring = self.subscriptions.entry(app).or_default();
        if ring.is_empty() {
            self.apps.push_back(app);
        }
        ring.push_back(subscription);
    }

    /// Whose turn it is; it leaves its ring.
    pub(super) fn next(&mut self) -> Option<SubscriptionId> {
        let app = self.apps.pop_front()?;
        let ring = self.subscriptions.get_mut(&app)?;
        let subscription = ring.pop_front();
        if ring.is_empty() {
            self.subscriptions.remove(&app);
        } else {
            self.apps.push_back(app);
        }
        subscription
    }
}
