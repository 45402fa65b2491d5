//! Where to go on reading in each lane.
//!
//! A lane is read in passes: from a little behind its newest known event to the end,
//! page by page. Every ten seconds a pass starts at the very beginning, for rows that
//! committed too late for the others. Pure: says what to read, and hears what came.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ringback_model::{EventId, Lane, NodeId};
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
    passes: u64,
    /// This process, and the lowest event that it is about to commit.
    accepting: (Option<NodeId>, Option<EventId>),
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    newest: EventId,
    /// In a pass: read behind this.
    at: Option<EventId>,
    /// A pass is wanted although one is under way.
    again: bool,
    /// When the pass under way began, …
    begun: Option<Horizon>,
    /// … and its first page has not come yet.
    at_first_page: bool,
    /// Its number, …
    pass: u64,
    /// … and whether it began at the beginning.
    is_full: bool,
    /// What was committed before has been read, unless it was under way for longer than
    /// passes overlap.
    covered: EventId,
    /// Grows while a page brings nothing but one event's deliveries.
    stretch: u32,
}

/// What is certain to be committed when a read begins.
#[derive(Clone, Copy, Debug)]
struct Horizon {
    /// Of this process's events, those before.
    ours: EventId,
    /// Of all others, those before.
    theirs: EventId,
}

/// One statement's worth of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) cursors: Vec<(Lane, EventId)>,
    pub(crate) limit: u32,
    /// Of each cursor, the number of its pass.
    passes: Vec<u64>,
}

/// How far a pass from the beginning of a lane has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turned {
    pub(crate) lane: Lane,
    /// Its number: no two passes have the same.
    pub(crate) pass: u64,
    /// All up to this event was brought.
    pub(crate) to: EventId,
}

impl Page {
    /// In which pass a lane is read by this page.
    pub(crate) fn pass_of(&self, lane: Lane) -> Option<u64> {
        let at = self.cursors.iter().position(|(other, _)| *other == lane)?;
        self.passes.get(at).copied()
    }
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
            passes: 0,
            accepting: (None, None),
        }
    }

    /// Reads a lane from its beginning: it is ours now.
    pub(crate) fn add(&mut self, lane: Lane) {
        let mut progress = Progress {
            newest: EventId::MIN,
            at: None,
            again: false,
            begun: None,
            at_first_page: true,
            pass: 0,
            is_full: true,
            covered: EventId::MIN,
            stretch: 1,
        };
        progress.begin(EventId::MIN, &mut self.passes);
        self.lanes[at_index(lane)] = Some(progress);
    }

    /// Reads a lane from its beginning once more: something was passed over.
    pub(crate) fn restart(&mut self, lane: Lane) {
        if let Some(progress) = &mut self.lanes[at_index(lane)] {
            progress.begin(EventId::MIN, &mut self.passes);
        }
    }

    /// Whether the pass that reads a lane now began at its beginning.
    pub(crate) fn is_full_pass(&self, lane: Lane) -> bool {
        self.lanes[at_index(lane)].is_some_and(|progress| progress.is_full)
    }

    /// Says what this process accepts.
    ///
    /// - `oldest`: the lowest event that it has not committed yet, if there is any.
    pub(crate) fn accepting(&mut self, node: Option<NodeId>, oldest: Option<EventId>) {
        self.accepting = (node, oldest);
    }

    /// Whether an event that a page brought comes in its order: nothing that this process
    /// accepted before is missing, nor what others committed in good time. To be asked
    /// before [`Self::took`].
    ///
    /// The pages of a pass are read one after the other. What an earlier page did not
    /// bring yet may have been committed before what a later one brings.
    pub(crate) fn is_in_order(&self, page: &Page, lane: Lane, event: EventId) -> bool {
        let Some(progress) = &self.lanes[at_index(lane)] else {
            return false;
        };
        if page.pass_of(lane) != Some(progress.pass) {
            return false;
        }
        let Some(begun) = progress.begun.filter(|_| !progress.at_first_page) else {
            return true;
        };
        let is_ours = self.accepting.0 == Some(event.node());
        event < if is_ours { begun.ours } else { begun.theirs }
    }

    /// Reads a lane no longer.
    pub(crate) fn remove(&mut self, lane: Lane) {
        self.lanes[at_index(lane)] = None;
    }

    /// Reads a lane soon: something new may be there.
    pub(crate) fn want(&mut self, lane: Lane) {
        self.busy = true;
        if let Some(progress) = &mut self.lanes[at_index(lane)] {
            progress.start(&mut self.passes);
        }
    }

    /// Reads all lanes soon.
    pub(crate) fn want_all(&mut self) {
        for progress in self.lanes.iter_mut().flatten() {
            progress.start(&mut self.passes);
        }
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
        let horizon = self.horizon(now);
        for progress in self.lanes.iter_mut().flatten() {
            if progress.at.is_some() && progress.at_first_page {
                progress.begun = Some(horizon);
            }
        }
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
        let pass = |lane: Lane| self.lanes[at_index(lane)].map_or(0, |progress| progress.pass);
        let passes = cursors.iter().map(|(lane, _)| pass(*lane)).collect();
        Some(Page {
            cursors,
            passes,
            limit: limit.saturating_mul(stretch.unwrap_or(1)),
        })
    }

    fn horizon(&self, now: DateTime<Utc>) -> Horizon {
        let present = EventId::floor(now);
        Horizon {
            ours: self
                .accepting
                .1
                .map_or(present, |oldest| oldest.min(present)),
            theirs: EventId::floor(now - OVERLAP),
        }
    }

    fn start_passes(&mut self, now: DateTime<Utc>) {
        if now >= self.sweep_at {
            let later = SWEEP.max(SWEEP_PER_ROW * self.swept_rows);
            (self.sweep_at, self.swept_rows) = (now + later, 0);
            for progress in self.lanes.iter_mut().flatten() {
                progress.begin(EventId::MIN, &mut self.passes);
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

    /// Takes note of what a page brought: `rows` are in order of lane, then event. Answers
    /// how far passes from the beginning have come.
    pub(crate) fn took(&mut self, page: &Page, rows: &[OutboxKey]) -> Vec<Turned> {
        self.reading = false;
        let mut turned = Vec::new();
        for ((lane, _), pass) in page.cursors.iter().zip(&page.passes) {
            let Some(progress) = &mut self.lanes[at_index(*lane)] else {
                continue;
            };
            let rows = rows_of(rows, *lane);
            self.swept_rows = self
                .swept_rows
                .saturating_add(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            // A pass that began meanwhile starts further back.
            if progress.pass == *pass && progress.at.is_some() {
                let is_full = progress.is_full;
                let to = progress.turn_page(rows, page.limit as usize, &mut self.passes);
                turned.extend(is_full.then_some(Turned {
                    lane: *lane,
                    pass: *pass,
                    to,
                }));
            }
        }
        turned
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
    /// Begins a pass behind an event.
    fn begin(&mut self, at: EventId, passes: &mut u64) {
        *passes += 1;
        (self.at, self.at_first_page, self.begun) = (Some(at), true, None);
        (self.pass, self.is_full) = (*passes, at == EventId::MIN);
    }

    fn start(&mut self, passes: &mut u64) {
        if self.at.is_none() {
            let read_to = self.newest.min(self.covered);
            self.begin(EventId::floor(read_to.time() - OVERLAP), passes);
        } else {
            self.again = true;
        }
    }

    /// Answers up to where all was brought.
    fn turn_page(&mut self, rows: &[OutboxKey], limit: usize, passes: &mut u64) -> EventId {
        let from = self.at.take();
        self.at_first_page = false;
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
                return next;
            }
        }
        self.stretch = 1;
        if let Some(begun) = self.begun.take() {
            self.covered = begun.ours;
        }
        if std::mem::take(&mut self.again) {
            self.start(passes);
        }
        EventId::MAX
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
    fn later_passes_start_two_seconds_before_the_last_or_the_newest_event() {
        for (newest, expected) in [(450, 0), (-60, -60)] {
            let mut reader = Reader::new(start());
            reader.add(LANE);
            let page = reader.next(start()).unwrap();
            reader.took(&page, &rows([event(-70)]));
            assert_eq!(reader.next(after(499)), None);
            assert_eq!(reader.next_at(), Some(after(500)));
            reader.seen(LANE, event(newest));
            assert_eq!(
                reader.next(after(500)).unwrap().cursors,
                [(LANE, event(expected - 2000))]
            );
        }
    }

    /// However long this process takes to commit an event, the next pass finds it.
    #[test]
    fn what_was_being_accepted_when_the_last_pass_began_is_found_by_the_next() {
        let mut reader = caught_up();
        for (now, oldest, expected) in [
            (20_000, Some(event(9_000)), None),
            (20_500, None, Some(event(9_000 - 2000))),
            (21_000, None, Some(event(20_500 - 2000))),
        ] {
            reader.accepting(None, oldest);
            reader.seen(LANE, event(60_000));
            let page = reader.next(after(now)).unwrap();
            if let Some(expected) = expected {
                assert_eq!(page.cursors, [(LANE, expected)], "{now}");
            }
            reader.took(&page, &rows([event(60_000)]));
        }
    }

    #[test]
    fn on_a_second_page_only_what_was_committed_when_the_pass_began_is_in_order() {
        let node = |number| NodeId::new(number).unwrap();
        let of = |number, ms| {
            EventId::new(ringback_model::IdGenerator::new(node(number)).next(after(ms)))
        };
        let mut reader = caught_up();
        reader.accepting(Some(node(1)), Some(event(900)));
        reader.want(LANE);
        let page = reader.next(after(1000)).unwrap();
        assert!(reader.is_in_order(&page, LANE, of(1, 5000)));
        reader.took(&page, &rows((0..i64::from(page.limit)).map(event)));
        let page = reader.next(after(1000)).unwrap();
        let cases = [
            (of(1, 899), true),
            (of(1, 900), false), // being accepted when the first page was read
            (of(2, 899), false),
            (of(2, -1001), true), // another node's, and committed for certain
        ];
        for (event, expected) in cases {
            assert_eq!(reader.is_in_order(&page, LANE, event), expected, "{event}");
        }
        reader.restart(LANE);
        assert!(!reader.is_in_order(&page, LANE, of(1, -9000))); // it was passed over
    }

    #[test]
    fn a_hint_is_followed_at_once_also_during_a_pass() {
        let mut reader = caught_up();
        reader.want(LANE);
        let page = reader.next(after(1)).unwrap();
        reader.want(LANE);
        reader.took(&page, &[]);
        let again = reader.next(after(2)).unwrap();
        assert_eq!(again.cursors, page.cursors);
        reader.took(&again, &[]);
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

    /// Also when that one began there too, and nothing else tells them apart.
    #[test]
    fn a_page_of_a_pass_that_was_given_up_turns_no_page_of_the_next() {
        let mut reader = Reader::new(start());
        reader.add(LANE);
        let page = reader.next(start()).unwrap();
        reader.restart(LANE);
        assert_eq!(reader.took(&page, &rows([event(3)])), []);
        let page = reader.next(start()).unwrap();
        assert_eq!(page.cursors, [(LANE, EventId::MIN)]);
        let turned = reader.took(&page, &rows([event(3)]));
        assert_eq!(turned.len(), 1);
        assert_eq!((turned[0].lane, turned[0].to), (LANE, EventId::MAX));
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
