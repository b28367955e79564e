//! What jinja2 reads otherwise than minijinja, written as minijinja reads it: line ends, `{% generation %}`, the operator
//! `%` on strings, a plus sign before a number, escapes that Python leaves as they are, loops over `none`, which is an
//! error, and letters of a string that are given to several names.

use std::ops::Range;

use super::filters::{ITEMS, LETTERS, PERCENT, UNPACKED};

/// Stands in a rendered text where a `{% generation %}` block begins; no character of any text.
pub(super) const MARK_START: char = '\u{fdd0}';
/// Stands where it ends.
pub(super) const MARK_END: char = '\u{fdd1}';

/// The longest template, in bytes: ten times the longest that is known.
const LONGEST: usize = 256 << 10;
/// The words and signs that one tag may have: each may be a step deeper into what is compiled.
const WORDS: usize = 10_000;
/// The bytes that may follow where a tag does not end.
const UNENDED: usize = 16 << 10;
/// The `elif` that a template may have: they are compiled one within the other.
const BRANCHES: usize = 2_000;

/// A template's source for minijinja.
///
/// # Errors
/// More than a template may have, so that compiling it would take more stack than there is.
pub(super) fn rewritten(source: &str) -> Result<String, String> {
    if source.len() > LONGEST {
        return Err(format!("it has {} bytes, and the most is {LONGEST}", source.len()));
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let line = |rest: &str| 1 + source[..source.len() - rest.len()].matches('\n').count();
    let mut text = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut branches = 0;
    while let Some(start) = next_tag(rest) {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        let length = match rest.as_bytes()[1] {
            b'#' => rest.find("#}").map(|end| end + 2),
            closer => match tag(rest, if closer == b'{' { "}}" } else { "%}" }, &mut text) {
                Err(count) => {
                    return Err(format!(
                        "a tag has {count} words and signs, and the most is {WORDS} (line {})",
                        line(rest)
                    ));
                }
                Ok(length) => length,
            },
        };
        let Some(length) = length else {
            if rest.len() > UNENDED {
                return Err(format!("a tag does not end (line {})", line(rest)));
            }
            break;
        };
        let (tag, after) = rest.split_at(length);
        rest = after;
        match tag.strip_prefix("{%").map(|tag| tag[..tag.len() - 2].trim_matches(['-', '+', ' ', '\n', '\t'])) {
            _ if tag.starts_with("{#") => text.push_str(tag),
            Some(tag) if tag.starts_with("elif") => {
                branches += 1;
                if branches > BRANCHES {
                    return Err(format!("it has more than {BRANCHES} `elif` (line {})", line(rest)));
                }
            }
            Some("raw") => {
                let (raw, after) = after.split_at(end_of_raw(after).unwrap_or(0));
                text.push_str(raw);
                rest = after;
            }
            _ => {}
        }
    }
    text.push_str(rest);
    Ok(text)
}

/// Where the next tag or comment begins.
fn next_tag(text: &str) -> Option<usize> {
    let mut opened = text.match_indices('{').map(|(at, _)| at);
    opened.find(|at| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// Where the tag begins that ends a raw block.
fn end_of_raw(text: &str) -> Option<usize> {
    let mut tags = text.match_indices("{%").map(|(at, _)| at);
    tags.find(|at| text[at + 2..].trim_start_matches(['-', '+', ' ', '\n', '\t']).starts_with("endraw"))
}

/// Rewrites one tag into `out`; its length in the source, `None` where it does not end.
///
/// # Errors
/// How many words and signs it has, where these are too many.
fn tag(source: &str, closer: &str, out: &mut String) -> Result<Option<usize>, usize> {
    let Some((tokens, length)) = tokens(source, closer) else { return Ok(None) };
    if tokens.len() > WORDS {
        return Err(tokens.len());
    }
    let word = |token: &Token| &source[token.range.clone()];
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    if let ([only], "%}") = (&tokens[..], closer)
        && let Some((block, mark)) = match word(only) {
            "generation" => Some(("if true", MARK_START)),
            "endgeneration" => Some(("endif", MARK_END)),
            _ => None,
        }
    {
        // The last tag does nothing but take off what the original takes off behind it.
        let sign = |letter: Option<char>| letter.filter(|letter| matches!(letter, '-' | '+')).map(String::from);
        let (left, right) = (sign(source[2..].chars().next()), sign(source[..length - 2].chars().next_back()));
        let (left, right) = (left.unwrap_or_default(), right.unwrap_or_default());
        out.push_str(&format!("{{%{left} {block} %}}{{{{ '{mark}' }}}}{{% set __marked__ = 0 {right}%}}"));
        return Ok(Some(length));
    }
    for (index, token) in tokens.iter().enumerate() {
        let is_after_operand = index > 0 && ends_operand(source, &tokens[index - 1]);
        match (token.kind, word(token)) {
            (Kind::Sign, "+") if !is_after_operand => edits.push((token.range.clone(), " ".into())),
            (Kind::Sign, "%") => {
                if let Some(end) = percent(source, &tokens, index) {
                    edits.push((token.range.clone(), format!("|{PERCENT}(")));
                    edits.push((end..end, ")".into()));
                }
            }
            (Kind::Text, text) => edits.extend(escapes(text).map(|text| (token.range.clone(), text))),
            _ => {}
        }
    }
    if let Some((range, filter)) =
        looped_over(source, &tokens).or_else(|| unpacked(source, &tokens)).filter(|_| closer == "%}")
    {
        edits.push((range.start..range.start, "(".into()));
        edits.push((range.end..range.end, format!(")|{filter}")));
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut at = 0;
    for (range, replacement) in edits {
        out.push_str(&source[at..range.start]);
        out.push_str(&replacement);
        at = range.end;
    }
    out.push_str(&source[at..length]);
    Ok(Some(length))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name,
    Number,
    Text,
    Sign,
    Open,
    Close,
}

#[derive(Debug)]
struct Token {
    kind: Kind,
    range: Range<usize>,
    /// Of a bracket, the place of its partner among the tokens.
    partner: usize,
}

/// The tokens of a tag, and its length.
fn tokens(source: &str, closer: &str) -> Option<(Vec<Token>, usize)> {
    let bytes = source.as_bytes();
    let (mut found, mut open): (Vec<Token>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut at = 2;
    if matches!(bytes.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    while let Some(&byte) = bytes.get(at) {
        let rest = &source[at..];
        if open.is_empty() {
            if rest.starts_with(closer) {
                return Some((found, at + 2));
            }
            if matches!(byte, b'-' | b'+') && rest[1..].starts_with(closer) {
                return Some((found, at + 3));
            }
        }
        let is_word = |letter: char| letter == '_' || letter.is_alphanumeric();
        let (kind, length) = match byte {
            b'\'' | b'"' => (Kind::Text, text_length(bytes, at)?),
            b'0'..=b'9' => (Kind::Number, number_length(rest, found.last().map(|token| &source[token.range.clone()]))),
            b'(' | b'[' | b'{' => (Kind::Open, 1),
            b')' | b']' | b'}' => (Kind::Close, 1),
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ if rest.starts_with(is_word) => (Kind::Name, rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())),
            _ if ["**", "//", "==", "!=", "<=", ">="].iter().any(|sign| rest.starts_with(sign)) => (Kind::Sign, 2),
            _ => (Kind::Sign, rest.chars().next().map_or(1, char::len_utf8)),
        };
        let index = found.len();
        let mut partner = index;
        match kind {
            Kind::Open => open.push(index),
            Kind::Close => {
                partner = open.pop()?;
                found[partner].partner = index;
            }
            _ => {}
        }
        found.push(Token { kind, range: at..at + length, partner });
        at += length;
    }
    None
}

fn text_length(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    while *bytes.get(at)? != bytes[start] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    Some(at + 1 - start)
}

/// The length of a number; after a dot it is an index and has no fraction.
fn number_length(rest: &str, before: Option<&str>) -> usize {
    let digits =
        |text: &str| text.find(|letter: char| letter != '_' && !letter.is_alphanumeric()).unwrap_or(text.len());
    let whole = digits(rest);
    let fraction = &rest[whole..];
    if before == Some(".")
        || !fraction.starts_with('.')
        || !fraction[1..].starts_with(|letter: char| letter.is_ascii_digit())
    {
        return whole;
    }
    let length = whole + 1 + digits(&fraction[1..]);
    // `1.5e-3`
    if rest[..length].ends_with(['e', 'E']) && rest[length..].starts_with(['-', '+']) {
        return length + 1 + digits(&rest[length + 1..]);
    }
    length
}

/// What a `for` goes over, from behind its `in` to its `if` or `recursive`, or to the end; and the filter that it passes.
fn looped_over(source: &str, tokens: &[Token]) -> Option<(Range<usize>, &'static str)> {
    let word = |at: usize| &source[tokens[at].range.clone()];
    if tokens.is_empty() || word(0) != "for" {
        return None;
    }
    let next = |at: usize, words: &[&str]| {
        let mut at = at;
        while at < tokens.len() && !words.contains(&word(at)) {
            at = if tokens[at].kind == Kind::Open { tokens[at].partner } else { at } + 1;
        }
        at
    };
    let start = next(1, &["in"]) + 1;
    let end = next(start, &["if", "recursive"]);
    let is_unpacked = (1..start).any(|at| word(at) == ",");
    let filter = if is_unpacked { UNPACKED } else { ITEMS };
    (start < end).then(|| (tokens[start].range.start..tokens[end - 1].range.end, filter))
}

/// What a `set` gives to several names at once, and the filter that it passes.
fn unpacked(source: &str, tokens: &[Token]) -> Option<(Range<usize>, &'static str)> {
    let word = |at: usize| &source[tokens[at].range.clone()];
    if tokens.is_empty() || word(0) != "set" {
        return None;
    }
    let equals = (1..tokens.len()).find(|at| word(*at) == "=")?;
    let value = tokens.get(equals + 1)?;
    let is_unpacked = (1..equals).any(|at| word(at) == ",");
    is_unpacked.then(|| (value.range.start..tokens[tokens.len() - 1].range.end, LETTERS))
}

/// Names that no value has.
const KEYWORDS: [&str; 14] =
    ["and", "or", "not", "in", "is", "if", "else", "elif", "for", "set", "do", "recursive", "call", "filter"];

fn is_name(source: &str, token: &Token) -> bool {
    token.kind == Kind::Name && !KEYWORDS.contains(&&source[token.range.clone()])
}

fn ends_operand(source: &str, token: &Token) -> bool {
    matches!(token.kind, Kind::Number | Kind::Text | Kind::Close) || is_name(source, token)
}

/// Where the right operand of the `%` at `index` ends, where the sign can be written as a filter: what stands to its left
/// must be an operand that no other sign binds as tightly.
fn percent(source: &str, tokens: &[Token], index: usize) -> Option<usize> {
    let start = operand_start(source, tokens, index)?;
    if let Some(before) = start.checked_sub(1).map(|before| &tokens[before]) {
        let sign = &source[before.range.clone()];
        let is_unary = matches!(sign, "-" | "+") && (start == 1 || !ends_operand(source, &tokens[start - 2]));
        if matches!(sign, "*" | "/" | "//" | "%" | "**") || is_unary {
            return None;
        }
    }
    let end = operand_end(source, tokens, index + 1)?;
    Some(tokens[end - 1].range.end)
}

/// The first token of the operand that ends before `end`.
fn operand_start(source: &str, tokens: &[Token], end: usize) -> Option<usize> {
    let mut at = end;
    loop {
        at = at.checked_sub(1)?;
        let token = &tokens[at];
        match token.kind {
            Kind::Close => {
                at = token.partner;
                // A call or a subscript belongs to what stands before it.
                if at > 0 && ends_operand(source, &tokens[at - 1]) {
                    continue;
                }
            }
            Kind::Text => {
                while at > 0 && tokens[at - 1].kind == Kind::Text {
                    at -= 1;
                }
            }
            Kind::Number => {}
            Kind::Name if is_name(source, token) => {}
            _ => return None,
        }
        match at.checked_sub(1).map(|before| &source[tokens[before].range.clone()]) {
            Some("." | "|") => at -= 1,
            _ => return Some(at),
        }
    }
}

/// One past the last token of the operand that begins at `start`.
fn operand_end(source: &str, tokens: &[Token], start: usize) -> Option<usize> {
    let word = |at: usize| tokens.get(at).map(|token| &source[token.range.clone()]);
    let mut at = start;
    while matches!(word(at), Some("-" | "+")) {
        at += 1;
    }
    let token = tokens.get(at)?;
    at = match token.kind {
        Kind::Open => token.partner + 1,
        Kind::Text => {
            while tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Text) {
                at += 1;
            }
            at + 1
        }
        Kind::Number => at + 1,
        Kind::Name if is_name(source, token) => at + 1,
        _ => return None,
    };
    loop {
        match word(at) {
            Some("." | "|") => at += 2,
            Some("(" | "[") => at = tokens[at].partner + 1,
            Some("**") => at = operand_end(source, tokens, at + 1)?,
            _ => return Some(at.min(tokens.len())),
        }
    }
}

/// A string whose escapes Python reads otherwise.
fn escapes(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('/') => out.push_str("\\\\/"),
            Some('a') => out.push_str("\\x07"),
            Some('v') => out.push_str("\\x0b"),
            Some('\n') => {}
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    (out != text).then_some(out)
}
