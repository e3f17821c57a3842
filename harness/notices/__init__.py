"""Hearing that the provider will take this node: one small class per source over one polling loop."""

from harness.notices.base import Notice, NoticeSourceError, PolledSource
from harness.notices.sources import open_sources
from harness.notices.watcher import NoticeWatcher

__all__ = ["Notice", "NoticeSourceError", "NoticeWatcher", "PolledSource", "open_sources"]
