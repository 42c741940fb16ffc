"""What leaves of the series of many keys, decided once for all keys of one form.

A key is cut at its quotes: `name{a="1",b="2"}` has the shape `name{a=`, `,b=`, `}` and the values 1 and 2. Of keys
of one shape, the same becomes whatever their values are, but for the values that some rule looks at: those are
part of the form. So the rules are asked once for a form, with stand-ins for the values that none of them sees, and
the answer is a template that the values of each key are put into. `SeriesRules.scraped` is the reference; keys that
are not spelled simply go to it one by one, and so do all when a rule moves values from name to name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from collector.exposition import MetricType, RawSeries, family_of
from collector.exposition.lexing import parse_simple_key
from collector.labels import METRIC_NAME
from collector.scrape.series import TYPE_BYTES, Admitted, Outcome, SeriesRules
from collector.wire.frames import MAX_ENTRY_BYTES

_MOST_SHAPES = 2_000  # of a target, which chooses how many there are; over it, learning begins anew
_MOST_FORMS = 64  # of one shape: more, and a rule looks at values that nearly all differ
Parts = list[bytes]
Pick = Callable[[Parts], object]


class _Unseen(str):
    """Stands for the value in a part of the key, which no rule looks at."""

    __slots__ = ("part",)
    part: int


@dataclass(frozen=True, slots=True)
class _Template:
    """Canonical labels with places for parts of a key."""

    text: bytes
    pick: Pick | None  # None: no part goes into it

    def filled(self, parts: Parts) -> bytes:
        return self.text if self.pick is None else self.text % self.pick(parts)


@dataclass(frozen=True, slots=True)
class Form:
    """What becomes of keys of one form. `outcome` None: they leave, with the labels of `labels`."""

    outcome: Outcome | None = None
    kind: bytes = b""  # the type byte of an entry
    family: str = ""
    is_billing: bool = False
    labels: _Template = _Template(b"", None)
    pseudonyms: tuple[tuple[int, Mapping[bytes, bytes]], ...] = ()  # part -> what leaves instead
    before: _Template | None = None  # the labels before the policy; None: the same
    is_veiled: bool = False  # a label leaves as a pseudonym

    def leaves_as(self, parts: Parts) -> tuple[bytes, int]:
        """Canonical labels, and the hash of those before the policy. `parts` is changed."""
        if self.before is None:
            labels = self.labels.filled(parts)
            return labels, hash(labels)
        origin = hash(self.before.filled(parts))
        for part, shown in self.pseudonyms:
            parts[part] = shown[parts[part]]
        return self.labels.filled(parts), origin


@dataclass(slots=True)
class _Shape:
    """Keys of one shape. `names`: of their labels, in the order of the key."""

    name: str
    names: tuple[str, ...]
    is_simple: bool
    family: str = ""
    kind: MetricType = MetricType.UNKNOWN
    generation: int = 0  # of the types that family and kind are from
    pick: Pick | None = None  # the values that rules look at
    forms: dict[object, Form] = field(default_factory=dict)


class Forms:
    """The forms of one target under one policy."""

    def __init__(self, rules: SeriesRules) -> None:
        self._rules = rules
        self._types: Mapping[str, MetricType] = {}
        self._generation = 0
        self._shapes: dict[tuple[bytes, ...], _Shape | None] = {}  # None: met once
        self.reset()

    def reset(self) -> None:
        """Decide anew, by the policy that holds now."""
        self._now = self._rules.now()
        self._looked_at = self._now.looked_at()
        self.forget()

    def forget(self) -> None:
        """Let the memory go; what is asked again is learnt again."""
        self._shapes = {}

    def follow(self, types: Mapping[str, MetricType]) -> None:
        """The types of the families that the keys asked from now on belong to."""
        if types is not self._types and types != self._types:
            self._generation += 1
        self._types = types

    def decide(
        self, keys: Sequence[bytes], parse: Callable[[bytes], tuple[str, Mapping[str, str]]]
    ) -> Iterator[tuple[Form, bytes, int]]:
        """For each key, which is right: its form, its labels as they leave, the hash of those before the policy.

        `parse` reads a key that is not spelled simply.
        """
        simple = self._are_simple(keys)
        for key, is_simple in zip(keys, simple, strict=True):
            parts = key.split(b'"') if is_simple else []
            form = self._form(key, parts) if is_simple else None
            if form is None:
                yield self._one(*parse(key))
            elif form.outcome is not None:
                yield form, b"", 0
            else:
                labels, origin = form.leaves_as(parts)
                yield (form, labels, origin) if len(labels) < MAX_ENTRY_BYTES else (_TOO_LONG, b"", 0)

    def _are_simple(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """Whether each key has no escapes, no empty values, and shapes help at all."""
        if self._looked_at is None:
            return [False] * len(keys)
        return [True] * len(keys) if _is_simple(b" ".join(keys)) else list(map(_is_simple, keys))

    def _form(self, key: bytes, parts: Parts) -> Form | None:
        """None: ask the rules for this key alone."""
        spelled = tuple(parts[::2])
        shape = self._shapes.get(spelled)
        if shape is None:
            shape = self._learn(spelled, key)
            if shape is None:
                return None
        if not shape.is_simple:
            return None
        if shape.generation != self._generation:
            self._follow_types(shape)
        seen = shape.pick(parts) if shape.pick is not None else None
        return shape.forms.get(seen) or self._decide_form(shape, seen, parts)

    def _learn(self, spelled: tuple[bytes, ...], key: bytes) -> _Shape | None:
        """The shape, if it was met before: learning costs as much as asking for some keys."""
        if spelled not in self._shapes:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes = {}
            self._shapes[spelled] = None
            return None
        found = parse_simple_key(key)
        name, labels = found or ("", {})
        shape = self._shapes[spelled] = _Shape(name, tuple(labels), found is not None, generation=-1)
        if found is not None:
            seen = self._parts_looked_at(shape)
            shape.pick = itemgetter(*seen) if seen else None
        return shape

    def _follow_types(self, shape: _Shape) -> None:
        family = family_of(shape.name, self._types)
        kind = self._types.get(family, MetricType.UNKNOWN)
        if (family, kind) != (shape.family, shape.kind):
            shape.forms = {}
        shape.family, shape.kind, shape.generation = family, kind, self._generation

    def _parts_looked_at(self, shape: _Shape) -> list[int]:
        assert self._looked_at is not None
        labels = self._stand_ins(shape)
        self._now.add_target(labels)
        values = [value for name, value in labels.items() if name in self._looked_at]
        return sorted(value.part for value in values if isinstance(value, _Unseen))

    def _stand_ins(self, shape: _Shape) -> dict[str, str]:
        labels: dict[str, str] = {}
        for place, name in enumerate(shape.names):
            labels[name] = value = _Unseen("?")
            value.part = 2 * place + 1
        labels[METRIC_NAME] = shape.name
        return labels

    def _decide_form(self, shape: _Shape, seen: object, parts: Parts) -> Form | None:
        if len(shape.forms) >= _MOST_FORMS:
            shape.is_simple, shape.forms = False, {}
            return None
        labels = self._stand_ins(shape)
        known = set(self._parts_looked_at(shape))
        for place, name in enumerate(shape.names):
            if 2 * place + 1 in known:
                labels[name] = parts[2 * place + 1].decode()
        form = shape.forms[seen] = self._made(labels, shape)
        return form

    def _made(self, labels: dict[str, str], shape: _Shape) -> Form:
        before = self._now.relabelled(labels)
        if before is None:
            return Form(Outcome.DROPPED)
        plan = self._now.policy.plan(shape.family, before)
        if plan is None:
            return Form(Outcome.DENIED)
        after = {name: before[name] for name in plan.kept}
        pseudonyms = []
        for name, shown in plan.pseudonyms:
            value = before[name]
            if isinstance(value, _Unseen):
                pseudonyms.append((value.part, shown))
                after[name] = value
            else:
                after[name] = shown[value.encode()].decode()
        is_same = not pseudonyms and len(after) == len(before) and not plan.pseudonyms
        return Form(
            kind=TYPE_BYTES[shape.kind],
            family=shape.family,
            is_billing=self._now.is_billing(after.get(METRIC_NAME, "")),
            labels=_template(after),
            pseudonyms=tuple(pseudonyms),
            before=None if is_same else _template(before),
            is_veiled=bool(plan.pseudonyms),
        )

    def _one(self, name: str, labels: Mapping[str, str]) -> tuple[Form, bytes, int]:
        """What the rules say of one series."""
        family = family_of(name, self._types)
        raw = RawSeries(name, labels, family, self._types.get(family, MetricType.UNKNOWN))
        found = self._now.scraped(raw)
        if isinstance(found, Admitted):
            form = Form(kind=found.entry[:1], family=family, is_billing=found.is_billing, is_veiled=found.is_veiled)
            return form, found.entry[1:], found.origin
        return _STAYS[found], b"", 0


_STAYS = {outcome: Form(outcome) for outcome in Outcome}
_TOO_LONG = _STAYS[Outcome.TOO_LONG]


def _is_simple(text: bytes) -> bool:
    """Whether nothing in it is escaped or empty."""
    return b"\\" not in text and b'=""' not in text and b"\n" not in text


def _template(labels: Mapping[str, str]) -> _Template:
    text, picked = b"", []
    for name, value in sorted(labels.items()):
        if isinstance(value, _Unseen):
            picked.append(value.part)
            text += _literal(name) + b"\xff%b\xff"
        elif value:
            text += _literal(name) + b"\xff" + _literal(value) + b"\xff"
    return _Template(text, itemgetter(*picked)) if picked else _Template(text % (), None)


def _literal(text: str) -> bytes:
    return text.encode().replace(b"%", b"%%")
