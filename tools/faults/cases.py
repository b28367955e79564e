"""The runs that are attacked: one for each objective and option that keeps something from step to step."""
import json, os

RECIPE = """seed = 3
[model]
path = "builtin:tiny"
[adapter]
rank = 2
alpha = 4
targets = ["q_proj", "up_proj"]
[data]
train = ["rows.jsonl"]
eval = ["held_out.jsonl"]
[optimizer]
learning_rate = 5e-3
[train]
steps = 5
batch_size = 4
[checkpoint]
every = 2
keep = 2
[eval]
every = 1
[output]
dir = "run"
"""

ANSWERS = ["fox", "bear", "owl", "a red fox", "a brown bear", "an old owl", "two foxes", "the bear sleeps"]
TOPICS = ["animal", "colour", "river", "tree"]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows(count, first=0):
    for number in range(first, first + count):
        topic, answer = TOPICS[number % len(TOPICS)], ANSWERS[number * 5 % len(ANSWERS)]
        yield {"prompt": f"Tell me about {topic} {number}.\n", "completion": f"{answer} and {ANSWERS[number % 3]}"}


def intents(count):
    for row in rows(count):
        yield {"prompt": row["prompt"], "intent": row["completion"].split()[-1], "response": row["completion"]}


TARGETS = [
    {"prompt": f"Pick a {topic}.\n", "targets": ["{1}", "{2}", "{33}"], "weights": [1, 2, 3]} for topic in TOPICS
]
FILES = {
    "recipe.toml": RECIPE,
    # The runs of a sweep have folders of their own.
    "sweep.toml": RECIPE.split("[output]")[0],
    "rows.jsonl": lines(rows(24)),
    "held_out.jsonl": lines(rows(6, 100)),
    "intents.jsonl": lines(intents(24)),
    "targets.jsonl": lines(TARGETS),
    "prompts.jsonl": lines({"prompt": row["prompt"]} for row in rows(2, 200)),
}

# A small encoder with random weights, in the folder `bert`.
ENCODER = os.path.join(os.path.dirname(__file__), "../../tests/fixtures/bert")

PROMPTS = ["eval.prompts=[\"prompts.jsonl\"]", "eval.samples=2", "eval.max_tokens=4"]
SFR = (
    "auxiliary=[{kind=\"sfr\",encoder=\"builtin:words\",k=4,stride=2,min_suffix=2,head_width=8,control=true,"
    "gradient_gate=true,head_ema=0.5,head_warmup=2,lambda_warmup=3}]"
)

# What each changes of the recipe. Every one has state of a kind of its own: it must be the same after a resume.
CASES = {
    "trunc_r": ["objective.kind=trunc_r", "objective.buffer=40", "objective.recompute=7", "train.micro_batch_size=2"] + PROMPTS,
    "trunc": ["objective.kind=trunc", "objective.granularity=sequence", "objective.buffer=6", "objective.recompute=3"],
    "lambda_pr": ["objective.kind=lambda_pr", "adapter.dropout=0.1", "schedule.kind=cosine"],
    "mtp": ["objective.kind=cdiv", "auxiliary=[{kind=\"mtp\",weight=0.3,heads=2}]"],
    "sfr": [SFR, "train.micro_batch_size=3"],
    # Its embeddings are kept beside all runs.
    "bert": [SFR.replace("builtin:words", "bert"), "objective.kind=gold"],
    "diffuse": [
        "objective.kind=diffuse", "objective.early_stop=0.01", "data.train=[\"targets.jsonl\"]", "data.eval=[\"targets.jsonl\"]",
        "eval.prompts=[\"targets.jsonl\"]", "eval.samples=2", "eval.max_tokens=4", "train.batch_size=1", "checkpoint.best_by=f8",
    ],
    "intent": [
        "objective.kind=intent", "data.train=[\"intents.jsonl\"]", "data.eval=[\"intents.jsonl\"]",
        "data.intent_noise={kind=\"shuffle\",fraction=0.5}",
    ],
    "full": ["adapter={kind=\"none\"}", "optimizer.learning_rate=1e-3", "checkpoint.keep=1"],
    "dora": ["adapter.kind=dora", "adapter.dropout=0.1"],
    "pissa": ["adapter.init=pissa", "adapter.lora_plus_ratio=4"],
    "nf4": ["model.quantize=nf4", "model.quantize_rows=4"],
    # So high a rate that the best comes first, stays when others go, and the run ends before its last step.
    "patience": ["optimizer.learning_rate=0.3", "checkpoint.patience=3", "checkpoint.keep=1", "train.steps=9"],
    # Nothing is trained, or was not before the run was made longer.
    "evaluate": ["train.steps=0"] + PROMPTS,
    "evaluated": PROMPTS,
}
# Steps of a run that is then made longer.
SHORT = {case: 0 if case == "evaluated" else 2 for case in CASES}

# Where in a run's life the fault comes: what is in the folder when the program starts, and how it is started.
OF_EVERY_CASE = ["fresh", "resume", "finish", "longer"]
SCENARIOS = OF_EVERY_CASE + ["log", "export", "merge", "sweep"]
OF_CASE = {
    "trunc_r": SCENARIOS, "full": OF_EVERY_CASE + ["log", "export", "merge"], "pissa": OF_EVERY_CASE + ["export", "merge"],
    "bert": ["fresh"], "evaluate": ["fresh"], "evaluated": ["longer"],
}
