"""What is drawn is what was counted: bars stand on each other, and none is higher than the scale."""

import re

import pytest

from ucloud_slurm.page.plots import HEIGHT, TOP, WIDTH, nice, stacked


def heights(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"v-([\d.]+)", path)]


def test_bars_stand_on_each_other_and_fill_the_scale() -> None:
    plot = stacked(["a", "b"], {"one": [10.0, 0.0], "two": [30.0, 20.0]})
    (first,), (second, third) = map(heights, plot.paths)
    assert second == pytest.approx(3 * first, abs=0.02)
    assert third == pytest.approx(2 * first, abs=0.02)
    starts = [float(number) for number in re.findall(r"M[\d.]+ ([\d.]+)", plot.paths[1])]
    assert starts == pytest.approx([plot.base - first, plot.base], abs=0.1)
    assert (plot.ticks[0].text, plot.ticks[-1].text) == ("0", "40")
    assert plot.ticks[-1].at == pytest.approx(TOP, abs=0.1)


def test_a_column_says_its_sum_and_what_is_in_it() -> None:
    plot = stacked(["a", "b"], {"one": [1.0, 0.0], "two": [2.5, 2.0]})
    assert [column.title for column in plot.columns] == ["a: 3.5\none: 1.0\ntwo: 2.5", "b: 2.0\ntwo: 2.0"]


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [1e-9], [1e12, 3.0], [7.0] * 90])
def test_any_values_stay_inside_of_the_drawing(values: list[float]) -> None:
    plot = stacked([str(number) for number in range(len(values))], {"one": values, "two": values})
    for path in plot.paths:
        for x, y, width, height in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v-([\d.]+)", path):
            assert float(x) + float(width) <= WIDTH
            assert TOP - 0.1 <= float(y) - float(height) <= float(y) <= HEIGHT


@pytest.mark.parametrize(("least", "found"), [(0, 1), (1, 1), (1.1, 2), (3, 5), (6, 10), (0.03, 0.05), (1234, 2000)])
def test_a_step_of_the_scale_is_a_round_number(least: float, found: float) -> None:
    assert nice(least) == pytest.approx(found)
