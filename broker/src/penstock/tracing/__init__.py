"""Tracing as values and decisions: which record batches are followed, under which ids, and what their spans say.

Problem: somebody asks where one message is, and the broker cannot afford to write down every one. Idea: a batch is
followed when its producer's trace is, when a rule names it, or when a ratio picks it, which is decided before any span
exists. What the broker makes up (a trace id where the producer sent none, span ids) is derived from where the batch
stands, so that another broker, or a person, finds the same ids again without anything being written into the batch.

Nothing here reads a clock, a socket or chance. Carrying it out is `penstock.service.tracing`'s, sending spans away
`penstock.telemetry.span_exporter`'s.
"""
