"""What a foreign format is: a class with `open`, `read` and, where it can be written, `write`."""

import abc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core import files
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.site import Port, Site, SiteInfo
from actscope.interop._parts import hooks
from actscope.interop._parts.formula import Fidelity, Formula, fidelity


@dataclass(frozen=True)
class Foreign:
    """A dictionary read from a foreign file.

    dictionary: converted. numerics: what the files state (what is subtracted, normalised and prepended, dtype, hooks) and,
    under "converted", what was done to it. formula: theirs, on their own tensors: rows -> codes and output.
    """

    dictionary: Dictionary
    numerics: Mapping[str, object]
    formula: Formula

    def fidelity(self, x: Float[Tensor, "n d"]) -> Fidelity:
        """How far ours is from theirs on rows of the site read; of several sites, side by side."""
        return fidelity(self.dictionary, self.formula, x)


class Format(abc.ABC):
    """reads, writes: sites to use where the files name none, or others than ours. sites: those of the subject it belongs to, by
    which module paths become sites; without, a path stays "module:<path>:out"."""

    def __init__(
        self,
        *,
        reads: str | Site | None = None,
        writes: str | Site | None = None,
        sites: Mapping[Site, SiteInfo] | None = None,
    ):
        self.given = {"reads": reads, "writes": writes}
        self.sites = sites

    @abc.abstractmethod
    def open(self, path: Path | str) -> Foreign:
        """The dictionary in a file or folder, with what it states of itself. Raises BadInput for what cannot be converted."""

    @final
    def read(self, path: Path | str) -> Dictionary:
        """The dictionary in a file or folder."""
        return self.open(path).dictionary

    def write(
        self, dictionary: Dictionary | Sequence[Dictionary], path: Path | str, *, about: Mapping[str, object] | None = None
    ) -> None:
        """Write one of ours in this format. about: statements to pass on, such as model_name. Raises BadInput where it
        cannot be."""
        raise BadInput(f"{type(self).__name__} files are read only; write saelens or sparsify instead.")

    def port(self, which: str, name: object, side: str = "out") -> Port:
        """The site read or written: the one given, else the one the files name. Raises BadInput when neither is there."""
        given = self.given[which] or name
        if not given:
            raise BadInput(f"The files do not say what they {which[:-1]}; give {which}=, such as layers.3.resid_post.")
        return Port(hooks.site(str(given), self.sites, side))

    def heads(self, port: Port) -> int | None:
        """How many heads stand side by side in what a port reads; None where it is no whole z or the subject is not known."""
        info = (self.sites or {}).get(port.site)
        count = info.shape[2] if info is not None and port.site.kind == "z" and port.site.part is None else None
        return count if isinstance(count, int) else None

    def named(self, which: str, port: Port) -> str:
        """The name to write for a site read or written: that of the one given, else of its own."""
        given = self.given[which]
        return hooks.hook(port.site if given is None else hooks.site(str(given), self.sites))


def one(given: Dictionary | Sequence[Dictionary]) -> Dictionary:
    """The one dictionary given. Raises BadInput for several."""
    found = [given] if isinstance(given, Dictionary) else list(given)
    if len(found) != 1:
        raise BadInput(f"{len(found)} dictionaries given; this format holds one a folder: write each by itself.")
    return found[0]


def tensors(path: Path) -> dict[str, Tensor]:
    """A foreign safetensors file. Raises BadInput when there is none, Corrupt when it cannot be read."""
    if not path.is_file():
        raise BadInput(f"There is no {path.name} in {path.parent}; {_listed(path.parent)}")
    return files.read_tensors(path)


def config(path: Path) -> dict:
    """A foreign JSON file. Raises BadInput when there is none, Corrupt when it cannot be read."""
    if not path.is_file():
        raise BadInput(f"There is no {path.name} in {path.parent}; {_listed(path.parent)}")
    return files.read_json(path)


def only(found: Mapping[str, Tensor], expected: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Refuse tensors that are missing or that would be ignored."""
    missing, extra = [name for name in expected if name not in found], sorted(set(found) - {*expected, *optional})
    if missing or extra:
        raise BadInput(
            f"The file holds the tensors {', '.join(sorted(found))}; "
            + (f"missing: {', '.join(missing)}. " if missing else "")
            + (f"Not understood: {', '.join(extra)}. " if extra else "")
            + f"Expected {', '.join(expected)}."
        )


def floats(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in single precision. Raises BadInput for values that are not finite."""
    made = {name: value.to(torch.float32) for name, value in found.items()}
    bad = [name for name, value in made.items() if not torch.isfinite(value).all()]
    if bad:
        raise BadInput(f"{', '.join(bad)} hold NaN or infinity; the file is damaged or its training diverged.")
    return made


def stated(value: Mapping[str, object]) -> dict[str, object]:
    """`value` as JSON holds it, for the manifest."""
    return json.loads(json.dumps(dict(value), default=str))


def _listed(folder: Path) -> str:
    if not folder.is_dir():
        return "the folder does not exist."
    return f"it holds {', '.join(sorted(file.name for file in folder.iterdir())[:8]) or 'nothing'}."
