"""What a run has left: whether its checkpoints are whole, and everything in it but for the times."""
import hashlib, json, os, re, struct


def files(folder):
    """The paths of all files and folders below, relative to it."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(place, name), folder) + "/"] = None
        for name in names:
            path = os.path.join(place, name)
            found[os.path.relpath(path, folder)] = path
    return found


def read(path):
    with open(path, "rb") as file:
        return file.read()


def whole(checkpoint):
    """Why a folder is no whole checkpoint, or None."""
    try:
        manifest = json.loads(read(os.path.join(checkpoint, "MANIFEST.json")))
    except (OSError, ValueError) as error:
        return f"no manifest: {error}"
    names = set(os.listdir(checkpoint)) - {"MANIFEST.json"}
    if names != set(manifest["files"]):
        return f"the manifest lists {sorted(manifest['files'])}, there are {sorted(names)}"
    for name, entry in manifest["files"].items():
        data = read(os.path.join(checkpoint, name))
        if (len(data), hashlib.sha256(data).hexdigest()) != (entry["size"], entry["sha256"]):
            return f"{name} is not what the manifest says"
    return None


def pointed(run, name):
    """The step that `latest` or `best` names, or None."""
    try:
        text = read(os.path.join(run, "checkpoints", name)).decode().strip()
    except FileNotFoundError:
        return None
    return int(re.fullmatch(r"step-(\d{6,})", text)[1])


def events(data):
    """The events of a TensorBoard file without the times at which they were written."""
    found, place = [], 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        record = data[place + 12 : place + 12 + length]
        assert len(record) == length and record[0] == 0x09, "a torn record"
        found.append(record[9:])
        place += 12 + length + 4
    return found


def timeless(name, path):
    data = read(path)
    base = os.path.basename(name)
    if base == "metrics.jsonl":
        rows = [json.loads(line) for line in data.decode().splitlines()]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    if base.startswith("events.out"):
        return events(data)
    if base == "report.html":
        text = re.sub(r"(training time</th><td>)[^<]*", r"\1", data.decode())
        return re.sub(r", [\d.e+]+ per second", "", text)
    return hashlib.sha256(data).hexdigest()


def fingerprint(folder, left_out=()):
    """All that is in a folder, by path."""
    found = {}
    for name, path in files(folder).items():
        if name in left_out:
            continue
        try:
            found[name] = timeless(name, path) if path else None
        except (AssertionError, ValueError, struct.error) as error:
            found[name] = f"cannot be read: {error}"
    return found


def difference(expected, found):
    """The first difference in words, or None."""
    for name in sorted(set(expected) - set(found)):
        return f"{name} is missing"
    for name in sorted(set(found) - set(expected)):
        return f"{name} is left over"
    for name in sorted(expected):
        if expected[name] != found[name]:
            if isinstance(expected[name], list):
                one, other = expected[name], found[name]
                at = next((i for i, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))
                return f"{name} differs at entry {at} ({len(one)} expected, {len(other)} found)"
            return f"{name} differs"
    return None
