"""Tokens per second of LoRA steps with PEFT on one GPU: random bf16 weights, SDPA, fused AdamW. The peer of
`trainer bench --shape`; the last line of stdout is a JSON object.

    python3 tools/peft_gpu.py --shape llama-3.1-8b --batch 2 --seq 4096 --rank 16 --steps 5 [--checkpointing] [--compile]
"""
import argparse, json, statistics, time

import peft, torch, transformers

SHAPES = {
    "llama-3.1-8b": lambda: transformers.LlamaConfig(
        vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=131_072, rms_norm_eps=1e-5, tie_word_embeddings=False),
    "qwen2.5-7b": lambda: transformers.Qwen2Config(
        vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, max_position_embeddings=32_768, rms_norm_eps=1e-6, tie_word_embeddings=False),
    "smollm2-135m": lambda: transformers.LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True),
}
parser = argparse.ArgumentParser()
parser.add_argument("--shape", choices=SHAPES, required=True)
parser.add_argument("--batch", type=int, default=2)
parser.add_argument("--seq", type=int, default=4096)
parser.add_argument("--rank", type=int, default=16)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--checkpointing", action="store_true")
parser.add_argument("--compile", action="store_true")
arguments = parser.parse_args()

torch.manual_seed(17)
with torch.device("cuda"):
    model = transformers.AutoModelForCausalLM.from_config(
        SHAPES[arguments.shape](), dtype=torch.bfloat16, attn_implementation="sdpa")
model.config.use_cache = False
if arguments.checkpointing:
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = peft.get_peft_model(model, peft.LoraConfig(
    r=arguments.rank, lora_alpha=2 * arguments.rank, lora_dropout=0.0, target_modules=linear, task_type="CAUSAL_LM"))
model.train()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0, fused=True)
step_model = torch.compile(model) if arguments.compile else model
ids = torch.randint(0, model.config.vocab_size, (arguments.batch, arguments.seq), device="cuda")

seconds = []
for _ in range(arguments.steps + 2):
    torch.cuda.synchronize()
    started = time.perf_counter()
    step_model(input_ids=ids, labels=ids).loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    seconds.append(time.perf_counter() - started)
median = statistics.median(seconds[2:])
print(json.dumps({
    "shape": arguments.shape, "batch": arguments.batch, "seq": arguments.seq, "rank": arguments.rank, "dtype": "bf16",
    "checkpointing": arguments.checkpointing, "compile": arguments.compile, "step_ms": round(median * 1e3, 1),
    "tokens_per_s": round(arguments.batch * arguments.seq / median, 1),
    "peak_device_mib": torch.cuda.max_memory_reserved() >> 20, "gpu": torch.cuda.get_device_name(),
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}}))
