"""Judges what `benches/gpu.sh` measured: `gpu_compare.py quickstart|resume|memory|summary OUT`. Exits with 1 on a difference."""
import json, os, sys

part, out = sys.argv[1:]


def lines(name):
    path = os.path.join(out, name)
    return [json.loads(line) for line in open(path) if line.startswith("{")] if os.path.exists(path) else []


def losses(run):
    return {line["step"]: line["loss"] for line in lines(f"{run}/metrics.jsonl") if line["split"] == "train"}


def largest(a, b):
    """The largest relative difference of two runs' losses."""
    assert a and a.keys() == b.keys(), "the runs have other steps"
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
    texts = [[line.get("text", line) for line in lines(f"greedy-{device}.jsonl")] for device in ("cuda", "cpu")]
    report(part, [
        check("losses of 20 steps, cuda against cpu, f32", largest(head("quick-cuda-f32"), head("quick-cpu-f32")), 1e-3),
        check("losses of 20 steps, cuda against cpu, bf16", largest(head("quick-cuda-bf16"), head("quick-cpu-bf16")), 2e-2),
        check("losses of 20 steps, kernels against composed, f32", largest(head("quick-cuda-f32"), head("quick-composed-f32")), 1e-3),
        check("greedy texts that differ", sum(a != b for a, b in zip(*texts)) if texts[0] else 1, 0),
    ])
elif part == "resume":
    report(part, [check("losses of 40 steps, broken against unbroken", largest(losses("broken"), losses("unbroken")), 1e-5)])
elif part == "memory":
    few, many = (line["peak_device_mib"] for line in lines("memory.jsonl"))
    report(part, [check("growth of device memory from 20 to 200 steps", many / few - 1, 0.02)])
elif part == "summary":
    ours = {line["shape"]: line for line in lines("bench.jsonl") if line["recompute"] == "none"}
    ratios = {line["shape"]: ours[line["shape"]]["tokens_per_s"] / line["tokens_per_s"]
              for line in lines("peft.jsonl") if line["shape"] in ours}
    gpu = open(os.path.join(out, "gpu.txt")).read().strip()
    summary = {"gpu": gpu, "parts": lines("parts.jsonl"), "bench": lines("bench.jsonl"),
               "bench_composed": lines("bench-composed.jsonl"), "peft": lines("peft.jsonl"), "times_peft": ratios}
    with open(os.path.join(out, "summary.json"), "w") as file:
        json.dump(summary, file, indent=1)
    print(json.dumps(summary))
