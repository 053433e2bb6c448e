//! One thing to say about a configuration, and how it looks on a terminal.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level as Heading, Renderer, Snippet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Warning,
}

/// Something wrong, or doubtful, at a place in the file.
#[derive(Debug, Clone)]
pub(crate) struct Diagnostic {
    pub(super) level: Level,
    pub(super) title: String,
    /// Bytes of the file.
    pub(super) span: Range<usize>,
    label: String,
    /// Another place that belongs to it.
    also: Option<(Range<usize>, String)>,
    /// The next step.
    next: String,
}

impl Diagnostic {
    pub(super) fn error(
        span: Range<usize>,
        title: impl Into<String>,
        label: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        let (title, label, next) = (title.into(), label.into(), next.into());
        Self { level: Level::Error, title, span, label, also: None, next }
    }

    pub(super) fn warning(
        span: Range<usize>,
        title: impl Into<String>,
        label: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warning, ..Self::error(span, title, label, next) }
    }

    pub(super) fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }
}

/// With file, line, column and carets. `name` is the file as the person named it.
pub(super) fn render(name: &str, text: &str, found: &Diagnostic) -> String {
    let heading = match found.level {
        Level::Error => Heading::ERROR,
        Level::Warning => Heading::WARNING,
    };
    let primary = AnnotationKind::Primary.span(visible(&found.span, text)).label(&*found.label);
    let mut snippet = Snippet::source(text).path(name).annotation(primary);
    if let Some((span, label)) = &found.also {
        let context = AnnotationKind::Context.span(visible(span, text)).label(&**label);
        snippet = snippet.annotation(context);
    }
    let report = [heading
        .primary_title(&*found.title)
        .element(snippet)
        .element(Heading::HELP.message(&*found.next))];
    Renderer::plain().render(&report)
}

/// The span cut to its first line and to the text: a caret under a whole table helps nobody.
fn visible(span: &Range<usize>, text: &str) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    match text.get(start..end).and_then(|marked| marked.find('\n')) {
        Some(line) => start..start + line,
        None => start..end,
    }
}
