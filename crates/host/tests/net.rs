//! TLS over any stream, and over TCP.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;

use chainsync_core::{NodeId, NodeName};
use chainsync_env::{Listener, Net, Peer};
use chainsync_host::tls::{self, TlsConfig, TlsStream, WrongKey};
use chainsync_host::{HostListener, HostNet, PrivateKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

struct Node {
    id: NodeId,
    tls: TlsConfig,
}

/// Two nodes that know each other, and one that nobody knows but that knows both.
fn nodes() -> [Node; 3] {
    let keys = [(); 3].map(|()| PrivateKey::generate().unwrap());
    let ids = [0, 1, 2].map(|node: usize| keys[node].public_id());
    let config = |node: usize, allowed: &[NodeId]| {
        let tls = TlsConfig::new(&keys[node], allowed.iter().copied()).unwrap();
        assert_eq!(tls.id(), ids[node]);
        Node { id: ids[node], tls }
    };
    [config(0, &ids[1..2]), config(1, &ids[..1]), config(2, &ids[..2])]
}

type Ends = (io::Result<TlsStream<DuplexStream>>, io::Result<(NodeId, TlsStream<DuplexStream>)>);

async fn handshake(client: &Node, expected: NodeId, server: &Node) -> Ends {
    let (near, far) = duplex(4096);
    tokio::join!(tls::connect(&client.tls, near, expected), tls::accept(&server.tls, far))
}

fn wrong_key(error: &io::Error) -> &WrongKey {
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    error.get_ref().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn nodes_that_know_each_other_talk() {
    let [apollo, chronos, _] = nodes();
    talk(&apollo, &chronos).await;
    // Nothing is left of the first connection that could shorten the second.
    talk(&apollo, &chronos).await;
}

async fn talk(apollo: &Node, chronos: &Node) {
    let (near, far) = handshake(apollo, chronos.id, chronos).await;
    let (mut near, (id, mut far)) = (near.unwrap(), far.unwrap());
    assert_eq!(id, apollo.id);
    near.write_all(b"hello").await.unwrap();
    near.flush().await.unwrap();
    let mut hello = [0; 5];
    far.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
    far.shutdown().await.unwrap();
    assert_eq!(near.read(&mut hello).await.unwrap(), 0);
    for connection in [near, far] {
        let (_, state) = connection.get_ref();
        assert_eq!(state.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(state.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_client_with_an_unknown_key_is_refused_by_name() {
    let [_, chronos, stranger] = nodes();
    let (near, far) = handshake(&stranger, chronos.id, &chronos).await;
    let error = far.expect_err("chronos does not know the stranger");
    assert_eq!(wrong_key(&error), &WrongKey::Unknown { offered: stranger.id });
    assert!(error.to_string().contains(&stranger.id.to_string()), "{error}");
    // The client may believe for a moment that it got in, and learns better with its first read.
    if let Ok(mut near) = near {
        let read = near.read(&mut [0]).await;
        assert!(read.is_err(), "{read:?}");
    }
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_by_name() {
    let [apollo, chronos, stranger] = nodes();
    let (near, far) = handshake(&apollo, chronos.id, &stranger).await;
    let error = near.expect_err("this is not chronos");
    let wrong = WrongKey::Unexpected { offered: stranger.id, expected: chronos.id };
    assert_eq!(wrong_key(&error), &wrong);
    for id in [stranger.id, chronos.id] {
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
    assert!(far.is_err());
}

#[tokio::test]
async fn a_key_that_is_taken_off_the_list_gets_in_no_more() {
    let [apollo, chronos, stranger] = nodes();
    chronos.tls.clone().set_allowed([stranger.id]);
    let (_, far) = handshake(&apollo, chronos.id, &chronos).await;
    assert!(far.is_err());
    let (_, far) = handshake(&stranger, chronos.id, &chronos).await;
    assert_eq!(far.unwrap().0, stranger.id);
}

async fn listener(node: &Node) -> HostListener {
    HostNet::new(node.tls.clone()).listen("127.0.0.1:0").await.unwrap()
}

fn peer(address: String, id: NodeId) -> Peer {
    Peer { name: NodeName::new("chronos").unwrap(), address, id }
}

#[tokio::test]
async fn nodes_meet_over_tcp() {
    let [apollo, chronos, stranger] = nodes();
    let mut listener = listener(&chronos).await;
    let chronos_peer = peer(listener.address().unwrap(), chronos.id);
    let net = HostNet::new(apollo.tls);
    let (near, far) = tokio::join!(net.connect(&chronos_peer), async {
        HostListener::authenticate(listener.accept().await?).await
    });
    let (mut near, (id, mut far)) = (near.unwrap(), far.unwrap());
    assert_eq!(id, apollo.id);
    for stream in [&near, &far] {
        assert!(stream.get_ref().0.nodelay().unwrap());
    }
    let data: Vec<u8> = (0..1_000_000_u32).map(|byte| byte as u8).collect();
    let (sent, received) = tokio::join!(
        async {
            near.write_all(&data).await?;
            near.shutdown().await
        },
        async {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.map(|_| received)
        }
    );
    sent.unwrap();
    assert!(received.unwrap() == data);

    // A stranger that never finishes its handshake holds nobody up.
    let idle = tokio::net::TcpStream::connect(&chronos_peer.address).await.unwrap();
    let waiting = listener.accept().await.unwrap();
    let (near, far) = tokio::join!(net.connect(&chronos_peer), async {
        HostListener::authenticate(listener.accept().await?).await
    });
    assert!(near.is_ok() && far.is_ok());
    drop(idle);
    assert!(HostListener::authenticate(waiting).await.is_err());

    let wrong = peer(chronos_peer.address.clone(), stranger.id);
    let (near, _) = tokio::join!(net.connect(&wrong), async {
        HostListener::authenticate(listener.accept().await?).await
    });
    let error = near.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("chronos"), "{error}");
    assert!(error.to_string().contains(&stranger.id.to_string()), "{error}");
}

#[tokio::test]
async fn errors_name_the_address() {
    let [apollo, chronos, _] = nodes();
    let taken = listener(&chronos).await;
    let address = taken.address().unwrap();
    let net = HostNet::new(apollo.tls);
    let error = net.listen(&address).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address), "{error}");
    let error = net.listen("no port").await.unwrap_err();
    assert!(error.to_string().contains("`no port`"), "{error}");
    drop(taken);
    let error = net.connect(&peer(address.clone(), chronos.id)).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&address), "{error}");
}
