#!/usr/bin/env bash
# What a machine with an NVIDIA GPU shows of this program, in one command and without Rust or a network there.
#
#     tools/gpu.sh pack DIR            # here: builds for CUDA and leaves programs, tests and bench in DIR/gpu.tar.xz
#     tools/gpu.sh run DIR OUT         # there, in a copy of this folder: unpacks, runs everything, leaves the results in OUT
#
# OUT has two files: summary.json says of each part whether it passed, results.tar.gz holds the numbers and what was printed.
# Parts are run even when an earlier one failed. `PARTS="right bench"` runs some of them, `MINUTES=8` limits each (5 is usual),
# `BUDGET=540` all of them, in seconds: what is left of it limits a part, and parts that it leaves no time are named. Programs
# and results stay in WORK (usually /tmp/trainer-gpu), so that several calls add up to one summary. For the comparison with
# PEFT, Python with torch and transformers, and peft on PYTHONPATH.
set -uo pipefail
cd "$(dirname "$0")/.."
ALL="right quickstart kernels bench peft resume memory"

# The programs of the checks take burn's kernels untried: to try some twenty for each shape takes a minute and more in each process.
# Those of the measurements try them, as a run does.
pack() {
    set -e
    local folder
    folder=$(mktemp -d)
    # The file that a cargo command has just made.
    made() { "$@" --locked --message-format=json-render-diagnostics |
        python3 -c 'import json,sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])'; }
    cp "$(made cargo build --release --features cuda --bin trainer)" "$folder/trainer"
    cp "$(made cargo bench --features cuda --bench gpu --no-run)" "$folder/gpu-bench"
    cp "$(made cargo build --release --features cuda-untuned --bin trainer)" "$folder/trainer-untuned"
    cp "$(made cargo test --release -p trainer --features cuda-untuned --lib --no-run)" "$folder/gpu-tests"
    cp "$(made cargo test --release -p backbone --features cuda-untuned --lib --no-run)" "$folder/operation-tests"
    cp "$(made cargo test --release -p cube --features cuda --test device --no-run)" "$folder/cube-tests"
    strip "$folder"/*
    mkdir -p "$1"
    # The programs are mostly the same code: a window that reaches from one to the next keeps it once.
    tar -C "$folder" -c . | xz -T1 --lzma2=preset=6,dict=512MiB >"$1/gpu.tar.xz"
    rm -r "$folder"
    ls -l "$1"
}

# Runs a part within its time, its output kept, and notes how it ended.
part() {
    local name=$1 code=0 started=$SECONDS limit=$((${MINUTES:-5} * 60)) left=$((${BUDGET:-86400} - SECONDS))
    case " ${PARTS:-$ALL} " in *" $name "*) ;; *) return 0 ;; esac
    if [ "$left" -lt 20 ]; then
        echo "{\"part\": \"$name\", \"exit\": null, \"seconds\": 0}" >>"$RESULTS/parts.jsonl"
        return 0
    fi
    echo "== $name" >&2
    timeout -k 5 $((limit < left ? limit : left)) bash -c "set -uo pipefail; $name" >"$RESULTS/$name.log" 2>&1 || code=$?
    tail -n 3 "$RESULTS/$name.log" >&2
    echo "{\"part\": \"$name\", \"exit\": $code, \"seconds\": $((SECONDS - started))}" >>"$RESULTS/parts.jsonl"
}

# List 1, item 3: every operation and a step of every architecture against the CPU, f32; of adapters with trained lengths and
# of matrices in 8 and 4 bits, too. Kernels first: they are compiled in seconds.
right() {
    local status=0
    "$BIN/cube-tests" --test-threads 1 || status=1
    "$BIN/operation-tests" gpu --test-threads 1 || status=1
    "$BIN/gpu-tests" gpu --test-threads 1 || status=1
    return $status
}

# List 1, item 2: rates of products, attention both ways against the CPU, each kernel beside its composition.
kernels() { "$BIN/gpu-bench" | tee "$RESULTS/kernels.jsonl"; }

# A run of the quick start: its name, then what differs.
quick() {
    local name=$1
    shift
    rm -rf "${RESULTS:?}/$name"
    "$BIN/trainer-untuned" run recipes/cdiv_alpha1.4.toml --set eval.every=0 --set "output.dir=$RESULTS/$name" "$@"
}

# List 1, item 1: the quick start on both devices; the merged model says on the CPU what the adapter says on the GPU.
quickstart() {
    local status=0 device dtype variant
    for device in cpu cuda; do
        for dtype in f32 bf16; do
            quick "quick-$device-$dtype" --set model.device=$device --set model.dtype=$dtype || status=1
        done
    done
    for device in cpu cuda; do
        quick "quick-$device-nf4" --set model.device=$device --set model.dtype=f32 --set model.quantize=nf4 \
            --set model.quantize_rows=0 --set train.steps=20 || status=1
        quick "quick-$device-dora" --set model.device=$device --set model.dtype=f32 --set adapter.kind=dora \
            --set train.steps=20 || status=1
    done
    GPU_KERNELS=composed quick quick-composed-f32 --set model.device=cuda --set model.dtype=f32 || status=1
    rm -rf "${RESULTS:?}/merged" "$RESULTS"/greedy-*.jsonl
    "$BIN/trainer-untuned" export "$RESULTS/quick-cuda-f32" --merge --out "$RESULTS/merged" || status=1
    local prompt
    for prompt in "The" "A"; do
        "$BIN/trainer-untuned" sample "$RESULTS/quick-cuda-f32" --device cuda --temperature 0 --max-tokens 24 --prompt "$prompt" >>"$RESULTS/greedy-cuda.jsonl" || status=1
        "$BIN/trainer-untuned" sample "$RESULTS/merged" --device cpu --temperature 0 --max-tokens 24 --prompt "$prompt" >>"$RESULTS/greedy-cpu.jsonl" || status=1
    done
    python3 tools/gpu_compare.py quickstart "$RESULTS" || status=1
    return $status
}

# List 1, item 2: a run in two halves against one without a break.
resume() {
    local set=(--set model.device=cuda --set model.dtype=f32 --set 'schedule.kind="constant"' --set schedule.warmup=0 --set checkpoint.every=20)
    quick unbroken "${set[@]}" --set train.steps=40 &&
        quick broken "${set[@]}" --set train.steps=20 &&
        "$BIN/trainer-untuned" run recipes/cdiv_alpha1.4.toml --set eval.every=0 --set "output.dir=$RESULTS/broken" "${set[@]}" --set train.steps=40 --resume &&
        python3 tools/gpu_compare.py resume "$RESULTS"
}

# List 1, item 2: memory after 20 and after 200 steps.
memory() {
    local steps
    rm -f "$RESULTS/memory.jsonl"
    for steps in 20 200; do
        "$BIN/trainer-untuned" bench --json --device cuda --shape smollm2-135m --batch 4 --seq 1024 --dtype bf16 --steps $steps | tail -n 1 | tee -a "$RESULTS/memory.jsonl"
    done
    python3 tools/gpu_compare.py memory "$RESULTS"
}

# List 2, item 4: the published shapes, with the kernels, and composed for comparison; a base in 4 bits.
bench() {
    local status=0 shape
    measure() { "$BIN/trainer" bench --json --device cuda --batch 2 --seq 4096 --rank 16 --steps 5 --dtype bf16 "$@" | tail -n 1; }
    for shape in llama-3.1-8b qwen2.5-7b; do
        measure --shape $shape | tee -a "$RESULTS/bench.jsonl" || status=1
    done
    measure --shape llama-3.1-8b --recompute blocks | tee -a "$RESULTS/bench.jsonl" || status=1
    GPU_KERNELS=composed measure --shape llama-3.1-8b --recompute blocks | tee -a "$RESULTS/bench-composed.jsonl" || status=1
    measure --shape llama-3.1-8b --quantize nf4 | tee -a "$RESULTS/bench-nf4.jsonl" || status=1
    return $status
}

# List 2, item 4: PEFT on the same shapes.
peft() {
    local status=0 shape
    for shape in llama-3.1-8b qwen2.5-7b; do
        python3 tools/peft_gpu.py --shape $shape --batch 2 --seq 4096 --rank 16 --steps 5 | tail -n 1 | tee -a "$RESULTS/peft.jsonl" || status=1
    done
    return $status
}

case "${1:-}" in
pack) pack "$2" ;;
run)
    BIN=${WORK:-/tmp/trainer-gpu}/bin RESULTS=${WORK:-/tmp/trainer-gpu}/results
    export BIN RESULTS
    mkdir -p "$BIN" "$RESULTS" "$3"
    [ -x "$BIN/cube-tests" ] || xz -dc "$2/gpu.tar.xz" | tar -x -C "$BIN" || exit 1
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$RESULTS/gpu.txt" 2>&1
    export -f right quick quickstart kernels bench peft resume memory
    for name in $ALL; do
        part "$name"
        # After each: a call that is stopped from outside leaves what there is.
        python3 tools/gpu_compare.py summary "$RESULTS" >/dev/null && cp "$RESULTS/summary.json" "$3"
        tar -C "$RESULTS" --exclude='*.safetensors' --exclude='*.bin' -czf "$3/results.tar.gz" .
    done
    cat "$3/summary.json"
    ;;
*)
    sed -n '2,13p' "$0" >&2
    exit 1
    ;;
esac
