"""Writes a world of names and its recipe into a folder: half of a list is learned, the other half is truth that was never seen.

    python3 tools/results/names.py NAMES.txt FOLDER [--hidden 64] [--steps 1500]

`NAMES.txt` has a name on each line, in small letters; `all.jsonl`, `seen.jsonl` and `unseen.jsonl` have them as targets. A name
of both halves is seen.
"""

import argparse
import pathlib
import random

import worlds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    names = given.names.read_text().split()
    random.Random(17).shuffle(names)
    seen, rest = names[: len(names) // 2], names[len(names) // 2 :]
    known = set(seen)
    worlds.write_world(given.folder, "names", "abcdefghijklmnopqrstuvwxyz", seen, max(map(len, names)), given)
    worlds.write_targets(given.folder / "all.jsonl", names)
    worlds.write_targets(given.folder / "seen.jsonl", seen)
    worlds.write_targets(given.folder / "unseen.jsonl", [name for name in rest if name not in known])


if __name__ == "__main__":
    main()
