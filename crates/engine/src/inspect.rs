//! A member's answers to `verify`: what is published here, as digests of buckets or as lists.
//!
//! Reads the index in pages and, if asked to, the contents on disk in steps; it takes no gate, and
//! stops at the next page when the asker goes away.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::wire::Frame;
use chainsync_core::wire::verify::{
    Bucket, DOUBTS_MAX, Digests, Doubt, Inspected, LISTED_MAX, Listed, Question, bucket_of,
};
use chainsync_core::{Kind, Record, RelPath};
use chainsync_env::Env;
use tokio::io::AsyncWrite;
use tokio::time::sleep;

use crate::disk::Dirs;
use crate::link::LinkError;
use crate::link::connection::write_frame;
use crate::share::{Share, ShareError};
use crate::survey::{Found, Survey};
use crate::verify::differing;

/// Records read from the index at a time.
const PAGE_ROWS: usize = 4096;
/// A path whose disk and index differ is looked at again after this: what the watcher has yet to
/// tell, or a batch has yet to publish, is settled by then.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Answers one question over a connection, and keeps it alive meanwhile.
pub async fn answer<E: Env, W: AsyncWrite + Unpin>(
    share: Arc<Share<E>>,
    mut writer: W,
    question: Question,
) -> Result<(), LinkError> {
    match question {
        Question::Digests { buckets, deep } => {
            let digests = share.digests(buckets, deep);
            let digests = with_pings(&mut writer, share.heartbeat(), digests).await??;
            write_frame(&mut writer, &Frame::Inspected(Inspected::Digests(digests))).await?;
        }
        Question::List { buckets, wanted, deep } => {
            let wanted = Arc::new(wanted.into_iter().collect());
            let mut after = None;
            loop {
                let page = share.list_page(buckets, &wanted, deep, after);
                let (next, listed) = with_pings(&mut writer, share.heartbeat(), page).await??;
                if !listed.is_empty() {
                    let entries = Inspected::Entries(listed);
                    write_frame(&mut writer, &Frame::Inspected(entries)).await?;
                }
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            write_frame(&mut writer, &Frame::Inspected(Inspected::End)).await?;
        }
    }
    Ok(())
}

/// Says that we live while something takes its time; fails when nobody is there to hear it.
async fn with_pings<W: AsyncWrite + Unpin, T>(
    writer: &mut W,
    heartbeat: Duration,
    work: impl Future<Output = T>,
) -> Result<T, LinkError> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = sleep(heartbeat) => {
                write_frame(writer, &Frame::Ping).await?;
            }
        }
    }
}

impl<E: Env> Share<E> {
    pub async fn digests(
        self: &Arc<Self>,
        buckets: u32,
        deep: bool,
    ) -> Result<Digests, ShareError> {
        let mut digests = Digests {
            buckets: vec![Bucket::default(); buckets as usize],
            knowledge: self.index.state().knowledge.to_vector(),
            halted: self.board.halted(),
            ..Digests::default()
        };
        if deep {
            self.digest_disk(buckets, &mut digests).await?;
        } else {
            self.digest_index(buckets, &mut digests).await?;
        }
        Ok(digests)
    }

    async fn digest_index(
        self: &Arc<Self>,
        buckets: u32,
        digests: &mut Digests,
    ) -> Result<(), ShareError> {
        let mut after = None;
        loop {
            let page = self.page(after).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (path, record) in &page {
                if let Some(kind) = live(record) {
                    digests.buckets[bucket_of(path, buckets) as usize].add(path, &kind);
                }
            }
        }
    }

    async fn page(
        self: &Arc<Self>,
        after: Option<RelPath>,
    ) -> Result<Vec<(RelPath, Record)>, ShareError> {
        let share = self.clone();
        let page = self.env.blocking(move || -> Result<_, ShareError> {
            Ok(share.index.read()?.records(after.as_ref(), PAGE_ROWS)?)
        });
        page.await
    }

    /// Reads every content; names the paths where the disk does not show what the index says.
    async fn digest_disk(
        self: &Arc<Self>,
        buckets: u32,
        digests: &mut Digests,
    ) -> Result<(), ShareError> {
        let mut survey = Survey::new();
        let mut doubtful = Vec::new();
        loop {
            let (next, found) = self.survey_step(survey, true).await?;
            survey = next;
            if found.is_empty() {
                break;
            }
            for (path, found) in found {
                if let Some(kind) = on_disk(&found) {
                    digests.buckets[bucket_of(&path, buckets) as usize].add(&path, kind);
                }
                if is_doubtful(&found) {
                    match doubtful.len() < DOUBTS_MAX {
                        true => doubtful.push((path, found)),
                        false => digests.more_doubts = true,
                    }
                }
            }
        }
        if doubtful.is_empty() {
            return Ok(());
        }
        sleep(SECOND_LOOK).await;
        let share = self.clone();
        let again = self.env.blocking(move || {
            share.on_ground(true, |ground| {
                let mut dirs = Dirs::new(ground.vfs);
                doubtful.retain(|(path, found)| {
                    let again = ground.look(&mut dirs, path, &mut 0);
                    again.is_ok_and(|(again, _)| again == *found)
                });
                Ok(doubtful)
            })
        });
        let doubts = again.await?.into_iter();
        digests.doubts =
            doubts.map(|(path, found)| Doubt { path, what: in_words(&found) }).collect();
        Ok(())
    }

    /// What is published in the wanted buckets, from a place in the index on, and where to go on.
    pub async fn list_page(
        self: &Arc<Self>,
        buckets: u32,
        wanted: &Arc<BTreeSet<u32>>,
        deep: bool,
        after: Option<RelPath>,
    ) -> Result<(Option<RelPath>, Vec<Listed>), ShareError> {
        let (share, wanted) = (self.clone(), wanted.clone());
        let page = self.env.blocking(move || -> Result<_, ShareError> {
            let rows = share.index.read()?.records(after.as_ref(), PAGE_ROWS)?;
            let mut next = rows.last().map(|(path, _)| path.clone());
            let mut listed = Vec::new();
            for (path, record) in rows {
                let Some(kind) = live(&record) else { continue };
                if !wanted.contains(&bucket_of(&path, buckets)) {
                    continue;
                }
                let kind = if deep { share.shown(&path)? } else { Some(kind) };
                if let Some(kind) = kind {
                    listed.push(Listed { path: path.clone(), kind });
                }
                if listed.len() == LISTED_MAX {
                    next = Some(path);
                    break;
                }
            }
            Ok((next, listed))
        });
        page.await
    }

    /// What the disk shows at a path, contents read.
    fn shown(&self, path: &RelPath) -> Result<Option<Kind>, ShareError> {
        self.on_ground(true, |ground| {
            let (found, _) = ground.look(&mut Dirs::new(ground.vfs), path, &mut 0)?;
            Ok(on_disk(&found).cloned())
        })
    }
}

fn live(record: &Record) -> Option<Kind> {
    record.published().map(|published| published.kind).filter(Kind::is_live)
}

/// What is on disk at a path that is published; of a file that is being written, what was published.
fn on_disk(found: &Found) -> Option<&Kind> {
    match found {
        Found::Same(kind) | Found::Changed { is: kind, .. } | Found::Writing(Some(kind)) => {
            Some(kind)
        }
        _ => None,
    }
}

fn is_doubtful(found: &Found) -> bool {
    matches!(found, Found::New(_) | Found::Changed { .. } | Found::Gone(_) | Found::Problem(_))
}

fn in_words(found: &Found) -> String {
    match found {
        Found::New(kind) => format!("a {} that is not in the index", kind.noun()),
        Found::Changed { was, is } => {
            format!("the disk does not show what the index says: {}", differing(was, is).join(", "))
        }
        Found::Gone(kind) => format!("the index has a {}, the disk nothing", kind.noun()),
        Found::Problem(reason) => reason.clone(),
        _ => String::new(),
    }
}
