"""`kvolve record`: records the attention of a model over texts."""

from pathlib import Path
from typing import Annotated

import typer

from kvolve import KvolveError


def record(
    model: Annotated[
        str | None, typer.Option(metavar="ID|FOLDER|GGUF", help="The model; default SmolLM2-135M-Instruct.")
    ] = None,
    text: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A text; repeat for more.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The new folder for the recording.")] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="0,9,18", help="Layers; default four over the depth.")
    ] = None,
    prefill: Annotated[int, typer.Option(help="Tokens before the first decode step.", min=1)] = 2048,
    steps: Annotated[int, typer.Option(help="Consecutive decode steps.", min=2)] = 32,
    small: Annotated[
        bool, typer.Option("--small", help="Remake the small recording that ships with the project.")
    ] = False,
) -> None:
    """Records the attention of a model over texts, for `kvolve run --recording DIR`.

    Without options it makes the full recording of the default model, which the first run would make.

    Example: kvolve record --model ./my-model --text a.txt --text b.txt --text c.txt --out recordings/mine
    """
    from evaluators.corpus import user_texts
    from evaluators.models import DEFAULT_MODEL
    from evaluators.record_model import ensure_full_recording, record_small
    from evaluators.record_model import record as record_texts
    from evolve.view import make_view

    view = make_view(plain=False)
    if small:
        made = record_small(progress=view.progress)
    elif model is None and text is None and out is None:
        made = ensure_full_recording(view.progress)
    elif not text or out is None:
        raise KvolveError(
            "A recording of your own needs texts and a folder: add --text FILE (at least one) and --out DIR."
        )
    else:
        made = record_texts(
            model or DEFAULT_MODEL,
            user_texts(text),
            out,
            layers=_numbers(layers),
            prefill=prefill,
            steps=steps,
            progress=view.progress,
        )
    print(
        f"{len(made.manifest.contexts)} contexts of {made.manifest.model}, layers {made.manifest.layers}, "
        f"in {made.path}"
    )
    if made.manifest.note:
        print(made.manifest.note)


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise KvolveError(f"--layers is {text!r}; give numbers with commas, such as 0,9,18,27.") from error
