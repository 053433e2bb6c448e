//! Streams as the daemons see them.

use super::*;
use std::time::Duration;
use tokio::time::Instant;

use crate::trace::Trace;
use chainsync_core::NodeName;

fn peer(name: &str, id_of: &str) -> Peer {
    let address = format!("{name}:7420");
    Peer { name: NodeName::new(name).unwrap(), address, id: node_id(id_of) }
}

/// Two hosts echo a megabyte; the hash of what happened.
fn echo(seed: u64, tls: bool) -> (String, NetStats) {
    const BYTES: usize = 1 << 20;
    let shared = Shared::new(seed, Trace::new(None));
    let mut sim = turmoil::Builder::new().tcp_capacity(1024).rng_seed(seed).build();
    let known: BTreeSet<String> = ["apollo", "hermes"].map(String::from).into();
    let options = NetOptions { tls, ..NetOptions::default() };
    let slow = NetOptions { bits_per_second: Some(100_000_000), ..options };
    let server = SimNet::new(&shared, "hermes", known.clone(), options, Arc::default());
    let client = SimNet::new(&shared, "apollo", known, slow, Arc::default());
    let stranger = SimNet::new(&shared, "zeus", BTreeSet::new(), options, Arc::default());
    let stats = client.clone();
    sim.host("hermes", move || {
        let server = server.clone();
        async move {
            let mut listener = server.listen("0.0.0.0:7420").await?;
            loop {
                let incoming = listener.accept().await?;
                let Ok((id, stream)) = SimListener::authenticate(incoming).await else {
                    continue;
                };
                assert_eq!(id, node_id("apollo"));
                tokio::task::spawn_local(async move {
                    let (mut reader, mut writer) = tokio::io::split(stream);
                    tokio::io::copy(&mut reader, &mut writer).await
                });
            }
        }
    });
    sim.client("apollo", async move {
        let refused = client.connect(&peer("hermes", "zeus")).await;
        assert_eq!(refused.err().unwrap().kind(), io::ErrorKind::PermissionDenied);
        let begun = Instant::now();
        let stream = client.connect(&peer("hermes", "hermes")).await?;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sent: Vec<u8> = (0..BYTES).map(|index| (index / 251) as u8).collect();
        let copy = sent.clone();
        let sending = tokio::task::spawn_local(async move {
            writer.write_all(&copy).await?;
            // TLS holds what the wire has not taken.
            writer.flush().await
        });
        let mut received = vec![0; BYTES];
        reader.read_exact(&mut received).await?;
        sending.await??;
        assert!(received == sent, "the bytes came back changed");
        // A megabyte over 100 Mbit/s takes 84 ms on the wire.
        assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
        Ok(())
    });
    sim.client("zeus", async move {
        // With TLS it is refused once its key is known, and the first read tells.
        if let Ok(mut stream) = stranger.connect(&peer("hermes", "hermes")).await {
            assert!(tls && stream.read_u8().await.is_err());
        }
        Ok(())
    });
    sim.run().unwrap();
    let stats = stats.stats();
    drop(sim);
    (shared.trace.finish().unwrap().hash, stats)
}

#[test]
fn streams_arrive_whole_and_the_same_way_each_time() {
    let (mut hashes, runs) = (BTreeSet::new(), [(1, false), (2, false), (1, true), (2, true)]);
    for (seed, tls) in runs {
        let (hash, stats) = echo(seed, tls);
        assert_eq!(stats.connects, 2);
        assert_eq!(stats.sent.get("hermes"), Some(&(1 << 20)));
        assert_eq!(echo(seed, tls), (hash.clone(), stats), "seed {seed}, TLS {tls}");
        hashes.insert(hash);
    }
    assert_eq!(hashes.len(), runs.len());
}

/// How many of a hundred writes of a kilobyte were short.
fn short_writes(split: u64) -> usize {
    let shared = Shared::new(1, Trace::new(None));
    let mut sim = turmoil::Builder::new().build();
    let known: BTreeSet<String> = ["apollo", "hermes"].map(String::from).into();
    let options = NetOptions { split, ..NetOptions::default() };
    let server = SimNet::new(&shared, "hermes", known.clone(), options, Arc::default());
    let client = SimNet::new(&shared, "apollo", known, options, Arc::default());
    let short = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&short);
    sim.host("hermes", move || {
        let server = server.clone();
        async move {
            let mut listener = server.listen("0.0.0.0:7420").await?;
            let incoming = listener.accept().await?;
            let (_, mut stream) = SimListener::authenticate(incoming).await?;
            while stream.read(&mut [0; 2048]).await? > 0 {}
            Ok(())
        }
    });
    sim.client("apollo", async move {
        let mut stream = client.connect(&peer("hermes", "hermes")).await?;
        for _ in 0..100 {
            *lock(&counted) += usize::from(stream.write(&[0; 1024]).await? < 1024);
        }
        Ok(())
    });
    sim.run().unwrap();
    *lock(&short)
}

#[test]
fn as_many_writes_are_short_as_the_knob_says() {
    assert_eq!(short_writes(0), 0);
    assert!((10..40).contains(&short_writes(4)), "{}", short_writes(4));
    assert!(short_writes(1) > 95);
}
