"""Bugs in who sees and does what on the pages of the dashboard, and in what looking costs."""

from __future__ import annotations

from async_jobs.entrypoints.dashboard import guarding, showing
from async_jobs.entrypoints.dashboard.pages import jobs
from async_jobs.entrypoints.dashboard.sampler import Sampler
from async_jobs.entrypoints.dashboard.sessions import Failures
from async_jobs.entrypoints.dashboard.streams import Streams
from async_jobs.entrypoints.dashboard.visits import Visit
from async_jobs.entrypoints.http.access import Access
from tests.sabotage.edits.patches import Edit, bug

BUGS = (
    bug(
        "session_outlives_its_token",
        "A token counts after its end, and so does who signed in by it.",
        Edit(Access.holder, "expires_at is None or now < expires_at", "True"),
        breaks="DB-1",
    ),
    bug(
        "any_page_may_order",
        "A page of another site may send what changes something.",
        Edit(guarding.check_origin, 'if site == "same-origin":', "if site:"),
        breaks="DB-2",
    ),
    bug(
        "payload_for_all",
        "Whoever may look at a job sees what is in it.",
        Edit(jobs.show_job, "visit.may(Scope.PAYLOAD)", "True"),
        breaks="DB-3",
    ),
    bug(
        "foreign_tenant_shown",
        "A token of a tenant is shown any tenant that it names.",
        Edit(Visit.tenant_named, "self.caller.check_tenants([check_name(key, named)])", "pass"),
        breaks="DB-3",
    ),
    bug(
        "names_as_markup",
        "What strangers chose as a name is put into pages as it is.",
        Edit(showing.environment, "autoescape=True", "autoescape=False"),
        breaks="DB-4",
    ),
    bug(
        "hidden_letters",
        "Letters that turn others round are shown as they are.",
        Edit(showing.visible, "in _HIDDEN", 'in ("Cc",)'),
        breaks="DB-4",
    ),
    bug(
        "every_viewer_asks",
        "Each page asks anew, whoever else is looking.",
        Edit(Sampler.ask, "found is None or", "True or"),
        breaks="DB-5",
    ),
    bug(
        "guesses_are_free",
        "Wrong tokens are not counted.",
        Edit(Failures.add, "times + 1", "times"),
        breaks="DB-2",
    ),
    bug(
        "streams_do_not_end",
        "A process that stops waits for the streams of its pages.",
        Edit(Streams.events, "if self.has_ended or not may_go_on():", "if not may_go_on():"),
        breaks="DB-6",
    ),
)
