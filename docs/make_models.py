"""Write docs/models.md from the model cards in the package."""

from __future__ import annotations

from pathlib import Path

from audioae.pretrained import card_markdown, default_model, list_models, load_card

PAGE = Path(__file__).with_name("models.md")
HEAD = """# The models in the package

The default is `{default}`. `audioae models info NAME` prints the card of a model; with `--json` it
includes the complete list of training data. This page is written by `python docs/make_models.py`
from the cards in `audioae/pretrained/weights`. The site that `python docs/make_site.py` builds has
audio examples of each denoiser on this page.

## Licences of the training data

The models are published under the licence on their cards. Some of the audio that they were trained
on has stricter terms:

- **Share-alike**: the SMC Malayalam Speech Corpus (CC BY-SA), MS-SNSD speech (CC BY and ODbL) and
  some clips of noisekun, blanket, minetest-game, redeclipse and openrct2 (CC BY-SA).
- **For training, but not to be passed on**: the noise corpus moodist (Pixabay Content License or
  CC0 per clip).

None of this audio is in the package: it contains weights only. The cards below list every corpus
with its licence, and `audioae models info NAME --json` prints the same list for programs. To train
a model without such data, select recordings by their licence with the option `--licence` of
`audioae prepare`, then follow [training.md](training.md).
"""


def render() -> str:
    """The page as Markdown."""
    cards = [card_markdown(load_card(entry.name)).strip() for entry in list_models()]
    return "\n\n".join([HEAD.format(default=default_model()).strip(), *cards]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
