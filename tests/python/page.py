"""The page of metrics, as the parsers of the Python client read it."""

import urllib.error
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic

from wire import CALL_WITHIN

PARSERS = {
    "application/openmetrics-text; version=1.0.0; charset=utf-8": open_metrics,
    "text/plain; version=0.0.4; charset=utf-8": classic,
}
WANTED = ["application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1", "*/*"]


def opened(request):
    """The answer to an HTTP request; a proxy of the machine has no part in this."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=CALL_WITHIN)


def fetch(address, path):
    """The status of an answer to GET, and what it says."""
    try:
        with opened(f"http://{address}{path}") as answer:
            return answer.status, answer.read().decode("utf-8")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8")


def read(address, wanted=WANTED[0]):
    """The page: its text, and every value by its name and labels."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": wanted})
    with opened(request) as answer:
        text, kind = answer.read().decode("utf-8"), answer.headers["content-type"]
    values = {}
    for family in PARSERS[kind](text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in values, key
            values[key] = sample.value
    return text, values


def value(address, name, **labels):
    return read(address)[1].get((f"esa_sidecar_{name}", *sorted(labels.items())))
