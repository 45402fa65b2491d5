//! The nouns and rules of Ringback: what an event, a subscription and a delivery
//! are, when to try again, and which addresses may be called.
//!
//! Nothing here does I/O or reads a clock; times and random numbers come in as
//! arguments, so every rule can be tested with a table.

#[macro_use]
mod words;

mod id;
pub use id::{
    AppId, AttemptId, DeliveryId, EventId, IdGenerator, KeyId, NodeId, ParseIdError, SubscriptionId,
};

mod lane;
pub use lane::Lane;

mod slug;
pub use slug::{InvalidSlug, Slug};

mod event_type;
pub use event_type::{EventType, EventTypePattern, InvalidEventType, InvalidPattern};

mod body;
pub use body::{InvalidData, MAX_DATA_BYTES, check_data, delivery_body};

mod payload_filter;
pub use payload_filter::{
    EventFields, FilterPath, FilterProblem, FilterValue, InvalidFilter, PayloadFilter,
};

mod retry;
pub use retry::{InvalidRetryPolicy, RetryPolicy, RetryPreset, RetrySpec, with_jitter};

mod retry_after;
pub use retry_after::retry_after;

mod ordering;
pub use ordering::{OrderKey, Ordering};

mod retention;
pub use retention::{InvalidRetention, Retention};

mod delivery;
pub use delivery::{AttemptError, DeadReason, DeliveryStatus, Outcome, SubscriptionStatus};

mod health;
pub use health::{Failing, HealthStep};

mod system_event;
pub use system_event::{SystemEvent, shown_url};

mod address;
pub use address::{AddressPolicy, Reason, Verdict};

mod target;
pub use target::{Host, InvalidTarget, Scheme, Target, TargetPolicy};

mod headers;
pub use headers::{CustomHeaders, InvalidHeader};

mod quota;
pub use quota::{Quota, Quotas};

mod scope;
pub use scope::{Scope, Scopes, UnknownScope};

pub mod time;
