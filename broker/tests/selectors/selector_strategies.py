"""Trees of selectors, messages for them, and texts that are nearly selectors, for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from penstock.selectors.tree import (
    And,
    Arithmetic,
    Between,
    Comparison,
    In,
    IsNull,
    Like,
    Node,
    Not,
    Number,
    Or,
    Property,
    Sign,
    Text,
    Truth,
)
from penstock.selectors.values import Value

LONGS = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(-3, 3)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)

names = st.sampled_from(["a", "b", "c", "$d", "content-type", "not", "é", 'q"', "JMSTimestamp"])
texts = st.text("ab%_'!5", max_size=4)

number_texts = st.one_of(
    SMALL.map(str),
    LONGS.map(str),
    st.integers(-(10**20), 10**20).map(str),
    DOUBLES.map(str),
    st.text("+-.eE0159", max_size=6),
)
values: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    texts,
    number_texts,
    st.sampled_from(["true", "FALSE", "True ", "", b"", True, False, 0, 2**70, float("nan"), float("inf")]),
    LONGS,
    DOUBLES,
)
messages = st.dictionaries(names, values)

properties = names.map(Property)
numbers = st.one_of(SMALL, LONGS, DOUBLES).map(Number)
signs = st.sampled_from("+-")

arithmetic: st.SearchStrategy[Node] = st.recursive(
    st.one_of(numbers, properties),
    lambda inner: st.one_of(
        st.builds(Sign, signs, inner),
        st.builds(Arithmetic, inner, st.lists(st.tuples(signs, inner), min_size=1, max_size=2).map(tuple)),
        st.builds(
            Arithmetic,
            inner,
            st.lists(st.tuples(st.sampled_from("*/"), inner), min_size=1, max_size=2).map(tuple),
        ),
    ),
    max_leaves=5,
)

_equalities = st.sampled_from(["=", "<>"])
_relations = st.sampled_from(["=", "<>", "<", ">", "<=", ">="])
_strings = st.one_of(texts.map(Text), properties)


@st.composite
def _likes(draw: st.DrawFn) -> Like:
    escape = draw(st.sampled_from([None, "!", "%"]))
    pieces = ["a", "b", "'", "%", "_", "5"]
    if escape is not None:
        pieces = [piece for piece in pieces if piece != escape] + [
            escape + "%",
            escape + "_",
            escape + escape,
        ]
    return Like(
        draw(names), "".join(draw(st.lists(st.sampled_from(pieces), max_size=5))), escape, draw(st.booleans())
    )


_leaves: st.SearchStrategy[Node] = st.one_of(
    st.booleans().map(Truth),
    properties,
    st.builds(Comparison, _relations, arithmetic, arithmetic),
    st.builds(Comparison, _equalities, _strings, _strings),
    st.builds(Between, arithmetic, arithmetic, arithmetic, st.booleans()),
    st.builds(In, names, st.lists(texts, min_size=1, max_size=3).map(tuple), st.booleans()),
    _likes(),
    st.builds(IsNull, names, st.booleans()),
)

conditions: st.SearchStrategy[Node] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
        st.builds(Comparison, _equalities, inner, st.one_of(inner, properties)),
    ),
    max_leaves=8,
)

_WORDS = ["NULL", "true", "FALSE", "not", "AND", "or", "BETWEEN", "LIKE", "in", "IS", "ESCAPE", "a", "b", '"a', 'b"', "'a'", "'it''s'", "'%'", "'!'", "''", "'", '"', "1", "-1", "0x1", "07", "08", "1e9", "1e999", "9223372036854775808", ".5", ".", "5.", "=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "(", ")", ",", ";", "!", "!=", "==", "||", "&&", "%", "é", "İ", "ı", "\u200b", "\x00", "JMSPriority"]  # fmt: skip

soups = st.one_of(
    st.text(),
    st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join),
    st.lists(st.sampled_from(_WORDS), max_size=25).map("".join),
)
