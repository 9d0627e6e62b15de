"""Have the pages' scripts ready."""

from dashboard.pages.assets import main

main()
