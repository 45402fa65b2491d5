//! For tests: databases, receivers, load, and the store conformance suite.
