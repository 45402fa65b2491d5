//! What waits of subscriptions that keep order: for each ordering key, a run of rows of
//! which only the first may be sent, and nothing while one of them is out.
//!
//! A row is *out* from when it is given to the schedule until what became of it is
//! committed: not the answer of the receiver releases its key, but the settling.
//!
//! Rows come from two places. Those of the outbox are read in order of their events, and
//! all of them. Of the retries only the beginning of each key is known, up to
//! [`Key::known_to`]: an event beyond is not sent before the retries were looked at again.
//! A row that waits there for its time has its place in the run all the same, so nothing
//! overtakes it. Before all keys of a subscription were looked through once, nothing of it
//! is sent; and nothing that stands behind what the outbox was not read up to, or what
//! there was no memory for.
//!
//! What a look brings is older than the present: of a key whose rows moved into the
//! retries since it began, it says nothing, and that key is looked at again.
//!
//! Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{DeliveryId, EventId, Lane, OrderKey, SubscriptionId};
use ringback_store::{DueRetry, OrderHeads};

use crate::row::{Row, Stage};

/// Of one key, so many retries are taken into memory at once.
pub(crate) const PER_KEY: usize = 16;
/// Keys in one look.
const KEYS: usize = 256;
/// Keys to go through in one statement when all are.
pub(crate) const HEADS: usize = 1000;
/// What waits behind one key that is blocked, in memory; more is parked.
const BEHIND: usize = 1000;
/// All that waits behind blocked keys may take this share of the room that a subscription
/// has, and of a node's.
pub(crate) const BLOCKED_SHARE: usize = 10;
/// What stands behind a row that waits longer is parked.
const LONG: TimeDelta = TimeDelta::seconds(60);
/// When a row could not be taken in, look again then.
const AGAIN: TimeDelta = TimeDelta::seconds(1);

const NOW: DateTime<Utc> = DateTime::<Utc>::MIN_UTC;

/// All subscriptions of this node that keep order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    lines: HashMap<SubscriptionId, Line>,
    /// Keys whose first row may be sent; and some of which it may not any more.
    ready: VecDeque<(SubscriptionId, OrderKey)>,
    /// When to look at whom.
    looks: BTreeSet<(DateTime<Utc>, SubscriptionId)>,
    waiting: usize,
    blocked: usize,
}

/// One subscription.
#[derive(Debug)]
struct Line {
    lane: Lane,
    /// Its deliveries may be sent …
    served: bool,
    /// … by this node.
    owned: bool,
    /// Reads that began before passed over rows that were dropped since.
    since: u64,
    keys: BTreeMap<OrderKey, Key>,
    /// Of every row in a run, or out.
    key_of: HashMap<EventId, OrderKey>,
    heads: Heads,
    /// All that the outbox has up to this event is in memory.
    read_to: EventId,
    /// The pass of reading in which there was no memory for a row.
    refused_in: Option<u64>,
    /// When to look at which key.
    looks: BTreeSet<(DateTime<Utc>, OrderKey)>,
    /// As in [`Order::looks`].
    look_at: Option<DateTime<Utc>>,
    /// Rows in memory that are not out.
    waiting: usize,
    /// Those of them that wait for more than their turn.
    blocked: usize,
}

/// Whether all keys with retries are known.
#[derive(Clone, Copy, Debug, Default)]
struct Heads {
    /// All were gone through since the line was last emptied.
    complete: bool,
    /// They are to be gone through (again).
    wanted: bool,
    under_way: bool,
    /// Where to go on.
    after: Option<OrderKey>,
    /// Counts how often the line was emptied: a look from before says nothing.
    round: u64,
}

/// The rows of one ordering key.
#[derive(Debug)]
struct Key {
    run: BTreeMap<EventId, Place>,
    out: Option<Out>,
    /// All retries up to this event are in the run; of what is beyond nothing is known.
    known_to: EventId,
    /// On the way from memory to the retries.
    parking: BTreeSet<EventId>,
    /// Rows of this key came to be in the retries: older looks did not see them.
    touched: u64,
    /// To be looked at before anything is sent.
    unsure: bool,
    looking: bool,
    /// A row that has no place yet gets one then.
    awaited: Option<DateTime<Utc>>,
    /// As in [`Line::looks`].
    look_at: Option<DateTime<Utc>>,
    /// It is in [`Order::ready`].
    is_ready: bool,
    /// Rows of the run that are in memory.
    here: usize,
}

/// Where a row of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In memory.
    Here(Stage),
    /// In the retries, for its time to come.
    Away(DateTime<Utc>),
}

#[derive(Clone, Copy, Debug)]
struct Out {
    event: EventId,
    /// It was cancelled meanwhile.
    withdrawn: bool,
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OrderLook {
    /// All keys of a subscription, from one on.
    Heads {
        subscription: SubscriptionId,
        after: Option<OrderKey>,
        round: u64,
    },
    /// These keys.
    Keys(Vec<(SubscriptionId, OrderKey)>),
}

/// Rows that have to leave memory, because of what happened before them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Displaced {
    /// To the retries; noted as such.
    pub(crate) to_park: Vec<(Row, OrderKey)>,
    /// They are in the retries already.
    pub(crate) let_go: Vec<Row>,
}

impl Heads {
    /// Whether a statement is to be made.
    fn is_due(self) -> bool {
        !self.under_way && (self.wanted || self.after.is_some())
    }

    fn is_at_rest(self) -> bool {
        !self.under_way && !self.is_due()
    }
}

impl Key {
    fn new() -> Self {
        Self {
            run: BTreeMap::new(),
            out: None,
            known_to: EventId::MAX,
            parking: BTreeSet::new(),
            touched: 0,
            unsure: false,
            looking: false,
            awaited: None,
            look_at: None,
            is_ready: false,
            here: 0,
        }
    }

    /// The row that may be sent now.
    ///
    /// - `read_to`: see [`Line::read_to`].
    fn head(&self, read_to: EventId) -> Option<(EventId, Stage)> {
        if self.out.is_some() || self.unsure {
            return None;
        }
        match self.run.first_key_value()? {
            (event, Place::Here(stage)) if *event <= self.known_to.min(read_to) => {
                Some((*event, *stage))
            }
            _ => None,
        }
    }

    /// When to look at it.
    fn wants_look(&self) -> Option<DateTime<Utc>> {
        if self.out.is_some() || self.looking {
            return None;
        }
        if self.unsure {
            return Some(NOW);
        }
        let unknown = self.known_ends();
        match (unknown, self.awaited) {
            (Some(at), Some(awaited)) => Some(at.min(awaited)),
            (at, awaited) => at.or(awaited),
        }
    }

    /// When more has to be known of the retries than is.
    fn known_ends(&self) -> Option<DateTime<Utc>> {
        match self.run.first_key_value() {
            Some((event, Place::Away(due_at))) if *event <= self.known_to => Some(*due_at),
            Some((event, Place::Here(_))) if *event <= self.known_to => None,
            _ if self.known_to == EventId::MAX => None,
            // Nothing more can be known before that has been parked.
            _ if self.parking.first() == Some(&after(self.known_to)) => None,
            _ => Some(NOW),
        }
    }

    /// What is first has to wait for more than its turn; until when, if that is known.
    fn blocked_until(&self) -> Option<Option<DateTime<Utc>>> {
        match self.run.first_key_value() {
            Some((_, Place::Away(due_at))) => Some(Some(*due_at)),
            _ if self.known_to < EventId::MAX || self.unsure => Some(None),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        let nothing_known = self.run.is_empty() && self.out.is_none() && self.parking.is_empty();
        let nothing_wanted = !self.unsure && !self.looking && self.awaited.is_none();
        nothing_known && nothing_wanted && self.known_to == EventId::MAX
    }

    fn put(&mut self, event: EventId, place: Place) {
        let is_here = |place: &Place| usize::from(matches!(place, Place::Here(_)));
        self.here += is_here(&place);
        if let Some(before) = self.run.insert(event, place) {
            self.here -= is_here(&before);
        }
    }

    fn take(&mut self, event: EventId) -> Option<Place> {
        let place = self.run.remove(&event)?;
        self.here -= usize::from(matches!(place, Place::Here(_)));
        Some(place)
    }

    /// A row goes from memory to the retries.
    fn park(&mut self, event: EventId) {
        self.parking.insert(event);
        self.known_to = self.known_to.min(before(event));
    }
}

impl Line {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            served: false,
            owned: false,
            since: 0,
            keys: BTreeMap::new(),
            key_of: HashMap::new(),
            heads: Heads::default(),
            read_to: EventId::MIN,
            refused_in: None,
            looks: BTreeSet::new(),
            look_at: None,
            waiting: 0,
            blocked: 0,
        }
    }

    fn is_active(&self) -> bool {
        self.served && self.owned
    }

    fn row(&self, subscription: SubscriptionId, event: EventId, stage: Stage) -> Row {
        Row {
            delivery: DeliveryId {
                event,
                subscription,
            },
            stage,
            lane: self.lane,
        }
    }

    /// Changes a key, and what follows from it. Whether it can be sent from now on.
    fn change<T>(&mut self, key: OrderKey, change: impl FnOnce(&mut Key) -> T) -> (T, bool) {
        let is_active = self.is_active() && self.heads.complete;
        let entry = self.keys.entry(key).or_insert_with(Key::new);
        let counts = |key: &Key| {
            let blocked = if key.blocked_until().is_some() {
                key.here
            } else {
                0
            };
            (key.here, blocked)
        };
        let was = counts(entry);
        let changed = change(entry);
        let is = counts(entry);
        self.waiting = self.waiting + is.0 - was.0;
        self.blocked = self.blocked + is.1 - was.1;
        let look_at = entry.wants_look().filter(|_| is_active);
        if look_at != entry.look_at {
            if let Some(known) = entry.look_at {
                self.looks.remove(&(known, key));
            }
            self.looks.extend(look_at.map(|at| (at, key)));
            entry.look_at = look_at;
        }
        let becomes_ready = is_active && !entry.is_ready && entry.head(self.read_to).is_some();
        entry.is_ready |= becomes_ready;
        if entry.is_empty() && !entry.is_ready {
            self.keys.remove(&key);
        }
        (changed, becomes_ready)
    }

    /// Forgets what waits; what is out or on its way to the retries is remembered.
    fn clear(&mut self, subscription: SubscriptionId) -> Vec<Row> {
        let mut rows = Vec::new();
        for key in self.keys.values() {
            for (event, place) in &key.run {
                self.key_of.remove(event);
                if let Place::Here(stage) = place {
                    rows.push(self.row(subscription, *event, *stage));
                }
            }
        }
        self.keys.retain(|_, key| {
            key.run.clear();
            (key.here, key.look_at, key.looking) = (0, None, false);
            (key.known_to, key.unsure, key.awaited) = (EventId::MAX, false, None);
            if let Some(first) = key.parking.first() {
                key.known_to = before(*first);
            }
            key.is_ready || key.out.is_some() || !key.parking.is_empty()
        });
        self.looks.clear();
        (self.waiting, self.blocked) = (0, 0);
        self.heads = Heads {
            round: self.heads.round + 1,
            ..Heads::default()
        };
        rows
    }

    fn renew(&mut self, mark: u64) {
        (self.since, self.heads.wanted) = (mark, true);
        (self.read_to, self.refused_in) = (EventId::MIN, None);
    }

    /// How much may wait behind the first row of a key.
    fn room_behind(
        &self,
        key: OrderKey,
        until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        most: usize,
    ) -> usize {
        if until.is_some_and(|until| until > now + LONG) {
            return 0;
        }
        let own = self.keys.get(&key).map_or(0, |key| key.here);
        let others = self.blocked.saturating_sub(own);
        BEHIND.min((most / BLOCKED_SHARE).saturating_sub(others))
    }

    fn has_room(&self, key: OrderKey, now: DateTime<Utc>, most: usize) -> bool {
        let blocked = || self.keys.get(&key).and_then(Key::blocked_until);
        self.waiting < most
            && blocked().is_none_or(|until| {
                let here = self.keys.get(&key).map_or(0, |key| key.here);
                here < self.room_behind(key, until, now, most)
            })
    }

    /// The first row of a key has to wait: what is behind it makes room.
    fn displace(
        &mut self,
        subscription: SubscriptionId,
        key: OrderKey,
        due_at: DateTime<Utc>,
        now: DateTime<Utc>,
        most: usize,
    ) -> Displaced {
        let mut room = self.room_behind(key, Some(due_at), now, most);
        let mut displaced = Displaced::default();
        let Some(entry) = self.keys.get(&key) else {
            return displaced;
        };
        for (event, place) in &entry.run {
            let Place::Here(stage) = place else {
                continue;
            };
            let row = self.row(subscription, *event, *stage);
            if *stage != Stage::OUTBOX {
                displaced.let_go.push(row);
            } else if room == 0 {
                displaced.to_park.push((row, key));
            } else {
                room -= 1;
            }
        }
        self.change(key, |entry| {
            for row in &displaced.let_go {
                entry.take(row.delivery.event);
                entry.known_to = entry.known_to.min(before(row.delivery.event));
            }
            for (row, _) in &displaced.to_park {
                entry.take(row.delivery.event);
                entry.park(row.delivery.event);
            }
        });
        let parked = displaced.to_park.iter().map(|(row, _)| row);
        for row in displaced.let_go.iter().chain(parked) {
            self.key_of.remove(&row.delivery.event);
        }
        displaced
    }

    /// Takes over what is in the retries of a key up to an event.
    fn merge(
        &mut self,
        key: OrderKey,
        rows: &[DueRetry],
        limit: usize,
        mark: u64,
        now: DateTime<Utc>,
        mut take_in: impl FnMut(Row) -> bool,
    ) -> (Vec<Row>, bool) {
        let (mut taken, mut named, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let (_, ready) = self.change(key, |entry| {
            entry.looking = false;
            if mark < entry.touched {
                entry.unsure = true;
                return;
            }
            let last = rows.last().map(|row| row.delivery.event);
            let mut to = last.filter(|_| rows.len() >= limit).unwrap_or(EventId::MAX);
            for due in rows {
                let event = due.delivery.event;
                if entry.out.is_some_and(|out| out.event == event)
                    || matches!(entry.run.get(&event), Some(Place::Here(_)))
                {
                    continue;
                }
                let row = Row {
                    delivery: due.delivery,
                    stage: Stage::retries(due.attempts_made, due.round_start),
                    lane: due.lane,
                };
                named.push(event);
                if due.due_at <= now && take_in(row) {
                    entry.put(event, Place::Here(row.stage));
                    taken.push(row);
                    continue;
                }
                let due_at = if due.due_at <= now {
                    now + AGAIN
                } else {
                    due.due_at
                };
                entry.put(event, Place::Away(due_at));
                to = to.min(event);
                break;
            }
            let is_there = |event: &EventId| rows.iter().any(|row| row.delivery.event == *event);
            let waited_for = entry
                .run
                .range(..=to)
                .filter(|(event, place)| matches!(place, Place::Away(_)) && !is_there(event));
            gone.extend(waited_for.map(|(event, _)| *event));
            for event in &gone {
                entry.take(*event);
            }
            if let Some(first) = entry.parking.first() {
                to = to.min(before(*first));
            }
            (entry.known_to, entry.unsure) = (to, false);
        });
        self.key_of
            .extend(named.into_iter().map(|event| (event, key)));
        for event in gone {
            self.key_of.remove(&event);
        }
        (taken, ready)
    }
}

impl Order {
    /// Whether a subscription keeps order.
    pub(crate) fn keeps(&self, subscription: SubscriptionId) -> bool {
        self.lines.contains_key(&subscription)
    }

    /// Whether rows may be taken in that a read brought which began at `mark`.
    pub(crate) fn takes(&self, subscription: SubscriptionId, mark: u64) -> bool {
        let takes = |line: &Line| line.owned && (!line.served || line.since <= mark);
        self.lines.get(&subscription).is_some_and(takes)
    }

    /// A subscription that keeps order can be served. Whether its lane is to be read from
    /// the beginning: nothing was known of it.
    ///
    /// - `owned`: whether by this node.
    /// - `mark`: the present.
    pub(crate) fn open(
        &mut self,
        subscription: SubscriptionId,
        lane: Lane,
        owned: bool,
        mark: u64,
    ) -> bool {
        let line = self
            .lines
            .entry(subscription)
            .or_insert_with(|| Line::new(lane));
        if line.is_active() && owned {
            return false;
        }
        (line.served, line.owned) = (true, owned);
        line.renew(mark);
        self.note(subscription);
        true
    }

    /// A subscription that keeps order is paused: all that waits goes to the retries.
    pub(crate) fn pause(
        &mut self,
        subscription: SubscriptionId,
        lane: Lane,
        owned: bool,
    ) -> Displaced {
        let line = self
            .lines
            .entry(subscription)
            .or_insert_with(|| Line::new(lane));
        (line.served, line.owned) = (false, owned);
        let mut displaced = Displaced::default();
        self.waiting -= line.waiting;
        self.blocked -= line.blocked;
        let key_of = line.key_of.clone();
        for row in line.clear(subscription) {
            let key = key_of.get(&row.delivery.event);
            match key.filter(|_| row.stage == Stage::OUTBOX) {
                Some(key) => {
                    let entry = line.keys.entry(*key).or_insert_with(Key::new);
                    entry.park(row.delivery.event);
                    displaced.to_park.push((row, *key));
                }
                None => displaced.let_go.push(row),
            }
        }
        self.note(subscription);
        displaced
    }

    /// A subscription does not keep order, or is not served any more. Answers what waited.
    pub(crate) fn close(&mut self, subscription: SubscriptionId) -> Vec<Row> {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return Vec::new();
        };
        self.waiting -= line.waiting;
        self.blocked -= line.blocked;
        let rows = line.clear(subscription);
        line.served = false;
        self.note(subscription);
        self.lines.remove(&subscription);
        rows
    }

    /// Begins anew with a subscription: rows were passed over. Answers what waited.
    ///
    /// - `mark`: the present.
    pub(crate) fn reload(&mut self, subscription: SubscriptionId, mark: u64) -> Vec<Row> {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return Vec::new();
        };
        self.waiting -= line.waiting;
        self.blocked -= line.blocked;
        let rows = line.clear(subscription);
        line.renew(mark);
        self.note(subscription);
        rows
    }

    /// Lanes are not ours any more. Answers what waited of them.
    pub(crate) fn drop_lanes(&mut self, of: impl Fn(Lane) -> bool) -> Vec<Row> {
        let (mut rows, mut dropped) = (Vec::new(), Vec::new());
        for (subscription, line) in self.lines.iter_mut().filter(|(_, line)| of(line.lane)) {
            self.waiting -= line.waiting;
            self.blocked -= line.blocked;
            line.owned = false;
            rows.extend(line.clear(*subscription));
            dropped.push(*subscription);
        }
        dropped
            .into_iter()
            .for_each(|subscription| self.note(subscription));
        rows
    }

    /// Lanes are ours.
    ///
    /// - `mark`: the present.
    pub(crate) fn add_lanes(&mut self, lanes: &[Lane], mark: u64) {
        let mut added = Vec::new();
        for (subscription, line) in &mut self.lines {
            if lanes.contains(&line.lane) && !line.owned {
                line.owned = true;
                line.renew(mark);
                added.push(*subscription);
            }
        }
        added
            .into_iter()
            .for_each(|subscription| self.note(subscription));
    }

    /// There is no memory for a row that was read.
    ///
    /// - `pass`: the number of the pass of reading that brought it.
    /// - `is_full`: whether that began at the beginning.
    pub(crate) fn refused(&mut self, delivery: DeliveryId, pass: u64, is_full: bool) {
        let Some(line) = self.lines.get_mut(&delivery.subscription) else {
            return;
        };
        // A pass brings rows in order: the first one it was is the lowest.
        if line.refused_in.replace(pass) == Some(pass) {
            return;
        }
        let to = before(delivery.event);
        if !is_full || to <= line.read_to {
            line.read_to = line.read_to.min(to);
            return;
        }
        line.read_to = to;
        self.reconsider(delivery.subscription);
    }

    /// A pass from the beginning of a lane has come so far.
    ///
    /// - `pass`: its number.
    pub(crate) fn read(&mut self, lane: Lane, pass: u64, to: EventId) {
        let mut grown = Vec::new();
        for (subscription, line) in &mut self.lines {
            if line.lane == lane && line.refused_in != Some(pass) && line.read_to < to {
                line.read_to = to;
                grown.push(*subscription);
            }
        }
        grown
            .into_iter()
            .for_each(|subscription| self.reconsider(subscription));
    }

    /// Looks for keys that may be sent since more is known of their subscription.
    fn reconsider(&mut self, subscription: SubscriptionId) {
        let line = self.lines.get(&subscription);
        let keys: Vec<_> = line
            .map(|line| line.keys.keys().copied().collect())
            .unwrap_or_default();
        for key in keys {
            self.change(subscription, key, |_| ());
        }
    }

    /// Gives a row of the outbox its place. `false` if there is no room: it is to be
    /// parked, and noted as such.
    ///
    /// - `most`: how many rows of a subscription may wait in memory.
    /// - `crowded`: no more that is blocked may.
    pub(crate) fn insert(
        &mut self,
        row: Row,
        key: OrderKey,
        now: DateTime<Utc>,
        most: usize,
        crowded: bool,
    ) -> bool {
        let DeliveryId {
            event,
            subscription,
        } = row.delivery;
        let Some(line) = self.lines.get_mut(&subscription) else {
            return false;
        };
        let is_blocked = line.keys.get(&key).and_then(Key::blocked_until).is_some();
        let has_room = line.served && line.has_room(key, now, most) && !(crowded && is_blocked);
        if has_room {
            line.key_of.insert(event, key);
        }
        self.change(subscription, key, |key| {
            if has_room {
                key.put(event, Place::Here(row.stage));
            } else {
                key.park(event);
            }
        });
        has_room
    }

    /// A row that may be sent; it is out from now on.
    pub(crate) fn next(&mut self) -> Option<Row> {
        loop {
            let (subscription, key) = self.ready.pop_front()?;
            let Some(line) = self.lines.get_mut(&subscription) else {
                continue;
            };
            let may_send = line.is_active() && line.heads.complete;
            let read_to = line.read_to;
            let head = self.change(subscription, key, |key| {
                key.is_ready = false;
                let (event, stage) = key.head(read_to).filter(|_| may_send)?;
                key.take(event);
                key.out = Some(Out {
                    event,
                    withdrawn: false,
                });
                Some((event, stage))
            });
            if let Some((event, stage)) = head.flatten() {
                let line = self.lines.get(&subscription)?;
                return Some(line.row(subscription, event, stage));
            }
        }
    }

    /// What became of a row that was out is committed. `None` if it was not.
    ///
    /// - `retry`: when it is tried again.
    /// - `mark`: taken after the commit.
    pub(crate) fn settled(
        &mut self,
        delivery: DeliveryId,
        retry: Option<DateTime<Utc>>,
        mark: u64,
        now: DateTime<Utc>,
        most: usize,
    ) -> Option<Displaced> {
        let DeliveryId {
            event,
            subscription,
        } = delivery;
        let line = self.lines.get_mut(&subscription)?;
        let key = *line.key_of.get(&event)?;
        let is_active = line.is_active();
        let waits = self.change(subscription, key, |key| {
            let out = key.out.take_if(|out| out.event == event)?;
            if retry.is_some() {
                key.touched = mark;
            }
            key.unsure |= out.withdrawn;
            let due_at = retry.filter(|_| !out.withdrawn && is_active);
            if let Some(due_at) = due_at {
                key.put(event, Place::Away(due_at));
            }
            Some(due_at)
        })?;
        let line = self.lines.get_mut(&subscription)?;
        let Some(due_at) = waits? else {
            line.key_of.remove(&event);
            return Some(Displaced::default());
        };
        let before = (line.waiting, line.blocked);
        let displaced = line.displace(subscription, key, due_at, now, most);
        self.waiting = self.waiting + line.waiting - before.0;
        self.blocked = self.blocked + line.blocked - before.1;
        self.note(subscription);
        Some(displaced)
    }

    /// A row that was out goes to the retries without having been sent. Answers its key,
    /// if it was out.
    pub(crate) fn parks(&mut self, delivery: DeliveryId) -> Option<OrderKey> {
        self.leaves(delivery, |key| key.park(delivery.event))
    }

    /// A row that was out goes back to the retries, where it came from, and has to wait.
    /// `false` if it was not out, or nothing of its subscription is sent.
    pub(crate) fn waits(&mut self, delivery: DeliveryId, until: DateTime<Utc>) -> bool {
        let DeliveryId {
            event,
            subscription,
        } = delivery;
        let line = self.lines.get(&subscription);
        let is_active = line.is_some_and(Line::is_active);
        let Some(key) = self.leaves(delivery, |key| {
            if is_active {
                key.put(event, Place::Away(until));
            }
        }) else {
            return false;
        };
        if let Some(line) = self.lines.get_mut(&subscription).filter(|_| is_active) {
            line.key_of.insert(event, key);
        }
        is_active
    }

    /// A row that was out is let go of; whether the line has to begin anew.
    pub(crate) fn lost(&mut self, delivery: DeliveryId) -> bool {
        let was_out = self.leaves(delivery, |_| ()).is_some();
        let line = self.lines.get(&delivery.subscription);
        was_out && line.is_some_and(Line::is_active)
    }

    fn leaves(&mut self, delivery: DeliveryId, leave: impl FnOnce(&mut Key)) -> Option<OrderKey> {
        let DeliveryId {
            event,
            subscription,
        } = delivery;
        let line = self.lines.get_mut(&subscription)?;
        let key = *line.key_of.get(&event)?;
        let was_out = self.change(subscription, key, |key| {
            key.out.take_if(|out| out.event == event)?;
            leave(key);
            Some(())
        });
        was_out??;
        self.lines.get_mut(&subscription)?.key_of.remove(&event);
        Some(key)
    }

    /// A row is parked, or will not be.
    ///
    /// - `mark`: the present.
    pub(crate) fn parked(&mut self, delivery: DeliveryId, key: OrderKey, mark: u64) {
        let line = self.lines.get(&delivery.subscription);
        if line.is_some_and(|line| line.keys.contains_key(&key)) {
            self.change(delivery.subscription, key, |key| {
                if key.parking.remove(&delivery.event) {
                    key.touched = mark;
                }
            });
        }
    }

    /// A delivery was cancelled. Answers its row, if it waited in memory.
    ///
    /// - `waited`: it was out, and has been taken out of the schedule.
    pub(crate) fn withdraw(&mut self, delivery: DeliveryId, waited: bool) -> Option<Row> {
        let DeliveryId {
            event,
            subscription,
        } = delivery;
        let line = self.lines.get_mut(&subscription)?;
        let key = *line.key_of.get(&event)?;
        let place = self.change(subscription, key, |key| {
            match &mut key.out {
                Some(out) if out.event == event && waited => key.out = None,
                Some(out) if out.event == event => out.withdrawn = true,
                _ => return key.take(event),
            }
            None
        })?;
        let line = self.lines.get_mut(&subscription)?;
        if waited || place.is_some() {
            line.key_of.remove(&event);
        }
        match place? {
            Place::Here(stage) => Some(line.row(subscription, event, stage)),
            Place::Away(_) => None,
        }
    }

    /// Something may have come to the retries: goes through all keys of a subscription.
    pub(crate) fn look_through(&mut self, subscription: SubscriptionId) {
        if let Some(line) = self.lines.get_mut(&subscription) {
            line.heads.wanted = true;
            self.note(subscription);
        }
    }

    /// A row of this key gets its place in the order then.
    pub(crate) fn look_for(
        &mut self,
        subscription: SubscriptionId,
        key: OrderKey,
        at: DateTime<Utc>,
    ) {
        self.change(subscription, key, |key| {
            key.awaited = Some(key.awaited.map_or(at, |awaited| awaited.min(at)));
        });
    }

    /// What to look at now, if anything.
    pub(crate) fn next_look(&mut self, now: DateTime<Utc>) -> Option<OrderLook> {
        let mut keys = Vec::new();
        while let Some((at, subscription)) = self.looks.first().copied() {
            if at > now || keys.len() >= KEYS {
                break;
            }
            let Some(line) = self.lines.get_mut(&subscription) else {
                self.looks.pop_first();
                continue;
            };
            if line.heads.is_due() {
                if !keys.is_empty() {
                    break;
                }
                if line.heads.after.is_none() {
                    // What is asked for from now on takes another pass.
                    line.heads.wanted = false;
                }
                line.heads.under_way = true;
                let look = OrderLook::Heads {
                    subscription,
                    after: line.heads.after,
                    round: line.heads.round,
                };
                self.note(subscription);
                return Some(look);
            }
            let due: Vec<OrderKey> = line
                .looks
                .range(..=(now, OrderKey::new(i64::MAX)))
                .take(KEYS - keys.len())
                .map(|(_, key)| *key)
                .collect();
            for key in due {
                self.change(subscription, key, |key| {
                    key.looking = true;
                    key.awaited.take_if(|at| *at <= now);
                });
                keys.push((subscription, key));
            }
        }
        (!keys.is_empty()).then_some(OrderLook::Keys(keys))
    }

    /// Takes over what a look at keys brought. Answers rows that are in memory now.
    ///
    /// - `mark`: of the look's beginning.
    /// - `take_in`: whether a row can be taken in hand.
    pub(crate) fn looked(
        &mut self,
        keys: &[(SubscriptionId, OrderKey)],
        rows: &[DueRetry],
        mark: u64,
        now: DateTime<Utc>,
        mut take_in: impl FnMut(Row) -> bool,
    ) -> Vec<Row> {
        let mut by_key: HashMap<(SubscriptionId, OrderKey), Vec<DueRetry>> = HashMap::new();
        for row in rows {
            if let Some(key) = row.order {
                by_key
                    .entry((row.delivery.subscription, key))
                    .or_default()
                    .push(*row);
            }
        }
        let mut taken = Vec::new();
        for (subscription, key) in keys {
            let rows = by_key.remove(&(*subscription, *key)).unwrap_or_default();
            if self.may_merge(*subscription, *key, mark) {
                taken.extend(self.merge(
                    *subscription,
                    *key,
                    &rows,
                    PER_KEY,
                    mark,
                    now,
                    &mut take_in,
                ));
            }
        }
        taken
    }

    /// Takes over what going through the keys of a subscription brought. Answers rows
    /// that are in memory now.
    pub(crate) fn looked_through(
        &mut self,
        subscription: SubscriptionId,
        (after, round): (Option<OrderKey>, u64),
        found: &OrderHeads,
        mark: u64,
        now: DateTime<Utc>,
        mut take_in: impl FnMut(Row) -> bool,
    ) -> Vec<Row> {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return Vec::new();
        };
        if line.heads.round != round || !line.is_active() {
            return Vec::new();
        }
        line.heads.under_way = false;
        let up_to = found.next.unwrap_or(OrderKey::new(i64::MAX));
        let in_page = |key: &OrderKey| after.is_none_or(|after| after < *key) && *key <= up_to;
        let mut keys: BTreeMap<OrderKey, &[DueRetry]> = line
            .keys
            .range(..=up_to)
            .filter(|(key, _)| in_page(key))
            .map(|(key, _)| (*key, &[][..]))
            .collect();
        for head in &found.heads {
            keys.extend(head.order.map(|key| (key, std::slice::from_ref(head))));
        }
        let mut taken = Vec::new();
        for (key, rows) in keys {
            taken.extend(self.merge(subscription, key, rows, 1, mark, now, &mut take_in));
        }
        let Some(line) = self.lines.get_mut(&subscription) else {
            return taken;
        };
        line.heads.after = found.next;
        if found.next.is_none() && !line.heads.complete {
            line.heads.complete = true;
            self.reconsider(subscription);
        }
        self.note(subscription);
        taken
    }

    /// A look failed: it is repeated.
    pub(crate) fn look_failed(&mut self, look: &OrderLook) {
        match look {
            OrderLook::Heads {
                subscription,
                round,
                ..
            } => {
                if let Some(line) = self.lines.get_mut(subscription)
                    && line.heads.round == *round
                {
                    line.heads.under_way = false;
                    line.heads.wanted |= line.heads.after.is_none();
                }
                self.note(*subscription);
            }
            OrderLook::Keys(keys) => {
                for (subscription, key) in keys {
                    let line = self.lines.get(subscription);
                    if line.is_some_and(|line| line.keys.contains_key(key)) {
                        self.change(*subscription, *key, |key| {
                            (key.looking, key.unsure) = (false, true);
                        });
                    }
                }
            }
        }
    }

    /// When to ask [`Self::next_look`] again.
    pub(crate) fn look_at(&self) -> Option<DateTime<Utc>> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// Rows in memory that are not out.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Those of them that wait for more than their turn.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked
    }

    /// Whether nothing has to be remembered of a subscription.
    pub(crate) fn is_idle(&self, subscription: SubscriptionId) -> bool {
        let idle = |line: &Line| line.keys.is_empty() && line.heads.is_at_rest();
        self.lines.get(&subscription).is_none_or(idle)
    }

    /// What comes next of the key whose row is out.
    pub(crate) fn upcoming(&self, delivery: DeliveryId) -> impl Iterator<Item = EventId> {
        let of = || {
            let line = self.lines.get(&delivery.subscription)?;
            line.keys.get(line.key_of.get(&delivery.event)?)
        };
        of().into_iter()
            .flat_map(|key| key.run.iter())
            .filter(|(_, place)| matches!(place, Place::Here(_)))
            .map(|(event, _)| *event)
    }

    fn may_merge(&self, subscription: SubscriptionId, key: OrderKey, mark: u64) -> bool {
        let Some(line) = self.lines.get(&subscription) else {
            return false;
        };
        // A look from before the line was emptied says nothing of it.
        line.is_active() && line.since <= mark && line.keys.contains_key(&key)
    }

    #[expect(clippy::too_many_arguments, reason = "it hands them on")]
    fn merge(
        &mut self,
        subscription: SubscriptionId,
        key: OrderKey,
        rows: &[DueRetry],
        limit: usize,
        mark: u64,
        now: DateTime<Utc>,
        take_in: impl FnMut(Row) -> bool,
    ) -> Vec<Row> {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return Vec::new();
        };
        let before = (line.waiting, line.blocked);
        let (taken, ready) = line.merge(key, rows, limit, mark, now, take_in);
        self.waiting = self.waiting + line.waiting - before.0;
        self.blocked = self.blocked + line.blocked - before.1;
        if ready {
            self.ready.push_back((subscription, key));
        }
        self.note(subscription);
        taken
    }

    /// Changes a key, and what follows from it; `None` if there is no such line.
    fn change<T>(
        &mut self,
        subscription: SubscriptionId,
        key: OrderKey,
        change: impl FnOnce(&mut Key) -> T,
    ) -> Option<T> {
        let line = self.lines.get_mut(&subscription)?;
        let before = (line.waiting, line.blocked);
        let (changed, ready) = line.change(key, change);
        self.waiting = self.waiting + line.waiting - before.0;
        self.blocked = self.blocked + line.blocked - before.1;
        if ready {
            self.ready.push_back((subscription, key));
        }
        self.note(subscription);
        Some(changed)
    }

    /// Notes when a line is to be looked at.
    fn note(&mut self, subscription: SubscriptionId) {
        let Some(line) = self.lines.get_mut(&subscription) else {
            return;
        };
        let look_at = match (line.is_active(), line.heads.is_due()) {
            (false, _) => None,
            (true, true) => Some(NOW),
            (true, false) => line.looks.first().map(|(at, _)| *at),
        };
        if look_at != line.look_at {
            if let Some(known) = line.look_at {
                self.looks.remove(&(known, subscription));
            }
            self.looks.extend(look_at.map(|at| (at, subscription)));
            line.look_at = look_at;
        }
    }
}

fn before(event: EventId) -> EventId {
    EventId::new(event.get().saturating_sub(1))
}

fn after(event: EventId) -> EventId {
    EventId::new(event.get().saturating_add(1))
}

#[cfg(test)]
mod tests;
