"""What the worlds of `docs/results.md` share: a model from scratch with a token for each character, and its recipe."""

import json
import pathlib
from collections.abc import Iterable

RECIPE = """seed = 1

[model.init]
architecture = "llama"
tokenizer = "{folder}/tokenizer"
hidden_size = {hidden}
layers = 2
heads = 4
kv_heads = 4
intermediate_size = {intermediate}
max_positions = {positions}

[adapter]
kind = "none"

[data]
train = ["{folder}/{prefix}rows.jsonl"]
eval = ["{folder}/{prefix}held_out.jsonl"]

[objective]
kind = "{objective}"

[optimizer]
learning_rate = 3e-3

[schedule]
kind = "cosine"
warmup = {warmup}

[train]
steps = {steps}
batch_size = {batch}
"""

# What a world of one prompt keeps and how often it is evaluated.
EVERY_1000 = """
[checkpoint]
every = 1000
keep = 1
keep_best = false

[eval]
every = 1000
"""


def recipe(
    folder: pathlib.Path, given, positions: int, *, prefix: str = "", objective: str = "nll", warmup: int = 100, batch: int = 128
) -> str:
    """The recipe of a world in `folder` up to its steps, whose files of rows begin with `prefix`; each world adds what it keeps."""
    return RECIPE.format(
        folder=folder, hidden=given.hidden, intermediate=given.hidden * 8 // 3, steps=given.steps,
        positions=positions, prefix=prefix, objective=objective, warmup=warmup, batch=batch,
    )


def write_tokenizer(folder: pathlib.Path, tokens: Iterable[str], pattern: str = ".") -> None:
    """`tokens`, cut out of a text as `pattern` says, the prompt `=`, which also stands for what is unknown, and an end token."""
    vocabulary = {token: index for index, token in enumerate([*tokens, "=", "<end>"])}
    end = {"id": vocabulary["<end>"], "content": "<end>", "special": True}
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    folder.mkdir(parents=True, exist_ok=True)
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end | flags], "normalizer": None,
        "pre_tokenizer": split, "post_processor": None, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "="},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))


def write_world(folder: pathlib.Path, name: str, characters: str, rows: list[str], longest: int, given) -> None:
    """Tokenizer, training rows, rows for a quick curve, and the recipe of this name; `longest` is in characters."""
    write_tokenizer(folder / "tokenizer", characters)
    lines = [json.dumps({"prompt": "=", "completion": row}) + "\n" for row in rows]
    (folder / "rows.jsonl").write_text("".join(lines))
    (folder / "held_out.jsonl").write_text("".join(lines[::97]))
    (folder / f"{name}.toml").write_text(recipe(folder, given, longest + 2) + EVERY_1000)


def write_targets(path: pathlib.Path, texts: list[str]) -> None:
    """All of `texts` as the targets of the one prompt; one that stands there twice is twice as likely."""
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    row = {"prompt": "=", "targets": list(counts), "weights": list(counts.values())}
    path.write_text(json.dumps(row) + "\n")
