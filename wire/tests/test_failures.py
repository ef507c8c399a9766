from __future__ import annotations

import re

import pytest

from wire.failures import SENTENCES, Failure

EACH = pytest.mark.parametrize("failure", list(Failure), ids=lambda failure: failure.name)


@EACH
def test_every_code_has_a_sentence_in_persian_and_in_english(failure: Failure) -> None:
    sentence = SENTENCES[failure]
    assert re.search(r"[\u0621-\u063a\u0641-\u06cc]{2,}", sentence.fa)
    assert not re.search(r"[A-Za-z]", sentence.fa), "Persian text with Latin letters breaks in a right-to-left line"
    assert re.search(r"[A-Za-z]{2,}", sentence.en)
    assert sentence.en.isascii()


@EACH
def test_persian_is_written_with_persian_letters(failure: Failure) -> None:
    # Arabic kaf, yeh and digits look right and are other characters: search and speech break on them
    assert not set(SENTENCES[failure].fa) & set("كيى٠١٢٣٤٥٦٧٨٩")


@EACH
def test_a_sentence_is_a_sentence(failure: Failure) -> None:
    sentence = SENTENCES[failure]
    for text in sentence:
        assert text == text.strip()
        assert text[-1] in ".)"
        assert "  " not in text


def test_no_code_stands_for_two_failures_and_no_sentence_for_two_codes() -> None:
    assert len(Failure.__members__) == len(set(Failure))
    assert len({sentence.fa for sentence in SENTENCES.values()}) == len(SENTENCES) == len(Failure)
    assert len({sentence.en for sentence in SENTENCES.values()}) == len(SENTENCES)


def test_no_sentence_speaks_of_a_wrong_pin() -> None:
    for sentence in SENTENCES.values():
        assert "PIN" not in sentence.en
        assert "پین" not in sentence.fa
        assert "رمز" not in sentence.fa
