//! What is done: each case in a directory of its own, in steps; steps of different cases are mixed.
//!
//! To add a case: a function for each step, a line in `all`. To add a size: a line in `SIZES`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;

use rustix::fs::FileType;

use super::draw::Draw;
use super::place::Place;

pub struct Case {
    pub name: &'static str,
    pub steps: &'static [fn(&mut World)],
}

/// Where a case works.
pub struct World {
    pub root: Place,
    /// On the same file system, not replicated: things are moved in and out by one rename.
    pub outside: Place,
    pub draw: Draw,
    /// Files that a writer keeps open from step to step.
    pub open: Vec<File>,
}

impl Case {
    pub fn seed(&self) -> u64 {
        self.name.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte))
    }
}

pub fn all() -> impl Iterator<Item = &'static Case> {
    CASES.iter().filter(|case| is_root() || !case.name.starts_with("root-"))
}

const CASES: &[Case] = &[
    Case {
        name: "sizes",
        steps: &[sizes, sizes_changed, sizes_appended, sizes_swapped, sizes_moved],
    },
    Case { name: "large", steps: &[large, large_changed, large_moved, large_gone] },
    Case { name: "empty", steps: &[empty, empty_filled, empty_gone] },
    Case { name: "dirs", steps: &[dirs, dirs_moved, dirs_gone] },
    Case { name: "sparse", steps: &[sparse, sparse_changed] },
    Case { name: "symlinks", steps: &[symlinks, symlinks_turned, symlinks_gone] },
    Case { name: "replaced", steps: &[replaced, replaced_once, replaced_again] },
    Case {
        name: "links",
        steps: &[links, links_written, links_written_back, links_apart, links_gone],
    },
    Case { name: "names", steps: &[names, names_changed, names_moved, names_gone] },
    Case { name: "limit", steps: &[limit, limit_changed] },
    Case { name: "modes", steps: &[modes, modes_changed, modes_back] },
    Case { name: "root-modes", steps: &[root_modes, root_modes_changed] },
    Case { name: "times", steps: &[times, times_changed, times_alone] },
    Case { name: "special", steps: &[special, special_turned] },
    Case {
        name: "current",
        steps: &[current, current_next, current_next, current_next, current_last],
    },
    Case { name: "release", steps: &[release, release_in, release_moved, release_next] },
    Case { name: "renamed", steps: &[renamed, renamed_often, renamed_often, renamed_away] },
    Case { name: "exchanged", steps: &[exchanged, exchanged_once, exchanged_often] },
    Case { name: "deep", steps: &[deep, deep_moved, deep_gone] },
    Case { name: "slow", steps: &[slow, slow_more, slow_more, slow_more, slow_end] },
    Case { name: "saved", steps: &[saved, saved_again, saved_again, saved_again] },
    Case { name: "again", steps: &[again, again_made, again_used] },
    Case { name: "tree", steps: &[tree, tree_replaced, tree_gone] },
];

/// Fewer paths than this cannot be left by the cases above.
pub const LEFT_MIN: usize = 2000;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The paths that cannot be replicated, as `status` shows them.
pub fn problems() -> BTreeSet<String> {
    let mut paths =
        BTreeSet::from(["special/fifo", "special/socket", "special/was-file"].map(String::from));
    if is_root() {
        paths.insert("special/device".to_owned());
    }
    paths.insert(format!("limit/{}", limit_dir()));
    paths
}

/// Whether a path is one of the writer's alone.
pub fn is_special(path: &[u8]) -> bool {
    path.starts_with(b"special/") || path.len() > PATH_BYTES_MAX
}

pub fn remove_special(root: &Place) {
    root.remove("special");
    root.unlink(format!("limit/{}/{TOO_LONG}", limit_dir()));
}

/// Around what is read at once, what a page holds, and what compresses well.
const SIZES: &[usize] = &[1, 2, 100, 4095, 4096, 4097, 65_536, 300_000, 1_048_576];

fn sizes(world: &mut World) {
    for (index, size) in SIZES.iter().enumerate() {
        world.root.write(format!("random-{index}"), world.draw.bytes(*size));
        world.root.write(format!("even-{index}"), vec![b'e'; *size]);
    }
}

fn sizes_changed(world: &mut World) {
    for (index, size) in SIZES.iter().enumerate() {
        // In place; of the same length, so that the size tells nothing.
        world.root.write(format!("random-{index}"), world.draw.bytes(*size));
        world.root.write_at(format!("even-{index}"), b"E", *size as u64 / 2);
    }
}

fn sizes_appended(world: &mut World) {
    for (index, size) in SIZES.iter().enumerate().skip(1) {
        if index + 1 < SIZES.len() {
            world.root.append(format!("random-{index}"), b"and more");
        }
        world.root.set_len(format!("even-{index}"), *size as u64 / 2);
    }
}

fn sizes_swapped(world: &mut World) {
    for (index, size) in SIZES.iter().enumerate() {
        let incoming = format!(".random-{index}.tmp");
        world.root.write(&incoming, world.draw.bytes(*size));
        world.root.rename(&incoming, format!("random-{index}"));
    }
}

fn sizes_moved(world: &mut World) {
    for index in 0..SIZES.len() {
        world.root.rename(format!("random-{index}"), format!("moved-{index}"));
        if index % 2 == 0 {
            world.root.unlink(format!("even-{index}"));
        }
    }
}

/// Larger than what travels within a batch: a few chunks, and many.
const LARGE: [usize; 2] = [3 << 20, 30 << 20];

fn large(world: &mut World) {
    for size in LARGE {
        world.root.write(format!("file-{size}"), world.draw.bytes(size));
    }
    world.root.write("grows", b"small at first");
    world.root.set_len("hole", LARGE[1] as u64);
}

fn large_changed(world: &mut World) {
    for size in LARGE {
        world.root.write_at(format!("file-{size}"), world.draw.bytes(5000), size as u64 / 2);
    }
    world.root.write("grows", world.draw.bytes(LARGE[0]));
    world.root.write_at("hole", b"in the middle of nothing", LARGE[1] as u64 / 3);
}

fn large_moved(world: &mut World) {
    for size in LARGE {
        world.root.append(format!("file-{size}"), b"and a little more");
        world.root.rename(format!("file-{size}"), format!("moved-{size}"));
    }
    world.root.chmod("grows", 0o600);
    world.root.touch("hole", 1_000_000_000_000_000_001);
}

fn large_gone(world: &mut World) {
    let incoming = world.draw.bytes(LARGE[0]);
    world.root.write("incoming", incoming);
    world.root.rename("incoming", "grows");
    world.root.set_len(format!("moved-{}", LARGE[1]), 10);
    world.root.unlink(format!("moved-{}", LARGE[0]));
}

fn empty(world: &mut World) {
    for name in ["stays", "filled", "gone", "emptied"] {
        world.root.write(name, b"");
    }
    world.root.write("emptied", b"something");
}

fn empty_filled(world: &mut World) {
    world.root.append("filled", b"something");
    world.root.set_len("emptied", 0);
}

fn empty_gone(world: &mut World) {
    world.root.unlink("gone");
    world.root.write("filled", b"");
    world.root.append("filled", b"something else");
}

fn dirs(world: &mut World) {
    for path in ["empty", "a", "a/b", "a/b/c", "gone", "gone/too", "named"] {
        world.root.mkdir(path);
    }
}

fn dirs_moved(world: &mut World) {
    world.root.rename("a/b", "b");
    world.root.rename("named", "b/c/named");
    world.root.rmdir("gone/too");
}

fn dirs_gone(world: &mut World) {
    world.root.rmdir("gone");
    world.root.rmdir("a");
    world.root.mkdir("gone");
}

const SPARSE_BYTES: u64 = 1_000_000;

fn sparse(world: &mut World) {
    world.root.set_len("hole", SPARSE_BYTES);
    world.root.write_at("end", b"the end", SPARSE_BYTES);
    world.root.write_at("middle", b"the middle", SPARSE_BYTES / 2);
    world.root.set_len("middle", SPARSE_BYTES);
}

fn sparse_changed(world: &mut World) {
    world.root.write_at("hole", b"no more", SPARSE_BYTES / 3);
    world.root.set_len("end", SPARSE_BYTES / 2);
}

fn symlinks(world: &mut World) {
    world.root.mkdir("dir");
    world.root.write("dir/file", b"behind a symlink");
    for (target, path) in SYMLINKS {
        world.root.symlink(target, path);
    }
    world.root.symlink([b'x'; 4095], "long");
    world.root.symlink([b'n'; 255], "one-name");
}

const SYMLINKS: [(&[u8], &str); 8] = [
    (b"nowhere", "dangling"),
    (b"/etc/hostname", "absolute"),
    (b"dir", "to-dir"),
    (b"dir/file", "to-file"),
    (b"itself", "itself"),
    (b"../../..", "out"),
    (b"\xff\n-\x01", "bytes"),
    (b".", "here"),
];

fn symlinks_turned(world: &mut World) {
    for (_, path) in SYMLINKS {
        world.root.symlink(b"turned", format!("{path}.tmp"));
        world.root.rename(format!("{path}.tmp"), path);
    }
    world.root.unlink("long");
    world.root.symlink([b'y'; 4095], "long");
}

fn symlinks_gone(world: &mut World) {
    world.root.unlink("absolute");
    world.root.rename("to-dir", "dir/to-dir");
    world.root.rename("dir", "dir2");
    world.root.symlink("dir2", "dir");
}

/// What a path can be; each is replaced by each other.
const KINDS: [&str; 6] = ["file", "empty", "dir", "tree", "symlink", "symlink-to-dir"];

fn put(world: &mut World, path: &str, kind: &str) {
    let root = &world.root;
    match kind {
        "file" => root.write(path, world.draw.bytes(5000)),
        "empty" => root.write(path, b""),
        "dir" => root.mkdir(path),
        "tree" => {
            root.mkdir(path);
            root.mkdir(format!("{path}/below"));
            root.write(format!("{path}/file"), b"in a tree");
            root.write(format!("{path}/below/file"), world.draw.bytes(100));
            root.symlink("file", format!("{path}/below/symlink"));
        }
        "symlink" => root.symlink("nowhere", path),
        _ => root.symlink("../symlinks", path),
    }
}

fn pairs() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    let pairs = KINDS.into_iter().flat_map(|one| KINDS.into_iter().map(move |other| (one, other)));
    pairs.map(|(one, other)| (one, other, format!("{one}-{other}")))
}

fn replaced(world: &mut World) {
    for (one, _, path) in pairs() {
        put(world, &path, one);
    }
}

fn replaced_once(world: &mut World) {
    for (_, other, path) in pairs() {
        world.root.remove(&path);
        put(world, &path, other);
    }
}

fn replaced_again(world: &mut World) {
    for (index, (one, _, path)) in pairs().enumerate() {
        if index % 3 == 0 {
            world.root.remove(&path);
        } else {
            world.root.remove(&path);
            put(world, &path, one);
        }
    }
}

fn links(world: &mut World) {
    world.root.mkdir("far");
    for name in ["one", "two", "three", "four"] {
        world.root.write(name, format!("{name} at first"));
        world.root.link(name, format!("{name}-too"));
        world.root.link(name, format!("far/{name}"));
    }
    world.root.link("four", "four-outside");
    world.root.rename_into("four-outside", &world.outside, "four");
}

fn links_written(world: &mut World) {
    world.root.write("one", b"written through the first name");
    world.root.append("two-too", b", written through the second");
    world.root.chmod("far/three", 0o600);
    world.root.touch("three-too", 1_234_567_890_123_456_789);
    world.outside.write("four", b"written from outside");
    // Nobody is told of that: a write through a name of ours brings it to light.
    world.root.append("four-too", b" and inside");
}

fn links_written_back(world: &mut World) {
    world.root.append("far/one", b", then through the third");
    world.root.write("two", b"written through the first name again");
    world.root.link("two", "two-new");
    world.root.append("two-new", b", and through a new one");
}

fn links_apart(world: &mut World) {
    world.root.unlink("one");
    world.root.append("one-too", b", one name less");
    // Another file takes one of the names.
    world.root.write("two-apart", b"on its own");
    world.root.rename("two-apart", "two-too");
    world.root.append("far/two", b", and one name is another file");
}

fn links_gone(world: &mut World) {
    world.root.remove("far/two");
    world.root.rename("three-too", "far/three-moved");
    world.root.append("far/three-moved", b", moved and written");
}

/// Names that something between two nodes could trip over.
fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"\xff\xfe\x80"[..],
        b"-rf",
        b"--",
        b"two\nlines",
        b"\x01\x02\x1b[31m",
        b"...",
        b" ",
        b"trailing ",
        b"~",
        b"*?[a]",
        b"!not",
        b"#hash",
        b"back\\slash",
        b"\\x0a",
        b"$(HOME)`id`\"'",
        b".chainsync.not",
        b"chainsync",
        b"tab\tand\rreturn",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
        b"con.aux",
        b"\xed\xa0\x80",
    ]
    .map(<[u8]>::to_vec)
    .into();
    names.push(vec![b'n'; 255]);
    names.push([0xfe; 255].to_vec());
    names.push((1..=255).filter(|byte| *byte != b'/').collect());
    names
}

fn names(world: &mut World) {
    world.root.mkdir("files");
    for name in odd_names() {
        world.root.write([b"files/", &name[..]].concat(), &name);
        world.root.mkdir(&name);
        world.root.symlink(&name, [&name[..], b"/link"].concat());
        world.root.write([&name[..], b"/", &name[..]].concat(), b"inside");
    }
}

fn names_changed(world: &mut World) {
    for name in odd_names() {
        world.root.append([b"files/", &name[..]].concat(), b"!");
        world.root.write([&name[..], b"/", &name[..]].concat(), b"changed");
    }
}

fn names_moved(world: &mut World) {
    for (index, name) in odd_names().into_iter().enumerate() {
        let path = [b"files/", &name[..]].concat();
        if index % 2 == 0 {
            world.root.rename(&path, [&name[..], b"/moved"].concat());
        } else {
            world.root.rename(&path, format!("files/plain-{index}"));
        }
    }
}

fn names_gone(world: &mut World) {
    for (index, name) in odd_names().into_iter().enumerate() {
        if index % 3 == 0 {
            world.root.remove(&name);
        } else {
            world.root.unlink([&name[..], b"/", &name[..]].concat());
        }
    }
}

const PATH_BYTES_MAX: usize = 4096;
/// A name for which the directory of `limit_dir` leaves no room.
const TOO_LONG: &str = "not-to-be-named";

/// With `limit/` before it 4090 bytes: a name of five is the last that fits.
fn limit_dir() -> String {
    format!("{}/", "d".repeat(255)).repeat(15) + &"e".repeat(4090 - 6 - 15 * 256)
}

fn limit(world: &mut World) {
    let path = limit_dir();
    for slash in path.match_indices('/').map(|(index, _)| index).chain([path.len()]) {
        world.root.mkdir(&path[..slash]);
        world.root.write(format!("{}-file", &path[..slash.min(3000)].trim_end_matches('d')), b"x");
    }
    world.root.write(format!("{path}/last1"), b"at the limit");
    world.root.write(format!("{path}/gone2"), b"at the limit too");
    world.root.write(format!("{path}/{TOO_LONG}"), b"beyond it");
}

fn limit_changed(world: &mut World) {
    let path = limit_dir();
    world.root.append(format!("{path}/last1"), b", still");
    world.root.unlink(format!("{path}/gone2"));
    world.root.mkdir(format!("{path}/dir"));
    world.root.symlink("last1", format!("{path}/dir/l"));
}

const MODES: [u32; 6] = [0o400, 0o600, 0o644, 0o755, 0o777, 0o1644];

fn modes(world: &mut World) {
    for mode in MODES {
        world.root.write(format!("file-{mode:o}"), format!("mode {mode:o}"));
        world.root.chmod(format!("file-{mode:o}"), mode);
        world.root.mkdir(format!("dir-{mode:o}"));
        world.root.write(format!("dir-{mode:o}/file"), b"inside");
        world.root.chmod(format!("dir-{mode:o}"), mode | 0o700);
    }
    world.root.mkdir("setgid");
    world.root.chmod("setgid", 0o2775);
    world.root.mkdir("setgid/below");
    world.root.write("setuid", b"never set there");
    world.root.chmod("setuid", 0o4755);
    world.root.mkdir("sticky");
    world.root.chmod("sticky", 0o1777);
}

fn modes_changed(world: &mut World) {
    for mode in MODES {
        world.root.chmod(format!("file-{mode:o}"), 0o640);
        world.root.append(format!("file-{mode:o}"), b", changed");
        world.root.chmod(format!("dir-{mode:o}"), 0o750);
    }
    world.root.chmod("sticky", 0o755);
}

fn modes_back(world: &mut World) {
    for mode in MODES {
        world.root.chmod(format!("file-{mode:o}"), mode);
        world.root.chmod(format!("dir-{mode:o}"), mode | 0o700);
        world.root.write(format!("dir-{mode:o}/more"), b"inside");
    }
}

fn root_modes(world: &mut World) {
    for mode in [0o000, 0o070, 0o007, 0o111, 0o555] {
        world.root.mkdir(format!("dir-{mode:o}"));
        world.root.write(format!("dir-{mode:o}/file"), format!("mode {mode:o}"));
        world.root.chmod(format!("dir-{mode:o}/file"), mode);
        world.root.chmod(format!("dir-{mode:o}"), mode);
    }
}

fn root_modes_changed(world: &mut World) {
    for mode in [0o000, 0o111, 0o555] {
        world.root.append(format!("dir-{mode:o}/file"), b", changed");
        world.root.write(format!("dir-{mode:o}/new"), b"new");
        world.root.chmod(format!("dir-{mode:o}/new"), 0o000);
    }
    world.root.remove("dir-7");
}

/// Nanoseconds since 1970 that ext4, XFS, Btrfs and tmpfs can all store.
const TIMES: [i128; 7] = [
    0,
    1,
    -1,
    -1_500_000_000,
    // 1901, 2001 and 2038, to the nanosecond.
    -2_147_483_647_999_999_999,
    1_000_000_000_123_456_789,
    2_147_483_648_000_000_001,
];

fn times(world: &mut World) {
    for (index, time) in TIMES.into_iter().enumerate() {
        world.root.write(format!("file-{index}"), b"dated");
        world.root.touch(format!("file-{index}"), time);
        world.root.write(format!("empty-{index}"), b"");
        world.root.touch(format!("empty-{index}"), time);
    }
}

fn times_changed(world: &mut World) {
    for (index, time) in TIMES.into_iter().enumerate() {
        // Other bytes, the same size and mtime: what rsync does not see.
        world.root.write(format!("file-{index}"), b"DATED");
        world.root.touch(format!("file-{index}"), time);
    }
}

fn times_alone(world: &mut World) {
    for index in 0..TIMES.len() {
        let time = TIMES[(index + 1) % TIMES.len()];
        world.root.touch(format!("file-{index}"), time);
        world.root.touch(format!("empty-{index}"), time);
    }
}

fn special(world: &mut World) {
    world.root.special("fifo", FileType::Fifo);
    world.root.special("socket", FileType::Socket);
    if is_root() {
        world.root.special("device", FileType::CharacterDevice);
    }
    world.root.write("was-file", b"a file at first");
    world.root.special("will-be-file", FileType::Fifo);
    world.root.write("beside", b"goes as if nothing was there");
}

fn special_turned(world: &mut World) {
    world.root.unlink("was-file");
    world.root.special("was-file", FileType::Fifo);
    world.root.unlink("will-be-file");
    world.root.write("will-be-file", b"a file at last");
}

fn make_release(place: &Place, number: u64, files: u64) {
    place.mkdir(format!("{number}"));
    for index in 0..files {
        if index % 100 == 0 {
            place.mkdir(format!("{number}/d{}", index / 100));
        }
        let content = format!("file {index} of release {number}\n").repeat(index as usize % 40);
        place.write(format!("{number}/d{}/f{index}", index / 100), content);
    }
}

fn current(world: &mut World) {
    make_release(&world.root, 0, 50);
    world.root.symlink("0", "current");
    world.root.symlink("current/d0", "served");
}

/// Upload a release beside the others, turn the symlink in one step, drop the one before last.
fn current_next(world: &mut World) {
    let number = 1 + world.root.names().iter().filter_map(|name| number(name)).max().unwrap();
    make_release(&world.root, number, 50);
    world.root.symlink(format!("{number}"), "current.new");
    world.root.rename("current.new", "current");
    if number > 1 {
        world.root.remove(format!("{}", number - 2));
    }
}

/// Back and forth, faster than anybody reads.
fn current_last(world: &mut World) {
    for round in 0..50 {
        world.root.symlink(format!("{}", 2 + round % 2), "current.new");
        world.root.rename("current.new", "current");
    }
}

fn number(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Files of a release that comes by one rename.
const RELEASE_FILES: u64 = 2000;

fn release(world: &mut World) {
    make_release(&world.outside, 1, RELEASE_FILES);
    make_release(&world.outside, 2, RELEASE_FILES);
}

fn release_in(world: &mut World) {
    world.outside.rename_into("1", &world.root, "live");
}

fn release_moved(world: &mut World) {
    world.root.write("live/d3/f300", b"a hotfix");
    world.root.rename("live", "before");
}

fn release_next(world: &mut World) {
    world.outside.rename_into("2", &world.root, "live");
    world.root.remove("before/d1");
    world.root.rename_into("before/d2", &world.outside, "d2");
}

fn renamed(world: &mut World) {
    world.root.mkdir("name-0");
    for index in 0..30 {
        world.root.mkdir(format!("name-0/d{index}"));
        world.root.write(format!("name-0/d{index}/f"), world.draw.bytes(500));
    }
}

fn renamed_often(world: &mut World) {
    let name = world.root.names().remove(0);
    let first = number(&name[b"name-".len()..]).unwrap();
    for index in first..first + 25 {
        world.root.rename(format!("name-{index}"), format!("name-{}", index + 1));
        // A file is made under every name, and goes on with the directory.
        world.root.write(format!("name-{}/made-{index}", index + 1), b"on the way");
    }
}

fn renamed_away(world: &mut World) {
    let name = world.root.names().remove(0);
    world.root.rename(&name, "kept");
    // Another directory takes the name that was left.
    world.root.mkdir(&name);
    world.root.write([&name[..], b"/f"].concat(), b"another");
    world.root.rename("kept/d1", "kept/d2/d1");
    world.root.rename_into("kept/d3", &world.outside, "d3");
}

fn exchanged(world: &mut World) {
    for side in ["left", "right"] {
        world.root.mkdir(side);
        for index in 0..20 {
            world.root.write(format!("{side}/f{index}"), format!("{side} {index}"));
        }
        world.root.mkdir(format!("{side}/only-{side}"));
        world.root.write(format!("file-{side}"), world.draw.bytes(3000));
    }
    world.root.symlink("left", "symlink");
}

fn exchanged_once(world: &mut World) {
    world.root.exchange("left", "right");
    world.root.exchange("file-left", "file-right");
    world.root.exchange("symlink", "left/f3");
    world.root.exchange("file-left", "right/only-left");
}

fn exchanged_often(world: &mut World) {
    for _ in 0..7 {
        world.root.exchange("left", "right");
        world.root.exchange("left/f1", "right/f2");
    }
}

fn deep_path(levels: usize) -> String {
    vec!["d"; levels].join("/")
}

fn deep(world: &mut World) {
    for levels in 1..=150 {
        world.root.mkdir(deep_path(levels));
    }
    world.root.write(deep_path(150) + "/bottom", b"at the bottom");
}

fn deep_moved(world: &mut World) {
    world.root.rename(deep_path(75), "half");
    world.root.write(format!("half/{}/new", deep_path(75)), b"at the new bottom");
}

fn deep_gone(world: &mut World) {
    world.root.remove(deep_path(20));
}

fn slow(world: &mut World) {
    for name in ["kept", "renamed", "deleted"] {
        let mut file = world.root.begin(name);
        file.write_all(b"begun").unwrap();
        world.open.push(file);
    }
}

fn slow_more(world: &mut World) {
    for file in &mut world.open {
        file.write_all(b", more").unwrap();
    }
    if world.root.names().contains(&b"deleted".to_vec()) {
        world.root.rename("renamed", "renamed-under-way");
        world.root.unlink("deleted");
    }
}

fn slow_end(world: &mut World) {
    slow_more(world);
    world.open.clear();
}

fn saved(world: &mut World) {
    world.root.write("document", b"first");
    world.root.write("config", b"first");
}

/// As editors save: by a backup and a new file, by a rename, by writing and deleting.
fn saved_again(world: &mut World) {
    if world.root.names().contains(&b"document~".to_vec()) {
        world.root.unlink("document~");
    }
    world.root.rename("document", "document~");
    world.root.write("document", world.draw.bytes(2000));
    for _ in 0..10 {
        world.root.write(".config.swp", world.draw.bytes(700));
        world.root.rename(".config.swp", "config");
    }
    world.root.write("4913", b"a probe");
    world.root.unlink("4913");
}

/// Directories that are emptied, deleted and made again; nobody else may delete the new one.
const AGAIN: usize = 200;

fn again(world: &mut World) {
    for dir in 0..AGAIN {
        world.root.mkdir(format!("d{dir}"));
        world.root.write(format!("d{dir}/f"), b"deleted soon");
    }
}

fn again_made(world: &mut World) {
    for dir in 0..AGAIN {
        world.root.remove(format!("d{dir}"));
        world.root.mkdir(format!("d{dir}"));
    }
}

fn again_used(world: &mut World) {
    for dir in (0..AGAIN).step_by(2) {
        world.root.write(format!("d{dir}/g"), b"made in the new one");
    }
}

fn tree(world: &mut World) {
    for dir in 0..20 {
        world.root.mkdir(format!("d{dir}"));
        for file in 0..10 {
            world.root.write(format!("d{dir}/f{file}"), world.draw.bytes(200));
        }
    }
}

/// Deleted and made again at once, as by a checkout.
fn tree_replaced(world: &mut World) {
    for dir in 0..20 {
        world.root.remove(format!("d{dir}"));
        world.root.mkdir(format!("d{dir}"));
        for file in 5..15 {
            world.root.write(format!("d{dir}/f{file}"), world.draw.bytes(100));
        }
    }
}

fn tree_gone(world: &mut World) {
    for dir in 10..20 {
        world.root.remove(format!("d{dir}"));
    }
}
