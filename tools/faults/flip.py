"""Turns a bit over in a frozen weight of a run that trains, and looks whether the run says so before it writes another checkpoint.

    python tools/faults/flip.py --trainer target/release/trainer --model DIR --times 20

A matrix, a place in it and a bit are drawn by `--seed`; the run is stopped after its first checkpoint, the values are looked for in its
memory as they are packed there, and one bit of one of them is changed. Then: the exit code and the matrix that is named, no checkpoint
of a later step, and `--resume` as the unbroken run, to the byte. Model: a folder with one `model.safetensors`, of which f32 is trained
on (`dtype = "f32"`). Linux, Python 3.9; the process must be one's own.
"""
import argparse, collections, json, os, random, re, signal, struct, subprocess, sys, tempfile, time

STRIP = 32  # neighbouring outputs that `kernels` packs side by side
STEPS, EVERY = 60, 10


class Weights:
    """The matrices of the blocks in a file of safetensors."""

    def __init__(self, folder):
        self.file = open(os.path.join(folder, "model.safetensors"), "rb")
        length = struct.unpack("<Q", self.file.read(8))[0]
        self.tensors = json.loads(self.file.read(length))
        self.begin = 8 + length
        self.names = sorted(name for name, of in self.tensors.items() if name.endswith("_proj.weight") and of["shape"][0] % STRIP == 0)

    def value(self, name, output, column):
        of = self.tensors[name]
        size = {"BF16": 2, "F32": 4}[of["dtype"]]
        self.file.seek(self.begin + of["data_offsets"][0] + size * (output * of["shape"][1] + column))
        return (b"\0\0" if size == 2 else b"") + self.file.read(size)

    def strip(self, name, strip, column):
        return b"".join(self.value(name, STRIP * strip + output, column) for output in range(STRIP))


def find(process, pattern):
    """The places of `pattern` in the memory of a process."""
    found = []
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *rest = line.split()
            if not rights.startswith("rw") or len(rest) > 3:
                continue
            start, end = (int(at, 16) for at in span.split("-"))
            try:
                memory.seek(start)
                held = memory.read(end - start)
            except OSError:
                continue
            found += [start + hit.start() for hit in re.finditer(re.escape(pattern), held)]
    return found


def run(arguments, folder, *more):
    command = [arguments.trainer, "run", arguments.recipe, "--quiet", "--set", f"model.path={arguments.model}", "--set", "model.dtype=f32",
               "--set", f"train.steps={STEPS}", "--set", f"checkpoint.every={EVERY}", "--set", "checkpoint.keep=100", "--set", "eval=", "--set", "data.eval=[]", "--set",
               f"output.dir={folder}", *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def adapter(folder):
    with open(os.path.join(folder, "checkpoints", f"step-{STEPS:06}", "adapter_model.safetensors"), "rb") as file:
        return file.read()


def flip(arguments, weights, draw, folder, whole):
    name = draw.choice(weights.names)
    outputs, columns = weights.tensors[name]["shape"]
    pattern = weights.strip(name, draw.randrange(outputs // STRIP), draw.randrange(columns))
    process = run(arguments, folder)
    latest = os.path.join(folder, "checkpoints", "latest")
    while process.poll() is None and not os.path.exists(latest):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    with open(latest) as file:
        before = file.read()
    places = find(process.pid, pattern)
    if not places or process.poll() is not None:
        process.kill()
        return name, "not found in memory"
    at, bit = places[0] + draw.randrange(4 * STRIP), draw.randrange(8)
    with open(f"/proc/{process.pid}/mem", "r+b", 0) as memory:
        memory.seek(at)
        byte = memory.read(1)[0]
        memory.seek(at)
        memory.write(bytes([byte ^ 1 << bit]))
    os.kill(process.pid, signal.SIGCONT)
    _, words = process.communicate()
    with open(latest) as file:
        after = file.read()
    where = f"{name}, byte {(at - places[0]) % 4} bit {bit}"
    if process.returncode != 1 or not (name.removesuffix(".weight") in words or "not finite" in words):
        return where, f"VIOLATION: exit code {process.returncode}: {words}"
    if after != before and "not finite" not in words:
        return where, f"VIOLATION: {after} was written after {before}"
    again = run(arguments, folder, "--resume")
    _, words_again = again.communicate()
    if again.returncode != 0 or adapter(folder) != whole:
        return where, f"VIOLATION: after --resume another run: {words_again}"
    return where, "not finite" if "not finite" in words else "named"


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainer", default="target/release/trainer")
    parser.add_argument("--model", required=True)
    parser.add_argument("--recipe", default=os.path.join(here, "../../recipes/nll.toml"))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw, weights, outcomes = random.Random(arguments.seed), Weights(arguments.model), collections.Counter()
    with tempfile.TemporaryDirectory() as place:
        whole = os.path.join(place, "whole")
        run(arguments, whole).communicate()
        for number in range(arguments.times):
            where, outcome = flip(arguments, weights, draw, os.path.join(place, str(number)), adapter(whole))
            outcomes[outcome.split(":")[0]] += 1
            print(f"{where}: {outcome}", flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    sys.exit(any(outcome.startswith(("VIOLATION", "not found")) for outcome in outcomes))


main()
