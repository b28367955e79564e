"""Registers, stack frames, spills and shared memory of the kernels in CUDA C++, as NVIDIA's compilers say, on a machine without a GPU.

    python3 -m venv VENV && VENV/bin/pip install nvidia-cuda-nvcc nvidia-cuda-nvrtc
    VENV/bin/python tools/registers.py [80 89 90a]

Writes what the table of docs/performance.md is made of; ends with 1 where a kernel has a stack frame or spills 64 bytes and more. The tiles are those
that `Variant::of` in cube/src/attention.rs takes first on a device of that architecture.
"""

import ctypes
import glob
import os
import re
import subprocess
import sys
import sysconfig
import tempfile

HOME = os.path.join(sysconfig.get_paths()["purelib"], "nvidia", "cu13")
SOURCES = os.path.join(os.path.dirname(__file__), "..", "cube", "src", "attention")
# Bytes of shared memory that a block may ask for.
MOST = {"80": 163 << 10, "86": 99 << 10, "89": 99 << 10, "90a": 227 << 10, "100a": 227 << 10}
WIDTHS = [64, 80, 96, 128, 256]


def variant(kernel, width, is_float, most):
    """Rows, rows of the others, stages and bytes, as cube/src/attention.rs chooses them."""
    size, spare = (4, 4) if is_float else (2, 8)
    if is_float:
        choices = [(32, 32, 1)]
    elif kernel == "forward":
        choices = [(64, 64, 1), (32, 32, 1)]
    elif width > 128:
        choices = [(64, 32, 2), (64, 32, 1), (32, 32, 1)]
    else:
        choices = [(64, 64, 2), (64, 64, 1), (32, 32, 1)]
    for rows, other, stages in choices:
        tile, shares = width + spare, rows * (other + spare)
        if kernel == "forward":
            numbers = (rows + 2 * other) * tile + (shares if is_float else 0)
        else:
            numbers = 2 * (rows + stages * other) * tile + shares * (2 if kernel == "keys" else 1)
        if numbers * size <= most:
            return rows, other, stages, numbers * size
    return None


def read(name):
    with open(os.path.join(SOURCES, name)) as file:
        return file.read()


def ptx(nvrtc, source, architecture):
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    option = (ctypes.c_char_p * 1)(f"--gpu-architecture=compute_{architecture}".encode())
    failed = nvrtc.nvrtcCompileProgram(program, 1, option)
    get = ("nvrtcGetProgramLog", "nvrtcGetProgramLogSize") if failed else ("nvrtcGetPTX", "nvrtcGetPTXSize")
    size = ctypes.c_size_t()
    getattr(nvrtc, get[1])(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, get[0])(program, text)
    if failed:
        sys.exit(text.value.decode())
    return text.value


def measure(nvrtc, source, architecture, folder):
    path = os.path.join(folder, "kernel.ptx")
    with open(path, "wb") as file:
        file.write(ptx(nvrtc, source, architecture))
    words = [os.path.join(HOME, "bin", "ptxas"), "-v", f"-arch=sm_{architecture}", path, "-o", os.path.join(folder, "kernel.cubin")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    registers = int(re.search(r"Used (\d+) registers", said)[1])
    stack, stores, loads = map(int, re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said).groups())
    return registers, stack, stores + loads


def main():
    architectures = sys.argv[1:] or ["80", "89", "90a"]
    nvrtc = ctypes.CDLL(glob.glob(os.path.join(HOME, "lib", "libnvrtc.so.*"))[0])
    common, bad = read("common.cuh"), 0
    print("| kernel | type | width | sm | rows, others, stages | shared | registers | stack | spills |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kernel in ["forward", "queries", "keys"]:
            for is_float in [0, 1]:
                for width in WIDTHS:
                    for architecture in architectures:
                        chosen = variant(kernel, width, is_float, MOST[architecture])
                        if chosen is None:
                            continue
                        rows, other, stages, shared = chosen
                        worst = (0, 0, 0)
                        for packed in [0, 1]:
                            constants = {"D": width, "ROWS": rows, "OTHER": other, "STAGES": stages, "FLOAT": is_float, "PACKED": packed}
                            source = "".join(f"#define {name} {value}\n" for name, value in constants.items()) + common + read(f"{kernel}.cu")
                            worst = tuple(map(max, worst, measure(nvrtc, source, architecture, folder)))
                        registers, stack, spills = worst
                        bad += stack > 0 or spills >= 64
                        kind = "f32" if is_float else "bf16"
                        tiles = f"{rows}, {other}, {stages}"
                        print(f"| {kernel} | {kind} | {width} | {architecture} | {tiles} | {shared} | {registers} | {stack} | {spills} |", flush=True)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
