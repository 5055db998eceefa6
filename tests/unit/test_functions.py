"""The user's functions in all their possible forms."""

from __future__ import annotations

import asyncio
import functools
import gc
import signal
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from microbatch.broker.app.functions import UserFunction
from microbatch.broker.errors import ConfigError
from microbatch.broker.wire.batch import BatchInfo
from microbatch.broker.wire.header import Trigger
from tests.signals import on_alarm

if TYPE_CHECKING:
    from somewhere import Missing  # type: ignore[import-not-found]

NOW = datetime(2024, 1, 1, tzinfo=UTC)
INFO = BatchInfo("0a", "letters", Trigger.SIZE, 2, 1, NOW, NOW)
SETTING = "batch_processor"


@dataclass
class Letter:
    text: str


def total(batch: list[int]) -> int:
    return sum(batch)


def described(batch: list[int], info: BatchInfo) -> str:
    return f"{info.id}: {sum(batch)}"


def described_by_any_name(batch, x):  # type: ignore[no-untyped-def]
    return f"{x.id}: {sum(batch)}"


def with_default(batch: list[int], factor: int = 2) -> int:
    return sum(batch) * factor


def with_optional_info(batch: list[int], info: BatchInfo | None = None) -> str:
    return f"{info and info.id}: {sum(batch)}"


def with_default_info(batch: list[int], info: BatchInfo = INFO) -> str:
    return f"{info.batcher}: {sum(batch)}"


async def eventually(batch: list[int]) -> int:
    await asyncio.sleep(0)
    return sum(batch)


async def eventually_described(batch: list[int], info: BatchInfo) -> str:
    await asyncio.sleep(0)
    return f"{info.id}: {sum(batch)}"


class Runner:
    def run(self, batch: list[int]) -> int:
        return sum(batch)


class DescribingRunner:
    def run(self, batch: list[int], info: BatchInfo) -> str:
        return f"{info.id}: {sum(batch)}"


class AsyncRunner:
    async def run(self, batch: list[int]) -> int:
        return sum(batch)


class StaticRunner:
    @staticmethod
    def run(batch: list[int]) -> int:
        return sum(batch)


class Callme:
    def __call__(self, batch: list[int]) -> int:
        return sum(batch)


class AsyncCallme:
    async def __call__(self, batch: list[int]) -> int:
        return sum(batch)


holder = SimpleNamespace(total=total, runner=Runner())


@pytest.mark.parametrize(
    ("function", "returned"),
    [
        (total, 3),
        (described, "0a: 3"),
        (described_by_any_name, "0a: 3"),
        (with_default, 6),
        (with_default_info, "letters: 3"),
        (eventually, 3),
        (eventually_described, "0a: 3"),
        (Runner(), 3),
        (Runner().run, 3),
        (DescribingRunner(), "0a: 3"),
        (AsyncRunner(), 3),
        (StaticRunner, 3),
        (StaticRunner(), 3),
        (Callme(), 3),
        (AsyncCallme(), 3),
        (functools.partial(with_default, factor=3), 9),
        (functools.partial(eventually), 3),
        (lambda batch: sum(batch) + 1, 4),
        (lambda *batches: sum(batches[0]), 3),
        (sum, 3),
        (len, 2),
        (f"{__name__}:total", 3),
        (f"{__name__}:holder.total", 3),
        (f"{__name__}:holder.runner", 3),
        (f"{__name__}:eventually_described", "0a: 3"),
    ],
)
def test_every_form_is_called_with_what_it_asks_for(function: object, returned: object) -> None:
    assert UserFunction(SETTING, function)([1, 2], INFO) == returned


def test_an_optional_batch_is_given_too() -> None:
    assert UserFunction(SETTING, with_optional_info)([1, 2], INFO) == "0a: 3"


def test_a_function_of_any_arguments_is_given_the_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    UserFunction("result_handler", print)("a", INFO)
    assert capsys.readouterr().out == "a\n"


def test_async_calls_share_one_loop() -> None:
    loops = []

    async def note(_batch: list[int]) -> None:
        loops.append(asyncio.get_running_loop())

    function = UserFunction(SETTING, note)
    function([], INFO)
    function([], INFO)
    assert loops[0] is loops[1]


class Interrupt(Exception):
    """An exception from a signal handler, as a time limit raises it. It comes out of the loop that waits."""


def test_an_async_call_that_is_interrupted_does_not_go_on_in_the_next() -> None:
    said: list[str] = []

    async def wait(seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            said.append("cancelled")
            raise
        said.append("returned")

    def interrupt() -> None:
        raise Interrupt

    function = UserFunction(SETTING, wait)
    with on_alarm(interrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupt):
            function(0.1, INFO)
        function(0.2, INFO)
    assert said == ["cancelled", "returned"]


def test_what_it_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        UserFunction(SETTING, lambda batch: 1 / len(batch))([], INFO)


def no_parameter() -> None: ...
def three(a: int, b: int, c: int) -> None: ...
def keyword_only(*, batch: list[int]) -> None: ...
def needs_keyword(batch: list[int], *, database: str) -> None: ...
def unresolved(batch: list[Missing]) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_parameter, "batch_processor takes 0 parameters; it must take one"),
        (three, "batch_processor takes 3 parameters; it must take one"),
        (keyword_only, "batch_processor requires the keyword argument 'batch', and gets none"),
        (needs_keyword, "batch_processor requires the keyword argument 'database', and gets none"),
        (Runner, r"batch_processor is the class Runner; give an object of it: Runner\(\)"),
        (f"{__name__}:Runner", "batch_processor is the class Runner"),
        ("no_such_module:total", "batch_processor: cannot import it: No module named 'no_such_module'"),
        (f"{__name__}:nothing", "batch_processor: cannot import it: .*has no attribute 'nothing'"),
        (f"{__name__}:INFO", "batch_processor must be a function, an object with run"),
        (f"{__name__}:holder.missing", "batch_processor: cannot import it"),
    ],
)
def test_what_cannot_be_called_is_refused(function: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UserFunction(SETTING, function)


def bad_syntax(batch: "list[") -> None: ...  # type: ignore[valid-type]  # noqa: F722


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            unresolved,
            "batch_processor: the annotation 'list\\[Missing\\]' can't be resolved: name 'Missing' is not",
        ),
        (bad_syntax, "batch_processor: the annotation .* can't be resolved: "),
    ],
)
def test_an_annotation_that_values_are_rebuilt_by_is_looked_up(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        UserFunction(SETTING, function).item_decoder()


def returns_missing(batch: list[int]) -> Missing:
    return sum(batch)


def keyword_missing(batch: list[int], *, database: Missing = None) -> int:
    return sum(batch)


def second_missing(batch: list[int], factor: Missing = 2) -> int:
    return sum(batch) * int(factor)


def third_missing(batch: list[int], factor: int = 2, other: missing.Type | None = None) -> int:  # type: ignore[name-defined]  # noqa: F821
    return sum(batch) * factor


def keywords_missing(batch: list[int], **options: Missing) -> int:
    return sum(batch)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return call


class MissingRunner:
    client: Missing

    def run(self, batch: list[int]) -> Missing:
        return sum(batch)


class MissingCallme:
    def __call__(self, batch: list[int]) -> Missing:
        return sum(batch)


async def async_missing(batch: list[int]) -> Missing:
    return sum(batch)


@pytest.mark.parametrize(
    ("function", "returned"),
    [
        (returns_missing, 3),
        (keyword_missing, 3),
        (second_missing, 6),
        (third_missing, 6),
        (keywords_missing, 3),
        (wrapped(returns_missing), 3),
        (functools.partial(second_missing, factor=3), 9),
        (MissingRunner(), 3),
        (MissingCallme(), 3),
        (async_missing, 3),
    ],
)
def test_names_for_type_checkers_alone_may_be_anywhere_else(function: object, returned: int) -> None:
    user = UserFunction(SETTING, function)
    assert user.item_decoder().many([b"1", b"2"]) == [1, 2]
    assert user([1, 2], INFO) == returned


def test_the_batch_may_be_annotated_for_type_checkers_alone() -> None:
    """Some linters require this."""
    source = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from microbatch.producer import BatchInfo\n"
        "def process(batch: list[int], info: BatchInfo | None = None): return info.id\n"
    )
    names: dict[str, Any] = {"__name__": __name__}
    exec(source, names)  # noqa: S102 - a module of its own, in which the name is missing
    assert UserFunction(SETTING, names["process"])([1], INFO) == "0a"


@pytest.mark.parametrize(
    "function", [eventually, AsyncRunner(), AsyncCallme(), functools.partial(eventually)]
)
def test_an_async_function_in_a_running_loop_gets_an_error_with_advice(function: object) -> None:
    user = UserFunction("result_handler", function)

    async def main() -> None:
        with pytest.raises(
            ConfigError, match=r"^result_handler is async, and this thread runs an event loop"
        ):
            user([1, 2], INFO)
        assert await asyncio.to_thread(user, [1, 2], INFO) == 3

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning that it was never awaited
        asyncio.run(main())
    gc.collect()


def items(function: Callable[..., Any]) -> Any:
    return UserFunction(SETTING, function).item_decoder().many([b'{"text":"a"}'])


def as_list(batch: list[Letter]) -> None: ...
def as_sequence(batch: Sequence[Letter]) -> None: ...
def as_iterable(batch: Iterable[Letter]) -> None: ...
def as_plain_list(batch: list) -> None: ...  # type: ignore[type-arg]
def as_any(batch: Any) -> None: ...
def unannotated(batch) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize("function", [as_list, as_sequence, as_iterable])
def test_events_are_rebuilt_by_the_items_of_the_annotation(function: Callable[..., Any]) -> None:
    assert items(function) == [Letter("a")]


@pytest.mark.parametrize("function", [as_plain_list, as_any, unannotated, len])
def test_without_items_in_the_annotation_events_are_plain(function: Callable[..., Any]) -> None:
    assert items(function) == [{"text": "a"}]


def test_an_object_is_asked_for_its_own_annotations() -> None:
    class Run:
        def run(self, batch: list[Letter]) -> None: ...

    class Call:
        def __call__(self, batch: list[Letter]) -> None: ...

    for value in (Run(), Call(), Run().run):
        assert items(cast("Any", value)) == [Letter("a")]


class Opaque: ...


def of_opaque(batch: list[Opaque]) -> None: ...
def of_pair(batch: tuple[int, int]) -> None: ...
def of_one(batch: Letter) -> None: ...
def of_dict(batch: dict[str, int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (of_opaque, "batch_processor: values can't be rebuilt as .*Opaque"),
        (of_pair, "batch_processor: its first parameter is a list of events, not tuple"),
        (of_one, "batch_processor: its first parameter is a list of events, not .*Letter"),
        (of_dict, "batch_processor: its first parameter is a list of events, not dict"),
    ],
)
def test_an_annotation_that_is_no_list_of_events_is_refused(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        UserFunction(SETTING, function).item_decoder()


def test_a_handler_is_given_one_value_of_its_annotation() -> None:
    def show(_result: Letter) -> None: ...
    def show_any(_result) -> None: ...  # type: ignore[no-untyped-def]

    assert UserFunction("result_handler", show).decoder().one(b'{"text":"a"}') == Letter("a")
    assert UserFunction("result_handler", show_any).decoder().one(b'{"text":"a"}') == {"text": "a"}
    with pytest.raises(ConfigError, match=r"result_handler: values can't be rebuilt as .*Opaque"):
        UserFunction("result_handler", lambda_of_opaque).decoder()


def lambda_of_opaque(result: Opaque) -> None: ...


def test_a_partial_is_annotated_as_what_it_completes() -> None:
    def total(factor: int, batch: list[datetime], info: BatchInfo) -> None:
        """The events are its second parameter."""

    processor = UserFunction("batch_processor", functools.partial(total, 2))
    assert processor.item_decoder().many([b'"2026-11-23T00:00:00"']) == [datetime(2026, 11, 23)]  # noqa: DTZ001
