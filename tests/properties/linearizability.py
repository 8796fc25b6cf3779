"""Whether some order of overlapping operations explains all of their answers."""

from collections.abc import Callable, Iterator, Sequence

from tests.properties.model_state import Call, State, Unexplained
from tests.properties.service_model import BEGUN, DONE, Phase, advance

_Progress = tuple[State, tuple[Phase, ...]]


def explained(state: State, calls: Sequence[Call], goal: Callable[[State], bool]) -> bool:
    """Search for an order of all steps that ends in a state that meets the goal.

    A step of a call comes after all steps of the calls that had ended when it began.
    """
    first: _Progress = (state, tuple(BEGUN for _ in calls))
    seen, open_ = {first}, [first]
    while open_:
        progress = open_.pop()
        if all(phase is DONE for phase in progress[1]) and goal(progress[0]):
            return True
        for following in _steps(progress, calls):
            if following not in seen:
                seen.add(following)
                open_.append(following)
    return False


def _steps(progress: _Progress, calls: Sequence[Call]) -> Iterator[_Progress]:
    state, phases = progress
    pending = [index for index, phase in enumerate(phases) if phase is not DONE]
    first_end = min((calls[index].ended for index in pending), default=0)
    for index in pending:
        if calls[index].began > first_end:
            continue
        try:
            outcomes = advance(state, calls[index], phases[index])
        except Unexplained:
            continue
        for following, phase in outcomes:
            yield following, (*phases[:index], phase, *phases[index + 1 :])
