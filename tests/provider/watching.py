"""Watches entries in a process of its own, as a triggerer does, until standard input ends.

Prints the payload of each event and, at the end, how long the event loop was late and computed at a time.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from itertools import count

from airflow_provider_contensis.triggers.entries import ContensisEntriesChangedTrigger


def tell(value: object) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


async def main() -> None:
    lags, turns = [0.0], [0.0]

    async def measure() -> None:
        for _ in count():
            before, computed = time.monotonic(), time.thread_time()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - before - 0.01)
            turns.append(time.thread_time() - computed)

    async def watch() -> None:
        tasks.append(asyncio.ensure_future(measure()))
        async for event in ContensisEntriesChangedTrigger(poke_interval=0.2).run():
            tell(event.payload)
            if not gc.get_freeze_count():
                # By now all is imported. A collection of what Airflow imports takes 80 ms, whatever runs.
                gc.freeze()
                lags.clear()

    tasks = [asyncio.ensure_future(each) for each in (asyncio.to_thread(sys.stdin.read), watch())]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()  # raises what it raised
    tell({"lag": max(lags), "turn": max(turns)})


if __name__ == "__main__":
    asyncio.run(main())
