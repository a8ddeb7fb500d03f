"""Text for its reader: escaped for terminals, pictures and HTML; numbers, strictly."""

import html
import re
import unicodedata

# What moves the cursor, reorders or hides text, breaks the line, or is half of a
# character: control and format characters, surrogates, separators of lines.
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def for_terminal(text: object, *, lines: bool = False) -> str:
    r"""Write text so that a terminal shows it and does nothing else.

    Control characters, those that change the direction of writing or have no width,
    and bytes that were no text become escapes such as `\x1b` and `\u202e`. The result
    can be encoded in UTF-8, and is left as it is by a second call.

    Args:
        text: names, paths, messages, of users and of their files.
        lines: whether line feeds stay.

    Returns:
        The text, in one line unless `lines`.

    Example:
        >>> for_terminal("pay\x1b[31m.csv")
        'pay\\x1b[31m.csv'
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character == "\n" and lines or unicodedata.category(character) not in _UNSAFE
        else character.encode("unicode_escape").decode()
        for character in text
    )


def for_mathtext(text: object, *, lines: bool = False) -> str:
    r"""Write text so that matplotlib shows it as it is: a dollar starts no formula.

    Args:
        text: what to show.
        lines: whether line feeds stay.

    Returns:
        The text for a title, a label or a legend.

    Example:
        >>> print(for_mathtext("pay$2$.csv"))
        pay\$2\$.csv
    """
    return for_terminal(text, lines=lines).replace("$", r"\$")


def for_html(text: object, *, lines: bool = False) -> str:
    """Write text so that a page shows it as it is, also as a quoted attribute.

    Args:
        text: what to show.
        lines: whether line feeds stay.

    Returns:
        The text for an element or an attribute.

    Example:
        >>> for_html("<b>'a'</b>")
        '&lt;b&gt;&#x27;a&#x27;&lt;/b&gt;'
    """
    return html.escape(for_terminal(text, lines=lines))


def file_name(text: object) -> str:
    """Make the name of a file or folder of any text: one that lies where it is put.

    Args:
        text: the text, such as the name of a game.

    Returns:
        Letters, digits, `_`, `-`, `+` and dots, none of them first; never empty.

    Example:
        >>> file_name("../my game")
        'my_game'
    """
    return re.sub(r"[^\w.+-]+", "_", str(text)).lstrip("._") or "unnamed"


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_MOST_DIGITS = 400  # none is needed beyond: a float64 has at most 17 significant ones
_SHOWN = 40  # characters of a wrong number in a message


def number(text: str) -> float:
    """Read a finite decimal number, written as in the tables of any program.

    Stricter than `float`, for which `1_0` is ten and any alphabet's digits count.

    Args:
        text: the number; blanks and tabs around it are ignored.

    Returns:
        The nearest float64.

    Raises:
        ValueError: if it is anything else, infinite, or so large or small that it would
            become infinity or zero.

    Example:
        >>> number(" -1.5e3")
        -1500.0
    """
    stripped = text.strip(" \t")
    if not _NUMBER.fullmatch(stripped) or len(stripped) > _MOST_DIGITS:
        raise ValueError(_why_not(stripped))
    value = float(stripped)
    digits = re.split("[eE]", stripped)[0]
    if abs(value) == float("inf") or not value and re.search("[1-9]", digits):
        size = "large" if value else "small"
        raise ValueError(f"{_shown(stripped)} is too {size} for a float64")
    return value


def integer(text: str) -> int:
    """Read a whole number, written in decimal digits.

    Args:
        text: the number; blanks and tabs around it are ignored.

    Returns:
        The number.

    Raises:
        ValueError: if it is anything else.
    """
    stripped = text.strip(" \t")
    if not _INTEGER.fullmatch(stripped) or len(stripped) > _MOST_DIGITS:
        reason = _why_not(stripped)
        if _NUMBER.fullmatch(stripped):
            reason = f"{_shown(stripped)} is not a whole number"
        raise ValueError(reason)
    return int(stripped)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _why_not(text: str) -> str:
    """Say why a text is no number, and how it would be one."""
    word = text.strip('"').lstrip("+-").lower()
    if not text:
        return "an empty text is not a number"
    if word in ("nan", "inf", "infinity"):
        return f"{_shown(text)} is not finite: NaN and infinity are not read"
    hint = ""
    if len(text) > _MOST_DIGITS:
        hint = f": it has more than {_MOST_DIGITS} characters"
    elif re.fullmatch(r"[\d.eE+-]*(_[\d.eE+-]*)+", text):
        hint = ": write it without underscores"
    elif not text.isascii() and any(map(str.isnumeric, text)):
        hint = ": write it in the digits 0 to 9"
    elif re.fullmatch(r"0[xXoObB][0-9a-fA-F]+", text):
        hint = ": write it in decimal digits"
    elif re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", text):
        hint = ": the decimal sign is a point"
    return f"{_shown(text)} is not a number{hint}"
