//! What must be true of every test that breaks something, once all has come to rest.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use ringback_model::{DeliveryId, EventId, SubscriptionId};
use serde_json::Value;

use super::{Api, Books, Inbox, Post, eventually};

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
    let wanted = each.flat_map(|(event, number)| of(*event, wants(*number)));
    agree(
        ("came", came.keys().map(DeliveryId::to_string).collect()),
        (
            "wanted",
            wanted.map(|delivery| delivery.to_string()).collect(),
        ),
    );
    let came = came
        .iter()
        .map(|(delivery, attempts)| account(*delivery, *attempts));
    let shown = shown_as_delivered(api, app).await;
    agree(("came", came.collect()), ("shown by the API", shown));
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
        let (count, of, first) = (lost.len(), due.len(), lost[0]);
        panic!("{count} of {of} accepted deliveries never came, like {first}");
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

async fn shown_as_delivered(api: &Api, app: &str) -> BTreeSet<String> {
    let shown = api.all(&format!("/v1/deliveries?app={app}")).await;
    let account = |delivery: &Value| {
        assert_eq!(delivery["status"], "delivered", "{delivery}");
        let attempts = u16::try_from(delivery["attempts"].as_u64().unwrap()).unwrap();
        account(delivery["id"].as_str().unwrap().parse().unwrap(), attempts)
    };
    shown.iter().map(account).collect()
}

fn account(delivery: DeliveryId, attempts: u16) -> String {
    format!("{delivery} after {attempts} attempts")
}

/// Asserts that two accounts are the same, each with its name.
fn agree(one: (&str, BTreeSet<String>), other: (&str, BTreeSet<String>)) {
    for ((name, these), (_, those)) in [(&one, &other), (&other, &one)] {
        let mut only = these.difference(those);
        if let Some(first) = only.next() {
            panic!("only {name}: {first}, and {} more", only.count());
        }
    }
}
