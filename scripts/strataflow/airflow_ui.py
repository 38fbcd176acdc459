"""The report and the Data Docs inside Airflow's web interface.

Whoever looks after a run wants to see what came out and what the gates found, without a shell on the machine. An
Airflow plugin, found by its entry point, adds two entries to the menu and lets the API server hand out the pages of
``$STRATAFLOW_HOME``, read as they are, to those who may read the DAG that makes them.

Every process of Airflow loads its plugins, so nothing heavy is imported before the first page is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI

PREFIX = "/strataflow"
DAG = "segment_customers"

# A page must not act as the person who is logged in to Airflow. The report runs scripts of its own, so it gets a
# sandbox; the Data Docs have none but link to each other, which a sandbox would keep from the login.
SITES = {
    "report": "sandbox allow-scripts allow-popups; frame-ancestors 'self'",
    "quality": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'",
}
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def page(site: str, path: str) -> Path | None:
    """The file that a site shows under ``path``; None if there is none, or if it lies outside of the site.

    Args:
        site: ``report`` or ``quality``.
        path: below the site; empty for its first page.

    Raises:
        UsageError: the API server knows no home.
    """
    from strataflow.home import Home

    home = Home.at(None)
    # Resolved for each page, because the report's link leads elsewhere after each publish.
    root = {"report": home.published / "report", "quality": home.root / "data_docs"}[site].resolve()
    found = (root / (path or "index.html")).resolve()
    return found if found.is_relative_to(root) and found.is_file() else None


def application(authorised: Callable[..., Any] | None = None) -> FastAPI:
    """The pages as an application for Airflow's API server.

    Args:
        authorised: a dependency that lets a request pass or raises; by default, may the user read the DAG?
    """
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import FileResponse

    if authorised is None:
        from airflow.api_fastapi.core_api.security import requires_access_dag

        authorised = requires_access_dag("GET", param_dag_id=DAG)
    app = FastAPI(title="Strataflow", openapi_url=None, docs_url=None, redoc_url=None)

    def show(site: str, path: str) -> FileResponse:
        found = page(site, path)
        if found is None:
            raise HTTPException(404, "There is no such page yet; it comes with the first run that gets so far.")
        return FileResponse(found, headers=HEADERS | {"Content-Security-Policy": SITES[site]})

    @app.get("/report/{path:path}", dependencies=[Depends(authorised)])
    def report(path: str) -> FileResponse:
        return show("report", path)

    @app.get("/quality/{path:path}", dependencies=[Depends(authorised)])
    def quality(path: str) -> FileResponse:
        return show("quality", path)

    return app


class OnFirstRequest:
    """An ASGI application that is made when it is first called."""

    def __init__(self, make: Callable[[], Any]) -> None:
        """``make`` returns the application itself."""
        self._make = make
        self._app: Any = None

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Hand the request on."""
        if self._app is None:
            self._app = self._make()
        await self._app(scope, receive, send)


class StrataflowPlugin(AirflowPlugin):
    """What Airflow is told of."""

    name = "strataflow"
    fastapi_apps: ClassVar[list[Any]] = [
        {"app": OnFirstRequest(application), "url_prefix": PREFIX, "name": "Strataflow"},
    ]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Customer report",
            "href": f"{PREFIX}/report/",
            "destination": "nav",
            "category": "browse",
            "url_route": "strataflow-report",
        },
        {
            "name": "Data quality",
            "href": f"{PREFIX}/quality/",
            "destination": "nav",
            "category": "browse",
            "url_route": "strataflow-quality",
        },
    ]
