"""Train a model on your own speech and noise from Python, then denoise a file with it.

python examples/train_own_data.py --clean SPEECH --noise NOISE --recipe quick-16k --out runs/own

Without arguments it trains a toy on the sample clips. `audioae train` does the same, with progress
and reports on the terminal. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import audioae
from audioae.data.material import Material, gather
from audioae.training import Report, fit
from audioae.training.recipe import find_recipe, read_recipe

SAMPLES = Path(__file__).parents[1] / "samples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--clean", default=str(SAMPLES / "speech.csv"), help="folder or table of clean speech")
    add("--noise", default=str(SAMPLES / "noise.csv"), help="folder or table of noise")
    add("--out", type=Path, default=Path("runs/own"), help="run folder to write")
    add("--recipe", default="smoke", help="name or path of a recipe")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    options = parser.parse_args()

    # A recipe is a TOML file; --set training.steps=1000 overrides one of its settings.
    recipe = read_recipe(find_recipe(options.recipe), options.overrides)

    # Decode and resample all recordings once, and hold out a tenth of the sources for validation.
    material = Material(speech=[options.clean], noise=[options.noise])
    folder, _ = gather(material, options.out / "data", sample_rate=recipe.stft.sample_rate)

    # Train. An interrupted run continues when the script is started again.
    about = {"recipe": recipe.to_dict(), "data": str(folder)}
    denoiser = recipe.build()
    rows = fit(denoiser, recipe.training, recipe.data, folder=folder, out=options.out, about=about)
    for row in rows:
        if isinstance(row, Report):
            print(f"step {row.step}: validation loss {row.valid_loss:.4f}")

    # The run folder is a model.
    output = options.out / "enhanced.wav"
    audioae.denoise_file(SAMPLES / "noisy.wav", output, model=options.out, overwrite=True)
    print(output)


if __name__ == "__main__":
    main()
