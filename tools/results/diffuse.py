"""Writes the recipes of `docs/results.md` that leave one family of tasks out (arXiv 2404.10859), from the paper's own rows.

    python3 tools/results/diffuse.py DATA FOLDER --model MODEL [--steps 30]

`DATA` is the folder `data/` of github.com/y0mingzhang/diffuse-distributions (MIT). For each of its six families `FOLDER` has
`FAMILY.jsonl`, its prompts with all their targets; `FAMILY_spread.jsonl`, those of the other five; `FAMILY_one.jsonl`, the same with
a single answer to each prompt, drawn from its targets; and `without_FAMILY.toml`, which learns either of these two and
is measured on the family that is left out. One answer to each prompt teaches the form of an answer and no spread: what
spread adds is the difference to it.
"""

import argparse
import json
import pathlib
import random

FAMILIES = {
    "numbers": "numbers", "countries": "continent-countries", "dates": "day-date", "names": "baby-names",
    "fruits": "fruits", "occupations": "occupations",
}

RECIPE = """seed = 1

[model]
path = "{model}"
dtype = "f32"

[adapter]
kind = "lora"
rank = 4
alpha = 8
targets = "all-linear"

[data]
train = ["{folder}/{family}_spread.jsonl"]
format = "targets"

[objective]
kind = "diffuse"

[optimizer]
learning_rate = 5e-4
eps = 1e-5
weight_decay = 0.01

[train]
steps = {steps}
batch_size = 1
micro_batch_size = 256

[sweep]
grid = ['data.train=["{folder}/{family}_one.jsonl"],["{folder}/{family}_spread.jsonl"]', "seed=1,2,3"]
data = ["{folder}/{family}.jsonl"]
temperatures = [0.5, 0.7, 1, 1.4]
"""


def read_family(folder: pathlib.Path) -> list[dict]:
    """The row of every file of the folder; as `request`, its prompt goes through the model's chat template."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def write_rows(path: pathlib.Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    families = {family: read_family(given.data / folder) for family, folder in FAMILIES.items()}
    draws = random.Random(17)
    one = {
        family: [row | {"targets": [draws.choice(row["targets"])]} for row in rows] for family, rows in families.items()
    }
    for family, rows in families.items():
        others = [other for other in FAMILIES if other != family]
        write_rows(given.folder / f"{family}.jsonl", rows)
        write_rows(given.folder / f"{family}_spread.jsonl", [row for other in others for row in families[other]])
        write_rows(given.folder / f"{family}_one.jsonl", [row for other in others for row in one[other]])
        recipe = RECIPE.format(model=given.model, steps=given.steps, folder=given.folder, family=family)
        (given.folder / f"without_{family}.toml").write_text(recipe)


if __name__ == "__main__":
    main()
