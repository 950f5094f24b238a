"""Writes the Kafka wire codec of the broker from the message schemas that Apache Kafka ships in its client jar.

`served` says what is served, `kafka_schemas` fetches the schemas, `schemas` reads them, `layout` fixes what one version of a message
looks like, the emitters turn layouts into Python, `modules` puts one module per API together, `command` writes or compares the files.
"""
