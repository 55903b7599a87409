"""Keys of shared results: equal for equal questions, different for any difference."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.model.access import PUBLIC, SERVICE, AccessDomain
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.shared import (
    SHARDS,
    SharedQuestion,
    is_note,
    is_shared,
    new_object_key,
    note_key,
    question_key_of,
)
from servicex_server.store.key import check_key

text = st.text(max_size=12)
questions = st.builds(
    SharedQuestion,
    plan=text,
    result_format=st.sampled_from(ResultFormat),
    compression=text,
    entry_start=st.integers(0, 2**63),
    entry_stop=st.none() | st.integers(0, 2**63),
    file=text,
    domain=st.sampled_from([PUBLIC, SERVICE]) | st.builds(AccessDomain.of_user, text),
    engine=text,
)


@given(questions, questions)
def test_only_equal_questions_share_a_key(one: SharedQuestion, other: SharedQuestion) -> None:
    assert (one.key() == other.key()) == (one == other)
    assert one.key() == replace(one).key()


QUESTION = SharedQuestion("plan", ResultFormat.PARQUET, "zstd", 0, None, "local:/x:1:2:3", SERVICE, "1")


@pytest.mark.parametrize(
    "change",
    [
        {"plan": "plan "},
        {"result_format": ResultFormat.ARROW},
        {"compression": "zstd:3"},
        {"entry_start": 1},
        {"entry_stop": 0},
        {"file": "local:/x:1:2:4"},
        {"domain": PUBLIC},
        {"domain": AccessDomain.of_user("")},
        {"engine": "2"},
    ],
)
def test_every_ingredient_counts(change: dict[str, object]) -> None:
    assert replace(QUESTION, **change).key() != QUESTION.key()  # type: ignore[arg-type]  # named above


def test_no_ingredient_is_forgotten() -> None:
    names = {field.name for field in fields(SharedQuestion)}
    assert names == {
        *("plan", "result_format", "compression", "entry_start", "entry_stop", "file", "domain", "engine")
    }


def test_ingredients_cannot_be_shifted_into_each_other() -> None:
    one = replace(QUESTION, compression="a", file='b", "c')
    other = replace(QUESTION, compression='a", "b', file="c")
    assert one.key() != other.key()


def test_an_object_key_never_comes_twice_and_leads_to_its_note() -> None:
    key = QUESTION.key()
    objects = {new_object_key(key) for _ in range(1000)}
    assert len(objects) == 1000
    for each in (*objects, note_key(key)):
        assert check_key(each) == each
        assert is_shared(each)
        assert question_key_of(each) == key
        assert sum(each.startswith(shard) for shard in SHARDS) == 1
    assert is_note(note_key(key))
    assert not any(map(is_note, objects))
    assert not is_shared("00000000-0000-4000-8000-000000000000/1-0-1")
