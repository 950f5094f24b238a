"""A selector's text as tokens: the literals, identifiers and operators of Jakarta Messaging 3.1, section 3.8.1.1.

Whitespace is Java's. Identifiers are Java's too, by Unicode category, but without the invisible characters that Java
allows within them: two names that look alike would differ. A name in double quotes may hold anything.
"""

from __future__ import annotations

import math
import re
import unicodedata
from enum import Enum

import msgspec

from penstock.selectors.errors import SelectorError
from penstock.selectors.limits import EXPRESSION_CHARACTERS_MAX, NAME_CHARACTERS_MAX

LONG_MAX = 2**63 - 1
LONG_MIN = -(2**63)

KEYWORDS = frozenset(["NULL", "TRUE", "FALSE", "NOT", "AND", "OR", "BETWEEN", "LIKE", "IN", "IS", "ESCAPE"])
"""Written in any case; no identifier has these names, unless in double quotes."""

_SPACE = " \t\n\r\f"
_OPERATORS = ("<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "(", ")", ",")
_MISTAKEN = {
    "!=": "write <>",
    "==": "write =",
    "&&": "write AND",
    "||": "write OR",
    "!": "write NOT",
    "%": "there is no remainder: use + - * /",
    ";": "an expression ends without a mark: leave it out",
    "`": "write names in double quotes",
}

_HEXADECIMAL = re.compile(r"0[xX]([0-9a-fA-F]+)[lL]?")
_APPROXIMATE = re.compile(
    r"((?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)[fFdD]?|([0-9]+)[fFdD]"
)
_STARTS_NUMERAL = re.compile(r"\.?[0-9]")
_DECIMAL = re.compile(r"([0-9]+)[lL]?")

_STARTS = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Nl", "Sc", "Pc"))
_PARTS = _STARTS | {"Nd", "Mn", "Mc"}


class TokenKind(Enum):
    """What a token is; the value is how it is called in sentences."""

    NUMBER = "a number"
    STRING = "a string"
    NAME = "an identifier"
    KEYWORD = "a keyword"
    OPERATOR = "an operator"
    END = "the end"


class Token(msgspec.Struct, frozen=True):
    """One token. `text` is a string's or a name's content, a keyword in upper case, an operator; `position` counts
    characters from 1; `value` is a number's."""

    kind: TokenKind
    text: str
    position: int
    value: int | float = 0

    def __str__(self) -> str:
        return {
            TokenKind.STRING: f"the string '{shortened(self.text)}'",
            TokenKind.NAME: f"the identifier {shortened(self.text)}",
            TokenKind.END: "the end of the expression",
        }.get(self.kind, shortened(self.text))


def shortened(text: str) -> str:
    """Enough of it for a sentence."""
    return text if len(text) <= 40 else text[:37] + "..."


def is_identifier(text: str) -> bool:
    """Whether this is an identifier without double quotes; keywords are, by this rule."""
    return (
        bool(text)
        and unicodedata.category(text[0]) in _STARTS
        and all(unicodedata.category(character) in _PARTS for character in text)
    )


def tokenize(text: str) -> list[Token]:
    """All tokens, and one of the kind END. Raises SelectorError."""
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise SelectorError(
            EXPRESSION_CHARACTERS_MAX + 1,
            f"the expression has {len(text)} characters: at most {EXPRESSION_CHARACTERS_MAX} are read",
        )
    tokens: list[Token] = []
    start = 0
    while start < len(text):
        if text[start] in _SPACE:
            start += 1
            continue
        token, start = _token(text, start)
        tokens.append(token)
    tokens.append(Token(TokenKind.END, "", len(text) + 1))
    return tokens


def _token(text: str, start: int) -> tuple[Token, int]:
    """The token that begins here, and where it ends."""
    character = text[start]
    if character in "'\"":
        return _quoted(text, start)
    if _STARTS_NUMERAL.match(text, start):
        return _numeral(text, start)
    if unicodedata.category(character) in _STARTS:
        return _word(text, start)
    for mistaken, advice in _MISTAKEN.items():
        if text.startswith(mistaken, start):
            raise SelectorError(start + 1, f"{mistaken} is no operator: {advice}")
    for operator in _OPERATORS:
        if text.startswith(operator, start):
            return Token(TokenKind.OPERATOR, operator, start + 1), start + len(operator)
    raise SelectorError(
        start + 1,
        f"{character!r} means nothing here: write strings in single quotes, other names in double quotes",
    )


def _quoted(text: str, start: int) -> tuple[Token, int]:
    """A string, or a name in double quotes; the quote itself is written twice within."""
    quote = text[start]
    parts: list[str] = []
    begin = start + 1
    while True:
        end = text.find(quote, begin)
        if end < 0:
            what = "a string" if quote == "'" else "a name"
            raise SelectorError(start + 1, f"{what} begins here and does not end: write {quote} after it")
        parts.append(text[begin:end])
        if not text.startswith(quote, end + 1):
            break
        begin = end + 2
    content = quote.join(parts)
    if quote == "'":
        return Token(TokenKind.STRING, content, start + 1), end + 1
    return Token(TokenKind.NAME, _checked_name(content, start), start + 1), end + 1


def _word(text: str, start: int) -> tuple[Token, int]:
    end = start + 1
    while end < len(text) and unicodedata.category(text[end]) in _PARTS:
        end += 1
    word = text[start:end]
    # Only ASCII: the upper case of other letters may be ASCII ("ı" is one), and no keyword was meant.
    if word.isascii() and word.upper() in KEYWORDS:
        return Token(TokenKind.KEYWORD, word.upper(), start + 1), end
    return Token(TokenKind.NAME, _checked_name(word, start), start + 1), end


def _checked_name(name: str, start: int) -> str:
    if not name:
        raise SelectorError(
            start + 1, "a name has at least one character: strings are written in single quotes"
        )
    if len(name) > NAME_CHARACTERS_MAX:
        raise SelectorError(
            start + 1, f"the name has {len(name)} characters: at most {NAME_CHARACTERS_MAX} are read"
        )
    return name


def _numeral(text: str, start: int) -> tuple[Token, int]:
    """Java's literals: 57, 0x1F, 017, 57L are exact; 7., .5, 7E3, 57.9e-2, 7d are approximate."""
    value: int | float
    if found := _HEXADECIMAL.match(text, start):
        value = int(found[1], 16)
    elif found := _APPROXIMATE.match(text, start):
        value = _approximate(found[1] or found[2], start)
    else:
        found = _DECIMAL.match(text, start)
        assert found is not None, "a numeral begins with a digit, or a point and a digit"
        value = _exact(found[1], start)
    end = found.end()
    if end < len(text) and (text[end] == "." or unicodedata.category(text[end]) in _PARTS):
        raise SelectorError(
            end + 1, f"{text[end]!r} is no part of a number: write 57, 5.7, 5.7E3, 0x3F or 071"
        )
    # One more than fits: it may be the operand of a minus.
    if isinstance(value, int) and value > LONG_MAX + 1:
        raise too_large(start)
    return Token(TokenKind.NUMBER, text[start:end], start + 1, value), end


def _exact(digits: str, start: int) -> int:
    if len(digits) == 1 or digits[0] != "0":
        return int(digits)
    if digits.strip("01234567"):
        raise SelectorError(
            start + 1, "a number that begins with 0 is octal, with digits up to 7: leave the 0 out"
        )
    return int(digits, 8)


def _approximate(text: str, start: int) -> float:
    """A double. As in Java, what a double can only hold as infinity, or as zero, is no literal."""
    value = float(text)
    mantissa = text.lower().split("e")[0]
    if not math.isfinite(value) or (value == 0 and mantissa.strip("0.")):
        raise SelectorError(
            start + 1, f"{shortened(text)} is beyond what a double holds: write 4.9E-324 to 1.7E308"
        )
    return value


def too_large(start: int) -> SelectorError:
    """The numeral that begins at this index is no 64-bit number."""
    return SelectorError(
        start + 1, f"exact numbers are {LONG_MIN} to {LONG_MAX}: write 1E19 for an approximate one"
    )
