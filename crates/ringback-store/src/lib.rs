//! The storage contract of Ringback.
//!
//! One trait per user of the store, one method per business step. A transaction
//! begins and ends inside one method; no caller ever holds one. Both databases keep
//! every promise made here: the conformance suite in `ringback-testkit` runs in full
//! on each of them.
//!
//! Times come in as arguments (`now`, from [`Clock`]), so that tests choose them.
//! What is secret comes in and goes out [`Sealed`]: no database crate sees a key.

mod error;
pub use error::StoreError;

mod clock;
pub use clock::Clock;

mod vault;
pub use vault::{MasterKey, MasterKeyError, OpenError, Sealed, Vault};

mod accept;
pub use accept::{
    Accept, AcceptItem, AcceptOutcome, Accepted, AppRef, AppRoutes, ExternalId, IdempotencyKey,
    NewDelivery, NewEvent, Route, RouteChanges,
};

mod emitted;
pub use emitted::{DeadLetter, EmittedId, EmittedPage, EmittedRow};

mod registry;
pub use registry::{
    App, AppChange, BegunRequest, Changed, CreatedApp, Key, NewApp, NewKey, NewSubscription,
    Registry, StoredSecret, Subscription, SubscriptionChange, SubscriptionConfig, SubscriptionKind,
    Within,
};

mod history;
pub use history::{
    Attempt, CancelOutcome, Delivery, DeliveryCursor, DeliveryFilter, Event, EventFilter, History,
    Page, ReplayOutcome,
};

mod outbox;
pub use outbox::{
    AttemptAnswer, AttemptRecord, DueRetry, HealthChange, Next, OrderHeads, Outbox, OutboxKey,
    Payload, SendingState, Settlement, Source,
};

mod record;

mod lanes;
pub use lanes::{Beat, Lanes, NodeLease};

mod membership;
pub use membership::{JoinError, Membership};

mod hints;
pub use hints::{Hint, Hints};

mod handover;
pub use handover::{HandOver, HandOverReceiver, OwnedLanes, Ticket, Transit, handover};

mod maintain;
pub use maintain::Maintain;

mod observe;
pub use observe::{Backlog, Connections, Observe};

mod usage;
pub use usage::{StoredBytes, Usage};

/// Everything a database offers, for whoever wires a process together.
pub trait Store:
    Accept + Registry + History + Outbox + Lanes + Hints + Maintain + Observe + Usage
{
}

impl<T: Accept + Registry + History + Outbox + Lanes + Hints + Maintain + Observe + Usage> Store
    for T
{
}
