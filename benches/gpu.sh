#!/usr/bin/env bash
# What a machine with an NVIDIA GPU shows of this program, in one command and without Rust or a network there.
#
#     benches/gpu.sh pack DIR            # here: builds for CUDA and leaves the program, its tests and its bench in DIR, stripped, as .xz
#     benches/gpu.sh run DIR OUT         # there, in a copy of this folder: unpacks, runs everything, writes OUT
#
# OUT/summary.json says of each part whether it passed; the numbers lie beside it as JSON Lines. Parts are run even when
# an earlier one failed. `PARTS="right bench"` runs some of them, `MINUTES=8` limits each (5 is usual). For the comparison
# with PEFT, Python with torch and transformers, and peft on PYTHONPATH.
set -uo pipefail
cd "$(dirname "$0")/.."

pack() {
    set -e
    mkdir -p "$1"
    local built
    # The file that a cargo command has just made.
    made() { "$@" --locked --message-format=json |
        python3 -c 'import json,sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])'; }
    built=$(made cargo build --release --features cuda --bin trainer) && cp "$built" "$1/trainer"
    built=$(made cargo test --release --features cuda --lib --no-run) && cp "$built" "$1/gpu-tests"
    built=$(made cargo test --release -p cube --features cuda --no-run) && cp "$built" "$1/cube-tests"
    built=$(made cargo bench --features cuda --bench gpu --no-run) && cp "$built" "$1/gpu-bench"
    strip "$1"/{trainer,gpu-tests,cube-tests,gpu-bench}
    xz -T0 -f -k "$1"/{trainer,gpu-tests,cube-tests,gpu-bench}
    ls -l "$1"
}

# Runs a part within its time, its output kept, and notes how it ended.
part() {
    local name=$1
    shift
    case " ${PARTS:-right kernels quickstart resume memory bench peft} " in *" $name "*) ;; *) return 0 ;; esac
    echo "== $name" >&2
    local started=$SECONDS code=0
    timeout "$((${MINUTES:-5} * 60))" "$@" >"$OUT/$name.log" 2>&1 || code=$?
    tail -n 3 "$OUT/$name.log" >&2
    echo "{\"part\": \"$name\", \"exit\": $code, \"seconds\": $((SECONDS - started))}" >>"$OUT/parts.jsonl"
}

# List 1, item 3: every operation and a step of every architecture against the CPU, f32.
right() {
    local status=0
    "$BIN/cube-tests" --test-threads 1 || status=1
    "$BIN/gpu-tests" fused::gpu --test-threads 1 || status=1
    return $status
}

# List 1, item 2: rates of products, attention both ways against the CPU, each kernel beside its composition.
kernels() { "$BIN/gpu-bench" | tee "$OUT/kernels.jsonl"; }

# List 1, item 1: the quick start on both devices; the merged model says on the CPU what the adapter says on the GPU.
quickstart() {
    local status=0
    for dtype in f32 bf16; do
        for device in cpu cuda; do
            "$BIN/trainer" run recipes/cdiv_alpha1.4.toml --set model.device=$device --set model.dtype=$dtype \
                --set "output.dir=$OUT/quick-$device-$dtype" || status=1
        done
    done
    GPU_KERNELS=composed "$BIN/trainer" run recipes/cdiv_alpha1.4.toml --set model.device=cuda --set model.dtype=f32 \
        --set "output.dir=$OUT/quick-composed-f32" || status=1
    "$BIN/trainer" export "$OUT/quick-cuda-f32" --merge --out "$OUT/merged" || status=1
    local prompt
    for prompt in "The" "A"; do
        "$BIN/trainer" sample "$OUT/quick-cuda-f32" --device cuda --temperature 0 --max-tokens 24 --prompt "$prompt" >>"$OUT/greedy-cuda.jsonl" || status=1
        "$BIN/trainer" sample "$OUT/merged" --device cpu --temperature 0 --max-tokens 24 --prompt "$prompt" >>"$OUT/greedy-cpu.jsonl" || status=1
    done
    python3 benches/gpu_compare.py quickstart "$OUT" || status=1
    return $status
}

# List 1, item 2: a run in two halves against one without a break.
resume() {
    local run=(run recipes/cdiv_alpha1.4.toml --set model.device=cuda --set model.dtype=f32 --set 'schedule.kind="constant"' --set checkpoint.every=20)
    "$BIN/trainer" "${run[@]}" --set train.steps=40 --set "output.dir=$OUT/unbroken" &&
        "$BIN/trainer" "${run[@]}" --set train.steps=20 --set "output.dir=$OUT/broken" &&
        "$BIN/trainer" "${run[@]}" --set train.steps=40 --set "output.dir=$OUT/broken" --resume &&
        python3 benches/gpu_compare.py resume "$OUT"
}

# List 1, item 2: memory after 20 and after 200 steps.
memory() {
    local steps
    for steps in 20 200; do
        "$BIN/trainer" bench --json --device cuda --shape smollm2-135m --batch 4 --seq 1024 --dtype bf16 --steps $steps | tail -n 1 | tee -a "$OUT/memory.jsonl"
    done
    python3 benches/gpu_compare.py memory "$OUT"
}

# List 2, item 4: the published shapes, with the kernels, and composed for comparison.
bench() {
    local status=0 shape recompute
    for shape in llama-3.1-8b qwen2.5-7b; do
        for recompute in none blocks; do
            "$BIN/trainer" bench --json --device cuda --shape $shape --batch 2 --seq 4096 --rank 16 --steps 5 --dtype bf16 \
                --recompute $recompute | tail -n 1 | tee -a "$OUT/bench.jsonl" || status=1
        done
    done
    GPU_KERNELS=composed "$BIN/trainer" bench --json --device cuda --shape llama-3.1-8b --batch 2 --seq 4096 --rank 16 --steps 5 \
        --dtype bf16 --recompute blocks | tail -n 1 | tee -a "$OUT/bench-composed.jsonl" || status=1
    return $status
}

# List 2, item 4: PEFT on the same shapes.
peft() {
    local status=0 shape
    for shape in llama-3.1-8b qwen2.5-7b; do
        python3 benches/peft_gpu.py --shape $shape --batch 2 --seq 4096 --rank 16 --steps 5 | tail -n 1 | tee -a "$OUT/peft.jsonl" || status=1
    done
    return $status
}

case "${1:-}" in
pack) pack "$2" ;;
run)
    BIN=$(realpath "$2")
    mkdir -p "$3"
    OUT=$(realpath "$3")
    export BIN OUT
    for name in trainer gpu-tests cube-tests gpu-bench; do
        [ -x "$BIN/$name" ] || { xz -dkc "$BIN/$name.xz" >"$OUT/$name" && chmod +x "$OUT/$name"; }
    done
    [ -x "$BIN/trainer" ] || BIN=$OUT
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$OUT/gpu.txt" 2>&1
    export -f right kernels quickstart resume memory bench peft
    for name in right kernels quickstart resume memory bench peft; do
        part $name bash -c "set -uo pipefail; $name"
    done
    python3 benches/gpu_compare.py summary "$OUT"
    ;;
*)
    sed -n '2,10p' "$0" >&2
    exit 1
    ;;
esac
