//! The report of a failing run, read back as a browser would: what a person has to find on it.

#![allow(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

use chainsync_sim::check::Invariant;
use chainsync_sim::fs::Defect;
use chainsync_sim::report::{self, Filter, Report};
use chainsync_sim::run::{Options, Outcome, run_with};
use chainsync_sim::scenario::Scenario;
use html5ever::tendril::TendrilSink as _;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

const STORM: &str = r#"
about = "A small storm on two nodes"
on    = ["sim"]
nodes = ["apollo", "chronos", "hermes"]

[network]
latency = "200us..5ms"

[[at]]
time  = "0s"
storm = { nodes = ["apollo", "hermes"], files = 50, size = "5KiB", directories = 5, over = "1s" }

[[at]]
time  = "300ms"
crash = { node = "chronos", back-after = "300ms" }

[expect]
converged-within = "5s"
"#;

/// A defect need not show with every seed.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;

/// A run in which a defect shows as the violation of this invariant, at some path.
fn broken(defect: Defect, invariant: Invariant) -> (Scenario, Outcome) {
    let scenario = Scenario::parse("storm.toml", STORM).unwrap();
    let options = Options { defect: Some(defect), record: true, ..Options::default() };
    let mut runs = SEEDS.map(|seed| run_with(&scenario, seed, None, &options));
    let found = runs.find(|outcome| {
        let failure = outcome.failure.as_ref();
        failure.is_some_and(|failure| failure.invariant == invariant && failure.path.is_some())
    });
    let outcome = found.expect("a seed that shows the defect");
    drop(runs);
    (scenario, outcome)
}

fn input<'a>(scenario: &'a Scenario, outcome: &'a Outcome) -> Report<'a> {
    Report {
        scenario,
        seed: outcome.seed,
        failure: outcome.failure.as_ref(),
        command: format!("chainsync-sim run storm.toml --seed {}", outcome.seed),
        record: outcome.record.as_ref().unwrap(),
    }
}

/// A parsed page.
struct Page {
    document: Handle,
    /// What the parser had to put right.
    errors: Vec<String>,
}

impl Page {
    fn parse(html: &str) -> Self {
        let dom = parse_document(RcDom::default(), ParseOpts::default()).one(html);
        let errors = dom.errors.borrow().iter().map(ToString::to_string).collect();
        Self { document: dom.document, errors }
    }

    /// All elements that are like this.
    fn all(&self, like: impl Fn(&Element) -> bool) -> Vec<Element> {
        let mut found = Vec::new();
        let mut waiting = vec![Handle::clone(&self.document)];
        while let Some(node) = waiting.pop() {
            waiting.extend(node.children.borrow().iter().rev().cloned());
            if let NodeData::Element { .. } = node.data {
                let element = Element(node);
                if like(&element) {
                    found.push(element);
                }
            }
        }
        found
    }

    fn with_id(&self, id: &str) -> Vec<Element> {
        self.all(|element| element.attribute("id").as_deref() == Some(id))
    }

    fn with_class(&self, name: &str, class: &str) -> Vec<Element> {
        self.all(|element| element.name() == name && element.has_class(class))
    }
}

struct Element(Handle);

impl Element {
    fn name(&self) -> String {
        match &self.0.data {
            NodeData::Element { name, .. } => name.local.to_string(),
            _ => String::new(),
        }
    }

    fn attributes(&self) -> Vec<(String, String)> {
        match &self.0.data {
            NodeData::Element { attrs, .. } => {
                let attributes = attrs.borrow();
                let pair = |attribute: &html5ever::Attribute| {
                    (attribute.name.local.to_string(), attribute.value.to_string())
                };
                attributes.iter().map(pair).collect()
            }
            _ => Vec::new(),
        }
    }

    fn attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.attributes().into_iter();
        attributes.find(|(found, _)| found == name).map(|(_, value)| value)
    }

    fn has_class(&self, class: &str) -> bool {
        self.attribute("class").is_some_and(|all| all.split(' ').any(|one| one == class))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut waiting = vec![Handle::clone(&self.0)];
        while let Some(node) = waiting.pop() {
            if let NodeData::Text { contents } = &node.data {
                text.push_str(&contents.borrow());
            }
            waiting.extend(node.children.borrow().iter().rev().cloned());
        }
        text
    }
}

fn check(html: &str, scenario: &Scenario, outcome: &Outcome) {
    let failure = outcome.failure.as_ref().unwrap();
    let path = failure.path.as_deref().unwrap();
    let page = Page::parse(html);
    assert_eq!(page.errors, Vec::<String>::new());

    // Lanes equal nodes, in ring order: their names and their lines.
    let lanes: Vec<String> = page.with_class("span", "lane").iter().map(Element::text).collect();
    let nodes: Vec<String> = scenario.nodes.iter().map(ToString::to_string).collect();
    assert_eq!(lanes, nodes);
    assert_eq!(page.with_class("line", "lane").len(), nodes.len());

    // The sentence, the invariant, the path, the moment, the command.
    let sentence = page.with_class("div", "sentence");
    assert_eq!(sentence.len(), 1);
    assert_eq!(sentence[0].text(), failure.sentence);
    let promise = &page.with_class("p", "promise")[0].text();
    assert!(promise.starts_with(&format!("Broken: {} ", failure.invariant)), "{promise}");
    assert_eq!(page.with_id("failing-path")[0].text(), path);
    let command = format!("chainsync-sim run storm.toml --seed {}", outcome.seed);
    assert_eq!(page.with_id("command")[0].text(), command);

    // The first bad event is marked once, is not hidden, and is at its moment.
    let marked = page.with_id("first-bad");
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0].attribute("hidden"), None);
    assert_eq!(marked[0].attribute("data-t"), Some(failure.at_ns.to_string()));
    assert_eq!(page.all(|element| element.name() == "li" && element.has_class("failure")).len(), 1);

    // Nothing is loaded from anywhere.
    for outside in ["http://", "https://", "src=", "@import", "url(h", "url(/"] {
        assert!(!html.contains(outside), "the page refers to the outside: {outside}");
    }
    for element in page.all(|_| true) {
        assert!(
            !["link", "img", "iframe", "object", "embed", "base"]
                .contains(&element.name().as_str()),
            "a <{}>",
            element.name()
        );
        for (name, value) in element.attributes() {
            assert!(name != "href" || value.starts_with('#'), "{name}={value}");
        }
    }

    // Every link leads somewhere, and no id is there twice.
    let mut ids: Vec<String> =
        page.all(|_| true).iter().filter_map(|e| e.attribute("id")).collect();
    ids.sort();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id is there twice");
    for link in page.all(|element| element.attribute("href").is_some()) {
        let href = link.attribute("href").unwrap();
        assert!(ids.binary_search(&href[1..].to_owned()).is_ok(), "{href} leads nowhere");
    }
}

#[test]
fn a_person_finds_on_the_page_what_was_broken_where_and_when() {
    let (scenario, outcome) = broken(Defect::CutsContents, Invariant::S1);
    let html = report::html(&input(&scenario, &outcome));
    check(&html, &scenario, &outcome);
    let page = Page::parse(&html);
    let seen = page.all(|element| element.name() == "li" && element.attribute("data-t").is_some());
    let seen: Vec<&Element> = seen.iter().filter(|row| row.attribute("hidden").is_none()).collect();
    let texts: Vec<String> = seen.iter().map(|row| row.text()).collect();
    assert!((4..=16).contains(&seen.len()), "{texts:#?}");
    assert!(texts.iter().any(|text| text.contains("uploads")), "{texts:#?}");
    assert!(seen.last().unwrap().has_class("failure"), "{texts:#?}");
}

#[test]
fn trees_that_differ_are_side_by_side() {
    let (scenario, outcome) = broken(Defect::LosesEvents, Invariant::L1);
    let html = report::html(&input(&scenario, &outcome));
    check(&html, &scenario, &outcome);
    let page = Page::parse(&html);
    let failing = outcome.failure.as_ref().unwrap().path.clone().unwrap();
    let rows = page.all(|element| {
        element.name() == "th" && element.attribute("scope").as_deref() == Some("row")
    });
    assert_eq!(rows[0].text(), failing);
    let cells = page.all(|element| element.name() == "td");
    assert_eq!(cells.len(), rows.len() * scenario.nodes.len());
    assert!(cells[..3].iter().any(|cell| cell.has_class("nothing")));
    // A fault lasts on its lane.
    let bands = page.with_class("rect", "down");
    assert_eq!(bands.len(), 1);
    assert_eq!(bands[0].attribute("data-l").as_deref(), Some("1"));
}

#[test]
fn the_timeline_of_a_failing_run_fits_a_terminal() {
    let (scenario, outcome) = broken(Defect::CutsContents, Invariant::S1);
    let input = input(&scenario, &outcome);
    let path = outcome.failure.as_ref().unwrap().path.clone();
    let text = report::timeline(&input, &Filter { path, ..Filter::default() });
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let failing: Vec<&str> = text.lines().filter(|line| line.contains("S1 is broken")).collect();
    assert_eq!(failing.len(), 1, "{text}");
    let all = report::timeline(&input, &Filter { every_event: true, ..Filter::default() });
    assert!(all.lines().count() > 10 * text.lines().count());
}
