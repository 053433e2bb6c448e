//! Connections that come in: who it is, and what it wants.

use std::sync::Arc;
use std::time::Duration;

use chainsync_core::wire::Frame;
use chainsync_core::wire::verify::Inspect;
use chainsync_core::{NodeId, NodeName, ShareName};
use chainsync_env::{Env, Listener, Net};
use tokio::io::WriteHalf;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Shared;
use crate::inspect;
use crate::link::LinkError;
use crate::link::applier::Arrived;
use crate::link::connection::{FrameReader, write_frame};
use crate::link::receive::{
    Chain, Greeted, common_protocol, forget_upstream, no_common_protocol, refuse, serve,
};
use crate::share::{Share, lock};

/// How long a connection may take to say who it is and what it wants.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// Connections being greeted or served: every member of every share may try a few at once.
const CONNECTIONS_MAX: usize = 1024;
/// After `accept` failed (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for ever.
pub(super) async fn listen<E: Env>(
    shared: Arc<Shared<E>>,
    mut listener: <E::Net as Net>::Listener,
) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            biased;
            incoming = listener.accept() => match incoming {
                Ok(incoming) if connections.len() < CONNECTIONS_MAX => {
                    number += 1;
                    connections.spawn(greet(shared.clone(), incoming, number));
                }
                Ok(_) => tracing::warn!("too many connections: one refused"),
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

type Incoming<E> = <<<E as Env>::Net as Net>::Listener as Listener>::Incoming;

async fn greet<E: Env>(shared: Arc<Shared<E>>, incoming: Incoming<E>, number: u64) {
    match timeout(GREETING_MAX, read_hello::<E>(&shared, incoming)).await {
        Ok(Ok(Invited::Link(share, apply, greeted))) => {
            let from = greeted.hello.node.clone();
            let end = tokio::select! {
                biased;
                end = serve(share.clone(), *greeted, apply, number) => end,
                () = share.until_stopped() => {
                    forget_upstream(&share, &from, number);
                    LinkError::Goodbye("this share does not move any more".to_owned())
                }
            };
            tracing::info!(share = %share.config.name, %from, reason = %end, "upstream left");
        }
        Ok(Ok(Invited::Inspection { share, writer, inspect, place })) => {
            let from = inspect.node;
            tracing::info!(share = %share.config.name, %from, "verify: asked for the tree");
            let answered = inspect::answer(share.clone(), writer, inspect.question).await;
            if let Err(error) = answered {
                tracing::info!(%from, error = %Chain(&error), "verify: not answered");
            }
            drop(place);
        }
        // Said with the name of who was refused.
        Ok(Err(LinkError::Goodbye(_))) => {}
        Ok(Err(error)) => tracing::info!(error = %Chain(&error), "connection refused"),
        Err(_) => tracing::info!("a connection said nothing"),
    }
}

/// What a caller wants, once it is let in.
enum Invited<E: Env> {
    Link(Arc<Share<E>>, mpsc::Sender<Arrived>, Box<Greeted<E>>),
    Inspection {
        share: Arc<Share<E>>,
        writer: WriteHalf<Stream<E>>,
        inspect: Inspect,
        place: OwnedSemaphorePermit,
    },
}

const NOT_READY: &str = "not ready: still looking at its tree";

type Stream<E> = <<E as Env>::Net as Net>::Stream;

async fn read_hello<E: Env>(
    shared: &Shared<E>,
    incoming: Incoming<E>,
) -> Result<Invited<E>, LinkError> {
    let (id, stream) = <<E::Net as Net>::Listener as Listener>::authenticate(incoming).await?;
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(reader);
    let hello = match reader.next(|_| ()).await? {
        Frame::Hello(hello) => hello,
        Frame::Inspect(inspect) => {
            let found = shared.find(&inspect.share).map(|(share, _)| share);
            let speaks = (inspect.protocol_min, inspect.protocol_max);
            let stranger =
                stranger(shared, found.as_deref(), &inspect.share, &inspect.node, id, speaks);
            let refusal = stranger.or_else(|| {
                let waits = found
                    .as_ref()
                    .is_some_and(|share| !*share.ready.borrow() && share.board.halted().is_none());
                waits.then(|| NOT_READY.to_owned())
            });
            let place = found.as_ref().map(|share| share.inspections.clone().try_acquire_owned());
            return match (found, place, refusal) {
                (Some(share), Some(Ok(place)), None) => {
                    Ok(Invited::Inspection { share, writer, inspect, place })
                }
                (_, _, refusal) => {
                    let reason = refusal
                        .unwrap_or_else(|| "busy with other questions: ask again".to_owned());
                    say_refused(&inspect.node, &reason);
                    let _ = write_frame(&mut writer, &Frame::Goodbye(reason.clone())).await;
                    Err(LinkError::Goodbye(reason))
                }
            };
        }
        _ => return Err(LinkError::Protocol("it did not say hello")),
    };
    let found = shared.find(&hello.share);
    let refusal = refusal(shared, found.as_ref().map(|(share, _)| &**share), &hello, id);
    let greeted = Greeted { reader, writer, hello, id };
    match (found, refusal) {
        (Some((share, apply)), None) => Ok(Invited::Link(share, apply, Box::new(greeted))),
        (_, refusal) => {
            let reason = refusal.unwrap_or_else(|| "no such share".to_owned());
            say_refused(&greeted.hello.node, &reason);
            refuse(greeted, &reason).await;
            Err(LinkError::Goodbye(reason))
        }
    }
}

/// In the log. Who is to wait for the first look asks again every second or two.
fn say_refused(node: &NodeName, reason: &str) {
    match reason {
        NOT_READY => tracing::debug!(%node, reason, "connection refused"),
        _ => tracing::info!(%node, reason, "connection refused"),
    }
}

/// Why a caller is not let in: a peer may only speak as itself, and for shares whose ring names it.
fn refusal<E: Env>(
    shared: &Shared<E>,
    share: Option<&Share<E>>,
    hello: &chainsync_core::wire::Hello,
    id: NodeId,
) -> Option<String> {
    let speaks = (hello.protocol_min, hello.protocol_max);
    if let Some(reason) = stranger(shared, share, &hello.share, &hello.node, id, speaks) {
        return Some(reason);
    }
    let share = share?;
    if let Some(reason) = share.board.halted() {
        return Some(crate::flush::at_rest(&reason));
    }
    (!*share.ready.borrow()).then(|| NOT_READY.to_owned())
}

/// Why a caller has no business here, whatever it wants.
fn stranger<E: Env>(
    shared: &Shared<E>,
    share: Option<&Share<E>>,
    name: &ShareName,
    node: &NodeName,
    id: NodeId,
    speaks: (u32, u32),
) -> Option<String> {
    let config = shared.config();
    match config.nodes.get(node) {
        Some(peer) if peer.id == id && *node != config.node => {}
        _ => return Some(format!("`{node}` is not the node with this key here")),
    }
    let halted = lock(&shared.halted);
    if let Some((_, reason)) = halted.iter().find(|(halted, _)| halted == name) {
        return Some(format!("halted: {reason}"));
    }
    drop(halted);
    let Some(share) = share else {
        return Some(format!("there is no share `{name}` here"));
    };
    if !share.ring().contains(node) {
        return Some(format!("`{node}` is not in the ring of `{name}` here"));
    }
    common_protocol(speaks).is_none().then(|| no_common_protocol(&config.node, node, speaks))
}
