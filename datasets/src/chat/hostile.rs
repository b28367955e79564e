//! Templates that are made to overflow the stack, to take all memory, or never to end: each is a fault, or a text.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, json};

use super::{ChatTemplate, Moment};
use crate::conversation::{Conversation, Message};

fn compiled(source: &str) -> Result<ChatTemplate, String> {
    let moment = Moment::parse("2026-11-28").expect("a moment");
    ChatTemplate::new("t.jinja", source, &[], moment).map_err(|fault| fault.to_string())
}

/// What comes of a template, with a variable `x` of some length; never more than a few megabytes.
fn outcome(source: &str) -> Result<String, String> {
    let mut conversation = Conversation::new(vec![Message::new("user", "a")]);
    conversation.arguments.insert("x".into(), json!(["a", "b", {"c": 1}]));
    conversation.arguments.insert("long".into(), json!("a b\n".repeat(1000)));
    let rendered = compiled(source)?.render(&conversation, &Map::new(), false).map_err(|fault| fault.to_string());
    rendered.map(|rendered| rendered.text)
}

/// Templates in which something stands so often.
fn chains(count: usize) -> Vec<String> {
    let many = |part: &str| part.repeat(count);
    let expressions = [
        format!("{}x", many("not ")),
        format!("{}1", many("- ")),
        format!("{}1", many("-")),
        format!("x{}", many(".a")),
        format!("x{}", many("[0]")),
        format!("x{}", many("[1:]")),
        format!("x{}", many("()")),
        format!("x{}", many("|list")),
        format!("x{}", many(" is defined")),
        format!("1{}", many("+1")),
        format!("1{}", many("~1")),
        format!("1{}", many("**1")),
        format!("7{}", many("%3")),
        format!("1{}", many(" and 1")),
        format!("1{}", many(" == 1")),
        format!("1{}", many(" if 1")),
        format!("1{}", many(" if 1 else 1")),
        format!("{}x{}", many("["), many("]")),
        format!("{}x{}", many("("), many(")")),
        format!("{}1{}", many("{1:"), many("}")),
        format!("x{}1{}", many("[x"), many("]")),
        format!("{}x{}", many("dict("), many(")")),
        format!("{}x", many("[")),
        format!("{}x", many("{")),
        format!("'{}'", many("\\'")),
        many("'a' "),
        many("x."),
    ];
    let mut sources: Vec<String> = expressions.iter().map(|expression| format!("{{{{ {expression} }}}}")).collect();
    sources.extend(expressions.iter().map(|expression| format!("{{% set y = {expression} %}}")));
    sources.extend(
        expressions.iter().map(|expression| format!("{{% for a, b in {expression} if {expression} %}}{{% endfor %}}")),
    );
    sources.extend([
        format!("{{% if 0 %}}{}{{% endif %}}", many("{% elif 0 %}")),
        format!("{{% set {}a{} = 1 %}}", many("("), many(")")),
        format!("{{% for {}a{} in x %}}{{% endfor %}}", many("("), many(",)")),
        format!("{{% set a{} = 1 %}}", many(".a")),
        many("{% if x %}"),
        many("{% for a in x %}"),
        many("{% raw %}"),
        many("{% generation %}"),
        many("{% macro m() %}"),
        many("{{"),
        many("{%"),
        many("{#"),
        format!("{}{}", many("{% if x %}"), many("{% endif %}")),
        format!("{}{}", many("{% filter trim %}"), many("{% endfilter %}")),
    ]);
    sources
}

#[test]
fn chains_and_nests_of_any_length_compile_or_are_faults() {
    for count in [100, 4_000, 60_000] {
        for source in chains(count) {
            if let Err(told) = outcome(&source) {
                assert!(told.contains("template"), "{told}");
            }
        }
    }
    let told = outcome(&format!("\n{{{{ x{} }}}}", ".a".repeat(6_000))).expect_err("too long");
    assert!(told.contains("a tag has 12001 words and signs, and the most is 10000 (line 2)"), "{told}");
    let told = outcome(&" ".repeat(300_000)).expect_err("too long");
    assert!(told.contains("it has 300000 bytes, and the most is 262144") && told.contains("t.jinja"), "{told}");
    assert_eq!(outcome(&format!("{{{{ 1{} }}}}", "+1".repeat(4_000))).as_deref(), Ok("4001"));
}

#[test]
fn what_would_make_a_huge_text_is_a_fault() {
    let double = "{% set ns = namespace(x='abcdefgh') %}{% for i in range(60) %}{% set ns.x = DOUBLED %}{% endfor %}";
    let doubled = [
        "ns.x ~ ns.x",
        "ns.x + ns.x",
        "ns.x * 2",
        "ns.x|replace('a', 'aa')",
        "[ns.x, ns.x]|join",
        "ns.x|replace('', ns.x)",
    ];
    let mut sources: Vec<String> = doubled.iter().map(|doubled| double.replace("DOUBLED", doubled)).collect();
    sources.extend(
        [
            "'%1000000000000d' % 1",
            "'%*d' % (1000000000000, 1)",
            "'%.1000000000000f' % 1.5",
            "'%1000000000000s'|format('a')",
            "'{:>1000000000000}'.format('a')",
            "'{:*^1000000000000}'.format('a')",
            "'{0:01000000000000d}'.format(1)",
            "(long * 1000)|indent(1000000)",
            "'a'|indent(1000000000000, true)",
            "long|indent(long * 100)",
            "'a'.center(1000000000000)",
            "'a'.ljust(1000000000000, 'é')",
            "'a'.zfill(1000000000000)",
            "'a'|center(1000000000000)",
            "'\t\t'.expandtabs(1000000000000)",
            "'a' * 1000000000000",
            "x * 1000000000000",
            "range(1000000000000)|list",
            "(long * 1000)|replace('', long)",
            "(long * 1000).replace('', long)",
            "(long * 5000)|list|join(long)",
            "long.join(range(100000)|map('string'))",
            "x|batch(1000000000000, 'a')|list",
            "x|slice(1000000000000)|list",
            "x|tojson(indent=1000000000000)",
            "[[x]]|tojson(indent=100000000)",
            "range(100000)|list|tojson(indent=long * 100)",
            "(long * 20000).split(' ')",
            "(long * 20000).splitlines()",
            "(long * 20000)|list",
        ]
        .map(|expression| format!("{{% set y = {expression} %}}{{{{ y }}}}")),
    );
    for source in sources {
        let told = outcome(&source).map(|text| text.len()).expect_err(&source);
        assert!(told.contains("refuses this conversation"), "{source}: {told}");
    }
    let told = outcome("{{ 'a'|center(1000000000) }}").expect_err("too wide");
    assert!(told.contains("takes more steps, or makes more text, than one rendering may (line 1"), "{told}");
    // What a template may well do.
    assert_eq!(outcome("{{ '%5d|%-3s'|format(7, 'a') }}{{ 'a'|center(5) }}").as_deref(), Ok("    7|a    a  "));
}

#[test]
fn what_holds_itself_again_and_again_is_a_fault_or_a_text() {
    // Twice as much with each line, and one step of the template.
    let twice = |times: usize| "{% set y = x %}".to_owned() + &"{% set y = [y, y] %}".repeat(times);
    for expression in ["y", "y|tojson", "y|string"] {
        assert!(outcome(&format!("{}{{{{ {expression} }}}}", twice(60))).is_err(), "{expression}");
    }
    // What walks it all without writing anything takes no steps, and is given up by the clock alone: few lines here.
    for expression in [
        "y",
        "y|tojson",
        "y ~ ''",
        "y|upper",
        "y|pprint",
        "y|string",
        "y|length",
        "y|join",
        "y|first|string",
        "y|urlencode",
        "'%s' % y",
        "'{}'.format(y)",
        "y|e",
        "y|list|string",
        "y|map('string')|list",
        "y|replace('a', 'b')",
        "y|trim",
        "y|wordcount",
        "y|title",
        "y|capitalize",
        "raise_exception(y)",
        "'a'|default(y, true)",
        "y|tojson(indent=2)",
        "dict([[y, y]])|string",
        "{'a': y}|dictsort",
        "y|sum",
        "'a,b'.join(y)",
        "strftime_now(y)",
        "y|safe",
        "y|lower",
        "y|center(9)",
        "y|indent",
        "y|truncate",
        "y|int",
        "y|float",
        "x[y]",
        "x|attr(y)",
        "y|reverse|string",
        "'a' ~ [y]",
    ] {
        let outcome = outcome(&format!("{}{{{{ {expression} }}}}", twice(10)));
        assert!(
            outcome.as_ref().map_or_else(|told| told.contains("refuses"), |text| text.len() < 1 << 24),
            "{expression}"
        );
    }
    // Deeper with each round.
    let deeper = "{% set n = namespace(x=1) %}{% for i in range(4) %}{% for j in range(1000) %}{% set n.x = [n.x] %}\
                  {% endfor %}{% endfor %}";
    for expression in ["n.x", "n.x|tojson", "n.x == n.x", "n.x ~ ''", "n.x|length"] {
        let _ = outcome(&format!("{deeper}{{{{ {expression} }}}}"));
    }
    for source in [
        "{% macro m(a) %}{{ m([a, a]) }}{% endmacro %}{{ m(1) }}",
        "{% macro m(a) %}{{ caller() }}{% endmacro %}{% call m(1) %}{{ m(2) }}{% endcall %}",
        "{% include 'chat' %}",
        "{% extends 'chat' %}",
        "{% import 'chat' as c %}{{ c }}",
        "{% for a in x recursive %}{{ loop(x) }}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    ] {
        assert!(outcome(source).is_err(), "{source}");
    }
}

#[test]
fn what_does_not_come_back_is_given_up_once() {
    let built =
        |name: &str| format!("{{% set {name} = [1] %}}") + &format!("{{% set {name} = [{name}, {name}] %}}").repeat(60);
    let template = compiled(&(built("a") + &built("b") + "{{ a == b }}")).expect("a template");
    let told = template.rendered(BTreeMap::new(), Duration::from_millis(100)).expect_err("it has no end");
    assert!(told.contains("it took more than"), "{told}");
    let told = template.render(&Conversation::default(), &Map::new(), false).expect_err("given up").to_string();
    assert!(told.contains("it did not come to an end with another"), "{told}");
}
