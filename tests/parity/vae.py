"""The autoencoder: its networks one by one, and untiled results at larger sizes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from supir_core import vae_strips
from supir_core.networks.vae import Posterior, Vae
from tests.parity import build
from tests.parity.golden import GoldenFile
from tests.parity.limits import DECODE_CHAIN, TILED_VAE, VAE
from tests.parity.report import Report

INEXACT_TILING = "made with the published, inexact VAE tiling; ours is exact"
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
    """Untiled results only: the published tiling is inexact, so what it gave is no aim."""
    vae = build.vae(build.vae_dims(file.setting("config", "vae"), latent_scale=1.0))
    outputs = rf"(?:{_ENCODERS}|decoder)\.(?:tiled|untiled)|decoder\.input"
    for case, names in file.cases(rf"image|z|{outputs}").items():
        file.look_at(f"{case}.{name}" for name in ("image", "z"))
        for encoder in _ENCODERS.split("|"):
            with report.group(file, case, f"{encoder}", TILED_VAE) as group:
                if f"{encoder}.untiled" in names:
                    group.compare(f"{case}.{encoder}.untiled", getattr(vae, encoder)(file[f"{case}.image"]))
        with report.group(file, case, "decoder", TILED_VAE) as group:
            if "decoder.input" in names:
                group.compare(f"{case}.decoder.input", vae.post_quant_conv(file[f"{case}.z"]))
            if "decoder.untiled" in names:
                group.compare(f"{case}.decoder.untiled", _decode(vae, file, case))
        for name in [name for name in names if name.endswith(".tiled")]:
            network = name.removesuffix(".tiled")
            found = _by_strips(vae, file, case, network)
            report.differ(file, case, f"{case}.{name}", found, INEXACT_TILING)
            with report.group(file, case, f"{network} strips", TILED_VAE) as group:
                if f"{network}.untiled" in names:
                    group.compare(f"{case}.{network}.untiled", found)


def _by_strips(vae: Vae, file: GoldenFile, case: str, network: str) -> Tensor:
    """The result of our exact tiling, with nothing kept that need not be."""
    if network == "decoder":
        return vae_strips.decode(vae.decoder, vae.post_quant_conv(file[f"{case}.z"]), 0)
    return vae_strips.encode(getattr(vae, network), file[f"{case}.image"], 0)


def _decode(vae: Vae, file: GoldenFile, case: str) -> Tensor:
    """From the decoder's own input where the file has it."""
    given = f"{case}.decoder.input"
    image: Tensor = vae.decoder(file[given]) if given in file else vae.decode(file[f"{case}.z"])
    return image
