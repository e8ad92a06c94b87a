"""Bandits whole: choices and rewards kept, on SQLite and PostgreSQL, through kills, and by several engines at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import field_mask_pb2
from tiation.engine.v1 import bandit_pb2 as pb

import engine
import mesh
from engine.decisions.bandits import learning
from engine.decisions.bandits.contexts import Encoder
from engine.decisions.bandits.learning import Learner
from engine.decisions.bandits.resource import Bandit, Bandits
from engine.decisions.errors import ChoiceNotFoundError, RewardConflictError
from engine.servicers.bandits import BanditServicer
from engine.store import BanditStore
from mesh.catalogue import NotFoundError
from mesh.db import Database, open_database
from mesh.entry_store import EntryStore
from mesh.errors import InvalidError
from mesh.migrate import migrate
from mesh.pagination import Pages
from tests.conftest import Place

PARENT = "tenants/default"
NAME = f"{PARENT}/bandits/b"
ARMS = [pb.Arm(id="a"), pb.Arm(id="b"), pb.Arm(id="c")]
FEATURES = [pb.Feature(name="x", type=pb.Feature.NUMBER), pb.Feature(name="k", type=pb.Feature.CATEGORY)]
FEATURES[1].categories.extend(["one", "two"])


@dataclass
class Engine:
    """An engine's bandits, with a clock that a test may turn."""

    database: Database
    now: list[float] = field(default_factory=lambda: [1000.0])

    def __post_init__(self) -> None:
        bandits = Bandits(self.database, EntryStore(), BanditStore())
        self.learner = Learner(self.database, bandits, BanditStore(), now=lambda: self.now[0])
        self.servicer = BanditServicer(bandits, self.learner, Pages(b"secret"))

    async def create(self, bandit_id: str = "b", *, only: bool = False, **fields: Any) -> pb.Bandit:
        made = pb.Bandit(**{"arms": ARMS, "features": FEATURES, "seed": 7} | fields)
        request = pb.CreateBanditRequest(parent=PARENT, bandit_id=bandit_id, bandit=made, validate_only=only)
        return await self.servicer.CreateBandit(request, None)

    async def update(self, *paths: str, **fields: Any) -> pb.Bandit:
        request = pb.UpdateBanditRequest(bandit=pb.Bandit(name=NAME, **fields))
        request.update_mask.CopyFrom(field_mask_pb2.FieldMask(paths=paths))
        return await self.servicer.UpdateBandit(request, None)

    async def choose(self, x: float = 0.5, k: str = "one", top_k: int = 0) -> pb.ChooseResponse:
        request = pb.ChooseRequest(name=NAME, top_k=top_k)
        request.context.update({"x": x, "k": k})
        return await self.servicer.Choose(request, None)

    async def reward(self, choice: str, reward: float, name: str = NAME) -> pb.RewardResponse:
        return await self.servicer.Reward(pb.RewardRequest(name=name, choice_id=choice, reward=reward), None)

    async def report(self) -> pb.ReportBanditResponse:
        return await self.servicer.ReportBandit(pb.ReportBanditRequest(name=NAME), None)


def opened(place: Place) -> Database:
    database = open_database(place.location, schema=place.schema)
    migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    migrate(database.engine, Path(engine.__path__[0]) / "migrations" / "versions")
    return database


@pytest.fixture
async def two(place: Place) -> AsyncIterator[tuple[Engine, Engine]]:
    """Two engines on one database."""
    databases = [opened(place), opened(place)]
    now = [1000.0]
    yield Engine(databases[0], now), Engine(databases[1], now)
    for database in databases:
        await database.close()


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Engine]:
    database = opened(Place(f"sqlite:///{tmp_path}/engine.db", ""))
    yield Engine(database)
    await database.close()


async def test_a_bandit_is_created_read_listed_changed_and_deleted(two):
    here, there = two
    made = await here.create(exploration=0.25, labels={"team": "one"}, random_share=0.1)
    assert (made.name, made.exploration, made.algorithm) == (NAME, 0.25, pb.Bandit.LIN_UCB)
    assert await here.create(exploration=0.25, labels={"team": "one"}, random_share=0.1) == made  # the same again
    assert await there.servicer.GetBandit(pb.GetBanditRequest(name=NAME), None) == made
    assert (await here.create("c", only=True)).uid != made.uid
    listed = await there.servicer.ListBandits(pb.ListBanditsRequest(parent=PARENT), None)
    assert [each.name for each in listed.bandits] == [NAME]
    changed = await there.update(algorithm=pb.Bandit.THOMPSON, reward_horizon={"seconds": 60})
    assert (changed.algorithm, changed.reward_horizon.seconds, changed.exploration) == (pb.Bandit.THOMPSON, 60, 0.25)
    assert (await there.update(features=FEATURES)).features == made.features
    for fixed in ({"features": FEATURES[:1]}, {"min_reward": -1.0}, {"max_reward": 5.0}):
        with pytest.raises(InvalidError, match="cannot be changed"):
            await here.update(**fixed)
    await there.choose()
    await here.servicer.DeleteBandit(pb.DeleteBanditRequest(name=NAME), None)
    for asked in (here.choose(), here.report(), here.reward("0" * 36, 1.0)):
        with pytest.raises(NotFoundError):
            await asked
    await here.create()
    assert (await here.report()).choice_count == 0


async def test_a_choice_says_why_and_its_reward_is_learnt_once(two):
    here, there = two
    await here.create(exploration=0.0, min_reward=-10, max_reward=10)
    first = await here.choose(top_k=3)
    assert [score.expected_reward for score in first.scores] == [-10] * 3
    assert "chance decided" in first.text
    told = await there.reward(first.choice_id, 10)
    assert (told.arm, told.learnt) == (first.arm, True)
    again = await here.reward(first.choice_id, 10)
    assert (again.arm, again.learnt) == (first.arm, False)
    with pytest.raises(RewardConflictError, match="is 10 already"):
        await there.reward(first.choice_id, 9)
    second = await there.choose(top_k=1)
    assert second.arm == first.arm
    assert sum(part.contribution for part in second.contributions) == pytest.approx(second.scores[0].expected_reward)
    assert [part.feature for part in second.contributions] == ["bias", "x", "k"]
    assert second.scores[0].expected_reward > 0
    assert second.text.startswith(f"{first.arm} scores ")
    report = await here.report()
    assert (report.choice_count, report.reward_count) == (2, 1)
    known = {arm.arm: arm for arm in report.arms}
    assert (known[first.arm].reward_count, known[first.arm].mean_reward) == (1, 10)
    assert [weight.feature for weight in known[first.arm].weights] == ["bias", "x", "k=one", "k=two"]


async def test_rewards_that_cannot_be_are_refused(one):
    await one.create(reward_horizon={"seconds": 100})
    choice = await one.choose()
    for reward in (-0.1, 1.1):
        with pytest.raises(InvalidError, match="must be from 0 to 1"):
            await one.reward(choice.choice_id, reward)
    with pytest.raises(ChoiceNotFoundError):
        await one.reward("11111111-1111-4111-8111-111111111111", 1)
    await one.create("other")
    with pytest.raises(ChoiceNotFoundError):
        await one.reward(choice.choice_id, 1, name=f"{PARENT}/bandits/other")
    one.now[0] += 99
    assert (await one.reward(choice.choice_id, 1)).learnt
    one.now[0] += 2
    with pytest.raises(ChoiceNotFoundError, match="more than 100 seconds"):
        await one.reward(choice.choice_id, 1)
    assert (await one.report()).reward_count == 1


async def test_old_choices_are_forgotten_by_age_and_by_number(one, monkeypatch):
    monkeypatch.setattr(learning, "MAX_KEPT_CHOICES", 3)
    await one.create(reward_horizon={"seconds": 100})
    choices = [(await one.choose()).choice_id for _ in range(4)]
    with pytest.raises(ChoiceNotFoundError):
        await one.reward(choices[0], 1)
    assert (await one.reward(choices[1], 1)).learnt
    one.now[0] += 101
    last = await one.choose()
    rows = await one.database.read(lambda transaction: transaction.exec_driver_sql(
        "SELECT choice FROM bandit_choices").scalars().all())  # fmt: skip
    assert rows == [last.choice_id]


async def test_the_same_seed_and_rewards_make_the_same_choices_and_another_seed_others(one):
    async def played(bandit_id: str, seed: int, algorithm: pb.Bandit.Algorithm) -> list[str]:
        await one.create(bandit_id, seed=seed, algorithm=algorithm, random_share=0.2)
        arms = []
        for at in range(12):
            request = pb.ChooseRequest(name=f"{PARENT}/bandits/{bandit_id}")
            request.context.update({"x": at / 12, "k": "one"})
            made = await one.servicer.Choose(request, None)
            await one.reward(made.choice_id, at % 3 / 2, name=request.name)
            arms.append(made.arm)
        return arms

    for algorithm in (pb.Bandit.LIN_UCB, pb.Bandit.THOMPSON):
        same = await played(f"s{algorithm}", 7, algorithm)
        assert await played(f"t{algorithm}", 7, algorithm) == same
    assert await played("u", 8, pb.Bandit.THOMPSON) != same
    assert await played("v", 0, pb.Bandit.THOMPSON) != await played("w", 0, pb.Bandit.THOMPSON)


async def test_arms_that_go_are_forgotten_and_those_that_stay_are_not(one):
    await one.create()
    kept = {}
    while set(kept) != {"a", "b"}:
        choice = await one.choose()
        kept.setdefault(choice.arm, choice.choice_id)
        if choice.arm == "c":
            await one.update(arms=ARMS[:2])
    assert (await one.reward(kept["a"], 1)).learnt
    await one.update(arms=[ARMS[1], pb.Arm(id="new")])
    assert [arm.reward_count for arm in (await one.report()).arms] == [0, 0]
    late = await one.reward(kept["b"], 1)
    assert late.learnt
    await one.update(arms=[ARMS[0], ARMS[1]])
    assert [arm.reward_count for arm in (await one.report()).arms] == [0, 1]


async def test_a_reward_of_an_arm_that_is_gone_is_kept_and_teaches_nothing(one):
    await one.create(arms=ARMS[:1])
    choice = await one.choose()
    await one.update(arms=ARMS[1:])
    told = await one.reward(choice.choice_id, 1)
    assert (told.arm, told.learnt) == ("a", False)
    assert (await one.report()).reward_count == 0


async def test_many_contexts_get_their_arms_and_a_wrong_one_refuses_all(one):
    await one.create()
    request = pb.BatchChooseRequest(name=NAME)
    for at in range(40):
        request.contexts.add().update({"x": at / 40, "k": "two"})
    answer = await one.servicer.BatchChoose(request, None)
    assert len({choice.choice_id for choice in answer.choices}) == 40
    for choice in answer.choices:
        assert (await one.reward(choice.choice_id, 1)).learnt
    request.contexts[30].update({"x": 2})
    with pytest.raises(InvalidError) as refused:
        await one.servicer.BatchChoose(request, None)
    assert refused.value.violations[0].field == "contexts[30].x"
    assert (await one.report()).choice_count == 40
    await one.create("wide", arms=[pb.Arm(id=f"a{at}") for at in range(1000)], features=[])
    large = pb.BatchChooseRequest(name=f"{PARENT}/bandits/wide", contexts=[{} for _ in range(33)])
    with pytest.raises(InvalidError, match="contexts: may be at most 32 with 1000 arms"):
        await one.servicer.BatchChoose(large, None)
    del large.contexts[32:]
    assert len((await one.servicer.BatchChoose(large, None)).choices) == 32


async def test_what_each_arm_would_have_brought_is_estimated_from_what_was_chosen(one):
    await one.create(features=[], random_share=1.0)
    truth = {"a": 0.2, "b": 0.5, "c": 0.9}
    random = np.random.default_rng(1)
    request = pb.BatchChooseRequest(name=NAME)
    for _ in range(256):
        request.contexts.add()
    for _ in range(2):
        choices = (await one.servicer.BatchChoose(request, None)).choices
        rewards = [one.reward(each.choice_id, float(random.random() < truth[each.arm])) for each in choices]
        await asyncio.gather(*rewards)
    for arm in (await one.report()).arms:
        assert arm.always_reward == pytest.approx(truth[arm.arm], abs=0.12)
        assert arm.always_reward == pytest.approx(arm.mean_reward)  # every arm was as likely every time
        assert 130 < arm.effective_count < 210


def exact(database: Database, uid: str, features: list) -> dict[str, tuple[Any, Any, int]]:
    """What must be known of each arm: sums over the choices that have a reward."""
    width = Encoder(()).width + 3
    found: dict[str, tuple[Any, Any, int]] = {}
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT arm, context, reward FROM bandit_choices WHERE reward IS NOT NULL"
        ).all()
    for arm, context, reward in rows:
        x = np.frombuffer(context)
        gram, moment, count = found.get(arm, (np.zeros((width, width)), np.zeros(width), 0))
        found[arm] = (gram + np.outer(x, x), moment + reward * x, count + 1)
    return found


async def check_exact(here: Engine) -> int:
    """That what is kept of the arms is what was told, each reward once; how many there were."""
    entry = await here.learner._bandits.get(Bandit, NAME)
    wanted = exact(here.database, entry.uid, FEATURES)
    states = await here.database.read(lambda transaction: BanditStore().arms_since(transaction, entry.uid, 0))
    assert {state.arm for state in states} == set(wanted)
    for state in states:
        gram, moment, count = wanted[state.arm]
        assert (state.updates, state.count) == (count, count)
        assert state.gram == pytest.approx(gram)
        assert state.moment == pytest.approx(moment)
    return sum(count for _, _, count in wanted.values())


async def test_two_engines_that_learn_at_once_lose_nothing_and_believe_the_same(two):
    here, there = two
    await here.create(random_share=0.3)

    async def play(engine: Engine, rounds: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(rounds):
            choice = await engine.choose(float(random.random()), "one")
            told = float(random.random())
            answers = await asyncio.gather(
                here.reward(choice.choice_id, told),
                there.reward(choice.choice_id, told),
                here.reward(choice.choice_id, told),
            )
            assert sorted(answer.learnt for answer in answers) == [False, False, True]

    await asyncio.gather(*(play(each, 12, at) for at, each in enumerate((here, there, here, there))))
    assert await check_exact(here) == 48
    assert (await here.report()).reward_count == 48
    one, other = await here.report(), await there.report()
    for mine, theirs in zip(one.arms, other.arms, strict=True):
        assert [w.contribution for w in mine.weights] == pytest.approx([w.contribution for w in theirs.weights])


PLAYING = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = [{clone!r}, {generated!r}]
from tests.conftest import Place
from tests.unit.engine.test_bandits import Engine, opened
async def main():
    here = Engine(opened(Place({location!r}, {schema!r})))
    if {create!r}:
        await here.create()
    at = 0
    while True:
        at += 1
        choice = await here.choose(at % 10 / 10)
        print("chosen", choice.choice_id, flush=True)
        if at % 5:
            await here.reward(choice.choice_id, at % 2)
            print("told", choice.choice_id, flush=True)
asyncio.run(main())
"""


async def test_nothing_is_lost_or_counted_twice_when_an_engine_is_killed(place):
    """An engine plays until it is killed, twice; whoever comes after it tells the rewards that it had not."""
    chosen, told = [], []
    clone = Path(__file__).parents[3]
    for lives in range(2):
        program = PLAYING.format(
            clone=str(clone), generated=str(clone / "gen" / "python"), location=place.location, schema=place.schema,
            create=not lives,
        )  # fmt: skip
        playing = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert playing.stdout is not None
        for lines, line in enumerate(playing.stdout, start=1):
            word, choice = line.split()
            (chosen if word == "chosen" else told).append(choice)
            if lines == 31 + lives:
                os.kill(playing.pid, signal.SIGKILL)
        assert playing.wait() == -signal.SIGKILL
        playing.stdout.close()
    here = Engine(opened(place))
    here.now[0] = 1001.0
    assert len(told) <= await check_exact(here) <= len(told) + 2
    for choice in chosen:
        with_reward = choice in told
        try:
            answer = await here.reward(choice, 1.0)
        except RewardConflictError:
            continue  # another reward had been kept before
        assert not (with_reward and answer.learnt)
    assert await check_exact(here) == len(chosen)
    assert (await here.report()).reward_count == len(chosen)
    await here.database.close()
