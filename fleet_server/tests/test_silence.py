from __future__ import annotations

from fleet_server.ingest.silence import Silence


def test_silence_runs_from_the_last_word() -> None:
    silence = Silence()
    silence.listening(1000)
    silence.heard(["a", "b"], 2000)
    silence.heard(["a"], 5000)
    assert (silence.silent_ms("a", 6000), silence.silent_ms("b", 6000)) == (1000, 4000)


def test_silence_is_counted_only_since_we_listen() -> None:
    silence = Silence()
    silence.listening(1000)
    silence.heard(["a"], 2000)
    silence.listening(90_000)
    assert (silence.silent_ms("a", 90_500), silence.silent_ms("never-heard", 90_500)) == (500, 500)
