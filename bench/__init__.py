"""Penstock measured beside Apache Kafka on this machine, and a broker under a million broken frames.

`python -m bench.run` compares, `python -m bench.fuzz_socket` breaks. Both start the brokers they need, on loopback.
"""
