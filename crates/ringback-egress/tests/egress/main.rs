//! Requests over real sockets, to receivers that do what receivers should not.

mod lab;

mod addresses;
mod answers;
mod certificates;
mod connections;
mod requests;
