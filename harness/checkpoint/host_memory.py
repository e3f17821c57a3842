"""Host memory for the copy of the state: of the very size that is needed, page-locked where a GPU copies into it.

torch's `pin_memory` rounds up to a power of two (PyTorch's caching host allocator) and keeps what is freed: 33 GiB of
state would take 64.  Memory of our own, registered with CUDA, takes 33.  Not exercised without a GPU.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

logger = logging.getLogger(__name__)

_PORTABLE = 1
"""cudaHostRegisterPortable: page-locked for every device of the process."""


class HostMemory:
    """`bytes` of memory, touched once; page-locked with `pinned`, or, where CUDA refuses that, not (a warning says so).

    What has been made of `numpy()` stays valid after this object is gone; it is no longer page-locked then.
    """

    def __init__(self, size: int, *, pinned: bool = False) -> None:
        # zeros, not empty: the first touch of fresh pages is what makes first saves slow, so touch them here.
        self._tensor = torch.zeros(size, dtype=torch.uint8)
        self.pinned = pinned and size > 0 and self._register()

    @property
    def nbytes(self) -> int:
        return self._tensor.nbytes

    @property
    def address(self) -> int:
        return self._tensor.data_ptr()

    def numpy(self) -> npt.NDArray[np.uint8]:
        """All of it, not a copy."""
        found: npt.NDArray[np.uint8] = self._tensor.numpy()
        return found

    def _register(self) -> bool:
        cudart: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        code = int(cudart.cudaHostRegister(self.address, self.nbytes, _PORTABLE))
        if code != 0:
            # Most often a limit: `ulimit -l`, or a container's.
            logger.warning(
                "CUDA did not page-lock %.1f GiB for checkpoints (error %d): saves block longer",
                self.nbytes / 2**30,
                code,
            )
            return False
        # The finalizer holds the memory: it is freed after it was unregistered, never before.
        weakref.finalize(self, _unregister, cudart, self._tensor)
        return True


def _unregister(cudart: Any, tensor: torch.Tensor) -> None:
    code = int(cudart.cudaHostUnregister(tensor.data_ptr()))
    if code != 0:
        logger.warning("CUDA did not give up page-locked memory (error %d)", code)
