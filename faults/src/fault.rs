//! One user error and lists of them, and how they are printed.

use std::fmt;
use std::io::{self, ErrorKind};
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
    /// An element of a list that a file holds, both counted from 1, with the line that it begins in.
    Element { file: String, line: usize, element: usize },
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
            Place::Element { file, line, element } => write!(f, "{file}:{line} (element {element})"),
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

    /// Sets the place.
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Sets the hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the place where there is none.
    pub fn or_at(self, place: Place) -> Self {
        if self.place.is_some() { self } else { self.at(place) }
    }

    /// Sets the hint where there is none.
    pub fn or_hint(self, hint: impl Into<String>) -> Self {
        if self.hint.is_some() { self } else { self.hint(hint) }
    }

    /// A file or folder that the system will not have used: `doing` says for what, as in `cannot read the rows`.
    pub fn of_file(doing: &str, path: impl AsRef<Path>, error: &io::Error) -> Self {
        // `fs_err` names the path once more; what caused its error does not.
        let cause = error.get_ref().and_then(|inner| inner.source()).map(ToString::to_string);
        let told = || cause.unwrap_or_else(|| error.to_string());
        let check = "check the path, and the disk that it is on";
        let (reason, hint) = match error.kind() {
            ErrorKind::NotFound => {
                let hint = "check the path for a typing error; relative paths are meant from the current directory";
                ("there is no such file or folder".into(), hint)
            }
            ErrorKind::PermissionDenied => ("permission denied".into(), "check who owns it and its permissions"),
            ErrorKind::IsADirectory => ("it is a folder".into(), "name a file in it"),
            ErrorKind::NotADirectory => ("a part of its path is a file".into(), check),
            ErrorKind::InvalidData => {
                ("it is not UTF-8 text".into(), "is this the right file? save it as UTF-8 if it is")
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                (told(), "free some space, keep fewer checkpoints, or write to another disk")
            }
            ErrorKind::ReadOnlyFilesystem => (told(), "write to another folder"),
            _ => (told(), check),
        };
        Self::new(format!("{doing}: {reason}")).at(Place::file(path)).hint(hint)
    }

    /// The fault in one line, as warnings are: place, message, hint.
    pub fn line(&self) -> String {
        self.to_string().replace("\nhint: ", "; hint: ")
    }

    /// The fault as printed for a person: message, place with the line drawn, `hint:`.
    pub fn render(&self, colour: bool) -> String {
        let (message, hint) = (visible(&self.message), self.hint.as_deref().map(visible));
        let title = Level::ERROR.primary_title(message.as_str());
        let mut place_line = None;
        let mut group = match &self.place {
            Some(Place::Span(source, span)) => {
                let end = span.end.min(source.text.len()).max(span.start.min(source.text.len()));
                let span = span.start.min(end)..end;
                let annotation = AnnotationKind::Primary.span(span);
                title.element(Snippet::source(source.text.as_str()).path(source.name.as_str()).annotation(annotation))
            }
            Some(place) => {
                place_line = Some(visible(&place.to_string()));
                annotate_snippets::Group::with_title(title)
            }
            None => annotate_snippets::Group::with_title(title),
        };
        if let Some(place) = &place_line {
            group = group.element(annotate_snippets::Origin::path(place.as_str()));
        }
        if let Some(hint) = &hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let drawn = renderer.decor_style(DecorStyle::Ascii).render(&[group]);
        if self.place.is_some() || hint.is_none() {
            return drawn;
        }
        // Between a title and a hint stands the beginning of a line for the place, which there is none of.
        let bare = message.lines().count();
        drawn.lines().enumerate().filter(|(at, _)| *at != bare).map(|(_, line)| line).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}: ", visible(&place.to_string()))?;
        }
        f.write_str(&visible(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {}", visible(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// A text of somebody else's as it may be printed: line breaks and tabs are kept, every other control character, which could
/// move the cursor of the terminal or write elsewhere, is an escape.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\r' {
            visible.push_str("\\r");
        } else if is_hidden(c) {
            visible.extend(c.escape_unicode());
        } else {
            visible.push(c);
        }
    }
    visible
}

/// True for what a terminal does in place of showing it: control characters, and those that turn the direction in which what
/// stands beside them is shown, so that a text seems to be another (Unicode Technical Report 36, "bidirectional text").
pub fn is_hidden(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || matches!(c, '\u{2028}' | '\u{2029}') || c.is_control() && c != '\n' && c != '\t'
}

/// A text as it is shown in a message: of a long one, how it begins, how much is left out, and how it ends.
pub fn shortened(text: &str) -> String {
    const BEGINNING: usize = 50;
    const END: usize = 20;
    let count = text.chars().count();
    // What takes the place of the middle is not shorter than a few characters.
    if count <= BEGINNING + END + 30 {
        return text.into();
    }
    let beginning: String = text.chars().take(BEGINNING).collect();
    let end: String = text.chars().skip(count - END).collect();
    format!("{beginning} [.. {} characters ..] {end}", count - BEGINNING - END)
}

/// Faults of one kind that are named one by one.
const NAMED: usize = 20;

/// At least one fault, in the order they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `Ok` when the list is empty, the faults otherwise.
    pub fn check(faults: Vec<Fault>) -> Result<(), Faults> {
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    /// The same of faults that a file can have by the thousand: the first twenty, and the number of the others.
    pub fn check_first(mut faults: Vec<Fault>) -> Result<(), Faults> {
        if let Some(more) = faults.len().checked_sub(NAMED).filter(|more| *more > 0) {
            let place = faults.swap_remove(NAMED).place;
            faults.truncate(NAMED);
            let rest = Fault::new(format!("and {more} more of this kind"));
            faults.push(Fault { place, ..rest.hint("mend those above first") });
        }
        Self::check(faults)
    }

    /// The same of faults that each module of a model can have: those with the same hint are one, the first, with the number
    /// of the others and the places of a few.
    pub fn check_alike(faults: Vec<Fault>) -> Result<(), Faults> {
        let mut kinds: Vec<Vec<Fault>> = Vec::new();
        for fault in faults {
            match kinds.iter_mut().find(|kind| kind[0].hint == fault.hint) {
                Some(kind) => kind.push(fault),
                None => kinds.push(vec![fault]),
            }
        }
        let one = |mut kind: Vec<Fault>| {
            let others = kind.split_off(1);
            let mut first = kind.swap_remove(0);
            if !others.is_empty() {
                let places: Vec<String> =
                    others.iter().take(2).filter_map(|fault| Some(format!("`{}`", fault.place.as_ref()?))).collect();
                let rest = if others.len() > places.len() { ", .." } else { "" };
                first.message += &format!(", and {} more are like it: {}{rest}", others.len(), places.join(", "));
            }
            first
        };
        Self::check(kinds.into_iter().map(one).collect())
    }

    /// Changes each fault.
    pub fn map(self, change: impl FnMut(Fault) -> Fault) -> Self {
        Self(self.0.into_iter().map(change).collect())
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
    fn a_fault_without_a_place_is_its_message_and_its_hint() {
        let fault = Fault::new("nothing\n|").hint("mend it");
        assert_eq!(fault.render(false), "error: nothing\n       |\n = hint: mend it");
        let coloured = fault.render(true);
        assert_eq!(coloured.lines().count(), 3, "{coloured}");
        assert_eq!(Fault::new("nothing").render(false), "error: nothing");
    }

    #[test]
    fn a_span_past_the_end_does_not_panic() {
        let source = Arc::new(Source { name: "r.toml".into(), text: "a".into() });
        let fault = Fault::new("cut short").at(Place::Span(source, 5..9));
        assert!(fault.render(false).contains("cut short"));
        assert!(fault.to_string().contains("r.toml:1:2"));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_told_of_in_words() {
        let missing = std::fs::read("no/such.file").expect_err("no such file");
        let fault = Fault::of_file("cannot read the rows", "no/such.file", &missing);
        assert_eq!(
            fault.to_string().lines().next(),
            Some("no/such.file: cannot read the rows: there is no such file or folder")
        );
        assert!(fault.line().contains("; hint: check the path") && !fault.line().contains('\n'));
        let full = Fault::of_file("cannot write it", "a", &io::Error::from_raw_os_error(28));
        assert!(full.hint.is_some_and(|hint| hint.starts_with("free some space")), "{}", full.message);
    }

    #[test]
    fn a_long_text_is_shortened_in_the_middle_with_a_count() {
        assert_eq!(shortened("ä short one"), "ä short one");
        let long = format!("{}{}{}", "ä".repeat(50), "b".repeat(930), "ü".repeat(20));
        assert_eq!(shortened(&long), format!("{} [.. 930 characters ..] {}", "ä".repeat(50), "ü".repeat(20)));
    }

    #[test]
    fn of_many_faults_the_first_are_named_and_the_others_counted() {
        let many = |count: usize| (0..count).map(|n| Fault::new(format!("{n}")).at(Place::line("f", n))).collect();
        let list = |count| Faults::check_first(many(count)).expect_err("faults").into_list();
        assert_eq!(list(20).len(), 20);
        let cut = list(28);
        assert_eq!((cut.len(), cut[20].message.as_str()), (21, "and 8 more of this kind"));
        assert_eq!(cut[20].place, Some(Place::line("f", 20)));
        assert_eq!(Faults::check_first(Vec::new()), Ok(()));
    }

    #[test]
    fn faults_of_many_modules_are_one_with_their_number() {
        let fault = |name: &str, hint: &str| Fault::new(format!("no {name}")).at(Place::Named(name.into())).hint(hint);
        let list = |faults| Faults::check_alike(faults).expect_err("faults").into_list();
        let many = list(vec![fault("a", "x"), fault("b", "y"), fault("c", "x"), fault("d", "x"), fault("e", "x")]);
        let texts: Vec<String> = many.iter().map(Fault::to_string).collect();
        assert_eq!(texts, ["a: no a, and 3 more are like it: `c`, `d`, ..\nhint: x", "b: no b\nhint: y"]);
        let two = list(vec![fault("a", "x"), fault("b", "x")]);
        assert_eq!(two[0].message, "no a, and 1 more are like it: `b`");
        assert_eq!(Faults::check_alike(Vec::new()), Ok(()));
    }

    /// A terminal would do what they say.
    #[test]
    fn control_characters_of_a_file_are_shown_and_not_sent() {
        let fault = Fault::new("a \u{1b}[2Jname\u{202e}fdp.exe")
            .at(Place::Named("b\u{9b}31m\u{7}".into()))
            .hint("c\rd\ne\u{2067}");
        let (text, drawn) = (fault.to_string(), fault.render(false));
        for shown in [&text, &drawn] {
            assert!(shown.chars().all(|c| c == '\n' || !is_hidden(c)), "{shown:?}");
            for part in ["a \\u{1b}[2Jname\\u{202e}fdp", "b\\u{9b}31m\\u{7}", "c\\rd", "\\u{2067}"] {
                assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
            }
        }
    }

    #[test]
    fn a_line_of_a_large_file_is_named_without_its_text() {
        let fault = Fault::new("broken").at(Place::line("rows.jsonl", 7));
        assert!(fault.render(false).contains("rows.jsonl:7"));
    }
}
