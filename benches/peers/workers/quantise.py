"""
    python quantise.py MODEL.gguf OUT

The same weights in the other types of the comparison, OUT/{f32,bf16,q8_0}.gguf, by llama.cpp's own quantiser.
"""

import sys
from pathlib import Path

import llama_cpp

# llama_ftype of llama.h.
TYPES = {"f32": 0, "bf16": 32, "q8_0": 7}

quiet = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
llama_cpp.llama_log_set(quiet, None)
source, out = Path(sys.argv[1]), Path(sys.argv[2])
for name, ftype in TYPES.items():
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ftype
    params.allow_requantize = True
    target = out / f"{name}.gguf"
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params):
        raise SystemExit(f"{target}: llama.cpp could not write it")
