//! Texts as they are typed into a shell: on one line, and as every shell reads them.

use faults::Fault;

/// A word as every shell reads it.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// True for a text that stands on one line as it is.
pub fn is_one_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// The text on one line: line breaks and other control characters as JSON writes them, and each backslash twice.
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => line += "\\\\",
            '\n' => line += "\\n",
            '\t' => line += "\\t",
            '\r' => line += "\\r",
            c if c.is_control() => line += &format!("\\u{:04x}", u32::from(c)),
            c => line.push(c),
        }
    }
    line
}

/// The text that [`escaped`] wrote on one line.
///
/// # Errors
/// A backslash before anything else than `n`, `t`, `r`, `\` or `u` and four digits.
pub fn unescaped(line: &str) -> Result<String, Fault> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(place) = rest.find('\\') {
        text += &rest[..place];
        rest = &rest[place + 1..];
        let (c, length) = match rest.chars().next() {
            Some('n') => ('\n', 1),
            Some('t') => ('\t', 1),
            Some('r') => ('\r', 1),
            Some('\\') => ('\\', 1),
            Some('u') => {
                let digits = rest.get(1..5).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let read = digits.and_then(|digits| char::from_u32(u32::from_str_radix(digits, 16).ok()?));
                (read.ok_or_else(|| unknown(rest))?, 5)
            }
            _ => return Err(unknown(rest)),
        };
        text.push(c);
        rest = &rest[length..];
    }
    Ok(text + rest)
}

fn unknown(rest: &str) -> Fault {
    let shown: String = rest.chars().take(if rest.starts_with('u') { 5 } else { 1 }).collect();
    Fault::new(format!("`\\{shown}` is not an escape"))
        .hint("`\\n`, `\\t`, `\\r`, `\\u0041` and `\\\\` are; write a backslash twice, or leave out `--escapes`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_would_read_it_otherwise() {
        assert_eq!(quoted("runs/a.toml"), "runs/a.toml");
        assert_eq!(quoted("runs/a@best"), "runs/a@best");
        assert_eq!(quoted("data.train=[\"a b\"]"), "'data.train=[\"a b\"]'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn any_text_comes_back_from_one_line() {
        for text in
            ["", "a fox.\n", "\n\n", "C:\\new\\table", "\\", "\\n", "tab\tand \u{1b}[31m", "狐\r\n", "\u{7f}\u{85}"]
        {
            let line = escaped(text);
            assert!(is_one_line(&line), "{line:?}");
            assert_eq!(unescaped(&line).expect("an escaped text"), text);
        }
        assert_eq!(escaped("a\nb\\"), "a\\nb\\\\");
        assert_eq!(unescaped("\\u72d0").expect("a letter"), "狐");
    }

    #[test]
    fn what_is_no_escape_is_named() {
        for (line, named) in [
            ("a\\", "`\\`"),
            ("\\d+", "`\\d`"),
            ("\\u12", "`\\u12`"),
            ("\\ud800", "`\\ud800`"),
            ("\\u狐狐", "`\\u狐狐`"),
        ] {
            let fault = unescaped(line).expect_err(line);
            assert!(fault.message.contains(named), "{}", fault.message);
        }
    }
}
