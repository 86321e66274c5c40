"""Text from users: captions, names and paths may hold any character, valid or not.

Python represents bytes that are not in the expected encoding, and halves of emoji from broken JSON,
as lone surrogates. They cannot be encoded as UTF-8, tokenized or drawn.
"""

import json
import re
import typing as tp

SURROGATES = re.compile(r"[\ud800-\udfff]")
NOT_A_BYTE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for no byte


def valid_unicode(text: str) -> str:
    """Return a text without lone surrogates.

    Those that stand for bytes of UTF-8 (a command line read with another encoding) are decoded;
    all others become U+FFFD.
    """
    if not SURROGATES.search(text):
        return text
    text = NOT_A_BYTE.sub("\ufffd", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def dump_json(values: tp.Any) -> str:
    """Return JSON that reads well and can always be encoded as UTF-8.

    Paths keep their lone surrogates, as escapes: `json.loads` gives the same values.
    """
    text = json.dumps(values, indent=2, ensure_ascii=False)
    return SURROGATES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
