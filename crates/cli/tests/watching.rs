//! What no watcher tells, and what it tells too late: roots that go away, mounts, limits, writes that
//! raise no event. Each is visible in `status` in words, does no harm to the other nodes, and is over
//! without a restart once its cause is.
//!
//! Mounts and limits need namespaces of their own: those tests run themselves again in `unshare`, and
//! are left out, saying so, where the system does not allow that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::kinds::daemons::{NODES, Ring};

/// The root is looked at every 5 s, watches are tried again every 5 s: many times that.
const PATIENCE: Duration = Duration::from_secs(60);
/// Set in the process that runs in namespaces of its own.
const INSIDE: &str = "CHAINSYNC_TEST_INSIDE";

#[test]
fn a_root_that_is_replaced_halts_the_share_until_it_is_back() {
    let ring = Ring::start("replaced root");
    let root = ring.share(0);
    let away = root.with_file_name("away");
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/f"), "kept").unwrap();
    arrives(&ring, "d/f", "kept");

    fs::rename(&root, &away).unwrap();
    fs::create_dir(&root).unwrap();
    halts(&ring, "another directory");
    fs::write(ring.share(1).join("meanwhile"), "on another node").unwrap();
    fs::write(away.join("d/f"), "changed while away").unwrap();
    fs::write(root.join("stray"), "in the wrong directory").unwrap();
    reads(&ring, 2, "meanwhile", "on another node");
    assert_eq!(fs::read_to_string(ring.share(1).join("d/f")).unwrap(), "kept");
    assert!(!away.join("meanwhile").exists(), "published into a directory that was taken away");

    fs::remove_file(root.join("stray")).unwrap();
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    arrives(&ring, "d/f", "changed while away");
    arrives(&ring, "meanwhile", "on another node");
    converges(&ring);
    // And it is watched again.
    fs::write(root.join("d/g"), "after").unwrap();
    arrives(&ring, "d/g", "after");
}

#[test]
fn a_root_without_its_marker_halts_the_share_until_it_is_back() {
    let ring = Ring::start("marker");
    let root = ring.share(0);
    fs::write(root.join("f"), "kept").unwrap();
    arrives(&ring, "f", "kept");
    let (own, away) = (root.join(".chainsync"), root.with_file_name("away"));
    fs::rename(&own, &away).unwrap();
    // What looks like the deletion of everything comes with a root that is not ours.
    fs::remove_file(root.join("f")).unwrap();
    halts(&ring, ".chainsync/marker");
    for index in [1, 2] {
        assert_eq!(fs::read_to_string(ring.share(index).join("f")).unwrap(), "kept");
    }
    fs::rename(&away, &own).unwrap();
    // It is ours again, so somebody deleted the file.
    ring.until("the deletion counts", PATIENCE, || {
        let left = [1, 2].into_iter().filter(|index| ring.share(*index).join("f").exists()).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} nodes have it still")) }
    });
    converges(&ring);
}

#[test]
fn what_raises_no_event_is_found_by_a_sweep_now_and_then() {
    let ring = Ring::start_with("sweeps", "sweep_interval = \"1s\"\n");
    let root = ring.share(0);
    fs::write(root.join("f"), "at first").unwrap();
    arrives(&ring, "f", "at first");
    // The name outside is not watched, so nobody is told.
    let outside = ring.directory().join("outside");
    fs::hard_link(root.join("f"), &outside).unwrap();
    fs::write(&outside, "through a name outside").unwrap();
    arrives(&ring, "f", "through a name outside");
    converges(&ring);
}

#[test]
fn a_deleted_directory_with_something_excluded_in_it_stays_and_says_why() {
    let ring = Ring::start_with("excluded", "exclude = [\"*.log\"]\n");
    for index in 0..NODES.len() {
        fs::create_dir_all(ring.share(index).join("d")).unwrap();
    }
    fs::write(ring.share(0).join("d/f"), "kept").unwrap();
    arrives(&ring, "d/f", "kept");
    fs::write(ring.share(0).join("d/access.log"), "apollo's own").unwrap();
    fs::remove_dir_all(ring.share(1).join("d")).unwrap();
    problem(&ring, "d", "it still holds `d/access.log`, which is not replicated");
    assert!(!ring.share(0).join("d/f").exists());
    // Nothing else waits for it.
    fs::write(ring.share(1).join("after"), "goes on").unwrap();
    arrives(&ring, "after", "goes on");
    fs::remove_file(ring.share(0).join("d/access.log")).unwrap();
    converges(&ring);
    assert!(!ring.share(0).join("d").exists());
}

#[test]
fn a_root_that_is_missing_at_the_start_is_refused() {
    let mut ring = Ring::start("missing root");
    fs::write(ring.share(0).join("f"), "kept").unwrap();
    arrives(&ring, "f", "kept");
    ring.kill(0);
    let away = ring.share(0).with_file_name("away");
    fs::rename(ring.share(0), &away).unwrap();
    assert_eq!(ring.refused(0), Some(2));
    // An empty directory in its place, which is what a file system that is not mounted leaves: a guard
    // refuses it.
    fs::create_dir(ring.share(0)).unwrap();
    assert_eq!(ring.refused(0), Some(4));
    reads(&ring, 1, "f", "kept");
    fs::remove_dir(ring.share(0)).unwrap();
    fs::rename(&away, ring.share(0)).unwrap();
    ring.spawn(0);
    converges(&ring);
    arrives(&ring, "f", "kept");
}

#[test]
fn owners_are_replicated_where_that_is_configured() {
    if !rustix::process::geteuid().is_root() {
        return println!("left out: only root gives files away");
    }
    let ring = Ring::start_with("owner", "owner = true\n");
    let root = ring.share(0);
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/f"), "given away").unwrap();
    std::os::unix::fs::chown(root.join("d/f"), Some(1234), Some(2345)).unwrap();
    std::os::unix::fs::chown(root.join("d"), Some(3456), Some(4567)).unwrap();
    let owners = |index: usize| {
        ["d", "d/f"].map(|path| {
            let metadata = fs::symlink_metadata(ring.share(index).join(path)).ok()?;
            Some((metadata.uid(), metadata.gid()))
        })
    };
    for index in [1, 2] {
        ring.until("owners arrive", PATIENCE, || match owners(index) {
            [Some((3456, 4567)), Some((1234, 2345))] => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    // The owner alone, by another node.
    std::os::unix::fs::chown(ring.share(2).join("d/f"), Some(0), Some(2345)).unwrap();
    ring.until("the new owner arrives", PATIENCE, || match owners(0)[1] {
        Some((0, 2345)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    converges(&ring);
}

#[test]
fn a_mount_inside_a_share_is_a_problem_and_no_deletion() {
    let name = "a_mount_inside_a_share_is_a_problem_and_no_deletion";
    if !inside(name, &["--user", "--map-root-user", "--mount"]) {
        return;
    }
    let ring = Ring::start_with("mount", "sweep_interval = \"1s\"\n");
    let root = ring.share(0);
    fs::create_dir_all(root.join("d/below")).unwrap();
    fs::write(root.join("d/f"), "kept").unwrap();
    fs::write(root.join("d/below/g"), "kept too").unwrap();
    arrives(&ring, "d/below/g", "kept too");
    arrives(&ring, "d/f", "kept");

    mount(&["-t", "tmpfs", "none"], &root.join("d"));
    problem(&ring, "d", "another file system is mounted here");
    // Not ours, whatever happens there.
    fs::write(root.join("d/stray"), "in another file system").unwrap();
    fs::write(ring.share(1).join("d/f"), "changed elsewhere").unwrap();
    reads(&ring, 2, "d/f", "changed elsewhere");
    problem(&ring, "d/f", "another file system is mounted here");
    fs::write(root.join("beside"), "goes on").unwrap();
    for index in [1, 2] {
        reads(&ring, index, "beside", "goes on");
        reads(&ring, index, "d/below/g", "kept too");
        assert!(!ring.share(index).join("d/stray").exists());
    }
    umount(&root.join("d"));
    reads(&ring, 0, "d/f", "changed elsewhere");
    converges(&ring);

    // A part of the same file system, mounted once more.
    let outside = ring.directory().join("outside");
    fs::create_dir(&outside).unwrap();
    mount(&["--bind", outside.to_str().unwrap()], &root.join("d/below"));
    problem(&ring, "d/below", "another file system is mounted here");
    for index in [1, 2] {
        reads(&ring, index, "d/below/g", "kept too");
    }
    umount(&root.join("d/below"));
    converges(&ring);

    // Over the root itself.
    mount(&["-t", "tmpfs", "none"], &root);
    halts(&ring, "another directory");
    reads(&ring, 1, "d/f", "changed elsewhere");
    umount(&root);
    converges(&ring);
    fs::write(root.join("d/f"), "all is well").unwrap();
    arrives(&ring, "d/f", "all is well");
}

#[test]
fn directories_that_cannot_be_watched_are_shown_and_watched_later() {
    let name = "directories_that_cannot_be_watched_are_shown_and_watched_later";
    if !inside(name, &["--user", "--map-root-user"]) {
        return;
    }
    let limit = |watches: u64| fs::write("/proc/sys/user/max_inotify_watches", watches.to_string());
    let ring = Ring::start("watch limit");
    let root = ring.share(0);
    // The daemons share a limit. Three watches each are taken already.
    limit(30).unwrap();
    for index in 0..40 {
        fs::create_dir(root.join(format!("d{index}"))).unwrap();
        fs::write(root.join(format!("d{index}/f")), "at first").unwrap();
    }
    ring.until("the limit is shown", PATIENCE, || {
        let problems = ring.problems(0);
        let shown = problems.values().any(|why| why.contains("fs.inotify.max_user_watches"));
        if shown { Ok(()) } else { Err(format!("{problems:?}")) }
    });
    // Found by looking into each directory, watched or not.
    arrives(&ring, "d39/f", "at first");
    for index in 0..40 {
        fs::write(root.join(format!("d{index}/f")), "changed unseen").unwrap();
        fs::create_dir(root.join(format!("d{index}/new"))).unwrap();
        fs::write(root.join(format!("d{index}/new/g")), "made unseen").unwrap();
    }
    limit(10_000).unwrap();
    for index in 0..40 {
        arrives(&ring, &format!("d{index}/f"), "changed unseen");
        arrives(&ring, &format!("d{index}/new/g"), "made unseen");
    }
    converges(&ring);
    fs::write(root.join("d39/new/g"), "seen").unwrap();
    arrives(&ring, "d39/new/g", "seen");
}

/// Runs a test of this file again, in namespaces of its own; whether this is that run.
fn inside(test: &str, namespaces: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let allowed = Command::new("unshare").args(namespaces).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("left out: unshare {} is not allowed here", namespaces.join(" "));
        return false;
    }
    let output = Command::new("unshare")
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("watching::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

fn mount(what: &[&str], path: &Path) {
    let status = Command::new("mount").args(what).arg(path).status().unwrap();
    assert!(status.success(), "mount {what:?} {}", path.display());
}

fn umount(path: &Path) {
    let status = Command::new("umount").arg(path).status().unwrap();
    assert!(status.success(), "umount {}", path.display());
}

fn reads(ring: &Ring, index: usize, path: &str, content: &str) {
    let file = ring.share(index).join(path);
    ring.until(&format!("{path} is on {}", NODES[index]), PATIENCE, || {
        match fs::read_to_string(&file) {
            Ok(found) if found == content => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn arrives(ring: &Ring, path: &str, content: &str) {
    (0..NODES.len()).for_each(|index| reads(ring, index, path, content));
}

fn converges(ring: &Ring) {
    for (index, name) in NODES.iter().enumerate() {
        let what = format!("{name} is converged");
        ring.until(&what, PATIENCE, || ring.converged(index));
    }
}

fn halts(ring: &Ring, why: &str) {
    ring.until("the share is halted", PATIENCE, || match ring.halted(0) {
        Some(reason) if reason.contains(why) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn problem(ring: &Ring, path: &str, why: &str) {
    ring.until(&format!("{path} is a problem"), PATIENCE, || {
        let problems = ring.problems(0);
        match problems.get(path) {
            Some(reason) if reason.contains(why) => Ok(()),
            _ => Err(format!("{problems:?}")),
        }
    });
}
