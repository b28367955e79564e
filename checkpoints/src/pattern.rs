//! PEFT's patterns of module names: Python's regular expressions, read by another engine.
//!
//! What Python does not read, or reads as something else, is refused: an adapter would have other ranks there than here.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use indexmap::IndexMap;
use regex::{Regex, RegexBuilder};
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    AssertionKind, Ast, ClassSetBinaryOp, ClassSetItem, Flag, FlagsItemKind, GroupKind, HexLiteralKind, Literal,
    LiteralKind, Span, SpecialLiteralKind, Visitor, visit,
};

/// A pattern as PEFT matches those of ranks and alphas: the whole path, or its end after a dot.
///
/// # Errors
/// What is wrong with the pattern.
pub(crate) fn of_end(pattern: &str) -> Result<Regex, String> {
    compiled(pattern, r"^(?:.*\.)?(?:", ")$")
}

/// A pattern as PEFT matches a `target_modules` that is one: the whole path.
///
/// # Errors
/// What is wrong with the pattern.
pub(crate) fn of_whole(pattern: &str) -> Result<Regex, String> {
    compiled(pattern, "^(?:", ")$")
}

/// The most that one pattern may take when it is compiled, in bytes: counts of counts take any, and seconds.
const SIZE: usize = 1 << 20;

/// So many compiled patterns are kept: each is asked for with the path of every module.
const KEPT: usize = 4096;

/// Python's `pattern` with something around it.
///
/// # Errors
/// What is wrong with the pattern.
pub(crate) fn compiled(pattern: &str, before: &str, after: &str) -> Result<Regex, String> {
    type Known = HashMap<[String; 3], Result<Regex, String>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let key = [pattern, before, after].map(str::to_owned);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(done) = known.get(&key) {
        return done.clone();
    }
    let done = compiled_anew(pattern, before, after);
    if known.len() >= KEPT {
        known.clear();
    }
    known.insert(key, done.clone());
    done
}

fn compiled_anew(pattern: &str, before: &str, after: &str) -> Result<Regex, String> {
    let ast = Parser::new().parse(pattern).map_err(|error| error.kind().to_string())?;
    visit(&ast, Dialect).map_err(|span| {
        let part = &pattern[span.start.offset..span.end.offset];
        format!("PEFT matches it with Python, which does not read `{part}` as it is read here")
    })?;
    RegexBuilder::new(&format!("{before}{pattern}{after}")).size_limit(SIZE).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("compiled, it takes more than {limit} bytes"),
        error => error.to_string(),
    })
}

/// The place of the first pattern that matches the end of a module's path; one that cannot be read matches nothing.
pub(crate) fn first<T>(patterns: &IndexMap<String, T>, module: &str) -> Option<usize> {
    patterns.keys().position(|pattern| of_end(pattern).is_ok_and(|found| found.is_match(module)))
}

/// Finds what the two dialects do not share (`re` of Python 3; the syntax of the crate `regex`).
struct Dialect;

impl Visitor for Dialect {
    type Output = ();
    type Err = Span;

    fn finish(self) -> Result<(), Span> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Span> {
        let shared = match ast {
            Ast::Empty(_) | Ast::Dot(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_) => true,
            Ast::Alternation(_) | Ast::Concat(_) => true,
            // Python has them at the very start alone, where PEFT puts something else.
            Ast::Flags(_) => false,
            Ast::ClassUnicode(_) => false,
            Ast::Literal(literal) => is_shared(literal),
            Ast::Assertion(assertion) => matches!(
                assertion.kind,
                AssertionKind::StartLine
                    | AssertionKind::EndLine
                    | AssertionKind::StartText
                    | AssertionKind::WordBoundary
                    | AssertionKind::NotWordBoundary
            ),
            // `a**` is an error there, and `a++` never gives back.
            Ast::Repetition(repetition) => !matches!(*repetition.ast, Ast::Repetition(_) | Ast::Assertion(_)),
            Ast::Group(group) => match &group.kind {
                GroupKind::CaptureIndex(_) => true,
                GroupKind::CaptureName { starts_with_p, name } => {
                    *starts_with_p && name.name.chars().all(|c| c.is_alphanumeric() || c == '_')
                }
                GroupKind::NonCapturing(flags) => flags.items.iter().all(|item| {
                    use Flag::{CaseInsensitive, DotMatchesNewLine, MultiLine};
                    matches!(
                        item.kind,
                        FlagsItemKind::Negation | FlagsItemKind::Flag(CaseInsensitive | DotMatchesNewLine | MultiLine)
                    )
                }),
            },
        };
        if shared { Ok(()) } else { Err(*ast.span()) }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Span> {
        let shared = match item {
            ClassSetItem::Empty(_) | ClassSetItem::Perl(_) | ClassSetItem::Union(_) => true,
            ClassSetItem::Literal(literal) => is_shared(literal),
            ClassSetItem::Range(range) => is_shared(&range.start) && is_shared(&range.end),
            ClassSetItem::Ascii(_) | ClassSetItem::Unicode(_) | ClassSetItem::Bracketed(_) => false,
        };
        if shared { Ok(()) } else { Err(*item.span()) }
    }

    fn visit_class_set_binary_op_pre(&mut self, operation: &ClassSetBinaryOp) -> Result<(), Span> {
        Err(operation.span)
    }
}

fn is_shared(literal: &Literal) -> bool {
    match &literal.kind {
        LiteralKind::Verbatim | LiteralKind::Meta | LiteralKind::Superfluous => true,
        LiteralKind::HexFixed(HexLiteralKind::X | HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong) => true,
        LiteralKind::Special(special) => *special != SpecialLiteralKind::Space,
        LiteralKind::HexBrace(_) | LiteralKind::Octal => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python 3.12 matches, by `re.match(rf"(.*\.)?({pattern})$", path)`, as PEFT's `get_pattern_key` does.
    #[test]
    fn patterns_that_python_reads_alike_match_as_there() {
        let path = "model.layers.10.self_attn.q_proj";
        for (pattern, matches) in [
            ("q_proj", true),
            ("attn.q_proj", false),
            ("self_attn.q_proj", true),
            (r"layers\.1\.self_attn\.q_proj", false),
            (r"layers\.\d+\.self_attn\.[qkv]_proj", true),
            ("layers.(?:1|10).*", true),
            ("(?P<what>[^.]*)_proj", true),
            ("(?i:Q_PROJ)", true),
            ("Q_PROJ", false),
            (r"[\w-]+", true),
            (r"q\x5fproj", true),
            ("q.{4,5}?", true),
            ("^model.*q_proj$", true),
            ("k_proj|q_proj", true),
            ("[]q_proj]+", true),
        ] {
            assert_eq!(of_end(pattern).unwrap().is_match(path), matches, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_of_counts_of_counts_is_refused_and_not_compiled() {
        for pattern in ["((a{1000}){1000}){1000}", r"(?:(?:\w{100}){100}){100}_proj", "(?:(?:(?:a?){999}){999}){999}"] {
            let reason = of_end(pattern).unwrap_err();
            assert!(reason.contains("takes more than 1048576 bytes"), "{pattern}: {reason}");
            assert_eq!(of_end(pattern).unwrap_err(), reason);
        }
        assert!(of_end(r"model\.layers\.\d{1,3}\.(?:self_attn|mlp)\.\w{1,20}_proj").is_ok());
    }

    /// Python reads these otherwise or not at all.
    #[test]
    fn patterns_of_this_dialect_alone_are_refused() {
        for (pattern, part) in [
            ("layers.[[:digit:]].mlp", "[:digit:]"),
            (".*[a-z&&q]_proj", "a-z&&q"),
            (".*[a-z&&[^q]]_proj", "a-z&&[^q]"),
            (".*[p-r--q]_proj", "p-r--q"),
            ("[a-c[d]]", "[d]"),
            ("(?i)Q_PROJ", "(?i)"),
            (r"\pL_proj", r"\pL"),
            (r"q_proj\z", r"\z"),
            (r"\x{71}_proj", r"\x{71}"),
            ("(?<what>q)_proj", "(?<what>q)"),
            ("(?x: q_proj )", "(?x: q_proj )"),
            (r"q_proj\b{end}", r"\b{end}"),
            ("q**", "q**"),
        ] {
            let reason = of_end(pattern).unwrap_err();
            assert!(reason.contains("Python") && reason.contains(&format!("`{part}`")), "{pattern}: {reason}");
        }
        for pattern in ["(?=x)", "q_proj(", "*", "a)|(b", "[q"] {
            assert!(!of_end(pattern).unwrap_err().contains("Python"), "{pattern}");
        }
    }
}
