"""Questions that the commands of one batch ask: at the first of a kind all of it are asked of the database at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


class Asked(Generic[Question, Answer]):
    """Questions of one kind, and what came of them. One batch's, and so one thread's."""

    def __init__(
        self, questions: Iterable[Question], ask: Callable[[Sequence[Question]], Mapping[Question, Answer]]
    ) -> None:
        """`ask` gives an answer to each question that it is given."""
        self._ask = ask
        self._waiting = dict.fromkeys(questions)
        self._answers: Mapping[Question, Answer] = {}

    def __contains__(self, question: Question) -> bool:
        """Whether the batch asks it."""
        return question in self._waiting or question in self._answers

    def get(self, question: Question) -> Answer:
        """The answer; what is not of the batch is asked by itself. Raises what asking raises."""
        if question in self._answers:
            return self._answers[question]
        if question not in self._waiting:
            return self._ask((question,))[question]
        # Where asking together fails, everybody else asks alone: nobody ends for another's sake.
        waiting, self._waiting = tuple(self._waiting), {}
        self._answers = self._ask(waiting)
        return self._answers[question]

    def forget(self) -> None:
        """From here on everything is asked anew, by itself."""
        self._waiting, self._answers = {}, {}
