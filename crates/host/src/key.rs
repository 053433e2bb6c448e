//! The private key of a node and its file: Ed25519, PKCS#8 v2, PEM (`PRIVATE KEY`).
//!
//! Whoever reads the file is the node, so a file that others can read is refused, not repaired: they
//! may have read it already. A key is never overwritten.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chainsync_core::NodeId;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use rustls::SignatureAlgorithm;
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use crate::tls::crypto_provider;

/// An Ed25519 key in PEM has about 200 bytes; the rest is room for comments above it.
pub const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;

/// A node's private key.
pub struct PrivateKey {
    der: PrivatePkcs8KeyDer<'static>,
    signing: Arc<dyn SigningKey>,
    public: Vec<u8>,
}

/// Who else may read a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAccess {
    /// Nobody.
    OwnerOnly,
    /// The group may read it: so are the files in `$CREDENTIALS_DIRECTORY`, whose directory systemd
    /// closes to everybody else.
    GroupMayRead,
}

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("cannot read the key file {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the key file {path} has mode {mode:04o}: others than its owner may use it. Run `chmod 600 {path}`, and make a new key if somebody may have read it",
        path = .path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is not a key file: expected a PEM file with one Ed25519 `PRIVATE KEY`", .path.display())]
    Format { path: PathBuf },
    #[error("{} exists; a key is never overwritten", .path.display())]
    Exists { path: PathBuf },
    #[error("cannot write the key file {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the system has no randomness for a key")]
    Random,
}

impl PrivateKey {
    pub fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let document = document.map_err(|_| KeyError::Random)?;
        let der = PrivatePkcs8KeyDer::from(document.as_ref().to_vec());
        // A key that was made this moment has the right form; no randomness is the one failure.
        Self::new(der).ok_or(KeyError::Random)
    }

    /// Reads a key file, after making sure that nobody else can.
    pub fn load(path: &Path, access: KeyAccess) -> Result<Self, KeyError> {
        let pem = read(path, access)?;
        let format = || KeyError::Format { path: path.to_owned() };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| format())?;
        Self::new(der).ok_or_else(format)
    }

    /// Takes a key in PKCS#8 (DER); `None` if it is not an Ed25519 key.
    pub fn from_pkcs8(der: &[u8]) -> Option<Self> {
        Self::new(PrivatePkcs8KeyDer::from(der.to_vec()))
    }

    /// Writes a new key file, mode 0600, durably.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::Write { path: path.to_owned(), source },
        })?;
        self.write(file, path).map_err(|source| {
            // Best effort: half a key is of no use, and the error to report is the first.
            let _ = std::fs::remove_file(path);
            KeyError::Write { path: path.to_owned(), source }
        })
    }

    pub fn public_id(&self) -> NodeId {
        NodeId::of_public_key(&self.public)
    }

    /// The public key: `SubjectPublicKeyInfo` in DER.
    pub(crate) fn public_der(&self) -> &[u8] {
        &self.public
    }

    pub(crate) fn signing(&self) -> &Arc<dyn SigningKey> {
        &self.signing
    }

    /// `None` if this is not an Ed25519 key.
    fn new(der: PrivatePkcs8KeyDer<'static>) -> Option<Self> {
        let key = PrivateKeyDer::from(der.clone_key());
        let signing = crypto_provider().key_provider.load_private_key(key).ok()?;
        // Others work in TLS too, but their signatures vary in length, and flights with them.
        if signing.algorithm() != SignatureAlgorithm::ED25519 {
            return None;
        }
        let public = signing.public_key()?.to_vec();
        Some(Self { der, signing, public })
    }

    fn write(&self, mut file: File, path: &Path) -> io::Result<()> {
        file.write_all(pem(self.der.secret_pkcs8_der()).as_bytes())?;
        file.sync_all()?;
        crate::sync_parent(path)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public_id())
    }
}

fn read(path: &Path, access: KeyAccess) -> Result<Vec<u8>, KeyError> {
    let error = |source| KeyError::Read { path: path.to_owned(), source };
    // A FIFO must not hold us.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(error)?;
    // Of the file that is open, not of what is at the path by now.
    let metadata = file.metadata().map_err(error)?;
    let exposing = match access {
        KeyAccess::OwnerOnly => 0o077,
        KeyAccess::GroupMayRead => 0o037,
    };
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & exposing != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    if !metadata.is_file() || metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(KeyError::Format { path: path.to_owned() });
    }
    let mut pem = Vec::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut pem).map_err(error)?;
    Ok(pem)
}

/// RFC 7468: lines of 64 characters.
fn pem(der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        (directory, path)
    }

    #[test]
    fn a_written_key_is_the_same_key_when_read() {
        let (_directory, path) = file();
        let key = PrivateKey::generate().unwrap();
        key.write_new(&path).unwrap();
        let read = PrivateKey::load(&path, KeyAccess::OwnerOnly).unwrap();
        assert_eq!(read.public_id(), key.public_id());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().all(|line| line.len() <= 64), "{text}");
        assert_ne!(PrivateKey::generate().unwrap().public_id(), key.public_id());
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let (_directory, path) = file();
        fs::write(&path, "mine").unwrap();
        let error = PrivateKey::generate().unwrap().write_new(&path).unwrap_err();
        assert!(matches!(error, KeyError::Exists { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_directory, path) = file();
        PrivateKey::generate().unwrap().write_new(&path).unwrap();
        for (mode, owner_only, group_may_read) in [
            (0o400, true, true),
            (0o600, true, true),
            (0o440, false, true),
            (0o640, false, true),
            (0o620, false, false),
            (0o604, false, false),
            (0o644, false, false),
            (0o601, false, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let load = |access| PrivateKey::load(&path, access);
            assert_eq!(load(KeyAccess::OwnerOnly).is_ok(), owner_only, "{mode:o}");
            assert_eq!(load(KeyAccess::GroupMayRead).is_ok(), group_may_read, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = PrivateKey::load(&path, KeyAccess::OwnerOnly).unwrap_err().to_string();
        assert!(error.contains(&format!("`chmod 600 {}`", path.display())), "{error}");
        assert!(error.contains("0644"), "{error}");
    }

    #[test]
    fn what_is_not_an_ed25519_key_is_refused() {
        let (directory, path) = file();
        let random = SystemRandom::new();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let ecdsa = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ecdsa = pem(ecdsa.as_ref());
        let key = pem(PrivateKey::generate().unwrap().der.secret_pkcs8_der());
        let cut = &key[..key.len() / 2];
        let long = format!("{}{key}", "#\n".repeat(KEY_FILE_BYTES_MAX as usize));
        for text in ["", "hello", cut, &ecdsa, &long, &key.replace("PRIVATE", "PUBLIC")] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = PrivateKey::load(&path, KeyAccess::OwnerOnly).unwrap_err();
            assert!(matches!(error, KeyError::Format { .. }), "{error}");
        }
        fs::write(&path, format!("a comment\n{key}")).unwrap();
        PrivateKey::load(&path, KeyAccess::OwnerOnly).unwrap();
        let none = PrivateKey::load(&directory.path().join("none"), KeyAccess::OwnerOnly);
        assert!(matches!(none, Err(KeyError::Read { .. })));
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
        let error = PrivateKey::load(&fifo, KeyAccess::OwnerOnly).unwrap_err();
        assert!(matches!(error, KeyError::Format { .. }), "{error}");
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let key = PrivateKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("PrivateKey(of {})", key.public_id()));
    }
}
