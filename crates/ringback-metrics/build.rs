//! Tells the crate which compiler builds it, and from which commit.

use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RINGBACK_COMMIT");
    let commit = env::var("RINGBACK_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=RINGBACK_COMMIT={commit}");
    println!("cargo:rustc-env=RINGBACK_RUSTC={}", compiler());
}

/// Like `1.95.0`; building needs no answer.
fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = said.unwrap_or_default();
    let version = version.split_whitespace().nth(1);
    version.unwrap_or("unknown").to_owned()
}
