"""Whether some order of operations that overlapped explains all of their answers."""

from collections.abc import Callable, Iterator, Sequence

from tests.properties.model import BEGUN, DONE, Phase, advance
from tests.properties.world import Call, Unexplained, World

_State = tuple[World, tuple[Phase, ...]]


def explained(world: World, calls: Sequence[Call], goal: Callable[[World], bool]) -> bool:
    """Search for an order of all steps that ends in a world that meets the goal.

    A step of a call comes after all steps of the calls that had ended when it began.
    """
    first: _State = (world, tuple(BEGUN for _ in calls))
    seen, open_ = {first}, [first]
    while open_:
        state = open_.pop()
        if all(phase is DONE for phase in state[1]) and goal(state[0]):
            return True
        for following in _steps(state, calls):
            if following not in seen:
                seen.add(following)
                open_.append(following)
    return False


def _steps(state: _State, calls: Sequence[Call]) -> Iterator[_State]:
    world, phases = state
    undone = [index for index, phase in enumerate(phases) if phase is not DONE]
    first_end = min((calls[index].ended for index in undone), default=0)
    for index in undone:
        if calls[index].began > first_end:
            continue
        try:
            outcome = advance(world, calls[index], phases[index])
        except Unexplained:
            continue
        for then, phase in outcome:
            yield then, (*phases[:index], phase, *phases[index + 1 :])
