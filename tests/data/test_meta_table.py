import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audiocraft.data.manifest import AudioMeta
from audiocraft.data.meta_table import MetaTable

PATHS = st.text(min_size=1).filter(lambda text: "\0" not in text)
METAS = st.builds(
    AudioMeta,
    path=PATHS,
    duration=st.floats(0, 1e6),
    sample_rate=st.integers(1, 192_000),
    amplitude=st.none() | st.floats(0, 1),
    weight=st.none() | st.floats(0, 100),
    info_path=st.none() | PATHS,
)


@given(st.lists(METAS, max_size=5))
def test_a_table_equals_its_source_list(metas):
    table = MetaTable.of(metas)
    assert list(table) == metas
    assert len(table) == len(metas)
    assert [table[i] for i in range(-len(metas), len(metas))] == metas + metas
    assert table[1:4:2] == metas[1:4:2]
    assert MetaTable.of(table) is table
    assert list(pickle.loads(pickle.dumps(table))) == metas
    assert table.durations.tolist() == [m.duration for m in metas]
    assert table.weights.tolist() == [1.0 if m.weight is None else m.weight for m in metas]


@given(st.lists(st.tuples(METAS, st.booleans(), st.booleans()), max_size=6))
def test_a_selection_equals_the_selected_list(chosen):
    table = MetaTable.of([meta for meta, _, _ in chosen])
    once = table.select(np.array([a for _, a, _ in chosen], bool))
    twice = once.select(np.array([b for _, a, b in chosen if a], bool))
    assert list(once) == [meta for meta, a, _ in chosen if a]
    assert list(twice) == [meta for meta, a, b in chosen if a and b]
    assert twice.durations.tolist() == [m.duration for m in twice]
    assert [table[twice.row(i)] for i in range(len(twice))] == list(twice)


def test_names_that_are_not_utf8_are_kept():
    meta = AudioMeta("caf\udce9.wav", 1.0, 8000)
    assert list(MetaTable.of([meta])) == [meta]
