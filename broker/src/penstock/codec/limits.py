"""Named bounds of the Kafka codec.

The size of a frame is bounded by the listener; these bounds keep what is built from one frame in proportion to it.
"""

# An array element of two bytes becomes a Python object of fifty or more. The budget counts the elements of all arrays of one message,
# so a frame full of empty elements costs some tens of megabytes and not gigabytes. Ten thousand topics with ten entries each fit.
REQUEST_ELEMENTS_MAX = 250_000

# Responses are decoded by our own command line, tests and load tools only: metadata of 100,000 partitions with three replicas fits.
RESPONSE_ELEMENTS_MAX = 4_000_000

# Kafka's own limit for strings, also where a compact length could say more.
STRING_BYTES_MAX = 0x7FFF

# What one compressed batch may become; callers that keep many at once pass less.
DECOMPRESSED_BYTES_MAX = 64 * 1024 * 1024

# A zstd frame names the memory its decompression takes. 2^25 (32 MiB) is what level 19 of the zstd command writes at most with long
# inputs; the library's own bound is four times that.
ZSTD_WINDOW_LOG_MAX = 25
