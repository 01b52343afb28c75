"""Encryption in the client, with age (https://age-encryption.org/v1): a restore needs only the key and the stock tool."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyrage

from include.engine.errors import Corrupt, Misconfigured, Unauthorized

SCHEME = "age"
