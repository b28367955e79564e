"""Holds the schema of recipes against validators of others: every recipe of the program passes, spoiled ones do not.

    pip install jsonschema taplo        # taplo: what editors have; `pip install taplo` brings the program
    python tools/check_schema.py target/release/trainer

Prints what is wrong, and exits with 1 where anything is."""

import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import tomllib

import jsonschema

SPOILED = [
    ("adapter", "r", 16),
    ("adapter", "rank", "16"),
    ("objective", "betta", 0.5),
    ("objective", "kind", "cdivv"),
    ("train", "batch_size", 0),
    ("data", "train", 3),
    ("optimiser", "learning_rate", 1e-4),
]


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    run = lambda *words: subprocess.run([program, *words], check=True, capture_output=True, text=True).stdout
    schema = json.loads(run("schema"))
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    validate = validator(schema)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "trainer.schema.json").write_text(json.dumps(schema))
        names = [line.split()[0] for line in run("recipes").splitlines() if line.startswith("  ")]
        for name in names:
            run("recipes", "cp", name, str(folder))
            recipe = tomllib.loads((folder / f"{name}.toml").read_text())
            wrong += [f"{name}: {error.json_path}: {error.message}" for error in validate.iter_errors(recipe)]
            for table, key, value in SPOILED:
                spoiled = copy.deepcopy(recipe)
                spoiled.setdefault(table, {})[key] = value
                if validate.is_valid(spoiled):
                    wrong.append(f"{name}: {table}.{key} = {value!r} passes")
        # By the first line of each recipe, as an editor does.
        taplo = pathlib.Path(sys.executable).with_name("taplo")
        check = lambda *files: subprocess.run([taplo, "check", *files], cwd=folder, capture_output=True, text=True)
        good = check(*[f"{name}.toml" for name in names])
        if good.returncode:
            wrong.append(good.stderr)
        text = (folder / "nll.toml").read_text()
        (folder / "bad.toml").write_text(text.replace("rank = 16", "r = 16"))
        bad = check("bad.toml")
        if not bad.returncode or "'r' was unexpected" not in bad.stderr:
            wrong.append(f"taplo takes `r`: {bad.stderr}")
    print("\n".join(wrong) or f"{len(names)} recipes pass, and {len(names) * len(SPOILED)} spoiled ones do not")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
