"""The simulation: the real handlers and use cases on a model of DynamoDB, in virtual time.

python -m simulation --seeds 100

world        virtual time, tasks without threads, and all randomness of a seed
dynamodb     the model of DynamoDB, a test double for boto3 on its own; `client` is its boto3 face,
             `expressions` its condition and update expressions, `latency` its published latencies
faults       what goes wrong between an environment and the store
fleet        function environments behind a gateway
service      the real handlers, called in one environment
workload     the callers: buyers, an organiser, a watcher
observer     what the store contained at every instant, and what is wrong with it
sale         one simulated sale, from a seed to the verdict
shrink       a smaller sale that breaks the same guarantee
mutants      mistakes that are easy to make, each of which must be caught
explore      small worlds, in all orders of their store calls and with all accidents: a command
small_world  what is explored: a few callers, and how far each of them is
tables       the model of DynamoDB as a function, from a table and a call to answer and table
explorer     all states of a small world, each visited once
verdict      what its callers saw, and what three judges say of it
linearizability  a judge of its own: one order of all requests that explains all answers
storm        ten times the buyers for seconds, and how long until all is normal again
load         buyers at one rate until after the last ticket, and what they cost
scaling      many rates on many numbers of shards, while there are tickets; `plots` draws them
plan         how many shards a sale should have
journal      the store calls of a sale, for reading
report       what is printed
page         the report as an HTML page
command      options, many seeds on all cores, exit status
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.pool import Pool

EXIT_INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended, as a shell reports it


def run(main: Callable[[], int]) -> int:
    """Return the exit status of a command, which Ctrl-C may end."""
    try:
        return main()
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED


@contextmanager
def pool(context: BaseContext, tasks_per_process: int | None = None) -> Iterator[Pool]:
    """Start one process per core. Ctrl-C ends them all."""
    # Blocked signals are inherited: only this process gets Ctrl-C, also if it comes just now.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with context.Pool(maxtasksperchild=tasks_per_process) as processes:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield processes
