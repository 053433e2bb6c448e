//! Who writes: on each node, threads that work on paths shared with the other nodes and on paths of
//! their own. They are never killed: only daemons are.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{OFlags, RenameFlags};
use rustix::io::Errno;

use crate::content;
use crate::daemons::NODES;
use crate::draw::Draw;
use crate::edits::{self, STYLES};
use crate::ledger::State;
use crate::site::Site;

/// Few, so that all nodes are at the same ones.
const SHARED: [&str; 3] = ["shared/few", "shared/some/deeper", "shared/some"];
const SHARED_FILES: u64 = 4;
const HOT_FILES: u64 = 2;
/// In one spurt.
const HOT_WRITES: usize = 40;
/// Enough that some are still to be published when the first one is.
const TURN_FILES: u64 = 20;
const PRIVATE_FILES: u64 = 5;
/// What a burst makes stays until so many younger ones are there.
const BURSTS_MAX: usize = 5;
/// Between two changes of one writer, at most, in microseconds.
const PACE_US_MAX: u64 = 120_000;

/// Whether the errors of racing with other nodes are what this is: the name or something above it is
/// gone, is there already, or is a symlink or a file for the moment.
fn is_race(error: Errno) -> bool {
    let races = [
        Errno::NOENT,
        Errno::EXIST,
        Errno::NOTDIR,
        Errno::LOOP,
        Errno::ISDIR,
        Errno::BUSY,
        Errno::NOTEMPTY,
    ];
    races.contains(&error)
}

fn accept<T>(path: &str, done: Result<T, Errno>) {
    if let Err(error) = done {
        assert!(is_race(error), "{path}: {error}");
    }
}

fn pace(draw: &mut Draw) {
    // Some follow each other at once.
    let longest = [0, 5_000, PACE_US_MAX, PACE_US_MAX][draw.below(4) as usize];
    std::thread::sleep(Duration::from_micros(draw.below(longest.max(1))));
}

fn shared_path(site: &Site, draw: &mut Draw) -> String {
    if draw.below(4) == 0 {
        // Where another node swaps the directory for a symlink: never our own.
        let other = (site.index as u64 + 1 + draw.below(2)) % 3;
        return format!("swap/{}/f{}", NODES[other as usize], draw.below(2));
    }
    let dir = SHARED[draw.below(SHARED.len() as u64) as usize];
    format!("{dir}/f{}", draw.below(SHARED_FILES))
}

/// Everything short, on paths that all nodes write.
pub fn shared(site: &Site, mut draw: Draw, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        pace(&mut draw);
        if draw.below(150) == 0 {
            let dir = SHARED[draw.below(SHARED.len() as u64) as usize];
            if let Some(_claim) = site.claim(dir) {
                // What is in it is read when all is over: chainsync may still be publishing there.
                site.ledger.note(&format!("{dir}: {} moves it all away", NODES[site.index]));
                accept(dir, site.take(dir));
            }
            continue;
        }
        let path = shared_path(site, &mut draw);
        let Some(_claim) = site.claim(&path) else { continue };
        if let Err(error) = site.make_parents(&path) {
            accept::<()>(&path, Err(error));
            continue;
        }
        match draw.below(16) {
            0..=7 => {
                let style = STYLES[draw.below(STYLES.len() as u64) as usize];
                accept(&path, edits::edit(site, &path, style, true, &mut draw));
            }
            8..=9 => accept(&path, edits::rewrite_in_a_tick(site, &path, &mut draw)),
            10..=11 => accept(&path, edits::replace(site, &path, false, &mut draw)),
            12 => accept(&path, edits::replace(site, &path, true, &mut draw)),
            13 => accept(&path, edits::delete(site, &path)),
            _ => accept(&path, edits::recreate(site, &path, &mut draw)),
        }
    }
}

/// As fast as it goes, in spurts, on the very files that the other nodes do the same to: between two
/// steps of a publication there is room for a whole write.
pub fn hot(site: &Site, mut draw: Draw, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        edits::pause(Duration::from_millis(50 + draw.below(300)), stop);
        let path = format!("hot/f{}", draw.below(HOT_FILES));
        let Some(_claim) = site.claim(&path) else { continue };
        site.make_parents(&path).unwrap();
        let way = draw.below(4);
        for _ in 0..HOT_WRITES {
            match way {
                0 | 1 => accept(&path, edits::replace(site, &path, false, &mut draw)),
                2 => accept(&path, edits::rewrite_in_a_tick(site, &path, &mut draw)),
                _ => accept(&path, edits::recreate(site, &path, &mut draw)),
            }
        }
    }
}

fn turn(node: usize) -> (String, Vec<String>) {
    let dir = format!("turn/{}", NODES[node]);
    let paths = (0..TURN_FILES).map(|file| format!("{dir}/f{file:02}")).collect();
    (dir, paths)
}

/// Files that are written all at once on this node, to be published all at once on the others.
pub fn turns(site: &Site, mut draw: Draw, stop: &AtomicBool) {
    let (_, paths) = turn(site.index);
    site.make_parents(&paths[0]).unwrap();
    while !stop.load(Ordering::Relaxed) {
        edits::replace_all(site, &paths, "AllAtOnce", Duration::ZERO, &mut draw, || {});
        edits::pause(Duration::from_millis(draw.below(800)), stop);
    }
}

/// Replaces such files of another node in the very moment in which chainsync publishes them here.
pub fn ambushes(site: &Site, mut draw: Draw, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let other = (site.index + 1 + draw.below(2) as usize) % 3;
        let (dir, paths) = turn(other);
        let Some(_claim) = site.claim(&dir) else { continue };
        edits::ambush(site, &paths, stop, &mut draw);
        // Then its node has its turn again.
        edits::pause(Duration::from_millis(draw.below(600)), stop);
    }
}

/// Keeps shared files open for long.
pub fn patient(site: &Site, mut draw: Draw, stop: &AtomicBool, appends: bool) {
    while !stop.load(Ordering::Relaxed) {
        pace(&mut draw);
        let path = shared_path(site, &mut draw);
        let Some(_claim) = site.claim(&path) else { continue };
        let long = Duration::from_millis([100, 1000, 12_000][draw.below(3) as usize]);
        if appends {
            accept(&path, edits::append_for_long(site, &path, long, stop, &mut draw));
        } else {
            accept(&path, edits::hold(site, &path, long, stop, &mut draw));
        }
    }
}

/// On paths that nobody else writes: what this writer left there is there, at any time and on its own
/// node, until it writes again.
pub fn private(site: &Site, mut draw: Draw, stop: &AtomicBool) {
    let node = NODES[site.index];
    let mut left: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let file = |draw: &mut Draw| format!("private/{node}/f{}", draw.below(PRIVATE_FILES));
    site.make_parents(&file(&mut draw)).unwrap();
    while !stop.load(Ordering::Relaxed) {
        pace(&mut draw);
        let path = file(&mut draw);
        if !is_as_left(site, &path, left.get(&path)) {
            return;
        }
        let parent = left.get(&path).map(|content| content::parse(content).unwrap());
        match draw.below(10) {
            0..=4 => {
                let style = STYLES[draw.below(STYLES.len() as u64) as usize];
                let content = edits::edit(site, &path, style, true, &mut draw).unwrap();
                left.insert(path.clone(), content);
            }
            5 if parent.is_some() => {
                let content = edits::rewrite_in_a_tick(site, &path, &mut draw).unwrap();
                left.insert(path.clone(), content);
            }
            6 | 7 => {
                // Plain: as most programs truncate and rename.
                let id = site.ledger.next_id(site.index);
                let content = content::record(id, parent, edits::length(&mut draw));
                let how = "Plain";
                site.ledger.announce(id, parent, &path, how, &content, State::Announced);
                if draw.below(2) == 0 {
                    let name = format!("{id:016x}");
                    std::fs::write(site.prepared.join(&name), &content).unwrap();
                    site.bring(&name, &path, RenameFlags::empty()).unwrap();
                } else {
                    let _in_place = site.in_place(&path);
                    std::fs::write(site.path.join(&path), &content).unwrap();
                }
                site.ledger.finish(id);
                left.insert(path.clone(), content);
            }
            8 if parent.is_some() => {
                std::fs::remove_file(site.path.join(&path)).unwrap();
                site.ledger.took(site.index, &path, parent.unwrap());
                left.remove(&path);
            }
            9 if parent.is_some() => {
                let other = file(&mut draw);
                if other == path || !is_as_left(site, &other, left.get(&other)) {
                    continue;
                }
                let over = left.get(&other).map(|content| content::parse(content).unwrap());
                site.ledger.note(&format!("{path}: {node} renames it to {other}"));
                site.ledger.put(&other, parent.unwrap());
                std::fs::rename(site.path.join(&path), site.path.join(&other)).unwrap();
                if let Some(over) = over {
                    site.ledger.took(site.index, &other, over);
                }
                let content = left.remove(&path).unwrap();
                site.ledger.expect(&other, Some(&content));
                left.insert(other, content);
            }
            _ => {}
        }
        site.ledger.expect(&path, left.get(&path).map(Vec::as_slice));
    }
}

fn is_as_left(site: &Site, path: &str, left: Option<&Vec<u8>>) -> bool {
    let found = match site.read(path) {
        Ok(found) => Some(found),
        Err(Errno::NOENT) => None,
        Err(error) => panic!("{path}: {error}"),
    };
    if found.as_ref() == left {
        return true;
    }
    let name = |content: Option<&Vec<u8>>| match content {
        Some(content) => content::parse(content).map_or_else(|why| why, |id| format!("{id:016x}")),
        None => "nothing".to_owned(),
    };
    let node = NODES[site.index];
    let (left, found) = (name(left), name(found.as_ref()));
    site.ledger.violated(format!(
        "{path}: on {node} only {node} writes it, left {left}, and finds {found}"
    ));
    false
}

/// Directories and files in one burst, in several ways; and away with them again.
pub fn bursts(site: &Site, mut draw: Draw, stop: &AtomicBool) {
    let node = NODES[site.index];
    let repository = has_git().then(|| make_repository(site));
    let mut alive: Vec<String> = Vec::new();
    site.make_parents(&format!("burst/{node}/x")).unwrap();
    while !stop.load(Ordering::Relaxed) {
        edits::pause(Duration::from_millis(100 + draw.below(1200)), stop);
        let number = site.number();
        let path = format!("burst/{node}/{number}");
        let target = site.path.join(&path);
        match (draw.below(5), &repository) {
            (0, Some(repository)) => {
                let hard_links = draw.below(2) == 0;
                clone(repository, &target, hard_links);
                site.ledger.note(&format!("{path}: {node} has cloned it with git"));
                // A program that knows nothing of records: what is there when it is finished, is it.
                for (file, content) in read_tree(&target, &path) {
                    site.ledger.foreign(&file, &content);
                }
            }
            (way, _) => {
                let source = site.prepared.join(number.to_string());
                let how = ["MkdirAndEcho", "MoveIn", "Copy", "Tar"][way as usize % 4];
                let ids = prepare(site, &source, &path, how, &mut draw);
                match how {
                    "MkdirAndEcho" => make_one_by_one(&source, &target),
                    "MoveIn" => std::fs::rename(&source, &target).unwrap(),
                    "Copy" => run(Command::new("cp").arg("-r").arg(&source).arg(&target)),
                    _ => {
                        let archive = site.prepared.join(format!("{number}.tar"));
                        run(Command::new("tar")
                            .arg("cf")
                            .arg(&archive)
                            .arg("-C")
                            .arg(&site.prepared)
                            .arg(number.to_string()));
                        let parent = target.parent().unwrap();
                        run(Command::new("tar").arg("xf").arg(&archive).arg("-C").arg(parent));
                    }
                }
                ids.into_iter().for_each(|id| site.ledger.finish(id));
                if how != "MoveIn" {
                    std::fs::remove_dir_all(&source).unwrap();
                }
            }
        }
        alive.push(path);
        if alive.len() > BURSTS_MAX {
            let old = alive.remove(draw.below(alive.len() as u64 - 1) as usize);
            forget(site, &old);
            if draw.below(2) == 0 {
                let trashed = site.take(&old).unwrap();
                std::fs::remove_dir_all(site.trash.join(trashed)).unwrap();
            } else {
                std::fs::remove_dir_all(site.path.join(&old)).unwrap();
            }
        }
    }
}

/// Nothing below a path is expected any more; what was there was deleted by who had made it.
fn forget(site: &Site, path: &str) {
    site.ledger.note(&format!("{path}: {} deletes it all", NODES[site.index]));
    let below = format!("{path}/");
    let mut books = site.ledger.books();
    let ids: Vec<_> =
        books.writes.values().filter(|it| it.path.starts_with(&below)).map(|it| it.id).collect();
    books.taken.extend(ids);
    books.expected.retain(|it, _| !it.starts_with(&below));
}

const BURST_FILES: [&str; 12] = [
    "f",
    "a/f",
    "a/b/c/f",
    "a/b/c/g",
    "a/b/d/f",
    "a/e/f",
    "h/i/j/k/f",
    "h/i/j/k/g",
    "h/i/j/k/h",
    "h/f",
    "l/f",
    "l/m/f",
];

fn prepare(site: &Site, source: &Path, path: &str, how: &str, draw: &mut Draw) -> Vec<content::Id> {
    let make = |name: &&str| {
        let id = site.ledger.next_id(site.index);
        let content = content::record(id, None, edits::length(draw));
        let path = format!("{path}/{name}");
        site.ledger.announce(id, None, &path, how, &content, State::Announced);
        site.ledger.expect(&path, Some(&content));
        let file = source.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, &content).unwrap();
        id
    };
    BURST_FILES.iter().map(make).collect()
}

/// `mkdir -p a/b/c && echo > a/b/c/f`
fn make_one_by_one(source: &Path, target: &Path) {
    for name in BURST_FILES {
        let content = std::fs::read(source.join(name)).unwrap();
        let file = target.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
}

fn has_git() -> bool {
    let found = Command::new("git").arg("--version").output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("left out: git clone, there is no git here");
    }
    found
}

fn git(home: &Path) -> Command {
    let mut git = Command::new("git");
    git.env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    for (key, value) in [("NAME", "nobody"), ("EMAIL", "nobody@localhost")] {
        git.env(format!("GIT_AUTHOR_{key}"), value).env(format!("GIT_COMMITTER_{key}"), value);
    }
    git
}

fn make_repository(site: &Site) -> std::path::PathBuf {
    let repository = site.prepared.join("repository");
    for (number, name) in BURST_FILES.iter().enumerate() {
        let file = repository.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{name} of {}\n", NODES[site.index]).repeat(number)).unwrap();
    }
    let at =
        |arguments: &[&str]| run(git(&site.prepared).arg("-C").arg(&repository).args(arguments));
    at(&["init", "--quiet"]);
    at(&["add", "."]);
    at(&["commit", "--quiet", "--message", "all"]);
    repository
}

fn clone(repository: &Path, target: &Path, hard_links: bool) {
    let mut git = git(repository.parent().unwrap());
    git.args(["clone", "--quiet"]);
    if !hard_links {
        git.arg("--no-hardlinks");
    }
    run(git.arg(repository).arg(target));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn read_tree(dir: &Path, path: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(read_tree(&entry.path(), &path));
        } else {
            found.push((path, std::fs::read(entry.path()).unwrap()));
        }
    }
    found
}

/// Swaps a directory for a symlink that leads out of the share, and back. Other nodes write into that
/// directory meanwhile: what chainsync publishes there must not go where the symlink leads.
pub fn swaps(site: &Site, mut draw: Draw, stop: &AtomicBool, outside: &Path) {
    let node = NODES[site.index];
    let path = format!("swap/{node}");
    site.make_parents(&format!("{path}/x")).unwrap();
    while !stop.load(Ordering::Relaxed) {
        edits::pause(Duration::from_millis(draw.below(2500)), stop);
        site.ledger.note(&format!("{path}: {node} swaps it for a symlink"));
        let away = match site.take(&path) {
            Ok(away) => away,
            Err(error) => {
                accept::<()>(&path, Err(error));
                accept(&path, site.make_parents(&format!("{path}/x")));
                continue;
            }
        };
        let (parent, name) = site.parent(&path).unwrap();
        accept(&path, rustix::fs::symlinkat(outside, &parent, name));
        edits::pause(Duration::from_millis([1, 30, 700][draw.below(3) as usize]), stop);
        loop {
            // The symlink, or what chainsync has put there meanwhile: it goes, unseen, as with `mv -T`
            // of the directory to its place. The audit looks into the trash.
            accept(&path, site.take(&path));
            match site.put_back(&away, &path) {
                Ok(()) => break,
                Err(error) => accept::<()>(&path, Err(error)),
            }
        }
        site.ledger.note(&format!("{path}: {node} has put it back"));
        if draw.below(3) == 0 {
            // What is in there is touched, so that directories are descended into.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            drop(site.open(&path, flags));
        }
    }
}
