"""Declarations of calls: verb, path, types of request and response.

The routes of Flask and the OpenAPI description are both made from the declarations.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flask import Blueprint, Response, request
from pydantic import BaseModel

from ucloud_slurm.system import deadline
from ucloud_slurm.ucloud.responses import Nothing
from ucloud_slurm.ucloud.wire import decode, prepare

View = Callable[..., Any]
NOT_SUPPORTED = "FEATURE_NOT_SUPPORTED_BY_PROVIDER"  # error code of what this provider does not do


class CallDeclaration(NamedTuple):
    """One call.

    :ivar path: below the provider's base path
    :ivar takes: type of the request body; None for a call without one
    :ivar gives: type of the response; None for a call that is always refused
    :ivar query: names of the query parameters
    :ivar public: whether the call needs no token
    :ivar summary: one sentence, for the OpenAPI description
    """

    verb: str
    path: str
    takes: Any
    gives: Any
    query: Sequence[str]
    public: bool
    summary: str


class CallRegistry:
    """The declared calls of one provider, as a blueprint.

    :param authenticate: raises Unauthenticated for a request without a valid token
    :param answer_within: seconds from the arrival of a call to its answer
    """

    def __init__(self, prefix: str, authenticate: Callable[[], None], answer_within: float) -> None:
        self.blueprint = Blueprint("calls", __name__, url_prefix=prefix)
        self.declared: list[CallDeclaration] = []
        self.answer_within = answer_within
        self._public: set[str] = set()
        self.blueprint.before_request(lambda: None if request.endpoint in self._public else authenticate())

    def page(self, path: str, view: Callable[[], Response]) -> None:
        """Adds a route for browsers, which have no token. It is no call of UCloud's."""
        endpoint = f"GET {path}".replace("/", " ")
        self._public.add(f"{self.blueprint.name}.{endpoint}")
        self.blueprint.add_url_rule(f"/{path}", endpoint, view)

    def call(
        self,
        verb: str,
        path: str,
        *,
        takes: Any = None,
        gives: Any = Nothing,
        query: Sequence[str] = (),
        public: bool = False,
        summary: str | None = None,
    ) -> Callable[[View], View]:
        """Declares a call. The view takes the body, if there is one, and the query parameters by name."""

        def declare(view: View) -> View:
            words = summary or (view.__doc__ or "").partition("\n")[0]
            self.declared.append(CallDeclaration(verb, path, takes, gives, tuple(query), public, words))
            prepare(*(kind for kind in (takes, gives) if kind is not None))
            endpoint = f"{verb} {path}".replace("/", " ")
            if public:
                self._public.add(f"{self.blueprint.name}.{endpoint}")

            def answer() -> Response:
                at = deadline.arrived()
                with deadline.arrived_at(at), deadline.ending(at + self.answer_within):
                    # The content type does not matter: UCloud's own clients differ there.
                    arguments = [decode(takes, request.get_data(cache=False))] if takes is not None else []
                    given = view(*arguments, **{name: request.args.get(name) for name in query})
                result: BaseModel = Nothing() if given is None else given
                return Response(result.model_dump_json(by_alias=True), mimetype="application/json")

            self.blueprint.add_url_rule(f"/{path}", endpoint, answer, methods=[verb])
            return view

        return declare
