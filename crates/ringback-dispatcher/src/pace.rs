//! When each kind of statement is made next, beyond what the modules say themselves.

use chrono::{DateTime, TimeDelta, Utc};

use crate::patience::Patience;

/// Between looks for changed subscriptions, while any is cached.
const CHANGES: TimeDelta = TimeDelta::seconds(1);
/// Between safety scans of everything that waits.
const SCAN: TimeDelta = TimeDelta::seconds(30);
/// Between clean-ups of memory.
const TIDY: TimeDelta = TimeDelta::seconds(10);

/// Times, and what is under way.
pub(crate) struct Pace {
    /// Everything that waits is looked through then.
    pub(crate) scan_at: DateTime<Utc>,
    /// Changed subscriptions are looked for then …
    pub(crate) changes_at: DateTime<Utc>,
    /// … since the last time that worked.
    pub(crate) changes_since: DateTime<Utc>,
    pub(crate) tidy_at: DateTime<Utc>,
    /// Lanes are taken then at the earliest …
    pub(crate) take_at: DateTime<Utc>,
    /// … and were asked for then, the last time.
    pub(crate) asked_at: DateTime<Utc>,
    pub(crate) taking: bool,
    pub(crate) looking: bool,
    pub(crate) parking: bool,

    // With a database that does not answer, each kind of statement on its own.
    pub(crate) read: Patience,
    pub(crate) look: Patience,
    pub(crate) load: Patience,
    pub(crate) fetch: Patience,
    pub(crate) settle: Patience,
    pub(crate) park: Patience,
    pub(crate) record: Patience,
    pub(crate) disable: Patience,
    pub(crate) lanes: Patience,
}

impl Pace {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        Self {
            scan_at: now + SCAN,
            changes_at: now + CHANGES,
            changes_since: now,
            tidy_at: now + TIDY,
            take_at: now,
            asked_at: now,
            taking: false,
            looking: false,
            parking: false,
            read: Patience::default(),
            look: Patience::default(),
            load: Patience::default(),
            fetch: Patience::default(),
            settle: Patience::default(),
            park: Patience::default(),
            record: Patience::default(),
            disable: Patience::default(),
            lanes: Patience::default(),
        }
    }

    /// Whether to look everything through now; then not for a while.
    pub(crate) fn take_scan(&mut self, now: DateTime<Utc>) -> bool {
        take(&mut self.scan_at, now, SCAN)
    }

    /// Whether to look for changed subscriptions now.
    pub(crate) fn take_changes(&mut self, now: DateTime<Utc>) -> bool {
        take(&mut self.changes_at, now, CHANGES)
    }

    /// Whether to clean up now.
    pub(crate) fn take_tidy(&mut self, now: DateTime<Utc>) -> bool {
        take(&mut self.tidy_at, now, TIDY)
    }
}

fn take(at: &mut DateTime<Utc>, now: DateTime<Utc>, again: TimeDelta) -> bool {
    let is_time = *at <= now;
    if is_time {
        *at = now + again;
    }
    is_time
}
