"""Capturing what an MLP gives, by one system in an environment of its own.

`python -m benchmarks.peers.child_capture SYSTEM TASK '{...}'`, answered by JSON on stdout. The model is GPT-NeoX of the shape
of Pythia-70m with random weights; what is captured is the MLP's output in block 3 of 6. Standard library, torch, transformers
and the system alone.
    rounds   seconds of capturing the tokens, and of the same by hand, each round one after the other: embedding and blocks 0
             to 3 in chunks of 8 sequences into an array made before
    memory   how far one capture lets the process rise, in MiB, in a process that has done nothing else
Letters: b sequences, t tokens of each.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.peers._child import memory
from torch import Tensor

LAYER, CHUNK = 3, 8
SHAPE = {
    "vocab_size": 50304, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048,
    "max_position_embeddings": 2048,
}  # fmt: skip
Capture = Callable[[Tensor], Any]


def model() -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)).eval().requires_grad_(False)


def by_hand(net: Any) -> Capture:
    """The floor: no more than the arithmetic."""
    base = net.gpt_neox

    @torch.no_grad()
    def run(ids: Tensor) -> Tensor:
        out = torch.empty(*ids.shape, SHAPE["hidden_size"])
        places = torch.arange(ids.shape[1])[None]
        held: list[Tensor] = []
        hook = base.layers[LAYER].mlp.register_forward_hook(lambda _m, _a, x: held.append(x))
        for start in range(0, len(ids), CHUNK):
            x = base.embed_in(ids[start : start + CHUNK])
            turns = base.rotary_emb(x, places)
            for block in base.layers[: LAYER + 1]:
                x = block(x, attention_mask=None, position_embeddings=turns)
                x = x[0] if isinstance(x, tuple) else x
            out[start : start + CHUNK] = held.pop()
        hook.remove()
        return out

    return run


def actscope(net: Any, sites: int) -> Capture:
    """`act.capture` of texts into memory, end to end: tokenizing, running, rows and what a store holds beside them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from actscope.corpora.texts import texts
    from actscope.stores.capture import capture
    from actscope.subjects.hf import HFSubject

    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(SHAPE["vocab_size"])}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    subject = HFSubject(net, PreTrainedTokenizerFast(tokenizer_object=words), "neox")
    read = [f"layers.{layer}.mlp_out" for layer in range(LAYER - sites + 1, LAYER + 1)]

    def run(ids: Tensor) -> Any:
        written = texts([" ".join(f"w{number}" for number in row) for row in ids.tolist()])
        store = capture(subject, written, read, context=ids.shape[1])
        rows = next(iter(store.batches([read[-1]], ids.numel())))
        return next(iter(rows.acts.values())).view(*ids.shape, -1)

    return run


def actscope_run(net: Any, sites: int) -> Capture:
    """`subject.run` alone, a chunk at a time into an array made before."""
    from actscope.subjects.hf import HFSubject

    subject = HFSubject(net, None, "neox")
    read = [f"layers.{layer}.mlp_out" for layer in range(LAYER - sites + 1, LAYER + 1)]

    @torch.no_grad()
    def run(ids: Tensor) -> Tensor:
        out = torch.empty(sites, *ids.shape, SHAPE["hidden_size"])
        for start in range(0, len(ids), CHUNK):
            acts = subject.run(ids[start : start + CHUNK], read=read).acts
            for number, x in enumerate(acts.values()):
                out[number, start : start + CHUNK] = x
        return out[-1]

    return run


def nnsight(net: Any, sites: int) -> Capture:
    """A trace that saves the output and stops."""
    from nnsight import NNsight

    wrapped = NNsight(net)

    @torch.no_grad()
    def run(ids: Tensor) -> Tensor:
        with wrapped.trace(ids, use_cache=False) as tracer:
            found = wrapped.gpt_neox.layers[LAYER].mlp.output.save()
            tracer.stop()
        return found

    return run


def transformer_lens(net: Any, sites: int) -> Capture:
    """run_with_cache of one name that stops after the block, on its own model of the same shape."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    config = HookedTransformerConfig(
        n_layers=6, d_model=512, n_heads=8, d_head=64, d_mlp=2048, n_ctx=2048, d_vocab=50304, act_fn="gelu",
        positional_embedding_type="rotary", rotary_dim=16, parallel_attn_mlp=True, normalization_type="LN", device="cpu",
    )  # fmt: skip
    hooked, name = HookedTransformer(config).eval(), f"blocks.{LAYER}.hook_mlp_out"

    @torch.no_grad()
    def run(ids: Tensor) -> Tensor:
        return hooked.run_with_cache(ids, names_filter=name, stop_at_layer=LAYER + 1)[1][name]

    return run


SYSTEMS = {one.__name__: one for one in (actscope, actscope_run, nnsight, transformer_lens)}


def in_chunks(capture: Capture) -> Capture:
    def run(ids: Tensor) -> Tensor:
        out = torch.empty(*ids.shape, SHAPE["hidden_size"])
        for start in range(0, len(ids), CHUNK):
            out[start : start + CHUNK] = capture(ids[start : start + CHUNK])
        return out

    return run


def rounds(system: str, b: int, t: int, count: int, sites: int, chunks: bool) -> dict[str, Any]:
    """{"system", "floor": seconds of each round; "apart": the largest distance of the two, where the weights are the same}."""
    net = model()
    ids = torch.randint(0, SHAPE["vocab_size"], (b, t), generator=torch.Generator().manual_seed(1))
    capture, floor = SYSTEMS[system](net, sites), by_hand(net)
    capture = in_chunks(capture) if chunks else capture
    found: dict[str, Any] = {"system": [], "floor": []}
    for number in range(count + 1):
        began = time.perf_counter()
        mine = capture(ids)
        between = time.perf_counter()
        wanted = floor(ids)
        ended = time.perf_counter()
        if number:
            found["system"].append(between - began)
            found["floor"].append(ended - between)
    return found | {"apart": None if system == "transformer_lens" else float((mine - wanted).abs().max())}


def rise(system: str, b: int, t: int, sites: int, chunks: bool) -> dict[str, float]:
    net = model()
    ids = torch.randint(0, SHAPE["vocab_size"], (b, t), generator=torch.Generator().manual_seed(1))
    capture = SYSTEMS[system](net, sites)
    capture = in_chunks(capture) if chunks else capture
    capture(ids[:1, :8])  # imports and first allocations
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak counts from here
    before = memory("VmRSS:")
    capture(ids)
    return {"mib": (memory("VmHWM:") - before) / 1024}


if __name__ == "__main__":
    task = {"rounds": rounds, "memory": rise}[sys.argv[2]]
    sys.stdout.write("\n" + json.dumps(task(sys.argv[1], **json.loads(sys.argv[3]))) + "\n")
