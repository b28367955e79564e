"""Draws samples of one prompt with transformers, to be timed in turn with `trainer sample` on the same machine:

    trainer sample MODEL --prompt TEXT --n 64 --max-tokens 64
    python3 tools/generate.py MODEL --prompt TEXT --n 64 --max-tokens 64 --dtype bfloat16
"""

import argparse
import json

import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    torch.manual_seed(17)
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(given.model, dtype=getattr(torch, given.dtype))
    asked = tokenizer([given.prompt], return_tensors="pt")
    with torch.inference_mode():
        drawn = model.generate(
            **asked, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=given.n,
            max_new_tokens=given.max_tokens,
        )
    for row in drawn[:, asked["input_ids"].shape[1]:]:
        print(json.dumps({"text": tokenizer.decode(row, skip_special_tokens=True)}))


if __name__ == "__main__":
    main()
