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
use chainsync_env::{Env, Point};

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
    node: NodeName,
    task: Pin<Box<dyn Future<Output = LinkError> + Send>>,
    first_pass: signal::Receiver<bool>,
    close: signal::Sender<bool>,
}

/// Runs this node's link for ever.
pub async fn manage<E: Env>(share: Arc<Share<E>>) {
    let successors: Vec<NodeName> = share.config.ring.successors(&share.me).cloned().collect();
    if successors.is_empty() {
        return std::future::pending().await;
    }
    // A node that just fell silent is tried after the others: its connection attempt would cost
    // everybody behind it another timeout.
    let mut last_choice = None;
    loop {
        let mut serving = connect_nearest(&share, &successors, last_choice).await;
        let end = loop {
            let rank = serving.rank;
            tokio::select! {
                biased;
                end = &mut serving.task => break end,
                nearer = find_nearer(&share, &successors[..rank]), if rank > 0 => {
                    share.env.probe(Point::Rejoin);
                    match change_over(&share, serving, nearer).await {
                        Ok(next) => serving = next,
                        Err(Lost { rank, node, end }) => {
                            tracing::warn!(to = %node, reason = %end, "link lost");
                            last_choice = Some(rank);
                            share.board.set_link(None);
                            serving = connect_nearest(&share, &successors, last_choice).await;
                        }
                    }
                }
            }
        };
        share.board.set_link(None);
        tracing::warn!(share = %share.config.name, to = %serving.node, reason = %end, "link lost");
        last_choice = matches!(end, LinkError::Silent(_)).then_some(serving.rank);
    }
}

struct Lost {
    rank: usize,
    node: NodeName,
    end: LinkError,
}

/// Make before break: the old link ends when the new one has finished its first pass.
async fn change_over<E: Env>(
    share: &Arc<Share<E>>,
    mut old: Serving,
    mut new: Serving,
) -> Result<Serving, Lost> {
    tracing::info!(share = %share.config.name, from = %old.node, to = %new.node, "successor is back");
    let mut first_pass = new.first_pass.clone();
    tokio::select! {
        biased;
        end = &mut new.task => {
            tracing::info!(to = %new.node, reason = %end, "successor went away again");
            // The old link never stopped.
            return Ok(old);
        }
        end = &mut old.task => {
            tracing::debug!(to = %old.node, reason = %end, "bypass ended");
            return Ok(new);
        }
        _ = first_pass.wait_for(|done| *done) => {}
    }
    old.close.send_replace(true);
    tokio::select! {
        biased;
        end = &mut new.task => Err(Lost { rank: new.rank, node: new.node, end }),
        _ = timeout(share.dead_after, &mut old.task) => Ok(new),
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
    let link = match timeout(CONNECT_MAX, Link::open(share.clone(), node)).await {
        Ok(Ok(link)) => link,
        Ok(Err(error)) => {
            if let LinkError::Goodbye(reason) = &error {
                share.board.note_refusal(node, Some(reason));
            }
            tracing::debug!(share = %share.config.name, %node, %error, "no link");
            return None;
        }
        Err(_) => {
            tracing::debug!(share = %share.config.name, %node, "no answer");
            return None;
        }
    };
    share.board.note_refusal(node, None);
    if rank > 0 {
        share.env.probe(Point::Bypass);
    }
    tracing::info!(share = %share.config.name, to = %node, bypass = rank > 0, "link open");
    let (first_pass, first_pass_done) = signal::channel(false);
    let (close, closing) = signal::channel(false);
    let task = Box::pin(serve(share.clone(), link, first_pass, closing));
    Some(Serving { rank, node: node.clone(), task, first_pass: first_pass_done, close })
}
