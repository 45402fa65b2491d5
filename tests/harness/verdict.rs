//! What must be true of every test that breaks something, once all has come to rest.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use chrono::TimeDelta;
use ringback::database::Database;
use ringback_model::{DeliveryId, EventId, Lane, SubscriptionId};
use ringback_store::{OutboxKey, Store};

use super::{Api, Inbox, Post, Sending, eventually, inbox::Books};

/// Waits until everything that was accepted is delivered, and asserts that
///
/// - nothing came that was not posted, and nothing to whom it was not for,
/// - an event whose fate its producer did not learn came to all it was for, or to none,
/// - the API shows each delivery as `delivered`, after the attempts that came.
///
/// - `wants`: to which subscriptions an event of this number goes.
pub(crate) async fn nothing_is_lost(
    api: &Api,
    app: &str,
    inbox: &Inbox,
    posts: &[Post],
    wants: impl Fn(u64) -> Vec<SubscriptionId>,
) {
    all_come(inbox, posts, &wants).await;
    comes_to_rest(api, app).await;

    let numbers = inbox.look(|books| books.numbers());
    came_from_posts(&numbers, posts);
    let came = inbox.look(|books| books.deliveries());
    let each = numbers.iter();
    let whole: BTreeSet<DeliveryId> = each
        .flat_map(|(event, number)| of(*event, wants(*number)))
        .collect();
    let came_to: BTreeSet<DeliveryId> = came.keys().copied().collect();
    assert_eq!(
        differing(&came_to, &whole),
        [],
        "an event came to some, or to others"
    );
    shown_as_delivered(api, app, &came).await;
}

/// Waits until everything that was accepted has come.
///
/// - `wants`: to which subscriptions an event of this number goes.
pub(crate) async fn all_come(
    inbox: &Inbox,
    posts: &[Post],
    wants: impl Fn(u64) -> Vec<SubscriptionId>,
) {
    let due = deliveries_of(posts, wants);
    // What has come is not looked for again.
    let found = Cell::new(0);
    let all = |books: &Books| {
        while due
            .get(found.get())
            .is_some_and(|delivery| books.has(*delivery))
        {
            found.set(found.get() + 1);
        }
        found.get() == due.len()
    };
    if !inbox.wait(all).await {
        let came = |delivery: &&DeliveryId| inbox.look(|books| books.has(**delivery));
        let lost: Vec<_> = due.iter().filter(|delivery| !came(delivery)).collect();
        let (count, of, first) = (lost.len(), due.len(), lost.first());
        panic!("{count} of {of} accepted deliveries never came, like {first:?}");
    }
}

/// The deliveries that were made of what was accepted.
///
/// - `wants`: to which subscriptions an event of this number goes.
pub(crate) fn deliveries_of(
    posts: &[Post],
    wants: impl Fn(u64) -> Vec<SubscriptionId>,
) -> Vec<DeliveryId> {
    let accepted = posts
        .iter()
        .filter_map(|post| Some((post.accepted()?, post.number)));
    accepted
        .flat_map(|(event, number)| of(event, wants(number)))
        .collect()
}

fn of(event: EventId, subscriptions: Vec<SubscriptionId>) -> impl Iterator<Item = DeliveryId> {
    let each = subscriptions.into_iter();
    each.map(move |subscription| DeliveryId {
        event,
        subscription,
    })
}

async fn comes_to_rest(api: &Api, app: &str) {
    eventually("nothing waits any more", async || {
        for status in ["pending", "retrying"] {
            let list = api
                .get(&format!("/v1/deliveries?app={app}&status={status}&limit=1"))
                .await;
            let waiting = list.ok();
            if waiting["data"][0].is_object() {
                return Err(waiting);
            }
        }
        Ok(())
    })
    .await;
}

/// Asserts that each event that came was posted, under the id that was answered, once.
fn came_from_posts(numbers: &BTreeMap<EventId, u64>, posts: &[Post]) {
    let posts: BTreeMap<u64, &Post> = posts.iter().map(|post| (post.number, post)).collect();
    let mut ids = BTreeMap::new();
    for (event, number) in numbers {
        let post = posts
            .get(number)
            .unwrap_or_else(|| panic!("{event} was never posted"));
        let answered = post.accepted().unwrap_or(*event);
        assert_eq!(*event, answered, "{post:?}");
        let other = ids.insert(*number, *event);
        assert_eq!(other, None, "{post:?} became two events");
    }
}

async fn shown_as_delivered(api: &Api, app: &str, came: &BTreeMap<DeliveryId, u16>) {
    let shown = api.all(&format!("/v1/deliveries?app={app}")).await;
    let mut attempts = BTreeMap::new();
    for delivery in &shown {
        assert_eq!(delivery["status"], "delivered", "{delivery}");
        let id: DeliveryId = delivery["id"].as_str().unwrap().parse().unwrap();
        attempts.insert(id, delivery["attempts"].as_u64().unwrap());
    }
    let came: BTreeMap<_, _> = came
        .iter()
        .map(|(id, attempt)| (*id, u64::from(*attempt)))
        .collect();
    let [shown, came] = [attempts, came].map(|each| each.into_iter().collect());
    assert_eq!(
        differing(&shown, &came),
        [],
        "the API shows otherwise than what came"
    );
}

/// Up to ten elements that are only in one of them.
fn differing<T: Ord + Copy>(one: &BTreeSet<T>, other: &BTreeSet<T>) -> Vec<T> {
    one.symmetric_difference(other).copied().take(10).collect()
}
