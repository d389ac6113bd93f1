from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supir_core.errors import InputError, PresetError
from supir_core.presets import Preset, derive, load_preset, names, parse

FILE = """
purpose = "a test"
size = { upscale = 1.0, min_size_px = 64, short_side_px = "off" }
stage1 = { clean = "denoise" }
sampling = { sampler = "euler", num_steps = 2, churn = 0.0, eta = 1.0, s_noise = 1.0, seed = 1 }
guidance = { start = 1.0, end = 4.0 }
pull = { tau_r = 0.5 }
control = { start = 1.0, end = 1.0 }
text = { positive = "sharp", negative = "blurry" }
tile = { mode = "planned", size_lat = 16, stride_lat = 8 }
color = { fix = "wavelet" }
[review]
de_mean = 2.5
de_block = 10
bias = 1.5
shift_px = 0.5
sharpness_min = 0.05
sharpness_max = 30
noise_max = 5
"""


@pytest.fixture
def values() -> dict[str, Any]:
    """A preset as plain values."""
    return load_preset("faithful").to_dict()


def test_a_preset_from_before_there_were_limits_gets_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(FILE.partition("[review]")[0])
    (tmp_path / "new.toml").write_text(FILE)
    old, new = (load_preset(str(tmp_path / name)) for name in ("old.toml", "new.toml"))
    assert (old.review, old.digest) == (new.review, new.digest)
    assert old.review == load_preset("faithful").review


# Shipped presets


@pytest.mark.parametrize("name", names())
def test_shipped_presets_load_and_say_what_they_are_for(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.purpose


def test_shipped_presets_differ_in_their_looks() -> None:
    assert len({load_preset(name).digest for name in names()}) == len(names()) >= 4


@pytest.mark.parametrize("name", names())
def test_plain_values_read_back_as_the_same_preset(name: str) -> None:
    preset = load_preset(name)
    assert parse(preset.to_dict()) == preset


def test_an_unknown_name_suggests_a_known_one() -> None:
    with pytest.raises(PresetError, match=r"no preset 'faithfull': did you mean faithful\?") as raised:
        load_preset("faithfull")
    assert "published-quality" in raised.value.hint


@pytest.mark.parametrize("module", ["supir_core.presets", "supir_core.models", "supir_core.errors"])
def test_reading_a_preset_imports_no_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Files


def test_a_file_is_a_preset_with_the_name_of_the_file(tmp_path: Path) -> None:
    preset = load_preset(write(tmp_path, FILE))
    assert (preset.name, preset.pull.tau_r, preset.size.short_side_px) == ("mine", 0.5, None)


def test_settings_apply_to_a_file_too(tmp_path: Path) -> None:
    assert load_preset(write(tmp_path, FILE), ["pull.tau_r=2"]).pull.tau_r == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="no preset file"):
        load_preset(str(tmp_path / "none.toml"))


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="is not TOML"):
        load_preset(write(tmp_path, "pull = ["))


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("tau_r = 0.5", "tau = 0.5", "unknown key pull.tau: did you mean pull.tau_r?"),
        ("[nothing]", "[pul]", "unknown key pul: did you mean pull?"),
        ("pull = { tau_r = 0.5 }", "", "missing key pull"),
        ("churn = 0.0, ", "", "missing key sampling.churn"),
        ("num_steps = 2", "num_steps = 2.5", "sampling.num_steps must be a whole number, not 2.5"),
        ("num_steps = 2", "num_steps = 0", "sampling.num_steps must lie between 1 and 1000, not 0"),
        ("churn = 0.0", "churn = true", "sampling.churn must be a number, not True"),
        ("churn = 0.0", "churn = nan", "sampling.churn must be a number, not nan"),
        ("churn = 0.0", 'churn = "off"', "sampling.churn must be a number, not 'off'"),
        ("tau_r = 0.5", "tau_r = -1", "pull.tau_r must lie between 0 and 100, not -1"),
        ('positive = "sharp"', "positive = 1", "text.positive must be text, not 1"),
        ('fix = "wavelet"', 'fix = "Wavelet"', "color.fix must be one of wavelet, adain, input, none, not 'Wavelet'"),
        ("stride_lat = 8", "stride_lat = 17", "tile.stride_lat (17) exceeds tile.size_lat (16)"),
    ],
)
def test_a_mistake_in_a_file_is_named(good: str, bad: str, message: str, tmp_path: Path) -> None:
    text = FILE.replace(good, bad) if good in FILE else FILE + bad
    with pytest.raises(PresetError) as raised:
        load_preset(write(tmp_path, text))
    assert str(raised.value) == message
    assert raised.value.code == "preset"
    assert isinstance(raised.value, InputError)


def test_a_section_that_is_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"^pull\b.*must be a table of keys$"):
        load_preset(write(tmp_path, FILE.replace("pull = { tau_r = 0.5 }", "pull = 3")))


# Bounds


@given(st.integers(1, 1000))
def test_every_number_of_steps_within_bounds_is_taken(num_steps: int) -> None:
    assert derive(load_preset("demo"), [f"sampling.num_steps={num_steps}"]).sampling.num_steps == num_steps


@given(st.one_of(st.integers(max_value=0), st.integers(min_value=1001)))
def test_every_number_of_steps_beyond_bounds_is_refused(num_steps: int) -> None:
    with pytest.raises(PresetError, match="must lie between 1 and 1000"):
        derive(load_preset("demo"), [f"sampling.num_steps={num_steps}"])


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "../up"])
def test_a_name_that_is_no_folder_name_is_refused(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(PresetError, match="may hold only letters"):
        parse({**values, "name": name})


# --set section.key=value


@pytest.mark.parametrize(
    ("setting", "section", "key", "value"),
    [
        ("pull.tau_r=1.5", "pull", "tau_r", 1.5),
        ("pull.tau_r=2", "pull", "tau_r", 2.0),
        ("pull.tau_r=off", "pull", "tau_r", None),
        ("size.short_side_px=2000", "size", "short_side_px", 2000),
        ("size.short_side_px=off", "size", "short_side_px", None),
        ("color.fix=adain", "color", "fix", "adain"),
        ('color.fix="adain"', "color", "fix", "adain"),
        ("text.positive=as if = taken today", "text", "positive", "as if = taken today"),
        ("text.negative=", "text", "negative", ""),
        (" sampling.seed = 7 ", "sampling", "seed", 7),
    ],
)
def test_a_setting_changes_one_value(setting: str, section: str, key: str, value: Any) -> None:
    before = load_preset("paper")
    after = derive(before, [setting])
    assert getattr(getattr(after, section), key) == value
    changed = dataclasses.replace(getattr(before, section), **{key: value})
    assert after == dataclasses.replace(before, **{section: changed})


@pytest.mark.parametrize(
    "settings", [["tile.size_lat=8", "tile.stride_lat=4"], ["tile.stride_lat=4", "tile.size_lat=8"]]
)
def test_settings_that_need_each_other_come_in_any_order(settings: list[str]) -> None:
    assert derive(load_preset("faithful"), settings).tile.size_lat == 8


def test_later_settings_win() -> None:
    assert derive(load_preset("faithful"), ["pull.tau_r=1", "pull.tau_r=2"]).pull.tau_r == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pull.tau=1", "unknown key pull.tau: did you mean pull.tau_r?"),
        ("tau_r=1", "--set 'tau_r=1' is not section.key=value"),
        ("pull.tau_r", "--set 'pull.tau_r' is not section.key=value"),
        ("name.first=x", "unknown key name.first"),
        ("pull.tau_r=strong", "pull.tau_r must be a number or off, not 'strong'"),
        ("sampling.num_steps=off", "sampling.num_steps must be a number, not 'off'"),
    ],
)
def test_a_mistake_in_a_setting_is_named(setting: str, message: str) -> None:
    with pytest.raises(PresetError) as raised:
        derive(load_preset("faithful"), [setting])
    assert str(raised.value) == message


# Digest


def test_the_digest_is_twelve_hex_digits_and_names_the_folder() -> None:
    preset = load_preset("faithful")
    assert len(preset.digest) == 12
    assert int(preset.digest, 16) >= 0
    assert preset.folder == f"faithful-{preset.digest}"


@pytest.mark.parametrize(
    "setting",
    [
        f"{section}.{key}={value}"
        for section, key, value in [
            ("size", "upscale", 3),
            ("size", "min_size_px", 512),
            ("size", "short_side_px", 700),
            ("sampling", "num_steps", 49),
            ("sampling", "churn", 4),
            ("sampling", "s_noise", 1),
            ("sampling", "seed", 2),
            ("guidance", "start", 2),
            ("guidance", "end", 5),
            ("pull", "tau_r", "off"),
            ("control", "start", 0.5),
            ("control", "end", 0.5),
            ("text", "positive", "x"),
            ("text", "negative", "x"),
            ("tile", "size_lat", 152),
            ("tile", "stride_lat", 63),
            ("color", "fix", "none"),
        ]
    ],
)
def test_the_digest_changes_with_everything_that_is_seen(setting: str) -> None:
    before = load_preset("faithful")
    assert derive(before, [setting]).digest != before.digest


def test_the_digest_does_not_change_with_name_or_purpose(values: dict[str, Any]) -> None:
    preset = parse(values)
    assert parse({**values, "name": "another"}).digest == preset.digest
    assert parse({**values, "purpose": "another"}).digest == preset.digest


def test_the_digest_does_not_depend_on_how_a_number_is_written(tmp_path: Path) -> None:
    one: Preset = load_preset(write(tmp_path, FILE))
    other = load_preset(write(tmp_path, FILE.replace("upscale = 1.0", "upscale = 1")))
    assert one.digest == other.digest


def write(directory: Path, text: str) -> str:
    """A preset file called mine.toml."""
    path = directory / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)
