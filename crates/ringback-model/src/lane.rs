//! Lanes: fixed shares of all subscriptions.

use crate::SubscriptionId;

/// One of 256 fixed shares of all subscriptions. A node owns a lane, not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u8);

impl Lane {
    /// How many there are, in every database and for ever.
    pub const COUNT: usize = 256;

    /// Takes a number that came from [`Self::get`].
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The number, 0 to 255.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Every lane, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }

    /// The lane of a subscription: fixed at its creation and stored with it.
    ///
    /// The finaliser of splitmix64, since ids made one after another differ only
    /// in their low bits.
    pub const fn of(subscription: SubscriptionId) -> Self {
        let mut bits = subscription.get().cast_unsigned();
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((bits ^ (bits >> 31)).to_be_bytes()[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_subscriptions_spread_over_all_lanes() {
        let mut counts = [0u32; Lane::COUNT];
        for raw in 0..25_600 {
            counts[Lane::of(SubscriptionId::new(raw)).get() as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| (50..200).contains(&count)),
            "{counts:?}"
        );
    }
}
