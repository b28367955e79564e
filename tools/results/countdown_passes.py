"""Prints the exact pass@k of the world of countdown, of models with intents and without, from what `trainer eval` printed.

    python3 tools/results/countdown_passes.py FOLDER --intent-temperatures 0.5,1,1.5 --response-temperatures 0.1,0.2,0.4

`FOLDER` has, of each seed and of the parts `choice` and `report`, `direct_PART_SEED.jsonl`, `intents_PART_SEED.jsonl` (with
`--probabilities`) and `responses_PART_SEED.jsonl`. Of a prompt with the probability q of an intent and the mass s of the
right responses after it, pass@k is 1 - (1 - sum q s)^k. What is drawn at (t_i, t_r) has q at t_i and s at t_r, so that one
pass at all temperatures gives every pair of them.

For each k every arm has its temperatures chosen by the prompts of `choice`, seed by seed: one T of all that were
evaluated, or a pair of those named. Levels are means over the prompts of `report`; intervals of differences are
Student's over seeds, errors beside them over prompts.
"""

import argparse
import collections
import json
import pathlib
import statistics

STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
BUDGETS = (1, 4, 16)


def read_lines(path: pathlib.Path) -> list[dict]:
    """The lines of single prompts."""
    lines = map(json.loads, path.read_text().splitlines())
    return [line for line in lines if line["prompt"] is not None]


def masses(path: pathlib.Path) -> dict[float, dict[str, float]]:
    """By temperature and prompt, how likely a right answer is."""
    found = collections.defaultdict(dict)
    for line in read_lines(path):
        found[line["temperature"]][line["prompt"]] = line["mass"]
    return found


def with_intents(intents: list[dict], responses: dict, pairs: list[tuple]) -> dict[tuple, dict[str, float]]:
    """By (t_i, t_r) and prompt, how likely a right response is after an intent."""
    stated = collections.defaultdict(dict)
    for line in intents:
        stated[line["temperature"]][line["prompt"]] = [(item["target"], item["q"]) for item in line["probabilities"]]
    return {
        (first, then): {
            prompt: sum(q * responses[then][prompt + intent] for intent, q in said)
            for prompt, said in stated[first].items()
        }
        for first, then in pairs
    }


def passes(single: dict[str, float], budget: int) -> dict[str, float]:
    return {prompt: 1 - (1 - p) ** budget for prompt, p in single.items()}


def chosen(trials: dict, budget: int):
    """The temperatures with the best mean."""
    return max(trials, key=lambda trial: statistics.fmean(passes(trials[trial], budget).values()))


def read_arms(folder: pathlib.Path, part: str, seed: str, pairs: list[tuple]) -> dict[str, dict]:
    """Of each arm its trials, by temperatures."""
    direct = masses(folder / f"direct_{part}_{seed}.jsonl")
    responses = masses(folder / f"responses_{part}_{seed}.jsonl")
    intents = read_lines(folder / f"intents_{part}_{seed}.jsonl")
    alike = [(temperature, temperature) for temperature in direct]
    return {
        "direct": direct,
        "intent, one T": with_intents(intents, responses, alike),
        "intent, two": with_intents(intents, responses, pairs),
    }


def interval(values: list[float]) -> str:
    """Mean and half of Student's 95 % interval."""
    half = STUDENT[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.fmean(values):+.4f} ± {half:.4f}"


def over_prompts(by_seed: list[dict[str, float]]) -> tuple[float, float]:
    """Mean over prompts of the mean over seeds, and its standard error over prompts."""
    values = [statistics.fmean(seed[prompt] for seed in by_seed) for prompt in by_seed[0]]
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--intent-temperatures", required=True)
    parser.add_argument("--response-temperatures", required=True)
    given = parser.parse_args()
    first, then = ([float(t) for t in text.split(",")] for text in (given.intent_temperatures, given.response_temperatures))
    pairs = [(t_i, t_r) for t_i in first for t_r in then]
    seeds = sorted(path.stem.rsplit("_", 1)[1] for path in given.folder.glob("direct_report_*.jsonl"))
    parts = {seed: {part: read_arms(given.folder, part, seed, pairs) for part in ("choice", "report")} for seed in seeds}
    for budget in BUDGETS:
        results = collections.defaultdict(list)
        for seed in seeds:
            for arm, trials in parts[seed]["choice"].items():
                best = chosen(trials, budget)
                result = passes(parts[seed]["report"][arm][best], budget)
                results[arm].append(result)
                print(f"pass@{budget}  seed {seed}  {arm:14}  {len(trials)} trials, {best}: {statistics.fmean(result.values()):.4f}")
        for arm, by_seed in results.items():
            print("pass@{}  {:14}  {:.4f}, error over prompts {:.4f}".format(budget, arm, *over_prompts(by_seed)))
        for arm in ("direct", "intent, one T"):
            pairwise = [
                {prompt: two[prompt] - one[prompt] for prompt in one} for two, one in zip(results["intent, two"], results[arm])
            ]
            level = interval([statistics.fmean(seed.values()) for seed in pairwise])
            print(f"pass@{budget}  two less {arm:14}  {level} over seeds, error over prompts {over_prompts(pairwise)[1]:.4f}")


if __name__ == "__main__":
    main()
