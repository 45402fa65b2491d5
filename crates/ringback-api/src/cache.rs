//! A small cache: many callers that miss at once cause one read.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{sync::OnceCell, time::timeout};

/// No caller waits longer than this for a value: whoever publishes is turned away within
/// three seconds when the database is away.
const LONGEST: Duration = Duration::from_secs(2);

/// A value could not be read in time.
#[derive(Debug, thiserror::Error)]
#[error("the database took longer than two seconds")]
pub(crate) struct Late;

/// Values by key, each read once and kept for a while.
pub(crate) struct Cache<K, V> {
    entries: Mutex<HashMap<K, Entry<V>>>,
    capacity: usize,
    /// How long a value is kept, counted from before it was read.
    keep: TimeDelta,
}

struct Entry<V> {
    value: Arc<OnceCell<V>>,
    begun_at: DateTime<Utc>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// - `capacity`: when it is reached, everything is forgotten: cheap, and rare.
    pub(crate) fn new(capacity: usize, keep: TimeDelta) -> Self {
        Self {
            entries: Mutex::default(),
            capacity,
            keep,
        }
    }

    /// The value of `key`; `read` runs only if it is not here.
    pub(crate) async fn get_or_read<E: From<Late>>(
        &self,
        key: &K,
        now: DateTime<Utc>,
        read: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        let value = self.cell(key, now);
        // A caller that goes away while it reads leaves the reading to the next. When it
        // fails, those who waited for it try one after the other: so the time is counted
        // from when each came, not from when its turn comes.
        let found = timeout(LONGEST, value.get_or_try_init(|| read)).await;
        found.map_err(|_| Late)?.cloned()
    }

    /// The value of `key`, if it is here and fresh.
    pub(crate) fn get(&self, key: &K, now: DateTime<Utc>) -> Option<V> {
        let entries = self.lock();
        let entry = entries
            .get(key)
            .filter(|entry| now - entry.begun_at < self.keep)?;
        entry.value.get().cloned()
    }

    /// Takes in a value that was read at `now`.
    pub(crate) fn put(&self, key: K, value: V, now: DateTime<Utc>) {
        let value = Arc::new(OnceCell::new_with(Some(value)));
        self.insert(
            &mut self.lock(),
            key,
            Entry {
                value,
                begun_at: now,
            },
        );
    }

    /// Shows what is here to `visit`.
    pub(crate) fn visit(&self, visit: impl Fn(&V)) {
        // What is being read right now may have been read before whatever this is for.
        self.forget(|value| {
            visit(value);
            false
        });
    }

    /// Forgets what `is_stale` holds for.
    pub(crate) fn forget(&self, is_stale: impl Fn(&V) -> bool) {
        // What is being read right now may have been read before the change.
        self.lock()
            .retain(|_, entry| entry.value.get().is_some_and(|value| !is_stale(value)));
    }

    /// Forgets one key.
    pub(crate) fn remove(&self, key: &K) {
        self.lock().remove(key);
    }

    fn cell(&self, key: &K, now: DateTime<Utc>) -> Arc<OnceCell<V>> {
        let mut entries = self.lock();
        if let Some(entry) = entries.get(key)
            && now - entry.begun_at < self.keep
        {
            return Arc::clone(&entry.value);
        }
        let value = Arc::new(OnceCell::new());
        let entry = Entry {
            value: Arc::clone(&value),
            begun_at: now,
        };
        self.insert(&mut entries, key.clone(), entry);
        value
    }

    fn insert(&self, entries: &mut HashMap<K, Entry<V>>, key: K, entry: Entry<V>) {
        if entries.len() >= self.capacity {
            entries.clear();
        }
        entries.insert(key, entry);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Failed {
        Read,
        Late,
    }

    impl From<Late> for Failed {
        fn from(Late: Late) -> Self {
            Self::Late
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    /// Reads the number of the reading.
    async fn read(cache: &Cache<&str, u32>, reads: &AtomicU32, key: &'static str, now: i64) -> u32 {
        let one = async { Ok::<_, Failed>(reads.fetch_add(1, Ordering::Relaxed)) };
        cache.get_or_read(&key, at(now), one).await.unwrap()
    }

    #[tokio::test]
    async fn a_value_is_read_once_and_again_when_its_time_is_over() {
        let (cache, reads) = (Cache::new(2, TimeDelta::seconds(3)), AtomicU32::new(0));
        assert_eq!(read(&cache, &reads, "a", 0).await, 0);
        assert_eq!(read(&cache, &reads, "a", 2).await, 0);
        assert_eq!(read(&cache, &reads, "a", 3).await, 1);
        assert_eq!(read(&cache, &reads, "b", 3).await, 2);
        assert_eq!(read(&cache, &reads, "c", 3).await, 3); // full: the others are forgotten
        assert_eq!(read(&cache, &reads, "a", 3).await, 4);
        cache.forget(|value| *value == 4);
        assert_eq!(read(&cache, &reads, "c", 3).await, 3);
        assert_eq!(read(&cache, &reads, "a", 3).await, 5);
    }

    #[tokio::test]
    async fn many_that_miss_at_once_cause_one_read() {
        let cache = Arc::new(Cache::new(2, TimeDelta::seconds(3)));
        let reads = Arc::new(AtomicU32::new(0));
        let ask = || {
            let (cache, reads) = (Arc::clone(&cache), Arc::clone(&reads));
            tokio::spawn(async move {
                let slowly = async {
                    tokio::task::yield_now().await;
                    Ok::<_, Failed>(reads.fetch_add(1, Ordering::Relaxed))
                };
                cache.get_or_read(&"a", at(0), slowly).await.unwrap()
            })
        };
        for asked in [ask(), ask(), ask()] {
            assert_eq!(asked.await.unwrap(), 0);
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failed_read_is_not_kept() {
        let cache = Cache::new(2, TimeDelta::seconds(3));
        assert_eq!(
            cache
                .get_or_read(&"a", at(0), async { Err::<u32, _>(Failed::Read) })
                .await,
            Err(Failed::Read)
        );
        assert_eq!(
            cache
                .get_or_read(&"a", at(0), async { Ok::<_, Failed>(7) })
                .await,
            Ok(7)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_because_others_wait_too() {
        let cache = Arc::new(Cache::<&str, u32>::new(2, TimeDelta::seconds(3)));
        let began = tokio::time::Instant::now();
        let ask = || {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move {
                let away = async {
                    tokio::time::sleep(LONGEST * 3 / 4).await;
                    Err::<u32, _>(Failed::Read)
                };
                cache.get_or_read(&"a", at(0), away).await
            })
        };
        let asked: Vec<_> = (0..20).map(|_| ask()).collect();
        let mut found = Vec::new();
        for one in asked {
            found.push(one.await.unwrap());
        }
        assert_eq!(began.elapsed(), LONGEST);
        assert_eq!(found[0], Err(Failed::Read));
        assert!(
            found[1..].iter().all(|one| *one == Err(Failed::Late)),
            "{found:?}"
        );
    }
}
