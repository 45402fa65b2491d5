//! Whatever happens, in whatever order: what is promised of deliveries holds.
//!
//! A run does random things to a service through its HTTP doors, on a clock of the
//! test's own: events come, receivers fail, people pause, cancel, replay and delete, the
//! process is killed, another takes over, hours pass at once. Then everything heals, time
//! passes until nothing waits any more, and the books of the receivers and of the API are
//! held against what was done.
//!
//! A run follows from its seed, but for the moments at which things meet. Every run
//! prints it; `RINGBACK_TEST_SEED` has one run again.

use std::env;

use rand::random;
use ringback_testkit::{TestStore, fresh_postgres, fresh_sqlite};

mod books;
mod world;

use self::world::World;

/// Runs per database, of so many steps each.
const RUNS: usize = 6;
const STEPS: usize = 60;

#[tokio::test]
async fn what_is_promised_holds_whatever_happens_on_sqlite() {
    for seed in seeds() {
        run(fresh_sqlite().await, seed).await;
    }
}

#[tokio::test]
async fn what_is_promised_holds_whatever_happens_on_postgres() {
    for seed in seeds() {
        run(fresh_postgres().await, seed).await;
    }
}

fn seeds() -> Vec<u64> {
    match env::var("RINGBACK_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("RINGBACK_TEST_SEED is a number")],
        Err(_) => (0..RUNS).map(|_| random()).collect(),
    }
}

async fn run(store: TestStore, seed: u64) {
    println!("RINGBACK_TEST_SEED={seed}");
    let mut world = World::begin(store, seed).await;
    for _ in 0..STEPS {
        world.step().await;
    }
    world.heal().await;
    world.judge().await;
}
