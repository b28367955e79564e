"""What a sweep over the world of names says that was never learned, at equal precision: the table of `docs/results.md`.

    python3 tools/results/unseen.py SWEEP FOLDER [--trainer target/release/trainer] [--baseline 'objective=kind=nll']

`FOLDER` is the one that `names.py` wrote. Each run of the sweep is measured on `seen.jsonl` and `unseen.jsonl` at the sweep's
temperatures (kept in `SWEEP/unseen/`), precision is the mass on both lists, and between temperatures lines are straight.
Intervals are Student's 95 % over seeds; differences are paired by seed.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

PRECISIONS = [0.15, 0.2, 0.3, 0.4]
NUMBERS = ["F_8", "unseen mass", "unseen in 1000", "unseen in 10000", "all in 10000"]
# Of Student's t at 97.5 %, by degrees of freedom.
T = {1: 12.706204736, 2: 4.302652730, 3: 3.182446305, 4: 2.776445105}


def measured(given: argparse.Namespace, run: dict, temperatures: list[float]) -> pathlib.Path:
    """The file of what the run says of both lists, made where it is not there."""
    file = given.sweep / "unseen" / f"{run['name']}.jsonl"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        data = [f"--data={given.folder / name}.jsonl" for name in ("seen", "unseen")]
        command = [given.trainer, "eval", str(given.sweep / "runs" / run["name"]), *data, "--budget=10000"]
        command.append("--temperatures=" + ",".join(map(str, temperatures)))
        file.write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return file


def curve(file: pathlib.Path, of_all: pathlib.Path) -> list[tuple[float, dict[str, float]]]:
    """Precision and the numbers at each temperature, by precision."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    both = {line["temperature"]: line for line in map(json.loads, of_all.read_text().splitlines()) if line["prompt"] is None}
    found = []
    for temperature, line in both.items():
        halves = [row for row in lines if row["temperature"] == temperature and row["prompt"] is not None]
        seen, unseen = sorted(halves, key=lambda row: "unseen" in row["file"])
        different = lambda half, n: half["coverage"][str(n)] * half["targets"]
        numbers = [
            line["f8"], unseen["mass"], different(unseen, 1000), different(unseen, 10000),
            different(unseen, 10000) + different(seen, 10000),
        ]
        found.append((line["mass"], dict(zip(NUMBERS, numbers))))
    return sorted(found, key=lambda point: point[0])


def at(curve: list[tuple[float, dict[str, float]]], precision: float, name: str) -> float | None:
    for (low, before), (high, after) in zip(curve, curve[1:]):
        if low <= precision <= high:
            share = (precision - low) / (high - low)
            return before[name] + share * (after[name] - before[name])
    return None


def shown(values: list[float], sign: str = "") -> str:
    half = T[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):{sign}.4f} ± {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--trainer", default="target/release/trainer")
    parser.add_argument("--baseline", default="objective=kind=nll")
    given = parser.parse_args()
    sweep = json.loads((given.sweep / "sweep.json").read_text())
    curves: dict[str, list] = {}
    for run in sweep["runs"]:
        of_all = given.sweep / "evaluation" / f"{run['name']}.jsonl"
        file = measured(given, run, sweep["evaluation"]["temperatures"])
        curves.setdefault(run["arm"], []).append(curve(file, of_all))
    for precision in PRECISIONS:
        for name in NUMBERS:
            values = {arm: [at(of_seed, precision, name) for of_seed in of_arm] for arm, of_arm in curves.items()}
            base = values[given.baseline]
            for arm, of_arm in values.items():
                if None in of_arm + base:
                    print(f"{precision}  {name:16} {arm}: not reached")
                    continue
                less = shown([own - other for own, other in zip(of_arm, base)], "+") if arm != given.baseline else ""
                print(f"{precision}  {name:16} {arm}: {shown(of_arm)}  {less}")


if __name__ == "__main__":
    main()
