"""Networks: number of frames, causality, blocks against the whole, encoder and decoder, gains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BINS, STFT
from torch import Tensor, nn

from audioae.errors import SettingsError
from audioae.models import (
    FAMILIES,
    Autoencoder,
    Denoiser,
    NetworkSettings,
    build_autoencoder,
    features,
    settings_class,
)
from audioae.models.bidirectional import BidirectionalAutoencoder, BidirectionalSettings
from audioae.models.bottlenecks import Gaussian, Plain, Sparse, build_bottleneck
from audioae.models.checkpoint import load_denoiser, load_start, trained_file
from audioae.models.conv1d import Conv1dSettings
from audioae.models.conv2d import Conv2dSettings
from audioae.models.dense import DenseSettings
from audioae.models.dualpath import DualpathSettings
from audioae.models.fullband import FullbandAutoencoder, FullbandSettings
from audioae.models.layers import TimeFrequencyConv
from audioae.signal.spectrogram import StftSettings
from audioae.training import Trainer, TrainSettings

DENSE = DenseSettings(num_bins=BINS, patch=4, widths=(24, 8))
CONV1D = Conv1dSettings(num_bins=BINS, channels=(12, 8, 6), kernel=3)
CONV2D = Conv2dSettings(num_bins=BINS, channels=(4, 6, 8))
DUALPATH = DualpathSettings(
    num_bins=BINS, low_bins=9, num_bands=8, nyquist_hz=4000.0, outer=4, inner=6, squeeze=3
)
BIDIRECTIONAL = BidirectionalSettings(**vars(DUALPATH))
FULLBAND = FullbandSettings(num_bins=97, trunk=DUALPATH, high_bands=12, low_bands=8, hidden=10)
WIDE_STFT = StftSettings(24000, 192, 96, 192)  # three times the rate of STFT, the same frames
WITHOUT_STRIDE = replace(CONV2D, time_strides=(1, 1, 1))
STATELESS: dict[str, NetworkSettings] = {
    "dense": DENSE,
    "dense-identity": replace(DENSE, activation="identity", gain="complex"),
    "conv1d": CONV1D,
    "conv1d-skip-kernel-5": replace(CONV1D, kernel=5, skip=True, num_features=3, gain="complex"),
    "conv2d": CONV2D,
    "conv2d-skip": replace(CONV2D, skip=True, num_features=3, gain="complex"),
    "conv2d-kernel-5": replace(CONV2D, kernel=(3, 5)),
    "conv2d-mixed-strides": replace(CONV2D, time_strides=(1, 2, 1), skip=True),
    "conv2d-no-stride": WITHOUT_STRIDE,
    "conv2d-nearest": replace(CONV2D, decoder="nearest"),
    "conv2d-nearest-skip": replace(CONV2D, decoder="nearest", time_strides=(2, 1, 2), skip=True),
    "dualpath-offline": replace(
        DUALPATH, causal=False, time_mixers=("conv", "conv"), dilations=(1, 3)
    ),
}
CAUSAL: dict[str, NetworkSettings] = {
    "conv1d-causal": replace(CONV1D, causal=True),
    "conv1d-causal-skip": replace(CONV1D, causal=True, skip=True, num_features=3, gain="complex"),
    "conv2d-causal": replace(WITHOUT_STRIDE, causal=True),
    "conv2d-causal-skip": replace(
        WITHOUT_STRIDE, causal=True, skip=True, num_features=3, gain="complex", kernel=(3, 2)
    ),
    "conv2d-causal-nearest": replace(WITHOUT_STRIDE, causal=True, decoder="nearest"),
    "dualpath": DUALPATH,
    "dualpath-gru": replace(DUALPATH, time_mixers=("gru", "conv"), dilations=(1, 2), gain="real"),
    "fullband": FULLBAND,
}
VARIANTS = STATELESS | CAUSAL | {"bidirectional": BIDIRECTIONAL}
each_variant = pytest.mark.parametrize("variant", VARIANTS)
each_with_decoder = pytest.mark.parametrize(
    "variant", [each for each in VARIANTS if each != "fullband"]
)


def settle(module: nn.Module) -> nn.Module:
    """Random BatchNorm statistics, and random weights in place of zeros; evaluation mode."""
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.normal_(layer.bias, std=0.1)
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return module.eval()


def build(variant: str, **changes: object) -> Autoencoder:
    torch.manual_seed(0)
    return settle(build_autoencoder(replace(VARIANTS[variant], **changes)))


def inputs(network: Autoencoder, frames: int, *, batch: int = 2, seed: int = 0) -> Tensor:
    """Random features `[batch, num_features, freq, frames]`."""
    generator, settings = torch.Generator().manual_seed(seed), network.settings
    x = torch.randn(batch, settings.num_features, settings.num_bins, frames, generator=generator)
    x[:, 0] = x[:, 0].abs()  # magnitudes
    return x


def gains(network: Autoencoder, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)[0].gain


def test_every_family_is_tested() -> None:
    assert {type(each) for each in VARIANTS.values()} == {own for own, _ in FAMILIES.values()}


@each_variant
@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 9, 31])
def test_any_number_of_frames_is_accepted(variant: str, frames: int) -> None:
    network = build(variant)
    with torch.no_grad():
        estimate, state = network(inputs(network, frames))
    settings = network.settings
    assert estimate.gain.shape == (2, settings.num_outputs, settings.num_bins, frames)
    assert estimate.gain.dtype == torch.float32 and torch.isfinite(estimate.gain).all()
    assert estimate.penalty.shape == ()
    assert [each.shape for each in state] == [each.shape for each in network.initial_state(2)]
    if settings.gain == "real":
        assert estimate.gain.min() >= 0 and estimate.gain.max() <= 1


@each_with_decoder
def test_encoder_bottleneck_and_decoder_can_be_called_separately(variant: str) -> None:
    network = build(variant)
    x = inputs(network, 2 * network.stride + network.stride)
    with torch.no_grad():
        estimate, _ = network(x)
        encoded, skips, _ = network.encode(x)
        latent, _ = network.bottleneck(encoded)
        decoded, _ = network.decode(latent, skips)
        from_code_alone, _ = network.decode(latent)
        other, _ = network.decode(latent + 1)
    torch.testing.assert_close(latent, estimate.latent)
    torch.testing.assert_close(network.mask(decoded), estimate.gain)
    assert (
        from_code_alone.shape == estimate.gain.shape
        and (other - from_code_alone).abs().max() > 1e-4
    )
    is_dualpath = network.family in ("dualpath", "bidirectional")
    takes_skips = getattr(network.settings, "skip", is_dualpath)
    assert takes_skips != torch.equal(decoded, from_code_alone)


@pytest.mark.parametrize("variant", ["dense", "conv1d", "conv2d"])
def test_plain_networks_compress(variant: str) -> None:
    network = build(variant)
    x = inputs(network, 8 * network.stride, batch=1)
    assert network(x)[0].latent.numel() < x.numel() / 2


@pytest.mark.parametrize("variant", CAUSAL)
def test_causal_gains_do_not_depend_on_later_frames(variant: str) -> None:
    network = build(variant)
    assert network.lookahead == network.context == 0 and network.stride == 1
    x = inputs(network, 24)
    before = gains(network, x)
    for frame in (1, 11, 23):
        changed = x.clone()
        changed[..., frame:] = 5 * inputs(network, 24 - frame, seed=1)
        after = gains(network, changed)
        torch.testing.assert_close(after[..., :frame], before[..., :frame], atol=1e-6, rtol=0)
        assert (
            after[..., frame] - before[..., frame]
        ).abs().max() > 1e-4  # the frame itself is heard at once


@pytest.mark.parametrize("variant", CAUSAL)
@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_blocks_with_state_equal_the_whole(variant: str, sizes: list[int]) -> None:
    network = build(variant)
    x = inputs(network, sum(sizes))
    pieces, state = [], None
    with torch.no_grad():
        for block in x.split(sizes, -1):
            estimate, state = network(block, state)
            pieces.append(estimate.gain)
        torch.testing.assert_close(torch.cat(pieces, -1), gains(network, x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", CAUSAL)
def test_an_empty_past_is_zeros(variant: str) -> None:
    network = build(variant)
    x = inputs(network, 9, batch=3)
    state = network.initial_state(3)
    assert state and not any(each.any() for each in state)
    with torch.no_grad():
        torch.testing.assert_close(network(x, state)[0].gain, gains(network, x), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "causal"),
    [((1, 1), False), ((1, 5), True), ((2, 3), True), ((3, 3), False), ((3, 7), True)],
)
def test_a_transposed_convolution_is_the_same_in_training(
    kernel: tuple[int, int], causal: bool
) -> None:
    layer = TimeFrequencyConv(3, 4, kernel, (1, 2), causal=causal, upsample="transpose", dilation=2)
    x = torch.randn(2, 3, 9, 5)
    trained, ready = layer.train()(x)[0], layer.eval()(x)[0]
    assert trained.shape == (2, 4, 9, 9)
    torch.testing.assert_close(trained, ready, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", CAUSAL)
def test_streams_do_not_mix(variant: str) -> None:
    """A block does not change the state that it gets."""
    network = build(variant)
    with torch.no_grad():
        _, state = network(inputs(network, 5))
        kept = [each.clone() for each in state]
        first = network(inputs(network, 4, seed=1), state)[0].gain
        network(inputs(network, 4, seed=2), state)
        assert all(torch.equal(each, before) for each, before in zip(state, kept, strict=True))
        torch.testing.assert_close(
            network(inputs(network, 4, seed=1), state)[0].gain, first, atol=0, rtol=0
        )


@pytest.mark.parametrize("variant", STATELESS)
def test_declared_context_and_lookahead_suffice(variant: str) -> None:
    """Gains of the frames [a, b) of an endless signal, from the frames [a - context, b + lookahead)
    of it alone.
    """
    network = build(variant)
    context, lookahead, stride = network.context, network.lookahead, network.stride
    assert network.initial_state(2) == () and context % stride == 0
    start, length = 2 * context + 3 * stride, 2 * stride + 5
    x = inputs(network, -(-(start + length + 2 * lookahead + 40) // stride) * stride)
    whole = gains(network, x)
    for first in (start, start + stride):
        chunk = x[..., first - context : first + length + lookahead]
        piece = gains(network, chunk)[..., context : context + length]
        torch.testing.assert_close(piece, whole[..., first : first + length], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", STATELESS)
def test_declared_context_and_lookahead_are_not_too_large(variant: str) -> None:
    """Larger values would cost computing in every chunk.

    Gradients show the farthest frames that the gains of one stride depend on.
    """
    network = build(variant)
    stride, far = (
        network.stride,
        -(-3 * (network.context + network.lookahead) // network.stride) * network.stride,
    )
    x = inputs(network, 2 * far + 4 * stride, batch=1).requires_grad_()
    gain = network(x)[0].gain
    back = ahead = 0
    for frame in range(far, far + stride):
        (gradient,) = torch.autograd.grad(gain[..., frame].sum(), x, retain_graph=True)
        heard = gradient.abs().sum((0, 1, 2)).nonzero()[:, 0]
        back, ahead = max(back, far - int(heard.min())), max(ahead, int(heard.max()) - frame)
    assert (
        back <= network.context < back + 2 * stride
    )  # `context` counts from a multiple of the stride
    assert ahead <= network.lookahead < ahead + 2 * stride


@each_variant
def test_items_of_a_batch_do_not_mix(variant: str) -> None:
    network = build(variant)
    x = inputs(network, 9, batch=3)
    torch.testing.assert_close(gains(network, x)[1:2], gains(network, x[1:2]), atol=1e-5, rtol=0)


@each_variant
def test_every_parameter_has_a_gradient(variant: str) -> None:
    """Processes that train together exchange the gradients of all weights."""
    network = build(variant).train()
    estimate, _ = network(inputs(network, 12))
    (estimate.gain.square().mean() + estimate.penalty).backward()
    for name, parameter in network.named_parameters():
        if name.startswith("trunk."):
            assert not parameter.requires_grad, name
            continue
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@each_variant
def test_bf16_autocast_gives_fp32_gains(variant: str) -> None:
    network = build(variant)
    x = inputs(network, 9)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = network(x)[0].gain
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, gains(network, x), atol=0.25, rtol=0.1)


@pytest.mark.parametrize("bottleneck", ["plain", "sparse", "gaussian"])
@pytest.mark.parametrize(
    "variant", ["dense", "conv1d-skip-kernel-5", "conv1d-causal", "conv2d", "conv2d-causal-skip"]
)
def test_networks_work_with_every_bottleneck(variant: str, bottleneck: str) -> None:
    network = build(variant, bottleneck=bottleneck, bottleneck_weight=0.5)
    estimate, _ = network(inputs(network, 9))
    assert estimate.gain.shape[-1] == 9
    assert estimate.latent.shape == build(variant)(inputs(network, 9))[0].latent.shape
    assert (estimate.penalty > 0) == (bottleneck != "plain")


def test_sparse_penalty_is_the_mean_activity() -> None:
    code = torch.tensor([[1.0, -2.0, 0.0, 3.0]])
    for norm, expected in ((1, 1.5), (2, 3.5)):
        latent, penalty = Sparse(0.1, norm)(code)
        assert torch.equal(latent, code) and penalty.item() == pytest.approx(0.1 * expected)
    assert Plain()(code)[1].item() == 0


def test_gaussian_penalty_is_the_kl_divergence() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    gaussian = Gaussian(0.1).eval()
    latent, penalty = gaussian(torch.cat([mean, log_variance], 1))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()),
        torch.distributions.Normal(torch.zeros(()), torch.ones(())),
    )
    assert penalty.item() == pytest.approx(0.1 * expected.mean().item(), rel=1e-5)
    assert torch.equal(latent, mean)
    assert gaussian(torch.zeros(1, 2, 4))[1].item() == 0
    assert torch.isfinite(gaussian(torch.full((1, 2, 4), 1e4))[1])


def test_gaussian_samples_in_training_only() -> None:
    gaussian, code = (
        Gaussian(1.0).train(),
        torch.cat([torch.full((1, 1, 20000), 3.0), torch.full((1, 1, 20000), np.log(4.0))], 1),
    )
    torch.manual_seed(0)
    first = gaussian(code)[0]
    assert first.mean().item() == pytest.approx(
        3, abs=0.05
    ) and first.std().item() == pytest.approx(2, abs=0.05)
    assert not torch.equal(gaussian(code)[0], first)
    torch.manual_seed(0)
    assert torch.equal(gaussian(code)[0], first)


def pca_error(rows: np.ndarray, components: int) -> float:
    """Mean squared error of the best reconstruction of `[items, values]`."""
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    return float(np.square(values[components:]).sum() / rows.size)


def test_a_linear_dense_network_matches_pca() -> None:
    """Baldi & Hornik 1989: under MSE the optimum of a linear autoencoder with biases spans the
    first principal components.
    """
    bins, patch, latent, patches = 9, 2, 4, 300
    rng = np.random.default_rng(0)
    rows = (
        rng.standard_normal((patches, bins * patch))
        @ np.diag(np.linspace(2, 0.3, bins * patch))
        @ rng.standard_normal((18, 18))
        + 1
    )
    rows /= rows.std()
    x = (
        torch.from_numpy(rows.astype(np.float32))
        .reshape(1, patches, bins, patch)
        .permute(0, 2, 1, 3)
        .reshape(1, 1, bins, -1)
    )
    torch.manual_seed(0)
    network = build_autoencoder(
        DenseSettings(num_bins=bins, patch=patch, widths=(12, latent), activation="identity")
    )
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=400, history_size=20, line_search_fn="strong_wolfe"
    )

    def error() -> Tensor:
        optimizer.zero_grad()
        value = F.mse_loss(network.decode(network.encode(x)[0])[0], x)
        value.backward()
        return value

    optimizer.step(error)
    expected = pca_error(rows, latent)
    assert 0.05 < expected < 0.9
    assert expected * 0.9999 < error().item() < expected * 1.01


def random_spectrum(frames: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 2, BINS, frames, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("gain", ["real", "complex"])
@pytest.mark.parametrize("compression", [0.3, 1.0])
def test_a_mask_acts_on_the_compressed_spectrum(gain: str, compression: float) -> None:
    network = build("conv1d", gain=gain, compression=compression)
    decoded, spectrum = torch.randn(2, network.settings.num_outputs, BINS, 5), random_spectrum(5)
    enhanced = features.apply_gain(spectrum, network.mask(decoded))
    mask = (
        torch.sigmoid(decoded)
        if gain == "real"
        else decoded + torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    )
    expected = features.apply_gain(features.compress(spectrum, compression)[1], mask)
    torch.testing.assert_close(
        features.compress(enhanced, compression)[1], expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    "variant", [name for name, each in VARIANTS.items() if each.gain == "complex"]
)
def test_a_complex_gain_is_1_for_a_decoder_output_of_0(variant: str) -> None:
    network = build(variant)
    nothing = torch.zeros(1, 2, BINS, 3)
    assert torch.equal(
        network.mask(nothing), torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, BINS, 3)
    )


def form_of(variant: str) -> StftSettings:
    return WIDE_STFT if variant == "fullband" else STFT


def denoiser(variant: str) -> Denoiser:
    return Denoiser(build(variant), form_of(variant), name=variant).eval()


@each_variant
@pytest.mark.parametrize("samples", [1, 31, 32, 700])
def test_waveforms_keep_their_length(variant: str, samples: int) -> None:
    waveform = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    model = denoiser(variant)
    for module in (model.eval(), model.train()) if samples > 100 else (model.eval(),):
        enhanced, estimate = module(waveform)
        assert enhanced.shape == waveform.shape and torch.isfinite(enhanced).all()
        assert estimate.gain.shape[-1] == form_of(variant).num_frames(samples)


@each_variant
def test_silence_stays_silent(variant: str) -> None:
    with torch.no_grad():
        enhanced, estimate = denoiser(variant)(torch.zeros(1, 900))
    assert not enhanced.any() and torch.isfinite(estimate.gain).all()


@each_variant
def test_a_waveform_is_denoised_with_the_gains_of_its_spectrum(variant: str) -> None:
    """As in an engine, the context and look-ahead of the network surround the recording."""
    model, form = denoiser(variant), form_of(variant)
    waveform = 0.1 * torch.randn(2, 700, generator=torch.Generator().manual_seed(1))
    before, after = model.info.context, model.info.lookahead
    with torch.no_grad():
        enhanced, estimate = model(waveform)
        spectrum = features.stft(waveform, form)
        if model.info.edges == "mirror":
            before, after = (min(each, spectrum.shape[-1] - 1) for each in (before, after))
            surrounded = features.mirror(spectrum, before, after)
        else:
            surrounded = F.pad(spectrum, (before, after))
        gain, _ = model.gain(surrounded)
        gain = gain[..., before:][..., : spectrum.shape[-1]]
    torch.testing.assert_close(estimate.gain, gain)
    torch.testing.assert_close(
        enhanced, features.istft(features.apply_gain(spectrum, gain), form, num_samples=700)
    )


@each_variant
def test_info_has_the_properties_for_an_engine(variant: str) -> None:
    model = denoiser(variant)
    info = model.info
    settings, form = model.autoencoder.settings, form_of(variant)
    assert (info.name, info.stft, info.gain) == (variant, form, settings.gain)
    assert info.edges == ("mirror" if variant == "bidirectional" else "silence")
    assert info.causal == (variant in CAUSAL) == bool(model.initial_state(1))
    assert info.parameters == sum(each.numel() for each in model.parameters())
    assert (info.context, info.lookahead, info.stride) == (
        model.autoencoder.context,
        model.autoencoder.lookahead,
        model.autoencoder.stride,
    )


@pytest.mark.parametrize(
    ("variant", "per_frame"),
    [("dense", 2 * (4 * BINS * 24 + 24 * 8) / 4), ("conv1d", 2 * 3 * (BINS * 12 + 12 * 8 + 8 * 6))],
)
def test_multiply_accumulates_are_counted(variant: str, per_frame: float) -> None:
    assert denoiser(variant).info.macs_per_second == pytest.approx(
        per_frame * STFT.sample_rate / STFT.hop_length, rel=1e-6
    )


@pytest.mark.parametrize(
    ("own", "parameters", "macs"),
    [(Conv1dSettings(), 430e3, 27e6), (Conv2dSettings(), 47e3, 20e6)],
    ids=["conv1d", "conv2d"],
)
def test_default_networks_have_the_size_of_the_plan(
    own: NetworkSettings, parameters: float, macs: float
) -> None:
    info = Denoiser(build_autoencoder(own), StftSettings()).info
    assert info.parameters == pytest.approx(
        parameters, rel=0.03
    ) and info.macs_per_second == pytest.approx(macs, rel=0.05)


def test_a_recurrence_counts_in_every_band_and_frame() -> None:
    conv, lstm, gru = (
        replace(DUALPATH, time_mixers=(kind,), dilations=(1,)) for kind in ("conv", "lstm", "gru")
    )
    macs = [
        Denoiser(build_autoencoder(own), STFT).info.macs_per_second
        * STFT.hop_length
        / STFT.sample_rate
        for own in (conv, lstm, gru)
    ]
    bands, channels = 5, DUALPATH.inner
    mixers = [
        9 * channels**2,
        (4 * 2 + 1) * channels**2,
        (3 * 2 + 1) * channels**2,
    ]  # 3 x 3; two maps a gate, and one after them
    assert [each - macs[0] for each in macs] == pytest.approx(
        [bands * (each - mixers[0]) for each in mixers], abs=1
    )


def test_counting_changes_nothing() -> None:
    model = denoiser("conv1d").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.info.macs_per_second == model.info.macs_per_second
    assert model.training and all(
        torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )


def test_unknown_networks_are_named() -> None:
    with pytest.raises(SettingsError, match=r"no network 'conv3d'; did you mean 'conv[12]d'"):
        settings_class("conv3d")
    with pytest.raises(SettingsError, match="no network has settings of type NetworkSettings"):
        build_autoencoder(NetworkSettings())
    with pytest.raises(SettingsError, match="unknown bottleneck 'dense'"):
        build_bottleneck("dense", 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings_of", "message"),
    [
        (lambda: NetworkSettings(num_features=2), "num_features is 2"),
        (lambda: NetworkSettings(gain="phase"), "gain is 'phase'"),  # type: ignore[arg-type]
        (lambda: Conv2dSettings(channels=(4, 8)), "differ in length"),
        (lambda: Conv2dSettings(causal=True), "time strides of 1"),
        (lambda: Conv2dSettings(num_bins=100), "100 bins do not halve 3 times"),
    ],
)
def test_impossible_settings_are_refused(
    settings_of: Callable[[], NetworkSettings], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings_of()


def features_of(spectrum: Tensor, compression: float = 0.3) -> Tensor:
    """Magnitude, real and imaginary part, `[batch, 3, freq, frames]`."""
    return torch.cat(features.compress(spectrum, compression), 1)


def mask_of(network: Autoencoder, spectrum: Tensor) -> Tensor:
    """The complex mask on the compressed spectrum, less 1, `[batch, 2, freq, frames]`."""
    encoded, skips, _ = network.encode(features_of(spectrum))
    return network.decode(encoded, skips)[0]


def reversal(values: Tensor) -> Tensor:
    """The frames `[batch, 2, freq, frames]` of the signal that runs backwards."""
    return values.flip(3) * values.new_tensor([1.0, -1.0]).view(1, 2, 1, 1)


def test_a_bidirectional_network_starts_from_the_mean_of_both_directions() -> None:
    causal = build("dualpath")
    network = build_autoencoder(BIDIRECTIONAL).eval()
    assert isinstance(network, BidirectionalAutoencoder)
    for layer in (*network.to_ahead, *network.to_back):
        assert not any(parameter.any() for parameter in layer.parameters())
    network.load_state_dict(network.start_from(causal.state_dict()))
    spectrum = random_spectrum(17)
    with torch.no_grad():
        ahead, back = mask_of(causal, spectrum), mask_of(causal, reversal(spectrum))
        expected = network.mask((ahead + reversal(back)) / 2)
        torch.testing.assert_close(gains(network, features_of(spectrum)), expected)
    assert (ahead - reversal(back)).abs().max() > 1e-3


def test_a_reversed_signal_has_the_reversed_gain() -> None:
    """With the same weights for both directions."""
    network = build("bidirectional")
    assert isinstance(network, BidirectionalAutoencoder)
    network.back.load_state_dict(network.ahead.state_dict())
    network.to_back.load_state_dict(network.to_ahead.state_dict())
    spectrum = random_spectrum(17)
    gain = gains(network, features_of(spectrum))
    turned = gains(network, features_of(reversal(spectrum)))
    torch.testing.assert_close(turned, reversal(gain), atol=1e-5, rtol=0)


def test_a_bidirectional_network_uses_both_directions_for_every_frame() -> None:
    network = build("bidirectional")
    x = inputs(network, 15, batch=1).requires_grad_()
    gain = network(x)[0].gain
    for frame in (0, 7, 14):
        (gradient,) = torch.autograd.grad(gain[..., frame].sum(), x, retain_graph=True)
        assert gradient.abs().sum((0, 1, 2)).all()


@pytest.mark.parametrize(
    "changes", [{"bottleneck": "sparse"}, {"gain": "real"}, {"num_features": 1}]
)
def test_a_bidirectional_network_needs_complex_gains(changes: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="complex gain"):
        build_autoencoder(replace(BIDIRECTIONAL, **changes))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="causal"):
        replace(BIDIRECTIONAL, causal=False, time_mixers=("conv",), dilations=(1,))


def test_a_fullband_network_keeps_the_gains_of_the_shipped_trunk() -> None:
    file = trained_file("speech-16k")
    trunk = load_denoiser(file)
    own = FullbandSettings(trunk=trunk.autoencoder.settings, hidden=8)  # type: ignore[arg-type]
    torch.manual_seed(0)
    wide = Denoiser(build_autoencoder(own), StftSettings(48000, 1536, 768, 1536)).eval()
    assert load_start(wide, trunk.state_dict(), file) == len(trunk.state_dict())
    low = torch.randn(1, 2, 257, 9, generator=torch.Generator().manual_seed(0))
    high = torch.randn(1, 2, 512, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, _ = trunk.gain(low)
        gain, _ = wide.gain(torch.cat([3 * low, high], 2))
    torch.testing.assert_close(gain[:, :, :257], expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        gain[:, 0, 257:], torch.full((1, 512, 9), 3.0).sigmoid(), atol=1e-6, rtol=0
    )
    assert not gain[:, 1, 257:].any()


def test_gains_above_the_trunk_are_between_0_and_1() -> None:
    network = build("fullband")
    with torch.no_grad():
        gain = network(10 * inputs(network, 50))[0].gain[:, :, DUALPATH.num_bins :]
    assert gain[:, 0].min() >= 0 and gain[:, 0].max() <= 1 and gain[:, 0].std() > 1e-3
    assert not gain[:, 1].any()


def test_a_training_step_does_not_change_the_trunk() -> None:
    model = denoiser("fullband")
    network = model.autoencoder
    assert isinstance(network, FullbandAutoencoder)
    trunk, high = (
        {name: value.clone() for name, value in part.state_dict().items()}
        for part in (network.trunk, network.high)
    )
    trainer = Trainer(model, TrainSettings(loss={"high_band_magnitude": 1.0}), device="cpu")
    clean = 0.1 * torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    trainer.train_step(clean + 0.1 * torch.randn(2, 2000), clean)
    assert network.training and not network.trunk.training
    for part in (network, trainer.average.autoencoder):
        after = part.trunk.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in trunk.items())
    changed = network.high.state_dict()
    assert not any(torch.equal(changed[name], value) for name, value in high.items())


@pytest.mark.parametrize("kind", ["bidirectional", "fullband"])
def test_a_network_starts_from_its_own_weights(kind: str) -> None:
    saved, network = denoiser(kind), Denoiser(build_autoencoder(VARIANTS[kind]), form_of(kind))
    load_start(network, saved.state_dict(), Path("own.safetensors"))
    loaded = network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in saved.state_dict().items())


def test_a_fullband_network_needs_a_smaller_causal_trunk() -> None:
    with pytest.raises(SettingsError, match="trunk"):
        replace(FULLBAND, num_bins=DUALPATH.num_bins)
    with pytest.raises(SettingsError, match="complex gain"):
        replace(FULLBAND, num_features=1)
