"""The same documents as `report_documents`, up to the drawn page: slow, a few a second."""

from edge.report import page
from edge.report.checks import checks
from edge.report.recommend import recommendations
from fuzz.json_mutator import mutate as mutate
from fuzz.report_documents import inputs

SEEDS = "report_documents"


def read(data: bytes) -> None:
    found = inputs(data)
    page.render(found, checks(found), recommendations(found), "0")
