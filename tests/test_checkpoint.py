"""Checkpoints: exact values and settings, damaged files, failed writes, weights to start from."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tiny import BINS, STFT

import audioae
from audioae.errors import CheckpointError, ModelNotFoundError, OutputError
from audioae.fields import settings_from
from audioae.models import Denoiser, NetworkSettings, build_autoencoder
from audioae.models.bidirectional import BidirectionalSettings
from audioae.models.checkpoint import (
    build_model,
    checkpoint_file,
    describe,
    load_denoiser,
    load_start,
    load_weights,
    read_tensors,
    save_model,
    stages_before,
    write_tensors,
)
from audioae.models.conv1d import Conv1dSettings
from audioae.models.conv2d import Conv2dSettings
from audioae.models.dense import DenseSettings
from audioae.models.dualpath import DualpathSettings
from audioae.models.fullband import FullbandSettings

CONV1D = Conv1dSettings(
    num_bins=BINS,
    channels=(8, 4),
    kernel=3,
    skip=True,
    num_features=3,
    gain="complex",
    bottleneck="gaussian",
)
CONV2D = Conv2dSettings(
    num_bins=BINS, channels=(4, 6), time_strides=(1, 2), kernel=(3, 5), decoder="nearest"
)
DENSE = DenseSettings(num_bins=BINS, patch=3, widths=(7,), activation="identity")


def denoiser(settings: NetworkSettings = CONV1D, seed: int = 0) -> Denoiser:
    torch.manual_seed(seed)
    return Denoiser(build_autoencoder(settings), STFT, name="small one").eval()


def same_weights(one: Denoiser, other: Denoiser) -> bool:
    mine, yours = one.state_dict(), other.state_dict()
    return mine.keys() == yours.keys() and all(
        torch.equal(mine[name], yours[name]) for name in mine
    )


@pytest.mark.parametrize(
    "settings", [CONV1D, CONV2D, DENSE], ids=lambda settings: type(settings).__name__
)
def test_a_denoiser_is_saved_and_loaded(settings: NetworkSettings, tmp_path: Path) -> None:
    saved = denoiser(settings).to(memory_format=torch.channels_last)
    save_model(
        tmp_path / "a.safetensors", saved, recipe={"name": "ü"}, training={"audio_hours": 1.5}
    )
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]
    loaded = load_denoiser(tmp_path / "a.safetensors")
    assert same_weights(loaded, saved) and not loaded.training
    assert loaded.info == saved.info and loaded.autoencoder.settings == settings
    waveform = 0.1 * torch.randn(2, 500)
    with torch.no_grad():
        torch.testing.assert_close(loaded(waveform)[0], saved(waveform)[0], atol=1e-6, rtol=0)
    metadata = read_tensors(tmp_path / "a.safetensors")[1]
    assert metadata["recipe"] == {"name": "ü"} and metadata["training"] == {"audio_hours": 1.5}
    assert (
        metadata["version"] == audioae.__version__
        and metadata["family"] == saved.autoencoder.family
    )


def test_a_checkpoint_of_the_first_format_has_its_kernels_turned(tmp_path: Path) -> None:
    saved = denoiser(CONV2D)
    turned = {
        name: tensor.transpose(2, 3).contiguous() if tensor.ndim == 4 else tensor
        for name, tensor in saved.state_dict().items()
    }
    write_tensors(tmp_path / "a.safetensors", turned, {**describe(saved), "format": 1})
    assert same_weights(load_denoiser(tmp_path / "a.safetensors"), saved)


def test_a_resumed_run_keeps_its_earlier_stages(tmp_path: Path) -> None:
    first, run = tmp_path / "first.safetensors", tmp_path / "run"
    run.mkdir()
    save_model(first, denoiser(), recipe={"name": "first"}, training={"audio_hours": 1.5})
    stages = [{"recipe": {"name": "first"}, "audio_hours": 1.5}]
    assert stages_before(run, first) == stages and stages_before(run, None) == []
    save_model(
        run / "last.safetensors",
        denoiser(),
        recipe={"name": "second"},
        training={"audio_hours": 2.0},
        stages=stages,
    )
    assert stages_before(run, None) == []  # nothing to go on from: it begins anew
    (run / "resume.safetensors").touch()
    assert stages_before(run, None) == stages_before(run, first) == stages


def test_other_weights_can_be_saved(tmp_path: Path) -> None:
    mine, average = denoiser(), denoiser(seed=1)
    save_model(tmp_path / "a.safetensors", mine, average.state_dict())
    assert same_weights(load_denoiser(tmp_path / "a.safetensors"), average)


def test_tensors_keep_type_and_value(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 4).bfloat16(),
        "count": torch.tensor(7),
        "odd": torch.tensor([float("inf"), -0.0, 1e-40]),
        "view": torch.randn(4, 6).T[1:3],
    }
    write_tensors(tmp_path / "t.safetensors", tensors, {"step": 3, "best": None})
    read, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"step": 3, "best": None} and read.keys() == tensors.keys()
    assert all(
        read[name].dtype == value.dtype and torch.equal(read[name], value)
        for name, value in tensors.items()
    )


def test_a_run_folder_is_its_best_or_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"best\.safetensors.*last\.safetensors"):
        checkpoint_file(tmp_path)
    save_model(tmp_path / "last.safetensors", denoiser())
    assert same_weights(load_denoiser(str(tmp_path)), denoiser())
    save_model(tmp_path / "best.safetensors", denoiser(seed=1))
    assert same_weights(load_denoiser(tmp_path), denoiser(seed=1))
    with pytest.raises(ModelNotFoundError, match="no checkpoint at"):
        load_denoiser(tmp_path / "gone.safetensors")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damage_header(data: bytes) -> bytes:
    return b"\xff" * 8 + data[8:]


def of_another_kind(data: bytes) -> bytes:
    return b"this is no checkpoint at all"


@pytest.mark.parametrize("spoil", [cut, damage_header, of_another_kind, lambda data: b""])
def test_a_damaged_file_is_refused_in_one_line(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_model(path, denoiser())
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(
        CheckpointError, match=r"a\.safetensors is not an audioae checkpoint"
    ) as caught:
        load_denoiser(path)
    assert "\n" not in str(caught.value)


def test_other_safetensors_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is not an audioae checkpoint"):
        load_denoiser(tmp_path / "other.safetensors")


def edit(path: Path, **changes: object) -> Path:
    """The checkpoint with some of its metadata changed, or left out where None."""
    tensors, metadata = read_tensors(path)
    write_tensors(
        path,
        tensors,
        {name: value for name, value in (metadata | changes).items() if value is not None},
    )
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "conv9d"},
        {"family": None},
        {"network": None},
        {"network": {"num_bins": BINS, "of_the_future": 1}},
        {"stft": {"n_fft": 100}},
    ],
)
def test_settings_that_this_version_does_not_have_are_named(
    changes: dict[str, object], tmp_path: Path
) -> None:
    save_model(tmp_path / "a.safetensors", denoiser())
    with pytest.raises(CheckpointError, match="was written for other settings"):
        load_denoiser(edit(tmp_path / "a.safetensors", **changes))


def test_weights_of_another_network_are_not_loaded(tmp_path: Path) -> None:
    mine, wider = denoiser(), denoiser(replace(CONV1D, channels=(8, 6)))
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    with pytest.raises(
        CheckpointError,
        match=r"fits \d+ of \d+ tensors \(not: autoencoder\.encoder\.1.*another network",
    ):
        load_weights(mine, wider.state_dict(), tmp_path / "wider")
    missing = dict(list(before.items())[1:])
    with pytest.raises(CheckpointError, match=f"fits {len(before) - 1} of {len(before)} tensors"):
        load_weights(mine, missing, tmp_path / "missing")
    with pytest.raises(CheckpointError, match="more"):
        load_weights(mine, before | {"more": torch.zeros(1)}, tmp_path / "more")
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())


def test_a_full_disk_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    save_model(path, denoiser())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OutputError,
        match=r"cannot write .*last\.safetensors: No space left",
    ):
        save_model(path, denoiser(seed=1))
    assert [each.name for each in tmp_path.iterdir()] == ["last.safetensors"]
    assert same_weights(load_denoiser(path), denoiser())


def test_an_interruption_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    save_model(path, denoiser())

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_model(path, denoiser(seed=1))
    assert same_weights(load_denoiser(path), denoiser())
    save_model(path, denoiser(seed=2))  # whatever was left in the way is no obstacle
    assert [each.name for each in tmp_path.iterdir()] == ["last.safetensors"] and same_weights(
        load_denoiser(path), denoiser(seed=2)
    )


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*gone.*No such file or directory"):
        save_model(tmp_path / "gone" / "last.safetensors", denoiser())


def test_a_description_is_json_that_builds_the_same_network() -> None:
    for settings in (CONV1D, CONV2D, DENSE):
        own = denoiser(settings)
        again = build_model(json.loads(json.dumps(describe(own))))
        assert again.info == own.info and again.autoencoder.settings == settings


@pytest.mark.parametrize(
    "settings",
    [
        CONV2D,
        BidirectionalSettings(time_mixers=("gru",), dilations=(2,)),
        FullbandSettings(hidden=8, trunk=DualpathSettings(time_mixers=("gru",), dilations=(2,))),
    ],
    ids=lambda settings: type(settings).__name__,
)
def test_settings_are_rebuilt_from_json(settings: NetworkSettings) -> None:
    again = settings_from(type(settings), json.loads(json.dumps(asdict(settings))))
    assert again == settings and hash(again) == hash(settings)


def test_a_deeper_network_starts_from_a_shallower_one(tmp_path: Path) -> None:
    settings = DualpathSettings(
        num_bins=BINS,
        low_bins=9,
        num_bands=8,
        nyquist_hz=4000.0,
        outer=4,
        inner=6,
        time_mixers=("conv",),
        dilations=(1,),
    )
    shallow, waveform = denoiser(settings), 0.1 * torch.randn(2, 500)
    for kind in ("conv", "lstm", "gru"):
        deep = denoiser(
            replace(settings, time_mixers=("conv", kind, kind), dilations=(1, 2, 1)), seed=1
        )
        assert load_start(deep, shallow.state_dict(), tmp_path) == len(shallow.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(deep(waveform)[0], shallow(waveform)[0], atol=0, rtol=0)
        deep.train()(waveform)[0].square().mean().backward()
        added = deep.autoencoder.mute_beyond(
            [name.removeprefix("autoencoder.") for name in shallow.state_dict()]
        )
        pulled = [
            name
            for name, weight in deep.autoencoder.named_parameters()
            if name in added and weight.grad.abs().sum() > 0
        ]
        assert {name.split(".")[0] for name in pulled} == {"frequency_mixers", "time_mixers"}, (
            "nothing pulls the new blocks from zero"
        )
    for other in (denoiser(), denoiser(replace(settings, inner=8))):
        with pytest.raises(CheckpointError, match="another network"):
            load_start(deep, other.state_dict(), tmp_path)
    with pytest.raises(CheckpointError, match="another network"):
        load_start(shallow, deep.state_dict(), tmp_path)
