"""actscope: know, prove and change what happens inside a neural network.

    import actscope as act
    subject = act.load("pocket")
    store = act.capture(subject, act.corpus("notes.txt"), sites=["layers.2.resid_post"], tokens=200_000)
    sae = act.fit(act.method("dictionaries", "topk")(reads=store.ports, n_latents=2048, k=32), store, act.Plan(rows=400_000))
    act.score(sae, subject, store); act.explain(sae, subject, store)

Everything is imported on first use: `import actscope` loads neither torch nor transformers.
"""

import importlib

_PUBLIC = {
    "ActscopeError": "core.errors",
    "Add": "core.intervention",
    "At": "core.intervention",
    "Change": "core.change",
    "Codes": "core.codes",
    "Dictionary": "core.dictionary",
    "Document": "core.corpus",
    "Explanation": "core.explanation",
    "Inputs": "core.inputs",
    "Labels": "core.labels",
    "Mean": "core.intervention",
    "Plan": "training.plan",
    "Port": "core.site",
    "Replace": "core.intervention",
    "Scale": "core.intervention",
    "Score": "core.score",
    "Site": "core.site",
    "Span": "core.corpus",
    "Splice": "core.intervention",
    "Zero": "core.intervention",
    "capture": "stores.capture",
    "corpus": "corpora.files:files",
    "explain": "explainers.rules:rules",
    "fit": "training.fit",
    "generate": "subjects.engine",
    "load": "subjects.load",
    "method": "core.methods:find",
    "open": "core.artifact",
    "save": "core.artifact",
    "score": "scores._all",
    "wrap": "subjects.module",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"actscope has no {name!r}; it has {', '.join(_PUBLIC)}.")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(importlib.import_module(f"actscope.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
