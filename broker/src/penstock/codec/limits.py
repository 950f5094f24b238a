"""Named bounds of the Kafka codec.

The size of a frame is bounded by the listener; these bounds keep what is built from one frame in proportion to it.
"""

# An array element of two bytes becomes a Python object of fifty or more. The budget counts the elements of all arrays of one message,
# so a frame full of empty elements costs some megabytes and a tenth of a second, not gigabytes and minutes. Ten thousand topics with ten
# entries each fit.
REQUEST_ELEMENTS_MAX = 150_000

# Responses are decoded by our own command line, tests and load tools only: metadata of 100,000 partitions with three replicas fits.
RESPONSE_ELEMENTS_MAX = 4_000_000

# Kafka's own limit for strings, also where a compact length could say more.
STRING_BYTES_MAX = 0x7FFF

# What one compressed batch may become; callers that keep many at once pass less.
DECOMPRESSED_BYTES_MAX = 64 * 1024 * 1024

# A zstd frame names the window its decompression keeps: 2^27 bytes is what Kafka's highest level (22) writes. Of that, only as much
# is touched as comes out, which `DECOMPRESSED_BYTES_MAX` bounds.
ZSTD_WINDOW_LOG_MAX = 27
