from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from supir_core.errors import WeightsError
from supir_core.models import model_digest, read_dims
from supir_core.networks.dims import FULL
from supir_core.precision import PRECISIONS
from supir_core.weights import (
    PREFIXES,
    UNUSED_KEYS,
    Networks,
    build_networks,
    check_model,
    load_networks,
)
from tests.core.tiny_model import TINY
from tests.formula import formula_tensor

SUPIRS_OWN = ("model.control_model.", "first_stage_model.denoise_encoder.", "model.diffusion_model.project_modules.")
A_KEY = "model.control_model.input_hint_block.0.weight"
MANIFEST = Path(__file__).parent / "data" / "state_dict_manifest.json.gz"  # the published model's names and shapes


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """All tensors of a tiny model."""
    return {key: formula_tensor(key, shape) for key, shape in shapes(build_networks(TINY)).items()}


@pytest.fixture(scope="module")
def whole(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory as users have it: an SDXL base and a SUPIR file."""
    directory = tmp_path_factory.mktemp("model")
    (directory / "model.json").write_text(json.dumps({"dims": TINY.to_dict()}))
    save_file({k: v for k, v in weights.items() if not k.startswith(SUPIRS_OWN)}, directory / "sdxl.safetensors")
    save_file({k: v for k, v in weights.items() if k.startswith(SUPIRS_OWN)}, directory / "supir.safetensors")
    return directory


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    """The same directory, to be damaged."""
    for file in whole.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_every_tensor_is_loaded_as_it_stands_in_the_files(whole: Path, weights: dict[str, Tensor]) -> None:
    networks = load(whole)
    assert networks.dims == TINY
    loaded = {
        PREFIXES[name] + key: tensor
        for name, module in networks.components().items()
        for key, tensor in module.state_dict().items()
    }
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


def test_loaded_networks_are_for_inference(whole: Path) -> None:
    for module in load(whole).components().values():
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_half_precision_leaves_the_autoencoder_its_own(whole: Path) -> None:
    networks = load_networks(str(whole), torch.device("cpu"), PRECISIONS["float16"])
    dtypes = {name: next(module.parameters()).dtype for name, module in networks.components().items()}
    assert dtypes.pop("vae") == torch.bfloat16
    assert set(dtypes.values()) == {torch.float16}


def test_what_real_files_carry_unused_is_ignored(model: Path) -> None:
    extra = {key: torch.zeros(1) for key in (*UNUSED_KEYS, "model_ema.decay")}
    save_file(extra, model / "extra.safetensors")
    check_model(str(model))


def test_a_missing_tensor(model: Path, weights: dict[str, Tensor]) -> None:
    replace(model, {k: v for k, v in weights.items() if k.startswith(SUPIRS_OWN) and k != A_KEY})
    error = failure(model, "weights-missing")
    assert f"lacks 1 tensors: {A_KEY}" in str(error)


def test_a_missing_file(model: Path) -> None:
    (model / "supir.safetensors").unlink()
    error = failure(model, "weights-missing")
    assert str(error).endswith(", ...")
    assert "SUPIR-v0Q" in error.hint


def test_an_unexpected_tensor(model: Path) -> None:
    save_file({"lora.up.weight": torch.zeros(1)}, model / "zz.safetensors")
    error = failure(model, "weights-unexpected")
    assert "1 unknown tensors: lora.up.weight" in str(error)
    assert "zz.safetensors" in error.hint


def test_a_wrong_shape(model: Path, weights: dict[str, Tensor]) -> None:
    own = {k: v for k, v in weights.items() if k.startswith(SUPIRS_OWN)}
    replace(model, {**own, A_KEY: torch.zeros(32, 4, 1, 1)})
    error = failure(model, "weights-shape")
    assert f"{A_KEY} in supir.safetensors is (32, 4, 1, 1), not (32, 4, 3, 3)" in str(error)


def test_a_tensor_given_twice(model: Path) -> None:
    save_file({A_KEY: torch.zeros(32, 4, 3, 3)}, model / "again.safetensors")
    error = failure(model, "weights-duplicate")
    assert f"{A_KEY} stands in both again.safetensors and supir.safetensors" in str(error)


@pytest.mark.parametrize("left", [0, 4, 100, 0.5, 0.999])
def test_a_truncated_file(left: float, model: Path) -> None:
    file = model / "supir.safetensors"
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    assert "supir.safetensors is damaged" in str(failure(model, "weights-damaged"))


def test_an_empty_directory(tmp_path: Path) -> None:
    assert str(tmp_path) in str(failure(tmp_path, "weights-not-found"))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "the word demo" in failure(tmp_path / "none", "weights-not-found").hint


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"dims": {}}', '{"dims": {"vae": {}, "unet": {}, "text": {}}}'])
def test_a_model_json_that_does_not_parse(text: str, model: Path) -> None:
    (model / "model.json").unlink()
    (model / "model.json").write_text(text)
    failure(model, "weights-config")


def test_without_a_model_json_the_dimensions_are_sdxls(tmp_path: Path) -> None:
    assert read_dims(str(tmp_path)) == FULL


def test_the_digest_follows_the_weights_and_not_the_names_of_the_files(model: Path) -> None:
    before = model_digest(str(model))
    (model / "supir.safetensors").rename(model / "supir-v0q.safetensors")
    assert model_digest(str(model)) == before
    replace(model, {**load_file(model / "supir-v0q.safetensors"), A_KEY: torch.zeros(32, 4, 3, 3)}, "supir-v0q")
    assert model_digest(str(model)) != before


def test_the_full_size_model_has_the_published_names_and_shapes() -> None:
    published = {key: tuple(shape) for key, shape in json.loads(gzip.decompress(MANIFEST.read_bytes())).items()}
    assert len(published) == 3547
    assert shapes(build_networks(FULL)) == published


def test_the_full_size_model_has_the_published_number_of_parameters() -> None:
    sizes = {key: math.prod(shape) for key, shape in shapes(build_networks(FULL)).items()}
    own = sum(size for key, size in sizes.items() if key.startswith(SUPIRS_OWN))
    assert own == 1_332_339_912  # 5.33 GB in float32: the published SUPIR files
    assert sum(sizes.values()) - own == 3_468_837_945 - 77 - 1  # 6.94 GB in float16: SDXL, without what is unused


@pytest.mark.parametrize(
    ("key", "shape", "values"),
    [
        ("a.weight", (2,), [0.9942403, 0.9980928]),
        ("a.bias", (2,), [0.0313211, 0.1500578]),
        ("token_embedding.weight", (1, 2), [0.0277774, -0.0266130]),
        ("a.weight", (1, 2, 2, 1), [-0.0287984, -0.0095360, -0.2382325, -0.1321858]),
    ],
)
def test_formula_weights_do_not_change(key: str, shape: tuple[int, ...], values: list[float]) -> None:
    # The golden data and the demo model are made of them.
    assert formula_tensor(key, shape).flatten().tolist() == pytest.approx(values, abs=1e-6)


def shapes(networks: Networks) -> dict[str, tuple[int, ...]]:
    return {
        PREFIXES[name] + key: tuple(tensor.shape)
        for name, module in networks.components().items()
        for key, tensor in module.state_dict().items()
    }


def load(directory: Path) -> Networks:
    return load_networks(str(directory), torch.device("cpu"), PRECISIONS["float32"])


def replace(directory: Path, tensors: dict[str, Tensor], name: str = "supir") -> None:
    """Put another file in the place of one."""
    (directory / f"{name}.safetensors").unlink()
    save_file(tensors, directory / f"{name}.safetensors")


def failure(directory: Path, code: str) -> WeightsError:
    """The error of loading a model and of checking it, which have to agree."""
    with pytest.raises(WeightsError) as checking:
        check_model(str(directory))
    with pytest.raises(WeightsError) as loading:
        load(directory)
    assert str(checking.value) == str(loading.value)
    assert checking.value.code == loading.value.code == code
    return loading.value
