//! Which tokens of a conversation are learned, under templates of every structure: the opened turn is prompt, and what
//! follows it is the answer up to where the model stops.

use datasets::{Dataset, Oddity, Options, Tokenizer, TrainOn, read_text};
use serde_json::{Value, json};

/// Earlier answers lose their thoughts, and the last has one, be it empty.
const THOUGHTS: &str = "{%- set ns = namespace(last=-1) -%}\
    {%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}\
    {%- for m in messages -%}{{- '<|' + m.role + '|>' -}}\
    {%- if m.role == 'assistant' -%}{%- set words = m.content.split('</think>')[-1].lstrip('\\n') -%}\
    {%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') if '</think>' in m.content else (m.reasoning_content or '') -%}\
    {{- ('<think>\\n' + thought + '\\n</think>\\n\\n' if loop.index0 > ns.last else '') + words -}}\
    {%- else -%}{{- m.content -}}{%- endif -%}{{- '<|end|>\\n' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}\
    {%- if add_generation_prompt and thinking is defined and thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif -%}";

/// The opened turn begins a thought that whole conversations do not have.
const OPENED: &str = "{%- for m in messages -%}{{- '<|' + m.role + '|>' + m.content.split('</think>')[-1] -}}\
    {%- if m.role == 'assistant' %}{{ '<|end|>' }}{% endif -%}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif -%}";

/// The end of the text follows the last message alone.
const END_LAST: &str = "{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor -%}\
    {%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ '</s>' }}{% endif -%}";

/// The system message stands in a last question alone.
const SYSTEM_LAST: &str = "{%- set system = messages[0].content if messages[0].role == 'system' else '' -%}\
    {%- for m in messages if m.role != 'system' -%}\
    {%- if m.role == 'user' %}{{ '<|user|>' + (system + '\\n' if system and loop.last else '') + m.content + '<|assistant|>' }}\
    {%- else %}{{ ' ' + m.content + '<|end|>' }}{% endif -%}{%- endfor -%}";

/// Marks what is generated, without the line break behind it.
const MARKED: &str = "{% for m in messages %}{{ '<|' + m.role + '|>' }}\n\
    {% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}\n\
    {% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}";

/// Bytes, and special tokens of several families; the model stops at `stops`.
fn with_template(template: &str, stops: &[&str]) -> Tokenizer {
    with_greedy(template, stops, "")
}

/// The same where one of the tokens takes the blanks behind it, as those of Phi-3 do.
fn with_greedy(template: &str, stops: &[&str], greedy: &str) -> Tokenizer {
    let mut file = super::json("byte_level/tokenizer.json");
    let first = file["model"]["vocab"].as_object().expect("a vocabulary").values().filter_map(Value::as_u64).max();
    let mut ids = vec![];
    let contents = ["<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|end|>", "<s>", "</s>"];
    for (id, content) in (first.expect("a token") + 1..).zip(contents) {
        let takes = content == greedy;
        let token = json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": takes,
            "normalized": false, "special": true});
        file["added_tokens"].as_array_mut().expect("a list").push(token);
        if stops.contains(&content) {
            ids.push(id);
        }
    }
    let generation = json!({"eos_token_id": ids}).to_string();
    let files = [
        ("tokenizer.json", &*file.to_string()),
        ("tokenizer_config.json", r#"{"bos_token": "<s>"}"#),
        ("generation_config.json", &generation),
        ("chat_template.jinja", template),
    ];
    Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
}

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

/// Question and answer, twice.
fn two() -> Value {
    let thought = "<think>\nHm.\n</think>\n\nTeal.";
    json!({"messages": [turn("user", "Colour?"), turn("assistant", thought), turn("user", "More?"), turn("assistant", "Ochre.")]})
}

fn one() -> Value {
    json!({"messages": [turn("user", "Colour?"), turn("assistant", "Teal.")]})
}

fn read(row: &Value, tokenizer: &Tokenizer, train_on: TrainOn) -> Dataset {
    let options = Options { train_on, ..Options::default() };
    read_text("r", &row.to_string(), &options, tokenizer).unwrap_or_else(|faults| panic!("{faults}"))
}

/// Each example as its text with brackets around what is learned.
fn learned(data: &Dataset, tokenizer: &Tokenizer) -> Vec<String> {
    let example = |example: &datasets::Example| {
        let mut text = String::new();
        let mut start = 0;
        for at in 1..=example.ids.len() {
            if at == example.ids.len() || example.learned[at] != example.learned[start] {
                let part = tokenizer.decode(&example.ids[start..at], false).expect("text");
                text += &if example.learned[start] { format!("⟦{part}⟧") } else { part };
                start = at;
            }
        }
        text
    };
    data.examples.iter().map(example).collect()
}

fn check(template: &str, row: &Value, expected: &[&str]) {
    let tokenizer = with_template(template, &["<|end|>"]);
    let data = read(row, &tokenizer, TrainOn::Assistant);
    assert_eq!(learned(&data, &tokenizer), expected, "{template}");
    // What a sampler begins from is the opened turn.
    for example in &data.examples {
        assert!(example.prompt().len() < example.ids.len());
    }
}

#[test]
fn a_template_that_takes_earlier_thoughts_out_gives_one_example_a_turn() {
    let tokenizer = with_template(THOUGHTS, &["<|end|>"]);
    let expected = [
        "<|user|>Colour?<|end|>\n<|assistant|>⟦<think>\nHm.\n</think>\n\nTeal.<|end|>⟧",
        "<|user|>Colour?<|end|>\n<|assistant|>Teal.<|end|>\n<|user|>More?<|end|>\n<|assistant|>⟦<think>\n\n</think>\n\nOchre.<|end|>⟧",
    ];
    let data = read(&two(), &tokenizer, TrainOn::Assistant);
    assert_eq!(learned(&data, &tokenizer), expected);
    let notice = &data.report.notices[0];
    assert_eq!((notice.oddity, notice.rows, notice.of), (Oddity::Apart, 1, 1));
    assert!(notice.to_string().contains("one example a turn"), "{notice}");
    assert_eq!((data.report.rows, data.report.examples), (1, 2));
    assert_ne!(data.examples[0].group, data.examples[1].group);
    // The last turn alone is as the whole conversation has it.
    let last = read(&two(), &tokenizer, TrainOn::Last);
    assert_eq!(last.report.notices, []);
    assert_eq!(learned(&last, &tokenizer), [format!("{}\n", expected[1])]);
    // One turn is one example, and says nothing.
    let single = read(&one(), &tokenizer, TrainOn::Assistant);
    assert_eq!(single.report.notices, []);
}

#[test]
fn a_switch_puts_the_empty_thought_into_the_prompt() {
    let tokenizer = with_template(THOUGHTS, &["<|end|>"]);
    let settings = datasets::ChatSettings {
        arguments: json!({"thinking": false}).as_object().expect("an object").clone(),
        ..Default::default()
    };
    let tokenizer = tokenizer.with_chat(&settings).expect("a tokenizer");
    let data = read(&one(), &tokenizer, TrainOn::Assistant);
    let expected = "<|user|>Colour?<|end|>\n<|assistant|><think>\n\n</think>\n\n⟦Teal.<|end|>⟧";
    assert_eq!(learned(&data, &tokenizer), [format!("{expected}\n")]);
}

#[test]
fn a_thought_that_the_opened_turn_begins_is_gone_on_with() {
    check(OPENED, &one(), &["<|user|>Colour?<|assistant|><think>\n⟦Teal.<|end|>⟧"]);
    check(
        OPENED,
        &two(),
        &[
            "<|user|>Colour?<|assistant|><think>\n⟦Hm.\n</think>\n\nTeal.<|end|>⟧",
            "<|user|>Colour?<|assistant|>\n\nTeal.<|end|><|user|>More?<|assistant|><think>\n⟦Ochre.<|end|>⟧",
        ],
    );
}

#[test]
fn an_end_behind_the_last_message_alone_is_no_part_of_an_answer() {
    check(
        END_LAST,
        &two(),
        &[
            "<|user|>\nColour?<|end|>\n<|assistant|>\n⟦<think>\nHm.\n</think>\n\nTeal.<|end|>⟧\n<|user|>\nMore?<|end|>\n<|assistant|>\n⟦Ochre.<|end|>⟧\n</s>",
        ],
    );
    // Where the model stops at that end alone, each turn has it.
    let tokenizer = with_template(END_LAST, &["</s>"]);
    let data = read(&one(), &tokenizer, TrainOn::Assistant);
    assert_eq!(learned(&data, &tokenizer), ["<|user|>\nColour?<|end|>\n<|assistant|>\n⟦Teal.<|end|>\n</s>⟧"]);
    assert_eq!(learned(&read(&two(), &tokenizer, TrainOn::Assistant), &tokenizer).len(), 2);
}

#[test]
fn a_system_message_of_the_last_question_stays_in_the_prompt() {
    let mut row = one();
    row["messages"].as_array_mut().expect("a list").insert(0, turn("system", "Be brief."));
    check(SYSTEM_LAST, &row, &["<|user|>Be brief.\nColour?<|assistant|>⟦ Teal.<|end|>⟧"]);
    check(SYSTEM_LAST, &one(), &["<|user|>Colour?<|assistant|>⟦ Teal.<|end|>⟧"]);
}

#[test]
fn what_a_template_marks_as_generated_is_what_is_learned() {
    let tokenizer = with_template(MARKED, &["<|end|>"]);
    let data = read(&one(), &tokenizer, TrainOn::Assistant);
    assert_eq!(learned(&data, &tokenizer), ["<|user|>\nColour?<|end|><|assistant|>\n⟦Teal.<|end|>⟧"]);
    // The last of several, and the first message of a conversation.
    let last = learned(&read(&two(), &tokenizer, TrainOn::Last), &tokenizer);
    assert!(last[0].contains("Teal.<|end|><|user|>") && last[0].contains("⟦Ochre.<|end|>⟧"), "{last:?}");
    let greeting = json!({"messages": [turn("assistant", "Hello."), turn("user", "a"), turn("assistant", "b")]});
    let both = learned(&read(&greeting, &tokenizer, TrainOn::Assistant), &tokenizer);
    assert!(both[0].contains("⟦Hello.<|end|>⟧") && both[0].contains("⟦b<|end|>⟧"), "{both:?}");
}

#[test]
fn a_first_turn_of_the_assistant_is_learned_where_it_can_be_opened() {
    let greeting = json!({"messages": [turn("assistant", "Hello."), turn("user", "a"), turn("assistant", "b")]});
    let tokenizer = with_template(END_LAST, &["<|end|>"]);
    let found = learned(&read(&greeting, &tokenizer, TrainOn::Assistant), &tokenizer);
    assert!(found[0].starts_with("<|assistant|>\n⟦Hello.<|end|>⟧"), "{found:?}");
    // This one reads the first message, so that nothing can be opened before it.
    let tokenizer = with_template(SYSTEM_LAST, &["<|end|>"]);
    let data = read(&greeting, &tokenizer, TrainOn::Assistant);
    assert_eq!(data.report.notices[0].oddity, Oddity::Unasked);
    assert_eq!(learned(&data, &tokenizer), [" Hello.<|end|><|user|>a<|assistant|>⟦ b<|end|>⟧"]);
}

#[test]
fn targets_and_intents_follow_the_opened_turn_under_every_template() {
    let question = json!([turn("user", "Colour?")]);
    let opened = |template: &str| match template {
        END_LAST => "<|user|>\nColour?<|end|>\n<|assistant|>\n",
        SYSTEM_LAST => "<|user|>Colour?<|assistant|>",
        OPENED => "<|user|>Colour?<|assistant|><think>\n",
        _ => "<|user|>Colour?<|end|>\n<|assistant|>",
    };
    for template in [THOUGHTS, OPENED, END_LAST, SYSTEM_LAST] {
        let tokenizer = with_template(template, &["<|end|>"]);
        let blank = if template == SYSTEM_LAST { " " } else { "" };
        let row = json!({"messages": question, "targets": ["{teal}", "{red}"]});
        let found = learned(&read(&row, &tokenizer, TrainOn::Assistant), &tokenizer);
        let target = |word: &str| format!("{}⟦{blank}{{{word}}}<|end|>⟧", opened(template));
        assert_eq!(found, [target("teal"), target("red")], "{template}");
        let row = json!({"messages": question, "intent": "colour", "response": "Teal."});
        let found = learned(&read(&row, &tokenizer, TrainOn::Assistant), &tokenizer);
        assert_eq!(found, [format!("{}⟦{blank}colour ### Teal.<|end|>⟧", opened(template))], "{template}");
    }
}

#[test]
fn a_token_that_takes_blanks_counts_by_its_own_letters() {
    // `<|assistant|>` takes the line break behind it: it is prompt, and the answer begins behind it.
    let tokenizer = with_greedy(END_LAST, &["<|end|>"], "<|assistant|>");
    let encoded = tokenizer.encode_with_offsets("a<|assistant|>\n\nb", false).expect("ids");
    assert_eq!(encoded.offsets, [0..1, 1..14, 16..17]);
    let data = read(&one(), &tokenizer, TrainOn::Assistant);
    let answer = data.examples[0].learned.iter().position(|learned| *learned).expect("a learned token");
    assert_eq!(tokenizer.decode(&data.examples[0].ids[answer..=answer], false), Ok("T".into()));
}

/// The end token takes the blanks behind it, as those of Phi-3 do: it is learned, and the line break is no loss.
#[test]
fn an_end_token_that_takes_blanks_is_learned() {
    for stops in [&["<|end|>"][..], &["</s>"][..]] {
        let tokenizer = with_greedy(END_LAST, stops, "<|end|>");
        let data = read(&one(), &tokenizer, TrainOn::Assistant);
        let example = &data.examples[0];
        let learned: Vec<u32> =
            example.ids.iter().zip(&example.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id).collect();
        assert!(tokenizer.stop_tokens().contains(learned.last().expect("an end")), "{stops:?}");
        assert!(tokenizer.decode(&learned, false).expect("text").starts_with("Teal.<|end|>"));
    }
}

/// Templates such as Qwen 1.5's end the last turn only once another follows, and DeepSeek's write an empty thought where
/// they open one.
#[test]
fn a_turn_is_ended_and_a_thought_closed_where_the_whole_conversation_does_so_elsewhere() {
    const OPEN_END: &str = "{%- for m in messages -%}{{- '<|' + m.role + '|>' + m.content -}}\
        {%- if not loop.last or add_generation_prompt %}{{ '<|end|>' }}{% endif -%}{%- endfor -%}\
        {%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}";
    check(OPEN_END, &one(), &["<|user|>Colour?<|end|><|assistant|>⟦Teal.<|end|>⟧"]);
    let tokenizer = with_template(OPEN_END, &["<|end|>"]);
    assert_eq!(read(&two(), &tokenizer, TrainOn::Assistant).report.notices, []);
    // Answers whose letters stand in the end itself, or in what is asked next.
    for words in ["d", "end", "user", "n", "Question", "|"] {
        let row = json!({"messages": [turn("user", "c"), turn("assistant", words)]});
        check(OPEN_END, &row, &[&format!("<|user|>c<|end|><|assistant|>⟦{words}<|end|>⟧")]);
    }

    const CLOSED: &str = "{%- for m in messages -%}{{- '<|' + m.role + '|>' -}}\
        {%- if m.role == 'assistant' %}{{ '<think></think>' + m.content + '<|end|>' }}{% else %}{{ m.content }}{% endif -%}\
        {%- endfor -%}{%- if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif -%}";
    check(CLOSED, &one(), &["<|user|>Colour?<|assistant|><think>\n⟦</think>Teal.<|end|>⟧"]);
}

/// The opened turn begins a thought, and turns without one have its end alone (GLM 4.7, Spark), or another part of the
/// answer (Cohere).
#[test]
fn what_a_template_writes_in_the_place_of_an_opened_thought_is_learned() {
    let template = |start: &str, end: &str, empty: &str, after: &str| {
        format!(
            "{{%- for m in messages -%}}{{{{- '<|' + m.role + '|>' -}}}}{{%- if m.role == 'assistant' -%}}\
             {{{{- '{start}' + m.reasoning_content + '{end}' if m.reasoning_content else '{empty}' -}}}}\
             {{%- if m.tool_calls %}}{{{{ '<call>' + m.tool_calls[0].function.name }}}}\
             {{%- else %}}{{{{ '{after}' + m.content }}}}{{% endif -%}}{{{{- '<|end|>' -}}}}\
             {{%- else %}}{{{{ m.content }}}}{{% endif -%}}\
             {{%- endfor -%}}{{%- if add_generation_prompt %}}{{{{ '<|assistant|>{start}' }}}}{{% endif -%}}"
        )
    };
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {}}}]});
    let calls = json!({"messages": [turn("user", "Colour?"), call]});
    let mut thinks = one();
    thinks["messages"][1]["reasoning_content"] = json!("Hm.");
    let closing = template("<think>", "</think>", "</think>", "");
    let asked = "<|user|>Colour?<|assistant|>";
    check(&closing, &one(), &[&format!("{asked}<think>⟦</think>Teal.<|end|>⟧")]);
    check(&closing, &calls, &[&format!("{asked}<think>⟦</think><call>add<|end|>⟧")]);
    check(&closing, &thinks, &[&format!("{asked}<think>⟦Hm.</think>Teal.<|end|>⟧")]);
    let cohere = template("<|START_THINKING|>", "<|END_THINKING|>", "", "<|START_TEXT|>");
    let opened = format!("{asked}<|START_THINKING|>");
    check(&cohere, &one(), &[&format!("{opened}⟦<|END_THINKING|><|START_TEXT|>Teal.<|end|>⟧")]);
    check(&cohere, &calls, &[&format!("{opened}⟦<|END_THINKING|><call>add<|end|>⟧")]);
    check(&cohere, &thinks, &[&format!("{opened}⟦Hm.<|END_THINKING|><|START_TEXT|>Teal.<|end|>⟧")]);
    // Targets, too, follow a thought that is closed.
    let tokenizer = with_template(&closing, &["<|end|>"]);
    let row = json!({"messages": [turn("user", "Colour?")], "targets": ["{teal}"]});
    let found = learned(&read(&row, &tokenizer, TrainOn::Assistant), &tokenizer);
    assert_eq!(found, [format!("{asked}<think>⟦</think>{{teal}}<|end|>⟧")]);
}

/// The next turn ends an answer (GLM), and the answer's thought is written otherwise than the row has it.
#[test]
fn an_answer_with_a_thought_is_ended_by_the_turn_that_follows() {
    const NEXT: &str = "{%- for m in messages -%}{{- '<|' + m.role + '|>' -}}\
        {%- set words = m.content.split('</think>')[-1] -%}\
        {%- if m.role == 'assistant' %}{{ '\\n<think>' + (m.content.split('</think>')[0][7:] if '</think>' in m.content and loop.last else '') + '</think>\\n' }}{% endif -%}\
        {%- if m.tool_calls %}{{ '<call>' + m.tool_calls[0].function.name }}{% else %}{{ words }}{% endif -%}\
        {%- endfor -%}{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif -%}";
    let tokenizer = with_template(NEXT, &["<|user|>", "<|tool|>"]);
    let last = |row: &Value| learned(&read(row, &tokenizer, TrainOn::Last), &tokenizer).pop().expect("an example");
    for (content, written) in
        [("<think>Hm.</think>Ochre.", "Hm."), ("<think>Ochre.</think>Ochre.", "Ochre."), ("Ochre.", "")]
    {
        let row = json!({"messages": [turn("user", "Colour?"), turn("assistant", "Teal."), turn("user", "More?"), turn("assistant", content)]});
        let found = last(&row);
        let end = format!("<|assistant|>⟦\n<think>{written}</think>\nOchre.<|user|>⟧");
        assert!(found.ends_with(&end), "{found}");
    }
    let call = json!({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {}}}]});
    let found = last(&json!({"messages": [turn("user", "2+3?"), call]}));
    assert!(found.ends_with("⟦\n<think></think>\n<call>add<|tool|>⟧"), "{found}");
}

#[test]
fn the_first_of_several_answers_in_a_row_is_a_turn_too() {
    let row = json!({"messages": [turn("user", "a"), turn("assistant", "b"), turn("assistant", "c"), turn("tool", "d"), turn("assistant", "e")]});
    check(
        END_LAST,
        &row,
        &[
            "<|user|>\na<|end|>\n<|assistant|>\n⟦b<|end|>⟧\n<|assistant|>\n⟦c<|end|>⟧\n<|tool|>\nd<|end|>\n<|assistant|>\n⟦e<|end|>⟧\n</s>",
        ],
    );
}

/// Goes over the parts of a content and takes the blanks off each, as Gemma 3 does.
const OVER_PARTS: &str = "{%- for m in messages -%}{{- '<' + m.role + '>' -}}\
    {%- if m.content is string -%}{{- m.content | trim -}}\
    {%- else -%}{%- for part in m.content -%}{%- if part.type == 'text' -%}{{- part.text | trim -}}{%- endif -%}{%- endfor -%}{%- endif -%}\
    {{- '<|end|>' -}}{%- endfor -%}{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

/// What jinja2 writes of the same messages: a template that goes over the parts has them, and one that would show a list
/// of Python has the text.
#[test]
fn contents_in_parts_are_given_to_templates_that_go_over_them() {
    let part = |text: &str| json!({"type": "text", "text": text});
    let question = json!({"role": "user", "content": [part("First line.\n"), part("  Second.")]});
    let answer = json!({"role": "assistant", "content": [part("a "), part("b")]});
    let row = json!({"messages": [question, answer]});
    let plain = "{%- for m in messages -%}{{- '<' + m.role + '>' + m.content + '<|end|>' -}}{%- endfor -%}\
        {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";
    let shown = plain.replace("+ m.content +", "~ m.content ~");
    for (template, expected, learned) in [
        (OVER_PARTS, "<user>First line.Second.<|end|><assistant>ab<|end|>", "ab<|end|>"),
        (plain, "<user>First line.\n  Second.<|end|><assistant>a b<|end|>", "a b<|end|>"),
        (&shown, "<user>First line.\n  Second.<|end|><assistant>a b<|end|>", "a b<|end|>"),
    ] {
        let tokenizer = with_template(template, &["<|end|>"]);
        let data = read_text("r", &row.to_string(), &Options::default(), &tokenizer).unwrap_or_else(|f| panic!("{f}"));
        let [example] = &data.examples[..] else { panic!("{template}") };
        assert_eq!(tokenizer.decode(&example.ids, false).expect("text"), expected);
        let of_answer = example.ids.iter().zip(&example.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id);
        assert_eq!(tokenizer.decode(&of_answer.collect::<Vec<_>>(), false).expect("text"), learned);
        assert!(data.report.notices.is_empty(), "{:?}", data.report.notices);
    }
}

/// Opens every turn with a thought that is closed already, and writes those that a message has.
const CLOSED: &str = "{%- for m in messages -%}{{- '<|' + m.role + '|>' -}}\
    {%- if m.role == 'assistant' -%}{{- '<think>' + (m.reasoning_content or '') + '</think>\n\n' -}}\
    {%- for call in m.tool_calls or [] %}{{ '[' + call.function.name + ']' }}{% endfor -%}{%- endif -%}\
    {{- (m.content or '') + '<|end|>' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<|assistant|><think></think>\n\n' }}{% endif -%}";

#[test]
fn a_call_behind_a_thought_that_the_opened_turn_has_closed_is_learned() {
    let tokenizer = with_template(CLOSED, &["<|end|>"]);
    let call = json!({"type": "function", "function": {"name": "add", "arguments": {}}});
    let thinks = json!({"role": "assistant", "reasoning_content": "Sum.", "content": null, "tool_calls": [call]});
    let row = json!({"messages": [{"role": "user", "content": "2+3"}, thinks]}).to_string();
    let data = read_text("r", &row, &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    let [example] = &data.examples[..] else { panic!("one example") };
    let text = tokenizer.decode(&example.ids, false).expect("text");
    assert_eq!(text, "<|user|>2+3<|end|><|assistant|><think></think>\n\n[add]<|end|>");
    let lost = data.report.notices.iter().find(|notice| notice.oddity == Oddity::Unlearned);
    assert_eq!(lost.map(|notice| notice.what.as_str()), Some("`messages[1].reasoning_content`"));
}

/// Opens every turn with a thought and two line breaks, and writes one after the other where a message has a thought.
const TWO_BREAKS: &str = "{%- for m in messages -%}{{- '<|' + m.role + '|>\n' -}}\
    {%- if m.role == 'assistant' -%}{{- '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' -}}{%- endif -%}\
    {{- (m.content or '') -}}\
    {%- for call in m.tool_calls or [] %}{{ '[' + call.function.name + ']' }}{% endfor -%}{{- '<|end|>' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<|assistant|>\n<think>\n\n' }}{% endif -%}";

/// Opens every turn with a thought, and takes thoughts out of all that it writes.
const WITHOUT: &str = "{%- for m in messages -%}{{- '<|' + m.role + '|>' -}}\
    {%- if m.content -%}{{- '\n' + m.content.split('</think>')[-1].lstrip('\n') -}}{%- endif -%}\
    {%- for call in m.tool_calls or [] %}{{ '\n[' + call.function.name + ']' }}{% endfor -%}{{- '<|end|>' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<|assistant|>\n<think>\n' }}{% endif -%}";

#[test]
fn a_call_behind_a_thought_that_the_turn_is_opened_with_is_learned() {
    let call = json!([{"type": "function", "function": {"name": "add", "arguments": {}}}]);
    let apart = json!({"role": "assistant", "reasoning_content": "Sum.", "content": null, "tool_calls": call});
    let beside = json!({"role": "assistant", "reasoning_content": "Sum.", "content": "Wait:", "tool_calls": call});
    let within = |after: &str| json!({"role": "assistant", "content": format!("<think>\nSum.\n</think>{after}"), "tool_calls": call});
    for (template, message, learned) in [
        (TWO_BREAKS, apart, "Sum.\n</think>\n\n[add]<|end|>"),
        (TWO_BREAKS, beside, "Sum.\n</think>\n\nWait:[add]<|end|>"),
        (WITHOUT, within(""), "Sum.\n</think>\n\n[add]<|end|>"),
        (WITHOUT, within("\n\nWait:"), "Sum.\n</think>\n\nWait:\n[add]<|end|>"),
    ] {
        let tokenizer = with_template(template, &["<|end|>"]);
        let row = json!({"messages": [{"role": "user", "content": "2+3"}, message]}).to_string();
        let data = read_text("r", &row, &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
        let [example] = &data.examples[..] else { panic!("one example") };
        let ids: Vec<u32> = example.learned_ids().collect();
        assert_eq!(tokenizer.decode(&ids, false).expect("text"), learned);
        assert!(
            data.report.notices.iter().all(|notice| notice.oddity == Oddity::Apart),
            "{learned}: {:?}",
            data.report.notices
        );
    }
}

/// Leaves out what was thought before a call once an answer follows, and opens a turn with less than it writes before every answer.
const CHANNELS: &str = "{%- set ns = namespace(last=-1) -%}\
    {%- for m in messages %}{% if m.role == 'assistant' and m.content and not m.tool_calls %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}\
    {%- for m in messages -%}{%- if m.role == 'assistant' -%}\
    {%- if m.thinking and loop.index0 >= ns.last %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif -%}\
    {%- if m.tool_calls %}{{ '<|start|>assistant to=' + m.tool_calls[0].function.name + '</s>' }}\
    {%- else %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('</s>' if loop.last else '<|end|>') }}{% endif -%}\
    {%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif -%}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif -%}";

#[test]
fn an_answer_is_learned_from_where_its_turn_is_opened_though_the_turns_before_are_written_otherwise() {
    let call = json!([{"type": "function", "function": {"name": "add", "arguments": {}}}]);
    let of = |last: serde_json::Value| {
        let first = json!({"role": "assistant", "thinking": "Sum.", "tool_calls": call});
        let row =
            json!({"messages": [{"role": "user", "content": "2+3"}, first, {"role": "tool", "content": "5"}, last]});
        let tokenizer = with_template(CHANNELS, &["</s>"]);
        let data = read_text("r", &row.to_string(), &Options::default(), &tokenizer).unwrap_or_else(|f| panic!("{f}"));
        let text = |example: &datasets::Example| {
            let ids: Vec<u32> = example.learned_ids().collect();
            tokenizer.decode(&ids, false).expect("text")
        };
        data.examples.iter().map(text).collect::<Vec<_>>()
    };
    let call = "<|channel|>analysis<|message|>Sum.<|end|><|start|>assistant to=add</s>";
    let last = "<|channel|>final<|message|>Five.</s>";
    assert_eq!(of(json!({"role": "assistant", "content": "Five."})), [call, last]);
    let thinks = json!({"role": "assistant", "content": "Five.", "thinking": "So it is."});
    let thought = format!("<|channel|>analysis<|message|>So it is.<|end|><|start|>assistant{last}");
    assert_eq!(of(thinks), [call, &thought]);
}

/// Opens every turn with a thought that is closed already, as Gemma 4 has them.
const CLOSED_CHANNEL: &str = "{%- for m in messages -%}{{- '<|turn>' + m.role + '\n' -}}\
    {%- if m.role == 'assistant' and m.reasoning_content %}{{ '<|channel>thought\n' + m.reasoning_content + '\n<channel|>' }}{% endif -%}\
    {%- for call in m.tool_calls or [] %}{{ '[' + call.function.name + ']' }}{% endfor -%}\
    {{- (m.content or '') + '<|end|>\n' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<|turn>assistant\n<|channel>thought\n<channel|>' }}{% endif -%}";

#[test]
fn a_channel_that_is_closed_already_is_no_opened_thought() {
    let call = json!([{"type": "function", "function": {"name": "add", "arguments": {}}}]);
    for (message, learned) in [
        (
            json!({"role": "assistant", "reasoning_content": "Sum.", "content": "Wait.", "tool_calls": call}),
            "[add]Wait.<|end|>",
        ),
        (json!({"role": "assistant", "reasoning_content": "Sum.", "content": "Five."}), "Five.<|end|>"),
        (json!({"role": "assistant", "content": "Five."}), "Five.<|end|>"),
    ] {
        let tokenizer = with_template(CLOSED_CHANNEL, &["<|end|>"]);
        let row = json!({"messages": [{"role": "user", "content": "2+3"}, message]}).to_string();
        let data = read_text("r", &row, &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
        let ids: Vec<u32> = data.examples[0].learned_ids().collect();
        assert_eq!(tokenizer.decode(&ids, false).expect("text"), learned);
        let lost = data.report.notices.iter().find(|notice| notice.oddity == Oddity::Unlearned);
        assert_eq!(lost.is_some(), row.contains("reasoning"), "{:?}", data.report.notices);
    }
}

#[test]
fn an_answer_without_a_thought_behind_an_opened_one_is_told() {
    let tokenizer = with_template(OPENED, &["<|end|>"]);
    let told = |row: serde_json::Value| {
        let data = read_text("r", &row.to_string(), &Options::default(), &tokenizer).unwrap_or_else(|f| panic!("{f}"));
        let notice = data.report.notices.iter().find(|notice| notice.oddity == Oddity::OpenThought);
        notice.map(|notice| notice.what.clone())
    };
    let question = json!({"role": "user", "content": "Colour?"});
    let turns = |answer: &str| json!({"messages": [question, {"role": "assistant", "content": answer}]});
    assert_eq!(told(turns("Teal.")).as_deref(), Some("`messages[1]` behind `<think>`"));
    assert_eq!(told(turns("<think>\nHm.\n</think>\n\nTeal.")), None);
    assert_eq!(told(turns("<think>\n\n</think>\n\nTeal.")), None);
    let target = |answer: &str| json!({"messages": [question], "targets": [answer]});
    assert_eq!(told(target("Teal.")).as_deref(), Some("the answer behind `<think>`"));
    assert_eq!(told(target("</think>\n\nTeal.")), None);
}
