"""Renders chat templates with transformers, for `cargo run -p datasets --example chat_templates` to compare with:

    python render_chat_templates.py FOLDER > cases.jsonl
    python render_chat_templates.py FOLDER parts > cases.jsonl    # contents in parts, of which each template makes what it will

FOLDER holds `*.jinja` files. Each is given twelve conversations, whole and opened for the assistant's last turn. Needs transformers 5.24:
another version that lacks what is called here ends with a word, and no case is written.
"""
import json, pathlib, sys
import transformers
from transformers.utils import chat_template_utils as utils

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
S, U, A = (lambda text, role=role, **more: {"role": role, "content": text, **more} for role in ("system", "user", "assistant"))
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather of a town", "parameters": {
    "type": "object", "properties": {"town": {"type": "string", "description": "Its name"}, "days": {"type": "integer"}}, "required": ["town"]}}}
CALL = {"type": "function", "id": "call00001", "function": {"name": "weather", "arguments": {"town": "Ülm", "days": 2}}}
CONVERSATIONS = {
    "one": dict(messages=[U("Colour?"), A("Teal.")]),
    "two": dict(messages=[U("Colour?"), A("Teal."), U("More?"), A("Ochre.")]),
    "system": dict(messages=[S("Be brief."), U("Colour?"), A("Teal."), U("More?"), A("Ochre.")]),
    "thought_in_text": dict(messages=[U("2+3?"), A("<think>\nTwo and three.\n</think>\n\nFive."), U("4+4?"), A("<think>\nTwice four.\n</think>\n\nEight.")]),
    "thought_apart": dict(messages=[U("2+3?"), A("Five.", reasoning_content="Two and three."), U("4+4?"), A("Eight.", reasoning_content="Twice four.")]),
    "tools": dict(messages=[S("Be brief."), U("Weather in Ulm?"), A("Sunny.")], tools=[TOOL]),
    "tool_results": dict(messages=[U("Weather in Ülm?"), {"role": "assistant", "content": "", "tool_calls": [CALL]},
                                   {"role": "tool", "name": "weather", "tool_call_id": "call00001", "content": "{\"sky\": \"clear\"}"}, A("It is clear.")], tools=[TOOL]),
    "documents": dict(messages=[U("What is in Ulm?"), A("A tower.")], documents=[{"title": "Ulm", "text": "A tower.", "doc_id": 1}]),
    "switches": dict(messages=[U("2+3?"), A("Five.")], arguments={"enable_thinking": False, "thinking": False, "reasoning_effort": "low"}),
    "empty": dict(messages=[S(""), U(""), A("Teal.")]),
    "code_and_letters": dict(messages=[U("Größe \U0001f600 {{ x }} {% if %}?\n```py\nprint('a' < \"b\")\n```"), A("```rust\nlet x = \"{#\";\n```\n\u2028 naïve \U0001f642 日本語")]),
    "blanks": dict(messages=[S("  Be brief.\n"), U("\n Colour? \n\n"), A("\n  Teal. \n"), U("  More?"), A("Ochre.\n\n")]),
}

T = lambda *texts: [{"type": "text", "text": text} for text in texts]
PARTS = {
    "parts": dict(messages=[U(T("First line.\n", "  Second.")), A(T("Teal, ", "or ochre."))]),
    "one_part": dict(messages=[U(T("Colour?")), A(T("Teal.")), U(T("More?")), A(T("Ochre."))]),
    "system_parts": dict(messages=[S(T("Be brief. ", "Be kind.")), U("Colour?"), A("Teal.")]),
}


def render(source, conversation, opened):
    messages = conversation["messages"][:-1] if opened else conversation["messages"]
    marks = "generation" in source and not opened
    try:
        [text], spans = utils.render_jinja_template(
            [utils._normalize_chat_messages(messages)], tools=conversation.get("tools"), documents=conversation.get("documents"),
            chat_template=source, add_generation_prompt=opened, return_assistant_tokens_mask=marks, **{**TOKENS, **conversation.get("arguments", {})})
        return {"text": text, **({"generation": spans[0]} if marks and spans and spans[0] else {})}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main(folder, conversations=CONVERSATIONS):
    class Day(utils.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 28, 9, 5, 7)

    # What a template raises is a result of it; what is not there is none.
    missing = [name for name in ("_normalize_chat_messages", "render_jinja_template") if not hasattr(utils, name)]
    if missing:
        sys.exit(f"transformers {transformers.__version__} has no {', '.join(missing)}: install transformers 5.24")
    utils.datetime = Day
    for path in sorted(pathlib.Path(folder).glob("*.jinja")):
        source = path.read_bytes().decode()
        for name, conversation in conversations.items():
            whole, opened = render(source, conversation, False), render(source, conversation, True)
            print(json.dumps({"template": path.name, "source": source, "conversation": name, **conversation, "whole": whole, "opened": opened}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1], *([PARTS] if sys.argv[2:] == ["parts"] else []))
