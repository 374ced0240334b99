"""ADD."""
from __future__ import annotations
from podpy.build import copying
def perform(work, bench, wire=None):
    return copying.perform(work, bench, wire)
