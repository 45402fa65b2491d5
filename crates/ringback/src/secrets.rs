//! Where the key that secrets are encrypted with comes from.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, bail};
use ringback_store::{MasterKey, Vault};

use crate::settings::Settings;

/// The vault for the key that the settings name.
///
/// # Errors
///
/// If they name none, both kinds, or something that is no key.
pub fn vault(settings: &Settings) -> anyhow::Result<Vault> {
    let key = match (&settings.secrets_key, &settings.secrets_key_file) {
        (Some(_), Some(_)) => {
            bail!("RINGBACK_SECRETS_KEY and `secrets_key_file` are both set: keep one")
        }
        (Some(secret), None) => secret.0.parse().context("RINGBACK_SECRETS_KEY")?,
        (None, Some(file)) => read(file)?,
        (None, None) => bail!(
            "no key to encrypt secrets with. Make one and keep it safe:\n  \
             openssl rand -base64 32 > secrets.key\n  \
             ringback serve --secrets-key-file secrets.key"
        ),
    };
    Ok(Vault::new(&key, &[]))
}

/// The key in `file`, which is made if it is not there: for development.
///
/// # Errors
///
/// If the file cannot be read or written, or holds something else.
pub fn read_or_make(file: &Path) -> anyhow::Result<MasterKey> {
    if file.exists() {
        return read(file);
    }
    let key = MasterKey::generate()?;
    write_private(file, &format!("{}\n", key.reveal()))?;
    Ok(key)
}

/// Writes a file that only its owner can read.
///
/// # Errors
///
/// If it cannot be written.
pub fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<MasterKey> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the secrets key from {}", file.display()))?;
    text.parse().with_context(|| file.display().to_string())
}
