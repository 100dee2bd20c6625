"""How large a version's number and how long its texts may be, wherever they come from."""

LARGEST_NUMBER = 999_999_999  # of a version: as many digits as a reference may have
LONGEST_MESSAGE = 10_000  # bytes
LONGEST_NAME = 200  # of an adapter, and of an author
