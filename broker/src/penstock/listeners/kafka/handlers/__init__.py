"""One module per family of Kafka APIs. Each translates requests to service calls and results to responses.

For every API there is a function that serves it and one, `refuse_*`, that answers it with an error as a whole.
"""
