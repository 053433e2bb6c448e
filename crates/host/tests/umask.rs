//! Modes under a umask. Alone in its file: the umask belongs to the whole process.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use chainsync_env::Vfs;
use chainsync_host::HostVfs;

#[test]
fn modes_are_exact_under_a_umask() {
    let directory = tempfile::tempdir().unwrap();
    let vfs = HostVfs::open(directory.path()).unwrap();
    let root = vfs.open_dir(None).unwrap();
    rustix::process::umask(0o277.into());
    let modes = [0o000, 0o755, 0o1777, 0o2770, 0o7777];
    let made: Vec<io::Result<()>> = modes
        .iter()
        .map(|mode| vfs.make_dir(&root, format!("{mode:o}").as_bytes(), *mode))
        .collect();
    let file = vfs.create_file(&root, b"f", 0o600);
    // One whose bits the umask spares, one that it does not spare, and both again: what was learnt of
    // the one does not hold for the other.
    let file_modes = [0o400, 0o664, 0o400, 0o664, 0o777, 0o000];
    let made_files: Vec<_> = (0..)
        .zip(file_modes)
        .map(|(at, mode)| vfs.create_file(&root, format!("f{at}").as_bytes(), mode))
        .collect();
    rustix::process::umask(0o022.into());
    for (made, mode) in made_files.into_iter().zip(file_modes) {
        let made = made.unwrap();
        assert_eq!(vfs.stat_file(&made).unwrap().mode, mode, "{mode:o}");
        vfs.write_at(&made, b"whatever its mode", 0).unwrap();
    }
    assert_errno(vfs.create_file(&root, b"set-id", 0o4755), libc::EINVAL);
    for (mode, made) in modes.iter().zip(made) {
        made.unwrap();
        let stat = vfs.stat(&root, format!("{mode:o}").as_bytes()).unwrap();
        assert_eq!(stat.mode, *mode, "{mode:o}");
    }
    let file = file.unwrap();
    assert_eq!(vfs.stat_file(&file).unwrap().mode, 0o600);
    vfs.set_file_mode(&file, 0o6755).unwrap();
    assert_eq!(vfs.stat_file(&file).unwrap().mode, 0o6755);
    assert_errno(vfs.set_file_mode(&file, 0o10_000), libc::EINVAL);
    vfs.set_dir_mode(&root, 0o2750).unwrap();
    assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o7777, 0o2750);
    // A set-group-id parent hands its bit down, but not to a mode that does not have it.
    vfs.make_dir(&root, b"plain", 0o755).unwrap();
    assert_eq!(vfs.stat(&root, b"plain").unwrap().mode, 0o755);
    assert_errno(vfs.make_dir(&root, b"plain", 0o755), libc::EEXIST);
}

#[track_caller]
fn assert_errno<T>(result: io::Result<T>, errno: i32) {
    let error = result.err().expect("an error");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}
