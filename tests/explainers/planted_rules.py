"""The made-up text and its features under the names these tests use."""

from actscope.organisms.planted_words import PORT, WORDS, planted_words

SITE = str(PORT)
planted = planted_words

__all__ = ["SITE", "WORDS", "planted"]
