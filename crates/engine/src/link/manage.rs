//! To whom this node's link leads: the nearest successor that answers.
//!
//! The upstream side decides. While a farther one is served, the nearer ones are tried again and
//! again; when one answers, its link is made before the old one is given up, so that the nodes
//! behind the gap never wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::NodeName;
use chainsync_env::{Env, Peer, Point};

use tokio::time::{sleep, timeout};

use super::LinkError;
use super::send::{Link, serve};
use crate::share::Share;
use crate::signal;

/// How long a peer may take to answer a connection. A stopped process accepts and says nothing.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Between attempts to reach a nearer successor.
const RETRY: Duration = Duration::from_secs(1);
/// Between rounds in which nobody answered: doubles up to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

struct Serving {
    rank: usize,
    /// As it was configured when the link was made.
    peer: Peer,
    task: Pin<Box<dyn Future<Output = LinkError> + Send>>,
    first_pass: signal::Receiver<bool>,
    close: signal::Sender<bool>,
}

/// Runs this node's link for ever. A reload that does not concern the node to which it leads leaves
/// the link as it is.
pub async fn manage<E: Env>(share: Arc<Share<E>>) {
    let mut settings = share.settings_moved.subscribe();
    let mut serving = None;
    loop {
        let now = share.settings();
        let all = now.ring.successors(&share.me).cloned();
        let successors: Vec<NodeName> = all.filter(|_| !now.closed).collect();
        tokio::select! {
            biased;
            _ = settings.changed() => serving = still_wanted(&share, serving),
            () = drive(&share, &successors, &mut serving) => {}
        }
    }
}

/// The link, if it leads to a node of the ring that is configured as it was, with its present rank.
fn still_wanted<E: Env>(share: &Share<E>, serving: Option<Serving>) -> Option<Serving> {
    let Serving { peer, .. } = serving.as_ref()?;
    let settings = share.settings();
    let rank = settings.ring.successors(&share.me).position(|node| *node == peer.name);
    match rank {
        Some(rank) if settings.peers.get(&peer.name) == Some(peer) && !settings.closed => {
            serving.map(|serving| Serving { rank, ..serving })
        }
        _ => {
            tracing::info!(share = %share.config.name, to = %peer.name, "link given up: the configuration changed");
            None
        }
    }
}

/// Keeps a link to the nearest of these that answers. Ends only by being dropped, and what serves
/// then goes on serving.
async fn drive<E: Env>(
    share: &Arc<Share<E>>,
    successors: &[NodeName],
    serving: &mut Option<Serving>,
) {
    if successors.is_empty() {
        return std::future::pending().await;
    }
    // A node that just fell silent is tried after the others: its connection attempt would cost
    // everybody behind it another timeout.
    let mut last_choice = None;
    loop {
        let now = match serving {
            Some(serving) => serving,
            None => serving.insert(connect_nearest(share, successors, last_choice).await),
        };
        let rank = now.rank;
        let end = tokio::select! {
            biased;
            end = &mut now.task => Some(end),
            nearer = find_nearer(share, &successors[..rank]), if rank > 0 => {
                share.env.probe(Point::Rejoin);
                change_over(share, now, nearer).await
            }
        };
        if let Some(end) = end {
            tracing::warn!(share = %share.config.name, to = %now.peer.name, reason = %end, "link lost");
            last_choice = matches!(end, LinkError::Silent(_)).then_some(now.rank);
            *serving = None;
        }
    }
}

/// Make before break: the old link ends when the new one has finished its first pass. Returns why
/// the one that serves afterwards has ended, if it has.
async fn change_over<E: Env>(
    share: &Arc<Share<E>>,
    serving: &mut Serving,
    mut new: Serving,
) -> Option<LinkError> {
    tracing::info!(share = %share.config.name, from = %serving.peer.name, to = %new.peer.name, "successor is back");
    let mut first_pass = new.first_pass.clone();
    tokio::select! {
        biased;
        end = &mut new.task => {
            tracing::info!(to = %new.peer.name, reason = %end, "successor went away again");
            // The old link never stopped.
            return None;
        }
        end = &mut serving.task => {
            tracing::debug!(to = %serving.peer.name, reason = %end, "bypass ended");
            *serving = new;
            return None;
        }
        _ = first_pass.wait_for(|done| *done) => {}
    }
    let mut old = std::mem::replace(serving, new);
    old.close.send_replace(true);
    tokio::select! {
        biased;
        end = &mut serving.task => Some(end),
        _ = timeout(share.dead_after(), &mut old.task) => None,
    }
}

/// Tries the successors in order until one answers.
async fn connect_nearest<E: Env>(
    share: &Arc<Share<E>>,
    successors: &[NodeName],
    last_choice: Option<usize>,
) -> Serving {
    let mut backoff = BACKOFF_MIN;
    let mut order: Vec<usize> = (0..successors.len()).collect();
    if let Some(last) = last_choice {
        order.retain(|rank| *rank != last);
        order.push(last);
    }
    loop {
        for rank in &order {
            if let Some(serving) = connect(share, *rank, &successors[*rank]).await {
                return serving;
            }
        }
        order.sort_unstable();
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn find_nearer<E: Env>(share: &Arc<Share<E>>, nearer: &[NodeName]) -> Serving {
    loop {
        sleep(RETRY).await;
        for (rank, node) in nearer.iter().enumerate() {
            if let Some(serving) = connect(share, rank, node).await {
                return serving;
            }
        }
    }
}

async fn connect<E: Env>(share: &Arc<Share<E>>, rank: usize, node: &NodeName) -> Option<Serving> {
    // Before the connection: what is compared after a reload is what it was made with.
    let peer = share.settings().peers.get(node)?.clone();
    let link = match timeout(CONNECT_MAX, Link::open(share.clone(), node)).await {
        Ok(Ok(link)) => {
            share.board.note_refusal(node, None);
            link
        }
        Ok(Err(LinkError::Goodbye(reason))) => {
            // Tried again every second or two: said once, as long as it stays the same.
            if share.board.note_refusal(node, Some(&reason)) {
                tracing::info!(share = %share.config.name, %node, reason, "it refuses the link");
            }
            return None;
        }
        Ok(Err(error)) => {
            tracing::debug!(share = %share.config.name, %node, %error, "no link");
            share.board.note_refusal(node, None);
            return None;
        }
        Err(_) => {
            tracing::debug!(share = %share.config.name, %node, "no answer");
            // Whatever it said before, it says nothing now.
            share.board.note_refusal(node, None);
            return None;
        }
    };
    if rank > 0 {
        share.env.probe(Point::Bypass);
    }
    tracing::info!(share = %share.config.name, to = %node, bypass = rank > 0, "link open");
    let (first_pass, first_pass_done) = signal::channel(false);
    let (close, closing) = signal::channel(false);
    let task = Box::pin(serve(share.clone(), link, first_pass, closing));
    Some(Serving { rank, peer, task, first_pass: first_pass_done, close })
}
