//! Encryption at rest: what is secret is stored [`Sealed`], and only a [`Vault`]
//! opens it.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

const FORMAT: u8 = 1;
const KEY_ID_LEN: usize = 4;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// A secret as it is stored: format, key id, nonce, AES-256-GCM ciphertext and tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes bytes that came from [`Self::as_bytes`].
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for a database column.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// The key that everything secret is sealed with: 32 bytes, written in base64.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

/// A text is no master key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secrets key is 32 bytes in base64: make one with `openssl rand -base64 32`")]
pub struct MasterKeyError;

impl MasterKey {
    /// Makes a new one, from the system's random source.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError`] if the system has no randomness to give.
    pub fn generate() -> Result<Self, MasterKeyError> {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| MasterKeyError)?;
        Ok(Self(bytes))
    }

    /// The text to keep in a file: this is the secret itself.
    pub fn reveal(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    fn id(&self) -> [u8; KEY_ID_LEN] {
        let hash = digest(&SHA256, &self.0);
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&hash.as_ref()[..KEY_ID_LEN]);
        id
    }
}

impl FromStr for MasterKey {
    type Err = MasterKeyError;

    fn from_str(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = BASE64_STANDARD
            .decode(text.trim())
            .map_err(|_| MasterKeyError)?;
        bytes.try_into().map(Self).map_err(|_| MasterKeyError)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

/// Something sealed cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed with a key that is not here.
    #[error("it was sealed with another secrets key (id {})", hex(*.0))]
    UnknownKey([u8; KEY_ID_LEN]),
    /// It was altered, or belongs to another row.
    #[error("it does not belong here or was altered")]
    Altered,
}

/// Seals with one key, and opens what any of its keys sealed.
pub struct Vault {
    /// The first seals.
    keys: Vec<([u8; KEY_ID_LEN], LessSafeKey)>,
    random: SystemRandom,
}

impl Vault {
    /// - `current`: seals and opens.
    /// - `previous`: only open, until everything has been sealed anew.
    pub fn new(current: &MasterKey, previous: &[MasterKey]) -> Self {
        let keys = std::iter::once(current)
            .chain(previous)
            .map(|key| (key.id(), bind(key)));
        Self {
            keys: keys.collect(),
            random: SystemRandom::new(),
        }
    }

    /// Seals `secret` for the row that `context` names, like `subscription:7`: it
    /// cannot be opened in the name of another.
    ///
    /// # Panics
    ///
    /// If the system's random source fails: nothing secret can be made then.
    pub fn seal(&self, context: &str, secret: &[u8]) -> Sealed {
        let (id, key) = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .unwrap_or_else(|_| panic!("the random source failed"));
        let mut bytes = Vec::with_capacity(HEADER_LEN + secret.len() + AES_256_GCM.tag_len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(&nonce);
        let mut ciphertext = secret.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut ciphertext,
        )
        .unwrap_or_else(|_| panic!("a secret of over 64 GiB"));
        bytes.extend_from_slice(&ciphertext);
        Sealed(bytes)
    }

    /// Opens what was sealed for `context`.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the key is not here, or the bytes are not what was sealed.
    pub fn open(&self, context: &str, sealed: &Sealed) -> Result<Vec<u8>, OpenError> {
        let (header, ciphertext) = sealed
            .0
            .split_at_checked(HEADER_LEN)
            .ok_or(OpenError::Altered)?;
        if header[0] != FORMAT {
            return Err(OpenError::Altered);
        }
        let (id, nonce) = header[1..].split_at(KEY_ID_LEN);
        let (_, key) = self
            .keys
            .iter()
            .find(|(known, _)| known == id)
            .ok_or_else(|| OpenError::UnknownKey(id.try_into().unwrap_or_default()))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Altered)?;
        let mut bytes = ciphertext.to_vec();
        let opened = key
            .open_in_place(nonce, Aad::from(context), &mut bytes)
            .map_err(|_| OpenError::Altered)?
            .len();
        bytes.truncate(opened);
        Ok(bytes)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} keys)", self.keys.len())
    }
}

fn bind(key: &MasterKey) -> LessSafeKey {
    // The length is that of the algorithm, which is all that can be wrong.
    let bound = UnboundKey::new(&AES_256_GCM, &key.0);
    LessSafeKey::new(bound.unwrap_or_else(|_| unreachable!("32 bytes are a key of AES-256")))
}

fn hex(id: [u8; KEY_ID_LEN]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_in_its_own_name_and_unaltered() {
        let vault = Vault::new(&MasterKey::generate().unwrap(), &[]);
        let sealed = vault.seal("subscription:7", b"whsec_x");
        assert_eq!(vault.open("subscription:7", &sealed).unwrap(), b"whsec_x");
        assert_eq!(
            vault.open("subscription:8", &sealed),
            Err(OpenError::Altered)
        );
        for at in [0, HEADER_LEN, sealed.0.len() - 1] {
            let mut altered = sealed.clone();
            altered.0[at] ^= 1;
            assert_eq!(
                vault.open("subscription:7", &altered),
                Err(OpenError::Altered),
                "{at}"
            );
        }
        assert_eq!(
            vault.open("x", &Sealed(vec![1, 2])),
            Err(OpenError::Altered)
        );
    }

    #[test]
    fn an_older_key_still_opens_and_a_foreign_one_is_named() {
        let [old, new] = [(); 2].map(|()| MasterKey::generate().unwrap());
        let sealed = Vault::new(&old, &[]).seal("a", b"b");
        let rotated = Vault::new(&new, std::slice::from_ref(&old));
        assert_eq!(rotated.open("a", &sealed).unwrap(), b"b");
        assert_eq!(
            Vault::new(&new, &[]).open("a", &sealed),
            Err(OpenError::UnknownKey(old.id()))
        );
    }

    #[test]
    fn nothing_secret_is_printed() {
        let key = MasterKey::generate().unwrap();
        assert!(!format!("{key:?}").contains(&key.reveal()));
        assert_eq!(key.reveal().parse::<MasterKey>().unwrap().0, key.0);
        assert_eq!("c2hvcnQ=".parse::<MasterKey>().unwrap_err(), MasterKeyError);
    }
}
