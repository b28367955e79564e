"""Lets each call fail by which a run changes the disk, or kills the run there, and looks at what is left.

    python tools/faults/run.py --trainer target/release/trainer --points 600
    python tools/faults/run.py --trainer target/release/trainer --only trunc_r/fresh/61/EIO

A point is a run (`cases.py`), where in its life the fault comes, the number of the call, and how it fails (`faults.c`):

    fresh    from the beginning                     log      the same, of its log alone, which is a file
    resume   gone on with after a kill in a save    export   `trainer export`
    finish   killed after its last checkpoint       merge    `trainer export --merge`
    longer   done, and gone on with for more steps  sweep    `trainer sweep`, of its own calls

After each: the exit code and the words; whether `latest` names a whole checkpoint, none older than the last one that was
saved; what `--resume` makes of it beside the unbroken run, every file of it. Prints tables, and each violation with the
command that repeats it. Linux, Python 3.9, a C compiler.
"""
import argparse, collections, itertools, os, random, re, shutil, subprocess, sys, tempfile, time

import compare
from seen import by_strace
from cases import CASES, ENCODER, FILES, OF_CASE, OF_EVERY_CASE, SCENARIOS, SHORT

HERE = os.path.dirname(os.path.abspath(__file__))
KILLS = ["before", "after", "torn", "power"]
ERRORS = ["ENOSPC", "EIO", "EACCES", "EROFS", "EINTR"]
# From there on, and done but said to have failed.
LASTING = ["ENOSPC+", "EIO+", "EROFS+", "EIO!"]
OF_KIND = {"write": ["short"], "lock": ["ENOTSUP", "ENOLCK"], "sync-folder": ["EINVAL", "ENOTSUP"]}
LOOKS = {"open-to-read", "read", "stat", "list"}
LOOKING_ERRORS = ["EIO", "EACCES", "EMFILE", "EINTR"]
# A run goes on after these as if nothing had been: the call is made again, or what a file system has not is not needed.
GOES_ON = {"EINTR", "short", "ENOTSUP", "ENOLCK", "EINVAL"}
SECONDS = 120

Point = collections.namedtuple("Point", "case scenario number way kind path")
Ended = collections.namedtuple("Ended", "code stderr")


def name_of(point):
    return f"{point.case}/{point.scenario}/{point.number}/{point.way}"


class Bench:
    """The program, the layer under it, and a folder to work in."""

    def __init__(self, program, folder):
        self.program, self.folder = os.path.abspath(program), os.path.realpath(folder)
        self.library = os.path.join(self.folder, "faults.so")
        source = os.path.join(HERE, "faults.c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self.library, source], check=True)
        self.work, self.log = os.path.join(self.folder, "work"), os.path.join(self.folder, "calls")

    def start(self, arguments, faults=None, log_inside=False):
        """Runs the program in the work folder; `faults` are variables of `faults.c`, None for none of it."""
        environment = self.environment()
        if faults is not None:
            environment |= {**self.layer(), **faults}
        words = os.path.join(self.work, "run.log") if log_inside else os.path.join(self.folder, "stderr")
        with open(words, "wb") as stderr:
            command = [self.program, *arguments]
            try:
                ended = subprocess.run(
                    command, cwd=self.work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=stderr, timeout=SECONDS,
                )
                code = ended.returncode
            except subprocess.TimeoutExpired:
                code = "hung"
        return Ended(code, compare.read(words).decode(errors="replace"))

    def environment(self):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "KERNELS_LIMIT") if name in os.environ}
        return {**kept, "XDG_CACHE_HOME": os.path.join(self.work, "cache"), "HF_HUB_OFFLINE": "1"}

    def layer(self):
        if os.path.exists(self.log):
            os.remove(self.log)
        return {"LD_PRELOAD": self.library, "FAULTS_BELOW": self.work, "FAULTS_LOG": self.log}

    def calls(self):
        """What the layer has counted: number, kind, path, bytes, old name."""
        with open(self.log) as log:
            fields = (line.rstrip("\n").split("\t") for line in log)
            # A file of the cache has the number of the process in its name.
            plain = lambda path: re.sub(r"\.\d+\.partial$", ".partial", os.path.normpath(path))
            return [(int(number), kind, plain(path), int(size), old) for number, kind, path, size, old in fields]

    def lay(self, source):
        """Puts a copy of a folder where the program works."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(source, self.work)


class Stage:
    """A run at a place of its life: what is there before, the command, and what the command leaves."""

    def __init__(self, bench, case, scenario):
        self.bench, self.case, self.scenario = bench, case, scenario
        sets = [word for change in CASES[case] for word in ("--set", change)]
        self.run = ["run", "recipe.toml", *sets]
        self.start_folder = os.path.join(bench.folder, f"{case}-{scenario}")
        self.prepare()
        self.calls, self.reference = self.unbroken({}, 2)
        self.looks, _ = self.unbroken({"FAULTS_LOOKS": "1"}, 1)
        self.looks = [call for call in self.looks if call[1] in LOOKS]

    def prepare(self):
        """Makes the folder that the command starts in."""
        bench, scenario = self.bench, self.scenario
        os.makedirs(self.start_folder)
        for name, text in FILES.items():
            with open(os.path.join(self.start_folder, name), "w") as file:
                file.write(text)
        if self.case == "bert":
            shutil.copytree(ENCODER, os.path.join(self.start_folder, "bert"))
        self.command = self.run
        if scenario == "sweep":
            short = ["--set", "train.steps=2", "--set", "checkpoint.every=1"]
            self.command = ["sweep", "sweep.toml", "--grid", "seed=1,2", "--out", "sweep", *self.run[2:], *short]
        if scenario in ("fresh", "log", "sweep"):
            return
        bench.lay(self.start_folder)
        if scenario in ("resume", "finish"):
            self.command = [*self.run, "--resume"]
            assert bench.start(self.run, {}).code == 0
            wanted = "run/checkpoints/latest"
            saves = [call[0] for call in bench.calls() if call[1:3] == ("rename", wanted)]
            # Of a save that has just written its weights, or of the last one.
            at, how = (saves[-1], "after") if scenario == "finish" else (saves[1] - 10, "after")
            bench.lay(self.start_folder)
            assert bench.start(self.run, {"FAULTS_AT": str(at), "FAULTS_HOW": how}).code == -9
        elif scenario == "longer":
            assert bench.start([*self.run, "--set", f"train.steps={SHORT[self.case]}"], {}).code == 0
            self.command = [*self.run, "--resume"]
        else:
            assert bench.start(self.run, {}).code == 0
            self.command = ["export", "run", "--out", "out", *(["--merge"] if scenario == "merge" else [])]
        shutil.rmtree(self.start_folder)
        shutil.copytree(bench.work, self.start_folder)

    def again(self):
        return self.command if self.scenario in ("export", "merge", "sweep") else [*self.run, "--resume"]

    def unbroken(self, variables, times):
        """The calls of the command, the same each time, and what it leaves."""
        found = []
        for _ in range(times):
            self.bench.lay(self.start_folder)
            ended = self.bench.start(self.command, variables, self.scenario == "log")
            assert ended.code == 0, ended.stderr
            found.append((self.bench.calls(), self.fingerprint()))
        calls, left = found[0]
        for others, other_left in found[1:]:
            assert [call[:3] for call in calls] == [call[:3] for call in others], f"{self.case}: other calls"
            assert compare.difference(left, other_left) is None, compare.difference(left, other_left)
        return calls, left

    def fingerprint(self):
        found = compare.fingerprint(self.bench.work)
        # Logs tell of all that was tried. The cache is not the run's, and what is in it is compared with its checksum.
        beside = re.compile(r"run\.log$|sweep/logs/|cache/")
        return {name: value for name, value in found.items() if not beside.match(name)}

    def escaped(self):
        """Kinds of calls of which the kernel sees another number than the layer, with both."""
        self.bench.lay(self.start_folder)
        bench = self.bench
        command, trace = [bench.program, *self.command], os.path.join(bench.folder, "trace")
        seen = by_strace(command, bench.work, {**bench.environment(), **bench.layer()}, trace)
        counted = collections.Counter(call[1].replace("sync-folder", "sync") for call in bench.calls())
        return {kind: (seen[kind], counted[kind]) for kind in seen | counted if seen[kind] != counted[kind]}, seen

    def points(self):
        """All points of this stage."""
        for number, kind, path, size, _ in self.calls:
            if (self.scenario == "log") != (path == "run.log"):
                continue
            # What lasts would be the end of more than the log.
            more = ["EIO!"] if self.scenario == "log" else KILLS + LASTING
            for way in ERRORS + OF_KIND.get(kind, []) + more:
                if way != "torn" or kind == "write":
                    yield Point(self.case, self.scenario, number, way, kind, path)
        if self.scenario != "log":
            for number, kind, path, _, _ in self.looks:
                for way in LOOKING_ERRORS:
                    yield Point(self.case, self.scenario, number, way, kind, path)

    def attack(self, point):
        """Violations of a point, and in a word what the run did."""
        bench = self.bench
        bench.lay(self.start_folder)
        kills = point.way in KILLS
        variables = {"FAULTS_AT": str(point.number), "FAULTS_HOW": "before" if point.way == "power" else point.way}
        if point.kind in LOOKS:
            variables["FAULTS_LOOKS"] = "1"
        ended = bench.start(self.command, variables, self.scenario == "log")
        calls = bench.calls()
        if point.way == "power":
            lose_unsynced(bench.work, calls[:-1])
        # Where a lock is asked for once more, and had, there is nothing to say.
        asked_again = sum(call[1:3] == (point.kind, point.path) for call in calls) > 1
        outcome, violations = judged(ended, point, kills, point.kind == "lock" and asked_again)
        if outcome == "went on":
            difference = compare.difference(self.reference, self.fingerprint())
            if difference:
                violations.append(f"it went on, and {difference}")
            return outcome, violations
        # What could not be removed is by the next save. A sweep keeps what it has begun, and begins it anew.
        may_leave = "/.removed-" in point.path or point.kind in ("unlink", "rmdir") or self.scenario == "sweep"
        if outcome == "ended" and not may_leave and not point.way.endswith("+"):
            left = [name for name in compare.files(bench.work) if re.search(r"/\.(staging|removed)-|\.partial(/|$)", name)]
            before = compare.files(self.start_folder)
            left = [name for name in left if name not in before]
            violations += [f"left behind after an error: {left[0]}"] if left else []
        check = self.after_another if self.scenario in ("export", "merge", "sweep") else self.after_run
        return check(point, calls, outcome, violations)

    def after_another(self, point, calls, outcome, violations):
        """The same command once more: an export that is there is whole, a sweep goes on."""
        bench = self.bench
        if not os.path.exists(os.path.join(bench.work, "out")):
            ended = bench.start(self.again())
            if ended.code != 0:
                return outcome, [*violations, f"the same command ends with {ended.code} afterwards: {last(ended)}"]
        difference = compare.difference(self.reference, self.fingerprint())
        return outcome, violations + ([f"afterwards {difference}"] if difference else [])

    def after_run(self, point, calls, outcome, violations):
        bench = self.bench
        run = os.path.join(bench.work, "run")
        floor = compare.pointed(os.path.join(self.start_folder, "run"), "latest") or 0
        done = {"after", "EIO!"}
        step = None
        for number, kind, path, _, _ in calls:
            if kind == "rename" and (found := re.fullmatch(r"run/checkpoints/step-(\d+)", path)):
                step = int(found[1])
            if (kind, path) == ("rename", "run/checkpoints/latest"):
                if number < point.number or number == point.number and point.way in done:
                    floor = max(floor, step)
        latest = compare.pointed(run, "latest")
        if (latest or 0) < floor:
            violations.append(f"`latest` is {latest}, and the checkpoint of step {floor} was saved")
        checkpoints = os.path.join(run, "checkpoints")
        names = sorted(os.listdir(checkpoints)) if os.path.isdir(checkpoints) else []
        for name in names:
            reason = name.startswith("step-") and compare.whole(os.path.join(checkpoints, name))
            violations += [f"{name} is not whole: {reason}"] if reason else []
        has_any = any(re.match(r"(step|\.replaced-step)-", name) for name in names)
        ended = bench.start(self.again())
        if not has_any and not (ended.code == 0 and point.case.startswith("evaluate")):
            told = ended.code == 1 and "hint: " in ended.stderr
            violations += [] if told else [f"without a checkpoint, `--resume` ends with {ended.code}: {last(ended)}"]
            return outcome + ", too early", violations
        if ended.code != 0:
            return outcome, [*violations, f"`--resume` ends with {ended.code}: {last(ended)}"]
        if "damaged" in ended.stderr:
            violations.append("`--resume` passes over a damaged checkpoint")
        difference = compare.difference(self.reference, self.fingerprint())
        return outcome, violations + ([f"after `--resume` {difference}"] if difference else [])


def last(ended):
    return " / ".join(ended.stderr.strip().splitlines()[-4:])


def judged(ended, point, kills, asked_again):
    """What a run did that met a fault, and what is wrong with that."""
    if kills:
        return "killed", [] if ended.code == -9 else [f"ended with {ended.code} in place of the kill: {last(ended)}"]
    if "panicked" in ended.stderr or "fault of this program" in ended.stderr:
        return "ended", [f"a panic: {last(ended)}"]
    if ended.code == 0:
        may = asked_again or point.way in GOES_ON or point.scenario == "log" or point.kind in LOOKS
        if point.kind in ("lock", "sync-folder") and point.way != "EINTR":
            may = asked_again or "no lock is to be had" in ended.stderr or "the folder cannot be synced" in ended.stderr
        # What cannot be kept beside all runs is computed again by the next.
        may = may or point.path.startswith("cache") and " WARN " in ended.stderr
        return "went on", [] if may else ["the error was passed over without a word"]
    if ended.code != 1:
        return "ended", [f"ended with {ended.code}: {last(ended)}"]
    # Of one run among several, a sweep tells the place within the words.
    parts = ("error: ", "hint: ") if point.scenario == "sweep" else ("error: ", "--> ", "hint: ")
    violations = [f"no {part.strip()!r} is said: {last(ended)}" for part in parts if part not in ended.stderr]
    if point.scenario == "log":
        violations.append(f"a log that cannot be written ended it: {last(ended)}")
    elif point.way in GOES_ON and point.kind not in LOOKS:
        violations.append(f"{point.way} ended it: {last(ended)}")
    return "ended", violations


def lose_unsynced(work, calls):
    """What a disk without power may have lost: of each file the bytes that were written since its last sync."""
    unsynced = collections.Counter()
    for _, kind, path, size, old in calls:
        if kind == "write":
            unsynced[path] += size
        elif kind == "sync":
            unsynced[path] = 0
        elif kind == "rename":
            source = os.path.join(os.path.dirname(path), old)
            for name in [name for name in unsynced if name == source or name.startswith(source + "/")]:
                unsynced[path + name[len(source) :]] = unsynced.pop(name)
    for name, size in unsynced.items():
        file = os.path.join(work, name)
        if size and os.path.isfile(file):
            os.truncate(file, max(0, os.path.getsize(file) - size))


def spread(points, count):
    """So many of all points: each scenario and way of failing in turn, and within these each run in turn."""
    groups = collections.defaultdict(lambda: collections.defaultdict(list))
    for point in points:
        groups[point.scenario, point.way, point.kind in LOOKS][point.case].append(point)
    for key, cases in groups.items():
        chance = random.Random(repr(key))
        for of_case in cases.values():
            chance.shuffle(of_case)
        turns = list(itertools.zip_longest(*chance.sample(list(cases.values()), len(cases))))
        # Taken from the end.
        groups[key] = [point for turn in reversed(turns) for point in turn if point]
    chosen = []
    while len(chosen) < count and groups:
        for key in list(groups):
            chosen.append(groups[key].pop())
            if not groups[key]:
                del groups[key]
    return sorted(chosen[:count])


def table(title, results, key):
    rows = collections.defaultdict(collections.Counter)
    for point, outcome, violations in results:
        row = rows[key(point)]
        row["points"] += 1
        row[outcome] += 1
        row["violations"] += bool(violations)
    columns = ["points", "went on", "ended", "ended, too early", "killed", "killed, too early", "violations"]
    print(f"\n| {title} | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name in sorted(rows):
        print(f"| {name} | " + " | ".join(str(rows[name][column] or "") for column in columns) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", default="target/release/trainer", help="the program")
    parser.add_argument("--points", type=int, default=600, help="so many of all points, 0 for all")
    parser.add_argument("--case", action="append", choices=list(CASES), help="this run; all unless given")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="this part of its life; all unless given")
    parser.add_argument("--only", help="one point, as it is named: CASE/SCENARIO/NUMBER/WAY")
    parser.add_argument("--path", default="", help="points whose path matches this regular expression")
    parser.add_argument("--way", action="append", help="points that fail in this way")
    parser.add_argument("--list", action="store_true", help="the calls that are counted, and no more")
    parser.add_argument("--strace", action="store_true", help="hold what is counted against what the kernel sees, and no more")
    parser.add_argument("--folder", help="where to work, for example on another file system")
    arguments = parser.parse_args()
    cases, scenarios = arguments.case or list(CASES), arguments.scenario or SCENARIOS
    if arguments.only:
        case, scenario, number, way = arguments.only.split("/")
        cases, scenarios = [case], [scenario]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        bench = Bench(arguments.trainer, folder)
        stages = {}
        for case in cases:
            for scenario in scenarios if arguments.case or arguments.only else OF_CASE.get(case, OF_EVERY_CASE):
                if scenario not in scenarios:
                    continue
                stages[case, scenario] = Stage(bench, case, scenario)
            print(f"{case}: prepared", file=sys.stderr)
        if arguments.list:
            for (case, scenario), stage in stages.items():
                for number, kind, path, size, _ in stage.calls:
                    print(f"{case}/{scenario}/{number}  {kind:8} {path} {size or ''}")
            return
        if arguments.strace:
            for (case, scenario), stage in stages.items():
                escaped, seen = stage.escaped()
                print(f"{case}/{scenario}: {sum(seen.values())} calls", escaped or "all of them counted", flush=True)
            return
        points = [point for stage in stages.values() for point in stage.points()]
        points = [point for point in points if re.search(arguments.path, point.path)]
        points = [point for point in points if not arguments.way or point.way in arguments.way]
        total = len(points)
        if arguments.only:
            points = [point for point in points if name_of(point) == arguments.only]
        elif arguments.points:
            points = spread(points, arguments.points)
        results, began = [], time.time()
        for index, point in enumerate(points):
            outcome, violations = stages[point.case, point.scenario].attack(point)
            results.append((point, outcome, violations))
            for violation in violations:
                print(f"VIOLATION {name_of(point)} ({point.kind} {point.path}): {violation}", flush=True)
            if index % 50 == 49:
                print(f"{index + 1} of {len(points)} points, {time.time() - began:.0f} s", file=sys.stderr, flush=True)
        table("where in its life", results, lambda point: point.scenario)
        table("how it failed", results, lambda point: point.way + (" of a look" if point.kind in LOOKS else ""))
        table("call", results, lambda point: point.kind)
        table("run", results, lambda point: point.case)
        bad = [point for point, _, violations in results if violations]
        print(f"\n{len(results)} of {total} points tried, {len(bad)} with a violation")
        for point in bad[:20]:
            print(f"  python tools/faults/run.py --trainer {arguments.trainer} --only {name_of(point)}")
        sys.exit(bool(bad))


if __name__ == "__main__":
    main()
