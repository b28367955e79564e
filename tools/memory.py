"""The plan's estimate of memory beside the largest resident size of the run that it is of.

    python tools/memory.py --trainer target/release/trainer --model DIR

Each setting is two steps of `trainer run` on rows of equal length, and the estimate that `trainer check --json` gives for the
same recipe. Prints a Markdown table and the largest deviation.
"""
import argparse, json, os, pathlib, subprocess, tempfile

SETTINGS = [
    # precision, batch, sequence, other keys
    ("bf16", 1, 64, {}),
    ("bf16", 1, 256, {}),
    ("bf16", 4, 256, {}),
    ("bf16", 1, 2048, {}),
    ("bf16", 4, 64, {"train.recompute": "blocks"}),
    ("bf16", 4, 1024, {"train.recompute": "blocks"}),
    ("f32", 1, 64, {}),
    ("f32", 4, 256, {}),
    ("f32", 4, 256, {"train.recompute": "blocks"}),
    ("f32", 1, 2048, {"train.recompute": "blocks"}),
    ("int8", 1, 64, {}),
    ("int8", 4, 256, {}),
    ("int8", 4, 256, {"train.recompute": "blocks"}),
    ("nf4", 1, 64, {"model.quantize_rows": 0}),
    ("nf4", 4, 256, {"model.quantize_rows": 0}),
    ("nf4", 1, 64, {}),
    ("nf4", 4, 256, {}),
    ("nf4", 1, 2048, {"train.recompute": "blocks"}),
    ("bf16", 4, 256, {"adapter.rank": 64}),
    ("f32", 1, 512, {"adapter.rank": 64}),
    ("bf16", 4, 256, {"adapter.kind": "dora"}),
    ("nf4", 4, 256, {"adapter.kind": "dora"}),
    ("f32", 4, 256, {"adapter.kind": "dora", "train.recompute": "blocks"}),
    ("bf16", 4, 256, {"adapter.init": "pissa"}),
    ("f32", 1, 64, {"adapter.kind": "none"}),
    ("f32", 4, 256, {"adapter.kind": "none"}),
    ("f32", 4, 512, {"adapter.kind": "none"}),
    ("f32", 4, 256, {"adapter.kind": "none", "train.recompute": "blocks"}),
    ("bf16", 4, 256, {"adapter.dropout": 0.05}),
    ("bf16", 1, 1024, {"adapter.dropout": 0.05}),
    ("f32", 4, 256, {"adapter.dropout": 0.05}),
    ("bf16", 4, 256, {"adapter.dropout": 0.05, "train.recompute": "blocks"}),
    ("bf16", 4, 256, {"adapter.kind": "dora", "adapter.dropout": 0.05}),
    ("bf16", 4, 256, {"adapter.targets": ["layers.29.mlp.down_proj"]}),
    ("bf16", 4, 256, {"adapter.targets": ["lm_head"]}),
    ("bf16", 4, 256, {"adapter.targets": ["lm_head"], "adapter.kind": "dora"}),
    ("f32", 2, 256, {"adapter.targets": ["lm_head", "embed_tokens"], "adapter.kind": "dora"}),
    ("f32", 2, 64, {"adapter.init": "pissa", "adapter.rank": 128}),
]

parser = argparse.ArgumentParser()
parser.add_argument("--trainer", default="target/release/trainer")
parser.add_argument("--model", required=True)
parser.add_argument("--only", default="", help="settings whose row of the table contains this")
arguments = parser.parse_args()


def recipe(folder, precision, batch, sequence, keys):
    """A recipe file whose steps are micro-batches of `batch` rows, each cut to `sequence` tokens."""
    rows = folder / "rows.jsonl"
    rows.write_text((json.dumps({"text": "the ship came home late and " * (sequence // 4 + 8)}) + "\n") * max(8, 2 * batch))
    tables = {
        "model": {"path": str(pathlib.Path(arguments.model).resolve()), "device": "cpu",
                  "dtype": "f32" if precision == "f32" else "bf16"},
        "adapter": {"kind": "lora", "rank": 16, "alpha": 32, "targets": "all-linear"},
        "data": {"train": [str(rows)], "eval": [], "max_length": sequence, "too_long": "truncate"},
        "objective": {"kind": "nll"},
        "optimizer": {"learning_rate": 1e-4},
        "train": {"steps": 2, "batch_size": batch, "micro_batch_size": batch, "recompute": "none"},
        "output": {"dir": str(folder / "run")},
    }
    if precision in ("int8", "nf4"):
        tables["model"]["quantize"] = precision
    if keys.get("adapter.kind") == "none":
        tables["adapter"] = {}
    for key, value in keys.items():
        table, name = key.split(".")
        tables[table][name] = value
    path = folder / "recipe.toml"
    lines = [f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
             for name, table in tables.items()]
    path.write_text("\n".join(lines))
    return path


def largest_size(command):
    """The largest resident size of a process, in bytes."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit(f"{command}: {errors.read().decode()}")
    return usage.ru_maxrss * 1024


print("| weights | batch x seq | beside that | peak MiB | estimate | |", flush=True)
print("|---|---|---|---|---|---|", flush=True)
largest = 0.0
for precision, batch, sequence, keys in SETTINGS:
    words = ", ".join(f"`{key.split('.')[1]}` {value}" for key, value in keys.items())
    start = f"| {precision} | {batch} x {sequence} | {words} |"
    if arguments.only not in start:
        continue
    with tempfile.TemporaryDirectory() as folder:
        path = recipe(pathlib.Path(folder), precision, batch, sequence, keys)
        plan = json.loads(subprocess.check_output([arguments.trainer, "check", str(path), "--json"], stderr=subprocess.DEVNULL))
        estimate, measured = plan["memory"]["peak"], largest_size([arguments.trainer, "run", str(path)])
    deviation = estimate / measured - 1
    largest = max(largest, abs(deviation))
    print(f"{start} {measured / 2**20:,.0f} | {estimate / 2**20:,.0f} | {deviation:+.0%} |", flush=True)
print(f"\nlargest deviation: {largest:.1%}")
