"""Answers that are paid for once: each is on disk before it is used, and nothing that is there is asked again.

1. A question's name is a hash of all that is asked and of who is asked.
2. An answer in the ledger is given back. Else the source is asked, and the answer committed (SQLite, fsync) as it arrives,
   before anybody sees it. A kill loses no more than the questions under way.
3. An attempt that fails is written down too, with what came. It is tried again a bounded number of times, after as long as
   the source says, else after a pause that doubles. Answers that came whole and cannot be read count over restarts.
4. A question is asked only if its highest cost still fits the budget, with what was spent and what is under way: a source
   that answers with more tokens than it was allowed can pass the budget by that question, and no further.
"""

import contextlib
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from actscope.core import lock
from actscope.core.errors import BadInput, Corrupt, DiskFull, Interrupted
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.source import Answer, Failed, Prompt, Source, Unanswered

_T = TypeVar("_T")
_FORMAT = 1
_SCHEMA = """
create table if not exists answers (request text primary key, source text, question text, answer text, model text, ended text,
    tokens_in integer, tokens_out integer, counted integer, cost real, verdict text, time text);
create table if not exists attempts (number integer primary key, request text, source text, why text, body blob,
    tokens_in integer, tokens_out integer, cost real, time text);
create index if not exists attempts_of on attempts (request);
"""
_KEPT = 1 << 16  # bytes kept of an answer that cannot be read
_ROOM = 16 << 20  # bytes that must be free before a question is paid for
_SILENT = 5  # questions asked in a row without an answer before all stops


@dataclass(frozen=True)
class Cost:
    """Questions, tokens and money. estimated: of the tokens, how many are counted by us and not told by the source."""

    questions: int
    tokens_in: int
    tokens_out: int
    money: float | None
    estimated: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        money = None if self.money is None or other.money is None else self.money + other.money
        tokens = (self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out)
        return Cost(self.questions + other.questions, *tokens, money, self.estimated + other.estimated)

    def times(self, factor: float) -> "Cost":
        """So many times as much, in whole questions and tokens."""
        whole = (round(factor * n) for n in (self.questions, self.tokens_in, self.tokens_out))
        money = None if self.money is None else factor * self.money
        return Cost(*whole, money=money, estimated=round(factor * self.estimated))

    def __str__(self) -> str:
        tokens = f"{self.questions:,} questions, {self.tokens_in:,} tokens in and {self.tokens_out:,} out"
        return tokens if self.money is None else f"{tokens}, {self.money:,.4f} at the price given"


class Ledger:
    """What a source answered, in a folder. One writer at a time; `with Ledger(...) as ledger:` closes it.

    price: money for a million tokens in and out. budget: money that all in this ledger may cost, earlier runs included.
    concurrent: questions under way at a time. tries: attempts at a question. pause: seconds before the second, doubled for
    each after. patience: seconds that a source may ask us to wait; beyond, the run stops and says so.

    Raises BadInput for settings that cannot be and for a folder that another process writes, Corrupt for a damaged ledger.
    """

    def __init__(
        self,
        source: Source,
        folder: Path | str,
        *,
        price: tuple[float, float] | None = None,
        budget: float | None = None,
        concurrent: int = 4,
        tries: int = 4,
        pause: float = 1.0,
        patience: float = 120.0,
    ):
        if budget is not None and price is None:
            raise BadInput(f"budget={budget} given without a price; give price=(money per million tokens in, out) with it.")
        if min(concurrent, tries) < 1 or min(pause, patience, budget or 0, *(price or (0,))) < 0:
            raise BadInput(
                f"concurrent={concurrent}, tries={tries}, pause={pause}, patience={patience}, price={price}, budget={budget}: "
                "expected at least one question and one attempt, and nothing below 0."
            )
        self.source, self.folder, self.price, self.budget = source, Path(folder), price, budget
        self.concurrent = min(concurrent, source.at_once or concurrent)
        self.tries, self.pause, self.patience = tries, pause, patience
        self._turn = threading.Condition()  # around the database and all that follows
        self._stop = ""
        self._silent = 0  # questions asked in a row without an answer
        self._not_before = 0.0
        self._reserved: list[float] = []  # the highest cost of each question under way
        self._open = contextlib.ExitStack()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open.enter_context(lock.hold(self.folder))
        try:
            self._base = self._opened()
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """After the answers to all that is under way are kept."""
        with self._turn:
            self._stop = self._stop or "The ledger is closed."
            self._turn.wait_for(lambda: not self._reserved)
        self._base.close()
        self._open.close()

    def ask(self, prompts: Sequence[Prompt], progress: Progress = quiet) -> Iterator[tuple[int, Answer | Unanswered]]:
        """(number of the question, its answer) as they come; equal questions are asked once.

        Raises Interrupted when asked to stop, when the budget or our patience is at its end and when nothing answers any
        more, after giving all that was under way; BadInput where the source says that it will never answer.
        """
        self._stop = ""
        places: dict[str, list[int]] = {}
        for number, prompt in enumerate(prompts):
            places.setdefault(prompt.request(self.source.name), []).append(number)
        done = 0
        with contextlib.closing(self._coming([(name, prompts[first]) for name, (first, *_) in places.items()])) as coming:
            for request, answer in coming:
                done += len(places[request])
                progress(done, len(prompts), "questions answered")
                yield from ((number, answer) for number in places[request])
        if self._stop:
            raise Interrupted(f"{self._stop} All answers are kept in {self.folder}; run the same again to go on.")

    def known(self, prompt: Prompt) -> Answer | None:
        """The answer in the ledger."""
        sql = "select answer, model, ended, tokens_in, tokens_out from answers where request = ?"
        found = self._do(sql, prompt.request(self.source.name))
        return Answer(*found[0]) if found else None

    def verdict(self, prompt: Prompt, said: str) -> None:
        """Write down what became of an answer: "used", or why not."""
        self._do("update answers set verdict = ? where request = ?", said, prompt.request(self.source.name))

    def estimate(self, prompts: Sequence[Prompt]) -> Cost:
        """The most that asking these once would cost, without asking: answers in the ledger cost nothing."""
        new = {prompt.request(self.source.name): prompt for prompt in prompts if self.known(prompt) is None}
        tokens = sum(self.source.tokens(prompt) for prompt in new.values())
        most = sum(prompt.most for prompt in new.values())
        return Cost(len(new), tokens, most, self._price(tokens, most), tokens + most)

    @property
    def spent(self) -> Cost:
        """What all in this ledger has cost. Attempts that came to nothing count where they may have been billed."""
        told = self._do(
            "select count(*), sum(tokens_in), sum(tokens_out), sum((1 - counted) * (tokens_in + tokens_out)) from answers"
        )
        lost = self._do(
            "select count(*), sum(tokens_in), sum(tokens_out), sum(tokens_in + tokens_out) from attempts where tokens_in > 0"
        )
        n, tokens_in, tokens_out, guessed = (sum(filter(None, pair)) for pair in zip(told[0], lost[0], strict=True))
        return Cost(n, tokens_in, tokens_out, self._money() if self.price else None, guessed)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many: of verdicts on answers, of reasons why attempts failed, of models that say to have answered."""
        asked = {
            "verdicts": "select coalesce(verdict, 'not judged'), count(*) from answers group by 1",
            "failures": "select why, count(*) from attempts group by 1",
            "models": "select model, count(*) from answers group by 1",
        }
        return {name: dict(self._do(f"{sql} order by 2 desc, 1")) for name, sql in asked.items()}

    def _coming(self, asked: list[tuple[str, Prompt]]) -> Generator[tuple[str, Answer | Unanswered]]:
        """What is known already, then answers as they come. What is under way is waited for, whatever happens."""
        fresh = []
        for request, prompt in asked:
            known = self.known(prompt) or self._given_up(request)
            if known is None:
                fresh.append((request, prompt))
            else:
                yield request, known
        fresh.reverse()
        running: dict[Future[Answer | Unanswered | None], str] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.concurrent) as pool:
            try:
                while running or (fresh and self._go_on()):
                    while fresh and len(running) < self.concurrent and self._go_on():
                        request, prompt = fresh.pop()
                        running[pool.submit(self._answered, request, prompt)] = request
                    for one in wait(running, return_when=FIRST_COMPLETED).done:
                        request, error = running.pop(one), one.exception()
                        if error is not None:
                            failure, self._stop = failure or error, self._stop or f"{error}"
                        if error is None and (answer := one.result()) is not None:
                            self._count(answer)
                            yield request, answer
            except BaseException:
                self._stop = self._stop or "Nobody listens any more."
                raise
        if failure is not None:
            raise failure

    def _given_up(self, request: str) -> Unanswered | None:
        """Why a question is not asked any more."""
        sql = "select why from attempts where request = ? and body is not null order by number desc"
        unread = self._do(sql, request)
        return Unanswered(unread[0][0]) if len(unread) >= self.tries else None

    def _count(self, answer: Answer | Unanswered) -> None:
        """Stop where nothing answers any more."""
        self._silent = self._silent + 1 if isinstance(answer, Unanswered) else 0
        if isinstance(answer, Unanswered) and self._silent >= _SILENT:
            self._stop = self._stop or f"{_SILENT} questions in a row had no answer, the last: {answer.why}."
            self._silent = 0

    def _go_on(self) -> bool:
        if stop_requested() and not self._stop:
            self._stop = "Stopped as asked."
        return not self._stop

    def _answered(self, request: str, prompt: Prompt) -> Answer | Unanswered | None:
        """All attempts at one question, in a thread of its own. None where it was not asked to the end."""
        tries = self.tries - self._do("select count(*) from attempts where request = ? and body is not null", request)[0][0]
        for left in range(tries - 1, -1, -1):
            if not self._wait() or (reserved := self._reserve(prompt)) is None:
                return None
            try:
                answer = self.source.ask(prompt)
                self._keep(request, prompt, answer)
                return answer
            except Failed as failed:
                self._note(request, prompt, failed)
                if not failed.again or not left:
                    return Unanswered(failed.why)
                self._back_off(request, self.tries - 1 - left, failed)
            finally:
                self._release(reserved)
        raise AssertionError("a question that was given up")

    def _back_off(self, request: str, number: int, failed: Failed) -> None:
        """Nobody asks before the pause is over; each question's own jitter keeps them from asking all at once."""
        pause = failed.after or self.pause * 2**number * (1 + random.Random(f"{request}{number}").random() / 2)
        if failed.after and pause > self.patience:
            self._stop = self._stop or (
                f"{failed.why}, and the source asks to wait {pause:,.0f} s, more than patience={self.patience:g}."
            )
        self._not_before = max(self._not_before, time.monotonic() + min(pause, self.patience))

    def _wait(self) -> bool:
        """Until it is time to ask; whether to."""
        while (left := self._not_before - time.monotonic()) > 0 and self._go_on():
            time.sleep(min(left, 0.1))
        return self._go_on()

    def _reserve(self, prompt: Prompt) -> float | None:
        """Set the question's highest cost aside; None where the budget has no room for it. Raises DiskFull."""
        with self._turn:
            if shutil.disk_usage(self.folder).free < _ROOM:
                raise DiskFull(
                    f"Less than {_ROOM >> 20} MB are free in {self.folder}; nothing more is asked until answers can be kept."
                )
            most = self._price(self.source.tokens(prompt), prompt.most) or 0.0
            while self.budget is not None and (spent := self._money()) + sum(self._reserved) + most > self.budget:
                if not self._reserved:  # nothing under way that may turn out cheaper
                    self._stop = self._stop or (
                        f"The budget of {self.budget:g} is at its end: {spent:.4f} spent, and one more may cost {most:.4f}."
                    )
                    return None
                self._turn.wait(0.1)
            if self._stop:
                return None
            self._reserved.append(most)
            return most

    def _release(self, most: float) -> None:
        with self._turn:
            self._reserved.remove(most)
            self._turn.notify_all()

    def _price(self, tokens_in: int, tokens_out: int) -> float | None:
        return None if self.price is None else (tokens_in * self.price[0] + tokens_out * self.price[1]) / 1e6

    def _money(self) -> float:
        """Spent: as priced then; what had no price then, as priced now."""
        price = self.price or (0.0, 0.0)
        sql = "select total(coalesce(cost, (tokens_in * ? + tokens_out * ?) / 1e6)) from "
        return sum(self._do(sql + table, *price)[0][0] for table in ("answers", "attempts"))

    def _keep(self, request: str, prompt: Prompt, answer: Answer) -> None:
        told = answer.tokens_in is not None and answer.tokens_out is not None
        tokens = (answer.tokens_in, answer.tokens_out) if told else (self.source.tokens(prompt), prompt.most)
        question = "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in prompt.messages)
        row = (request, self.source.name, question, answer.text, answer.model, answer.ended, *tokens, int(told))
        self._do(f"insert into answers values ({', '.join('?' * 12)})", *row, self._price(*tokens), None, _now())  # type: ignore[arg-type]

    def _note(self, request: str, prompt: Prompt, failed: Failed) -> None:
        tokens = (self.source.tokens(prompt), prompt.most) if failed.billed else (0, 0)
        body = None if failed.body is None else failed.body[:_KEPT]
        row = (request, self.source.name, failed.why, body, *tokens, self._price(*tokens), _now())
        self._do(f"insert into attempts values (null, {', '.join('?' * 8)})", *row)

    def _opened(self) -> sqlite3.Connection:
        def prepare() -> sqlite3.Connection:
            base = sqlite3.connect(self.folder / "answers.sqlite", isolation_level=None, check_same_thread=False)
            with contextlib.ExitStack() as failed:
                failed.callback(base.close)
                base.execute("pragma synchronous = extra")  # on disk, with the folder, before a commit is said to be done
                version = base.execute("pragma user_version").fetchone()[0]
                if version not in (0, _FORMAT):
                    raise BadInput(
                        f"{self.folder} holds a ledger of format {version}; this version reads {_FORMAT}. Install a newer one."
                    )
                base.executescript(_SCHEMA)
                base.execute(f"pragma user_version = {_FORMAT}")
                failed.pop_all()
            return base

        return self._safely(prepare)

    def _do(self, sql: str, *values: Any) -> list[Any]:
        """One statement, committed."""
        return self._safely(lambda: self._base.execute(sql, values).fetchall())

    def _safely(self, act: Callable[[], _T]) -> _T:
        with self._turn:
            try:
                return act()
            except sqlite3.ProgrammingError:  # ours
                raise
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
                    raise DiskFull(f"No room for answers in {self.folder}; what was committed is intact.") from error
                raise Corrupt(
                    f"The ledger in {self.folder} cannot be used ({error}); give another folder, or mend it."
                ) from error


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
