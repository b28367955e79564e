//! The terminal that the bar and the log share, and what fits on its lines.

use std::io::{self, IsTerminal};
use std::sync::LazyLock;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::logging;

/// Drawings a second, at most.
const DRAWN_PER_SECOND: u8 = 20;

static TERMINAL: LazyLock<MultiProgress> = LazyLock::new(|| {
    MultiProgress::with_draw_target(match logging::draws_progress() {
        true => {
            // The bar asks for stdout's colours where it does not know that it draws on stderr.
            console::set_colors_enabled(logging::colour());
            ProgressDrawTarget::term_like_with_hz(Box::new(Unfailing(Term::buffered_stderr())), DRAWN_PER_SECOND)
        }
        false => ProgressDrawTarget::hidden(),
    })
});

/// Writes to the terminal with the bar out of the way.
pub fn beside_the_bar<T>(write: impl FnOnce() -> T) -> T {
    TERMINAL.suspend(write)
}

/// A bar of `total` steps in `template`, which goes when it is dropped; none where none is wanted.
pub fn bar(template: &str, total: usize) -> Option<ProgressBar> {
    logging::draws_progress().then(|| {
        // Without colour the part to come is blank: it has nothing else to be told by.
        let parts = if logging::colour() { "━━━" } else { "━╸ " };
        let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars(parts);
        TERMINAL.add(ProgressBar::new(total as u64).with_style(style))
    })
}

/// Columns of the terminal that stderr is, if it is one.
pub fn columns() -> Option<usize> {
    columns_of(&Term::stderr(), io::stderr().is_terminal())
}

/// Columns of the terminal that stdout is, if it is one.
pub fn columns_of_stdout() -> Option<usize> {
    columns_of(&Term::stdout(), io::stdout().is_terminal())
}

fn columns_of(term: &Term, is_terminal: bool) -> Option<usize> {
    let (_, columns) = term.size_checked().filter(|_| is_terminal)?;
    Some(columns.into()).filter(|columns| *columns > 0)
}

/// `text` with every line that is longer than `columns` broken between words; what goes on is indented by `indent`. A word
/// longer than a line is left to the terminal.
pub fn wrapped(text: &str, columns: Option<usize>, indent: usize) -> String {
    let Some(columns) = columns else { return text.into() };
    // Where next to nothing would fit beside the indent, the words have the whole line.
    let indent = if indent + 20 > columns { 0 } else { indent };
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut current = String::new();
        let mut width = 0;
        // The blanks before a word belong to it, so that a table's columns stay.
        for word in words(line) {
            let long = console::measure_text_width(word);
            if width + long > columns && !current.trim().is_empty() {
                lines.push(std::mem::replace(&mut current, " ".repeat(indent)));
                let word = word.trim_start();
                current += word;
                width = indent + console::measure_text_width(word);
            } else {
                current += word;
                width += long;
            }
        }
        lines.push(current);
    }
    lines.join("\n")
}

/// The words of a line, each with the blanks before it.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut start = 0;
    let mut in_word = false;
    for (place, c) in line.char_indices() {
        if c == ' ' && in_word {
            words.push(&line[start..place]);
            start = place;
        }
        in_word = c != ' ';
    }
    if start < line.len() {
        words.push(&line[start..]);
    }
    words
}

/// A terminal that may go away at any time: what cannot be drawn then is not drawn, and the run goes on.
#[derive(Debug)]
struct Unfailing(Term);

impl TermLike for Unfailing {
    fn width(&self) -> u16 {
        TermLike::width(&self.0)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.0)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        dropped(self.0.move_cursor_up(n))
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        dropped(self.0.move_cursor_down(n))
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        dropped(self.0.move_cursor_right(n))
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        dropped(self.0.move_cursor_left(n))
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        dropped(self.0.write_line(text))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        dropped(self.0.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        dropped(self.0.clear_line())
    }

    fn flush(&self) -> io::Result<()> {
        dropped(self.0.flush())
    }
}

/// Nobody is left who could be told.
fn dropped(result: io::Result<()>) -> io::Result<()> {
    let _ = result;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_go_on_under_their_text() {
        let line = "model        llama, 4 layers, width 128";
        assert_eq!(wrapped(line, Some(40), 13), line);
        assert_eq!(wrapped(line, Some(39), 13), line);
        assert_eq!(wrapped(line, Some(38), 13), "model        llama, 4 layers, width\n             128");
        assert_eq!(wrapped(line, None, 13), line);
        // Each line for itself, and none is lost.
        assert_eq!(wrapped("a b\n\nc d\n", Some(3), 0), "a b\n\nc d\n");
        assert_eq!(wrapped("a b\n\nc d\n", Some(2), 0), "a\nb\n\nc\nd\n");
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let path = "x".repeat(50);
        assert_eq!(wrapped(&format!("in {path} now"), Some(40), 2), format!("in\n  {path}\n  now"));
        assert_eq!(wrapped(&path, Some(40), 2), path);
    }

    #[test]
    fn blanks_and_colours_are_no_words() {
        // The blanks of a table stay, and those at a break go.
        assert_eq!(wrapped("  1 to   2  ####", Some(10), 0), "  1 to   2\n####");
        assert_eq!(wrapped("\u{1b}[31mred\u{1b}[0m red", Some(7), 0), "\u{1b}[31mred\u{1b}[0m red");
        // Wide characters take two columns.
        assert_eq!(wrapped("狐狸 跑", Some(7), 0), "狐狸 跑");
        assert_eq!(wrapped("狐狸 跑", Some(6), 0), "狐狸\n跑");
    }

    #[test]
    fn a_terminal_of_few_columns_has_no_indent() {
        assert_eq!(wrapped("name         one two three", Some(20), 13), "name         one two\nthree");
    }
}
