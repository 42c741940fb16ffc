"""Requests by HTTP/1.1 that cost next to nothing, for the plain case.

One request at a time on a connection that is kept; the socket writes straight into the body. What this does not do
(redirects, packed bodies, proxies) it leaves to a whole HTTP client.
"""

from collector.client.plain.answer import Taker, Wanted
from collector.client.plain.bodies import Bodies
from collector.client.plain.client import PlainClient, Request
from collector.client.plain.head import BadAnswer, Head, HungUp, NotPlain

__all__ = ["BadAnswer", "Bodies", "Head", "HungUp", "NotPlain", "PlainClient", "Request", "Taker", "Wanted"]
