"""A long run, many runs at once, one processor, and little memory.

    cargo build --release --locked
    python tools/soak.py                      # all four; the long run takes its time
    python tools/soak.py --only ten one little
    python tools/soak.py --only long --steps 50000

`long`: evaluation, samples, checkpoints and retention over so many steps of the tiny model: what the process holds (memory,
open files, threads) and what lies in the run's folder is the same in the last quarter as in the second. `ten`: ten runs at
once on two cores end, and are the same run. `one`: on one processor, too. `little`: under limits of address space from 40
to 1,000 MB the program trains, or says that there is too little memory and what to do about it.
"""
import argparse, hashlib, os, resource, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "faults"))
import cases

LONG = ["eval.every=500", "eval.prompts=[\"prompts.jsonl\"]", "eval.samples=2", "eval.max_tokens=4", "checkpoint.every=250", "checkpoint.keep=3"]
# What grows with the steps by right: a line each, and a file of samples with each evaluation.
GROWS = ("metrics.jsonl", "events.out", "report.html", "samples")
FAULTS = ("fault of this program", "panicked", "overflow", "core dumped")


def workplace(folder):
    os.makedirs(folder, exist_ok=True)
    for name, text in cases.FILES.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    return folder


def start(binary, folder, *sets, **options):
    words = [binary, "run", "recipe.toml", *(word for key in sets for word in ("--set", key))]
    environment = {**os.environ, "XDG_CACHE_HOME": os.path.join(folder, "cache"), "NO_COLOR": "1"}
    log = open(os.path.join(folder, "log"), "w")
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)


def said(folder):
    with open(os.path.join(folder, "log"), errors="replace") as file:
        return file.read()


def held(pid):
    """Resident kilobytes, open files and threads of a process."""
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":", 1) for line in file if ":" in line)
    return int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


def on_disk(run):
    """How many files a run has beside those that grow with the steps by right, and their bytes."""
    count, size = 0, 0
    for folder, _, names in os.walk(run):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.relpath(path, run).startswith(GROWS):
                try:
                    size += os.path.getsize(path)
                    count += 1
                except FileNotFoundError:
                    pass
    return count, size


def lines(path):
    try:
        with open(path, "rb") as file:
            return sum(1 for _ in file)
    except FileNotFoundError:
        return 0


def long(binary, work, steps, pause):
    folder = workplace(os.path.join(work, "long"))
    run = os.path.join(folder, "run")
    process = start(binary, folder, f"train.steps={steps}", *LONG)
    taken = []
    while process.poll() is None:
        try:
            step = lines(os.path.join(run, "metrics.jsonl"))
            taken.append((step, *held(process.pid), *on_disk(run)))
        except (FileNotFoundError, ProcessLookupError, KeyError):
            pass
        time.sleep(pause)
    names = ["MB resident", "open files", "threads", "files of the run", "KB beside lines"]
    scale = [1024, 1, 1, 1, 1024]
    quarters = [[row for row in taken if quarter <= 4 * row[0] / (steps + 1) < quarter + 1] for quarter in range(4)]
    print(f"long: {steps} steps, exit code {process.returncode}, looked at {len(taken)} times")
    problems = [] if process.returncode == 0 else [f"it ended with {process.returncode}: {said(folder)[-500:]}"]
    for column, (name, by) in enumerate(zip(names, scale), 1):
        most = [max((row[column] for row in rows), default=0) / by for rows in quarters]
        print(f"  {name:18} most in each quarter: " + "  ".join(f"{value:9.1f}" for value in most))
        if most[3] > 1.1 * most[1] + 2:
            problems.append(f"{name} grew from {most[1]:.1f} to {most[3]:.1f}")
    return problems


def trained(folder):
    """The adapter that a run ended with."""
    checkpoints = os.path.join(folder, "run/checkpoints")
    with open(os.path.join(checkpoints, "latest")) as file:
        name = file.read().strip()
    with open(os.path.join(checkpoints, name, "adapter_model.safetensors"), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def on(processors):
    return lambda: os.sched_setaffinity(0, processors)


def ten(binary, work):
    two = sorted(os.sched_getaffinity(0))[:2]
    folders = [workplace(os.path.join(work, f"ten{index}")) for index in range(10)]
    processes = [start(binary, folder, "train.steps=40", preexec_fn=on(two)) for folder in folders]
    codes = [process.wait() for process in processes]
    same = codes == [0] * 10 and len({trained(folder) for folder in folders}) == 1
    print(f"ten: exit codes {sorted(set(codes))}, {'the same weights' if same else 'NOT the same weights'}")
    return [] if same else [f"ten runs at once: {codes}"]


def one(binary, work):
    code, threads = {}, {}
    for name, processors in [("one", set(sorted(os.sched_getaffinity(0))[:1])), ("all", os.sched_getaffinity(0))]:
        folder = workplace(os.path.join(work, name))
        code[name] = start(binary, folder, "train.steps=40", preexec_fn=on(processors)).wait()
        threads[name] = trained(folder) if code[name] == 0 else said(folder)
    same = set(code.values()) == {0} and len(set(threads.values())) == 1
    print(f"one: exit codes {code}, {'the same weights' if same else 'NOT the same weights'}")
    return [] if same else [f"on one processor: {code}"]


def little(binary, work):
    problems = []
    for megabytes in [40, 60, 80, 100, 120, 150, 200, 250, 300, 400, 600, 1000]:
        folder = workplace(os.path.join(work, f"little{megabytes}"))
        limit = megabytes << 20
        process = start(
            binary, folder, "train.steps=3",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        code, words = process.wait(), said(folder)
        error = next((line for line in words.splitlines() if line.startswith("error: ")), "")
        hint = next((line for line in words.splitlines() if line.startswith("hint: ")), "")
        told = code == 0 or code in (1, 2) and error and hint and not any(fault in words for fault in FAULTS)
        print(f"little: {megabytes:5} MB, exit code {code}: {error or 'trained'} {hint[:60]}")
        problems += [] if told else [f"{megabytes} MB: {code}: {words[-300:]!r}"]
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/trainer")
    parser.add_argument("--only", nargs="*", default=["ten", "one", "little", "long"])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--pause", type=float, default=5.0)
    parser.add_argument("--keep", help="a folder to work in, which stays")
    options = parser.parse_args()
    binary = os.path.abspath(options.binary)
    with tempfile.TemporaryDirectory() as temporary:
        work = os.path.abspath(options.keep) if options.keep else temporary
        problems = []
        for name in options.only:
            problems += {
                "long": lambda: long(binary, work, options.steps, options.pause),
                "ten": lambda: ten(binary, work),
                "one": lambda: one(binary, work),
                "little": lambda: little(binary, work),
            }[name]()
    for problem in problems:
        print(f"PROBLEM {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
