"""The Kafka wire protocol: frames, headers, and the messages of every served API and version.

Messages are generated from the schemas that Apache Kafka ships (`tools/generate-kafka-codec`; what is served is one line per API in
`tools/codec_generator/served.py`). Each has one class for all served versions, and per version a `decode_..._vN(buffer, position)` that
returns (message, position behind it) and an `encode_..._vN(message, out)` that appends buffers to a list. `apis` finds them by key.

What to know when using them:

- `buffer` is a memoryview. `records` are a view of it, nothing else is: strings are str, bytes and UUIDs (16 of them) are bytes.
- Classes take keyword arguments only, and every field has the schema's default. A field that a version does not have keeps its default
  when decoded and is not written when encoded, so one response can be built for all versions.
- Null is None. Encoding None where the version has no null raises `CodecError`. A tagged structure that is absent is None.
- For `records`, responses take a buffer or a sequence of buffers and pass them on as they are; what is in `out` can go to `writev`.
- After a `CodecError` from an encoder, `out` may hold a part of the message and is of no use.
- Every count and length is checked against the bytes that are left before anything is allocated, and the elements of all arrays of one
  message are bounded by `penstock.codec.limits`. A decoder raises nothing but `CodecError`. It does not look at what follows the
  message; `Api.parse_request` refuses it.
"""
