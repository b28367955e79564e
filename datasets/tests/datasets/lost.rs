//! What a row says and its chat template leaves out: told, be it that the template speaks of it elsewhere.

use datasets::{ChatSettings, Dataset, Notice, Oddity, Options, Tokenizer, TrainOn, read_text};
use serde_json::{Value, json};

use super::with_chat_template;

/// Writes the thoughts of turns after the last question where a switch says so.
const SWITCHED: &str = "{%- for m in messages -%}{{- '<' + m.role + '>' -}}\
    {%- if m.reasoning_content and enable_thinking is defined and enable_thinking %}{{ '(' + m.reasoning_content + ')' }}{% endif -%}\
    {{- m.content + '<|im_end|>' -}}{%- endfor -%}{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

/// Has a switch with the name of a thought.
const SWITCH_OF_THE_NAME: &str = "{%- for m in messages %}{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}{% endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' + ('<think>' if thinking else '') }}{% endif -%}";

/// Takes thoughts out of contents.
const STRIPPED: &str = "{%- for m in messages -%}\
    {{- '<' + m.role + '>' + m.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

/// Marks what is generated, and has the thought of the last turn alone.
const MARKED: &str = "{%- for m in messages -%}{{- '<' + m.role + '>' -}}\
    {%- if m.role == 'assistant' -%}{% generation %}{{- '(' + (m.reasoning_content if m.reasoning_content and loop.last else '') + ')' + m.content + '<|im_end|>' -}}{% endgeneration %}\
    {%- else -%}{{- m.content + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

/// Writes users and the assistant, and of a turn with calls the calls alone.
const TWO_ROLES: &str = "{%- for m in messages -%}\
    {%- if m.role == 'user' %}{{ '<user>' + m.content + '<|im_end|>' }}\
    {%- elif m.tool_calls %}{{ '<assistant>' + m.tool_calls[0].function.name + '<|im_end|>' }}\
    {%- elif m.role == 'assistant' %}{{ '<assistant>' + m.content + '<|im_end|>' }}{% endif -%}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

fn read(row: &Value, tokenizer: &Tokenizer, train_on: TrainOn) -> Dataset {
    let options = Options { train_on, ..Options::default() };
    read_text("r", &row.to_string(), &options, tokenizer).unwrap_or_else(|faults| panic!("{faults}"))
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn answer(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

fn thinks(content: &str, thought: &str) -> Value {
    json!({"role": "assistant", "content": content, "reasoning_content": thought})
}

fn apart() -> Value {
    json!({"messages": [user("2+3?"), thinks("Five.", "Two and three."), user("4+4?"), thinks("Eight.", "Twice four.")]})
}

fn within() -> Value {
    json!({"messages": [user("2+3?"), answer("<think>\nTwo and three.\n</think>\n\nFive.")]})
}

/// The one notice of this kind.
fn told(data: &Dataset, oddity: Oddity) -> Option<&Notice> {
    data.report.notices.iter().find(|notice| notice.oddity == oddity)
}

fn texts(data: &Dataset, tokenizer: &Tokenizer) -> Vec<String> {
    data.examples.iter().map(|example| tokenizer.decode(&example.ids, false).expect("text")).collect()
}

#[test]
fn a_thought_that_the_template_leaves_out_is_told_with_the_switch_that_writes_it() {
    let tokenizer = with_chat_template(SWITCHED);
    for train_on in [TrainOn::Assistant, TrainOn::Last, TrainOn::All] {
        let data = read(&apart(), &tokenizer, train_on);
        let index = if train_on == TrainOn::Last { 3 } else { 1 };
        let notice = told(&data, Oddity::Unlearned).unwrap_or_else(|| panic!("{train_on:?}"));
        let what =
            format!("`messages[{index}].reasoning_content`, which the switch `enable_thinking = true` would write");
        assert_eq!((notice.rows, notice.of, &notice.what), (1, 1, &what), "{train_on:?}");
        assert!(notice.to_string().contains("it is not learned"), "{notice}");
    }
    let switch = json!({"enable_thinking": true}).as_object().expect("an object").clone();
    let tokenizer =
        tokenizer.with_chat(&ChatSettings { arguments: switch, ..Default::default() }).expect("a tokenizer");
    for train_on in [TrainOn::Assistant, TrainOn::Last, TrainOn::All] {
        assert_eq!(read(&apart(), &tokenizer, train_on).report.notices, []);
    }
    let mut off = apart();
    off["chat_template_kwargs"] = json!({"enable_thinking": false});
    assert!(told(&read(&off, &tokenizer, TrainOn::Assistant), Oddity::Unlearned).is_some());
}

#[test]
fn a_switch_is_no_place_for_a_thought_of_its_name() {
    let tokenizer = with_chat_template(SWITCH_OF_THE_NAME);
    for key in ["reasoning_content", "thinking", "reasoning"] {
        let row = json!({"messages": [user("q"), {"role": "assistant", "content": "a", key: "because"}]});
        let fault =
            read_text("r", &row.to_string(), &Options::default(), &tokenizer).expect_err("no place").to_string();
        assert!(fault.contains(&format!("no place for `messages[1].{key}`")), "{fault}");
    }
    // Where a field has another name, the thought goes there.
    let both = SWITCH_OF_THE_NAME.replace("m.content +", "(m.reasoning_content or '') + m.content +");
    let tokenizer = with_chat_template(&both);
    let row = json!({"messages": [user("q"), {"role": "assistant", "content": "a", "thinking": "because "}]});
    let data = read(&row, &tokenizer, TrainOn::Assistant);
    assert_eq!(data.report.notices, []);
    assert_eq!(texts(&data, &tokenizer), ["<user>q<|im_end|><assistant>because a<|im_end|>"]);
    // And a field is no switch.
    let row = json!({"messages": [user("q"), answer("a")], "chat_template_kwargs": {"reasoning_content": "x"}});
    let fault = read_text("r", &row.to_string(), &Options::default(), &tokenizer).expect_err("no switch").to_string();
    assert!(fault.contains("no place for `chat_template_kwargs.reasoning_content`"), "{fault}");
}

#[test]
fn a_thought_that_is_taken_out_of_the_content_is_told() {
    let tokenizer = with_chat_template(STRIPPED);
    for train_on in [TrainOn::Assistant, TrainOn::All] {
        let data = read(&within(), &tokenizer, train_on);
        let notice = told(&data, Oddity::Unlearned).unwrap_or_else(|| panic!("{train_on:?}"));
        assert_eq!(notice.what, "`<think>` of `messages[1].content`");
    }
    for silent in ["<think>\n\n</think>\n\nFive.", "Five."] {
        let row = json!({"messages": [user("2+3?"), answer(silent)]});
        assert_eq!(read(&row, &tokenizer, TrainOn::Assistant).report.notices, [], "{silent}");
    }
    // Of a turn that is not learned it is no loss: inference will not see it either.
    let row = json!({"messages": [
        user("a"), {"role": "assistant", "content": "<think>b</think>c", "train": false}, user("d"), answer("e")]});
    assert_eq!(read(&row, &tokenizer, TrainOn::Assistant).report.notices, []);
    assert_eq!(read(&within(), &with_chat_template(TWO_ROLES), TrainOn::Assistant).report.notices, []);
}

#[test]
fn a_thought_that_marks_lose_in_the_whole_conversation_is_learned_with_its_turn() {
    let tokenizer = with_chat_template(MARKED);
    let data = read(&apart(), &tokenizer, TrainOn::Assistant);
    assert_eq!(data.report.notices.iter().map(|notice| notice.oddity).collect::<Vec<_>>(), [Oddity::Apart]);
    let first = "<user>2+3?<|im_end|><assistant>";
    assert_eq!(
        texts(&data, &tokenizer),
        [
            format!("{first}(Two and three.)Five.<|im_end|>"),
            format!("{first}()Five.<|im_end|><user>4+4?<|im_end|><assistant>(Twice four.)Eight.<|im_end|>"),
        ]
    );
    // Without thoughts, or where the last is learned alone, the marked text of the whole is.
    assert_eq!(read(&apart(), &tokenizer, TrainOn::Last).report.notices, []);
    let plain = json!({"messages": [user("2+3?"), answer("Five."), user("4+4?"), answer("Eight.")]});
    let data = read(&plain, &tokenizer, TrainOn::Assistant);
    assert_eq!((data.examples.len(), data.report.notices.len()), (1, 0));
    // A template that never writes them tells so.
    let never = with_chat_template(&MARKED.replace("and loop.last", "and false"));
    let data = read(&apart(), &never, TrainOn::Assistant);
    assert_eq!(data.examples.len(), 1);
    assert_eq!(told(&data, Oddity::Unlearned).map(|notice| notice.rows), Some(1));
}

#[test]
fn words_of_messages_that_the_template_leaves_out_are_told() {
    let tokenizer = with_chat_template(TWO_ROLES);
    let call = json!([{"type": "function", "function": {"name": "add", "arguments": {}}}]);
    let system = json!({"role": "system", "content": "Be brief."});
    let row = json!({"messages": [system, user("2+3?"), answer("Five.")]});
    let data = read(&row, &tokenizer, TrainOn::Assistant);
    let notice = told(&data, Oddity::Unread).expect("told");
    assert_eq!(notice.what, "`messages[0].content` of `system`");
    let row = json!({"messages": [user("2+3?"), {"role": "assistant", "content": null, "tool_calls": call},
        {"role": "tool", "content": "five"}, answer("Five.")]});
    let data = read(&row, &tokenizer, TrainOn::Assistant);
    assert_eq!(told(&data, Oddity::Unread).map(|notice| notice.what.as_str()), Some("`messages[2].content` of `tool`"));
    assert_eq!(told(&data, Oddity::Unlearned), None);
    // Words beside a call, and a second call.
    let two = json!([call[0], {"type": "function", "function": {"name": "multiply", "arguments": {}}}]);
    for (said, calls, what) in [("I add.", &call, "`messages[1].content`"), ("", &two, "`messages[1].tool_calls[1]`")] {
        let row = json!({"messages": [user("2+3?"), {"role": "assistant", "content": said, "tool_calls": calls}]});
        let data = read(&row, &tokenizer, TrainOn::Assistant);
        assert_eq!(told(&data, Oddity::Unlearned).map(|notice| notice.what.as_str()), Some(what));
    }
    // Words of which the template has the beginning alone.
    let cut = with_chat_template(&TWO_ROLES.replace("m.content", "m.content[:4]"));
    let data = read(&json!({"messages": [user("2+3 is?"), answer("Five.")]}), &cut, TrainOn::Assistant);
    assert_eq!(told(&data, Oddity::Unread).map(|notice| notice.what.as_str()), Some("`messages[0].content` of `user`"));
    let notice = told(&data, Oddity::Unlearned).map(|notice| notice.what.as_str());
    assert_eq!(notice, Some("`messages[1].content`"));
    // What a template rewrites is told as such, and what follows the last learned turn is not looked for.
    let upper = with_chat_template(&TWO_ROLES.replace("'<user>' + m.content", "'<user>' + m.content | upper"));
    let row = json!({"messages": [user("some words"), answer("Five."), {"role": "tool", "content": "five"}]});
    let data = read(&row, &upper, TrainOn::Assistant);
    assert_eq!(data.report.notices.iter().map(|notice| notice.oddity).collect::<Vec<_>>(), [Oddity::Rewritten]);
}

/// Questions of other shapes, too.
#[test]
fn messages_of_a_question_that_the_template_leaves_out_are_told() {
    let tokenizer = with_chat_template(TWO_ROLES);
    let asked = json!([{"role": "system", "content": "Be brief."}, user("2+3?")]);
    for row in [
        json!({"messages": asked, "targets": ["{five}", "{5}"]}),
        json!({"messages": asked, "intent": "add", "response": "Five."}),
    ] {
        let data = read(&row, &tokenizer, TrainOn::Assistant);
        let notice = told(&data, Oddity::Unread).map(|notice| (notice.rows, notice.what.as_str()));
        assert_eq!(notice, Some((1, "`messages[0].content` of `system`")), "{row}");
    }
}

#[test]
fn an_answer_without_an_end_is_told_beside_others() {
    let tokenizer = with_chat_template(&TWO_ROLES.replace(
        "m.content + '<|im_end|>' }}{% endif",
        "m.content + ('<|im_end|>' if m.content != 'Five.' else '') }}{% endif",
    ));
    let rows = format!(
        "{}\n{}",
        json!({"messages": [user("2+3?"), answer("Five.")]}),
        json!({"messages": [user("2+4?"), answer("Six.")]})
    );
    let data = read_text("r", &rows, &Options::default(), &tokenizer).unwrap_or_else(|faults| panic!("{faults}"));
    let notice = told(&data, Oddity::Unended).map(|notice| (notice.rows, notice.of, notice.what.as_str()));
    assert_eq!(notice, Some((1, 2, "messages[1]")));
}

/// A mark says what is learned: what stands in the text without one is not, and that is told.
#[test]
fn text_without_a_mark_is_not_learned() {
    let last = "{%- for m in messages -%}{{- '<' + m.role + '>' -}}\
        {%- if m.role == 'assistant' and loop.last -%}{% generation %}{{- m.content + '<|im_end|>' -}}{% endgeneration %}\
        {%- else -%}{{- m.content + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}\
        {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";
    let tokenizer = with_chat_template(last);
    let row = json!({"messages": [user("2+3?"), answer("Five."), user("4+4?"), answer("Eight.")]});
    let data = read(&row, &tokenizer, TrainOn::Assistant);
    let [example] = &data.examples[..] else { panic!("{} examples", data.examples.len()) };
    let learned = example.ids.iter().zip(&example.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id);
    let learned = tokenizer.decode(&learned.collect::<Vec<_>>(), false).expect("text");
    assert_eq!(learned, "Eight.<|im_end|>");
    // Written it is, and no switch would change that.
    assert_eq!(told(&data, Oddity::Unlearned), None);
    let notice = told(&data, Oddity::Unmarked).expect("told");
    assert_eq!(notice.what, "`messages[1].content`");
    assert!(notice.to_string().contains("writes and does not mark as generated"), "{notice}");
}

/// Whoever says it: what counts is what the template writes.
#[test]
fn thoughts_and_calls_of_others_than_the_assistant_are_told() {
    let row = |key: &str, value: Value| {
        let mut asked = user("2+3?");
        asked[key] = value;
        json!({"messages": [asked, answer("Five.")]})
    };
    let call = json!([{"type": "function", "function": {"name": "add", "arguments": {}}}]);
    let tokenizer = with_chat_template(MARKED);
    for key in ["reasoning_content", "thinking"] {
        let data = read(&row(key, json!("Two and three.")), &tokenizer, TrainOn::Assistant);
        let told = told(&data, Oddity::Unread).map(|notice| notice.what.as_str());
        assert_eq!(told, Some("`messages[0].reasoning_content` of `user`"), "{key}");
    }
    let data = read(&row("tool_calls", call), &with_chat_template(TWO_ROLES), TrainOn::Assistant);
    let notice = told(&data, Oddity::Unread).map(|notice| notice.what.as_str());
    assert_eq!(notice, Some("`messages[0].tool_calls` of `user`"));
    let writes = with_chat_template(&SWITCHED.replace(" and enable_thinking is defined and enable_thinking", ""));
    let data = read(&row("reasoning_content", json!("Two and three.")), &writes, TrainOn::Assistant);
    assert_eq!(data.report.notices, []);
}

#[test]
fn a_thought_in_the_content_and_another_beside_it_are_both_looked_for() {
    let row = json!({"messages": [user("2+3?"), thinks("<think>\nTwo and three.\n</think>\n\nFive.", "Count.")]});
    let chosen = "{%- for m in messages -%}{%- set thought = m.reasoning_content or '' -%}{%- set words = m.content -%}\
        {%- if '</think>' in words -%}{%- set thought = words.split('</think>')[0].split('<think>')[-1].strip() -%}\
        {%- set words = words.split('</think>')[-1].lstrip() -%}{%- endif -%}\
        {{- '<' + m.role + '>' + ('(' + thought + ')' if m.role == 'assistant' else '') + words + '<|im_end|>' -}}{%- endfor -%}\
        {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";
    let data = read(&row, &with_chat_template(chosen), TrainOn::Assistant);
    assert_eq!(
        texts(&data, &with_chat_template(chosen)),
        ["<user>2+3?<|im_end|><assistant>(Two and three.)Five.<|im_end|>"]
    );
    let notice = told(&data, Oddity::Unlearned).map(|notice| notice.what.as_str());
    assert_eq!(notice, Some("`messages[1].reasoning_content`"));
}

#[test]
fn marks_that_end_before_the_end_of_a_turn_are_named() {
    let early = MARKED.replace(
        "m.content + '<|im_end|>' -}}{% endgeneration %}",
        "m.content -}}{% endgeneration %}{{- '<|im_end|>' -}}",
    );
    // An answer may end with a token of its own.
    for words in ["Five.", "Five.<|im_start|>"] {
        let row = json!({"messages": [user("2+3?"), answer(words)]});
        let found = read_text("r", &row.to_string(), &Options::default(), &with_chat_template(&early));
        let found = found.expect_err("no end is learned").to_string();
        assert!(
            found.contains("no row teaches the model where to stop")
                && found.contains("within the template's `{% generation %}` marks"),
            "{found}"
        );
    }
}

/// Writes the names of calls, and of tools that answer, and nobody's else.
const NAMES_OF_TOOLS: &str = "{%- for m in messages -%}{{- '<' + m.role + (':' + m.name if m.role == 'tool' else '') + '>' -}}\
    {%- if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% endif -%}{{- (m.content or '') + '<|im_end|>' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

#[test]
fn a_name_is_told_where_the_template_writes_those_of_others() {
    let tokenizer = with_chat_template(NAMES_OF_TOOLS);
    let named = |role: &str| json!({"role": role, "content": "the sum", "name": "adder"});
    let told = |role: &str| {
        let row = json!({"messages": [user("add"), named(role), answer("3")]});
        let read = read(&row, &tokenizer, TrainOn::Assistant);
        read.report.notices.iter().any(|notice| format!("{notice}").contains("name"))
    };
    assert!(told("user"), "nothing writes who asks");
    assert!(!told("tool"), "the template writes which tool answers");
}

/// Tests for tools and counts documents, of which it writes the titles.
const COUNTED: &str = "{%- if tools %}{{ 'You may call ' ~ tools | length ~ ' tools. ' }}{% endif -%}\
    {%- if documents %}{{ 'Read ' ~ documents | length ~ ': ' }}{%- for d in documents %}{{ d.title }}{% endfor %}{% endif -%}\
    {%- for m in messages -%}{{- '<' + m.role + '>' + m.content + '<|im_end|>' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

#[test]
fn what_a_template_only_tests_for_or_counts_is_told() {
    let tokenizer = with_chat_template(COUNTED);
    let told = |row: Value| {
        let data = read(&row, &tokenizer, TrainOn::Assistant);
        told(&data, Oddity::Unread).map(|notice| notice.what.clone())
    };
    let turns = [user("a"), answer("b")];
    let tool = json!({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}});
    assert_eq!(told(json!({"messages": turns, "tools": [tool]})), Some("`tools`".into()));
    assert_eq!(told(json!({"messages": turns, "documents": [{"title": "t"}]})), None);
    assert_eq!(told(json!({"messages": turns, "documents": [{"text": "d"}]})), Some("`documents`".into()));
    let both = json!([{"title": "t", "text": "d"}, {"title": "u", "id": 3}]);
    assert_eq!(told(json!({"messages": turns, "documents": both})), Some("`documents[].id`".into()));
    // A prompt and its targets, and a prompt and its completion, are asked through the same template.
    let asked = [user("a")];
    let targets = json!({"messages": asked, "documents": [{"text": "d"}], "targets": ["b", "c"]});
    assert_eq!(told(targets), Some("`documents`".into()));
    let completed = json!({"prompt": asked, "completion": [answer("b")], "documents": [{"text": "d"}]});
    assert_eq!(told(completed), Some("`documents`".into()));
    // What a template does write is not told.
    let written = with_chat_template(&COUNTED.replace("tools | length", "tools | tojson"));
    let data = read(&json!({"messages": turns, "tools": [tool]}), &written, TrainOn::Assistant);
    assert!(data.report.notices.is_empty(), "{:?}", data.report.notices);
}

/// Closes an empty thought before an answer where a switch says so, and writes contents as they are.
const CLOSED: &str = "{%- set lead = '<think>\n\n</think>\n' if not enable_thinking else '' -%}{%- for m in messages -%}\
    {{- '<' + m.role + '>' + (lead if m.role == 'assistant' and loop.last else '') + m.content + '<|im_end|>' -}}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' + lead }}{% endif -%}";

/// The same with marks around all that the assistant says.
const CLOSED_AND_MARKED: &str = "{%- set lead = '<think>\n\n</think>\n' if not enable_thinking else '' -%}{%- for m in messages -%}\
    {%- if m.role == 'assistant' -%}{% generation %}{{- '<assistant>' + lead + m.content + '<|im_end|>' -}}{% endgeneration %}\
    {%- else -%}{{- '<' + m.role + '>' + m.content + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}\
    {%- if add_generation_prompt %}{{ '<assistant>' + lead }}{% endif -%}";

#[test]
fn a_thought_behind_one_that_the_template_has_closed_is_told_with_the_switch() {
    let thought = "<think>\nTwo and two.\n</think>\n\nFour.";
    let rows = [
        json!({"messages": [user("2+2?"), answer(thought)]}),
        json!({"prompt": [user("2+2?")], "completion": [answer(thought)]}),
        json!({"messages": [user("2+2?")], "targets": [thought]}),
        json!({"messages": [user("2+2?")], "intent": "sum", "response": "Four."}),
    ];
    for template in [CLOSED, CLOSED_AND_MARKED] {
        let tokenizer = with_chat_template(template);
        let found = rows.clone().map(|row| {
            told(&read(&row, &tokenizer, TrainOn::Assistant), Oddity::SecondThought).map(|notice| notice.what.clone())
        });
        let what =
            "`<think>` of `messages[1].content`; `data.template_arguments = { enable_thinking = true }` writes one";
        assert_eq!(found[..3], [Some(what.to_owned()), Some(what.to_owned()), Some(what.to_owned())], "{template}");
        assert_eq!(found[3], None, "an answer without a thought");
        let mut switched = rows[0].clone();
        switched["chat_template_kwargs"] = json!({"enable_thinking": true});
        assert_eq!(told(&read(&switched, &tokenizer, TrainOn::Assistant), Oddity::SecondThought), None);
    }
}

#[test]
fn what_makes_a_message_cannot_be_ignored() {
    let tokenizer = with_chat_template(TWO_ROLES);
    let row = json!({"messages": [user("a"), answer("b")]}).to_string();
    for name in ["content", "role"] {
        let options = Options { ignore: vec![name.into()], ..Options::default() };
        let faults = read_text("r", &row, &options, &tokenizer).map(|_| ()).expect_err("no message without it");
        let told = faults.to_string();
        assert!(told.contains(&format!("`data.ignore` names `{name}`")) && told.contains("hint: "), "{told}");
    }
}

/// Writes the names of calls, and their arguments where these are under the one name.
const CALLS: &str = "{%- for m in messages -%}{{- '<' + m.role + '>' -}}\
    {%- for c in m.tool_calls or [] %}{{- c.function.name -}}{%- if c.function.arguments is defined %}{{ c.function.arguments | tojson }}{% endif -%}{%- endfor -%}\
    {{- (m.content or '') + '<|im_end|>' -}}{%- endfor -%}{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";

#[test]
fn what_a_call_says_beside_its_name_is_looked_for() {
    let call = |function: Value, more: Value| {
        let mut call = json!({"type": "function", "id": "x", "function": function});
        call.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"messages": [user("2+3?"), {"role": "assistant", "content": "", "tool_calls": [call]}]})
    };
    let tokenizer = with_chat_template(CALLS);
    let what = |row: &Value| {
        let data = read(row, &tokenizer, TrainOn::Assistant);
        told(&data, Oddity::Unlearned).map(|notice| notice.what.clone())
    };
    let named = |arguments: &str| json!({"name": "add", arguments: {"x": 1}});
    assert_eq!(what(&call(named("arguments"), json!({}))), None);
    let lost = "`messages[1].tool_calls[0].function.parameters`";
    assert_eq!(what(&call(named("parameters"), json!({}))).as_deref(), Some(lost));
    let lost = "`messages[1].tool_calls[0].thought`";
    assert_eq!(what(&call(named("arguments"), json!({"thought": "hm"}))).as_deref(), Some(lost));
    // Of calls that are not learned, too: a template that writes the first alone.
    let first = with_chat_template(&CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"));
    let calls =
        ["add", "take"].map(|name| json!({"type": "function", "function": {"name": name, "arguments": {"x": 1}}}));
    let row = json!({"messages": [user("2+3?"), {"role": "assistant", "content": "", "tool_calls": calls}, user("4?"), answer("Four.")]});
    let data = read(&row, &first, TrainOn::Last);
    let notice = told(&data, Oddity::Unread).map(|notice| notice.what.as_str());
    assert_eq!(notice, Some("`messages[1].tool_calls[1]` of `assistant`"));
}

#[test]
fn a_beginning_that_the_template_cuts_off_is_told_whatever_its_tag_is() {
    for (cut, content, what) in [
        ("</thought>", "<thought>hm</thought>Five.", "`<thought>` of `messages[1].content`"),
        ("[/THINK]", "[THINK]hm[/THINK]Five.", "`[THINK]` of `messages[1].content`"),
        ("</seed:think>", "<seed:think>hm</seed:think>Five.", "`<seed:think>` of `messages[1].content`"),
        ("Answer:", "It is odd. Answer:Five.", "the beginning of `messages[1].content`"),
    ] {
        let tokenizer = with_chat_template(&STRIPPED.replace("</think>", cut));
        let data = read(&json!({"messages": [user("2+3?"), answer(content)]}), &tokenizer, TrainOn::Assistant);
        assert_eq!(texts(&data, &tokenizer), ["<user>2+3?<|im_end|><assistant>Five.<|im_end|>"]);
        assert_eq!(told(&data, Oddity::Unlearned).map(|notice| notice.what.as_str()), Some(what));
        let asked = json!({"messages": [user(content), answer("Five.")]});
        let data = read(&asked, &tokenizer, TrainOn::Assistant);
        assert!(told(&data, Oddity::Unread).is_some(), "{cut}");
        let whole = json!({"messages": [user("2+3?"), answer("Five.")]});
        assert_eq!(read(&whole, &tokenizer, TrainOn::Assistant).report.notices, []);
    }
}

/// An answer whose words stand in another one, or that is given twice.
#[test]
fn words_that_another_answer_has_are_no_proof_that_they_are_learned() {
    let last = "{%- for m in messages -%}{{- '<' + m.role + '>' -}}\
        {%- if m.role == 'assistant' and loop.last -%}{% generation %}{{- m.content + '<|im_end|>' -}}{% endgeneration %}\
        {%- else -%}{{- m.content + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}\
        {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";
    let tokenizer = with_chat_template(last);
    for answers in [["5", "15"], ["5", "5"]] {
        let row = json!({"messages": [user("2+3?"), answer(answers[0]), user("4+4?"), answer(answers[1])]});
        let data = read(&row, &tokenizer, TrainOn::Assistant);
        assert_eq!(told(&data, Oddity::Unmarked).map(|notice| notice.what.as_str()), Some("`messages[1].content`"));
    }
}

/// Of a turn with calls the template writes these alone, and the tool has the name of what is said.
#[test]
fn the_name_of_a_tool_is_no_proof_that_a_content_is_written() {
    let call = json!([{"type": "function", "function": {"name": "search", "arguments": {}}}]);
    let row = json!({"messages": [user("2+3?"), {"role": "assistant", "content": "search", "tool_calls": call}]});
    let data = read(&row, &with_chat_template(TWO_ROLES), TrainOn::Assistant);
    assert_eq!(told(&data, Oddity::Unlearned).map(|notice| notice.what.as_str()), Some("`messages[1].content`"));
}

/// Whole conversations have the name, and an opened turn does not.
#[test]
fn a_name_of_the_assistant_that_no_turn_has_is_told() {
    let named = "{%- for m in messages -%}{{- '<' + (m.get('name') or m.role) + '>' + m.content + '<|im_end|>' -}}{%- endfor -%}\
        {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";
    let mut said = answer("Five.");
    said["name"] = json!("Ada");
    let data = read(&json!({"messages": [user("2+3?"), said]}), &with_chat_template(named), TrainOn::Assistant);
    // The turn is opened by the role's tag, which is no thought to be closed.
    let learned = "<user>2+3?<|im_end|><assistant>Five.<|im_end|>";
    assert_eq!(texts(&data, &with_chat_template(named)), [learned]);
    let notice = told(&data, Oddity::Unread).map(|notice| notice.what.as_str());
    assert_eq!(notice, Some("`messages[1].name` of `assistant`"));
}

#[test]
fn a_row_with_two_oddities_of_a_kind_is_one_row() {
    let row = json!({"messages": [{"role": "narrator", "content": "Night."}, {"role": "critic", "content": "No."}, user("2+3?"), answer("Five.")]});
    let data = read(&row, &with_chat_template(TWO_ROLES), TrainOn::Assistant);
    let notice = told(&data, Oddity::Unread).map(|notice| (notice.rows, notice.of));
    assert_eq!(notice, Some((1, 1)));
}

/// The notices of one row with what each names.
fn notices(row: &Value, template: &str) -> Vec<(Oddity, String)> {
    let data = read(row, &with_chat_template(template), TrainOn::Assistant);
    data.report.notices.into_iter().map(|notice| (notice.oddity, notice.what)).collect()
}

/// A template that writes `content` of each message, an expression of Jinja.
fn writes(content: &str) -> String {
    format!(
        "{{%- for m in messages %}}{{{{ '<' + m.role + '>' + {content} + '<|im_end|>' }}}}{{% endfor -%}}\
         {{%- if add_generation_prompt %}}{{{{ '<assistant>' }}}}{{% endif -%}}"
    )
}

#[test]
fn words_that_a_template_leaves_out_of_the_middle_or_changes_are_told() {
    let row = json!({"messages": [user("first line\nmiddle line\nlast line"), answer("One.\nTwo.\nThree.")]});
    let ends = writes("m.content.split('\\n')[0] + '\\n' + m.content.split('\\n')[-1]");
    let middle = |words: &str, place: &str| (Oddity::Rewritten, format!("`{words}` of {place}"));
    // A row is counted once, with the first of them.
    assert_eq!(notices(&row, &ends), [middle("Two. Three.", "`messages[1].content`")]);
    let row_of_one = json!({"messages": [row["messages"][0], answer("One.")]});
    assert_eq!(notices(&row_of_one, &ends), [middle("middle line last", "`messages[0].content` of `user`")]);
    for changed in [
        "m.content | replace('Two', 'Deux')",
        "m.content | replace('Two.', '')",
        "m.content | upper",
        "m.content | replace('\\n', ' ')",
    ] {
        let told = notices(&row, &writes(changed));
        assert!(told.iter().any(|(oddity, _)| *oddity == Oddity::Rewritten), "{changed}: {told:?}");
    }
    // Blanks, and how JSON writes a text, are no other words.
    let quoted = json!({"messages": [user("say \"a\" & <b>\n\n\"c\""), answer("\"a\" &\n<b> 'c'")]});
    for alike in ["m.content", "m.content | trim", "m.content | tojson"] {
        assert_eq!(notices(&quoted, &writes(alike)), [], "{alike}");
    }
    // Of a content in parts the template may write one.
    let parts = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a fox"}, {"type": "text", "text": "a hare"}]},
        answer("One.")]});
    let first = "(m.content if m.content is string else m.content[0].text)";
    assert_eq!(notices(&parts, &writes(first)), []);
    let all = "(m.content if m.content is string else m.content | map(attribute='text') | map('replace', 'hare', 'dog') | join('-'))";
    assert_eq!(notices(&parts, &writes(all)), [middle("hare", "`messages[0].content` of `user`")]);
}

#[test]
fn what_a_later_turn_is_asked_without_is_told() {
    let row = json!({"messages": [user("Who?"), answer("A fox."), user("Where?"), answer("There."), user("When?"), answer("Now.")]});
    let recent = |count: usize| {
        format!(
            "{{%- for m in messages[-{count}:] %}}{{{{ '<' + m.role + '>' + m.content + '<|im_end|>' }}}}{{% endfor -%}}\
             {{%- if add_generation_prompt %}}{{{{ '<assistant>' }}}}{{% endif -%}}"
        )
    };
    let told = notices(&row, &recent(2));
    let forgotten = (Oddity::Forgotten, "`messages[0].content` of `user` before `messages[3]`".to_owned());
    assert!(told.contains(&forgotten), "{told:?}");
    assert_eq!(notices(&row, &recent(9)), []);
    // Earlier thoughts are left out on purpose.
    let thoughts = json!({"messages": [user("Who?"), answer("<think>hm</think>A fox."), user("Where?"), answer("<think>ah</think>There.")]});
    let without = "{%- for m in messages %}{{ '<' + m.role + '>' + (m.content if loop.last else m.content.split('</think>')[-1]) + '<|im_end|>' }}{% endfor -%}\
        {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";
    assert_eq!(notices(&thoughts, without), [(Oddity::Apart, String::new())]);
}

#[test]
fn one_argument_of_several_and_fields_of_tools_are_told() {
    let tools = json!([{"type": "function", "function": {"name": "weather", "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "day": {"type": "string"}}}}}]);
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"type": "function",
        "function": {"name": "weather", "arguments": {"city": "Paris", "day": "today"}}}]});
    let row = json!({"tools": tools, "messages": [user("And in Paris?"), call]});
    let template = |tool: &str, call: &str| {
        format!(
            "{{%- for t in tools %}}{{{{ {tool} }}}}{{% endfor -%}}\
             {{%- for m in messages %}}{{{{ '<' + m.role + '>' + (m.content or '') }}}}\
             {{%- for c in m.tool_calls or [] %}}{{{{ c.function.name + ':' + {call} }}}}{{% endfor %}}{{{{ '<|im_end|>' }}}}{{% endfor -%}}\
             {{%- if add_generation_prompt %}}{{{{ '<assistant>' }}}}{{% endif -%}}"
        )
    };
    let (whole_tool, whole_call) = ("t | tojson", "c.function.arguments | tojson");
    let city = "c.function.arguments.city";
    assert_eq!(notices(&row, &template(whole_tool, whole_call)), []);
    let argument = "`messages[1].tool_calls[0].function.arguments.day`";
    assert_eq!(notices(&row, &template(whole_tool, city)), [(Oddity::Unlearned, argument.to_owned())]);
    let none = "`messages[1].tool_calls[0].function.arguments`";
    assert_eq!(notices(&row, &template(whole_tool, "'?'")), [(Oddity::Unlearned, none.to_owned())]);
    let names = "t.function.name + (t.function.parameters.properties | tojson)";
    let unread = |what: &str| (Oddity::Unread, format!("`{what}`"));
    assert_eq!(notices(&row, &template(names, whole_call)), [unread("tools[].function.description")]);
    let described = "t.function.name + t.function.description";
    assert_eq!(notices(&row, &template(described, whole_call)), [unread("tools[].function.parameters.properties.*")]);
    assert_eq!(notices(&row, &template("'tools!'", whole_call)), [unread("tools")]);
    assert_eq!(notices(&row, &template("t | tojson(indent=4)", whole_call)), []);
}

#[test]
fn one_tool_one_level_of_a_field_and_what_is_written_otherwise_beside_contents_are_told() {
    let tool = |name: &str, words: &str| {
        json!({"type": "function", "function": {"name": name, "description": words,
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Where it is"}}}}})
    };
    let rows = |tools: Value| json!({"tools": tools, "messages": [user("q"), answer("a")]});
    let two = rows(json!([tool("sky", "How the sky is"), tool("sea", "How the sea is")]));
    let list = |tools: &str| format!("{tools}{}", writes("m.content"));
    let unread = |what: &str| (Oddity::Unread, format!("`{what}`"));
    let each = |words: &str| list(&format!("{{%- for t in tools %}}{{{{ {words} }}}}{{% endfor -%}}"));
    assert_eq!(notices(&two, &list("{{ tools[0] | tojson }}")), [unread("tools[1]")]);
    let parameters = "t.function.parameters | tojson";
    let own = each(&format!("t.function.name + ({parameters})"));
    assert_eq!(notices(&two, &own), [unread("tools[].function.description")]);
    let inner = each("t.function.name + t.function.description + (t.function.parameters.properties | list | join)");
    assert_eq!(notices(&two, &inner), [unread("tools[].function.parameters.properties.*.description")]);
    let lowered = notices(&two, &each("t | tojson | lower"));
    assert_eq!(lowered, [(Oddity::Rewritten, "`How the sky` of `tools[].function.description`".to_owned())]);
    let documents =
        json!({"documents": [{"text": "A tower of stone"}, {"text": "A wall"}], "messages": [user("q"), answer("a")]});
    let first = list("{%- for d in documents[:1] %}{{ d.text }}{% endfor -%}");
    assert_eq!(notices(&documents, &first), [unread("documents[1]")]);
    let cut = list("{%- for d in documents %}{{ d.text[2:] }}{% endfor -%}");
    let told = notices(&documents, &cut);
    assert_eq!(told, [(Oddity::Rewritten, "`A tower of` of `documents[].text`".to_owned())]);
    // Thoughts, calls and single values of their arguments.
    let call = json!({"role": "assistant", "content": "", "reasoning_content": "First I Look", "tool_calls": [{"type": "function",
        "function": {"name": "sky", "arguments": {"where": {"lat": 1, "lon": 2}, "exact": true, "Day": "Today"}}}]});
    let row = json!({"messages": [user("q"), call]});
    let calls = |thought: &str, call: &str| {
        writes(&format!(
            "(({thought}) if m.reasoning_content else '') + m.content + ((({call})) if m.tool_calls else '')"
        ))
    };
    let (thought, whole) =
        ("m.reasoning_content", "m.tool_calls[0].function.name + (m.tool_calls[0].function.arguments | tojson)");
    assert_eq!(notices(&row, &calls(thought, whole)), []);
    let changed = |what: &str| [(Oddity::Rewritten, what.to_owned())];
    let place = "messages[1].tool_calls[0].function.arguments";
    assert_eq!(
        notices(&row, &calls("m.reasoning_content[6:]", whole)),
        changed("`First I Look` of `messages[1].reasoning_content`")
    );
    let lower = format!("({whole}) | lower");
    assert_eq!(notices(&row, &calls(thought, &lower)), changed(&format!("`Today` of `{place}.Day`")));
    let some = "m.tool_calls[0].function.name + m.tool_calls[0].function.arguments.Day + (m.tool_calls[0].function.arguments.where.lat | string)";
    let lost = |path: &str| (Oddity::Unlearned, format!("`{place}.{path}`"));
    let data = read(&row, &with_chat_template(&calls(thought, some)), TrainOn::Assistant);
    assert_eq!(data.report.notices.iter().map(|n| (n.oddity, n.what.clone())).collect::<Vec<_>>(), [lost("exact")]);
    assert_eq!(data.report.notices[0].rows, 1);
}

#[test]
fn calls_and_words_that_are_others_in_the_history_are_told() {
    let call = json!({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "sky", "arguments": {}}}]});
    let row = json!({"messages": [user("Sky?"), call, {"role": "tool", "content": "clear"}, answer("Clear."), user("Sea?"), answer("Calm.")]});
    let template = |calls: &str, words: &str| {
        format!(
            "{{%- for m in messages %}}{{{{ '<' + m.role + '>' + {words} }}}}{{% if m.tool_calls and {calls} %}}{{{{ m.tool_calls[0].function.name }}}}\
             {{% endif %}}{{{{ '<|im_end|>' }}}}{{% endfor -%}}{{%- if add_generation_prompt %}}{{{{ '<assistant>' }}}}{{% endif -%}}"
        )
    };
    assert_eq!(notices(&row, &template("true", "m.content")), []);
    let told = notices(&row, &template("loop.last", "m.content"));
    let forgotten = "`messages[1].tool_calls` of `assistant` before `messages[5]`".to_owned();
    assert!(told.contains(&(Oddity::Forgotten, forgotten)), "{told:?}");
    let told = notices(&row, &template("true", "(m.content if loop.last else m.content | lower)"));
    let changed = told.iter().find(|(oddity, _)| *oddity == Oddity::Rewritten).map(|(_, what)| what.as_str());
    assert!(
        changed.is_some_and(|what| what.contains("messages[0].content") || what.contains("messages[3].content")),
        "{told:?}"
    );
}

#[test]
fn a_short_message_whose_letters_stand_elsewhere_is_told() {
    let row = json!({"messages": [{"role": "system", "content": "user"}, user("A or B?"), answer("A")]});
    let template = writes("m.content").replace("in messages", "in messages if m.role != 'system'");
    assert_eq!(notices(&row, &template), [(Oddity::Unread, "`messages[0].content` of `system`".to_owned())]);
    assert_eq!(notices(&row, &writes("m.content")), []);
}

#[test]
fn a_message_that_repeats_another_is_looked_for_by_itself() {
    let row =
        json!({"messages": [user("Yes?"), answer("Yes."), user("Yes?"), answer("No."), user("So?"), answer("So.")]});
    assert_eq!(notices(&row, &writes("m.content")), []);
    let told = |what: &str| (Oddity::Rewritten, what.to_owned());
    let once = "`Yes?`, said 2 times and written 1, of `messages[0].content` of `user`";
    let deduplicated = "{%- set ns = namespace(said=[]) %}{%- for m in messages %}\
        {{ '<' + m.role + '>' + ('' if m.content in ns.said else m.content) + '<|im_end|>' }}{% set ns.said = ns.said + [m.content] %}{% endfor -%}\
        {%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}";
    assert_eq!(notices(&row, deduplicated), [told(once)]);
    let one_changed = writes("(m.content | upper if loop.index0 == 2 else m.content)");
    assert_eq!(notices(&row, &one_changed), [told(once)]);
}

#[test]
fn an_answer_that_is_learned_with_escapes_is_told() {
    let row = json!({"messages": [user("a & b"), answer("<b>x</b> & y")]});
    let told = notices(&row, &writes("(m.content | e)"));
    assert_eq!(told, [(Oddity::Rewritten, "`<b>x</b> & y` of `messages[1].content`".to_owned())]);
    // A question is asked so, too.
    let question = writes("(m.content if m.role == 'assistant' else m.content | e)");
    assert_eq!(notices(&row, &question), []);
}

#[test]
fn the_end_of_an_answer_that_is_left_out_is_named() {
    let row = json!({"messages": [user("q"), answer("The fox sleeps. The hare runs.")]});
    let first = writes("(m.content if m.role == 'user' else m.content.split('. ')[0] + '.')");
    assert_eq!(notices(&row, &first), [(Oddity::Unlearned, "the end of `messages[1].content`".to_owned())]);
}

#[test]
fn one_value_of_a_list_and_the_names_of_arguments_are_looked_for() {
    let tools = json!([{"type": "function", "function": {"name": "weather", "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}}}}]);
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"type": "function",
        "function": {"name": "weather", "arguments": {"city": ["Paris", "Rome"]}}}]});
    let row = json!({"tools": tools, "messages": [user("And in Paris?"), call]});
    let template = |property: &str, call: &str| {
        format!(
            "{{%- for t in tools %}}{{{{ t.function.name + t.function.description }}}}\
             {{%- for name, p in t.function.parameters.properties.items() %}}{{{{ {property} }}}}{{% endfor -%}}{{% endfor -%}}\
             {{%- for m in messages %}}{{{{ '<' + m.role + '>' + (m.content or '') }}}}\
             {{%- for c in m.tool_calls or [] %}}{{{{ c.function.name + ':' + {call} }}}}{{% endfor %}}{{{{ '<|im_end|>' }}}}{{% endfor -%}}\
             {{%- if add_generation_prompt %}}{{{{ '<assistant>' }}}}{{% endif -%}}"
        )
    };
    let (property, arguments) = ("name + (p.enum | join('|'))", "c.function.arguments | tojson");
    assert_eq!(notices(&row, &template(property, arguments)), []);
    assert_eq!(notices(&row, &template(property, "'city=' + (c.function.arguments.city | join)")), []);
    let unread = |path: &str| [(Oddity::Unread, format!("`tools[].function.parameters.properties{path}`"))];
    assert_eq!(notices(&row, &template("name + p.enum[0]", arguments)), unread(".*.enum"));
    assert_eq!(notices(&row, &template("name + (p.enum[1:] | join)", arguments)), unread(".*.enum"));
    assert_eq!(notices(&row, &template("p.enum | join", arguments)), unread(".*"));
    let unlearned =
        |path: &str| [(Oddity::Unlearned, format!("`messages[1].tool_calls[0].function.arguments.{path}`"))];
    assert_eq!(notices(&row, &template(property, "'city=' + c.function.arguments.city[0]")), unlearned("city"));
    assert_eq!(notices(&row, &template(property, "c.function.arguments.values() | list | tojson")), unlearned("*"));
}

#[test]
fn a_call_of_the_history_whose_letters_are_changed_is_told() {
    let call = json!({"role": "assistant", "content": "", "tool_calls": [{"type": "function",
        "function": {"name": "Weather", "arguments": {"city": "Paris"}}}]});
    let row = json!({"messages": [user("Sky?"), call, {"role": "tool", "content": "clear"}, answer("Clear.")]});
    let template = |call: &str| writes(&format!("m.content + (({call}) if m.tool_calls else '')"));
    let whole = "m.tool_calls[0].function.name + (m.tool_calls[0].function.arguments | tojson)";
    let last = |template: &str| {
        let data = read(&row, &with_chat_template(template), TrainOn::Last);
        data.report.notices.into_iter().map(|notice| (notice.oddity, notice.what)).collect::<Vec<_>>()
    };
    assert_eq!(last(&template(whole)), []);
    let told = |words: &str, path: &str| {
        [(Oddity::Rewritten, format!("`{words}` of `messages[1].tool_calls[0]{path}` of `assistant`"))]
    };
    assert_eq!(last(&template(&format!("({whole}) | lower"))), told("Weather", ""));
    let shouted = whole.replace("arguments | tojson", "arguments | tojson | replace('Paris', 'PARIS')");
    assert_eq!(last(&template(&shouted)), told("Paris", ".function.arguments.city"));
}

#[test]
fn arguments_that_are_json_in_a_text_are_read_where_a_template_asks_only_whether_there_are_any() {
    let call = |arguments: Value| {
        json!({"messages": [user("Sky?"), {"role": "assistant", "content": "", "tool_calls": [{"type": "function",
            "function": {"name": "sky", "arguments": arguments}}]}]})
    };
    let template = writes(
        "m.content + (m.tool_calls[0].function.arguments | tojson if m.tool_calls and m.tool_calls[0].function.arguments is defined else '')",
    );
    let refusing = template.replace(
        "m.tool_calls[0].function.arguments | tojson",
        "(m.tool_calls[0].function.arguments | tojson if m.tool_calls[0].function.arguments is mapping else raise_exception('an object'))",
    );
    let over = template.replace("arguments | tojson", "arguments | items | list | tojson");
    for template in [template, over, refusing] {
        let tokenizer = with_chat_template(&template);
        let object = read(&call(json!({"city": "Paris"})), &tokenizer, TrainOn::Assistant);
        let text = read(&call(json!("{\"city\": \"Paris\"}")), &tokenizer, TrainOn::Assistant);
        assert_eq!(texts(&object, &tokenizer), texts(&text, &tokenizer), "{template}");
        assert!(texts(&text, &tokenizer)[0].contains("\"city\""), "{template}");
    }
}

#[test]
fn letters_of_values_to_choose_from_that_are_changed_are_told() {
    let tools = json!([{"type": "function", "function": {"name": "weather", "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}}}}]);
    let row = json!({"tools": tools, "messages": [user("And in Rome?"), answer("Rain.")]});
    let template = |values: &str| {
        let tool = format!("t.function.name + t.function.description + k + (v.enum | join('|') | {values})");
        let property =
            format!("{{%- for k, v in t.function.parameters.properties.items() %}}{{{{ {tool} }}}}{{% endfor -%}}");
        format!("{{%- for t in tools %}}{property}{{% endfor -%}}{}", writes("m.content"))
    };
    assert_eq!(notices(&row, &template("trim")), []);
    let changed = "`Paris` of `tools[].function.parameters.properties.*.enum`".to_owned();
    assert_eq!(notices(&row, &template("upper")), [(Oddity::Rewritten, changed)]);
}
