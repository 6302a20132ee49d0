"""Results as files that need no server: a comparison as one page, the gallery as a folder."""

from etp.report.page import page
from etp.report.published import picture, question, shown
from etp.report.site import write_site

__all__ = ["page", "picture", "question", "shown", "write_site"]
