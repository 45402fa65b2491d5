//! The `ringback` binary: commands, settings, wiring and signals; no logic.
//!
//! It is a library too, so that tests wire a service as the binary does, in process,
//! with a clock of their own.

pub mod cli;
pub mod client;
pub mod commands;
pub mod database;
pub mod demo;
pub mod exit;
pub mod logging;
pub mod output;
pub mod secrets;
pub mod service;
pub mod settings;
