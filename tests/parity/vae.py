"""The autoencoder: its networks one by one, and larger sizes: untiled, by our strips, by a copy of published tiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from supir_core import vae_strips
from supir_core.networks.vae import Posterior, Vae
from tests.parity import build
from tests.parity.golden import GoldenFile
from tests.parity.inexact_tiling import DECODER_PADDING, ENCODER_PADDING, spans, with_published_tiling
from tests.parity.limits import DECODE_CHAIN, EXACT, TILED_VAE, VAE
from tests.parity.report import Report

INEXACT_TILING = "made with the published, inexact VAE tiling; ours is exact"
PUBLISHED_TILING = "published tiling"  # the group in which the same tensors are matched, by a copy of that tiling
_ENCODERS = "encoder|denoise_encoder"


def check_vae(file: GoldenFile, report: Report) -> None:
    """Encoders, quantisation convolutions and decoder of every case."""
    vae = build.vae(build.vae_dims(file.setting("config", "vae"), latent_scale=1.0))
    posterior: dict[str, Callable[[Tensor], Posterior]] = {
        "encoder": vae.encode,
        "denoise_encoder": vae.encode_degraded,
    }
    outputs = rf"(?:{_ENCODERS})\.(?:out|moments|mode|std)|decode\.(?:post_quant|image)|roundtrip\.denoise_mode_decoded"
    for case, names in file.cases(rf"image|decode\.z|{outputs}").items():
        file.look_at(f"{case}.{name}" for name in ("image", "decode.z"))
        for encoder, encode in posterior.items():
            with report.group(file, case, encoder, VAE) as group:
                wanted = [name for name in names if name.startswith(f"{encoder}.")]
                if wanted:
                    image = file[f"{case}.image"]
                    raw = getattr(vae, encoder)(image)
                    found = encode(image)
                    ours = {"out": raw, "moments": vae.quant_conv(raw), "mode": found.mean, "std": found.std}
                    for name in wanted:
                        group.compare(f"{case}.{name}", ours[name.removeprefix(f"{encoder}.")])
        with report.group(file, case, "decode", VAE) as group:
            if "decode.post_quant" in names:
                group.compare(f"{case}.decode.post_quant", vae.post_quant_conv(file[f"{case}.decode.z"]))
            if "decode.image" in names:
                group.compare(f"{case}.decode.image", vae.decode(file[f"{case}.decode.z"]))
        with report.group(file, case, "roundtrip", DECODE_CHAIN) as group:
            if "roundtrip.denoise_mode_decoded" in names:
                mode = vae.encode_degraded(file[f"{case}.image"]).mean
                group.compare(f"{case}.roundtrip.denoise_mode_decoded", vae.decode(mode))


def check_tiled_vae(file: GoldenFile, report: Report) -> None:
    """Untiled results are what we aim at; tiled ones show that we differ from them by the published tiling alone."""
    vae = build.vae(build.vae_dims(file.setting("config", "vae"), latent_scale=1.0))
    outputs = rf"(?:{_ENCODERS}|decoder)\.(?:tiled|untiled)|decoder\.input"
    cases = file.cases(rf"image|z|{outputs}")
    for (case, names), entry in zip(cases.items(), file.setting("cases"), strict=True):
        file.look_at(f"{case}.{name}" for name in ("image", "z"))
        for encoder in _ENCODERS.split("|"):
            with report.group(file, case, f"{encoder}", TILED_VAE) as group:
                if f"{encoder}.untiled" in names:
                    group.compare(f"{case}.{encoder}.untiled", _result(vae, file, case, encoder))
        with report.group(file, case, "decoder", TILED_VAE) as group:
            if "decoder.input" in names:
                group.compare(f"{case}.decoder.input", vae.post_quant_conv(file[f"{case}.z"]))
            if "decoder.untiled" in names:
                group.compare(f"{case}.decoder.untiled", _result(vae, file, case, "decoder"))
        for name in [name for name in names if name.endswith(".tiled")]:
            network = name.removesuffix(".tiled")
            found = _by_strips(vae, file, case, network)
            report.differ(file, case, f"{case}.{name}", found, INEXACT_TILING)
            with report.group(file, case, f"{network} strips", TILED_VAE) as group:
                if f"{network}.untiled" in names:
                    group.compare(f"{case}.{network}.untiled", found)
        _check_published_tiling(file, report, case, entry, vae)


def _check_published_tiling(file: GoldenFile, report: Report, case: str, entry: Mapping[str, Any], vae: Vae) -> None:
    height, width = entry["hw"]
    factor = vae.dims.factor
    sides = {"enc": (height, width, ENCODER_PADDING), "dec": (height // factor, width // factor, DECODER_PADDING)}
    with report.group(file, case, "tile boxes", EXACT) as group:
        for which, (rows, columns, padding) in sides.items():
            tile = entry[f"{which}_tile"]
            boxes = [[*x, *y] for y, _ in spans(rows, tile, padding) for x, _ in spans(columns, tile, padding)]
            group.record(f"{which}_tiles_in_xxyy", float(boxes != entry[f"{which}_tiles_in_xxyy"]))
    with report.group(file, case, PUBLISHED_TILING, TILED_VAE) as group:
        tiled = with_published_tiling(vae, entry["enc_tile"], entry["dec_tile"])
        for network in (*_ENCODERS.split("|"), "decoder"):
            if f"{case}.{network}.tiled" in file:
                group.compare(f"{case}.{network}.tiled", _result(tiled, file, case, network))


def _by_strips(vae: Vae, file: GoldenFile, case: str, network: str) -> Tensor:
    """The result of our exact tiling, with nothing kept that need not be."""
    if network == "decoder":
        return vae_strips.decode(vae.decoder, vae.post_quant_conv(file[f"{case}.z"]), 0)
    return vae_strips.encode(getattr(vae, network), file[f"{case}.image"], 0)


def _result(vae: Vae, file: GoldenFile, case: str, network: str) -> Tensor:
    """The network's result, without strips; the decoder's from its own input where the file has it."""
    if network == "decoder" and f"{case}.decoder.input" not in file:
        return vae.decode(file[f"{case}.z"])
    result: Tensor = getattr(vae, network)(file[f"{case}.decoder.input" if network == "decoder" else f"{case}.image"])
    return result
