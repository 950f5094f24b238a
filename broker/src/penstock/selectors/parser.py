"""Tokens become a tree: the grammar, and everything that can be refused without a message.

One method per level of precedence, from loose to tight: OR, AND, NOT, comparisons, sums, products, signs, operands.
A method looks at the token that comes next and nowhere else, so reading costs one pass. What is wrong is refused
where it shows, with what to write instead (`SelectorError`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from penstock.selectors.errors import SelectorError
from penstock.selectors.lexer import LONG_MAX, Token, TokenKind, shortened, tokenize, too_large
from penstock.selectors.like import check_pattern
from penstock.selectors.limits import DEPTH_MAX, IN_LIST_MAX, LIKES_MAX, NODES_MAX, PATTERN_CHARACTERS_MAX
from penstock.selectors.properties import check_name
from penstock.selectors.tree import (
    And,
    Arithmetic,
    Between,
    Comparison,
    In,
    IsNull,
    Kind,
    Like,
    Node,
    Not,
    Number,
    Or,
    Property,
    Sign,
    Text,
    Truth,
    kind_of,
)

_EQUALITIES = ("=", "<>")
_ORDERINGS = ("<", ">", "<=", ">=")


def parse(text: str) -> Node:
    """The selector's tree, which is a condition. Raises SelectorError; an empty text is no condition."""
    parser = _Parser(tokenize(text))
    node = parser.condition()
    parser.end()
    return node


class _Parser:
    """The tokens, how many are read, and what has been counted against the limits."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._index = 0
        self._depth = 0
        self._nodes = 0
        self._likes = 0

    def condition(self) -> Node:
        """An expression that is true, false or unknown."""
        start = self._next
        return self._checked(self._disjunction(), Kind.CONDITION, start, "write a comparison")

    def end(self) -> None:
        """Nothing may be left."""
        if self._next.kind is TokenKind.END:
            return
        if self._next.kind is TokenKind.OPERATOR and self._next.text in _EQUALITIES + _ORDERINGS:
            self._refuse(f"{self._next.text} follows a comparison: join two comparisons with AND")
        if self._next.text == ")":
            self._refuse("no parenthesis is open: leave ) out")
        self._refuse(f"{self._next} comes after the end of a condition: join conditions with AND or OR")

    @property
    def _next(self) -> Token:
        return self._tokens[self._index]

    def _take(self) -> Token:
        token = self._next
        if token.kind is not TokenKind.END:
            self._index += 1
        return token

    def _took(self, kind: TokenKind, *texts: str) -> Token | None:
        """The next token if it is one of these; then it is read."""
        if self._next.kind is kind and self._next.text in texts:
            return self._take()
        return None

    def _takes(self, kind: TokenKind, text: str, where: str) -> None:
        if self._took(kind, text) is None:
            self._refuse(f"{self._next} stands where {text} belongs: write {where}")

    def _refuse(self, reason: str, token: Token | None = None) -> NoReturn:
        raise SelectorError((token or self._next).position, reason)

    def _counted(self, token: Token) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            self._refuse(
                f"the expression has more than {NODES_MAX} literals, identifiers and operators", token
            )

    def _deeper(self, token: Token, read: Callable[[], Node]) -> Node:
        """What `read` finds, one level further down."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            self._refuse(
                f"this is more than {DEPTH_MAX} levels deep: write fewer parentheses, NOTs or signs", token
            )
        node = read()
        self._depth -= 1
        return node

    def _checked(self, node: Node, wanted: Kind, start: Token, advice: str) -> Node:
        """The node, which is of that kind or an identifier."""
        kind = kind_of(node)
        if kind not in (wanted, Kind.ANY):
            self._refuse(f"{kind.value} stands where {wanted.value} belongs: {advice}", start)
        return node

    def _chain(
        self, operator: str, read: Callable[[], Node], make: Callable[[tuple[Node, ...]], Node]
    ) -> Node:
        """Conditions joined by AND or OR; one alone is itself."""
        start = self._next
        first = read()
        if self._next.kind is not TokenKind.KEYWORD or self._next.text != operator:
            return first
        advice = f"{operator} joins conditions"
        parts = [self._checked(first, Kind.CONDITION, start, advice)]
        while (token := self._took(TokenKind.KEYWORD, operator)) is not None:
            self._counted(token)
            start = self._next
            parts.append(self._checked(read(), Kind.CONDITION, start, advice))
        return make(tuple(parts))

    def _disjunction(self) -> Node:
        return self._chain("OR", self._conjunction, Or)

    def _conjunction(self) -> Node:
        return self._chain("AND", self._negation, And)

    def _negation(self) -> Node:
        token = self._took(TokenKind.KEYWORD, "NOT")
        if token is None:
            return self._comparison()
        self._counted(token)
        start = self._next
        operand = self._deeper(token, self._negation)
        return Not(self._checked(operand, Kind.CONDITION, start, "NOT turns a condition round"))

    def _comparison(self) -> Node:
        start = self._next
        left = self._sum()
        token = self._took(TokenKind.OPERATOR, *_EQUALITIES, *_ORDERINGS)
        if token is not None:
            return self._compared(left, start, token)
        negated = self._took(TokenKind.KEYWORD, "NOT")
        token = self._took(TokenKind.KEYWORD, "BETWEEN", "IN", "LIKE")
        if token is None:
            if negated is not None:
                self._refuse(
                    f"NOT follows an operand, and {self._next} follows: write NOT BETWEEN, NOT IN or NOT LIKE"
                )
            token = self._took(TokenKind.KEYWORD, "IS")
            return left if token is None else self._is_null(left, start, token)
        self._counted(token)
        if token.text == "BETWEEN":
            return self._between(left, start, negated is not None)
        name = self._name_before(token, left, start)
        if token.text == "IN":
            return In(name, self._strings(), negated is not None)
        return self._like(name, token, negated is not None)

    def _compared(self, left: Node, left_start: Token, operator: Token) -> Node:
        self._counted(operator)
        start = self._next
        right = self._sum()
        if operator.text in _ORDERINGS:
            advice = f"{operator.text} compares numbers: strings and booleans have only = and <>"
            self._checked(left, Kind.NUMBER, left_start, advice)
            self._checked(right, Kind.NUMBER, start, advice)
        kinds = {kind_of(left), kind_of(right)} - {Kind.ANY}
        if len(kinds) > 1:
            self._refuse(
                f"{kind_of(left).value} is never like {kind_of(right).value}: compare two of one kind",
                operator,
            )
        return Comparison(operator.text, left, right)

    def _between(self, left: Node, left_start: Token, negated: bool) -> Node:
        advice = "BETWEEN compares numbers"
        self._checked(left, Kind.NUMBER, left_start, advice)
        start = self._next
        low = self._checked(self._sum(), Kind.NUMBER, start, advice)
        self._takes(TokenKind.KEYWORD, "AND", "BETWEEN 1 AND 10")
        start = self._next
        high = self._checked(self._sum(), Kind.NUMBER, start, advice)
        return Between(left, low, high, negated)

    def _name_before(self, token: Token, left: Node, start: Token) -> str:
        if not isinstance(left, Property):
            self._refuse(f"{token.text} follows an identifier alone: write name {token.text}", start)
        return left.name

    def _is_null(self, left: Node, start: Token, token: Token) -> Node:
        self._counted(token)
        name = self._name_before(token, left, start)
        negated = self._took(TokenKind.KEYWORD, "NOT") is not None
        self._takes(TokenKind.KEYWORD, "NULL", "IS NULL or IS NOT NULL")
        return IsNull(name, negated)

    def _strings(self) -> tuple[str, ...]:
        self._takes(TokenKind.OPERATOR, "(", "IN ('one', 'two')")
        values = [self._string("IN takes strings: write ('one', 'two')")]
        while self._took(TokenKind.OPERATOR, ",") is not None:
            if len(values) == IN_LIST_MAX:
                self._refuse(f"IN takes at most {IN_LIST_MAX} strings")
            values.append(self._string("IN takes strings: write ('one', 'two')"))
        self._takes(TokenKind.OPERATOR, ")", "IN ('one', 'two')")
        return tuple(values)

    def _string(self, advice: str) -> str:
        if self._next.kind is not TokenKind.STRING:
            self._refuse(f"{self._next} stands where a string belongs: {advice}")
        return self._take().text

    def _like(self, name: str, token: Token, negated: bool) -> Node:
        self._likes += 1
        if self._likes > LIKES_MAX:
            self._refuse(f"the expression has more than {LIKES_MAX} LIKEs", token)
        start = self._next
        pattern = self._string("write LIKE 'a%'")
        if len(pattern) > PATTERN_CHARACTERS_MAX:
            self._refuse(
                f"the pattern has {len(pattern)} characters: at most {PATTERN_CHARACTERS_MAX} are read", start
            )
        escape = None
        if self._took(TokenKind.KEYWORD, "ESCAPE") is not None:
            escape_start = self._next
            escape = self._string("write ESCAPE '!'")
            if len(escape) != 1:
                self._refuse("what escapes is one character: write ESCAPE '!'", escape_start)
        wrong = check_pattern(pattern, escape)
        if wrong is not None:
            self._refuse(wrong, start)
        return Like(name, pattern, escape, negated)

    def _sum(self) -> Node:
        return self._terms("+", "-", self._product)

    def _product(self) -> Node:
        return self._terms("*", "/", self._signed)

    def _terms(self, one: str, other: str, read: Callable[[], Node]) -> Node:
        """Operands joined by two operators of one precedence; one alone is itself."""
        start = self._next
        first = read()
        rest: list[tuple[str, Node]] = []
        while (token := self._took(TokenKind.OPERATOR, one, other)) is not None:
            self._counted(token)
            advice = f"{token.text} takes numbers"
            if not rest:
                self._checked(first, Kind.NUMBER, start, advice)
            operand_start = self._next
            rest.append((token.text, self._checked(read(), Kind.NUMBER, operand_start, advice)))
        return Arithmetic(first, tuple(rest)) if rest else first

    def _signed(self) -> Node:
        token = self._took(TokenKind.OPERATOR, "+", "-")
        if token is None:
            return self._operand()
        if self._next.kind is TokenKind.NUMBER:
            return self._number(minus=token.text == "-")
        self._counted(token)
        start = self._next
        operand = self._deeper(token, self._signed)
        return Sign(token.text, self._checked(operand, Kind.NUMBER, start, f"{token.text} takes a number"))

    def _number(self, minus: bool) -> Node:
        token = self._take()
        self._counted(token)
        if minus:
            return Number(-token.value)
        if isinstance(token.value, int) and token.value > LONG_MAX:
            raise too_large(token.position - 1)
        return Number(token.value)

    def _operand(self) -> Node:
        token = self._next
        if token.kind is TokenKind.NUMBER:
            return self._number(minus=False)
        if (parenthesis := self._took(TokenKind.OPERATOR, "(")) is not None:
            node = self._deeper(parenthesis, self._disjunction)
            if self._next.text != ")" or self._next.kind is not TokenKind.OPERATOR:
                self._refuse(
                    f"{self._next} stands where ) belongs: one is open since character {token.position}"
                )
            self._take()
            return node
        if token.kind not in (TokenKind.STRING, TokenKind.NAME) and token.text not in ("TRUE", "FALSE"):
            self._refuse_operand(token)
        self._counted(self._take())
        if token.kind is TokenKind.STRING:
            return Text(token.text)
        if token.kind is TokenKind.NAME:
            wrong = check_name(token.text)
            if wrong is not None:
                self._refuse(wrong, token)
            return Property(token.text)
        return Truth(token.text == "TRUE")

    def _refuse_operand(self, token: Token) -> NoReturn:
        if token.kind is TokenKind.KEYWORD and token.text == "NULL":
            self._refuse("NULL is compared with nothing: write name IS NULL or name IS NOT NULL", token)
        self._refuse(
            f"{shortened(str(token))} stands where an operand belongs: write a name, a literal or (", token
        )
