"""The availability matrix: brokers hit by a cause under load, and what that cost.

`matrix` says what is hit how, `modes` what kinds of shards there are, `load` keeps a producer and a consumer going, `faults`
does the damage, `books` and `gaps` judge it, and `trial` puts one run together. The bench prints all of it as a table
(`bench.availability`); the tests take a few cells without a look at the times.
"""
