"""The API key: where a person finds it, and what no key looks like."""

KEY_PLACE = "your name > Company settings > Personal preferences > API"


def is_sendable(key: str) -> bool:
    """Whether the key can be one: printable ASCII without spaces or quotes. A newline would end up in h11's error message."""
    return bool(key) and key.isascii() and key.isprintable() and not set(key) & set(" \"'")
