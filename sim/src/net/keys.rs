//! The keys of the simulated nodes: a node of a name has the same one in every run.
//!
//! Together with the rest of the TLS configuration this is all that the simulator takes from the
//! host: it works on bytes, knows no socket, file or clock, and what it draws from the system (its
//! handshakes) has a fixed length and never reaches the trace.

use std::collections::BTreeSet;

use chainsync_core::NodeId;
use chainsync_host::PrivateKey;
use chainsync_host::tls::TlsConfig;

/// The id that a node of this name has in every run.
pub fn node_id(name: &str) -> NodeId {
    key(name).public_id()
}

/// The host's own TLS, for a node that lets in the nodes of these names.
pub(super) fn tls_config(node: &str, known: &BTreeSet<String>) -> TlsConfig {
    let config = TlsConfig::new(&key(node), known.iter().map(|name| node_id(name)));
    config.expect("the host's configuration fits its own provider")
}

fn key(name: &str) -> PrivateKey {
    let secret = blake3::derive_key("chainsync-sim 2026 key of a node", name.as_bytes());
    let der = [&PKCS8_ED25519[..], &secret].concat();
    PrivateKey::from_pkcs8(&der).expect("any 32 bytes are an Ed25519 key")
}

/// PKCS#8 version 1 of an Ed25519 key (RFC 8410, section 7), up to its 32 bytes.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
