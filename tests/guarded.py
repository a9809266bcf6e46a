"""What a guarded child is asked to do in tests: the ways in which a decoder fails, and one in which it does not."""

import os
import sys


def echo(request: str, data: bytes) -> bytes:
    os.write(1, b"a C library chatters")
    return request.encode() + data


def crash(request: str, data: bytes) -> bytes:
    os.abort()


def fail(request: str, data: bytes) -> bytes:
    raise SystemError(request)


def eat(request: str, data: bytes) -> bytes:
    return bytes(1 << 40)


def turn(request: str, data: bytes) -> bytes:
    while True:
        sys.getsizeof(data)
