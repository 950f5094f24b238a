"""Selectors and what they say of one message, by the section that says so.

Sections are those of Jakarta Messaging 3.1, whose 3.8.1 is JMS 2.0's; "RocketMQ" is its page on SQL92 filters and
"Penstock" a rule of the package's own, where both are silent. T is true, F false, U unknown.
"""

from __future__ import annotations

import pytest

from penstock.selectors.filtering import compile_selector
from penstock.selectors.parser import parse
from penstock.selectors.tree import write
from penstock.selectors.values import Value

T, F, U = True, False, None

MESSAGE: dict[str, Value] = {
    # Headers: text without a type.
    "JMSType": "car",
    "NumberOfOrders": "2",
    "color": "blue",
    "weight": "2600",
    "price": "99.5",
    "region": "eu",
    "Country": "UK",
    "name": "alpha",
    "age": "17",
    "zero": "0",
    "minus": "-3",
    "yes": "true",
    "no": "FALSE",
    "word": "lose",
    "words": "loose",
    "empty": "",
    "quote": "it's",
    "long": "9223372036854775807",
    "longer": "12345678901234567890",
    "longest": "12345678901234567891",
    "scientific": "1e3",
    "spaced": " 5 ",
    "phone": "12993",
    "underscored": "_foo",
    "percent": "50%",
    "lines": "a\nb",
    "_x1": "1",
    "$y": "2",
    "straße": "lang",
    "content-type": "json",
    "like": "a keyword",
    'a"b': "quoted",
    "five": "5",
    "fivepoint": "5.0",
    "nan": "NaN",
    # What a mapping may hold beside text.
    "valueless": None,
    "bytes": b"",
    "JMSTimestamp": 1_700_000_000_000,
    "real": 2.5,
    "flag": True,
}

LITERALS = [
    # 3.8.1.1, literals: strings.
    ("'literal' = 'literal'", T),
    ("'literal''s' = 'literal''s'", T),
    ("quote = 'it''s'", T),
    ("'' = empty", T),
    ("'a' = 'A'", F),
    ("'a' <> 'A'", T),
    ("'a' = 'a '", F),
    ("'é' = 'é'", T),
    ("'\"' <> ''''", T),
    # Exact numerals: Java's integer literals.
    ("57 = 57", T),
    ("-957 < +62", T),
    ("57L = 57l", T),
    ("0x1F = 31", T),
    ("0XfFl = 255", T),
    ("017 = 15", T),
    ("00 = 0", T),
    ("0 = -0", T),
    ("9223372036854775807 > 9223372036854775806", T),
    ("-9223372036854775808 < 0", T),
    ("-9223372036854775808 = -9223372036854775807 - 1", T),
    # Approximate numerals: Java's floating-point literals.
    ("7E3 = 7000", T),
    ("-57.9E2 = -5790", T),
    ("7. = 7", T),
    ("-95.7 < +6.2", T),
    (".5 = 0.5", T),
    ("1e-1 = .1", T),
    ("1.5E+1 = 15", T),
    ("7d = 7.0f", T),
    ("09.5 = 9.5", T),
    # Booleans.
    ("TRUE", T),
    ("FALSE", F),
    ("true", T),
    ("fAlSe", F),
    ("TRUE = TRUE", T),
    ("TRUE <> FALSE", T),
]

IDENTIFIERS = [
    # 3.8.1.1, identifiers: case sensitive, Java's letters; keywords in any case.
    ("color = 'blue'", T),
    ("Color = 'blue'", U),
    ("color = 'BLUE'", F),
    ("_x1 = 1", T),
    ("$y = 2", T),
    ("straße = 'lang'", T),
    ("color IS NOT NULL and COLOR is null", T),
    # A name that begins with a keyword is a name.
    ("nothing IS NULL", T),
    ("android IS NULL AND order1 IS NULL", T),
    # "ı" has the upper case "I", and is no keyword's.
    ("ıs IS NULL AND ıN IS NULL", T),
    # SQL92 5.2, delimited identifiers (Penstock).
    ("\"content-type\" = 'json'", T),
    ("\"color\" = 'blue'", T),
    ("\"like\" LIKE 'a%'", T),
    ('"a""b" = \'quoted\'', T),
    ('"no such" IS NULL', T),
    # Whitespace is Java's.
    ("\tcolor\r\n=\f'blue' ", T),
    ("color='blue'AND age<18", T),
    ("((color = 'blue'))", T),
]

TYPES = [
    # RocketMQ: a property is a string, read as what it is compared with. JMS, with typed properties, has false here.
    ("NumberOfOrders > 1", T),
    ("NumberOfOrders = 2", T),
    ("NumberOfOrders = '2'", T),
    ("five = 5.0", T),
    ("fivepoint = 5", T),
    ("five = '5.0'", F),
    ("price > 99", T),
    ("scientific = 1000", T),
    ("minus < 0", T),
    ("long = 9223372036854775807", T),
    ("longer > 9223372036854775807", T),
    ("yes = TRUE", T),
    ("no = FALSE", T),
    ("no = TRUE", F),
    ("yes = 'true'", T),
    ("yes <> FALSE", T),
    # Two headers are two strings for = and <>, two numbers for the others.
    ("five = fivepoint", F),
    ("five <> fivepoint", T),
    ("five >= fivepoint", T),
    ("five < price", T),
    ("color < price", F),
    ("color = color", T),
    ("five + 0 = fivepoint + 0", T),
    # 3.8.1.1: only like values can be compared, else the value is false; <> too.
    ("color = 5", F),
    ("color <> 5", F),
    ("color > 5", F),
    ("color <= 5", F),
    ("NOT color > 5", T),
    ("color = TRUE", F),
    ("color <> TRUE", F),
    ("empty = 0", F),
    ("spaced = 5", F),
    ("nan = nan", T),
    ("nan > 0", F),
    ("yes > 0", F),
    ("JMSTimestamp = '1700000000000'", F),
    ("JMSTimestamp <> 'x'", F),
    ("JMSTimestamp = 1700000000000", T),
    ("JMSTimestamp > weight", T),
    ("real = 2.5", T),
    ("real < weight", T),
    ("flag = TRUE", T),
    ("flag = yes", T),
    ("flag = color", F),
    ("flag < yes", F),
    ("flag = 1", F),
    ("bytes = ''", F),
    ("bytes <> ''", F),
    ("bytes = bytes", F),
    ("bytes > 0", F),
    ("bytes IS NULL", F),
    # Exact and approximate numbers compare as Java promotes them: both are doubles, so the last digit is gone.
    ("9007199254740993 = 9007199254740992.0", T),
    ("9007199254740993 > 9007199254740992", T),
    ("9007199254740992.0 = 9007199254740993", T),
    ("1 = 1.0", T),
    # Beyond 64 bits a header is a double, whose last digits are gone.
    ("longer < longest", F),
    ("longer + 0 > 0", T),
]

CONDITIONS = [
    # 3.8.1.1: conditional expressions are made of identifiers with boolean values too.
    ("yes", T),
    ("no", F),
    ("NOT no", T),
    ("missing", U),
    ("NOT missing", U),
    ("color", F),
    ("flag", T),
    ("JMSTimestamp", F),
    ("(age > 5) = TRUE", T),
    ("(age > 5) = (age > 50)", F),
    ("(age > 5) <> yes", F),
    ("(missing > 5) = TRUE", U),
    # 3.8.1.1: logical operators in the order NOT, AND, OR; brackets.
    ("TRUE OR TRUE AND FALSE", T),
    ("(TRUE OR TRUE) AND FALSE", F),
    ("NOT TRUE OR TRUE", T),
    ("NOT (TRUE OR TRUE)", F),
    ("NOT FALSE AND FALSE", F),
    ("NOT color = 'red'", T),
    ("NOT NOT yes", T),
    ("JMSType = 'car' AND color = 'blue' AND weight > 2500", T),
    # 3.8.1.2, table AND.
    ("yes AND yes", T),
    ("yes AND no", F),
    ("yes AND missing", U),
    ("no AND yes", F),
    ("no AND no", F),
    ("no AND missing", F),
    ("missing AND yes", U),
    ("missing AND no", F),
    ("missing AND missing", U),
    # 3.8.1.2, table OR.
    ("yes OR yes", T),
    ("yes OR no", T),
    ("yes OR missing", T),
    ("no OR yes", T),
    ("no OR no", F),
    ("no OR missing", U),
    ("missing OR yes", T),
    ("missing OR no", U),
    ("missing OR missing", U),
]

NULLS = [
    # 3.8.1.2: comparison and arithmetic with an unknown value yield an unknown value.
    ("missing = 1", U),
    ("missing <> 1", U),
    ("missing > 1", U),
    ("missing = 'a'", U),
    ("missing = TRUE", U),
    ("missing = missing", U),
    ("missing <> color", U),
    ("missing + 1 = 1", U),
    ("-missing < 0", U),
    ("age > missing", U),
    ("valueless = ''", U),
    ("NOT missing = 1", U),
    # NULL comes before what is not alike.
    ("color = missing + 1", U),
    ("missing = JMSTimestamp", U),
    # 3.8.1.1: IS NULL, IS NOT NULL.
    ("missing IS NULL", T),
    ("missing IS NOT NULL", F),
    ("color IS NULL", F),
    ("color IS NOT NULL", T),
    ("empty IS NULL", F),
    ("valueless IS NULL", T),
    ("NOT missing IS NULL", F),
]

ARITHMETIC = [
    # 3.8.1.1: unary signs, then * and /, then + and -, from left to right.
    ("1 + 2 * 3 = 7", T),
    ("(1 + 2) * 3 = 9", T),
    ("10 - 4 - 3 = 3", T),
    ("100 / 10 / 5 = 2", T),
    ("100 / (10 / 5) = 50", T),
    ("2 * -3 = -6", T),
    ("-(3) + 5 = 2", T),
    ("--3 = 3", T),
    ("+age = 17", T),
    ("-age = -17", T),
    ("- -age = 17", T),
    ("age + 1 = 18", T),
    ("price * 2 = 199", T),
    ("weight - age > 2500", T),
    ("3 < 1 + age", T),
    # Java's division: without the rest for exact numbers, towards zero.
    ("7 / 2 = 3", T),
    ("-7 / 2 = -3", T),
    ("7 / -2 = -3", T),
    ("-7 / -2 = 3", T),
    ("7 / 2.0 = 3.5", T),
    ("age / 2 = 8", T),
    ("0 / 5 = 0", T),
    # Where the specification is silent, what has no value is NULL (Penstock).
    ("1 / 0 = 1", U),
    ("1 / zero > 0", U),
    ("1.0 / 0 > 0", U),
    ("NOT 1 / 0 = 1", U),
    ("color + 1 > 0", U),
    ("bytes * 2 > 0", U),
    ("long + 1 < 0", U),
    ("long + 1.0 > 0", T),
    ("9223372036854775807 * 2 <> 0", U),
    ("-9223372036854775808 / -1 > 0", U),
    ("-(-9223372036854775808) > 0", U),
    ("1E308 * 10 > 0", U),
    ("yes + 1 = 2", U),
]

BETWEENS = [
    # 3.8.1.1: BETWEEN is >= AND <=, NOT BETWEEN is < OR >.
    ("age BETWEEN 15 AND 19", T),
    ("age BETWEEN 17 AND 17", T),
    ("age BETWEEN 18 AND 19", F),
    ("age NOT BETWEEN 15 AND 19", F),
    ("age NOT BETWEEN 18 AND 19", T),
    ("age BETWEEN 19 AND 15", F),
    ("age NOT BETWEEN 19 AND 15", T),
    ("age BETWEEN 8 * 2 AND 9 * 2 AND color = 'blue'", T),
    ("17 BETWEEN zero AND age", T),
    ("age + 1 BETWEEN 18.0 AND 18", T),
    ("missing BETWEEN 1 AND 2", U),
    ("age BETWEEN missing AND 19", U),
    ("age BETWEEN missing AND 2", F),
    ("age NOT BETWEEN missing AND 2", T),
    ("NOT age BETWEEN 15 AND 19", F),
    ("color BETWEEN 1 AND 2", F),
    ("color NOT BETWEEN 1 AND 2", F),
]

INS = [
    # 3.8.1.1: IN over strings; unknown for NULL.
    ("Country IN ('UK', 'US', 'France')", T),
    ("Country IN ('Peru')", F),
    ("Country NOT IN ('UK', 'US', 'France')", F),
    ("Country NOT IN ('Peru', 'Peru')", T),
    ("region IN ('eu','us')", T),
    ("missing IN ('a', 'b')", U),
    ("missing NOT IN ('a', 'b')", U),
    ("five IN ('5')", T),
    ("five IN ('5.0')", F),
    ("quote IN ('it''s')", T),
    ("JMSTimestamp IN ('1700000000000')", F),
    ("JMSTimestamp NOT IN ('1700000000000')", T),
    ("NOT region IN ('eu')", F),
]

LIKES = [
    # 3.8.1.1: LIKE with % and _, ESCAPE; unknown for NULL.
    ("phone LIKE '12%3'", T),
    ("five LIKE '12%3'", F),
    ("phone NOT LIKE '12%3'", F),
    ("five NOT LIKE '12%3'", T),
    ("word LIKE 'l_se'", T),
    ("words LIKE 'l_se'", F),
    ("underscored LIKE '\\_%' ESCAPE '\\'", T),
    ("color LIKE '\\_%' ESCAPE '\\'", F),
    ("percent LIKE '50!%' ESCAPE '!'", T),
    ("percent LIKE '50!!' ESCAPE '!'", F),
    ("percent LIKE '%%%'", T),
    ("percent LIKE '50%%' ESCAPE '%'", T),
    ("color LIKE 'blue'", T),
    ("color LIKE 'Blue'", F),
    ("color LIKE ''", F),
    ("empty LIKE ''", T),
    ("empty LIKE '%'", T),
    ("empty LIKE '_'", F),
    ("color LIKE '%lu%'", T),
    ("color LIKE '%b%l%u%e%'", T),
    ("color LIKE '%e%b%'", F),
    ("color LIKE '____'", T),
    ("color LIKE '___'", F),
    ("color LIKE '_%_u_'", T),
    ("lines LIKE 'a_b'", T),
    ("lines LIKE 'a%'", T),
    ("words LIKE '%o_e'", T),
    ("words LIKE 'lo%oose'", F),
    ("name LIKE '%lp%pha%'", F),
    ("name LIKE '%lp%ha%'", T),
    ("quote LIKE '%''s'", T),
    ("color LIKE '.*'", F),
    ("missing LIKE '%'", U),
    ("missing NOT LIKE '%'", U),
    ("JMSTimestamp LIKE '%'", F),
    ("bytes LIKE '%'", F),
    ("bytes NOT LIKE '%'", T),
]

ISSUE = [
    ("price > 100 AND region IN ('eu', 'us') AND name LIKE 'a%' AND x IS NOT NULL", F),
    ("price > 90 AND region IN ('eu', 'us') AND name LIKE 'a%' AND age IS NOT NULL", T),
    ("price > 90 AND region IN ('eu', 'us') AND x LIKE 'a%'", U),
    ("price > 90 OR x LIKE 'a%'", T),
]

EVERYTHING = [
    *LITERALS, *IDENTIFIERS, *TYPES, *CONDITIONS, *NULLS, *ARITHMETIC, *BETWEENS, *INS, *LIKES, *ISSUE,
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), EVERYTHING)
def test_a_selector_says_this_of_the_message(expression: str, expected: bool | None) -> None:
    selector = compile_selector(expression)
    assert selector.evaluate(MESSAGE) is expected
    assert selector.matches(MESSAGE) is (expected is True)


def test_the_table_is_as_long_as_it_says() -> None:
    assert len({expression for expression, _ in EVERYTHING}) == len(EVERYTHING) >= 150
    assert {expected for _, expected in EVERYTHING} == {T, F, U}


@pytest.mark.parametrize("expression", [expression for expression, _ in EVERYTHING])
def test_a_tree_is_written_as_a_selector_that_says_the_same(expression: str) -> None:
    tree = parse(expression)
    assert parse(write(tree)) == tree
    assert compile_selector(write(tree)).evaluate(MESSAGE) is compile_selector(expression).evaluate(MESSAGE)


@pytest.mark.parametrize("nothing", ["", " ", "\t\r\n\f"])
def test_an_empty_selector_wants_every_message(nothing: str) -> None:
    assert compile_selector(nothing).matches({})
    assert compile_selector(nothing).names == frozenset()


def test_a_selector_tells_which_properties_it_looks_at() -> None:
    text = "-a * (b + 1) > c AND d LIKE 'x' OR NOT e IN ('f') AND g BETWEEN h AND 7 OR i IS NULL OR TRUE = j"
    assert compile_selector(text).names == frozenset("abcdeghij")
