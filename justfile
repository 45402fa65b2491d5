# Show the recipes.
default:
    @just --list

# Try Ringback: everything in one process, with a demo receiver.
dev *args:
    cargo run --release -- dev {{ args }}

# Run every test; `just test settle` runs the Rust tests with "settle" in their name.
test *filter:
    scripts/test {{ filter }}

# Format and lint.
check:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings

# Build what is shipped.
dist:
    cargo build --profile dist --locked

# Check licences, bans, sources and advisories (needs `cargo install cargo-deny`).
deny:
    cargo deny check

# Read the code's documentation.
docs:
    cargo doc --workspace --no-deps --document-private-items --open

# Measure: CPU per delivery in a burst and at a fixed rate; see docs/benchmarks.md.
bench *args:
    scripts/bench {{ args }}
