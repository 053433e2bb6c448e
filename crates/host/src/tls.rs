//! Mutual TLS 1.3 between nodes that know each other's keys.
//!
//! Both ends show an Ed25519 raw public key (RFC 7250) and prove that they hold its private half; a
//! key counts by its [`NodeId`] alone. There are no certificates, names, expiry dates, tickets,
//! resumption or early data: every connection is a full handshake, so a key that was taken off the
//! list opens no new connection.
//!
//! Works over any byte stream and never asks for the time. No deadlines: the caller sets them.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use chainsync_core::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::key::PrivateKey;

pub use tokio_rustls::TlsStream;

/// The cryptography of all of chainsync. The one place that names its provider.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Who this node is, and whom it lets in. A clone shares both.
#[derive(Clone)]
pub struct TlsConfig {
    key: Arc<CertifiedKey>,
    id: NodeId,
    allowed: Arc<RwLock<BTreeSet<NodeId>>>,
    server: Arc<ServerConfig>,
}

/// The other end has a key that it should not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WrongKey {
    #[error("the node that answers has the id {offered}, expected was {expected}")]
    Unexpected { offered: NodeId, expected: NodeId },
    #[error("a node with the unknown id {offered} tried to connect")]
    Unknown { offered: NodeId },
}

impl TlsConfig {
    /// `allowed` are the ids that may connect to this node.
    pub fn new(
        key: &PrivateKey,
        allowed: impl IntoIterator<Item = NodeId>,
    ) -> Result<Self, rustls::Error> {
        let public = CertificateDer::from(key.public_der().to_vec());
        let certified = Arc::new(CertifiedKey::new(vec![public], key.signing().clone()));
        let allowed = Arc::new(RwLock::new(allowed.into_iter().collect()));
        let verifier = Verifier::new(Expected::OneOf(Arc::clone(&allowed)));
        let mut server = ServerConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(
                &certified,
            ))));
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.max_early_data_size = 0;
        let id = key.public_id();
        Ok(Self { key: certified, id, allowed, server: Arc::new(server) })
    }

    /// The id of this node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Replaces the ids that may connect. Connections that exist stay.
    pub fn set_allowed(&self, allowed: impl IntoIterator<Item = NodeId>) {
        let allowed = allowed.into_iter().collect();
        // A set is whole whether or not somebody panicked beside it.
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = allowed;
    }

    fn client(&self, expected: NodeId) -> Result<ClientConfig, rustls::Error> {
        let verifier = Verifier::new(Expected::Exactly(expected));
        let mut client = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                Arc::clone(&self.key),
            )));
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        client.enable_sni = false;
        Ok(client)
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsConfig(of {})", self.id)
    }
}

/// Shakes hands with the node that must answer at the other end of `stream`.
///
/// In TLS 1.3 this succeeds before the other end has judged our key: if it refuses, the first read
/// fails.
pub async fn connect<S>(config: &TlsConfig, stream: S, expected: NodeId) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = config.client(expected).map_err(io::Error::other)?;
    // Needed by the interface; it is neither sent nor looked at.
    let name = ServerName::try_from("chainsync").map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await;
    Ok(TlsStream::Client(stream.map_err(readable)?))
}

/// Shakes hands with whoever connected, and says who it is.
pub async fn accept<S>(config: &TlsConfig, stream: S) -> io::Result<(NodeId, TlsStream<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = TlsAcceptor::from(Arc::clone(&config.server)).accept(stream).await;
    let stream = stream.map_err(readable)?;
    let key = stream.get_ref().1.peer_certificates().and_then(|keys| keys.first());
    // The verifier asks for a key and lets nobody through without.
    let key = key.ok_or_else(|| io::Error::other("the peer showed no key"))?;
    Ok((NodeId::of_public_key(key), TlsStream::Server(stream)))
}

/// Our own refusal of a key, which the library wraps twice, as the error itself.
fn readable(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(refusal)))) = tls else {
        return error;
    };
    match refusal.downcast_ref::<WrongKey>() {
        Some(wrong) => io::Error::new(io::ErrorKind::PermissionDenied, wrong.clone()),
        None => error,
    }
}

#[derive(Debug)]
enum Expected {
    Exactly(NodeId),
    OneOf(Arc<RwLock<BTreeSet<NodeId>>>),
}

/// Judges the other end's key; for both directions.
#[derive(Debug)]
struct Verifier {
    expected: Expected,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(expected: Expected) -> Self {
        Self { expected, algorithms: crypto_provider().signature_verification_algorithms }
    }

    /// With raw public keys, what the library calls a certificate is the public key.
    fn check(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        let offered = NodeId::of_public_key(key);
        let wrong = match &self.expected {
            Expected::Exactly(expected) if *expected == offered => return Ok(()),
            Expected::Exactly(expected) => WrongKey::Unexpected { offered, expected: *expected },
            Expected::OneOf(ids) => {
                // A set is whole whether or not somebody panicked beside it.
                if ids.read().unwrap_or_else(PoisonError::into_inner).contains(&offered) {
                    return Ok(());
                }
                WrongKey::Unknown { offered }
            }
        };
        Err(CertificateError::Other(OtherError(Arc::new(wrong))).into())
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key.as_ref()),
            signature,
            &self.algorithms,
        )
    }
}

/// The configuration offers TLS 1.3 alone.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not offered".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    /// Shows the key of one node and has that of another.
    fn impostor(shown: &PrivateKey, held: &PrivateKey, allowed: NodeId) -> TlsConfig {
        let public = CertificateDer::from(shown.public_der().to_vec());
        let mixed = Arc::new(CertifiedKey::new(vec![public], held.signing().clone()));
        let honest = TlsConfig::new(held, [allowed]).unwrap();
        let mut server = ServerConfig::clone(&honest.server);
        let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&mixed));
        server.cert_resolver = Arc::new(resolver);
        TlsConfig { key: mixed, server: Arc::new(server), ..honest }
    }

    #[tokio::test]
    async fn a_key_that_is_shown_but_not_held_is_of_no_use() {
        let keys = [(); 3].map(|()| PrivateKey::generate().unwrap());
        let [apollo, chronos, stranger] = &keys;
        let apollo_tls = TlsConfig::new(apollo, [chronos.public_id()]).unwrap();

        let impostor_tls = impostor(chronos, stranger, apollo.public_id());
        let (near, far) = duplex(4096);
        let (near, _) = tokio::join!(
            connect(&apollo_tls, near, chronos.public_id()),
            accept(&impostor_tls, far)
        );
        let error = near.expect_err("the server is not chronos");
        assert!(error.to_string().contains("BadSignature"), "{error}");

        let (near, far) = duplex(4096);
        let (near, far) = tokio::join!(
            connect(&impostor_tls, near, apollo.public_id()),
            accept(&apollo_tls, far)
        );
        let error = far.expect_err("the client is not chronos");
        assert!(error.to_string().contains("BadSignature"), "{error}");
        assert!(near.unwrap().read(&mut [0]).await.is_err());
    }
}
