"""Random number state as a component of a checkpoint: Python, NumPy, PyTorch on the CPU and on this rank's device."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch


class RandomState:
    """Saves and restores every generator that training code draws from by default, per rank.

    NumPy counts when it is loaded by the time of saving; a checkpoint without its state leaves it as it is.
    The state is made of tensors, numbers and strings, so that it is stored without pickle.
    """

    per_rank = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The state of all generators now."""
        version, words, gauss = random.getstate()
        state: dict[str, Any] = {
            "python": {
                "version": version,
                "words": torch.tensor(words, dtype=torch.int64),
                "has_gauss": gauss is not None,
                "gauss": 0.0 if gauss is None else gauss,
            },
            "torch_cpu": torch.get_rng_state(),
        }
        if "numpy" in sys.modules:
            import numpy as np

            name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002  the global state is what must survive
            state["numpy"] = {
                "name": str(name),
                "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
                "position": int(position),
                "has_gauss": int(has_gauss),
                "cached": float(cached),
            }
        if self._device.type == "cuda":
            state["torch_device"] = torch.cuda.get_rng_state(self._device)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on drawing exactly where `state` was taken; a device state is ignored on another kind of device."""
        self._loaded = state
        python = state["python"]
        random.setstate(
            (
                int(python["version"]),
                tuple(int(word) for word in python["words"].tolist()),
                float(python["gauss"]) if python["has_gauss"] else None,
            )
        )
        torch.set_rng_state(state["torch_cpu"].cpu())
        if "numpy" in state:
            import numpy as np

            saved = state["numpy"]
            keys = saved["keys"].numpy().astype(np.uint32)
            np.random.set_state(  # noqa: NPY002
                (saved["name"], keys, int(saved["position"]), int(saved["has_gauss"]), float(saved["cached"]))
            )
        if "torch_device" in state and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["torch_device"].cpu(), self._device)

    def load_again(self) -> None:
        """Go back to what was loaded last, whatever has been drawn since; the state is forgotten then."""
        if self._loaded is not None:
            self.load_state_dict(self._loaded)
        self._loaded = None


def seed_everything(seed: int, stream: int = 0, step: int = 0) -> None:
    """Seed Python, NumPy (when loaded) and PyTorch on all devices; different streams and steps are independent.

    `stream` 0 is the same on all ranks (building the model); rank r draws from stream r + 1 (dropout, augmentation),
    which begins at `step`.
    """
    # Two numbers become one seed by a hash that is stable between Python versions (PEP 456 salts `hash`).
    name = f"{seed}/{stream}/{step}" if step else f"{seed}/{stream}"
    mixed = random.Random(name).getrandbits(63)  # noqa: S311  simulation and training, not secrets
    random.seed(mixed)
    torch.manual_seed(mixed)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(mixed & 0xFFFF_FFFF)  # noqa: NPY002
