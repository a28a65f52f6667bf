"""Which files a batch takes, and the names of their outputs: a mirrored tree and unique names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audioae.audio import info
from audioae.denoising.batch import InputFile, check_suffix, find_inputs
from audioae.denoising.batch.tree import output_names
from audioae.errors import AudioFileError, OutputError, SettingsError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """rec/a.wav, rec/one/b.flac, rec/one/deep/c.MP3 and files that are not audio. All are empty, as
    no test reads them.
    """
    for name in (
        "a.wav",
        "notes.txt",
        ".hidden.wav",
        "one/b.flac",
        "one/b.wav.part",
        "one/deep/c.MP3",
        ".git/d.wav",
    ):
        path = tmp_path / "rec" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*given: str, exclude: Path | None = None) -> list[str]:
    return [found.path.as_posix() for found in find_inputs(given, exclude=exclude).files]


def outputs(*given: str, **form: str) -> list[str]:
    found = find_inputs(given).files
    return [Path(path).as_posix() for path in output_names(found, Path("out"), **form)]


def test_a_folder_is_searched_and_other_files_are_counted(tree: Path) -> None:
    finds = find_inputs(["rec"])
    assert [found.path.as_posix() for found in finds.files] == [
        "rec/a.wav",
        "rec/one/b.flac",
        "rec/one/deep/c.MP3",
    ]
    assert finds.num_skipped == 3  # notes, a hidden file, an unfinished output


def test_the_tree_is_mirrored(tree: Path) -> None:
    assert outputs("rec") == ["out/a.wav", "out/one/b.flac", "out/one/deep/c.MP3"]


def test_a_named_file_is_taken_whatever_its_suffix(tree: Path) -> None:
    assert names("rec/notes.txt") == ["rec/notes.txt"]


def test_patterns_are_expanded_as_by_a_shell(tree: Path) -> None:
    assert names("rec/*.wav", "rec/*/*.fl?c") == ["rec/a.wav", "rec/one/b.flac"]
    assert names("rec/**/*.MP3") == ["rec/one/deep/c.MP3"]
    assert names("rec/o*") == ["rec/one/b.flac", "rec/one/deep/c.MP3"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tree: Path) -> None:
    (tree / "x[1].wav").touch()
    assert names("x[1].wav") == ["x[1].wav"]


def test_a_pattern_that_matches_nothing_is_an_error(tree: Path) -> None:
    with pytest.raises(AudioFileError, match=r"rec/\*\.aiff matches no file"):
        find_inputs(["rec/*.aiff"])


def test_a_folder_without_audio_is_an_error(tree: Path) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(AudioFileError, match="no audio file in empty"):
        find_inputs(["empty"])


def test_an_input_given_twice_is_taken_once(tree: Path) -> None:
    assert names("rec", "rec/a.wav", "./rec/one") == [
        "rec/a.wav",
        "rec/one/b.flac",
        "rec/one/deep/c.MP3",
    ]


def test_the_output_folder_inside_the_tree_is_not_entered(tree: Path) -> None:
    assert names("rec", exclude=tree / "rec" / "one") == ["rec/a.wav"]


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_are_followed_but_circles_end(tree: Path) -> None:
    (tree / "rec" / "circle").symlink_to(tree / "rec")
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere" / "z.wav").touch()
    (tree / "rec" / "linked").symlink_to(tree / "elsewhere")
    assert names("rec") == ["rec/a.wav", "rec/linked/z.wav", "rec/one/b.flac", "rec/one/deep/c.MP3"]


def test_a_template_names_the_file_or_with_a_slash_the_path(tree: Path) -> None:
    assert outputs("rec", template="{stem}-clean{ext}") == [
        "out/a-clean.wav",
        "out/one/b-clean.flac",
        "out/one/deep/c-clean.MP3",
    ]
    assert outputs("rec", template="{root}/{folder}/{stem}{ext}") == [
        "out/rec/a.wav",
        "out/rec/one/b.flac",
        "out/rec/one/deep/c.MP3",
    ]
    assert outputs("rec", suffix=".wav") == ["out/a.wav", "out/one/b.wav", "out/one/deep/c.wav"]


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{steam}{ext}", "did you mean 'stem'"),
        ("same{ext}", "needs {stem}"),
        ("{stem", "cannot be read"),
        ("../{stem}{ext}", "inside the output folder"),
        ("/{stem}{ext}", "inside the output folder"),
        ("{0}{stem}", "unknown field '0'"),
    ],
)
def test_templates_that_name_no_files_are_refused(tree: Path, template: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        outputs("rec", template=template)


def test_same_names_in_two_folders(tree: Path) -> None:
    """They would be one output: both are named, and a template that tells them apart."""
    (tree / "other").mkdir()
    (tree / "other" / "a.wav").touch()
    with pytest.raises(
        OutputError, match=r"rec/a.wav and other/a.wav would both be written to out/a.wav.*\{root\}"
    ):
        outputs("rec", "other")
    assert "out/other/a.wav" in outputs("rec", "other", template="{root}/{folder}/{stem}{ext}")


def test_two_suffixes_that_become_one_are_refused(tree: Path) -> None:
    (tree / "rec" / "a.mp3").touch()
    with pytest.raises(
        OutputError, match=r"rec/a.mp3 and rec/a.wav would both be written to out/a.flac"
    ):
        outputs("rec", suffix=".flac")


def test_an_output_that_is_another_input_is_refused(tree: Path) -> None:
    (tree / "rec" / "a-clean.wav").touch()
    found = find_inputs(["rec/a.wav", "rec/a-clean.wav"]).files
    with pytest.raises(
        OutputError, match=r"rec/a-clean.wav, the output of rec/a.wav, is the input"
    ):
        output_names(found, tree / "rec", template="{stem}-clean{ext}")


def test_a_link_to_the_input_folder_is_the_input_folder(tree: Path) -> None:
    (tree / "link").symlink_to(tree / "rec")
    with pytest.raises(OutputError, match="is the input"):
        output_names([InputFile("rec/a.wav", Path("."), "rec")], Path("link"))


def test_formats_are_suffixes() -> None:
    assert [check_suffix(kind) for kind in ("flac", ".WAV", "Opus")] == [".flac", ".wav", ".opus"]
    with pytest.raises(SettingsError, match="did you mean 'flac'"):
        check_suffix("flak")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs permissions that hold")
def test_a_folder_that_cannot_be_searched_is_named(tree: Path) -> None:
    Path("rec/one").chmod(0)
    try:
        found = find_inputs(["rec"])
    finally:
        Path("rec/one").chmod(0o755)
    assert [each.path.as_posix() for each in found.files] == ["rec/a.wav"]
    assert len(found.unreadable) == 1
    assert "rec/one" in found.unreadable[0]


@pytest.mark.skipif(os.name != "posix", reason="needs FIFOs")
def test_pipes_in_folders_are_skipped_and_never_opened(tree: Path) -> None:
    os.mkfifo("rec/waiting.wav")
    found = find_inputs(["rec"])
    assert "rec/waiting.wav" not in [each.path.as_posix() for each in found.files]
    assert (found.num_skipped, found.special) == (3, [Path("rec/waiting.wav")])
    with pytest.raises(AudioFileError, match=r"waiting\.wav"):
        info("rec/waiting.wav")
