"""Steps of `trainer` and of PEFT in f32, both against PEFT in f64: how much of a loss is rounding.

    python tools/beside_f64.py --trainer target/release/trainer --model DIR --rows rows.jsonl

An adapter that PEFT has trained for two steps goes on for four more in each of them, two rows a step, from the same rows
(`messages`, through the model's chat template) at the same rate; AdamW, no weight decay, clipped at 1. Prints losses and, of the
first step, the gradient's norm. With torch, transformers and peft; CPU, some minutes for a model of 135 M.
"""
import argparse, json, pathlib, subprocess, tempfile
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

RATE, STEPS, ROWS_A_STEP = 1e-3, 4, 2
parser = argparse.ArgumentParser()
parser.add_argument("--trainer", default="target/release/trainer")
parser.add_argument("--model", required=True)
parser.add_argument("--rows", required=True)
arguments = parser.parse_args()

tokenizer = AutoTokenizer.from_pretrained(arguments.model)
rows = [json.loads(line) for line in open(arguments.rows)][: STEPS * ROWS_A_STEP]


def example(row):
    """The ids of a conversation up to its last end token, and where its last answer begins."""
    end = tokenizer.eos_token
    whole = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    whole = whole[: whole.rindex(end) + len(end)]
    asked = tokenizer.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids(whole), len(ids(asked))


examples = [example(row) for row in rows]


def train(model, steps):
    """The loss of each step and the norm of its gradient."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    found = []
    for step in range(steps):
        batch = examples[ROWS_A_STEP * step : ROWS_A_STEP * (step + 1)]
        learned, loss = sum(len(ids) - first for ids, first in batch), 0.0
        optimizer.zero_grad()
        for ids, first in batch:
            logs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
            of_row = -sum(logs[at - 1, ids[at]] for at in range(first, len(ids))) / learned
            of_row.backward()
            loss += of_row.item()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0).item()
        optimizer.step()
        found.append((loss, norm))
    return found


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    torch.manual_seed(1)
    base = lambda dtype: AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
    made = get_peft_model(base(torch.float32), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    train(made, 2)
    made.save_pretrained(folder / "adapter")

    def with_peft(dtype):
        model = PeftModel.from_pretrained(base(dtype), folder / "adapter", is_trainable=True, autocast_adapter_dtype=False)
        return train(model.to(dtype), STEPS)

    exact, torch_f32 = with_peft(torch.float64), with_peft(torch.float32)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"messages": row["messages"]}) + "\n" for row in rows))
    (folder / "recipe.toml").write_text(
        f'[model]\npath = "{pathlib.Path(arguments.model).resolve()}"\ndtype = "f32"\n[adapter]\ninit_from = "{folder}/adapter"\n'
        f'[data]\ntrain = "{folder}/rows.jsonl"\ntrain_on = "last"\nshuffle = false\n[optimizer]\nlearning_rate = {RATE}\n'
        f'[train]\nsteps = {STEPS}\nbatch_size = {ROWS_A_STEP}\n[output]\ndir = "{folder}/run"\n'
    )
    subprocess.run([arguments.trainer, "run", folder / "recipe.toml"], check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in open(folder / "run/metrics.jsonl")]
    ours = [(line["loss"], line["grad_norm"]) for line in lines if line["split"] == "train"]

print("| step | f64 | `trainer` f32 | PEFT f32 |\n|---|---|---|---|")
apart = lambda found, exact: f"{found:.7f} ({abs(found / exact - 1):.0e})"
for step, (reference, own, other) in enumerate(zip(exact, ours, torch_f32), 1):
    print(f"| {step} | {reference[0]:.7f} | {apart(own[0], reference[0])} | {apart(other[0], reference[0])} |")
print(f"| norm of the first gradient | {exact[0][1]:.6f} | {apart(ours[0][1], exact[0][1])} | {apart(torch_f32[0][1], exact[0][1])} |")
