"""A subject of one attention layer over bytes, without transformers: fast to start, and exact about what it attends to.

Letters: b batch, t tokens, d width, h heads.
"""

import hashlib
import time

import torch

from actscope.core.inputs import SPECIAL, TEXT, Inputs, Run
from actscope.core.site import Site, SiteInfo

D, H = 24, 3
EMBED, Z, OUT, PATTERN, LOGITS = Site("embed"), Site("z", 0), Site("resid_post", 0), Site("attn_pattern", 0), Site("logits")


class TinySubject:
    name, context, causal = "tiny", 32, True
    missing: dict = {}

    def __init__(self, seed: int = 0, *, poison: str = "", pause: float = 0.0, end: bool = False):
        """poison: a letter whose activations are NaN. pause: seconds a run takes. end: texts end in a special token too."""
        draw = torch.Generator().manual_seed(seed)
        self.embedding = torch.randn(258, D, generator=draw)
        self.mixing = torch.randn(D, D, generator=draw) / D**0.5
        self.head = torch.randn(D, 258, generator=draw) / D**0.5
        if poison:
            self.embedding[ord(poison) + 1] = float("nan")
        self.pause, self.end = pause, end
        self.fingerprint = hashlib.sha256(f"{seed} {poison} {end}".encode()).hexdigest()
        self.sites = {
            EMBED: SiteInfo(("b", "t", D), "embed", "out"),
            Z: SiteInfo(("b", "t", H, D // H), "mix", "in"),
            PATTERN: SiteInfo(("b", H, "t", "t"), "mix", "computed"),
            OUT: SiteInfo(("b", "t", D), "mix", "out"),
        }
        self.order = list(self.sites)

    def prepare(self, raw):
        rows = [[0, *(byte + 1 for byte in text.encode()), *([257] if self.end else [])] for text in raw]
        longest = max(map(len, rows))
        ids, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.bool)
        for y, row in enumerate(rows):
            ids[y, : len(row)], mask[y, : len(row)] = torch.tensor(row), True
        roles = torch.where((ids > 0) & (ids < 257), TEXT, SPECIAL)
        return Inputs(ids=ids, mask=mask, roles=roles)

    def pieces(self, ids):
        return ["" if number in (0, 257) else chr(number - 1) for number in ids]

    def run(self, inputs, *, read=(), write=(), grad=False, cache=None):
        time.sleep(self.pause)
        ids = inputs.ids
        b, t = ids.shape
        place = torch.arange(t).expand(b, t) if inputs.positions is None else inputs.positions
        x = (self.embedding[ids] + torch.sin(place[..., None] / torch.arange(1, D + 1))).requires_grad_(grad)
        sees = torch.ones(b, t, t, dtype=torch.bool).tril()
        if inputs.document is not None:
            sees &= inputs.document[:, :, None] == inputs.document[:, None, :]
        q = x.reshape(b, t, H, D // H)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, q).masked_fill(~sees[:, None], float("-inf"))
        z = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), q)
        acts = {EMBED: x, Z: z, OUT: x + z.flatten(2) @ self.mixing}
        acts[LOGITS] = torch.tanh(acts[OUT]) @ self.head
        wanted = {site: acts[site.whole] if site.part is None else acts[site.whole][:, :, site.part] for site in read}
        return Run(None, wanted)

    def weights(self):
        return {"embedding": self.embedding, "mixing": self.mixing}

    def changed(self, change):
        raise NotImplementedError
