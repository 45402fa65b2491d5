//! The books: what each application may bring in, and what it has. Pure: what is read
//! from the store and what time it is are told.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use ringback_model::{AppId, Quota, Quotas};
use ringback_store::{AcceptItem, StoredBytes};

use super::{Refusal, bucket::Bucket};

/// An application of which nothing was heard for so long is forgotten.
const IDLE: TimeDelta = TimeDelta::minutes(10);

/// The applications that brought something in lately.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    defaults: Quotas,
    accounts: HashMap<AppId, Account>,
    /// Bytes that were accepted and are not in the store's sums yet.
    unflushed: BTreeMap<(AppId, NaiveDate), u64>,
}

/// One application's.
#[derive(Debug)]
struct Account {
    limits: Quotas,
    /// The limits, or what was read under them, may be out of date.
    is_stale: bool,
    bucket: Option<Bucket>,
    pending: Level,
    bytes: Level,
    asked_at: DateTime<Utc>,
    /// Something came since its figures were read.
    is_busy: bool,
}

/// A figure that is read now and then, and what came since.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    read: u64,
    /// Accepted since that reading began, and not in it.
    since: u64,
    /// On its way to being accepted.
    reserved: u64,
}

/// What a request wants of one application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) events: u32,
    pub(super) deliveries: u64,
    pub(super) bytes: u64,
    /// Its first event in the item.
    index: usize,
}

/// Which figures of an application are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) app: AppId,
    /// Count so many deliveries at most.
    pub(super) pending_up_to: Option<u64>,
    pub(super) bytes: bool,
    /// What had been accepted when the reading began.
    pending_mark: u64,
    bytes_mark: u64,
    /// All that is needed to judge.
    is_whole: bool,
}

/// What was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) wanted: Wanted,
    pub(super) pending: Option<u64>,
    pub(super) bytes: Option<u64>,
}

impl Level {
    fn present(&self) -> u64 {
        self.read + self.since + self.reserved
    }

    /// - `mark`: how much of `since` had come when the reading began.
    fn read(&mut self, read: u64, mark: u64) {
        self.read = read;
        self.since = self.since.saturating_sub(mark);
    }
}

/// What an item wants, by application.
pub(super) fn demands(item: &AcceptItem) -> BTreeMap<AppId, Demand> {
    let mut demands: BTreeMap<AppId, Demand> = BTreeMap::new();
    for (index, event) in item.events.iter().enumerate() {
        let demand = demands.entry(event.app).or_insert(Demand {
            index,
            ..Demand::default()
        });
        demand.events += 1;
        demand.deliveries += event.deliveries.len() as u64;
        demand.bytes += event.data.len() as u64;
    }
    demands
}

impl Ledger {
    pub(super) fn new(defaults: Quotas) -> Self {
        Self {
            defaults,
            ..Self::default()
        }
    }

    /// Those whose quotas are not known, or no longer.
    pub(super) fn unknown(&self, apps: impl Iterator<Item = AppId>) -> Vec<AppId> {
        let is_known = |app| matches!(self.accounts.get(&app), Some(one) if !one.is_stale);
        apps.filter(|app| !is_known(*app)).collect()
    }

    /// Says that an application's quotas changed.
    pub(super) fn changed(&mut self, app: AppId) {
        if let Some(account) = self.accounts.get_mut(&app) {
            account.is_stale = true;
        }
    }

    /// Takes in the quotas of these applications; those without any are gone. Answers which
    /// figures are needed to judge by them.
    pub(super) fn learn(
        &mut self,
        asked: &[AppId],
        own: &[(AppId, Quotas)],
        now: DateTime<Utc>,
    ) -> Vec<Wanted> {
        let own: HashMap<AppId, Quotas> = own.iter().copied().collect();
        // What is gone has no quotas: accepting tells what else is to be said of it.
        let limits = asked.iter().map(|app| {
            let own = own.get(app);
            (
                *app,
                own.map(|own| own.or(self.defaults)).unwrap_or_default(),
            )
        });
        for (app, limits) in limits.collect::<Vec<_>>() {
            let account = self
                .accounts
                .entry(app)
                .or_insert_with(|| Account::new(now));
            account.set_limits(limits, now);
        }
        let mut all_wanted = Vec::new();
        for app in asked {
            if let Some(wanted) = self.wanted(*app) {
                all_wanted.push(wanted);
            } else if let Some(account) = self.accounts.get_mut(app) {
                (account.is_stale, account.is_busy) = (false, false);
            }
        }
        all_wanted
    }

    fn wanted(&self, app: AppId) -> Option<Wanted> {
        let account = self.accounts.get(&app)?;
        let wanted = Wanted {
            app,
            // One more, so that a quota that is reached and one that is passed differ.
            pending_up_to: account.limits.pending_deliveries.map(|limit| limit + 1),
            bytes: account.limits.stored_bytes.is_some(),
            pending_mark: account.pending.since,
            // What is not in the store's sum yet is not read.
            bytes_mark: account.bytes.since.saturating_sub(self.unflushed_of(app)),
            is_whole: true,
        };
        (wanted.pending_up_to.is_some() || wanted.bytes).then_some(wanted)
    }

    fn unflushed_of(&self, app: AppId) -> u64 {
        let days = (app, NaiveDate::MIN)..=(app, NaiveDate::MAX);
        self.unflushed.range(days).map(|(_, bytes)| bytes).sum()
    }

    /// Takes in what was read.
    pub(super) fn read(&mut self, figures: Figures) {
        let wanted = figures.wanted;
        let Some(account) = self.accounts.get_mut(&wanted.app) else {
            return;
        };
        account.is_busy = false;
        // Of one that came near a quota only that is read again.
        account.is_stale &= !wanted.is_whole;
        if let Some(pending) = figures.pending {
            account.pending.read(pending, wanted.pending_mark);
        }
        if let Some(bytes) = figures.bytes {
            account.bytes.read(bytes, wanted.bytes_mark);
        }
    }

    /// Lets a request of these events' rates through, or refuses it. What is refused
    /// otherwise has been let through here: asking costs, too.
    pub(super) fn pay(
        &mut self,
        demands: &BTreeMap<AppId, Demand>,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        for (app, demand) in demands {
            let account = self.accounts.get(app);
            let Some(bucket) = account.and_then(|account| account.bucket) else {
                continue;
            };
            if let Some(wait) = bucket.wait(demand.events, now) {
                let limit = account.and_then(|account| account.limits.events_per_s);
                return Err(Refusal::of_rate(
                    demand.index,
                    limit.unwrap_or_default(),
                    bucket.level(now),
                    wait,
                ));
            }
        }
        for (app, demand) in demands {
            let account = self.accounts.get_mut(app);
            if let Some(bucket) = account.and_then(|account| account.bucket.as_mut()) {
                bucket.take(demand.events, now);
            }
        }
        Ok(())
    }

    /// Sets aside what a request wants, or refuses it. `true` if figures should be read
    /// soon.
    ///
    /// Whatever comes while there is less than the limit passes whole: so what is there may
    /// exceed the limit by one request, and a batch is never too large to be accepted.
    pub(super) fn reserve(
        &mut self,
        demands: &BTreeMap<AppId, Demand>,
        now: DateTime<Utc>,
    ) -> Result<bool, Refusal> {
        for (app, demand) in demands {
            let Some(account) = self.accounts.get_mut(app) else {
                continue;
            };
            (account.asked_at, account.is_busy) = (now, true);
            if let Some((quota, limit, present)) = account.exceeded(demand) {
                return Err(Refusal::of_count(demand.index, quota, limit, present));
            }
        }
        let mut soon = false;
        for (app, demand) in demands {
            if let Some(account) = self.accounts.get_mut(app) {
                account.pending.reserved += demand.deliveries;
                account.bytes.reserved += demand.bytes;
                let limit = account.limits.pending_deliveries;
                // Much of that may have been delivered meanwhile.
                soon |= limit.is_some_and(|limit| account.pending.present() >= limit / 2);
            }
        }
        Ok(soon)
    }

    /// Gives back what was set aside: what was accepted of it was counted before.
    pub(super) fn release(&mut self, demands: &BTreeMap<AppId, Demand>) {
        for (app, demand) in demands {
            if let Some(account) = self.accounts.get_mut(app) {
                let (pending, bytes) = (&mut account.pending, &mut account.bytes);
                pending.reserved = pending.reserved.saturating_sub(demand.deliveries);
                bytes.reserved = bytes.reserved.saturating_sub(demand.bytes);
            }
        }
    }

    /// Counts what is on disk.
    pub(super) fn accepted(&mut self, app: AppId, day: NaiveDate, deliveries: u64, bytes: u64) {
        *self.unflushed.entry((app, day)).or_default() += bytes;
        if let Some(account) = self.accounts.get_mut(&app) {
            account.pending.since += deliveries;
            account.bytes.since += bytes;
            account.is_busy = true;
        }
    }

    /// What is to be added to the store's sums.
    pub(super) fn unflushed(&self) -> Vec<StoredBytes> {
        let one =
            |(&(app, day), &bytes): (&(AppId, NaiveDate), &u64)| StoredBytes { app, day, bytes };
        self.unflushed.iter().map(one).collect()
    }

    /// These were added.
    pub(super) fn flushed(&mut self, added: &[StoredBytes]) {
        for one in added {
            if let Some(left) = self.unflushed.get_mut(&(one.app, one.day)) {
                *left = left.saturating_sub(one.bytes);
            }
        }
        self.unflushed.retain(|_, bytes| *bytes > 0);
    }

    /// Those whose quotas and figures are to be read: all that something came for, and
    /// those that are refused.
    pub(super) fn due(&self) -> Vec<AppId> {
        let due = self.accounts.iter().filter(|(_, one)| one.is_due());
        due.map(|(app, _)| *app).collect()
    }

    /// Of those, the figures of such as come near their quota of deliveries.
    pub(super) fn urgent(&self) -> Vec<Wanted> {
        let near = self.accounts.iter().filter(|(_, one)| {
            let limit = one.limits.pending_deliveries;
            one.is_busy && limit.is_some_and(|limit| one.pending.present() >= limit / 2)
        });
        let wanted = near.filter_map(|(app, _)| self.wanted(*app));
        let pending_only = |wanted| Wanted {
            bytes: false,
            is_whole: false,
            ..wanted
        };
        wanted.map(pending_only).collect()
    }

    /// Forgets applications that brought nothing in for long.
    pub(super) fn tidy(&mut self, now: DateTime<Utc>) {
        self.accounts.retain(|_, one| !one.is_idle(now));
    }
}

impl Account {
    fn new(now: DateTime<Utc>) -> Self {
        Self {
            limits: Quotas::default(),
            is_stale: true,
            bucket: None,
            pending: Level::default(),
            bytes: Level::default(),
            asked_at: now,
            is_busy: true,
        }
    }

    fn set_limits(&mut self, limits: Quotas, now: DateTime<Utc>) {
        self.bucket = limits.events_per_s.map(|per_s| match self.bucket {
            Some(mut bucket) => {
                bucket.change(per_s, now);
                bucket
            }
            None => Bucket::new(per_s, now),
        });
        self.limits = limits;
    }

    /// The quota that leaves no room, its limit, and what there is.
    fn exceeded(&self, demand: &Demand) -> Option<(Quota, u64, u64)> {
        let (pending, bytes) = (self.pending.present(), self.bytes.present());
        let wants_deliveries = demand.deliveries > 0;
        match self.limits {
            Quotas {
                pending_deliveries: Some(limit),
                ..
            } if wants_deliveries && pending >= limit => {
                Some((Quota::PendingDeliveries, limit, pending))
            }
            Quotas {
                stored_bytes: Some(limit),
                ..
            } if bytes >= limit => Some((Quota::StoredBytes, limit, bytes)),
            _ => None,
        }
    }

    fn is_due(&self) -> bool {
        let reached =
            |limit: Option<u64>, level: Level| limit.is_some_and(|limit| level.present() >= limit);
        self.is_busy
            || reached(self.limits.pending_deliveries, self.pending)
            || reached(self.limits.stored_bytes, self.bytes)
    }

    fn is_idle(&self, now: DateTime<Utc>) -> bool {
        let in_use = self.pending.reserved > 0 || self.bytes.reserved > 0;
        let owes = self.bucket.is_some_and(|bucket| !bucket.is_full(now));
        now - self.asked_at >= IDLE && !in_use && !owes
    }
}

#[cfg(test)]
mod tests;
