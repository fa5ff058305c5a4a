"""Which Chromium the browser tests drive, and how it is started."""

import os
from pathlib import Path

CHROMIUM = Path(os.environ.get("PET_PIPELINE_CHROMIUM", "/usr/bin/chromium"))

FLAGS = (
    "--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")

PATIENCE_MS = 240_000
"""Software rendering on a busy machine is slow; nothing here is a measure of speed."""
