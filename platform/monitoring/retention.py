"""Removes inference logs and feedback whose time is up, a day at a time."""

from datetime import UTC, date, datetime, timedelta

import structlog

from ..kernel.clock import Clock, utc_now
from ..kernel.resources import Resources
from ..kernel.storage import ObjectStore
from ..serving.records import feedback, log

logger = structlog.get_logger(__name__)

_PROJECT = "prj_"


def forget_logs(resources: Resources, now: Clock = utc_now) -> None:
    """Remove the days that ended longer ago than the settings say, those of projects that are gone too.

    Raises:
        StoreUnavailable: If the object store does not answer; the rest is removed the next time.
    """
    last = (now() - timedelta(seconds=resources.settings.controller.keep_logs_s)).astimezone(UTC).date()
    removed = 0
    for project_id in resources.store.list_folders(""):
        if project_id.startswith(_PROJECT):
            removed += sum(_forget(resources.store, f"{project_id}/{kept.FOLDER}", last) for kept in (log, feedback))
    if removed:
        logger.info("logs_forgotten", days=removed)


def _forget(store: ObjectStore, folder: str, last: date) -> int:
    ended = [day for day in store.list_folders(folder) if (moment := _day(day)) and moment < last]
    for day in ended:
        store.delete_folder(f"{folder}/{day}")
    return len(ended)


def _day(name: str) -> date | None:
    try:
        return datetime.strptime(name, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
