"""CHECKSUM and DATASUM of an HDU while it streams by, never the whole HDU in memory.

FITS standard 4.0, section 4.4.2.7 and appendix J: a 32-bit ones' complement sum of big-endian
words, written as sixteen letters that make the whole HDU sum to all ones.
"""

import numpy as np

ALL_ONES = 0xFFFFFFFF
BLANK_CHECKSUM = "0" * 16

# Punctuation between the digits and the two alphabets, which the encoding must not use.
_EXCLUDED = frozenset(range(0x3A, 0x41)) | frozenset(range(0x5B, 0x61))


class RunningSum:
    """Ones' complement sum of bytes that arrive in blocks of any length."""

    def __init__(self) -> None:
        self._total = 0
        self._rest = b""

    def add(self, block: bytes) -> None:
        """Take the next bytes of the HDU."""
        block = self._rest + block
        whole = len(block) - len(block) % 4
        self._rest = block[whole:]
        words = np.frombuffer(block, dtype=">u4", count=whole // 4)
        self._total = _fold(self._total + int(words.sum(dtype=np.uint64)))

    @property
    def value(self) -> int:
        """The sum so far; bytes short of a word count as padded with zeros."""
        if not self._rest:
            return self._total
        return _fold(self._total + int.from_bytes(self._rest.ljust(4, b"\0"), "big"))


def sum_of(data: bytes) -> int:
    """Ones' complement sum of a piece that fits into memory."""
    running = RunningSum()
    running.add(data)
    return running.value


def encode_checksum(total: int) -> str:
    """Return the sixteen letters that bring an HDU with this sum to all ones.

    total : sum of the HDU while its CHECKSUM card holds sixteen zeros.
    """
    complement = ALL_ONES - total
    letters = [0] * 16
    for place, byte in enumerate(complement.to_bytes(4, "big")):
        quarter, remainder = divmod(byte, 4)
        four = [quarter + 0x30 + remainder] + [quarter + 0x30] * 3
        while any(letter in _EXCLUDED for letter in four):
            for low in (0, 2):  # one up, one down: the sum of the four stays
                if four[low] in _EXCLUDED or four[low + 1] in _EXCLUDED:
                    four[low] += 1
                    four[low + 1] -= 1
        letters[place::4] = four
    # The value of a CHECKSUM card starts at byte 11, one short of a word: turn right by one.
    return bytes(letters[-1:] + letters[:-1]).decode("ascii")


def add_sums(first: int, second: int) -> int:
    """Ones' complement sum of two sums."""
    return _fold(first + second)


def _fold(total: int) -> int:
    while total > ALL_ONES:
        total = (total & ALL_ONES) + (total >> 32)
    return total
