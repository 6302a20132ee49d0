"""Gallery: runs that their owners published, read-only."""

from __future__ import annotations

from etp.ui.frame import page
from etp.ui.gallery_page import gallery

with page("Gallery"):
    gallery()
