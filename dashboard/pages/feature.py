"""The pages as a part of the web service."""

from dashboard.pages import alarms, people, plot, signing, stations, status
from dashboard.pages.render import trouble
from dashboard.pages.serving import MOUNTS, lifespan
from dashboard.web.feature import Feature

PAGES = Feature(
    name="pages",
    routers=(signing.router, status.router, alarms.router, plot.router, people.router, stations.router),
    mounts=MOUNTS,
    lifespan=lifespan,
    page=trouble,
)
