"""Check settings and arguments, and read JSON into dataclasses, as strictly as pydantic does.

A core install has no pydantic. Types are not converted, except NumPy numbers, integers where a
float is expected, and lists where a tuple is expected. NaN and infinity are no numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from audioae.errors import SettingsError, nearest

Record = TypeVar("Record")


def as_integer(value: Any, name: str) -> int:
    """An argument as an integer: an integer of Python or NumPy, or a number such as 16000.0.

    Raises:
        SettingsError: it is something else.

    Example:
        >>> as_integer(16000.0, "sample_rate")
        16000
    """
    whole = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not whole or not math.isfinite(value) or value != int(value):
        raise SettingsError(f"{name} is {_short(value)}; expected an integer")
    return int(value)


def as_path(value: Any, name: str) -> Path:
    """An argument as a path: a string or a path.

    Raises:
        SettingsError: it is something else, or has a NUL character.

    Example:
        >>> as_path("a/b.wav", "src").name
        'b.wav'
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or "\0" in text:
        raise SettingsError(f"{name} is {_short(value)}; expected a string or a pathlib.Path")
    return value if isinstance(value, Path) else Path(text)


def as_floats(waveform: Any) -> npt.NDArray[np.floating[Any]]:
    """A waveform as a NumPy array of floats, in the byte order of this machine.

    Raises:
        SettingsError: it is no array, or has integers, which have another full scale.

    Example:
        >>> as_floats([0.0, 0.5]).dtype
        dtype('float64')
    """
    try:
        array = np.asarray(waveform)
    except (TypeError, ValueError, RuntimeError) as error:  # lists of unequal length
        raise SettingsError(
            f"the waveform has the type {type(waveform).__name__}, which is no array ({error})"
        ) from error
    if array.dtype.kind != "f":
        raise SettingsError(
            f"the waveform has type {array.dtype}; expected floats with full scale -1..1 "
            "(divide int16 samples by 32768)"
        )
    if not array.dtype.isnative or array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32)
    return array


def as_levels(
    levels: Sequence[float | None] | None, channels: int
) -> tuple[float | None, ...] | None:
    """The argument `level_dbfs`; raises `SettingsError` unless it has a level for each channel."""
    if levels is None:
        return None
    try:
        checked = tuple(None if each is None else float(each) for each in levels)
    except (TypeError, ValueError):
        checked = (math.nan,)
    if len(checked) != channels or any(each != each for each in checked):
        raise SettingsError(
            f"level_dbfs is no list of {channels} numbers; expected a level in dBFS or None for "
            "each channel"
        )
    return checked


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises `ValueError` for all damage, nesting that is too deep included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its lists or objects are nested too deeply") from None


def build(record: type[Record], values: Any, name: str = "") -> Record:
    """Build a dataclass from JSON values. Keys that are no fields are ignored: a newer version of
    audioae may have written them.

    Args:
        record: the dataclass.
        values: a JSON object, not trusted.
        name: name of the object, for error messages; empty for that of the class.

    Raises:
        ValueError: it is no object, or a field is missing or has a wrong type. The dataclass itself
            raises errors for values that are out of range.

    Example:
        >>> from audioae.signal.spectrogram import StftSettings
        >>> build(StftSettings, {"sample_rate": "16000"})
        Traceback (most recent call last):
        ValueError: StftSettings.sample_rate is '16000'; expected an integer
    """
    name = name or record.__name__
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is {_short(values)}; expected an object")
    fields = dataclasses.fields(record)  # type: ignore[arg-type]
    required = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [each for each in required if each not in values]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    hints = _hints(record)
    return record(
        **{
            field.name: _typed(hints[field.name], values[field.name], f"{name}.{field.name}")
            for field in fields
            if field.name in values
        }
    )


def settings_from(settings: type[Any], values: Mapping[str, Any]) -> Any:
    """Build settings from JSON values.

    Args:
        settings: a settings dataclass.
        values: its fields. Lists become tuples, and tables the settings class of their field.

    Raises:
        ValueError: a value has a wrong type, or is no field.
        SettingsError: a value is out of range.
    """
    hints = get_type_hints(settings)
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"{settings.__name__} has no setting {name!r}")
        if isinstance(value, Mapping) and dataclasses.is_dataclass(hints[name]):
            settings_from(hints[name], value)  # unknown keys inside
    return build(settings, values)


def check_types(record: Any) -> None:
    """Check the types of the fields of a frozen dataclass, for its `__post_init__`.

    NumPy numbers become numbers of Python, and lists become tuples where the field is a tuple.

    Raises:
        ValueError: a field has a wrong type, or is a number that is NaN or infinite.
    """
    for name, hint in _hints(type(record)).items():
        value = getattr(record, name)
        # A shortcut for most fields, because very many jobs are checked.
        if value is None and type(hint) is UnionType:
            continue
        if type(hint) is type and hint not in (int, float) and isinstance(value, hint):
            continue
        checked = _typed(hint, value, f"{type(record).__name__}.{name}")
        if checked is not value:
            object.__setattr__(record, name, checked)


def check_settings(record: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check the types and ranges of a settings class, for its `__post_init__`.

    Args:
        record: the settings.
        ranges: the lowest and the highest value by name of field; of each value for a tuple.

    Raises:
        SettingsError: a field has a wrong type, is NaN or infinite, or is out of range.
    """
    try:
        check_types(record)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    for name, (lowest, highest) in ranges.items():
        value = getattr(record, name)
        values = value if isinstance(value, tuple) else (value,)
        if not all(lowest <= each <= highest for each in values):
            raise SettingsError(
                f"{type(record).__name__}.{name} is {_short(value)}; expected {lowest:,} to "
                f"{highest:,}"
            )


_HINTS: dict[Any, dict[str, Any]] = {}  # by class


def _hints(record: Any) -> dict[str, Any]:
    if record not in _HINTS:
        _HINTS[record] = get_type_hints(record)
    return _HINTS[record]


def _typed(hint: Any, value: Any, name: str) -> Any:
    """A value as the type of a field; `ValueError` if it has another type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        hint = nearest(value, arguments) if isinstance(value, str) else ""
        raise _wrong(name, value, f"one of {', '.join(map(repr, arguments))}{hint}")
    if origin is UnionType:  # X | None, or a union of dataclasses
        if value is None or any(_is_record(each) and isinstance(value, each) for each in arguments):
            return value
        return _typed(arguments[0], value, name)
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if arguments[-1] is Ellipsis:
            return tuple(_typed(arguments[0], each, name) for each in value)
        if len(value) == len(arguments):
            return tuple(map(_typed, arguments, value, [name] * len(value)))
        raise _wrong(name, value, f"{len(arguments)} values")
    if origin is dict and isinstance(value, Mapping):
        for key in value:
            _typed(arguments[0], key, f"a key of {name}")
        return {key: _typed(arguments[1], each, f"{name}.{key}") for key, each in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else build(hint, value, name)
    if isinstance(hint, type) and hint not in (int, float) and isinstance(value, hint):
        return value
    if not isinstance(value, bool):
        if hint is int and isinstance(value, numbers.Integral):
            return int(value)
        if hint is float and isinstance(value, numbers.Real):
            with suppress(OverflowError):
                if math.isfinite(number := float(value)):
                    return number
    raise _wrong(name, value, _EXPECTED.get(origin or hint, "another type"))


_EXPECTED: dict[Any, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    tuple: "a list",
    dict: "an object",
}


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _wrong(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name} is {_short(value)}; expected {expected}")


def _short(value: Any) -> str:
    """A value for an error message, in one line of at most 60 characters."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        nested = len(value) > 8 or any(isinstance(each, (Mapping, list, tuple)) for each in value)
        return "a list" if nested else f"[{', '.join(map(_short, value))}]"
    if isinstance(value, int) and abs(value) >= 10**20:  # Python refuses to print huge ones
        return "a huge integer"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
