//! What happens in a demo, in order, and what is measured on the way.
//!
//! (a) an undisturbed storm on the first node, then single uploads on an idle ring; (b) a storm on
//! two nodes, in the middle of which the third is killed; (c) its return; (d) a storm on all three;
//! (e) the verdict. Each path is written by one node at a time, and by another one only after a
//! flush in between: so no conflict is expected, and every last content must be there.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chainsync_engine::Status;
use indicatif::{ProgressBar, ProgressStyle};

use super::Trouble;
use super::audit::{Archive, Tree, audit, read_archive};
use super::cluster::{Cluster, INTERRUPTED, NODES, check_interrupted, wait};
use super::generator::{self, Finished, Storm, Upload};
use super::report::{Report, ms, percentile};
use crate::args;

/// Enough single uploads for a p99 that is not the only outlier's.
const IDLE_UPLOADS: u64 = 50;
/// Between two of them: the acknowledgement of the first goes round before the second begins.
const IDLE_PAUSE: Duration = Duration::from_millis(20);
/// Longer than an upload on a busy machine takes by orders of magnitude.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The second storm goes on while the death is noticed: `dead_after` is not needed, a connection
/// that breaks is enough.
const SECOND_STORM: Duration = Duration::from_secs(3);
const SECOND_STORM_FILES_MIN: u64 = 300;
/// `dead_after` (5 s), and as much again for a busy machine, many times over.
const BYPASS_TIMEOUT: Duration = Duration::from_secs(60);
/// What a flush may take: this, and the time of the slowest tool that ships in the repositories.
const FLUSH_TIMEOUT_MIN: Duration = Duration::from_secs(60);
const FILES_PER_SECOND_MIN: u64 = 100;
/// A ring that stays unequal after that has a reason, and the verdict names it.
const CATCHUP_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two looks: each costs a flush of an equal ring, a few milliseconds.
const CATCHUP_ROUND: Duration = Duration::from_secs(5);

pub(super) struct Story<'o, 'c> {
    options: &'o args::Demo,
    cluster: &'c mut Cluster,
    /// In the order in which they were finished, over all nodes.
    uploads: Vec<Upload>,
    report: Report,
    /// What is wrong, in words.
    findings: Vec<String>,
    progress: ProgressBar,
}

impl<'o, 'c> Story<'o, 'c> {
    pub(super) fn new(options: &'o args::Demo, cluster: &'c mut Cluster) -> Self {
        // Draws on stderr, and nothing at all unless that is a terminal.
        let progress = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
            progress.set_style(style);
        }
        progress.enable_steady_tick(Duration::from_millis(100));
        let report = Report { files: options.files, ..Report::default() };
        Self { options, cluster, uploads: Vec::new(), report, findings: Vec::new(), progress }
    }

    /// The report, and in words what is wrong, if anything is.
    pub(super) fn run(mut self) -> Result<(Report, Vec<String>), Trouble> {
        let begun = Instant::now();
        self.say("starting apollo, chronos and hermes");
        self.cluster.start()?;
        self.flush("the empty ring")?;
        self.undisturbed_storm()?;
        self.single_uploads()?;
        self.storm_with_a_death()?;
        self.catch_up()?;
        self.storm_everywhere()?;
        self.verdict()?;
        self.report.seconds = (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        self.progress.finish_and_clear();
        Ok((self.report, self.findings))
    }

    fn undisturbed_storm(&mut self) -> Result<(), Trouble> {
        self.say(format!("{} uploads on apollo", self.options.files));
        let before = self.statuses()?;
        let storm = self.storm(NODES[0], "first", u64::from(self.options.files));
        let begun = Instant::now();
        let uploads = self.storms(&[storm], &mut || Ok(()))?;
        self.say("waiting until everybody has them");
        let patience = self.patience();
        let lacking = self.cluster.daemons()[0].flush(patience, false)?;
        let seconds = begun.elapsed().as_secs_f64();
        if lacking.iter().all(|report| report.complete) {
            self.report.files_per_second =
                Some((uploads.len() as f64 / seconds * 10.0).round() / 10.0);
        }
        let after = self.statuses()?;
        let contents: u64 = uploads.iter().map(|upload| upload.size).sum();
        // The link from the last node back to the first has nothing to carry but words.
        let sent = |index: usize| {
            let to = NODES[index + 1];
            let total = |status: &[Status]| link_bytes_sent(&status[index], to);
            total(&after).saturating_sub(total(&before))
        };
        let most = sent(0).max(sent(1));
        self.report.link_bytes_ratio =
            (contents > 0).then(|| (most as f64 / contents as f64 * 1e4).round() / 1e4);
        let mut lags = self.lags(&uploads);
        self.report.lag_ms_p50 = percentile(&mut lags, 50);
        self.report.lag_ms_p99 = percentile(&mut lags, 99);
        self.uploads.extend(uploads);
        Ok(())
    }

    /// From the moment an upload was complete to the moment it was published on each other node,
    /// which is when its name there changed: the ctime. That comes in ticks (of up to 4 ms on most
    /// kernels), so a lag may read up to one tick too short, never too long.
    fn lags(&self, uploads: &[Upload]) -> Vec<f64> {
        let mut lags = Vec::new();
        for daemon in &self.cluster.daemons()[1..] {
            for upload in uploads {
                // Missing ones are the auditor's affair.
                let Ok(metadata) = std::fs::metadata(daemon.share.join(&upload.path)) else {
                    continue;
                };
                let published = i128::from(metadata.ctime()) * 1_000_000_000
                    + i128::from(metadata.ctime_nsec());
                let lag_ns = (published - upload.closed_ns).max(0);
                lags.push((lag_ns as f64 / 1e3).round() / 1e3);
            }
        }
        lags
    }

    fn single_uploads(&mut self) -> Result<(), Trouble> {
        self.say(format!("{IDLE_UPLOADS} uploads one at a time"));
        let storm = self.storm(NODES[0], "single", IDLE_UPLOADS);
        // Changes go one way round: the node before the origin is the last to see them.
        let tail = self.cluster.daemons()[NODES.len() - 1].share.clone();
        let mut lags = Vec::new();
        for index in 0..IDLE_UPLOADS {
            let upload = generator::one(&storm, index)
                .map_err(|error| Trouble::new("write an upload on apollo", error))?;
            let path = tail.join(&upload.path);
            let what = format!("{} is readable on hermes", path.display());
            let seen = wait_closely(&what, UPLOAD_TIMEOUT, || holds(&path, &upload))?;
            lags.push(ms(seen.saturating_duration_since(upload.closed)));
            self.uploads.push(upload);
            std::thread::sleep(IDLE_PAUSE);
        }
        self.report.idle_lag_ms_p50 = percentile(&mut lags, 50);
        self.report.idle_lag_ms_p99 = percentile(&mut lags, 99);
        Ok(())
    }

    fn storm_with_a_death(&mut self) -> Result<(), Trouble> {
        let killed = self.options.kill.clone();
        let at = self.cluster.index(&killed);
        let predecessor = NODES[(at + 2) % 3];
        let successor = NODES[(at + 1) % 3];
        self.say(format!("a storm on {predecessor} and {successor}; {killed} will be killed"));
        let files = (u64::from(self.options.files) / 3).max(SECOND_STORM_FILES_MIN);
        let again = self.earlier(2);
        let mut storms = Vec::new();
        for (node, overwrite) in [predecessor, successor].into_iter().zip(again) {
            let storm = self.storm(node, "second", files / 2);
            storms.push(Storm { overwrite, over: SECOND_STORM, ..storm });
        }
        let share = self.cluster.daemons()[(at + 1) % 3].share.clone();
        let finished: Vec<Finished> = storms.iter().map(|_| Finished::default()).collect();
        let third = (files / 2 / 3) as usize;
        let cluster = &mut *self.cluster;
        let progress = self.progress.clone();
        let bypassed = with_storms(&storms, &finished, || {
            let patience = SECOND_STORM + UPLOAD_TIMEOUT;
            wait("a third of the second storm is written", patience, || {
                Ok((locked(&finished[0]).len() >= third).then_some(()))
            })?;
            progress.set_message(format!("{killed} is killed"));
            let moment = cluster.daemon(&killed).kill();
            // The kill itself takes a moment; what was closed before its end may have gone through.
            let dead = Instant::now();
            let first =
                wait("an upload is written after the kill", SECOND_STORM + UPLOAD_TIMEOUT, || {
                    Ok(locked(&finished[0]).iter().find(|upload| upload.closed >= dead).cloned())
                })?;
            progress.set_message(format!("{killed} is dead: waiting for the bypass"));
            let path = share.join(&first.path);
            let what = format!("{} is readable on {successor}", path.display());
            let seen = wait_closely(&what, BYPASS_TIMEOUT, || holds(&path, &first))?;
            Ok(ms(seen.saturating_duration_since(moment)))
        });
        self.collect(finished);
        match bypassed {
            Ok(bypass_ms) => self.report.bypass_ms = Some(bypass_ms),
            // The ring may still heal, and the verdict is worth having.
            Err(trouble) => self.findings.push(trouble.to_string()),
        }
        check_interrupted()
    }

    fn catch_up(&mut self) -> Result<(), Trouble> {
        let killed = self.options.kill.clone();
        self.say(format!("{killed} comes back"));
        let begun = Instant::now();
        let daemon = self.cluster.daemon(&killed);
        daemon.spawn()?;
        daemon.wait_until_it_answers()?;
        while begun.elapsed() < CATCHUP_TIMEOUT {
            check_interrupted()?;
            if !self.cluster.flush(CATCHUP_ROUND)?.is_empty() {
                continue;
            }
            // The comparison reads everything; what it finds was so when it began.
            let moment = begun.elapsed();
            if self.trees()?.values().collect::<Vec<_>>().windows(2).all(|pair| pair[0] == pair[1])
            {
                self.report.catchup_ms = Some(ms(moment));
                return Ok(());
            }
        }
        // Not the end: the verdict says what differs.
        self.findings.push(format!("{killed} did not catch up within {CATCHUP_TIMEOUT:?}"));
        Ok(())
    }

    fn storm_everywhere(&mut self) -> Result<(), Trouble> {
        self.say("a storm on all three nodes");
        let files = u64::from(self.options.files) / 10;
        let again = self.earlier(NODES.len());
        let storms: Vec<Storm> = NODES
            .into_iter()
            .zip(again)
            .map(|(node, overwrite)| Storm { overwrite, ..self.storm(node, "third", files) })
            .collect();
        let uploads = self.storms(&storms, &mut || Ok(()))?;
        self.uploads.extend(uploads);
        Ok(())
    }

    fn verdict(&mut self) -> Result<(), Trouble> {
        let complete = self.flush("the end")?;
        self.report.conflicts = self
            .statuses()?
            .iter()
            .flat_map(|status| &status.shares)
            .map(|share| share.conflicts)
            .sum();
        self.say("comparing every file");
        let trees = self.trees()?;
        let mut archive = Archive::new();
        for daemon in self.cluster.daemons() {
            read_archive(&daemon.archive, &mut archive).map_err(|error| {
                Trouble::new(format!("read the archive of {}", daemon.name), error)
            })?;
        }
        self.uploads.sort_by_key(|upload| upload.closed);
        let verdict = audit(&trees, &archive, &self.uploads);
        self.findings.extend(verdict.findings);
        self.report.lost = verdict.lost;
        self.report.converged = complete && verdict.equal && verdict.faithful;
        self.report.digests = trees
            .iter()
            .map(|(node, tree)| (node.clone(), tree.digest().to_hex().to_string()))
            .collect();
        Ok(())
    }

    /// Whether every node has everything; who lacks what is a finding.
    fn flush(&mut self, when: &str) -> Result<bool, Trouble> {
        self.say("waiting until every node has everything");
        let lacking = self.cluster.flush(self.patience())?;
        for one in lacking.iter().flat_map(|report| &report.lacking) {
            self.findings.push(format!("flush at {when}: {} lacks it: {}", one.node, one.reason));
        }
        Ok(lacking.is_empty())
    }

    fn patience(&self) -> Duration {
        FLUSH_TIMEOUT_MIN
            + Duration::from_secs(u64::from(self.options.files) / FILES_PER_SECOND_MIN)
    }

    fn storm(&self, node: &str, label: &str, files: u64) -> Storm {
        let daemon = &self.cluster.daemons()[self.cluster.index(node)];
        Storm {
            node: node.to_owned(),
            root: daemon.share.clone(),
            label: label.to_owned(),
            files,
            size: self.options.size as usize,
            overwrite: Vec::new(),
            over: Duration::ZERO,
        }
    }

    /// Runs storms beside each other to their ends.
    fn storms(
        &mut self,
        storms: &[Storm],
        meanwhile: &mut dyn FnMut() -> Result<(), Trouble>,
    ) -> Result<Vec<Upload>, Trouble> {
        let finished: Vec<Finished> = storms.iter().map(|_| Finished::default()).collect();
        with_storms(storms, &finished, meanwhile)?;
        check_interrupted()?;
        Ok(finished.iter().flat_map(|finished| std::mem::take(&mut *locked(finished))).collect())
    }

    fn collect(&mut self, finished: Vec<Finished>) {
        for finished in finished {
            self.uploads.append(&mut locked(&finished));
        }
    }

    /// Earlier uploads, dealt out so that no two nodes get the same.
    fn earlier(&self, hands: usize) -> Vec<Vec<PathBuf>> {
        let mut dealt = vec![Vec::new(); hands];
        let first: BTreeMap<_, _> = self.uploads.iter().map(|upload| (&upload.path, ())).collect();
        for (index, path) in first.into_keys().enumerate() {
            dealt[index % hands].push(path.clone());
        }
        dealt
    }

    fn statuses(&self) -> Result<Vec<Status>, Trouble> {
        self.cluster.daemons().iter().map(|daemon| daemon.status()).collect()
    }

    fn trees(&self) -> Result<BTreeMap<String, Tree>, Trouble> {
        let read = |daemon: &super::cluster::Daemon| {
            let tree = Tree::read(&daemon.share);
            tree.map(|tree| (daemon.name.to_owned(), tree))
                .map_err(|error| Trouble::new(format!("read the tree of {}", daemon.name), error))
        };
        self.cluster.daemons().iter().map(read).collect()
    }

    fn say(&self, what: impl Into<String>) {
        self.progress.set_message(what.into());
    }
}

/// Runs `meanwhile` beside the storms; returns when both are through.
fn with_storms<T>(
    storms: &[Storm],
    finished: &[Finished],
    meanwhile: impl FnOnce() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let stopped = || INTERRUPTED.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let writers: Vec<_> = storms
            .iter()
            .zip(finished)
            .map(|(storm, finished)| scope.spawn(move || generator::run(storm, finished, &stopped)))
            .collect();
        let result = meanwhile();
        for (storm, writer) in storms.iter().zip(writers) {
            let what = || format!("write uploads on {}", storm.node);
            match writer.join() {
                Ok(written) => written.map_err(|error| Trouble::new(what(), error))?,
                Err(_) => return Err(Trouble::new(what(), "the writer panicked")),
            }
        }
        result
    })
}

fn locked(finished: &Finished) -> std::sync::MutexGuard<'_, Vec<Upload>> {
    finished.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn link_bytes_sent(status: &Status, to: &str) -> u64 {
    let sent =
        |share: &chainsync_engine::ShareStatus| share.counters.link_bytes_sent.get(to).copied();
    status.shares.iter().filter_map(sent).sum()
}

/// Whether the upload is there in full.
fn holds(path: &std::path::Path, upload: &Upload) -> bool {
    // The size first: reading a file again and again would disturb what is measured.
    let there = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == upload.size);
    there && std::fs::read(path).is_ok_and(|content| blake3::hash(&content) == upload.hash)
}

/// Polls so often that the moment is known to a fraction of a millisecond.
fn wait_closely(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> bool,
) -> Result<Instant, Trouble> {
    const INTERVAL: Duration = Duration::from_micros(200);
    let deadline = Instant::now() + patience;
    loop {
        if look() {
            return Ok(Instant::now());
        }
        check_interrupted()?;
        if Instant::now() >= deadline {
            return Err(Trouble::new(
                format!("wait until {what}"),
                format!("not within {patience:?}"),
            ));
        }
        std::thread::sleep(INTERVAL);
    }
}
