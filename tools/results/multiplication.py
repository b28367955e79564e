"""Writes the world of multiplication (arXiv 2508.09654) and its recipe into a folder: what `docs/results.md` measures.

    python3 tools/results/multiplication.py FOLDER [--hidden 48] [--steps 6000]

A string is `aabbcccc`: a and b from 00 to 99, all alike likely, c = a b with zeros in front; one token a digit. 10,000 of
100,000,000 strings are right, so that the whole set can be evaluated.
"""

import argparse
import json
import pathlib

RECIPE = """seed = 1

[model.init]
architecture = "llama"
tokenizer = "{folder}/tokenizer"
hidden_size = {hidden}
layers = 2
heads = 4
kv_heads = 4
intermediate_size = {intermediate}
max_positions = 16

[adapter]
kind = "none"

[data]
train = ["{folder}/rows.jsonl"]
eval = ["{folder}/held_out.jsonl"]

[objective]
kind = "nll"

[optimizer]
learning_rate = 3e-3

[schedule]
kind = "cosine"
warmup = 100

[train]
steps = {steps}
batch_size = 128

[checkpoint]
every = 1000
keep = 1
keep_best = false

[eval]
every = 1000
"""


def tokenizer(folder: pathlib.Path) -> None:
    """One token a character, and an end token."""
    vocabulary = {token: index for index, token in enumerate([*"0123456789=", "<end>"])}
    end = {"id": vocabulary["<end>"], "content": "<end>", "special": True}
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    folder.mkdir(parents=True, exist_ok=True)
    split = {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False}
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end | flags], "normalizer": None,
        "pre_tokenizer": split, "post_processor": None, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "="},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--steps", type=int, default=6000)
    given = parser.parse_args()
    tokenizer(given.folder / "tokenizer")
    strings = [f"{a:02}{b:02}{a * b:04}" for a in range(100) for b in range(100)]
    rows = [json.dumps({"prompt": "=", "completion": text}) + "\n" for text in strings]
    (given.folder / "rows.jsonl").write_text("".join(rows))
    # Nothing is held out in this world: of all strings, spread evenly, as many as make a quick curve.
    (given.folder / "held_out.jsonl").write_text("".join(rows[::97]))
    (given.folder / "targets.jsonl").write_text(json.dumps({"prompt": "=", "targets": strings}) + "\n")
    recipe = RECIPE.format(
        folder=given.folder, hidden=given.hidden, intermediate=given.hidden * 8 // 3, steps=given.steps
    )
    (given.folder / f"width_{given.hidden}.toml").write_text(recipe)


if __name__ == "__main__":
    main()
