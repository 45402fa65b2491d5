//! Where to go on reading in each lane.
//!
//! A lane is read in passes: from a little behind its newest known event to the end,
//! page by page. Every ten seconds a pass starts at the very beginning, for rows that
//! committed too late for the others. Pure: says what to read, and hears what came.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{EventId, Lane};
use ringback_store::OutboxKey;

use crate::lanes::per_lane;

/// Ids are made before their rows commit, so a pass starts this much before the newest.
const OVERLAP: TimeDelta = TimeDelta::seconds(2);
/// Between passes when nothing happens: a hint makes it sooner.
const IDLE: Duration = Duration::from_millis(500);
/// Between passes while other nodes write into our lanes.
const BUSY: Duration = Duration::from_millis(50);
/// Between passes from the beginning. One that found much is repeated later, so that
/// a long backlog is not read over and over.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_PER_ROW: Duration = Duration::from_micros(100);
/// What one statement may bring, more or less.
const ROWS: usize = 8_000;

/// The lanes that are read.
#[derive(Debug)]
pub(crate) struct Reader {
    lanes: [Option<Progress>; Lane::COUNT],
    /// A read is under way.
    reading: bool,
    /// Nothing is read: memory is full.
    held: bool,
    /// A read or a hint brought something new lately.
    busy: bool,
    pass_at: DateTime<Utc>,
    sweep_at: DateTime<Utc>,
    swept_rows: u32,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    newest: EventId,
    /// In a pass: read behind this.
    at: Option<EventId>,
    /// A pass is wanted although one is under way.
    again: bool,
    /// Grows while a page brings nothing but one event's deliveries.
    stretch: u32,
}

/// One statement's worth of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) cursors: Vec<(Lane, EventId)>,
    pub(crate) limit: u32,
}

impl Reader {
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        Self {
            lanes: per_lane(|_| None),
            reading: false,
            held: false,
            busy: false,
            pass_at: now + IDLE,
            sweep_at: now + SWEEP,
            swept_rows: 0,
        }
    }

    /// Reads a lane from its beginning: it is ours now.
    pub(crate) fn add(&mut self, lane: Lane) {
        let (newest, at) = (EventId::MIN, Some(EventId::MIN));
        self.lanes[at_index(lane)] = Some(Progress {
            newest,
            at,
            again: false,
            stretch: 1,
        });
    }

    /// Reads a lane no longer.
    pub(crate) fn remove(&mut self, lane: Lane) {
        self.lanes[at_index(lane)] = None;
    }

    /// Reads a lane soon: something new may be there.
    pub(crate) fn want(&mut self, lane: Lane) {
        self.busy = true;
        if let Some(progress) = &mut self.lanes[at_index(lane)] {
            progress.start();
        }
    }

    /// Reads all lanes soon.
    pub(crate) fn want_all(&mut self) {
        self.lanes.iter_mut().flatten().for_each(Progress::start);
    }

    /// Reads all lanes from the beginning soon.
    pub(crate) fn sweep(&mut self, now: DateTime<Utc>) {
        self.sweep_at = now;
    }

    /// Stops reading, or goes on from the beginning: what was passed over is there.
    pub(crate) fn hold(&mut self, held: bool, now: DateTime<Utc>) {
        if self.held && !held {
            self.sweep(now);
        }
        self.held = held;
    }

    /// Whether memory is full.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// An event of this lane came another way.
    pub(crate) fn seen(&mut self, lane: Lane, event: EventId) {
        if let Some(progress) = &mut self.lanes[at_index(lane)] {
            progress.newest = progress.newest.max(event);
        }
    }

    /// What to read now, if anything.
    pub(crate) fn next(&mut self, now: DateTime<Utc>) -> Option<Page> {
        if self.reading || self.held {
            return None;
        }
        self.start_passes(now);
        let cursor = |lane: Lane| Some((lane, self.lanes[at_index(lane)]?.at?));
        let cursors: Vec<_> = Lane::all().filter_map(cursor).collect();
        if cursors.is_empty() {
            return None;
        }
        let stretch = self
            .lanes
            .iter()
            .flatten()
            .map(|progress| progress.stretch)
            .max();
        let limit = u32::try_from((ROWS / cursors.len()).clamp(100, 2000)).unwrap_or(u32::MAX);
        self.reading = true;
        Some(Page {
            cursors,
            limit: limit.saturating_mul(stretch.unwrap_or(1)),
        })
    }

    fn start_passes(&mut self, now: DateTime<Utc>) {
        if now >= self.sweep_at {
            let later = SWEEP.max(SWEEP_PER_ROW * self.swept_rows);
            (self.sweep_at, self.swept_rows) = (now + later, 0);
            for progress in self.lanes.iter_mut().flatten() {
                progress.at = Some(EventId::MIN);
            }
        } else if now >= self.pass_at {
            self.want_all();
        } else {
            return;
        }
        let wait = if std::mem::take(&mut self.busy) {
            BUSY
        } else {
            IDLE
        };
        self.pass_at = now + wait;
    }

    /// Takes note of what a page brought: `rows` are in order of lane, then event.
    pub(crate) fn took(&mut self, page: &Page, rows: &[OutboxKey]) {
        self.reading = false;
        for (lane, from) in &page.cursors {
            let Some(progress) = &mut self.lanes[at_index(*lane)] else {
                continue;
            };
            let rows = rows_of(rows, *lane);
            self.swept_rows = self
                .swept_rows
                .saturating_add(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            // A pass that began meanwhile starts further back.
            if progress.at == Some(*from) {
                progress.turn_page(rows, page.limit as usize);
            }
        }
    }

    /// Notes that a page could not be read; the same is read next.
    pub(crate) fn failed(&mut self) {
        self.reading = false;
    }

    /// Whether rows are new to us tells how soon others may bring more.
    pub(crate) fn found_new(&mut self, now: DateTime<Utc>) {
        self.busy = true;
        self.pass_at = self.pass_at.min(now + BUSY);
    }

    /// When to ask [`Self::next`] again.
    pub(crate) fn next_at(&self) -> Option<DateTime<Utc>> {
        let waits = !self.reading && !self.held && self.lanes.iter().any(Option::is_some);
        let in_pass = || {
            self.lanes
                .iter()
                .flatten()
                .any(|progress| progress.at.is_some())
        };
        let at = || {
            if in_pass() {
                DateTime::<Utc>::MIN_UTC
            } else {
                self.pass_at.min(self.sweep_at)
            }
        };
        waits.then(at)
    }
}

impl Progress {
    fn start(&mut self) {
        if self.at.is_none() {
            self.at = Some(EventId::floor(self.newest.time() - OVERLAP));
        } else {
            self.again = true;
        }
    }

    fn turn_page(&mut self, rows: &[OutboxKey], limit: usize) {
        let from = self.at.take();
        if let Some(last) = rows.last() {
            let last = last.delivery.event;
            self.newest = self.newest.max(last);
            if rows.len() >= limit {
                // The page may have ended amidst an event's deliveries.
                let next = EventId::new(last.get() - 1);
                self.stretch = if Some(next) == from {
                    self.stretch.saturating_mul(2)
                } else {
                    1
                };
                self.at = Some(next);
                return;
            }
        }
        self.stretch = 1;
        if std::mem::take(&mut self.again) {
            self.start();
        }
    }
}

fn rows_of(rows: &[OutboxKey], lane: Lane) -> &[OutboxKey] {
    let begin = rows.partition_point(|row| row.lane < lane);
    let end = rows.partition_point(|row| row.lane <= lane);
    &rows[begin..end]
}

fn at_index(lane: Lane) -> usize {
    usize::from(lane.get())
}

#[cfg(test)]
mod tests {
    use ringback_model::{DeliveryId, SubscriptionId};

    use super::*;

    const LANE: Lane = Lane::new(3);

    fn start() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap()
    }

    fn after(ms: i64) -> DateTime<Utc> {
        start() + TimeDelta::milliseconds(ms)
    }

    fn event(ms: i64) -> EventId {
        EventId::floor(after(ms))
    }

    fn rows(events: impl IntoIterator<Item = EventId>) -> Vec<OutboxKey> {
        let row = |(number, event)| OutboxKey {
            lane: LANE,
            delivery: DeliveryId {
                event,
                subscription: SubscriptionId::new(number),
            },
            order: None,
        };
        (0..).zip(events).map(row).collect()
    }

    /// Has read the lane once; its newest event is at `start`.
    fn caught_up() -> Reader {
        let mut reader = Reader::new(start());
        reader.add(LANE);
        let page = reader.next(start()).unwrap();
        reader.took(&page, &rows([event(0)]));
        reader
    }

    #[test]
    fn a_fresh_lane_is_read_from_its_beginning() {
        let mut reader = Reader::new(start());
        assert_eq!((reader.next(start()), reader.next_at()), (None, None));
        reader.add(LANE);
        assert_eq!(
            reader.next(start()).unwrap().cursors,
            [(LANE, EventId::MIN)]
        );
        assert_eq!(reader.next(start()), None); // one read at a time
    }

    #[test]
    fn later_passes_start_two_seconds_before_the_newest_event() {
        let mut reader = caught_up();
        assert_eq!(reader.next(after(499)), None);
        assert_eq!(reader.next_at(), Some(after(500)));
        reader.seen(LANE, event(450));
        assert_eq!(
            reader.next(after(500)).unwrap().cursors,
            [(LANE, event(450 - 2000))]
        );
    }

    #[test]
    fn a_hint_is_followed_at_once_also_during_a_pass() {
        let mut reader = caught_up();
        reader.want(LANE);
        let page = reader.next(after(1)).unwrap();
        reader.want(LANE);
        reader.took(&page, &[]);
        assert_eq!(reader.next(after(2)), Some(page.clone()));
        reader.took(&page, &[]);
        assert_eq!(reader.next(after(3)), None);
    }

    #[test]
    fn every_ten_seconds_a_pass_starts_at_the_beginning() {
        let mut reader = caught_up();
        assert_eq!(
            reader.next(after(10_000)).unwrap().cursors,
            [(LANE, EventId::MIN)]
        );
    }

    #[test]
    fn a_full_page_is_followed_by_the_next_and_no_delivery_is_skipped() {
        let mut reader = caught_up();
        reader.want(LANE);
        let page = reader.next(after(1)).unwrap();
        let limit = i64::from(page.limit);
        reader.took(&page, &rows((0..limit).map(event)));
        // The last event may have more deliveries than fitted.
        let behind = EventId::new(event(limit - 1).get() - 1);
        assert_eq!(reader.next(after(1)).unwrap().cursors, [(LANE, behind)]);
    }

    #[test]
    fn an_event_with_more_deliveries_than_a_page_is_read_with_a_longer_one() {
        let mut reader = caught_up();
        reader.want(LANE);
        let mut limits = Vec::new();
        for _ in 0..3 {
            let page = reader.next(after(1)).unwrap();
            limits.push(page.limit);
            reader.took(&page, &rows((0..page.limit).map(|_| event(5))));
        }
        assert_eq!(limits[2], 2 * limits[0]);
        let page = reader.next(after(1)).unwrap();
        reader.took(&page, &rows([event(5)]));
        assert_eq!(reader.next(after(2)), None);
    }

    #[test]
    fn while_memory_is_full_nothing_is_read_and_then_everything() {
        let mut reader = caught_up();
        reader.hold(true, start());
        assert_eq!((reader.next(after(20_000)), reader.next_at()), (None, None));
        reader.hold(false, after(1));
        assert_eq!(
            reader.next(after(1)).unwrap().cursors,
            [(LANE, EventId::MIN)]
        );
    }

    #[test]
    fn a_read_that_failed_is_repeated() {
        let mut reader = Reader::new(start());
        reader.add(LANE);
        let page = reader.next(start());
        reader.failed();
        assert_eq!(reader.next(start()), page);
    }

    #[test]
    fn a_lane_taken_anew_during_a_read_is_read_from_its_beginning() {
        let mut reader = caught_up();
        reader.want(LANE);
        let page = reader.next(after(1)).unwrap();
        reader.remove(LANE);
        reader.add(LANE);
        reader.took(&page, &rows([event(3)]));
        assert_eq!(
            reader.next(after(2)).unwrap().cursors,
            [(LANE, EventId::MIN)]
        );
    }

    #[test]
    fn a_long_backlog_is_swept_less_often() {
        let mut reader = caught_up();
        let page = reader.next(after(10_000)).unwrap();
        reader.took(&page, &rows((0..1000).map(event)));
        for sweep in 1..3 {
            reader.swept_rows = 1_000_000;
            reader.sweep(after(20_000 * sweep));
            let page = reader.next(after(20_000 * sweep)).unwrap();
            reader.took(&page, &[]);
        }
        assert_eq!(reader.sweep_at, after(40_000 + 100_000));
    }
}
