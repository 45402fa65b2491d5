//! The only HTTP client that connects to an address somebody else chose.
