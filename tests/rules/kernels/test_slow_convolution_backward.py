"""slow-convolution-backward: of depthwise layers with the channels first it is priced; usual and other layers are silent."""

from __future__ import annotations

from mfu_doctor.analysis.run import Run
from mfu_doctor.rules.kernels.slow_convolution_backward import slow_convolution_backward
from tests.rules.judging import close, found, price_us, run_of, silent
from tests.timeline import Timeline

IMAGE, WEIGHT = [16, 48, 32, 32], [48, 1, 7, 7]
FIRST, LAST = [49152, 1024, 32, 1], [49152, 1, 1536, 48]


def convolution(
    backward: int,
    *,
    strides: list[int] | None = None,
    image: list[int] = IMAGE,
    weight: list[int] = WEIGHT,
    transposed: bool | None = None,
) -> Run:
    """Per step a depthwise convolution of 100 us and its backward, and two of another size that are as usual."""
    drawn = Timeline(device=None)
    floats = ["float"] * 3
    for _ in range(6):
        with drawn.step():
            told = [] if transposed is None else ["", "", "", "[1, 1]", "[0, 0]", "[1, 1]", str(transposed)]
            drawn.op(
                "aten::convolution",
                host=100,
                dims=[image, weight],
                types=floats[:2],
                strides=[FIRST, []],
                concrete=told,
            )
            drawn.op("aten::convolution", host=100, dims=[IMAGE, [96, 48, 1, 1]], types=floats[:2], strides=[FIRST, []])
            sizes = [image, image, weight]
            drawn.op(
                "aten::convolution_backward",
                host=backward,
                dims=sizes,
                types=floats,
                strides=[FIRST, strides or FIRST, []],
                concrete=["", *told],
            )
            drawn.op(
                "aten::convolution_backward",
                host=300,
                dims=[IMAGE, IMAGE, [96, 48, 1, 1]],
                types=floats,
                strides=[FIRST, FIRST, []],
            )
    return run_of(drawn)


def test_a_backward_of_many_times_its_forward_is_priced() -> None:
    """A ConvNeXt on a CPU: 86 of 183 ms were backward of its depthwise layers, and nothing was found."""
    run = convolution(2_000)
    price = price_us(slow_convolution_backward, run)
    assert price.high_ns == close(0.75 * 2_000)
    assert price.mid_ns == close(0.6 * 2_000)
    assert price.low_ns == close(0.45 * 2_000)
    finding = found(slow_convolution_backward, run)
    assert "20 times" in finding.summary
    assert "channels_last" in finding.fix
    assert "48x1x7x7" in (finding.detail or "")


def test_layers_that_channels_last_is_not_for_are_silent() -> None:
    """It raises on sounds and volumes, and of transposed layers it is not known."""
    silent(
        slow_convolution_backward, convolution(2_000, image=[16, 48, 1024], weight=[48, 1, 9], strides=[49152, 1024, 1])
    )
    volume = [16, 48, 8, 8, 16]
    silent(
        slow_convolution_backward,
        convolution(2_000, image=volume, weight=[48, 1, 5, 5, 5], strides=[49152, 1024, 128, 16, 1]),
    )
    silent(slow_convolution_backward, convolution(2_000, transposed=True))
    found(slow_convolution_backward, convolution(2_000, transposed=False))


def test_a_usual_backward_is_no_finding() -> None:
    silent(slow_convolution_backward, convolution(450))


def test_where_the_channels_are_last_nothing_is_advised() -> None:
    silent(slow_convolution_backward, convolution(2_000, strides=LAST))


def test_other_layers_gain_too_little() -> None:
    """A first layer of one channel took 6 times its forward in a healthy GAN, with the channels last as well."""
    silent(slow_convolution_backward, convolution(2_000, weight=[96, 48, 5, 5]))
