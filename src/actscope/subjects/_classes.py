"""Which class of transformers opens a folder: the one its config names, where it is one of the family's that can be read.

No class comes from the folder itself.
"""

from typing import Any

from actscope.core import methods
from actscope.core.errors import NotAModel
from actscope.subjects.anatomy._anatomy import Anatomy


def classes_of(config: Any, shown: str) -> list[Any]:
    """The class that a config asks for and, where weights of the model below its head are often kept under the name of the
    whole, that class too. Raises NotAModel where it asks for a class that has no anatomy."""
    import transformers

    names = _known(config)
    asked = list(getattr(config, "architectures", None) or names[:1])
    found = next((name for name in asked if name in names), None)
    if found is None:
        raise NotAModel(
            f"config.json of {shown} names {', '.join(map(str, asked))}; of family {config.model_type!r} this version reads "
            f"{' and '.join(names)}. Save it as one of them: `transformers.{names[-1]}.from_pretrained(folder)`, then "
            "`.save_pretrained(other_folder)`."
        )
    anatomy = _anatomy(config)
    below = names[-1:] if found == names[0] and anatomy is not None and anatomy.classes else []
    return [getattr(transformers, name) for name in dict.fromkeys([found, *below])]


def only_the_head(lacking: list[str], model: Any) -> bool:
    """Whether tensors that weights lack are all of the head, none of the model below it."""
    below = model.base_model_prefix + "."
    return bool(lacking) and model.base_model is not model and not any(name.startswith(below) for name in lacking)


def _known(config: Any) -> tuple[str, ...]:
    """Of a family without a file, the causal language model alone: only its sites can be found by structure."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING

    anatomy = _anatomy(config)
    if anatomy is not None and anatomy.classes:
        return anatomy.classes
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise NotAModel(
            f"A model of family {config.model_type!r} was given. This version has no file for it, and finds sites by structure "
            f"only in causal language models; it has files for {', '.join(methods.names('subjects.anatomy'))}."
        )
    mappings: tuple[Any, ...] = (MODEL_FOR_CAUSAL_LM_MAPPING, *([] if anatomy is None else [MODEL_MAPPING]))
    return tuple(mapping[type(config)].__name__ for mapping in mappings)


def _anatomy(config: Any) -> Anatomy | None:
    if config.model_type not in methods.names("subjects.anatomy"):
        return None
    describe: Any = methods.find("subjects.anatomy", config.model_type)
    return describe(config)
