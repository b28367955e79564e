# The program for CPUs: `docker build -f tools/docker/cpu.Dockerfile -t trainer .`, then
# `docker run --rm -v "$PWD:/work" -v "$HOME/.cache/huggingface:/cache" trainer run recipe.toml`.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --workspace --bin trainer

# No compiler and no Python: the program is one file, and needs the C library alone.
FROM debian:bookworm-slim
COPY --from=build /source/target/release/trainer /usr/local/bin/trainer
ENV HF_HOME=/cache
WORKDIR /work
ENTRYPOINT ["trainer"]
