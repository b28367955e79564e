//! One user error and lists of them, and how they are printed.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A text that faults point into, with the name it is shown under.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// A path as the user wrote it, or a word such as `--set`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// Where a fault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A span of bytes in a text: printed as `file:line:column` with the line drawn.
    Span(Arc<Source>, Range<usize>),
    /// A line of a file too large to keep (JSON Lines); the first line is 1.
    Line { file: String, line: usize },
    /// A whole file or folder.
    File(String),
    /// Anything else with a name: a tensor, a command line option.
    Named(String),
}

impl Place {
    /// The place that is a whole file.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Place::File(path.as_ref().display().to_string())
    }

    /// A line of a file; the first line is 1.
    pub fn line(path: impl AsRef<Path>, line: usize) -> Self {
        Place::Line { file: path.as_ref().display().to_string(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Span(source, span) => {
                let before = &source.text[..span.start.min(source.text.len())];
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                write!(f, "{}:{line}:{column}", source.name)
            }
            Place::Line { file, line } => write!(f, "{file}:{line}"),
            Place::File(name) | Place::Named(name) => f.write_str(name),
        }
    }
}

/// One thing the user has to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong and what was expected: lower case, names in backticks, no full stop.
    pub message: String,
    /// Where it is.
    pub place: Option<Place>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault with a message alone; add [`Fault::at`] and [`Fault::hint`].
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, hint: None }
    }

    /// The same fault with its place.
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The same fault with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The fault as printed for a person: message, place with the line drawn, `hint:`.
    pub fn render(&self, colour: bool) -> String {
        let title = Level::ERROR.primary_title(self.message.as_str());
        let mut place_line = None;
        let mut group = match &self.place {
            Some(Place::Span(source, span)) => {
                let end = span.end.min(source.text.len()).max(span.start.min(source.text.len()));
                let span = span.start.min(end)..end;
                let annotation = AnnotationKind::Primary.span(span);
                title.element(Snippet::source(source.text.as_str()).path(source.name.as_str()).annotation(annotation))
            }
            Some(place) => {
                place_line = Some(place.to_string());
                annotate_snippets::Group::with_title(title)
            }
            None => annotate_snippets::Group::with_title(title),
        };
        if let Some(place) = &place_line {
            group = group.element(annotate_snippets::Origin::path(place.as_str()));
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.decor_style(DecorStyle::Ascii).render(&[group])
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// At least one fault, in the order they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `Ok` when the list is empty, the faults otherwise.
    pub fn check(faults: Vec<Fault>) -> Result<(), Faults> {
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    /// The faults, never none.
    pub fn list(&self) -> &[Fault] {
        &self.0
    }

    /// The faults, never none, to be joined with others.
    pub fn into_list(self) -> Vec<Fault> {
        self.0
    }

    /// Every fault as [`Fault::render`] prints it, with a blank line between them.
    pub fn render(&self, colour: bool) -> String {
        self.0.iter().map(|fault| fault.render(colour)).collect::<Vec<_>>().join("\n\n")
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Faults(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_shown_as_line_and_column_with_the_line_and_a_hint() {
        let source = Arc::new(Source { name: "r.toml".into(), text: "a = 1\nränk = 2\n".into() });
        let fault = Fault::new("unknown key `ränk`").at(Place::Span(source, 6..11)).hint("did you mean `rank`?");
        assert_eq!(fault.to_string(), "r.toml:2:1: unknown key `ränk`\nhint: did you mean `rank`?");
        let drawn = fault.render(false);
        for part in ["error: unknown key `ränk`", "r.toml:2:1", "ränk = 2", "hint: did you mean `rank`?"] {
            assert!(drawn.contains(part), "{part:?} is missing in\n{drawn}");
        }
    }

    #[test]
    fn a_span_past_the_end_does_not_panic() {
        let source = Arc::new(Source { name: "r.toml".into(), text: "a".into() });
        let fault = Fault::new("cut short").at(Place::Span(source, 5..9));
        assert!(fault.render(false).contains("cut short"));
        assert!(fault.to_string().contains("r.toml:1:2"));
    }

    #[test]
    fn a_line_of_a_large_file_is_named_without_its_text() {
        let fault = Fault::new("broken").at(Place::line("rows.jsonl", 7));
        assert!(fault.render(false).contains("rows.jsonl:7"));
    }
}
