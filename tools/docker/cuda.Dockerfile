# The program for NVIDIA GPUs: `docker build -f tools/docker/cuda.Dockerfile -t trainer-cuda .`, then
# `docker run --rm --gpus all -v "$PWD:/work" -v "$HOME/.cache/huggingface:/cache" trainer-cuda run recipe.toml`.
FROM rust:1.95-bullseye AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --features cuda --bin trainer

# Kernels are compiled where they run: NVRTC and the headers of CUDA are in the `devel` image.
FROM nvidia/cuda:12.8.1-devel-ubuntu22.04
COPY --from=build /source/target/release/trainer /usr/local/bin/trainer
ENV HF_HOME=/cache
WORKDIR /work
ENTRYPOINT ["trainer"]
