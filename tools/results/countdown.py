"""Writes the world of countdown with its recipes into a folder: what `docs/results.md` says of intents (arXiv 2506.09659).

    python3 tools/results/countdown.py FOLDER [--hidden 64] [--steps 3000]

A prompt is `3,7,12:33=`: three numbers of 1 to 20 and a target of 1 to 100 that they reach, each used once, by `+ - * /`. A
response is `(7*3)+12`, its intent the operation that comes first, `7*3`. Of all prompts 200 are for the choice of
temperatures (`choice`), 400 for the report (`report`), the others are learned, each with all of its right expressions.

Both models are evaluated exactly, by rows with targets. `PART.jsonl` has all right expressions of each prompt: their mass is
the pass@1 of a model without intents. `PART_intents.jsonl` has all first operations of each prompt, and
`PART_responses.jsonl` all right expressions after each of these: `countdown_passes.py` puts the two together.
"""

import argparse
import fractions
import itertools
import json
import pathlib
import random

import worlds

CHECKPOINT = """
[checkpoint]
every = 3000
keep = 1
"""


def apply(left, operation: str, right) -> fractions.Fraction | None:
    """The exact value, or none of a division by zero."""
    if operation == "/":
        return fractions.Fraction(left) / right if right else None
    return {"+": left + right, "-": left - right, "*": left * right}[operation]


def operations(numbers: tuple[int, ...]) -> dict[str, tuple]:
    """Every first operation on two of three numbers, with its value and the number that is left."""
    found = {}
    for left, right, rest in itertools.permutations(numbers):
        for operation in "+-*/":
            found[f"{left}{operation}{right}"] = (apply(left, operation, right), rest)
    return found


def expressions(numbers: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """Intent, text and value of every expression that uses all three numbers and ends at a whole number of 1 to 100."""
    found = []
    for intent, (value, rest) in operations(numbers).items():
        for operation in "+-*/":
            for text, result in (
                (f"({intent}){operation}{rest}", apply(value, operation, rest)),
                (f"{rest}{operation}({intent})", apply(rest, operation, value)),
            ):
                if result is not None and result in range(1, 101):
                    found.append((intent, text, int(result)))
    return found


def prompt_text(numbers: tuple[int, ...], target: int) -> str:
    return f"{','.join(map(str, numbers))}:{target}="


def write_rows(path: pathlib.Path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_part(folder: pathlib.Path, part: str, prompts: list, world: dict) -> None:
    """The three files of rows with targets that measure both models on these prompts."""
    direct, intents, responses = [], [], []
    for numbers, target in prompts:
        prompt = prompt_text(numbers, target)
        right = [text for _, text in world[numbers, target]]
        direct.append({"prompt": prompt, "targets": right})
        first = list(operations(numbers))
        intents.append({"prompt": prompt, "targets": [f"{intent} ###" for intent in first]})
        responses += [{"prompt": f"{prompt}{intent} ###", "targets": [f" {text}" for text in right]} for intent in first]
    write_rows(folder / f"{part}.jsonl", direct)
    write_rows(folder / f"{part}_intents.jsonl", intents)
    write_rows(folder / f"{part}_responses.jsonl", responses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3000)
    given = parser.parse_args()
    worlds.write_tokenizer(given.folder / "tokenizer", "0123456789+-*/(),:# ")
    world: dict[tuple, list[tuple[str, str]]] = {}
    for numbers in itertools.combinations_with_replacement(range(1, 21), 3):
        for intent, text, target in expressions(numbers):
            world.setdefault((numbers, target), []).append((intent, text))
    prompts = list(world)
    random.Random(17).shuffle(prompts)
    write_part(given.folder, "choice", prompts[:200], world)
    write_part(given.folder, "report", prompts[200:600], world)
    asked = ({"prompt": prompt_text(numbers, target)} for numbers, target in prompts[200:600])
    write_rows(given.folder / "prompts.jsonl", asked)
    for name, part in (("rows", prompts[600:]), ("held_out", prompts[:200])):
        rows = [
            {"prompt": prompt_text(numbers, target), "intent": intent, "response": text}
            for numbers, target in part
            for intent, text in world[numbers, target]
        ]
        write_rows(given.folder / f"intent_{name}.jsonl", rows)
        direct = ({"prompt": row["prompt"], "completion": row["response"]} for row in rows)
        write_rows(given.folder / f"direct_{name}.jsonl", direct)
    for arm, objective in (("direct", "nll"), ("intent", "intent")):
        recipe = worlds.recipe(given.folder, given, 40, prefix=f"{arm}_", objective=objective, batch=64)
        (given.folder / f"{arm}.toml").write_text(recipe + CHECKPOINT)


if __name__ == "__main__":
    main()
