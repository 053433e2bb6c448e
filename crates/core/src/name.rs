//! Names from the configuration: nodes, shares, and the ids that pin a node's key.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// As long as a host name label: it is one in most configurations.
pub const NAME_BYTES_MAX: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("a name has 1 to {NAME_BYTES_MAX} characters, `{0}` has {len}", len = .0.len())]
    Length(String),
    #[error("a name is made of a-z, A-Z, 0-9, `-`, `_` and `.`, and `{0}` is not")]
    Characters(String),
}

macro_rules! name {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(name: &str) -> Result<Self, NameError> {
                check(name).map(|()| Self(name.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(NodeName, "The name of a node: the key of its table in the configuration.");
name!(ShareName, "The name of a share: the key of its table in the configuration.");

fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(NameError::Length(name.to_owned()));
    }
    let allowed = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
    // A leading dot or dash would read as a hidden file or an option where names become those.
    if !name.chars().all(allowed) || name.starts_with(['.', '-']) {
        return Err(NameError::Characters(name.to_owned()));
    }
    Ok(())
}

/// The public id of a node: `cs1` + the lower-case base32 (RFC 4648, no padding) of BLAKE3-256 of
/// its public key (the DER `SubjectPublicKeyInfo`, RFC 7250).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a node id: expected `cs1` and 52 characters of a-z and 2-7, as keygen prints it"
)]
pub struct NodeIdError(String);

impl NodeId {
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        Self(*blake3::hash(spki_der).as_bytes())
    }

    pub fn parse(text: &str) -> Result<Self, NodeIdError> {
        let error = || NodeIdError(text.to_owned());
        let encoded = text.strip_prefix(PREFIX).ok_or_else(error)?;
        // The decoder takes upper case only; an id has one spelling.
        if encoded.chars().any(|char| char.is_ascii_uppercase()) {
            return Err(error());
        }
        let bytes = data_encoding::BASE32_NOPAD
            .decode(encoded.to_ascii_uppercase().as_bytes())
            .map_err(|_| error())?;
        bytes.try_into().map(Self).map_err(|_| error())
    }
}

const PREFIX: &str = "cs1";

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = data_encoding::BASE32_NOPAD.encode(&self.0).to_ascii_lowercase();
        write!(f, "{PREFIX}{encoded}")
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;

    fn try_from(text: String) -> Result<Self, NodeIdError> {
        Self::parse(&text)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_has_one_spelling() {
        let id = NodeId::of_public_key(b"a public key");
        let text = id.to_string();
        assert_eq!(text.len(), 55);
        assert_eq!(NodeId::parse(&text), Ok(id));
        for wrong in [text.to_uppercase(), text[..54].to_owned(), text.replace("cs1", "cs2")] {
            assert!(NodeId::parse(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_host_name_like() {
        assert!(NodeName::new("apollo-1.example").is_ok());
        for wrong in ["", "a b", "-x", ".x", "a/b", "naïve", &"x".repeat(64)] {
            assert!(NodeName::new(wrong).is_err(), "{wrong}");
        }
    }
}
