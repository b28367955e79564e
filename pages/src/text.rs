//! Texts of models and users as they can be shown.

use serde::Serialize;

/// Letters that are shown before the rest is folded.
const SHOWN: usize = 400;

/// A text, the end of a long one folded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    head: String,
    /// Empty of a short one.
    rest: String,
}

impl Shown {
    /// The text with its control characters made visible.
    pub fn of(text: &str) -> Self {
        let text: String = text.chars().map(visible).collect();
        match text.char_indices().nth(SHOWN) {
            // Folding a few letters would hide more than it saves.
            Some((end, _)) if text[end..].chars().nth(SHOWN / 4).is_some() => {
                Self { head: text[..end].into(), rest: text[end..].into() }
            }
            _ => Self { head: text, rest: String::new() },
        }
    }
}

/// A name as HTML that may go on in the next line after what joins its parts, and not amid a word.
pub fn breakable(name: &str) -> String {
    let mut html = String::with_capacity(name.len());
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#x27;",
            letter => html.push(letter),
        }
        let is_number = letter == '.' && letters.peek().is_none_or(char::is_ascii_digit);
        if "_/=,.@".contains(letter) && !is_number {
            html += "<wbr>";
        }
    }
    html
}

/// A sign for what is invisible or turns the direction of what follows.
fn visible(letter: char) -> char {
    match letter {
        '\n' | '\t' => letter,
        '\0'..='\x1f' => char::from_u32(0x2400 + letter as u32).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        letter => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_folded_and_none_of_them_is_lost() {
        let long = "\u{1f98a}".repeat(1000);
        let shown = Shown::of(&long);
        assert_eq!((shown.head.chars().count(), shown.head + &shown.rest), (SHOWN, long));
        let short = "a".repeat(SHOWN + SHOWN / 4);
        assert_eq!(Shown::of(&short), Shown { head: short, rest: String::new() });
    }

    #[test]
    fn a_name_breaks_where_its_parts_are_joined() {
        assert_eq!(breakable("runs/a.b_c=1.4"), "runs/<wbr>a.<wbr>b_<wbr>c=<wbr>1.4");
        assert_eq!(breakable("<b>&\"'"), "&lt;b&gt;&amp;&quot;&#x27;");
    }

    #[test]
    fn what_is_invisible_has_a_sign() {
        assert_eq!(Shown::of("a\0\x1b[1m\u{202e}b\n\t").head, "a\u{2400}\u{241b}[1m\u{fffd}b\n\t");
    }
}
