"""actscope explain"""

from pathlib import Path

__all__ = ["explain"]


def explain(
    dictionary: Path,
    store: Path,
    *,
    model: str = "pocket",
    out: Path | None = None,
    method: str = "rules",
    latents: list[int] | None = None,
    contexts: int | None = None,
    show: int = 30,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    json: bool = False,
    dry_run: bool = False,
    **settings: str,
) -> None:
    """Say in words what the latents of a dictionary fire on, and how well that tells where they do.

    Proposes on one part of the store's documents and reports on another. Any setting of the method is a flag too, such as
    --leaves 2 of rules.

    actscope explain runs/sae acts --model pocket --out runs/explained

    A language model is asked by --method language_model --explainer-model NAME --endpoint http://localhost:8000/v1 (any server
    that speaks the OpenAI protocol; without --endpoint NAME is loaded here). --price-in 0.15 --price-out 0.60 say what a
    million tokens cost, --budget 5 what all may cost; --judge none leaves labels unjudged; --concurrent 4 asks so many at a
    time; --key-env names the variable that holds the server's key, ACTSCOPE_API_KEY. Answers are kept in OUT.ledger: the same
    command goes on where it was stopped and pays for nothing twice.

    Args:
        dictionary: the saved dictionary.
        store: the captured store; best of documents the dictionary was not trained on.
        model: the subject both were made with.
        out: folder to save the explanations in.
        method: how to explain; `actscope methods explainers` lists them.
        latents: which to explain; all when left out.
        contexts: active and inactive contexts a latent needs in each part; as many as the method says when left out.
        show: how many to print.
        seed: of the split of the documents and of all sampling.
        device: where the model stands, "cpu" or "cuda".
        dtype: of the model.
        json: print one JSON document and nothing else.
        dry_run: say what would be done, and what a language model would cost at most; do nothing.
        settings: the method's own settings.
    """
    from actscope.cli import _explained

    run = _explained.Run(dictionary, store, model, method, out, show, seed, device, dtype, json, dry_run)
    run.do(latents, contexts, settings)
