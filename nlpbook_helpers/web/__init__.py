"""Who else can use the model: a page and an API, a server in a thread, a tunnel to the internet."""

from nlpbook_helpers.web.app import get_web_service_app, join_apps
from nlpbook_helpers.web.server import Server, serve

__all__ = ["Server", "get_web_service_app", "join_apps", "serve"]
