"""A transformers model as a subject. What its family looks like inside stands in `anatomy/<model_type>.py`.

Letters: b batch, t tokens.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from actscope.core import methods
from actscope.core.errors import BadInput
from actscope.core.inputs import Inputs
from actscope.core.intervention import Context
from actscope.core.site import Site
from actscope.subjects._cache import KeyValueCache
from actscope.subjects._clone import hash_weights
from actscope.subjects._experts import experts_in_the_open
from actscope.subjects._given import check, prepared_images, started, told
from actscope.subjects._hooked import LOGITS, HookedSubject, Planned
from actscope.subjects._hooks import Pass, Place, running, standing_in
from actscope.subjects._layout import Layout, layout
from actscope.subjects._rendering import render as rendered
from actscope.subjects._text import Text
from actscope.subjects._unknown import found, prove
from actscope.subjects.anatomy._anatomy import BESIDE_ATTENTION, fitted

__all__ = ["HFSubject"]

_ATTENTION = "actscope"  # the name of our attention function inside transformers


class HFSubject(HookedSubject):
    """A model of transformers. `tokenizer` may be None: then only text is refused.

    The model is put into eval mode and is otherwise left alone. The sites of a family without a file in `anatomy` are found by
    structure and offered only once they are shown to be right. Raises NotAModel saying why where they are not.
    """

    preprocessing: Mapping[str, Any] | None = (
        None  # what it was trained to have done to images, as `corpora.images.images` takes it
    )
    _open = False  # attention runs in the open: also in a run that an intervention of the pass makes

    def __init__(self, model: Any, tokenizer: Any = None, name: str = ""):
        family = model.config.model_type
        known = methods.names("subjects.anatomy")
        if family in known:
            whole: Any = methods.find("subjects.anatomy", family)(model.config)  # type: ignore[operator]
            self.anatomy = fitted(whole, model)
        else:
            self.anatomy = found(model.eval())
        self.causal = self.anatomy.causal
        self.caches = "past_key_values" in self.anatomy.told
        self.tokenizer = tokenizer
        self._text = None if tokenizer is None else Text(tokenizer)
        name = name or model.config.name_or_path or family
        self._embeddings = [tap.place for site, tap in self.anatomy.taps.items() if site.kind == "embed"]
        super().__init__(model.eval(), name, self.anatomy.taps, self.anatomy.missing, self.anatomy.context)
        if family not in known:
            prove(self, family)

    @property
    def begins(self) -> int | None:
        """The token that begins a text, where the model has one."""
        own = getattr(self.tokenizer, "bos_token_id", None)
        return own if own is not None else getattr(self.model.config, "bos_token_id", None)

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a text: the tokenizer's, the config's and those of the model's settings for generating."""
        holders = (self.tokenizer, self.model.config, getattr(self.model, "generation_config", None))
        given = [getattr(holder, "eos_token_id", None) for holder in holders]
        return frozenset(each for one in given if one is not None for each in (one if isinstance(one, list) else [one]))

    def written(self, ids: Iterable[int] | Tensor) -> bytes:
        """The bytes of the text of tokens that follow each other; a character may be several tokens."""
        return "".join(self.pieces(ids)).encode() if self._text is None else self._text.written(ids)

    def _hash(self) -> str:
        return hash_weights(self.weights(), "" if self._text is None else self._text.content)

    def prepare(self, raw: str | Sequence[str] | Tensor) -> Inputs:
        """Tokenize texts: one row each, padded on the right, with offsets; for a model of images, a tensor [b c h w]. Raises
        BadInput without a tokenizer, and for text where images are taken."""
        if self.anatomy.images is not None:
            return prepared_images(raw, self.anatomy.images, self.name)
        if self._text is None:
            raise BadInput(
                f"{self.name} has no tokenizer, so text cannot be run; give token ids, or a folder with tokenizer.json."
            )
        texts: list[Any] = [raw] if isinstance(raw, str) else list(raw)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise BadInput(f"{type(raw).__name__} of {len(texts)} given; expected one text or several.")
        inputs = self._text.encode(texts)
        if self.anatomy.start is None:
            return inputs
        return inputs._replace(decoder=started(inputs, self.anatomy.start, len(texts), torch.device("cpu")))

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """A dialogue of messages {"role", "content"} as the model's own chat template writes it, for `prepare`, which puts the
        first special token there itself where the template writes it too. Raises BadInput for a model without a template, and
        for roles it does not take."""
        if self._text is None or getattr(self.tokenizer, "chat_template", None) is None:
            raise BadInput(f"{self.name} has no chat template; give a chat model's folder, or write the dialogue out as text.")
        try:
            template = self.tokenizer.get_chat_template()
            text = rendered(template, messages, self.tokenizer.special_tokens_map)
        except (BadInput, ValueError) as error:  # ValueError: several templates and none of them the usual one
            raise BadInput(f"The chat template of {self.name} refuses this dialogue ({str(error):.200}).") from error
        first = self.tokenizer.bos_token
        put = self._text.backend.encode("").tokens
        return text[len(first) :] if first and put[:1] == [first] and text.startswith(first) else text

    def pieces(self, ids: Iterable[int] | Tensor) -> list[str]:
        """The text of each token; "<17>" for ids that stand for no text."""
        return [f"<{int(number)}>" for number in ids] if self._text is None else self._text.pieces(ids)

    def _inputs(self, raw: Tensor) -> Inputs:
        return Inputs(ids=raw) if self.anatomy.images is None else Inputs(pixels=raw)

    def _execute(
        self, inputs: Inputs, plan: Planned, needed: set[Place], wanted: tuple[Site, ...], grad: bool, cache: Any,
        decoding: bool = False,
    ) -> tuple[Tensor | None, Pass, Any]:  # fmt: skip
        device, tokens = self.device, check(inputs, self.anatomy, self.name)
        self._check_cache(cache)
        if any(value is not None and value.device != device for value in inputs):
            inputs = inputs.to(str(device))
        before = cache if isinstance(cache, KeyValueCache) else None
        laid = layout(
            inputs, tokens, past=before.length if before else 0, past_mask=before.mask if before else None,
            past_document=before.document if before else None, context=self.context,
            causal=self.causal and self.anatomy.start is None,
        )  # fmt: skip
        past = (before.past if decoding else before.opened()) if before else _new_cache() if cache else None
        step = before.steps + 1 if before else 0

        def context(stack: str) -> Context:
            positions, mask = laid.now(tokens, device)
            if stack == "decoder":
                decoder = started(inputs, self.anatomy.start or 0, tokens[0], device)
                positions = torch.arange(decoder.shape[1], device=device).expand_as(decoder)
                mask = torch.ones_like(decoder, dtype=torch.bool)
            return Context({}, inputs, positions, mask, step)

        if past is not None and self.anatomy.latent:
            self._check_latent(plan)
        stops = bool(needed) and past is None and LOGITS not in wanted
        this = Pass(plan, needed, context=context, grad=grad, stops=stops, tokens=tokens)
        logits_asked = not wanted or LOGITS in wanted
        whole = logits_asked or any(not path.startswith(self.model.base_model_prefix) for path, _ in needed)
        if logits_asked:
            this.stops = False
        last = decoding and self.taps[LOGITS].place not in plan
        inside = any(side not in ("in", "out") for _, side in plan) or self._open
        quick = decoding and not plan and not grad and not self._remakes and not inside
        spared = self._spared(this, plan) if this.stops else contextlib.nullcontext()
        with torch.inference_mode() if quick else self._opened(this, past, plan) if inside else spared:
            output = self._forward(this, lambda: self._call(this, inputs, tokens, laid, past, whole=whole, last=last))
        logits = output.logits if logits_asked and LOGITS in self.taps else None
        after = None if past is None else KeyValueCache(past, laid.mask, laid.document, step)
        return logits, this, after

    def _call(
        self, this: Pass, inputs: Inputs, tokens: tuple[int, int], laid: Layout, past: Any, *, whole: bool, last: bool
    ) -> Any:
        """The model's own forward; without its vocabulary projection unless `whole`, with that of one token where `last`."""
        mask = self._masks(laid, one=tokens[1] == 1 and inputs.mask is None)
        given = told(inputs, self.anatomy, laid, tokens, mask, past, self.device)
        module = self.model if whole else self.model.base_model
        if last and whole and tokens[1] > 1 and self._keeps_logits:
            given["logits_to_keep"] = 1
        roots = [self.modules[path] for path, _ in self._embeddings]
        if inputs.embeds is not None:
            given["inputs_embeds"], roots = self._embeds(this, inputs.embeds), roots[1:]
        elif inputs.pixels is not None:
            given["pixel_values"] = inputs.pixels
        else:
            given["input_ids"] = inputs.ids
        try:
            with _rooted(roots):
                return module(**given)
        except IndexError as error:
            ids = [x.flatten() for x in (inputs.ids, inputs.decoder) if x is not None]
            low, high = (int(torch.cat(ids).min()), int(torch.cat(ids).max())) if ids else (0, 0)
            if low >= 0 and high < self.model.config.vocab_size:
                raise
            raise BadInput(
                f"Token ids {low} to {high} given; {self.name} knows 0 to {self.model.config.vocab_size - 1}."
            ) from error

    def _masks(self, laid: Layout, *, one: bool) -> Tensor | dict[str, Tensor] | None:
        """What the model is told of who sees whom. Windows are counted in real tokens, where the model counts slots: after a
        cache with padding, and where the mask is written out anyway, they are written into it."""
        attention, windows = laid.attention, self.anatomy.windows
        if one and laid.past and windows is None and attention is not None and attention.dim() == 2 and self._takes_maps:
            return self._given(attention[:, None, None, :])  # what the model would make of it, at once
        if attention is None or (attention.dim() == 2 and (windows is None or not laid.past)):
            return attention
        if isinstance(windows, Mapping):
            return {kind: self._given(laid.narrowed(window)) for kind, window in windows.items()}
        return self._given(laid.narrowed(windows))

    @functools.cached_property
    def _keeps_logits(self) -> bool:
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters

    @functools.cached_property
    def _remakes(self) -> bool:
        """Whether the model makes buffers anew while it runs: they must not be inference tensors."""
        kinds = str(getattr(self.model.config, "rope_parameters", None))
        return "dynamic" in kinds or "longrope" in kinds

    @property
    def _takes_maps(self) -> bool:
        return self.model.config._attn_implementation in ("sdpa", "eager", _ATTENTION)

    def _given(self, seen: Tensor) -> Tensor:
        """A mask written out, as the model's attention takes it."""
        if self.model.config._attn_implementation not in ("eager", _ATTENTION):
            return seen
        nothing = torch.zeros(seen.shape, dtype=self.model.dtype, device=seen.device)
        return nothing.masked_fill(~seen, torch.finfo(self.model.dtype).min)

    def _embeds(self, this: Pass, embeds: Tensor) -> Tensor:
        """Vectors given in place of ids, after what is done at the site `embed`."""
        place = self._embeddings[0]
        if torch.is_grad_enabled() and not embeds.requires_grad:
            embeds = embeds.detach().requires_grad_(True)
        return this.visit(place, embeds, self.modules[place[0]], embeds) if place in this.steps else embeds

    @contextlib.contextmanager
    def _opened(self, this: Pass, past: Any, plan: Planned) -> Iterator[None]:
        """Inside, what is computed inside modules runs in the open."""
        with self._attention(this, past, plan), experts_in_the_open(this, plan, self.modules):
            yield

    @contextlib.contextmanager
    def _spared(self, this: Pass, plan: Planned) -> Iterator[None]:
        """Inside, the last block of a pass that stops there leaves out attention that no site of the plan follows from."""
        sites = [step.site for steps in plan.values() for step in steps]
        last = max((site.layer for site in sites if site.layer is not None), default=-1)
        elsewhere = any(
            site.layer is None and site.kind != "embed" for site in sites
        )  # behind all blocks, or a module's own side
        follows = any(site.layer == last and site.kind not in BESIDE_ATTENTION for site in sites)
        paths = [path for path, layer in self.anatomy.attention.items() if layer == last]
        if not self.anatomy.parallel or elsewhere or follows:
            paths = []
        with contextlib.ExitStack() as stack:
            for path in paths:
                module = self.modules[path]
                stack.enter_context(standing_in(module, "forward", _within(this, _nothing, module.forward)))
            yield

    @contextlib.contextmanager
    def _attention(self, this: Pass, past: Any, plan: Planned) -> Iterator[None]:
        """Inside, attention runs in the open where a site inside it is read or written."""
        inside = {path for path, side in plan if side not in ("in", "out") and path in self.anatomy.attention}
        if inside and self.anatomy.method:
            with self._own_attention(this, past, inside):
                yield
            return
        if not inside and not self._open:
            yield
            return
        _register()
        configs: dict[int, Any] = {
            id(config): config for config in (self.modules[path].config for path in self.anatomy.attention)
        }
        configs[id(self.model.config)] = self.model.config
        originals = {key: config._attn_implementation for key, config in configs.items()}
        paths = {id(self.modules[path]): path for path in self.anatomy.attention}
        this.attend = lambda module, *args, **kwargs: self._attend(
            this, past, paths.get(id(module), ""), module, *args, **kwargs
        )
        outer, self._open = self._open, True
        try:
            for config in configs.values():
                config._attn_implementation = _ATTENTION
            yield
        finally:
            self._open = outer
            for key, config in configs.items():
                config._attn_implementation = originals[key]

    @contextlib.contextmanager
    def _own_attention(self, this: Pass, past: Any, inside: set[str]) -> Iterator[None]:
        """The same for a family whose attention is a method of its modules."""
        method = self.anatomy.method
        with contextlib.ExitStack() as stack:
            for path in inside:
                module = self.modules[path]
                opened = functools.partial(self._attend, this, past, path, module)
                native = getattr(module, method)
                stack.enter_context(standing_in(module, method, _within(this, opened, native)))
            yield

    def _attend(
        self, this: Pass, past: Any, path: str, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
        **given: Any,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        def visit(kind: str, x: Tensor) -> Tensor:
            place = (path, kind)
            if place not in this.steps:
                return x
            if kind not in ("k_rot", "v"):
                return this.visit(place, x, module, x)
            old = x.shape[2] - query.shape[2]  # those of cached tokens are not this run's to read or write
            now = x[:, :, old:]
            new = this.visit(place, now, module, now)
            if new is now:
                return x
            x = torch.cat([x[:, :, :old], new], dim=2)
            if past is not None and not self.anatomy.latent:
                past.layers[self.anatomy.attention[path]].keys = x
            return x

        known = {name: value for name, value in given.items() if name in ("scaling", "dropout", "softcap", "position_bias")}
        return self.anatomy.attend(module, query, key, value, mask, **known, visit=visit)

    def _check_latent(self, plan: Planned) -> None:
        lost = [step.site for (_, side), steps in plan.items() if side in ("k_rot", "v") for step in steps if step.writes]
        if lost:
            raise BadInput(
                f"A write at {lost[0]} with a cache was asked for; the cache of {self.name} holds latents, from which keys and "
                "values are made anew at every step, so the write would be lost. Run without a cache, or write at attn_in."
            )

    def _check_cache(self, cache: Any) -> None:
        if not (cache is None or isinstance(cache, bool | KeyValueCache)):
            raise BadInput(f"cache={type(cache).__name__}; expected True for a new cache, or the one an earlier run gave.")
        if cache and "past_key_values" not in self.anatomy.told:
            raise BadInput(f"{self.name} keeps no keys and values to run on from; run it on whole inputs, without cache=.")


def _nothing(*args: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
    """What an attention module gives, where nothing that is looked at follows from it."""
    given = args[0] if args else kwargs["hidden_states"]
    return given.new_zeros(()).expand_as(given), None


@contextlib.contextmanager
def _rooted(embeddings: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Inside, with gradients on, embeddings need grad although the weights may not, so that every site has a graph."""
    if not torch.is_grad_enabled():
        yield
        return

    def root(_module: Any, _args: Any, x: Tensor) -> Tensor:
        return x if x.requires_grad else x.requires_grad_(True)

    handles = [embedding.register_forward_hook(root, prepend=True) for embedding in embeddings]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _within(this: Pass, opened: Callable, native: Callable) -> Callable:
    """`opened` while this pass runs, `native` in a run that an intervention of it makes."""
    return lambda *args, **given: (opened if running() is this else native)(*args, **given)


def _new_cache() -> Any:
    """One that keeps every token, where a layer looks at a window too: a cache can be cut and packed anywhere."""
    from transformers import DynamicCache

    return DynamicCache()


def _register() -> None:
    """Make our attention function known to transformers, with the masks of its eager one."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    if _ATTENTION not in AttentionInterface._global_mapping:
        AttentionInterface.register(_ATTENTION, _attend)
        AttentionMaskInterface.register(_ATTENTION, eager_mask)


def _attend(module: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    this = running()
    assert this is not None and this.attend is not None, "our attention function runs only inside a pass"
    return this.attend(module, *args, **kwargs)
