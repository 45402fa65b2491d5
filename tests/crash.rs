//! Crashes of the service and of its database, under load: what was accepted is
//! delivered, and nothing is repeated but what was under way.

mod late;

mod killed;

mod order;

mod postgres_stopped;

mod pragmas;
