#!/usr/bin/env bash
# The kernels' tests as a 64-bit Arm processor computes, with NEON and without, on a machine that has none:
#
#     apt-get install -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
#     rustup target add aarch64-unknown-linux-gnu
#     tools/arm.sh
#
# qemu computes what the processor does, and says nothing of its speed. Tests that start themselves again are left out: nothing
# but qemu starts a program for Arm here.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
for limit in "" portable; do
    KERNELS_LIMIT=$limit cargo test --release --locked -p kernels --lib --target aarch64-unknown-linux-gnu -- \
        --skip lesser_instruction_sets --skip a_limit_that_is_not_known
done
