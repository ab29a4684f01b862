"""Canonical protobuf: one encoding for one value (FORMAT.md section 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from backit.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def decode(make: Callable[[], M], data: bytes) -> M:
    """Raises Damaged unless `data` is exactly what encode() makes of the value it holds."""
    message = make()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise Damaged(f"{message.DESCRIPTOR.name}: not a protobuf message") from None
    message.DiscardUnknownFields()  # so that they show as a difference
    if message.SerializeToString(deterministic=True) != data:
        raise Damaged(f"{message.DESCRIPTOR.name}: not in canonical form")
    return message
