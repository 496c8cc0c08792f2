"""Whether what a language model answered is a label: one plain English sentence about a latent, and nothing else.

What stands in quotes is text of the examples and is looked at for its characters alone.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from actscope.core.source import Answer
from actscope.explainers._parts.shown import gives_orders

NOTHING = "none"  # what the model says where it finds nothing in common
LEAST, MOST = 8, 300  # characters
_LONGEST = 20_000  # characters of an answer that is looked at
_QUOTED = re.compile(
    r"""(?<!\w)'(?:[^'\\\n]|\\.|(?<=\w)'(?=\w))*'(?!\w)|"(?:[^"\\\n]|\\.)*"|`[^`\n]+`|“[^”\n]*”|‘[^’\n]*’|«[^»\n]*»"""
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+")
_REFUSALS = re.compile(
    r"\b(sorry|apologi[sz]e|as an ai|I (cannot|can['’]t|could not|am (not able|unable)|will not|won['’]t|do not know)|"
    r"unable to (determine|identify|find|explain|help|assist|comply|provide|answer)|"
    r"cannot be (determined|identified|explained)|not possible to|(can(no|['’])t|unable to) (help|assist|comply)|"
    r"no (clear|apparent|obvious|consistent|discernible|common) (pattern|theme|meaning|feature|explanation|thread)|"
    r"(not enough|insufficient) (information|context|data|evidence))\b",
    re.IGNORECASE,
)
_REASONING = re.compile(
    r"</?(think|thinking|reasoning|thought|analysis|scratchpad)\b|<\||\|>|\[/?INST|\A\W*(ok|okay|so|hmm+|alright|wait|first|well|"
    r"now|sure|certainly|analysis|answer|step \d+)\s*[,:!.]|\A\W*(let['’]?s|looking at|based on|considering|analy[sz]ing)\b|"
    r"\b(let['’]?s|let me|we (need|have|see|can)|the user (wants|asks|asked|is asking|says)|final answer|the answer is|"
    r"(the|these|those|all|given) examples?|chain of thought)\b",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(I|I['’](m|ll|ve|d)|[Mm]y|[Mm]yself)\b")
_MARKUP = re.compile(r"</?[a-z!][^>]*>|https?://|www\.|```|\*\*|^\s*([#>*-]|\d+[.)])\s|[{}]|\]\(|&#?\w+;", re.IGNORECASE)
_LEAD = re.compile(
    r"\A\W*((the|this) (latent|feature|neuron|unit) )?((fires|activates|responds) (on|to|for|at|where|when|in) )?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)[.!?][\"')\]]*\s+\S")
_OFTEN = {  # words that a sentence hardly does without; of other languages those that English does not have
    "English": "the of and to is are that with by from which where when their its it this these those or word words token "
    "tokens after before fires such as for in on at not a an",
    "French": "le la les de des est une du qui que dans avec sur mots mot après avant et ou ce cette ces aux se",
    "German": "der das und ist ein eine mit nach vor auf wörter wort nicht dem des wenn einem einer zu von oder bei für feuert",
    "Spanish": "el la los las de que del una por para palabras palabra después y o cuando esta este se días",
    "Italian": "il la gli che di della delle dei una per parole parola dopo prima e quando sono nel nella si",
    "Portuguese": "os um uma que de do da dos das com por para palavras palavra depois antes e quando são se",
    "Dutch": "het een na voor op woorden woord niet wanneer deze wordt bij de",
}
_FUNCTION = {language: frozenset(words.split()) for language, words in _OFTEN.items()}


def parsed(answer: Answer, fields: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """(the answer's JSON object, "") where it has exactly these fields, else (None, what is wrong).

    A closed block of thoughts before it and a fence around it are not part of the answer; nothing else may stand beside it.
    """
    if answer.ended == "refusal":
        return None, "a refusal"
    if answer.ended == "length":
        return None, "cut off before its end"
    text = answer.text.strip()
    if text.startswith("<think>") and "</think>" in text:
        text = text.partition("</think>")[2].strip()
    if text.startswith(("```\n", "```json\n")) and text.endswith("\n```"):
        text = text.partition("\n")[2][:-3].strip()
    if not text:
        return None, "empty"
    if len(text) > _LONGEST:
        return None, "too long"
    try:
        said = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None, "a refusal" if _REFUSALS.search(text[:400]) else "reasoning" if _REASONING.search(
            text[:400]
        ) else "not JSON"
    if not isinstance(said, Mapping) or set(said) != set(fields):
        return None, "other fields than asked for"
    return dict(said), ""


def wrong(text: object, instructions: str, shown: Sequence[str]) -> str:
    """What is wrong with a label; "" where nothing is. instructions: what the model was told. shown: texts it was shown."""
    if not isinstance(text, str):
        return "no text"
    if len(text) > MOST:
        return "too long"
    if text.strip().lower().rstrip(".") == NOTHING:
        return "nothing found in common"
    checks = (_characters, _language, _length, _manner, _sense)
    bare = _QUOTED.sub(" ", text)
    return next((said for check in checks if (said := check(text, bare))), "") or _copied(bare, instructions, shown)


def _characters(text: str, bare: str) -> str:
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") or character == "\ufffd":
            return "line breaks" if character in "\r\n" else "control characters"
    if _MARKUP.search(bare) or re.search(r"<\s*/?\s*(script|iframe|img|svg|style)\b|javascript:", text, re.IGNORECASE):
        return "markup"
    return ""


def _length(text: str, bare: str) -> str:
    if len(text.strip()) < LEAST or len(_WORD.findall(text)) < 2 or len(_WORD.findall(bare)) < 1:
        return "too short"
    return "more than one sentence" if _SENTENCE_END.search(bare) else ""


def _manner(text: str, bare: str) -> str:
    if _REFUSALS.search(bare):
        return "a refusal"
    return "reasoning" if _REASONING.search(bare) or _FIRST_PERSON.search(bare) else ""


def _language(text: str, bare: str) -> str:
    letters = [character for character in bare if character.isalpha()]
    latin = sum(character.isascii() or "LATIN" in unicodedata.name(character, "") for character in letters)
    if latin < 0.9 * len(letters):
        return "not in English"
    words = [word.lower() for word in _WORD.findall(bare)]
    hits = {language: sum(word in those for word in words) for language, those in _FUNCTION.items()}
    english = hits.pop("English")
    return "not in English" if max(hits.values()) > max(english, 2 if english else 1) else ""


def _sense(text: str, bare: str) -> str:
    words = [word.lower() for word in _WORD.findall(bare)]
    solid = [character for character in bare if not character.isspace()]
    lettered = sum(character.isalnum() for character in solid)
    if lettered < 0.6 * len(solid) or re.search(r"(\S)\1{5}", bare) or re.search(r"\b(\w+)(\W+\1\b){3}", bare, re.IGNORECASE):
        return "garbage"
    if max(map(len, words)) > 30 or (len(words) >= 8 and len(set(words)) < 0.4 * len(words)):
        return "garbage"
    spelt = [word for word in words if len(word) > 3 and word.isascii() and word.isalpha()]
    if spelt and sum(not re.search("[aeiouy]", word) for word in spelt) > len(spelt) / 2:
        return "garbage"
    return ""


def _copied(bare: str, instructions: str, shown: Sequence[str]) -> str:
    said = _words(bare)
    if _share_a_run(said, _words(instructions), 6):
        return "the instructions repeated"
    rest = _words(_LEAD.sub("", bare))
    least = 2 if len(rest) == len(said) else 3
    content = [word for word in rest if len(word) > 3 and word not in _FUNCTION["English"]]
    for text in shown:
        theirs = _words(text)
        if len(rest) >= least and _share_a_run(rest, theirs, min(5, len(rest))):
            return "text of the examples repeated"
        if content and gives_orders(text) and set(content) <= set(theirs):
            return "words of a text that gives orders"
    return ""


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _share_a_run(some: list[str], others: list[str], length: int) -> bool:
    runs = {tuple(some[at : at + length]) for at in range(len(some) - length + 1)}
    return any(tuple(others[at : at + length]) in runs for at in range(len(others) - length + 1))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a field twice")
    return dict(pairs)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
