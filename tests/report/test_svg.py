"""Charts as SVG."""

from __future__ import annotations

import warnings

from matplotlib.figure import Figure

from compress.report.svg import chart_svg


def test_names_of_any_script_are_drawn_without_a_warning() -> None:
    def draw(figure: Figure) -> None:
        figure.add_subplot().set_title("鳥 ‏عربي 🐦")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "鳥" in chart_svg("birds", draw)
