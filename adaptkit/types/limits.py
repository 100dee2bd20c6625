"""How large a version's number may be, how long its texts, and which texts there are, wherever they come from."""

LARGEST_NUMBER = 999_999_999  # of a version: as many digits as a reference may have
LONGEST_MESSAGE = 10_000  # bytes
LONGEST_NAME = 200  # of an adapter, and of an author


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, which half a surrogate pair cannot."""
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)
