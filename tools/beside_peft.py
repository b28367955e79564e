"""`trainer bench` and a PEFT script, run in turn so that both see the same machine: of each run the mean of its steps and
the least processor time of one, on both sides, and of these the medians over the runs.

    python tools/beside_peft.py --trainer target/release/trainer --model DIR --peft "python peft_bench.py" --times 3

The PEFT script takes `--model --dtype --batch --seq --rank --steps` and ends with a JSON object that has `mean_step_s`,
`best_step_cpu_s` and `peak_rss_MiB`. Prints a row of a Markdown table for each precision.
"""
import argparse, json, shlex, statistics, subprocess

parser = argparse.ArgumentParser()
parser.add_argument("--trainer", default="target/release/trainer")
parser.add_argument("--peft", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--dtypes", nargs="+", default=["bf16", "f32"])
parser.add_argument("--batch", default="4")
parser.add_argument("--seq", default="256")
parser.add_argument("--rank", default="16")
parser.add_argument("--steps", default="5")
parser.add_argument("--times", type=int, default=3)
arguments = parser.parse_args()


def last_object(command):
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return json.loads(text.strip().splitlines()[-1])


print("| precision | batch x seq, rank | tokens/s | PEFT | ratio | processor s a step | PEFT | peak MiB | PEFT | ratio |")
print("|---|---|---|---|---|---|---|---|---|---|")
for dtype in arguments.dtypes:
    shape = ["--model", arguments.model, "--dtype", dtype, "--batch", arguments.batch, "--seq", arguments.seq,
             "--rank", arguments.rank, "--steps", arguments.steps]
    ours, theirs = [], []
    for _ in range(arguments.times):
        ours.append(last_object([arguments.trainer, "bench", "--json", *shape]))
        theirs.append(last_object([*shlex.split(arguments.peft), *shape]))
    median = lambda runs, key: statistics.median(run[key] for run in runs)
    tokens = int(arguments.batch) * int(arguments.seq)
    speed, peft_speed = tokens / median(ours, "mean_step_ms") * 1e3, tokens / median(theirs, "mean_step_s")
    processor, peft_processor = median(ours, "best_processor_ms") / 1e3, median(theirs, "best_step_cpu_s")
    memory, peft_memory = median(ours, "peak_rss_mib"), median(theirs, "peak_rss_MiB")
    print(f"| {dtype} | {arguments.batch} x {arguments.seq}, r {arguments.rank} | {speed:.0f} | {peft_speed:.0f} "
          f"| {speed / peft_speed:.2f} | {processor:.2f} | {peft_processor:.2f} "
          f"| {memory} | {peft_memory} | {memory / peft_memory:.2f} |", flush=True)
