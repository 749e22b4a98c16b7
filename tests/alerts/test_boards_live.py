"""Each query of each board gives data on a real Prometheus, after every surface of a node was used."""
import importlib.util
import json
import os
import pathlib
import re
import tempfile
import threading
import time
import unittest
import urllib.parse

import rules
import servers

# Queries that have nothing to show where all is well, by a piece of them.
EMPTY = {
    "redis_": "redis_exporter runs in the installation, not here",
    "codeq_jwks_last_success": "tokens of this node are static",
    'state="limit"': "no memory limit around this process",
    'code="429"': "no rate limit is set",
}


def the_drive():
    """scripts/verify.py as a module: it knows how to use every surface."""
    spec = importlib.util.spec_from_file_location("verify", rules.ROOT / "scripts" / "verify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BINARY = os.environ.get("CODEQ", rules.ROOT / "target" / "debug" / "codeq")
    return module


class Node:
    def __init__(self, node):
        self.address = node.origin.removeprefix("http://")


class Boards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        verify, folder = the_drive(), tempfile.TemporaryDirectory(prefix="codeq-boards-")
        cls.addClassCleanup(folder.cleanup)
        place = pathlib.Path(folder.name)
        (place / "node").mkdir()
        sink = servers.http.server.ThreadingHTTPServer(("127.0.0.1", 0), verify.Sink)
        sink.daemon_threads = True
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        cls.addClassCleanup(sink.server_close)
        cls.addClassCleanup(sink.shutdown)
        node = verify.Node(place / "node", sink.server_port)
        cls.addClassCleanup(node.log.close)
        cls.addClassCleanup(node.kill)
        prometheus, cls.prometheus = servers.prometheus(place, [Node(node)], "127.0.0.1:9")
        cls.addClassCleanup(prometheus.stop)
        # A first scrape before anything happens: what comes after it is a rate.
        cls.until_scraped(cls)
        verify.drive(node, sink.server_port)
        cls.until_scraped(cls)

    def until_scraped(self):
        """Two scrapes from now, and a round of the recording rules after them."""
        began = time.time()
        fresh = f'count_over_time(codeq_build_info[{{}}s]) and timestamp(codeq_build_info) > {began + 2}'

        def scraped():
            return self.asked(self, fresh.format(60)) and self.asked(self, "codeq:http_requests:error_ratio_rate5m or vector(1)")
        servers.until(scraped, "two scrapes")

    def asked(self, expr):
        answer = servers.get(f"http://{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expr})}")
        assert answer, f"refused: {expr}"
        return json.loads(answer)["data"]["result"]

    def test_each_query_of_each_board_gives_data(self):
        nothing = []
        for path in sorted((rules.ROOT / "dashboards").glob("*.json")):
            for panel in json.loads(path.read_text())["panels"]:
                for target in panel.get("targets", []):
                    expr = target["expr"].replace("$__rate_interval", "1m").replace("$command", ".*")
                    expr = re.sub(r"\$\{?\w+(:\w+)?\}?", ".*", expr)
                    if not self.asked(expr) and not any(piece in expr for piece in EMPTY):
                        nothing.append(f"{path.stem} / {panel['title']}: {expr}")
        self.assertEqual(nothing, [], "\n".join(nothing))


if __name__ == "__main__":
    unittest.main()
