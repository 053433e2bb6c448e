//! From text to values that remember where they stood.
//!
//! Walks the parsed document by hand instead of deserialising it, because a deserialiser stops at
//! its first error and a person wants them all. Every key that is not asked for is unknown, in
//! every table. Knows no meaning: that is [`super::validate`].

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Diagnostic;
use super::similar::similar;

/// The file as it stands. `None` where a key is missing or was of a wrong type.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) node: Option<Spanned<String>>,
    pub(super) key: Option<Spanned<String>>,
    pub(super) state: Option<Spanned<String>>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) socket: Option<Spanned<String>>,
    pub(super) http: Option<Spanned<String>>,
    pub(super) bandwidth_max: Option<Spanned<String>>,
    pub(super) heartbeat: Option<Spanned<String>>,
    pub(super) dead_after: Option<Spanned<String>>,
    pub(super) durability: Option<Spanned<String>>,
    pub(super) owner: Option<bool>,
    pub(super) sweep_interval: Option<Spanned<String>>,
    pub(super) policy: Option<Spanned<String>>,
    pub(super) limits: RawLimits,
    pub(super) tombstone_age: Option<Spanned<String>>,
    pub(super) nodes: Vec<RawNode>,
    pub(super) shares: Vec<RawShare>,
}

#[derive(Debug)]
pub(super) struct RawNode {
    pub(super) name: Spanned<String>,
    pub(super) address: Option<Spanned<String>>,
    pub(super) id: Option<Spanned<String>>,
    pub(super) bandwidth_max: Option<Spanned<String>>,
}

#[derive(Debug)]
pub(super) struct RawShare {
    pub(super) name: Spanned<String>,
    pub(super) path: Option<Spanned<String>>,
    pub(super) ring: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) exclude: Vec<Spanned<String>>,
    pub(super) durability: Option<Spanned<String>>,
    pub(super) owner: Option<bool>,
    pub(super) sweep_interval: Option<Spanned<String>>,
    pub(super) policy: Option<Spanned<String>>,
    pub(super) prefer: Option<Spanned<String>>,
    pub(super) limits: RawLimits,
    pub(super) tombstone_age: Option<Spanned<String>>,
}

/// What the top level says for all shares, and a share for itself.
#[derive(Debug)]
pub(super) struct RawLimits {
    pub(super) max_file_size: Option<Spanned<String>>,
    pub(super) mass_delete_max: Option<Spanned<u64>>,
    pub(super) clock_ahead_max: Option<Spanned<String>>,
    pub(super) archive_generations: Option<Spanned<u64>>,
    pub(super) archive_age: Option<Spanned<String>>,
    pub(super) archive_size: Option<Spanned<String>>,
    pub(super) free_space_min: Option<Spanned<String>>,
}

/// `None` if the text is not TOML at all.
pub(super) fn read(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Raw> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the parser recovered is a guess; judging it would produce errors about errors.
        diagnostics.extend(errors.iter().map(|error| syntax(error, text)));
        return None;
    }
    // A missing key of the top level belongs to no line; the first one is where it can be added.
    let beginning = 0..0;
    let mut top = Section::new("the top level", beginning, document.get_ref(), diagnostics);
    let raw = Raw {
        node: top.required("node", "\"apollo\""),
        key: top.required("key", "\"/var/lib/chainsync/node.key\""),
        state: top.required("state", "\"/var/lib/chainsync\""),
        listen: top.required("listen", "\"0.0.0.0:7420\""),
        socket: top.string("socket"),
        http: top.string("http"),
        bandwidth_max: top.string("bandwidth_max"),
        heartbeat: top.string("heartbeat"),
        dead_after: top.string("dead_after"),
        durability: top.string("durability"),
        owner: top.boolean("owner"),
        sweep_interval: top.string("sweep_interval"),
        policy: top.string("policy"),
        limits: top.limits(),
        tombstone_age: top.string("tombstone_age"),
        nodes: top.tables("nodes", |name, mut section| {
            let node = RawNode {
                name,
                address: section.required("address", "\"10.0.0.1:7420\""),
                id: section.required("id", "\"cs1...\" (printed by `chainsync keygen`)"),
                bandwidth_max: section.string("bandwidth_max"),
            };
            section.finish();
            node
        }),
        shares: top.tables("shares", |name, mut section| {
            let share = RawShare {
                name,
                path: section.required("path", "\"/var/www/html/images\""),
                ring: section.required_strings("ring", "[\"apollo\", \"chronos\", \"hermes\"]"),
                exclude: section.strings("exclude").map(Spanned::into_inner).unwrap_or_default(),
                durability: section.string("durability"),
                owner: section.boolean("owner"),
                sweep_interval: section.string("sweep_interval"),
                policy: section.string("policy"),
                prefer: section.string("prefer"),
                limits: section.limits(),
                tombstone_age: section.string("tombstone_age"),
            };
            section.finish();
            share
        }),
    };
    top.finish();
    Some(raw)
}

/// One table that is being read.
struct Section<'t, 'i, 'd> {
    name: String,
    /// Where to point for a key that is not there.
    span: Range<usize>,
    table: &'t DeTable<'i>,
    asked: Vec<&'static str>,
    /// Required keys that are not there, with an example of each.
    missing: Vec<(&'static str, &'static str)>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'t, 'i, 'd> Section<'t, 'i, 'd> {
    fn new(
        name: impl Into<String>,
        span: Range<usize>,
        table: &'t DeTable<'i>,
        diagnostics: &'d mut Vec<Diagnostic>,
    ) -> Self {
        Self { name: name.into(), span, table, asked: Vec::new(), missing: Vec::new(), diagnostics }
    }

    fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.asked.push(key);
        let table = self.table;
        table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.clone().into_owned())),
            _ => self.wrong_type(key, value, "a string", "write it in double quotes"),
        }
    }

    fn required(&mut self, key: &'static str, example: &'static str) -> Option<Spanned<String>> {
        let found = self.string(key);
        self.require(key, example);
        found
    }

    fn number(&mut self, key: &'static str) -> Option<Spanned<u64>> {
        let value = self.value(key)?;
        let number = value.get_ref().as_integer();
        let number = number.and_then(|it| u64::from_str_radix(it.as_str(), it.radix()).ok());
        match number {
            Some(number) => Some(Spanned::new(value.span(), number)),
            None => {
                self.wrong_type(key, value, "a whole number", "write it without quotes: `1000`")
            }
        }
    }

    fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref().as_bool() {
            Some(bool) => Some(bool),
            None => self.wrong_type(key, value, "true or false", "write `true` or `false`"),
        }
    }

    fn strings(&mut self, key: &'static str) -> Option<Spanned<Vec<Spanned<String>>>> {
        let value = self.value(key)?;
        let next = "write a list of strings: `[\"...\", \"...\"]`";
        let Some(array) = value.get_ref().as_array() else {
            return self.wrong_type(key, value, "a list of strings", next);
        };
        let mut strings = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    strings.push(Spanned::new(item.span(), text.clone().into_owned()));
                }
                _ => return self.wrong_type(key, item, "a list of strings", next),
            }
        }
        Some(Spanned::new(value.span(), strings))
    }

    fn required_strings(
        &mut self,
        key: &'static str,
        example: &'static str,
    ) -> Option<Spanned<Vec<Spanned<String>>>> {
        let found = self.strings(key);
        self.require(key, example);
        found
    }

    fn limits(&mut self) -> RawLimits {
        RawLimits {
            max_file_size: self.string("max_file_size"),
            mass_delete_max: self.number("mass_delete_max"),
            clock_ahead_max: self.string("clock_ahead_max"),
            archive_generations: self.number("archive_generations"),
            archive_age: self.string("archive_age"),
            archive_size: self.string("archive_size"),
            free_space_min: self.string("free_space_min"),
        }
    }

    /// The tables below `key`, such as `[nodes.apollo]`.
    fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(Spanned<String>, Section<'t, 'i, '_>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else {
            let next = format!("add a table: `[{key}.NAME]`");
            let title = format!("there is no `[{key}.NAME]`");
            self.diagnostics.push(Diagnostic::error(
                self.span.clone(),
                title,
                "in this file",
                next,
            ));
            return Vec::new();
        };
        let next = format!("write it as a table: `[{key}.NAME]`");
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type::<()>(key, value, "a table of tables", &next);
            return Vec::new();
        };
        let mut all = Vec::new();
        // In the order of the file, not of the alphabet.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let full = format!("{key}.{}", name.get_ref());
            let Some(inner) = value.get_ref().as_table() else {
                self.wrong_type::<()>(&full, value, "a table", &format!("write `[{full}]`"));
                continue;
            };
            let section = Section::new(format!("`[{full}]`"), name.span(), inner, self.diagnostics);
            all.push(read(Spanned::new(name.span(), name.get_ref().to_string()), section));
        }
        all
    }

    /// Everything that nobody asked for is unknown; what was required and not there is missing,
    /// unless an unknown key looks like it.
    fn finish(mut self) {
        for (name, _) in self.table.iter() {
            if self.asked.iter().any(|asked| name.get_ref() == asked) {
                continue;
            }
            let key = name.get_ref();
            let next = match (similar(key, self.asked.iter().copied()), home(key)) {
                (Some(meant), _) => {
                    self.missing.retain(|(missing, _)| *missing != meant);
                    format!("did you mean `{meant}`?")
                }
                (None, Some(home)) => format!("`{key}` belongs to {home}"),
                (None, None) => format!("known here: {}", self.asked.join(", ")),
            };
            let title = format!("unknown key `{key}`");
            let label = format!("unknown in {}", self.name);
            self.diagnostics.push(Diagnostic::error(name.span(), title, label, next));
        }
        for (key, example) in self.missing {
            let title = format!("`{key}` is missing in {}", self.name);
            let label = format!("needs `{key}`");
            let next = format!("add `{key} = {example}`");
            self.diagnostics.push(Diagnostic::error(self.span.clone(), title, label, next));
        }
    }

    fn require(&mut self, key: &'static str, example: &'static str) {
        if self.table.iter().all(|(name, _)| name.get_ref() != key) {
            self.missing.push((key, example));
        }
    }

    fn wrong_type<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
        next: &str,
    ) -> Option<T> {
        let title = format!("`{key}` must be {expected}");
        let label = format!("this is {}", described(value.get_ref()));
        self.diagnostics.push(Diagnostic::error(value.span(), title, label, next));
        None
    }
}

fn syntax(error: &toml::de::Error, text: &str) -> Diagnostic {
    let span = error.span().unwrap_or(0..text.len().min(1));
    let next = "the file is TOML: `key = \"value\"` lines and `[table]` headings";
    Diagnostic::error(span, "this is not TOML", error.message(), next)
}

/// Where a key that exists elsewhere belongs.
fn home(key: &str) -> Option<&'static str> {
    match key {
        "address" | "id" => Some("a `[nodes.NAME]`"),
        "path" | "ring" | "exclude" => Some("a `[shares.NAME]`"),
        "node" | "key" | "state" | "listen" | "socket" | "http" | "heartbeat" | "dead_after" => {
            Some("the top level, before the first `[table]`")
        }
        _ => None,
    }
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
