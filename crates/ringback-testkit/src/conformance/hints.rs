//! Hints: each process on the database gets to know where to look again.

use std::time::Duration;

use ringback_model::Lane;
use ringback_store::Hint;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::TestStore;

pub async fn a_hint_reaches_every_listener(store: &TestStore) {
    let listeners = [store.listen(), store.listen()];
    store.hint(Hint::Lane(Lane::new(7)));
    for mut listener in listeners {
        wait_for(&mut listener, Hint::Lane(Lane::new(7))).await;
    }
}

/// They may be drawn together, but somebody always looks.
pub async fn a_flood_of_hints_blocks_nobody_and_is_heard(store: &TestStore) {
    let mut listener = store.listen();
    for round in 0..40 {
        Lane::all().for_each(|lane| store.hint(Hint::Lane(lane)));
        if round % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    wait_for(&mut listener, Hint::Lane(Lane::new(255))).await;
}

/// Waits until it is said, in whatever words.
async fn wait_for(listener: &mut Receiver<Hint>, hint: Hint) {
    let heard = async {
        loop {
            match listener.recv().await {
                Ok(Hint::Everything) | Err(RecvError::Lagged(_)) => return,
                Ok(heard) if heard == hint => return,
                Ok(_) => {}
                Err(RecvError::Closed) => panic!("the store is gone"),
            }
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(20), heard).await;
    assert!(heard.is_ok(), "{hint:?} was not heard");
}
