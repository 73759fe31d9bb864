"""The words of cases.txt as bytes, for the players in Python."""

import re

LETTERS = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
PLAIN = set(LETTERS + b"-_./:")


def pattern(length):
    """A payload of a length, as all players make it."""
    return bytes(LETTERS[(at + length) % 61] for at in range(length))


def escaped(data):
    return "".join(chr(byte) if byte in PLAIN else f"%{byte:02X}" for byte in bytes(data)) or "''"


def unescaped(word):
    if word == "''":
        return b""
    return re.sub(rb"%(..)", lambda digits: bytes([int(digits[1], 16)]), word.encode())
