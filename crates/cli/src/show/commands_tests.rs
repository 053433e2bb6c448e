//! What people read, pinned.

use chainsync_engine::answers::{Difference, MemberDoubt, VerifiedMember, Version};

use super::*;

const NOON: u64 = 1_760_000_000_000;

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

fn member(node: &str, missing: Option<&str>) -> VerifiedMember {
    let missing = missing.map(str::to_owned);
    VerifiedMember { node: node.to_owned(), missing, halted: None, entries: 3000 }
}

fn verified() -> VerifyReport {
    VerifyReport {
        share: "images".to_owned(),
        deep: false,
        equal: true,
        members: vec![member("apollo", None), member("chronos", None), member("hermes", None)],
        differences: Vec::new(),
        more: false,
        unsettled: Vec::new(),
        doubts: Vec::new(),
        elapsed_ms: 1234,
        notes: Vec::new(),
    }
}

#[test]
fn verify_reports() {
    let equal = verified();
    let mut different = VerifyReport { equal: false, deep: true, ..verified() };
    different.members[2].halted = Some("paused".to_owned());
    let version =
        |nodes: &[&str], shows: &str| Version { nodes: strings(nodes), shows: shows.to_owned() };
    different.differences.push(Difference {
        path: r"a/\xff.jpg".to_owned(),
        differs: strings(&["content", "mtime"]),
        nodes: vec![
            version(&["apollo", "hermes"], "file of 5 bytes, blake3 0123456789ab…, mode 0644"),
            version(&["chronos"], "nothing"),
        ],
    });
    different.doubts.push(MemberDoubt {
        node: "hermes".to_owned(),
        path: "b".to_owned(),
        what: "the disk does not show what the index says: content".to_owned(),
    });
    different.unsettled.push("hot.log".to_owned());
    different.notes.push("not all changes have reached chronos".to_owned());
    let mut unknown = VerifyReport { equal: false, ..verified() };
    unknown.members[1].missing = Some("unreachable: it does not answer".to_owned());
    let mut many = VerifyReport { equal: false, more: true, ..verified() };
    let one = Difference { path: "p".to_owned(), differs: strings(&["mode"]), nodes: Vec::new() };
    many.differences = vec![one; LINES_MAX + 7];
    let many = verify(&[many]);
    assert_eq!(many.matches("p differs (mode)").count(), LINES_MAX);
    assert!(many.ends_with("  and at least 7 more differing paths: see --json\n"), "{many}");
    insta::assert_snapshot!(verify(&[equal, different, unknown]));
}

#[test]
fn pause_and_resume_reports() {
    let report = |before: Option<&str>, refused: Option<&str>, next: Option<&str>| MoveReport {
        share: "images".to_owned(),
        moving: refused.is_none(),
        before: before.map(str::to_owned),
        refused: refused.map(str::to_owned),
        next: next.map(str::to_owned),
    };
    let halted = "1200 of 2000 paths are gone";
    let text = paused(&[report(None, None, None), report(Some(halted), None, None)])
        + "---\n"
        + &resumed(&[
            report(Some("paused"), None, None),
            report(None, None, None),
            report(Some(halted), Some(halted), Some("mount what is missing")),
        ]);
    insta::assert_snapshot!(text);
}

#[test]
fn rescan_reports() {
    let found = |path: &str, what: &str, detail: &str| FoundPath {
        path: path.to_owned(),
        what: what.to_owned(),
        detail: detail.to_owned(),
    };
    let base =
        RescanReport { share: "images".to_owned(), entries: 3000, ..RescanReport::default() };
    let dry = RescanReport {
        dry_run: true,
        created: 1,
        changed: 1,
        deleted: 1,
        writing: 2,
        problems: 1,
        elapsed_ms: 55,
        paths: vec![
            found("new", "created", "file"),
            found("old", "changed", "content, mtime"),
            found("gone", "deleted", "directory"),
            found("pipe", "problem", "a named pipe is not replicated"),
        ],
        ..base.clone()
    };
    let dry_nothing = RescanReport { dry_run: true, ..base.clone() };
    let real = RescanReport { created: 12, elapsed_ms: 1500, ..base.clone() };
    let refused = RescanReport { refused: Some("paused".to_owned()), ..base.clone() };
    insta::assert_snapshot!(rescanned(&[dry, dry_nothing, real, base, refused]));
}

#[test]
fn import_reports() {
    let excluded = FoundPath {
        path: "debug.log".to_owned(),
        what: "excluded".to_owned(),
        detail: String::new(),
    };
    insta::assert_snapshot!(import(&ImportReport {
        share: "images".to_owned(),
        path: "/var/www/html/images".to_owned(),
        files: 3000,
        directories: 51,
        symlinks: 1,
        bytes: 15_360_000,
        writing: 1,
        excluded: 1,
        problems: 0,
        paths: vec![excluded],
        more: false,
    }));
}

#[test]
fn conflict_reports() {
    let side = |node: Option<&str>| ConflictSide {
        node: node.map(str::to_owned),
        replica: "00000000000000ab".to_owned(),
        made_ms: NOON - 5000,
    };
    let one = ConflictShown {
        id: 7,
        path: r"avatars/\xff.png".to_owned(),
        noticed_ms: NOON,
        loser: side(Some("hermes")),
        winner: side(Some("apollo")),
        shows: "file of 5 bytes, blake3 0123456789ab…, mode 0644".to_owned(),
        restorable: true,
        content: "in the archive of this node as 0123".to_owned(),
    };
    let lost = ConflictShown {
        id: 6,
        loser: side(None),
        restorable: false,
        content: "not in the archive of this node".to_owned(),
        ..one.clone()
    };
    let list =
        ConflictList { share: "images".to_owned(), total: 2, conflicts: vec![one.clone(), lost] };
    let none = ConflictList { share: "videos".to_owned(), total: 0, conflicts: Vec::new() };
    let now = Now::at(NOON as i64);
    let report = RestoreReport {
        share: "images".to_owned(),
        id: 7,
        path: Some("avatars/a.png".to_owned()),
        refused: None,
        replaced: true,
    };
    let refused = RestoreReport {
        path: None,
        refused: Some("its content is not in the archive of this node".to_owned()),
        ..report.clone()
    };
    let all = [list, none];
    insta::assert_snapshot!(format!(
        "{}---\n{}---\n{}{}",
        conflicts(&all, &now),
        conflict(&all, &now),
        restored(&report),
        restored(&refused)
    ));
}
