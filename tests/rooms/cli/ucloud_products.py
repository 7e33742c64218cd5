"""As much of today's Core as products v2 need: it keeps what it is given, and gives it back page by page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

Json = dict[str, Any]
WHOLE_NUMBERS = ("price", "cpu", "memoryInGigs", "gpu")
DEFAULTS: Json = {"type": "", "description": "", "productType": "", "price": 0, "hiddenInGrantApplications": False}
ALWAYS: Json = {
    "usage": None,
    "balance": 0,
    "maxUsableBalance": 0,
    "pricePerUnit": 0,
    "fraction": {"numerator": 0, "denominator": 0},
}


class ProductsAtUCloud:
    """The products of all providers.

    :ivar products: as they came in
    :ivar largest_page: most products of one page, whatever is asked for
    :ivar calls: verb and path of each call but those for tokens
    :ivar known: whether this Core has products v2 at all
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.products: list[Json] = []
        self.largest_page = 1000
        self.calls: list[str] = []
        self.known = True
        self.url = ""

    def named(self, name: str) -> Json:
        """One product."""
        (found,) = [product for product in self.products if product["name"] == name]
        return found

    def add(self, name: str, category: Json, **more: Any) -> Json:
        """Adds a product that somebody registered before."""
        product = {"type": "compute", "category": category, "name": name, "productType": "COMPUTE"} | more
        self.products.append(product)
        self.products.sort(key=_key)
        return product

    def create(self, items: list[Json]) -> tuple[int, Json]:
        """products.create."""
        for item in items:
            if item["category"]["provider"] != self.provider:
                return 403, {"why": "Forbidden"}
            if any(type(item[key]) is not int for key in WHOLE_NUMBERS if key in item):
                return 400, {"why": "Invalid request supplied"}
        if not items:
            return 400, {"why": "No products supplied"}
        for item in items:
            self.products = [product for product in self.products if _key(product) != _key(item)]
            self.products.append(item)
        self.products.sort(key=_key)
        return 200, {}

    def browse(self, provider: str, items_per_page: int, after: str | None) -> Json:
        """products.browse: a whole page names a next one, even if there is nothing on that."""
        size = min(items_per_page, self.largest_page)
        ours = [each for each in self.products if each["category"]["provider"] == provider]
        rest = [each for each in ours if after is None or "@".join((provider, *_key(each))) > after]
        page = rest[:size]
        following = "@".join((provider, *_key(page[-1]))) if len(page) == size else None
        return {"items": [DEFAULTS | ALWAYS | each for each in page], "itemsPerPage": size, "next": following}

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serves it over HTTP."""
        app = Flask("products", static_folder=None)

        @app.post("/auth/providers/refresh")
        def refresh() -> Response:
            return jsonify({"responses": [{"accessToken": "x.x.x", "csrfToken": ""}]})

        @app.route("/api/products/v2", methods=["POST"])
        def create() -> tuple[Response, int]:
            self.calls.append("POST /api/products/v2")
            status, body = self.create(request.get_json(force=True)["items"])
            return jsonify(body), status

        @app.get("/api/products/v2/browse")
        def browse() -> tuple[Response, int]:
            if not self.known:
                return jsonify({"why": "Not found"}), 404
            self.calls.append("GET /api/products/v2/browse")
            size = int(request.args["itemsPerPage"])
            return jsonify(self.browse(request.args["filterProvider"], size, request.args.get("next"))), 200

        server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{server.port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield
        server.shutdown()
        server.server_close()


def _key(product: Json) -> tuple[str, str]:
    return product["category"]["name"], product["name"]
