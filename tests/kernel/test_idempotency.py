"""One key, one answer."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count

import pytest
from pydantic import BaseModel
from sqlmodel import select

from raymill.kernel.clock import utc_now
from raymill.kernel.idempotency import IdempotencyConflict, IdempotencyRecord, once
from raymill.kernel.resources import Resources

pytestmark = pytest.mark.integration


class Body(BaseModel):
    name: str = "a"


class Answer(BaseModel):
    number: int


class Failed(Exception):
    pass


class Work:
    """Counts how often it was done."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._numbers = count(1)
        self.fail = False

    def __call__(
        self, key: str | None = "k", *, body: Body | None = None, route: str = "POST /things", principal: str = "usr_1"
    ) -> int:
        with self._resources.session() as session:
            answer = once(
                session,
                principal_id=principal,
                key=key,
                route=route,
                body=body or Body(),
                answer_type=Answer,
                action=self._do,
            )
        return answer.number

    def _do(self) -> Answer:
        if self.fail:
            raise Failed
        return Answer(number=next(self._numbers))


@pytest.fixture
def work(resources: Resources) -> Work:
    return Work(resources)


def test_the_same_key_gives_the_same_answer(work: Work) -> None:
    assert [work(), work(), work("other"), work()] == [1, 1, 2, 1]


def test_without_a_key_everything_is_done(work: Work) -> None:
    assert [work(None), work(None)] == [1, 2]


def test_keys_of_others_do_not_count(work: Work) -> None:
    assert [work(principal="usr_1"), work(principal="usr_2")] == [1, 2]


def test_another_request_with_the_key_is_refused(work: Work) -> None:
    work()
    with pytest.raises(IdempotencyConflict, match="'k'"):
        work(body=Body(name="b"))
    with pytest.raises(IdempotencyConflict):
        work(route="POST /others")
    assert work() == 1


def test_a_failure_gives_the_key_back(work: Work) -> None:
    work.fail = True
    with pytest.raises(Failed):
        work()
    work.fail = False
    assert [work(), work()] == [1, 1]


def test_a_key_lives_a_day(work: Work, resources: Resources) -> None:
    assert work() == 1
    for hours, expected in ((23, 1), (25, 2)):
        with resources.session() as session:
            record = session.exec(select(IdempotencyRecord)).one()
            record.created_at = utc_now() - timedelta(hours=hours)
            session.add(record)
        assert work() == expected


def test_requests_at_once_do_the_work_once(work: Work) -> None:
    gate = threading.Barrier(10)

    def send(_: int) -> int:
        gate.wait(10)
        return work()

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(send, range(10))) == [1] * 10


def test_a_second_request_takes_over_when_the_first_fails(resources: Resources, work: Work) -> None:
    answers: list[int] = []
    second = threading.Thread(target=lambda: answers.append(work()))

    def fail_while_the_second_waits() -> Answer:
        second.start()
        second.join(0.5)
        assert second.is_alive()
        raise Failed

    with pytest.raises(Failed), resources.session() as session:
        once(
            session,
            principal_id="usr_1",
            key="k",
            route="POST /things",
            body=Body(),
            answer_type=Answer,
            action=fail_while_the_second_waits,
        )
    second.join(10)
    assert answers == [1]
