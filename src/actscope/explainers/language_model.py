"""A language model says in a sentence what a latent fires on: Bills et al. 2023, "Language models can explain neurons in
language models"; Paulo et al. 2024, "Automatically Interpreting Millions of Features in Large Language Models"
(arXiv:2410.13928).

    1. The documents are split in three by a hash of their ids, as for `rules`: the first is shown, the last reported on.
    2. For each latent the model sees, as data in JSON strings: texts where it fires (the strongest, and one from each part of
       the range of values), firing tokens marked; and, to tell apart, texts where it is silent at the same tokens, and texts
       where the latents closest to it (cosine of atoms) fire and it is silent.
    3. An answer is a label where it is one plain English sentence: no refusal, reasoning, markup or garbage, and no words of
       the instructions or of the texts (an order hidden in a text that the model obeyed). Else the model is told what is wrong
       and asked again, a bounded number of times; then the latent has no explanation, and the reason is counted.
    4. With a judge, each label is judged by detection on the last documents, beside permuted labels.

The checks of step 3 see what a sentence looks like, not whether it is true: an answer that an order in a text made false and
that reads like a label passes them, and is told from a true one by its score alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted, Unfinished
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge
from actscope.core.ledger import Cost, Ledger
from actscope.core.progress import Progress, quiet
from actscope.core.score import Score
from actscope.core.source import Answer, Prompt, Unanswered
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.explainers._parts.evidence import evidence
from actscope.explainers._parts.label import parsed, wrong
from actscope.explainers._parts.questions import Question, Questions
from actscope.scores._parts.reading import check_subject
from actscope.scores.explanation.detection import detection

__all__ = ["language_model"]

_SAMPLED = 20  # latents of which the judge's price is taken


def language_model(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    ledger: Ledger,
    judge: Judge | None = None,
    latents: Sequence[int] | None = None,
    documents: Iterable[int] | None = None,
    contexts: int = 50,
    most: int = 50,
    above: float = 0.0,
    top: int = 10,
    quantiles: int = 10,
    silent: int = 8,
    similar: int = 6,
    back: int = 24,
    ahead: int = 8,
    asks: int = 3,
    answer: int = 300,
    seed: int = 0,
    announce: Callable[[Cost], object] = lambda cost: None,
    progress: Progress = quiet,
) -> list[Explanation]:
    """A sentence by a language model for every latent that has enough contexts, best detected first (arXiv:2410.13928).

    ledger: who is asked, and where answers are kept; run again with the same ledger, nothing is asked twice. judge: who
    guesses from a label where the latent fires (`explainers.judges`); None leaves labels without a score. latents, documents,
    above, seed: as of `rules`. contexts: active and inactive ones a latent needs in the first and the last part. most:
    contexts of each kind that are judged. top, quantiles, silent, similar: how many texts of each kind are shown, of `back`
    tokens before and `ahead` after. asks: how often the model is asked about a latent at most. answer: tokens an answer may
    have; more for models that think aloud. announce: told what asking all once may cost, before anything is; it may raise.

    evidence: "tried" (asked, explained, and why the others were left), "model" (who says to have answered), "source" (who was
    asked), "question" (its name in the ledger), "attempts" (questions asked), "rejected" (why answers before were not used),
    "shown" ([document, position, value] of all that was shown), "orders" (how many of these texts speak as if to a model), and
    "density", "peak", "top_tokens", "examples" as of `rules`. scores: detection, with a judge.

    Raises WrongSubject where dictionary, subject and store do not belong together; BadInput for settings that cannot be;
    Unfinished, with the explanations found, when asked to stop and when the ledger goes no further (its budget, its server).
    """
    check_subject(dictionary, subject, store)
    if min(contexts, most, top, asks, answer) < 1 or min(quantiles, silent, similar, back, ahead) < 0:
        raise BadInput(
            f"contexts={contexts}, most={most}, top={top}, asks={asks}, answer={answer}: expected 1 or more; "
            f"quantiles={quantiles}, silent={silent}, similar={similar}, back={back}, ahead={ahead}: expected 0 or more."
        )
    shown = dict(top=top, quantiles=quantiles, silent=silent, similar=similar, back=back, ahead=ahead, answer=answer)
    questions = Questions.of(dictionary, subject, store, latents, documents, contexts, seed, **shown)
    asked = dictionary.n_latents if latents is None else len(latents)
    least = max(1, min(contexts, most) // 2)  # with an answer that can be used
    drawn: dict[str, Any] = {"contexts": least, "most": most, "above": above, "judge": judge, "seed": seed + 3}
    work = _Work(questions, ledger, asked, seed, drawn)
    announce(work.cost())
    try:
        work.label(asks, progress)
        work.judge(subject, store, progress)
    except Interrupted as stop:
        raise Unfinished(f"{stop} {len(work.labels)} of {asked} latents have a label.", work.all()) from stop
    return work.all()


class _Work:
    """Labels as they come, and why latents have none."""

    def __init__(self, questions: Questions, ledger: Ledger, asked: int, seed: int, drawn: dict[str, Any]):
        self.questions, self.ledger, self.asked, self.seed, self.drawn = questions, ledger, asked, seed, drawn
        self.first = [questions.about(latent) for latent in questions.latents]
        self.labels: dict[int, tuple[Question, Prompt, Answer, str]] = {}
        self.left: dict[int, str] = {}
        self.rejected: dict[int, list[str]] = {}
        self.scores: dict[int, Score] = {}

    def cost(self) -> Cost:
        """The most that labels and their judging cost where the first answer of each can be used."""
        whole = self.ledger.estimate([one.prompt for one in self.first])
        estimate, some = getattr(self.drawn["judge"], "estimate", None), self.first[:_SAMPLED]
        if estimate is None:
            return whole
        report = self.questions.report
        for question in some:
            latent = question.latent
            contexts = report.contexts(latent, **{name: self.drawn[name] for name in ("most", "above", "seed")})
            known = self.ledger.known(question.prompt)
            text = (parsed(known, ["explanation"])[0] or {}).get("explanation", "") if known else ""
            one = estimate(Explanation(latent, str(text) or "x" * 150, "language_model"), report.text, contexts.rows)
            whole += one.times(len(self.first) / len(some))
        return whole

    def label(self, asks: int, progress: Progress) -> None:
        """Ask about every latent, and again where the answer is no label."""
        open_ = [(one, one.prompt) for one in self.first]
        for turn in range(asks):
            again = []
            for number, answer in self.ledger.ask([prompt for _, prompt in open_], progress):
                question, prompt = open_[number]
                if isinstance(answer, Unanswered):
                    self.left[question.latent] = answer.why
                    continue
                text, what = _label(answer, question)
                self.ledger.verdict(prompt, what or "used")
                if not what:
                    self.labels[question.latent] = (question, prompt, answer, text)
                    self.left.pop(question.latent, None)
                    continue
                self.rejected.setdefault(question.latent, []).append(what)
                self.left[question.latent] = what
                if turn + 1 < asks:
                    again.append((question, prompt.again(answer.text, _complaint(what))))
            open_ = again

    def judge(self, subject: Subject, store: Store, progress: Progress) -> None:
        """Detection of each label, where there is a judge; each as it comes, so that a stop loses none."""
        report, dictionary = self.questions.report, self.questions.dictionary
        for number, latent in enumerate(sorted(self.labels) if self.drawn["judge"] else ()):
            progress(number, len(self.labels), "labels judged")
            made = [Explanation(latent, self.labels[latent][-1], "language_model")]
            self.scores |= detection(made, dictionary, subject, store, reading=report, **self.drawn)

    def explained(self, latent: int) -> Explanation:
        question, prompt, answer, text = self.labels[latent]
        left = Counter(self.left.values())
        few = self.asked - len(self.first)
        kept = {
            "tried": {
                "asked": self.asked,
                "explained": len(self.labels),
                "left": {**left, **({"too few contexts": few} if few else {})},
            },
            "model": answer.model,
            "source": self.ledger.source.name,
            "question": prompt.request(self.ledger.source.name),
            "attempts": 1 + len(prompt.turns),
            "rejected": self.rejected.get(latent, []),
            "shown": question.shown,
            "orders": question.orders,
            **evidence(latent, None, self.questions.report, self.seed),
        }
        return Explanation(latent, text, "language_model", None, kept)

    def all(self) -> list[Explanation]:
        """The best detected first, then those that were not judged."""
        found = [self.explained(latent) for latent in sorted(self.labels)]
        found = [replace(one, scores=(self.scores[one.latent],)) if one.latent in self.scores else one for one in found]
        return sorted(found, key=lambda one: -one.scores[0].value if one.scores else 0.0)


def _label(answer: Answer, question: Question) -> tuple[str, str]:
    """(the label, "") or ("", why there is none)."""
    said, what = parsed(answer, ["explanation"])
    if said is None:
        return "", what
    text = said["explanation"]
    what = wrong(text, question.prompt.system, question.texts)
    return ("", what) if what else (text.strip().removesuffix("."), "")


def _complaint(what: str) -> str:
    return (
        f"That answer cannot be used: {what}. Answer again with the JSON object alone: one plain English sentence on what the "
        "latent fires on, with any text you cite between single quotes."
    )
