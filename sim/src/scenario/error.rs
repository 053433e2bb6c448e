//! An error in a scenario file, shown with the lines it is about.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// What is wrong in a scenario file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioError {
    rendered: String,
}

impl ScenarioError {
    pub(super) fn at(file: &Path, source: &str, span: Range<usize>, message: String) -> Self {
        // A table's span covers all its lines; its first one is what is meant.
        let line_end = source[span.start..].find('\n').map_or(source.len(), |at| span.start + at);
        let span = span.start..span.end.clamp(span.start, line_end.max(span.start));
        let file = file.display().to_string();
        let snippet =
            Snippet::source(source).path(file).annotation(AnnotationKind::Primary.span(span));
        let report = [Level::ERROR.primary_title(message).element(snippet)];
        Self { rendered: Renderer::plain().render(&report).to_string() }
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

impl std::error::Error for ScenarioError {}
