"""What becomes of damaged input: every reader is given good input with random wounds, again and again.

    python benchmarks/fuzz.py [--inputs 10000] [--seed 1] [--reader NAME] [--first N]

Inputs are shared out evenly over the readers. Prints a table: tried, accepted (the damage does not matter), refused (by
an error of the project, in one line) and failed: another exception, more than 5 s, more than 512 MB, a file outside
of the folder, code that is run. Ends with status 1 if anything failed; the line of a failure tells how to make its
input again.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fuzz"))

from federated_readers import FEDERATED
from harness import fuzz
from readers import READERS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reader", help="this one alone")
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each reader")
    options = parser.parse_args()
    readers = [one for one in (*READERS, *FEDERATED) if options.reader in (None, one.name)]
    each = -(-options.inputs // len(readers))
    numbers = range(options.first, options.first + each)
    print(f"seed {options.seed}, inputs {numbers.start} to {numbers.stop - 1} of each reader")
    print(f"{'reader':<20}{'tried':>8}{'accepted':>10}{'refused':>9}{'failed':>8}{'seconds':>9}")
    tried = failed = 0
    for reader in readers:
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            score = fuzz(reader, Path(folder), numbers, options.seed)
        seconds, failures = time.process_time() - start, sum(score.failures.values())
        print(
            f"{reader.name:<20}{score.tried:>8}{score.accepted:>10}{score.refused:>9}{failures:>8}{seconds:>9.1f}",
            flush=True,
        )
        for failure, count in score.failures.items():
            again = f"--seed {options.seed} --reader {reader.name!r} --first {score.first[failure]} --inputs 1"
            print(f"    {count} x {failure}: {again}")
        tried, failed = tried + score.tried, failed + failures
    print(f"{tried} inputs, {failed} failures")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
