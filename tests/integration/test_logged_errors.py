"""The text of an error never reaches a log at the default level, because it may quote an event."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.fleet import ECHO, Fleet
from tests.servers import RealServer
from tests.waiting import wait_until

SECRET = "4111-1111"

PROCESSORS = {
    "a generator": """
def process(batch):
    yield 1
    raise ValueError(f"bad {batch}")
""",
    "a generator's own serializer": """
from pydantic import BaseModel, model_serializer
class Strange(BaseModel):
    text: str
    @model_serializer
    def shown(self): raise ValueError(f"bad {self.text}")
def process(batch): return [Strange(text=event) for event in batch]
""",
    "a key of the result": """
def process(batch): return {event: object() for event in batch}
""",
    "an error of ours that the processor raises": """
from microbatch.broker.errors import DecodeError
def process(batch): raise DecodeError(f"bad {batch}")
""",
    "an error of ours that the processor names": """
from microbatch.broker.errors import EncodeError
from microbatch.broker.wire.batch import PartialFailure
def process(batch): raise PartialFailure({n: EncodeError(f"bad {event}") for n, event in enumerate(batch)})
""",
    "an error of ours that was raised for the processor": """
from microbatch.broker.wire import codec
def bad(text):
    yield 1
    raise ValueError(text)
def process(batch): codec.encode([bad(event) for event in batch])
""",
    "a class derived from ours": """
from microbatch.broker.errors import MicrobatchError
class Bad(MicrobatchError): pass
def process(batch): raise Bad(f"bad {batch}")
""",
    "a validator": """
from pydantic import BaseModel, field_validator
class Letter(BaseModel):
    text: str
    @field_validator("text")
    @classmethod
    def check(cls, value): raise ValueError(f"bad {value}")
def process(batch: list[Letter]): return 1
""",
    "a key of an event": """
from pydantic import BaseModel, ConfigDict
class Letter(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str
def process(batch: list[Letter]): return 1
""",
    "a union's tag": """
from typing import Annotated, Literal, Union
from pydantic import BaseModel, Field
class A(BaseModel): text: Literal["a"]
class B(BaseModel): text: Literal["b"]
class Letter(BaseModel): of: Annotated[Union[A, B], Field(discriminator="text")]
def process(batch: list[Letter]): return 1
""",
    "a rejected event": """
from microbatch.producer import Reject
def process(batch): raise Reject(f"bad {batch}")
""",
    "a group": """
def process(batch): raise ExceptionGroup(f"bad {batch}", [ValueError(str(event)) for event in batch])
""",
    "a cause and a note": """
def process(batch):
    try:
        raise KeyError(str(batch))
    except KeyError as error:
        error.add_note(str(batch))
        raise OSError(f"bad {batch}") from error
""",
    "an error that can't be shown": """
class Bad(Exception):
    def __str__(self): raise ValueError(str(self.args))
def process(batch): raise Bad(batch)
""",
    "the end of the program": """
import sys
def process(batch): sys.exit(f"bad {batch}")
""",
    "a task that nobody waits for": """
import asyncio, gc
async def fail(batch): raise ValueError(f"bad {batch}")
async def process(batch):
    task = asyncio.ensure_future(fail(batch))
    await asyncio.sleep(0.01)
    del task
    gc.collect()
    raise OSError("the end")
""",
    "a fork": """
def process(batch):
    pid = os.fork()
    if not pid:
        raise ValueError(f"bad {batch}")
    os.waitpid(pid, 0)
    raise OSError("the end")
""",
}
DICTS = ("a validator", "a key of an event", "a union's tag")


@pytest.mark.leaves("results")
@pytest.mark.parametrize("name", PROCESSORS)
def test_no_log_of_a_worker_has_what_an_error_of_a_batch_quotes(
    valkey_server: RealServer, tmp_path: Path, name: str
) -> None:
    settings = {"max_retries": 0, "isolate_failures": False, "max_size": 2}
    text = f"{SECRET} a"
    event = {"text": text, f"{SECRET} b": 1, "of": {"text": text}} if name in DICTS else text
    with Fleet(valkey_server, tmp_path, PROCESSORS[name], **settings) as fleet:
        pool, scheduler = fleet.pool(1), fleet.scheduler_process()
        fleet.batcher().record_events([event, event])
        dead = wait_until(lambda: list(fleet.broker.dead), message=lambda: fleet.state() + pool.output)
        wait_until(lambda: "dead at attempt" in pool.output)
        for process in (pool, scheduler):
            process.terminate()
            process.wait()
            assert SECRET not in process.output
        # An operator sees the text in `microbatch dead show`.
        kept = any(SECRET in batch.failure.error + batch.failure.traceback for batch in dead)
        shown_by_itself = name in ("a task that nobody waits for", "a fork", "a key of the result")
        assert kept or shown_by_itself or name in ("an error that can't be shown", "a key of an event"), dead
        for batch in dead:
            fleet.broker.dead.purge(batch.id)


CONSUMER = """\
import logging
{preparation}
from microbatch.producer import Config, start
logging.basicConfig(level="INFO", format="%(message)s")
mb = start(Config(name="letters", result_handler=show))
consumer = mb.start_consuming()
consumer._thread.join(3)
print("over", flush=True)
"""
HANDLERS = {
    "an error of a handler": "def show(result): raise ValueError(f'bad {result}')",
    "a result that does not fit": """
from pydantic import BaseModel, field_validator
class Letter(BaseModel):
    text: str
    @field_validator("text")
    @classmethod
    def check(cls, value): raise ValueError(f"bad {value}")
def show(result: list[Letter]): pass
""",
    "a key of a result": "def show(result: list[dict[str, int]]): pass",
}


@pytest.mark.leaves("results")
@pytest.mark.parametrize("preparation", HANDLERS.values(), ids=HANDLERS)
def test_no_log_of_a_consumer_has_what_an_error_of_a_result_quotes(
    valkey_server: RealServer, tmp_path: Path, preparation: str
) -> None:
    with Fleet(valkey_server, tmp_path, ECHO) as fleet:
        fleet.scheduler()
        fleet.worker()
        fleet.batcher().record_event({"text": SECRET, f"{SECRET} b": "x"})
        wait_until(lambda: fleet.broker.stats.counters().done_events == 1)
        consumer = fleet.run(CONSUMER.format(preparation=preparation))
        consumer.wait_for_line("over")
        assert len(consumer.lines) > 1
        assert SECRET not in consumer.output
        valkey_server.admin.delete(fleet.broker.keys.quarantine("results"))


def test_no_log_has_the_arguments_of_a_command_that_the_server_does_not_know(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """A server quotes the arguments of a command that is disabled or renamed."""
    server = make_server("redis", arguments=["--rename-command", "RPUSH", ""])
    source = (
        "import logging\nfrom microbatch.producer import Config, start\n"
        "logging.basicConfig(level='INFO', format='%(message)s')\n"
        f"mb = start(Config(), linger=1)\nmb.record_event({SECRET!r})\nmb.close()\n"
    )
    with Fleet(server, tmp_path) as fleet:
        producer = fleet.run(source)
        assert producer.wait() == 0
        assert "unknown command" in producer.output
        assert SECRET not in producer.output
