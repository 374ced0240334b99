"""``build --check`` and ``--call``: what a Dockerfile says about itself, without building it."""

from __future__ import annotations
