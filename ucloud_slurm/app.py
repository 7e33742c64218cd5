"""The factory of the WSGI application."""

from flask import Flask, Response, request

from ucloud_slurm.config import Config, read
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system import request_id
from ucloud_slurm.users.service import refuse_root
from ucloud_slurm.web import calls, errors, health, linking, openapi, pages
from ucloud_slurm.web.live import routes
from ucloud_slurm.web.live.hub import Hub
from ucloud_slurm.web.metrics import Durations, timed

LARGEST_REQUEST_BYTES = 32 * 1024 * 1024  # a bulk of 1000 jobs with large applications fits in


def create_app(config: Config | None = None, *, provider: Provider | None = None) -> Flask:
    """Builds the application.

    :param config: the configuration; None to read the file
    :param provider: an opened provider, instead of a configuration
    :raises Misconfigured: lists everything that is wrong
    """
    if provider is None:
        refuse_root()
        provider = Provider.open(config or read())
        _ = provider.tokens  # the service does not start with keys that cannot be read
        provider.config.ucloud.refresh_token()
    durations = Durations()
    provider = durations.measure(provider)
    provider.scheduler.begin()
    app = Flask("ucloud_slurm", static_folder=None, template_folder="web/templates")
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST_BYTES
    app.json.compact = True  # type: ignore[attr-defined]
    app.wsgi_app = request_id.identified(app.wsgi_app)  # type: ignore[method-assign,assignment]
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions["ucloud-slurm"] = provider
    errors.handle_errors(app)
    declared = calls.declare(provider)
    app.config["ANSWER_WITHIN"] = declared.answer_within + calls.OVERDUE_SECONDS
    hub = Hub(provider, durations.websockets)
    app.extensions["ucloud-slurm-live"] = hub
    app.register_blueprint(declared.blueprint)
    app.register_blueprint(openapi.blueprint(provider, declared))
    app.register_blueprint(routes.blueprint(hub))
    app.register_blueprint(pages.blueprint(provider, hub.files))
    app.register_blueprint(linking.blueprint(provider))
    app.register_blueprint(health.blueprint(provider, durations))
    app.view_functions[calls.CREATE] = timed(app.view_functions[calls.CREATE], durations.create)

    @app.after_request
    def finish(response: Response) -> Response:
        if request.blueprint == calls.BLUEPRINT:
            durations.call(response.status_code)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        # The server would read a body that is left over as the next request of the connection.
        if response.status_code >= 400 and request.content_length != 0:
            response.headers["Connection"] = "close"
        return response

    return app
