//! How hints are written into one notification.

use std::collections::HashSet;

use ringback_model::{Lane, SubscriptionId};
use ringback_store::Hint;

use crate::rows::delivery_id;

/// PostgreSQL takes less than 8000 bytes.
const MAX_BYTES: usize = 7_900;

/// Writes the sender's token, then a word per hint: a letter and numbers in base 16.
/// What does not fit becomes one hint to look everywhere.
pub(super) fn write(hints: &HashSet<Hint>, token: u64) -> String {
    let everything = format!("{token:x} E");
    if hints.contains(&Hint::Everything) {
        return everything;
    }
    let mut text = format!("{token:x}");
    for hint in hints {
        text.push_str(&match hint {
            Hint::Lane(lane) => format!(" L{:x}", lane.get()),
            Hint::Due(lane, id) => format!(" D{:x}.{:x}", lane.get(), id.get()),
            Hint::Subscription(id) => format!(" S{:x}", id.get()),
            Hint::Withdrawn(id) => {
                format!(" W{:x}.{:x}", id.event.get(), id.subscription.get())
            }
            Hint::Emitted => " M".to_owned(),
            Hint::Everything => return everything,
        });
        if text.len() > MAX_BYTES {
            return everything;
        }
    }
    text
}

/// Reads what another process sent. Its own are heard already. What is not understood
/// comes from a later version: looking everywhere cannot be wrong.
pub(super) fn read(text: &str, own_token: u64) -> Vec<Hint> {
    let mut words = text.split(' ');
    let token = words
        .next()
        .and_then(|token| u64::from_str_radix(token, 16).ok());
    if token == Some(own_token) {
        return Vec::new();
    }
    words
        .map(|word| read_word(word).unwrap_or(Hint::Everything))
        .collect()
}

fn read_word(word: &str) -> Option<Hint> {
    let (kind, numbers) = word.split_at_checked(1)?;
    let (first, second) = numbers.split_once('.').unwrap_or((numbers, "0"));
    let lane = || u8::from_str_radix(first, 16).ok().map(Lane::new);
    let id = |text| i64::from_str_radix(text, 16).ok();
    Some(match kind {
        "L" => Hint::Lane(lane()?),
        "D" => Hint::Due(lane()?, SubscriptionId::new(id(second)?)),
        "S" => Hint::Subscription(SubscriptionId::new(id(first)?)),
        "W" => Hint::Withdrawn(delivery_id(id(first)?, id(second)?)),
        "M" => Hint::Emitted,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> HashSet<Hint> {
        HashSet::from([
            Hint::Lane(Lane::new(255)),
            Hint::Due(Lane::new(7), SubscriptionId::MAX),
            Hint::Subscription(SubscriptionId::new(1)),
            Hint::Withdrawn(delivery_id(i64::MAX, 3)),
            Hint::Emitted,
        ])
    }

    #[test]
    fn hints_survive_the_way_to_another_process() {
        let text = write(&every_kind(), 1);
        assert_eq!(
            read(&text, 2).into_iter().collect::<HashSet<_>>(),
            every_kind()
        );
        let everything = HashSet::from([Hint::Everything, Hint::Lane(Lane::new(0))]);
        assert_eq!(read(&write(&everything, 1), 2), [Hint::Everything]);
    }

    #[test]
    fn a_process_does_not_hear_its_own_hints_twice() {
        assert_eq!(read(&write(&every_kind(), u64::MAX), u64::MAX), []);
    }

    #[test]
    fn too_many_hints_become_one_to_look_everywhere() {
        let many: HashSet<Hint> = (0..2_000)
            .map(|id| Hint::Withdrawn(delivery_id(i64::MAX - id, id)))
            .collect();
        let text = write(&many, u64::MAX);
        assert!(text.len() <= MAX_BYTES);
        assert_eq!(read(&text, 1), [Hint::Everything]);
    }

    #[test]
    fn what_is_not_understood_means_to_look_everywhere() {
        for text in ["1 Q7", "1 Lfff", "1 D1.x", "? L1 E", "1 "] {
            assert!(read(text, 2).contains(&Hint::Everything), "{text}");
        }
    }
}
