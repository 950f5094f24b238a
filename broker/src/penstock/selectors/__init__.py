"""Which messages a group wants: RocketMQ's tag expressions, and SQL92 selectors as JMS and RocketMQ have them.

An expression is read once (`lexer`, `parser`: a tree), compiled once (`compiling`: closures, no code is generated) and
then asked about every message. It is pure, bounded (`limits`) and always gives one message the same answer, so every
leader decides alike. `filtering` is the door: what a group's `filter: {tags, sql}` becomes.

The language is that of Jakarta Messaging 3.1, section 3.8.1 (unchanged since JMS 2.0), with these rules where it is
silent, or where Kafka's headers, which are bytes without a type, need one:

* Precedence, from tight to loose: unary + and -; * and /; + and -; comparisons, BETWEEN, IN, LIKE, IS; NOT; AND; OR.
  Comparisons do not chain.
* A header that is no identifier (`content-type`) is written in double quotes, as SQL92's delimited identifiers (5.2).
* A header is text, and takes the type of what it is compared with, as RocketMQ converts properties: beside a number it
  is read as a number, beside TRUE, FALSE or a condition as a boolean, beside a string or another header as a string;
  two headers beside <, >, <= or >= are two numbers. Where JMS has typed properties and says that the string '2' is not
  more than 1, a header '2' therefore is. The module `values` says which texts are numbers and booleans.
* An identifier that stands for a condition means `identifier = TRUE`.
* Comparing what is not alike (the header 'abc' with 5) is false, <> too, as JMS says; so NOT makes it true. Nothing
  (no header, a header without value) is NULL: comparisons and arithmetic with it are unknown, as in SQL.
* Exact numbers are 64 bits wide and divide without a rest, approximate ones are doubles; one of each is two doubles
  (Java's numeric promotion). Where JMS is silent the result is NULL, hence unknown: division by zero, results beyond
  64 bits or beyond the doubles, arithmetic with a header that is no number. Java would wrap, or make Infinity and NaN,
  and a filter would let messages pass that nobody meant.
* What can be seen to be wrong without a message is refused: comparing a number with a string, ordering strings,
  arithmetic with booleans, NULL anywhere but after IS.
* A character, in LIKE and in positions, is a Unicode code point, where Java counts UTF-16 units.

Names that the broker knows beside the headers, and which names are reserved: module `properties`.
"""
