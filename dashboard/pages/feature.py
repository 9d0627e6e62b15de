"""The pages as a part of the web service."""

from dashboard.pages import alarms, backfills, exports, imports, oidc, people, pipeline, plot, signing, stations, status
from dashboard.pages.render import trouble
from dashboard.pages.serving import MOUNTS, lifespan
from dashboard.web.feature import Feature

# `backfills` before `imports`, whose last route takes any name for a file's.
PARTS = (signing, oidc, status, alarms, stations, plot, backfills, imports, exports, pipeline, people)

PAGES = Feature(
    name="pages",
    routers=tuple(part.router for part in PARTS),
    mounts=MOUNTS,
    lifespan=lifespan,
    page=trouble,
)
