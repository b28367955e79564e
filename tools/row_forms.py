"""Writes the same rows with pandas, pyarrow and datasets in every form that people have them in, and compares what the program makes of each:

    python row_forms.py path/to/trainer

Needs pandas, pyarrow and datasets; Zstandard files are written where the command `zstd` is there.
"""
import gzip, json, pathlib, shutil, subprocess, sys, tempfile
import datasets, pandas, pyarrow, pyarrow.csv, pyarrow.parquet

TRAINER = pathlib.Path(sys.argv[1]).resolve()
TURNS = [("user", "Größe, \"x\"?\n"), ("assistant", "Teal;\t1"), ("user", "More?"), ("assistant", "日本語 \U0001f600")]
ROWS = {
    "pairs": [{"prompt": f"Colour {i}, \"x\"\n", "completion": f"Teal; {i}\t\U0001f600"} for i in range(50)] + [{"prompt": "42", "completion": "7.0"}],
    "messages": [{"messages": [{"role": r, "content": f"{c}{i}"} for r, c in TURNS[: 2 + 2 * (i % 2)]]} for i in range(50)],
    "targets": [{"prompt": f"p{i}", "targets": [f"{{{n}}}" for n in range(1 + i % 4)], "weights": [0.5 + n for n in range(1 + i % 4)]} for i in range(50)],
}
RECIPE = '[model]\npath = "builtin:tiny"\n[data]\ntrain = ["x"]\n[train]\nsteps = 1\n'
KIND = {"targets": "diffuse"}


def written(shape, rows, folder):
    """Every form of the rows, by name."""
    nested = shape != "pairs"
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    def text(name, content):
        (folder / name).write_text(content, encoding="utf-8", newline="")
        return name
    yield text("a.jsonl", lines)
    yield text("a.json", json.dumps(rows))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    yield "a.jsonl.gz"
    if shutil.which("zstd"):
        subprocess.run(["zstd", "-q", "-f", folder / "a.jsonl"], check=True)
        yield "a.jsonl.zst"
    frame = pandas.DataFrame(rows)
    frame.to_json(folder / "pandas.jsonl", orient="records", lines=True, force_ascii=False)
    yield "pandas.jsonl"
    for codec in [None, "snappy", "gzip", "zstd", "lz4"]:
        frame.to_parquet(folder / f"pandas_{codec}.parquet", compression=codec)
        yield f"pandas_{codec}.parquet"
    table = pyarrow.Table.from_pylist(rows)
    for version in ["1.0", "2.0"]:
        name = f"pages_{version}.parquet"
        pyarrow.parquet.write_table(table, folder / name, data_page_version=version, row_group_size=7, use_dictionary=version == "1.0")
        yield name
    large = [pyarrow.field(f.name, pyarrow.large_string() if f.type == pyarrow.string() else f.type) for f in table.schema]
    pyarrow.parquet.write_table(table.cast(pyarrow.schema(large)), folder / "large.parquet")
    yield "large.parquet"
    datasets.Dataset.from_list(rows).to_parquet(folder / "datasets.parquet")
    yield "datasets.parquet"
    flat = frame.map(lambda value: json.dumps(list(value), ensure_ascii=False) if isinstance(value, (list, tuple)) else value) if nested else frame
    flat.to_csv(folder / "pandas.csv", index=False)
    yield "pandas.csv"
    flat.to_csv(folder / "pandas.csv.gz", index=False)
    yield "pandas.csv.gz"
    flat.to_csv(folder / "pandas.tsv", sep="\t", index=False)
    yield "pandas.tsv"
    flat.to_csv(folder / "excel.csv", sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n", quoting=1)
    yield "excel.csv"
    pyarrow.csv.write_csv(pyarrow.Table.from_pandas(flat, preserve_index=False), folder / "pyarrow.csv")
    yield "pyarrow.csv"


def examples(folder, shape, train):
    command = [TRAINER, "check", "r.toml", "--json", "--examples", "1000", "--set", f"data.train={json.dumps([train])}"]
    command += ["--set", f"objective.kind={KIND[shape]}"] if shape in KIND else []
    with open(folder / train if train != "-" else folder / "a.jsonl", "rb") as stdin:
        done = subprocess.run(command, cwd=folder, stdin=stdin, capture_output=True, text=True)
    if done.returncode:
        return done.stderr
    return [(example["ids"], example["learned"]) for example in json.loads(done.stdout)["examples"]]


wrong = 0
for shape, rows in ROWS.items():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "r.toml").write_text(RECIPE)
        names = list(written(shape, rows, folder))
        expected = examples(folder, shape, names[0])
        assert isinstance(expected, list), expected
        for name in [*names[1:], "-"]:
            found = examples(folder, shape, name)
            same = found == expected
            wrong += not same
            print(f"{shape:9} {name:22} {'the same' if same else 'DIFFERS'} {'' if same else str(found)[:300]}")
sys.exit(wrong > 0)
