"""What a pipe shows of a long stage: where it is, and how long it will take yet."""

from __future__ import annotations

import pytest

from embedcache.cli.show import PlainLines, spoken


def test_a_pipe_hears_the_time_left_now_and_then(monkeypatch, capsys) -> None:
    clock = [0.0]
    monkeypatch.setattr("embedcache.cli.show.time.monotonic", lambda: clock[0])
    with PlainLines().stage("fitting", 40, "models") as stage:
        for _ in range(10):
            clock[0] += 24
            stage.advance()
    said = capsys.readouterr().err.splitlines()
    # 24 s a model: after two models 38 are left, 912 s.
    assert said[1] == "fitting: 2 of 40 models, about 15 min left"
    assert len(said) == 1 + 5 + 1


@pytest.mark.parametrize(
    ("seconds", "said"), [(12.4, "12 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_times_are_spoken(seconds: float, said: str) -> None:
    assert spoken(seconds) == said
