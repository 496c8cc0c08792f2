"""Rows on which labels are asked: some where each holds, some where it does not, with what a dictionary says of them.

Letters: n rows, d width written, m latents, l labels, k rows of one label.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted
from actscope.core.labels import Labels
from actscope.core.progress import stop_requested
from actscope.core.store import Store, split_documents
from actscope.core.subject import Subject
from actscope.scores._parts.census import rows_of
from actscope.scores._parts.columns import Columns, Projected, blocks
from actscope.scores._parts.letters import first_letters

_ROWS = 4096


@dataclass(frozen=True)
class Question:
    """Rows of a sample on which one label is asked."""

    rows: Int[Tensor, " k"]
    holds: Bool[Tensor, " k"]


@dataclass(frozen=True)
class Asked:
    """A sample of rows with the questions put to them.

    x: the ports written, side by side, less what the dictionary gives there without any latent, so that what is left is
    for latents to account for.
    """

    where: Int[Tensor, "n 2"]
    x: Float[Tensor, "n d"]
    columns: Columns
    truth: Bool[Tensor, "l n"]
    questions: Mapping[str, Question]

    def contrasts(self, columns: Columns | Projected | None = None) -> Float[Tensor, "l m"]:
        """For each label, every column's mean where it holds less its mean where it does not."""
        weigh = torch.zeros(len(self.questions), len(self.where))
        for line, one in zip(weigh, self.questions.values(), strict=True):
            line[one.rows[one.holds]] = 1 / int(one.holds.sum())
            line[one.rows[~one.holds]] = -1 / int((~one.holds).sum())
        return torch.cat([weigh @ block.T for _, block in blocks(self.columns if columns is None else columns)], dim=1)

    def by_document(self, values: Mapping[str, Float[Tensor, "k q"]]) -> Float[Tensor, "g c"]:
        """Sums over documents of values at each label's rows, label by label side by side."""
        names, document = self.where[:, 0].unique(return_inverse=True)
        each = [
            torch.zeros(len(names), value.shape[1], dtype=torch.float64).index_add(
                0, document[self.questions[cause].rows], value.double()
            )
            for cause, value in values.items()
        ]
        return torch.cat(each, dim=1)


def halves(store: Store, choose: Iterable[int] | None, test: Iterable[int] | None, *, seed: int) -> tuple[list[int], list[int]]:
    """Documents to choose and to test on, by default the two halves of `split_documents`. Raises BadInput for shared ones."""
    parts = split_documents(store, 2, seed=seed)
    chosen, tested = (sorted(parts[i] if given is None else set(given)) for i, given in enumerate((choose, test)))
    if shared := set(chosen) & set(tested):
        raise BadInput(f"{len(shared)} documents are both in `choose` and in `test`; expected none in common.")
    return chosen, tested


def ask(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels | None,
    groups: Sequence[Sequence[int]],
    *,
    least: int,
    most: int,
    against: int = 1,
    seed: int,
) -> list[Asked]:
    """For each group of documents, a sample in which every label has up to `most` rows where it holds, and `against` times as
    many where it does not, as far as there are such.

    labels=None: first letters. Labels that hold, or fail to hold, on fewer than `least` rows of some group are not asked.
    Raises BadInput when none is left.
    """
    labels = first_letters(store, subject) if labels is None else labels
    index = [rows_of(store.text[1], documents) for documents in groups]
    truth = [labels.at(store.text[1][rows]) for rows in index]
    rare = {cause: min(min(int(t[cause].sum()), int((~t[cause]).sum())) for t in truth) for cause in labels.causes}
    causes = [cause for cause, rows in rare.items() if rows >= least]
    if not causes:
        raise BadInput(
            f"None of the {len(rare)} labels holds on {least} rows of each of the {len(groups)} groups of documents; give more "
            "rows, other labels or a lower `least`."
        )
    generator = torch.Generator().manual_seed(seed)
    made = []
    for rows, holds in zip(index, truth, strict=True):
        drawn = {cause: _draw(holds[cause], most, against, generator) for cause in causes}
        kept = torch.cat([one.rows for one in drawn.values()]).unique()
        moved = {cause: replace(one, rows=torch.searchsorted(kept, one.rows)) for cause, one in drawn.items()}
        x, columns = read_rows(dictionary, store, rows[kept])
        made.append(Asked(columns.where, x, columns, torch.stack([holds[cause][kept] for cause in causes]), moved))
    return made


def _draw(holds: Bool[Tensor, " n"], most: int, against: int, generator: torch.Generator) -> Question:
    sides = []
    for mask, number in ((holds, most), (~holds, against * min(most, int(holds.sum())))):
        rows = mask.nonzero()[:, 0]
        sides.append(rows[torch.randperm(len(rows), generator=generator)[:number]].sort().values)
    rows = torch.cat(sides)
    return Question(rows, holds[rows])


def read_rows(dictionary: Dictionary, store: Store, index: Int[Tensor, " n"]) -> tuple[Float[Tensor, "n d"], Columns]:
    """(`x` as in Asked, what the dictionary says) of these rows."""
    left: list[Tensor] = []

    def batches() -> Iterator[Batch]:
        for rows in index.split(_ROWS):
            if stop_requested():
                raise Interrupted("Stopped while scoring; nothing was to be saved. Run the same command again.")
            batch = store.rows(rows, dictionary.ports)
            left.append(_less_given(dictionary, batch))
            yield batch

    columns = Columns.made(dictionary.encode, batches())
    return torch.cat(left), columns


@torch.no_grad()
def _less_given(dictionary: Dictionary, batch: Batch) -> Float[Tensor, "n d"]:
    """What stands at the ports written, less what is decoded without any latent."""
    n = len(batch)
    none = Codes(torch.zeros(n + 1, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0), dictionary.n_latents)
    given = dictionary.decode(none, batch.acts)
    return torch.cat([batch.acts[port].float() - given[port].float() for port in dictionary.writes], dim=1)


def atoms_of(dictionary: Dictionary) -> Float[Tensor, "m d"]:
    """What one unit of each latent adds at the ports written, side by side as in `Asked.x`."""
    return torch.cat([dictionary.atoms[port].detach().float() for port in dictionary.writes], dim=1)
