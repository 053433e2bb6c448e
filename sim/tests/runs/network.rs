//! What the network loses, through whole runs: read off the trace.

use chainsync_sim::run::run;
use chainsync_sim::scenario::Scenario;

use crate::text::Text;

/// Node, kind and detail of each event.
type Events = Vec<(String, String, String)>;

/// A run of a storm of one-kilobyte files and what else the scenario says; it has to pass.
fn events(rest: &str) -> Events {
    let source = format!(
        r#"
about = "The network loses something"
on    = ["sim"]
nodes = ["apollo", "hermes"]

[network]
latency = "200us..5ms"
{rest}
"#
    );
    let text = Text::default();
    let scenario = Scenario::parse("network.toml", &source).unwrap();
    let outcome = run(&scenario, 1, Some(Box::new(text.clone())));
    assert_eq!(outcome.failure, None);
    let text = text.read();
    let lines = text.lines().map(|line| {
        let mut words = line.split_whitespace().skip(1).map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap(), words.collect::<Vec<_>>().join(" "))
    });
    lines.collect()
}

const STORM: &str = r#"
[[at]]
time  = "0s"
storm = { nodes = ["apollo"], files = 60, size = "1KiB", over = "3s" }
"#;

fn count(events: &Events, node: &str, kind: &str, detail: impl Fn(&str) -> bool) -> usize {
    let matches =
        |event: &&(String, String, String)| event.0 == node && event.1 == kind && detail(&event.2);
    events.iter().filter(matches).count()
}

/// How many frames of a kind were sent by one node, and how many of them the other one got.
fn sent_and_got(events: &Events, kind: &str, from: &str, to: &str) -> (usize, usize) {
    let of_kind = |detail: &str| detail.split(' ').next() == Some(kind);
    let sent = count(events, from, "frame", |detail| of_kind(detail) && detail.contains(to));
    (sent, count(events, to, "got", |detail| of_kind(detail) && detail.contains(from)))
}

fn one_way(direction: &str) -> Events {
    events(&format!(
        "{STORM}
[[at]]
time = \"1s\"
partition = {{ between = [[\"apollo\"], [\"hermes\"]], direction = \"{direction}\" }}
"
    ))
}

#[test]
fn a_cut_of_one_direction_loses_data_or_acknowledgements() {
    // From here on nothing of apollo's arrives: what it sent is lost, what hermes sent is not.
    let events = one_way("forward");
    let (sent, got) = sent_and_got(&events, "Batch", "apollo", "hermes");
    assert!(got < sent, "{got} of {sent} batches arrived");
    let (sent, got) = sent_and_got(&events, "Ack", "hermes", "apollo");
    assert_eq!(got, sent);
    // The other way round hermes applies what its acknowledgements never say.
    let events = one_way("backward");
    let (sent, got) = sent_and_got(&events, "Ack", "hermes", "apollo");
    assert!(got < sent, "{got} of {sent} acknowledgements arrived");
    let (sent, got) = sent_and_got(&events, "Batch", "apollo", "hermes");
    assert_eq!(got, sent);
}

/// The first event from `from` on that is such a one.
fn find(events: &Events, from: usize, node: &str, kind: &str, detail: &str) -> Option<usize> {
    let mut rest = events.iter().enumerate().skip(from);
    let is = |event: &(String, String, String)| {
        event.0 == node && event.1 == kind && event.2.contains(detail)
    };
    rest.find(|(_, event)| is(event)).map(|(place, _)| place)
}

#[test]
fn after_a_power_loss_the_peer_believes_in_the_connection_until_it_writes() {
    for death in ["", ", before-operation = 3"] {
        let events = events(&format!(
            "[[at]]
time  = \"0s\"
storm = {{ nodes = [\"hermes\"], files = 20, size = \"1KiB\", over = \"300ms\" }}
[[at]]
time = \"350ms\"
power-loss = {{ node = \"hermes\", back-after = \"400ms\"{death} }}
[[at]]
time  = \"360ms\"
write = {{ node = \"hermes\", path = \"late\", size = \"1KiB\" }}
"
        ));
        let ends = if death.is_empty() { "power-loss hermes" } else { "before operation" };
        let dead = events.iter().position(|(_, _, detail)| detail.contains(ends)).unwrap();
        let back = find(&events, dead, "hermes", "start", "").unwrap();
        let closed = find(&events, dead, "apollo", "closed", "hermes").unwrap();
        assert!(closed > back, "{death}: apollo heard of the death");
        let wrote = find(&events, back, "apollo", "frame", "to hermes").unwrap();
        assert!(wrote < closed, "{death}: apollo's connection ended by itself");
    }
}

#[test]
fn lost_connections_end_where_it_is_noticed_and_are_made_anew() {
    for (noticed_by, ends) in [("both", [1, 1]), ("first", [1, 0]), ("second", [0, 1])] {
        let events = events(&format!(
            "{STORM}
[[at]]
time = \"1s\"
cut-connections = {{ between = [[\"apollo\"], [\"hermes\"]], noticed-by = \"{noticed_by}\" }}
[[at]]
time  = \"1100ms\"
chmod = {{ node = \"apollo\", path = \"no-such-file\", mode = 0o600 }}
"
        ));
        let cut = find(&events, 0, "-", "event", "cut-connections").unwrap();
        let soon = find(&events, cut, "-", "event", "chmod").unwrap();
        let window = &events[cut..soon].to_vec();
        for (node, peer, noticed) in [("apollo", "hermes", ends[0]), ("hermes", "apollo", ends[1])]
        {
            let lost = count(window, node, "lost", |_| true);
            let closed = count(window, node, "closed", |detail| detail.contains(peer));
            // A link in each direction.
            assert_eq!((lost, closed), (2 * noticed, 2 * noticed), "{noticed_by}: {node}");
        }
        assert!(find(&events, cut, "apollo", "connected", "hermes").is_some(), "{noticed_by}");
    }
}
