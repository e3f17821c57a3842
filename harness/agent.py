"""torchrun as it is, except that an end it was told to make is one line and not a traceback.

`python -m harness launch` runs this instead of ``python -m torch.distributed.run``: the same code with the same
arguments.  The exit code stays torchrun's; the launcher maps it.
"""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """torchrun with this process's arguments."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import main as torchrun

    try:
        torchrun()
    except SignalException as told:
        # The workers have been ended by now; the rendezvous stays open for the others.
        logging.getLogger("harness").debug("torchrun ended by %s", told.sigval)
        sys.exit(1)
    except RendezvousError as error:
        sys.stderr.write(f"torchrun: {type(error).__name__}: {error or 'the other nodes did not come'}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
