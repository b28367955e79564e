"""Writes the world of multiplication (arXiv 2508.09654) and its recipe into a folder: what `docs/results.md` measures.

    python3 tools/results/multiplication.py FOLDER [--digits 2] [--hidden 48] [--steps 6000]

A string is `aabbcccc`: a and b from 00 to 99, all alike likely, c = a b with zeros in front; one token a digit. 10,000 of
100,000,000 strings are right, so that the whole set can be evaluated. Nothing of it is held out. With `--digits 1` a is from 0
to 9, the strings are `abbccc` and 1,000 of 1,000,000 are right: a world that a small model can learn to its end.
"""

import argparse
import pathlib

import worlds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--digits", type=int, choices=[1, 2], default=2, help="of the first factor")
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--steps", type=int, default=6000)
    given = parser.parse_args()
    first = given.digits
    strings = [f"{a:0{first}}{b:02}{a * b:0{first + 2}}" for a in range(10**first) for b in range(100)]
    worlds.write_world(given.folder, f"width_{given.hidden}", "0123456789", strings, 2 * first + 4, given)
    worlds.write_targets(given.folder / "targets.jsonl", strings)


if __name__ == "__main__":
    main()
