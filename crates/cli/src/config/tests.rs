//! One snapshot for each thing that can be wrong with a configuration: what a person sees is the
//! contract. Paths of the temporary directory read `[dir]`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;
use chainsync_host::PrivateKey;

const APOLLO: &str = "cs1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const CHRONOS: &str = "cs1baaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Good as it stands, when nothing is opened.
fn good() -> String {
    format!(
        r#"node   = "apollo"
key    = "/var/lib/chainsync/node.key"
state  = "/var/lib/chainsync"
listen = "0.0.0.0:7420"

[nodes.apollo]
address = "10.0.0.1:7420"
id      = "{APOLLO}"
[nodes.chronos]
address = "[2001:db8::2]:7420"
id      = "{CHRONOS}"

[shares.images]
path    = "/var/www/html/images"
ring    = ["apollo", "chronos"]
exclude = ["*.log", "/cache/**"]
"#
    )
}

/// `good` with one thing replaced, rendered.
fn with(from: &str, to: &str) -> String {
    let text = good();
    assert!(text.contains(from), "nothing to replace");
    shown(&text.replacen(from, to, 1), Open::Nothing)
}

fn shown(text: &str, open: Open) -> String {
    let (config, found) = parse(text, open, None);
    let errors = found.iter().any(|found| found.level == Level::Error);
    assert_eq!(config.is_none() || errors, errors, "no configuration without an error");
    let all: Vec<_> = found.iter().map(|found| render("apollo.toml", text, found)).collect();
    all.join("\n\n")
}

/// A directory where everything exists: the file for it, and `shown` without its name.
fn opened(change: impl FnOnce(&Path, String) -> String) -> String {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let secret = PrivateKey::generate().unwrap();
    secret.write_new(&root.join("node.key")).unwrap();
    std::fs::create_dir(root.join("images")).unwrap();
    std::fs::create_dir(root.join("state")).unwrap();
    let text = good()
        .replace("/var/lib/chainsync/node.key", root.join("node.key").to_str().unwrap())
        .replace("/var/lib/chainsync", root.join("state").to_str().unwrap())
        .replace("/var/www/html/images", root.join("images").to_str().unwrap())
        .replace(APOLLO, &secret.public_id().to_string());
    let text = change(&root, text);
    let id = secret.public_id().to_string();
    // The carets would be as long as the name of the directory.
    let shown =
        shown(&text, Open::All).replace(root.to_str().unwrap(), "[dir]").replace(&id, "[id]");
    let mut stable = String::new();
    for line in shown.lines() {
        let arrow = line.contains("-->");
        let blank = |at: &usize| line[..*at].trim_end_matches([' ', '|']).is_empty();
        match line.find(['^', '-']).filter(blank).filter(|_| !arrow) {
            Some(at) => {
                stable.push_str("  | ");
                stable.push_str(line[at..].trim_start_matches(['^', '-']).trim_start());
            }
            None => stable.push_str(line.trim_end()),
        }
        stable.push('\n');
    }
    stable
}

macro_rules! snapshot {
    ($name:ident, $shown:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!($shown);
        }
    };
}

snapshot!(unknown_key_near_a_known_one, with("listen", "lisen"));
snapshot!(unknown_key_of_another_table, with("node   =", "exclude = []\nnode   ="));
snapshot!(unknown_key_of_nowhere, with("address =", "colour = \"red\"\naddress ="));
snapshot!(wrong_types, with("\"apollo\"", "7").replace("0.0.0.0", ""));
snapshot!(wrong_type_in_a_list, with("\"*.log\"", "7"));
snapshot!(a_node_that_is_no_table, with("[nodes.apollo]", "[nodes]\napollo = 1\n[nodes.zeus]"));
snapshot!(missing_node, with("node   = \"apollo\"\n", ""));
snapshot!(node_without_a_table, with("\"apollo\"", "\"apolo\""));
snapshot!(node_not_in_its_own_ring, with("[\"apollo\", \"chronos\"]", "[\"chronos\"]"));
snapshot!(ring_with_a_stranger, with("[\"apollo\", \"chronos\"]", "[\"apollo\", \"zeus\"]"));
snapshot!(ring_that_is_empty, with("[\"apollo\", \"chronos\"]", "[]"));
snapshot!(ring_that_repeats, with("[\"apollo\", \"chronos\"]", "[\"apollo\", \"apollo\"]"));
snapshot!(ring_of_one, with("[\"apollo\", \"chronos\"]", "[\"apollo\"]"));
snapshot!(ring_that_is_missing, with("ring    = [\"apollo\", \"chronos\"]\n", ""));
snapshot!(duplicate_id, with(CHRONOS, APOLLO));
snapshot!(id_that_is_none, with(CHRONOS, "cs1short"));
snapshot!(bad_address, with("10.0.0.1:7420", "10.0.0.1"));
snapshot!(bad_listen, with("0.0.0.0:7420", "::7420"));
snapshot!(bad_pattern, with("*.log", "{a,b"));
snapshot!(pattern_that_is_a_comment, with("*.log", "#log"));
snapshot!(bad_sweep_interval, with("node   =", "sweep_interval = \"often\"\nnode   ="));
snapshot!(bad_prefer, with("exclude =", "prefer = \"zeus\"\nexclude ="));
snapshot!(bad_mass_delete, with("exclude =", "mass_delete_max = \"1000\"\nexclude ="));
snapshot!(
    bad_archive,
    with("exclude =", "archive_age = \"for ever\"\narchive_size = \"much\"\nexclude =")
);
snapshot!(bad_policy, with("exclude =", "policy = \"oldest\"\nexclude ="));
snapshot!(bad_tombstone_age, with("node   =", "tombstone_age = \"1h\"\nnode   ="));
snapshot!(tombstone_age_that_is_none, with("exclude =", "tombstone_age = \"a month\"\nexclude ="));
snapshot!(bad_size, with("node   =", "max_file_size = \"20\"\nnode   ="));
snapshot!(a_bandwidth_too_small, with("address =", "bandwidth_max = \"10kB\"\naddress ="));
snapshot!(size_of_a_wrong_type, with("exclude =", "max_file_size = 20\nexclude ="));
snapshot!(relative_path, with("/var/www/html/images", "html/images"));
snapshot!(share_inside_a_share, with("[shares.images]", &format!("{OTHER}\n[shares.images]")));
snapshot!(state_inside_a_share, with("\"/var/lib/chainsync\"", "\"/var/www/html/images/state\""));
snapshot!(share_inside_state, with("/var/www/html/images", "/var/lib/chainsync/images"));
snapshot!(http_is_not_offered_yet, with("node   =", "http = \"127.0.0.1:7421\"\nnode   ="));
snapshot!(bad_durations, with("node   =", "heartbeat = \"1\"\ndead_after = \"2h\"\nnode   ="));
snapshot!(hasty_death, with("node   =", "heartbeat = \"3s\"\ndead_after = \"5s\"\nnode   ="));
snapshot!(bad_durability, with("node   =", "durability = \"maybe\"\nnode   ="));
snapshot!(long_socket, with("node   =", &format!("socket = \"/{}\"\nnode   =", "s".repeat(110))));
snapshot!(syntax_errors, with("\"apollo\"", "apollo").replace('\t', " "));
snapshot!(an_empty_file, shown("", Open::Nothing));
snapshot!(several_at_once, with("listen = \"0.0.0.0:7420\"", "lisen = 1\ndurability = \"maybe\""));
snapshot!(
    key_that_is_missing,
    opened(|root, text| {
        std::fs::remove_file(root.join("node.key")).unwrap();
        text
    })
);
snapshot!(
    key_that_others_may_read,
    opened(|root, text| {
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(root.join("node.key"), mode).unwrap();
        text
    })
);
snapshot!(
    key_that_is_none,
    opened(|root, text| {
        std::fs::write(root.join("node.key"), "not a key").unwrap();
        text
    })
);
snapshot!(
    key_that_is_a_directory,
    opened(|root, text| {
        std::fs::remove_file(root.join("node.key")).unwrap();
        std::fs::create_dir(root.join("node.key")).unwrap();
        text
    })
);
snapshot!(
    key_of_another_node,
    opened(|_, text| {
        let id = PrivateKey::generate().unwrap().public_id().to_string();
        let at = text.find("id      = \"").unwrap() + 11;
        let text = format!("{}{APOLLO}{}", &text[..at], &text[at + id.len()..]);
        text
    })
);
snapshot!(
    share_that_is_missing,
    opened(|root, text| {
        std::fs::remove_dir(root.join("images")).unwrap();
        text
    })
);
snapshot!(
    state_inside_a_share_behind_a_symlink,
    opened(|root, text| {
        symlink(root.join("images"), root.join("link")).unwrap();
        text.replace(
            root.join("state").to_str().unwrap(),
            root.join("link/state").to_str().unwrap(),
        )
    })
);

const OTHER: &str = "[shares.all]\npath = \"/var/www\"\nring = [\"apollo\", \"chronos\"]\n";

#[test]
fn a_good_one_becomes_what_the_engine_takes() {
    let top = "durability = \"none\"\nheartbeat = \"2s\"\nmax_file_size = \"20MB\"\nbandwidth_max = \"10MiB\"\ntombstone_age = \"90d\"\nnode   =";
    let text = good().replace("node   =", top);
    let (config, found) = parse(&text, Open::Nothing, None);
    assert!(found.is_empty(), "{found:?}");
    insta::assert_debug_snapshot!(config.unwrap());
}

#[test]
fn a_good_one_is_good_when_opened() {
    assert_eq!(opened(|_, text| text), "");
}

#[test]
fn a_credential_is_a_file_of_systemd() {
    let text = good().replace("/var/lib/chainsync/node.key", "credential:node.key");
    let (config, found) = parse(&text, Open::Nothing, Some(Path::new("/run/credentials/x")));
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(config.unwrap().key, Path::new("/run/credentials/x/node.key"));
    let (config, found) = parse(&text, Open::Nothing, None);
    assert!(config.is_some() && found.is_empty(), "a build machine has no credentials");
    let (config, _) = parse(&text, Open::All, None);
    assert!(config.is_none());
    let (config, _) = parse(&text.replace(":node", ":../node"), Open::Nothing, None);
    assert!(config.is_none());
}

/// What issue 3 promises: twelve broken files, twelve different answers, each with its place, a caret
/// and the next step. The texts themselves are the snapshots above.
#[test]
fn twelve_broken_files_get_twelve_different_answers() {
    let answers = [
        ("unknown key", with("listen", "lisen")),
        ("wrong type", with("\"0.0.0.0:7420\"", "7420")),
        ("missing node", with("node   = \"apollo\"\n", "")),
        ("node not in its own ring", with("[\"apollo\", \"chronos\"]", "[\"chronos\"]")),
        ("duplicate id", with(CHRONOS, APOLLO)),
        ("share inside a share", with("[shares.images]", &format!("{OTHER}\n[shares.images]"))),
        ("state inside a share", with("\"/var/lib/chainsync\"", "\"/var/www/html/images/state\"")),
        (
            // Root may read every file: a directory is what nobody can read as a key.
            "unreadable key",
            opened(|root, text| {
                std::fs::remove_file(root.join("node.key")).unwrap();
                std::fs::create_dir(root.join("node.key")).unwrap();
                text
            }),
        ),
        (
            "key with wrong mode",
            opened(|root, text| {
                let mode = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(root.join("node.key"), mode).unwrap();
                text
            }),
        ),
        ("bad address", with("10.0.0.1:7420", "10.0.0.1")),
        ("bad pattern", with("*.log", "{a,b")),
        ("empty ring", with("[\"apollo\", \"chronos\"]", "[]")),
    ];
    let mut titles = std::collections::BTreeSet::new();
    for (what, answer) in &answers {
        let title = answer.lines().next().unwrap();
        assert!(title.starts_with("error: "), "{what}: {answer}");
        assert!(titles.insert(title), "{what} says the same as another: {answer}");
        assert_eq!(
            answer.matches("error: ").count(),
            1,
            "{what}: one mistake, one error: {answer}"
        );
        let place = answer.lines().nth(1).unwrap().trim_start();
        let numbers = place.rsplit(':').take(2).filter(|part| part.parse::<u32>().is_ok());
        assert!(place.starts_with("--> apollo.toml:") && numbers.count() == 2, "{what}: {answer}");
        assert!(answer.contains("= help: "), "{what}: {answer}");
        // `opened` takes the carets out, as they are as long as the temporary directory.
        assert!(answer.contains('^') || answer.contains("[dir]"), "{what}: {answer}");
    }
    assert_eq!(titles.len(), 12);
}
