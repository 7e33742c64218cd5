"""The other lists: messages to UCloud, people, wallets, drives, events for programs of the site, and acts."""

from flask import Blueprint, render_template, request

from ucloud_slurm.errors import Refused
from ucloud_slurm.page.shown import after, key
from ucloud_slurm.page.timeline import said
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.provider.drives import rule_of
from ucloud_slurm.store.browsing import Browsing

MOST_EVENTS = 200
OUTCOMES = ("waiting", "parked", "all")


def blueprint(provider: Provider) -> Blueprint:
    """``/outbox``, ``/people``, ``/wallets``, ``/drives``, ``/hooks`` and ``/acts``."""
    place, browsing = Blueprint("lists", __name__), Browsing(provider.store)

    @place.get("/outbox")
    def outbox() -> str:
        outcome = request.args.get("outcome", "waiting")
        if outcome not in OUTCOMES:
            raise Refused(f"outcome: should be one of {', '.join(OUTCOMES)}.")
        listing = browsing.messages(outcome, key("after"))
        return render_template("outbox.html", listing=listing, outcome=outcome, outcomes=OUTCOMES, said=said)

    @place.get("/people")
    def people() -> str:
        listing = browsing.people(after("after"))
        return render_template(
            "people.html", listing=listing, mapping=provider.config.users.mapping, service=provider.config.service_account()
        )

    @place.get("/wallets")
    def wallets() -> str:
        locked = request.args.get("locked") == "1"
        listing = browsing.wallets([after(name) for name in ("kind", "owner", "category")], locked=locked)
        return render_template("wallets.html", listing=listing, locked=locked, has_channel=provider.era.has_channel)

    @place.get("/drives")
    def drives() -> str:
        listing = browsing.drives(after("after"))
        rows = [(drive, rule_of(provider, drive) is not None) for drive in listing.rows]
        return render_template("drives.html", listing=listing, rows=rows, offered=provider.offers_drives)

    @place.get("/hooks")
    def hooks() -> str:
        events = provider.hook_events.listed(MOST_EVENTS + 1)
        more, configured = len(events) > MOST_EVENTS, bool(provider.config.hooks)
        return render_template("hooks.html", events=events[:MOST_EVENTS], more=more, configured=configured)

    @place.get("/acts")
    def acts() -> str:
        return render_template("acts.html", listing=browsing.acts(key("before")))

    return place
