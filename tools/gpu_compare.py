"""Judges what `tools/gpu.sh` measured: `gpu_compare.py quickstart|resume|memory|summary OUT`. Exits with 1 on a difference."""
import json, os, sys

part, out = sys.argv[1:]


def lines(name):
    path = os.path.join(out, name)
    return [json.loads(line) for line in open(path) if line.startswith("{")] if os.path.exists(path) else []


def losses(run):
    return {line["step"]: line["loss"] for line in lines(f"{run}/metrics.jsonl") if line["split"] == "train"}


def largest(a, b):
    """The largest relative difference of two runs' losses; infinite where they do not have the same steps."""
    if not a or a.keys() != b.keys() or None in (*a.values(), *b.values()):
        return float("inf")
    return max(abs(a[step] - b[step]) / abs(b[step]) for step in a)


def report(name, checks):
    with open(os.path.join(out, f"{name}.json"), "w") as file:
        json.dump(checks, file, indent=1)
    print(json.dumps(checks))
    sys.exit(0 if all(check["passed"] for check in checks) else 1)


def check(what, value, limit):
    return {"what": what, "value": value, "limit": limit, "passed": value <= limit}


if part == "quickstart":
    # The first steps: later ones start from weights that have drifted apart.
    head = lambda run: {step: loss for step, loss in losses(run).items() if step <= 20}
    apart = lambda one, other: largest(head(f"quick-{one}"), head(f"quick-{other}"))
    texts = [[line.get("text", line) for line in lines(f"greedy-{device}.jsonl")] for device in ("cuda", "cpu")]
    report(part, [
        check("losses of 20 steps, cuda against cpu, f32", apart("cuda-f32", "cpu-f32"), 1e-3),
        check("losses of 20 steps, cuda against cpu, bf16", apart("cuda-bf16", "cpu-bf16"), 2e-2),
        check("losses of 20 steps, cuda against cpu, nf4 in f32", apart("cuda-nf4", "cpu-nf4"), 1e-3),
        check("losses of 20 steps, cuda against cpu, DoRA in f32", apart("cuda-dora", "cpu-dora"), 1e-3),
        check("losses of 20 steps, kernels against composed, f32", apart("cuda-f32", "composed-f32"), 1e-3),
        check("greedy texts that differ", sum(a != b for a, b in zip(*texts)) if texts[0] and texts[1] else 1, 0),
    ])
elif part == "resume":
    report(part, [check("losses of 40 steps, broken against unbroken", largest(losses("broken"), losses("unbroken")), 1e-5)])
elif part == "memory":
    few, many = ([line["peak_device_mib"] for line in lines("memory.jsonl")] + [None, None])[:2]
    growth = many / few - 1 if few and many else float("inf")
    report(part, [check("growth of device memory from 20 to 200 steps", growth, 0.02)])
elif part == "summary":
    ours = {line["shape"]: line for line in lines("bench.jsonl") if line["recompute"] == "none"}
    checks = {name: json.load(open(os.path.join(out, f"{name}.json")))
              for name in ("quickstart", "resume", "memory") if os.path.exists(os.path.join(out, f"{name}.json"))}
    ratios = {line["shape"]: ours[line["shape"]]["tokens_per_s"] / line["tokens_per_s"]
              for line in lines("peft.jsonl") if line["shape"] in ours}
    gpu = open(os.path.join(out, "gpu.txt")).read().strip()
    summary = {"gpu": gpu, "parts": lines("parts.jsonl"), "checks": checks, "kernels": lines("kernels.jsonl"),
               "bench": lines("bench.jsonl"), "bench_composed": lines("bench-composed.jsonl"),
               "bench_nf4": lines("bench-nf4.jsonl"), "peft": lines("peft.jsonl"), "times_peft": ratios}
    with open(os.path.join(out, "summary.json"), "w") as file:
        json.dump(summary, file, indent=1)
    print(json.dumps(summary))
