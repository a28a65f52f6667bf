"""Write docs/models.md from the cards of the models in the package."""

from __future__ import annotations

from pathlib import Path

from audioae.pretrained import card_markdown, default_model, list_models, load_card

PAGE = Path(__file__).with_name("models.md")
HEAD = """# The models in the package

What each learnt from, how, and what it scores beside the noisy input. `audioae models info NAME` shows the same. Written by
`python docs/make_models.py` from the cards in `audioae/weights`: change those, not this page. The default is `{default}`.
"""


def render() -> str:
    """The page."""
    cards = [card_markdown(load_card(entry.name)).strip() for entry in list_models()]
    return "\n\n".join([HEAD.format(default=default_model()).strip(), *cards]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
