"""JSON files of any size, element by element: an export of half a gigabyte is never in memory as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from segkit.errors import DataError

__all__ = ["Element", "elements", "whole"]

_PIECE = 1 << 20  # characters
_TOKEN = 16  # characters: what is wrong further from the end of a piece is wrong whatever follows
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


class Element(NamedTuple):
    """A value of the outermost object; or an element (``item``) of one of its arrays, or of the outermost array."""

    key: str | None
    value: Any
    item: bool


class _Text:
    """The characters of a file, with a place in it."""

    def __init__(self, path: str) -> None:
        self._file = open(path, encoding="utf-8-sig")  # noqa: SIM115 - closed by `elements`
        self._path = path
        self._text = ""
        self._at = 0
        self._ended = False

    def close(self) -> None:
        self._file.close()

    def fail(self, reason: str) -> DataError:
        return DataError(
            f"annotations.read: {self._path!r} must be whole JSON, got a file that {reason}. Export or copy it again."
        )

    def _more(self) -> bool:
        try:
            piece = self._file.read(max(_PIECE, len(self._text) - self._at))  # doubling: long elements stay linear
        except UnicodeDecodeError:
            raise self.fail("is not UTF-8 text") from None
        self._text, self._at = self._text[self._at :] + piece, 0
        self._ended = not piece
        return not self._ended

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        character = self.peek()
        if not character:
            raise self.fail("ends too early")
        if character not in expected:
            raise self.fail(f"has {character!r} where one of {' '.join(expected)} belongs")
        self._at += 1
        return character

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self.fail("is nested too deeply") from None
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _TOKEN
                if cut and not self._ended and self._more():
                    continue
                reason = str(error).split(":")[0].lower()
                raise self.fail(f"ends too early or is damaged ({reason})") from None
            if end == len(self._text) and not self._ended and self._more():
                continue  # a number may go on
            self._at = end
            return value


def elements(path: str | os.PathLike[str]) -> Iterator[Element]:
    """The values of the outermost object or array, one by one. An array among them comes as ``[]``, then its elements.

    Raises:
        DataError: the file is no JSON, or ends too early.
    """
    text = _Text(os.fspath(path))
    try:
        if text.peek() == "":
            raise text.fail("is empty")
        if text.take("{[") == "[":
            yield from _items(text, None)
        elif text.peek() == "}":
            text.take("}")
        else:
            while True:
                if text.peek() != '"':
                    raise text.fail("has no name where one belongs")
                key = text.value()
                text.take(":")
                if text.peek() == "[":
                    text.take("[")
                    yield Element(key, [], False)
                    yield from _items(text, key)
                else:
                    yield Element(key, text.value(), False)
                if text.take(",}") == "}":
                    break
        if text.peek():
            raise text.fail("continues after its end")
    finally:
        text.close()


def _items(text: _Text, key: str | None) -> Iterator[Element]:
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield Element(key, text.value(), True)
        if text.take(",]") == "]":
            return


def whole(path: str | os.PathLike[str]) -> Any:
    """The file as one value: for exports with a file for each image."""
    text = _Text(os.fspath(path))
    try:
        if text.peek() == "":
            raise text.fail("is empty")
        value = text.value()
        if text.peek():
            raise text.fail("continues after its end")
        return value
    finally:
        text.close()
