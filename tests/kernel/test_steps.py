"""Step functions against an oracle that writes out every millisecond."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kernel.steps import StepFunction
from kernel.window import Window

SPAN = 40
POINTS = st.lists(st.tuples(st.integers(-5, SPAN + 5), st.integers(-9, 9)), max_size=8)
FUNCTIONS = POINTS.map(StepFunction.of)


@st.composite
def spans(draw: st.DrawFn) -> Window:
    start = draw(st.integers(-8, SPAN))
    return Window(start, start + draw(st.integers(1, 30)))


def drawn(function: StepFunction, window: Window) -> list[int]:
    """The value at each millisecond, from the points alone."""
    return [
        next((value for at_ms, value in reversed(function.points) if at_ms <= moment), 0)
        for moment in range(window.start_ms, window.end_ms)
    ]


@given(POINTS)
def test_of_normalises(points: list[tuple[int, int]]) -> None:
    function = StepFunction.of(points)
    times = [at_ms for at_ms, _ in function.points]
    values = [0, *(value for _, value in function.points)]
    assert times == sorted(set(times))
    assert all(one != two for one, two in pairwise(values))
    assert function == StepFunction.of(function.points)
    for at_ms, value in dict(points).items():
        assert function.at(at_ms) == value


@given(FUNCTIONS, spans())
def test_at_and_integral_and_maximum(function: StepFunction, window: Window) -> None:
    oracle = drawn(function, window)
    assert [function.at(moment) for moment in range(window.start_ms, window.end_ms)] == oracle
    assert function.integral(window) == sum(oracle)
    assert function.maximum(window) == max(oracle)


@given(FUNCTIONS, FUNCTIONS, spans())
def test_sum_and_difference(one: StepFunction, two: StepFunction, window: Window) -> None:
    pairs = list(zip(drawn(one, window), drawn(two, window), strict=True))
    assert drawn(one + two, window) == [a + b for a, b in pairs]
    assert drawn(one - two, window) == [a - b for a, b in pairs]
    assert one + two == two + one
    assert one - one == StepFunction()


@given(st.lists(FUNCTIONS, max_size=5), spans())
def test_a_sum_of_many_integrates_to_the_sum(functions: list[StepFunction], window: Window) -> None:
    whole = StepFunction.sum_of(functions)
    assert whole.integral(window) == sum(function.integral(window) for function in functions)


@given(FUNCTIONS, FUNCTIONS, spans())
def test_overage_is_never_less_than_nothing(used: StepFunction, committed: StepFunction, window: Window) -> None:
    over = (used - committed).positive_part()
    pairs = zip(drawn(used, window), drawn(committed, window), strict=True)
    assert drawn(over, window) == [max(0, a - b) for a, b in pairs]
    under = (committed - used).positive_part()
    assert over - under == used - committed


@given(FUNCTIONS, spans())
def test_within_keeps_the_inside_alone(function: StepFunction, window: Window) -> None:
    wide = Window(window.start_ms - 20, window.end_ms + 20)
    inside = function.within(window)
    assert inside.integral(wide) == inside.integral(window) == function.integral(window)
    assert inside.within(window) == inside


@given(FUNCTIONS, spans())
def test_pieces_tile(function: StepFunction, window: Window) -> None:
    pieces = list(function.pieces(window))
    assert pieces[0][0].start_ms == window.start_ms
    assert pieces[-1][0].end_ms == window.end_ms
    assert all(one.end_ms == two.start_ms for (one, _), (two, _) in pairwise(pieces))
    assert all(set(drawn(function, piece)) == {value} for piece, value in pieces)


def test_a_constant_is_zero_outside() -> None:
    function = StepFunction.constant(Window(10, 20), 7)
    assert [function.at(moment) for moment in (9, 10, 19, 20)] == [0, 7, 7, 0]
