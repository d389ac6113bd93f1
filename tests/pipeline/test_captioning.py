"""`--set caption.KEY=VALUE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.captions import captioning
from pipeline.captions.captioning import Captioning, from_settings, is_caption, keys, parse
from supir_core.caption_model import PUBLISHED
from supir_core.errors import InputError


def test_what_people_have_written_is_used_if_nothing_is_said() -> None:
    assert from_settings([], "weights").sources == ["sidecar", "embedded", "column"]
    assert not from_settings([], "weights").looks


def test_the_demo_model_comes_with_descriptions() -> None:
    assert from_settings([], "demo").sources == ["sidecar", "embedded", "column", "describe"]
    assert from_settings(["caption.model=llava"], "demo").sources[-1] == "vlm"


def test_a_model_or_an_endpoint_is_asked_last_unless_an_order_is_given() -> None:
    both = ["caption.model=llava-hf/llava", "caption.endpoint=https://example.org/v1", "caption.endpoint_model=m"]
    asked = from_settings(both, "weights")
    assert asked.sources == ["sidecar", "embedded", "column", "vlm", "endpoint"] and asked.looks
    assert (asked.model, asked.endpoint) == ("llava-hf/llava", "https://example.org/v1")
    assert from_settings([*both[1:], "caption.source=endpoint, none"], "weights").sources == ["endpoint", "none"]


def test_values_are_of_their_kind() -> None:
    asked = from_settings(
        [
            " caption.per_tile=true",
            "caption.batch = 3",
            "caption.gpus=0.25",
            "caption.question=What is it? Say more.",
            'caption.prefix="Curator: "',
            "caption.endpoint_model=4",
            "caption.sampling=published",
            "caption.model=weights/llava",
            "caption.endpoint=https://example.org",
            "caption.max_tokens=7",
            "pull.tau_r=2",
        ],
        "weights",
    )
    assert (asked.per_tile, asked.batch, asked.gpus, asked.prefix) == (True, 3, 0.25, "Curator: ")
    assert (asked.question, asked.endpoint_model) == ("What is it? Say more.", "4")
    assert (asked.settings.sampling, asked.settings.max_new_tokens) == (PUBLISHED, 7)
    assert asked.settings.question == "What is it? Say more." and Captioning().settings.question is None


def test_a_directory_is_named_so_that_workers_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llava").mkdir()
    monkeypatch.chdir(tmp_path)
    assert from_settings(["caption.model=llava"], "weights").model == str(tmp_path / "llava")
    assert from_settings(["caption.model=someone/llava"], "weights").model == "someone/llava"


def test_it_comes_back_as_it_went() -> None:
    asked = from_settings(["caption.gpus=0.5", "caption.mode=stream"], "weights")
    assert parse(asked.to_dict()) == asked and parse({}) == Captioning()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("caption.sauce=vlm", "unknown key caption.sauce: did you mean caption.source?"),
        ("caption.source=sidecars", "there is no 'sidecars': did you mean sidecar?"),
        ("caption.source=sidecar,", "a source is empty"),
        ("caption.source=sidecar,column,sidecar", "names a source twice"),
        ("caption.source=none,sidecar", "nothing behind none is ever asked"),
        ("caption.endpoint_model=m", "caption.endpoint_model is given, but nothing asks it"),
        ("caption.per_tile=true", "caption.per_tile needs somebody who looks"),
        ("caption.source=vlm", "caption.source=vlm needs caption.model"),
        ("caption.endpoint=https://example.org", "needs caption.endpoint_model"),
        ("caption.batch=0", "caption.batch must lie between 1 and 1024"),
        ("caption.batch=many", "caption.batch must be a number"),
        ("caption.per_tile=yes", "caption.per_tile must be true or false"),
        ("caption.input=scan", "caption.input must be one of stage1, photo"),
        ("caption.mode", "caption.mode must be one of"),
    ],
)
def test_what_does_not_fit_is_refused(setting: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        from_settings([setting], "weights")
    assert said in str(raised.value) and raised.value.code == "caption-setting"


def test_a_prefix_may_end_in_a_blank() -> None:
    asked = (from_settings([setting], "weights").prefix for setting in ("caption.prefix=Of: ", "caption.prefix='Of: '"))
    assert list(asked) == ["Of: ", "Of: "]


def test_what_no_source_asks_is_refused() -> None:
    with pytest.raises(InputError, match=r"caption\.model is given, but nothing asks it"):
        from_settings(["caption.model=m", "caption.source=sidecar"], "weights")


def test_who_asks_for_an_unknown_key_is_told_all() -> None:
    with pytest.raises(InputError) as raised:
        from_settings(["caption.modle=x"], "weights")
    assert all(key in raised.value.hint for key in keys())


def test_which_settings_are_about_captions() -> None:
    assert is_caption("caption.x=1") and is_caption(" caption.mode=stream") and not is_caption("pull.tau_r=1")
    assert "caption.per_tile" in keys() and len(keys()) == len(set(keys()))


def test_several_photos_are_fetched_while_a_model_looks() -> None:
    assert Captioning().calls_at_once == 4
    assert Captioning(source="vlm", model="m", batch=16).calls_at_once == 32
    assert Captioning(source=f"{captioning.ENDPOINT},vlm", requests=40).calls_at_once == 42
