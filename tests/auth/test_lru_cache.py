from collections import OrderedDict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discue.auth.control_plane_cache import LruCache

KEYS = st.integers(0, 7)
TAGS = st.integers(100, 103)
LIMIT = 4


class RecentBesideAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.recent: LruCache[int, tuple[int, ...]] = LruCache(LIMIT)
        self.model: OrderedDict[int, tuple[int, ...]] = OrderedDict()

    @rule(key=KEYS, tags=st.lists(TAGS, max_size=2).map(tuple))
    def put(self, key: int, tags: tuple[int, ...]) -> None:
        self.recent.put(key, tags, tags)
        self.model.pop(key, None)
        self.model[key] = tags
        if len(self.model) > LIMIT:
            self.model.popitem(last=False)

    @rule(key=KEYS)
    def get(self, key: int) -> None:
        assert self.recent.get(key) == self.model.get(key)
        if key in self.model:
            self.model.move_to_end(key)

    @rule(tag=TAGS)
    def drop(self, tag: int) -> None:
        self.recent.invalidate(tag)
        for key in [key for key, tags in self.model.items() if tag in tags]:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.recent.clear()
        self.model.clear()

    @invariant()
    def as_many_as_there_should_be(self) -> None:
        assert len(self.recent) == len(self.model) <= LIMIT

    @invariant()
    def nothing_is_remembered_of_what_was_forgotten(self) -> None:
        assert set(self.recent._tags) == set(self.model)
        assert set(self.recent._keys_by_tag) == {tag for tags in self.model.values() for tag in tags}


TestRecent = RecentBesideAModel.TestCase
TestRecent.settings = settings(max_examples=30)
