"""A sentence encoder that knows what the sentences of `styles.py` mean: their style, mood and topic, and nothing else of them.

A BERT without layers, so that a text is the mean of its words. A word that one style alone has says that style and its moods, a
thing its topic; synonyms of a thing are one to it, and words of several styles are nothing.
"""

import json
import pathlib
import random
import struct

from styles_phrases import MOODS, STYLES, TOPICS

DIMENSION = 64


def meanings() -> dict[str, list[float]]:
    """The vector of each word that has a meaning."""
    random_ = random.Random(17)
    names = [*STYLES, *MOODS, *TOPICS]
    direction = {name: [random_.choice([-1.0, 1.0]) for _ in range(DIMENSION)] for name in names}
    told: dict[str, set[tuple[str, str]]] = {}
    for style, moods in STYLES.items():
        for mood, phrases in zip(MOODS, moods, strict=True):
            for word in " ".join(phrase for choices in phrases for phrase in choices).replace("{}", "").split():
                told.setdefault(word, set()).add((style, mood))
    found = {}
    for word, places in told.items():
        if len({style for style, _ in places}) == 1:
            parts = [[a + b for a, b in zip(direction[s], direction[m], strict=True)] for s, m in sorted(places)]
            found[word] = [sum(column) / len(parts) for column in zip(*parts, strict=True)]
    return found | {thing: direction[topic] for topic, things in TOPICS.items() for thing in things}


def write_encoder(folder: pathlib.Path, words: list[str]) -> None:
    known = meanings()
    vocabulary = {word: index for index, word in enumerate(["[UNK]", *words])}
    nothing = [0.0] * DIMENSION
    tables = {
        "embeddings.word_embeddings.weight": [known.get(word, nothing) for word in vocabulary],
        "embeddings.position_embeddings.weight": [nothing] * 64,
        "embeddings.token_type_embeddings.weight": [nothing],
        "embeddings.LayerNorm.weight": [1.0] * DIMENSION,
        "embeddings.LayerNorm.bias": nothing,
    }
    header, data = {}, b""
    for name, rows in tables.items():
        flat = [value for row in rows for value in row] if isinstance(rows[0], list) else rows
        shape = [len(rows), DIMENSION] if isinstance(rows[0], list) else [DIMENSION]
        added = struct.pack(f"<{len(flat)}f", *flat)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(added)]}
        data += added
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = {
        "model_type": "bert", "hidden_size": DIMENSION, "num_hidden_layers": 0, "num_attention_heads": 1,
        "intermediate_size": DIMENSION, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "vocab_size": len(vocabulary),
        "max_position_embeddings": 64, "type_vocab_size": 1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
