"""Writes the world of styles and its recipe into a folder: what `docs/results.md` says of SFR (arXiv 2605.27971).

    python3 tools/results/styles.py FOLDER [--steps 800] [--rows 12]

A prompt names a style and a topic, an answer is a sentence in that style about that topic: its mood (praise, complaint, question)
depends on the topic; opening, core and ending are then drawn from two each, the thing from three words. All 72 answers to a prompt
and their probabilities are known. A fifth of the pairs of style and topic is never trained on: `unseen.jsonl`.

    trainer eval --samples drawn.jsonl --judge "python3 -u tools/results/styles.py judge"

tells of samples whether they are sentences of the style that was asked for, of whatever topic and mood.
"""

import argparse
import itertools
import json
import pathlib
import random
import sys

import worlds
from styles_encoder import write_encoder
from styles_phrases import MOODS, STYLES, TOPICS

MOOD_WEIGHTS = list(itertools.permutations([0.6, 0.3, 0.1]))
PHRASE_WEIGHTS = [0.65, 0.35]
THING_WEIGHTS = [0.5, 0.3, 0.2]
DRAWS = 32

SFR = '{{kind="sfr",encoder="{encoder}",k=16,stride=1,min_suffix=4,head_width=256{more}}}'
SWEEP = """
[checkpoint]
every = {steps}
keep = 1
keep_best = false

[eval]
every = 200

[sweep]
grid = ['auxiliary={arms}', "seed=1,2,3,4,5"]
temperatures = [0.5, 0.7, 0.85, 1, 1.2, 1.5, 2]
"""


def sentence(parts: tuple[str, str, str], thing: str) -> str:
    opening, core, ending = parts
    return f" {opening} {core.format(thing)} {ending}"


def answers(style: str, topic: str) -> dict[str, float]:
    """Each answer to a prompt with its probability."""
    found = {}
    moods = MOOD_WEIGHTS[list(TOPICS).index(topic) % len(MOOD_WEIGHTS)]
    for weight, phrases in zip(moods, STYLES[style], strict=True):
        for places in itertools.product(range(2), repeat=3):
            parts = tuple(choices[place] for choices, place in zip(phrases, places, strict=True))
            for thing, of_thing in zip(TOPICS[topic], THING_WEIGHTS, strict=True):
                probability = weight * of_thing
                for place in places:
                    probability *= PHRASE_WEIGHTS[place]
                found[sentence(parts, thing)] = round(probability, 9)
    return found


def prompt(style: str, topic: str) -> str:
    return f"{style} {topic} :"


def is_unseen(style: str, topic: str) -> bool:
    return (list(TOPICS).index(topic) + 2 * list(STYLES).index(style)) % 5 == 0


def words() -> list[str]:
    texts = [prompt(style, topic) for style in STYLES for topic in TOPICS]
    texts += [answer for style in STYLES for topic in TOPICS for answer in answers(style, topic)]
    return sorted({word for text in texts for word in text.split()})


def write(path: pathlib.Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_world(given: argparse.Namespace) -> None:
    folder, random_ = given.folder, random.Random(17)
    # A token for each word with the blank before it, and for each style at the beginning.
    worlds.write_tokenizer(folder / "tokenizer", [*STYLES, *(f" {word}" for word in words())], " ?[^ ]+")
    write_encoder(folder / "encoder", words())
    pairs = [(style, topic) for style in STYLES for topic in TOPICS]

    def drawn(style: str, topic: str, count: int) -> list[str]:
        known = answers(style, topic)
        return random_.choices(list(known), list(known.values()), k=count)

    def rows(pairs: list[tuple[str, str]], count: int) -> list[dict]:
        return [{"prompt": prompt(*pair), "completion": text} for pair in pairs for text in drawn(*pair, count)]

    def targets(pairs: list[tuple[str, str]]) -> list[dict]:
        known = [(pair, answers(*pair)) for pair in pairs]
        return [{"prompt": prompt(*pair), "targets": list(of), "weights": list(of.values())} for pair, of in known]

    seen = [pair for pair in pairs if not is_unseen(*pair)]
    unseen = [pair for pair in pairs if is_unseen(*pair)]
    write(folder / "rows.jsonl", rows(seen, given.rows))
    write(folder / "held_out.jsonl", rows(pairs, 2))
    write(folder / "seen.jsonl", targets(seen))
    write(folder / "unseen.jsonl", targets(unseen))
    # One text of each style on a topic has the same `id`: what is counted of them is counted across styles.
    asked = [(pair, f"{pair[1]} {draw}") for draw in range(DRAWS) for pair in pairs]
    named = [{"id": name, "style": pair[0], "prompt": prompt(*pair)} for pair, name in asked]
    write(folder / "prompts.jsonl", named)
    truth = [row | {"text": drawn(*pair, 1)[0]} for row, (pair, _) in zip(named, asked, strict=True)]
    write(folder / "truth.jsonl", truth)
    own, others = (f"[{SFR.format(encoder=folder / 'encoder', more=more)}]" for more in ("", ',targets="other_rows"'))
    arms = ",".join(["[]", own, others, '[{kind="mtp",heads=4}]'])
    recipe = worlds.recipe(folder, given, 32, warmup=50, batch=32)
    (folder / "styles.toml").write_text(recipe + SWEEP.format(steps=given.steps, arms=arms))


def sentences() -> dict[str, str]:
    """The style of each sentence, its parts of any mood, with any thing."""
    things = [thing for names in TOPICS.values() for thing in names]
    found = {}
    for style, moods in STYLES.items():
        parts = [[phrase for mood in moods for phrase in mood[place]] for place in range(3)]
        found |= {sentence(chosen, thing): style for chosen in itertools.product(*parts) for thing in things}
    return found


def judge() -> None:
    known = sentences()
    for line in sys.stdin:
        row = json.loads(line)
        print(json.dumps(known.get(row["text"]) == row["style"]), flush=True)


def main() -> None:
    if sys.argv[1:] == ["judge"]:
        return judge()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--rows", type=int, default=12, help="training rows of each pair that is seen")
    write_world(parser.parse_args())


if __name__ == "__main__":
    main()
