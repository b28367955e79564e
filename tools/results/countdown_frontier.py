"""Prints how different the samples of the world of countdown are where equally many are right, at one temperature and at two.

    python3 tools/results/countdown_frontier.py FOLDER --validity 0.22,0.25

`FOLDER` has `LINE_TEMPERATURE_SEED.jsonl`, the last line that `trainer eval --samples .. --judge ..` printed: LINE is `one`
(t_i = t_r) or the t_r of two temperatures, TEMPERATURE the t_i. Relaxed semantic entropy is read off between the temperatures
of a line by straight lines, of each seed where it reaches the validity; intervals are Student's over seeds, differences
are to `one`.
"""

import argparse
import collections
import json
import pathlib

import countdown_passes

KEY = "relaxed_semantic_entropy"


def at_validity(points: list[tuple[float, float]], validity: float) -> float | None:
    """The entropy between two neighbouring temperatures; none where the line does not reach the validity."""
    for (right, before), (wrong, after) in zip(points, points[1:]):
        if wrong <= validity <= right:
            return before + (after - before) * (right - validity) / (right - wrong)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--validity", required=True)
    given = parser.parse_args()
    lines = collections.defaultdict(list)
    for path in given.folder.glob("*_*_*.jsonl"):
        line, temperature, seed = path.stem.split("_")
        measured = json.loads(path.read_text())
        lines[line, seed].append((float(temperature), measured["validity"], measured[KEY]))
    lines = {key: [point[1:] for point in sorted(points)] for key, points in lines.items()}
    seeds = sorted({seed for _, seed in lines})
    for validity in map(float, given.validity.split(",")):
        one = [at_validity(lines["one", seed], validity) for seed in seeds]
        for name in sorted({name for name, _ in lines}):
            values = [at_validity(lines[name, seed], validity) for seed in seeds]
            if None in [*values, *one]:
                print(f"validity {validity}  {name:4}  not reached by every seed")
                continue
            differences = [two - alone for two, alone in zip(values, one)]
            print(
                f"validity {validity}  {name:4}  {countdown_passes.interval(values)}  "
                f"less one {countdown_passes.interval(differences)}"
            )


if __name__ == "__main__":
    main()
